"""What the demo does, `otel_pipeline/cli/_flights.py`, without telemetry: to see what that adds.

It loads the flights that left New York City in 2013 into SQLite, with the weather of their hour.
One thread reads, checks, enriches and aggregates; the other loads; a queue is between them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import queue
import sqlite3
import threading
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["etl"]

MISSING = "NA"
MIDNIGHT = 2400  # times are written as 517 or 1830, and midnight so
LAST_MINUTE = 59
FASTEST = 650  # miles an hour over the ground; no airliner of 2013 kept that up
FOG = 3  # miles that one can see

CREATE_TABLES = """
    DROP TABLE IF EXISTS flights;
    CREATE TABLE flights (
        scheduled TEXT, hour TEXT, tail_number TEXT, carrier TEXT, number TEXT,
        origin TEXT, destination TEXT, miles INTEGER, delay_minutes INTEGER, weather TEXT,
        UNIQUE (scheduled, tail_number)
    );
    DROP TABLE IF EXISTS delays;
    CREATE TABLE delays (weather TEXT PRIMARY KEY, flights INTEGER, mean_minutes REAL);
"""
INSERT_FLIGHT = "INSERT INTO flights VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Flight(NamedTuple):
    """A flight that took off."""

    scheduled: str  # local time of departure: 2013-01-01T05:15
    hour: str  # the same in UTC, cut to the hour, as the weather has it
    tail_number: str
    carrier: str
    number: str
    origin: str
    destination: str
    miles: int
    delay: int | None  # minutes at the destination; None if the flight was diverted
    weather: str = "unknown"


class Delays:
    """Flights, and minutes that they were late, by the weather at departure."""

    def __init__(self) -> None:
        self.flights: Counter[str] = Counter()
        self.minutes: Counter[str] = Counter()

    def add(self, weather: str, minutes: int) -> None:
        """Add one flight."""
        self.flights[weather] += 1
        self.minutes[weather] += minutes

    def means(self) -> Iterator[tuple[str, int, float]]:
        """Yield each kind of weather with its flights and their mean delay in minutes."""
        for weather, flights in sorted(self.flights.items()):
            yield weather, flights, self.minutes[weather] / flights


def extract(archive: Path, limit: int | None) -> Iterator[dict[str, str]]:
    """Read flights from the zip, row by row."""
    with zipfile.ZipFile(archive) as files, files.open("flights.csv") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        yield from islice(rows, limit)


def read_weather(path: Path) -> dict[tuple[str, str], str]:
    """Return the weather at each airport in each hour."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["origin"], row["time_hour"]): kind_of(row) for row in csv.DictReader(file)}


def kind_of(weather: Mapping[str, str]) -> str:
    """Name the weather in a word."""
    if float(weather["precip"]) > 0:
        return "wet"
    return "fog" if float(weather["visib"]) < FOG else "dry"


def validate(rows: list[dict[str, str]]) -> list[Flight]:
    """Keep the flights that took off, as far as their times can be true."""
    flights = []
    for row in rows:
        if row["dep_time"] != MISSING and has_possible_times(row):
            flights.append(flight_of(row))
    return flights


def has_possible_times(row: Mapping[str, str]) -> bool:
    """Tell whether the clock knows the times, and an aircraft could fly that fast."""
    for time in (row["dep_time"], row["arr_time"]):
        if time != MISSING and (int(time) > MIDNIGHT or int(time) % 100 > LAST_MINUTE):
            return False
    minutes = row["air_time"]
    return minutes == MISSING or int(row["distance"]) <= FASTEST * int(minutes) / 60


def flight_of(row: Mapping[str, str]) -> Flight:
    """Return what we want to know of a row."""
    day = f"{row['year']}-{row['month']:0>2}-{row['day']:0>2}"
    return Flight(
        scheduled=f"{day}T{row['hour']:0>2}:{row['minute']:0>2}",
        hour=row["time_hour"],
        tail_number=row["tailnum"],
        carrier=row["carrier"],
        number=row["flight"],
        origin=row["origin"],
        destination=row["dest"],
        miles=int(row["distance"]),
        delay=None if row["arr_delay"] == MISSING else int(row["arr_delay"]),
    )


def enrich(flights: list[Flight], weather: Mapping[tuple[str, str], str]) -> list[Flight]:
    """Add the weather at departure, where it is known."""
    return [
        flight._replace(weather=weather.get((flight.origin, flight.hour), "unknown"))
        for flight in flights
    ]


def aggregate(flights: list[Flight], delays: Delays) -> None:
    """Add the flights that arrived to the totals."""
    for flight in flights:
        if flight.delay is not None:
            delays.add(flight.weather, flight.delay)


def load(batches: Iterator[list[Flight]], database: sqlite3.Connection) -> None:
    """Insert flights, a transaction for each batch."""
    for batch in batches:
        with database:
            for flight in batch:
                if flight.delay is None:
                    continue
                try:  # as the demo; to suppress would be dearer
                    database.execute(INSERT_FLIGHT, flight)
                except sqlite3.IntegrityError:  # an aircraft cannot be at two places
                    continue


def publish(delays: Delays, database: sqlite3.Connection) -> None:
    """Write the totals into the database."""
    means = list(delays.means())
    with database:
        database.executemany("INSERT INTO delays VALUES (?, ?, ?)", means)


class Feed:
    """Hands batches from the thread that prepares them to the one that loads them."""

    def __init__(self, size: int) -> None:
        self._queue: queue.Queue[list[Flight] | None] = queue.Queue(size)
        self._stopped = threading.Event()

    def put(self, batch: list[Flight] | None) -> bool:
        """Wait for room; return False if nobody takes batches any more. None is the end."""
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(batch, timeout=0.1)
                return True
        return False

    def batches(self) -> Iterator[list[Flight]]:
        """Yield batches until the end."""
        return iter(self._queue.get, None)

    def stop(self) -> None:
        """Let `put` return at once: no more batches are taken."""
        self._stopped.set()


def etl(
    archive: Path,
    weather: Path,
    database: sqlite3.Connection,
    *,
    limit: int | None = None,
    batch_size: int = 1000,
) -> None:
    """Run the pipeline.

    Args:
        archive: The zip that holds `flights.csv`.
        weather: The file `weather.csv`.
        database: Where the tables `flights` and `delays` are made.
        limit: Flights to read at most.
        batch_size: Flights that are handled together.
    """
    delays = Delays()
    feed = Feed(size=4)
    database.executescript(CREATE_TABLES)

    def prepare() -> None:
        try:
            conditions = read_weather(weather)
            rows = extract(archive, limit)
            while chunk := list(islice(rows, batch_size)):
                flights = enrich(validate(chunk), conditions)
                aggregate(flights, delays)
                if not feed.put(flights):
                    return
        finally:
            feed.put(None)

    with ThreadPoolExecutor(max_workers=1) as pool:
        preparing = pool.submit(prepare)
        try:
            load(feed.batches(), database)
        finally:
            feed.stop()
        preparing.result()  # raises what went wrong in there
        publish(delays, database)
