"""Faults of a dataset, by kind and size. The sizes were fixed before the detector was tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tests.faults.series import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.series import Series

Size = str
SIZES: Final = ("small", "medium", "large")

#: Share of the rows that is lost.
DROP: Final = {"small": 0.2, "medium": 0.5, "large": 0.9}
#: Times that rows are loaded.
DUPLICATE: Final = {"small": 1.3, "medium": 2.0, "large": 3.0}
#: Share of the rows whose value becomes null.
NULL_BURST: Final = {"small": 0.05, "medium": 0.2, "large": 0.6}
#: Days over which a value that is not an age stays as it was, in series by day.
FROZEN_DAYS: Final = {"small": 3, "medium": 5, "large": 10}
#: Hours of the same, in series by hour or less.
FROZEN_HOURS: Final = {"small": 4, "medium": 8, "large": 24}
#: Days for which an age is not set back.
STALE_DAYS: Final = {"small": 0.5, "medium": 1.5, "large": 3.0}
#: Change of the level at the end of fourteen days in which it drifts.
DRIFT: Final = {"small": 0.15, "medium": 0.4, "large": 1.0}
DRIFT_DAYS: Final = 14.0
#: Change of a value in standard deviations of the 60 days before it: a jump, or over 14 days.
JUMP: Final = {"small": 2.0, "medium": 6.0, "large": 12.0}


class Fault(NamedTuple):
    """A fault: the values that take the place of some, and how many may pass until it is found."""

    kind: str
    size: Size
    values: list[float]


def _days(series: Series, days: float) -> int:
    return max(1, round(days * DAY / series.step))


def _spread(series: Series, place: int) -> float:
    past = [v for v in series.values[max(0, place - _days(series, 60)) : place] if v == v]  # noqa: PLR0124 - no NaN
    mean = sum(past) / len(past)
    return float((sum((v - mean) ** 2 for v in past) / len(past)) ** 0.5)


def _short(series: Series) -> int:
    """How many points a fault of one load has: a day, or twelve hours of hourly points."""
    return 1 if series.step >= DAY else round(12 * HOUR / series.step)


def drop(series: Series, place: int, size: Size) -> list[float]:
    part = series.values[place : place + _short(series)]
    return [_whole(series, v * (1 - DROP[size])) for v in part]


def duplicate(series: Series, place: int, size: Size) -> list[float]:
    return [v * DUPLICATE[size] for v in series.values[place : place + _short(series)]]


def null_burst(series: Series, place: int, size: Size) -> list[float]:
    part = series.values[place : place + _short(series)]
    return [v + (1 - v) * NULL_BURST[size] for v in part]


def frozen(series: Series, place: int, size: Size) -> list[float]:
    length = FROZEN_DAYS[size] if series.step >= DAY else _days(series, FROZEN_HOURS[size] / 24)
    while place > 0 and series.values[place - 1] == 0:  # a quiet night stands still by itself
        place -= 1
    return [series.values[place - 1]] * length


def stale(series: Series, place: int, size: Size) -> list[float]:
    """The load that comes next is late by some days."""
    values, at = [], place
    late = _days(series, STALE_DAYS[size])
    while at < len(series.values) and series.values[at] >= series.values[at - 1]:
        values.append(series.values[at])
        at += 1
    return (
        values + [values[-1] + (n + 1) * series.step for n in range(late)]
        if values
        else [series.values[place - 1] + (n + 1) * series.step for n in range(late)]
    )


def drift(series: Series, place: int, size: Size) -> list[float]:
    length = _days(series, DRIFT_DAYS)
    part = series.values[place : place + length + length // 4]
    if series.kind == "value":
        spread = _spread(series, place) * JUMP[size]
        return [v + spread * min(1, n / length) for n, v in enumerate(part)]
    return [_whole(series, v * (1 + DRIFT[size] * min(1, n / length))) for n, v in enumerate(part)]


def jump(series: Series, place: int, size: Size) -> list[float]:
    change = _spread(series, place) * JUMP[size]
    return [v + change for v in series.values[place : place + _short(series)]]


def _whole(series: Series, value: float) -> float:
    whole = all(v == int(v) for v in series.values[:50] if v == v)  # noqa: PLR0124 - no NaN
    return float(round(value)) if whole else value


FAULTS: Final[dict[str, dict[str, Callable[[Series, int, Size], list[float]]]]] = {
    "count": {"drop": drop, "duplicate": duplicate, "frozen": frozen, "drift": drift},
    "ratio": {"null burst": null_burst},
    "value": {"jump": jump, "drift": drift},
    "age": {"stale": stale},
}
