"""The detector learns what is usual, says what is not, and says it once."""

from __future__ import annotations

import datetime as dt
import math
import random
from typing import Any

import numpy as np
import pytest

from otel_pipeline.quality import anomaly_scores
from otel_pipeline.quality.detector import Detector

START = 1_767_225_600.0  # a Thursday
HOUR, DAY = 3600.0, 86400.0


def times(length: int, step: float = DAY) -> list[float]:
    return [START + step * place for place in range(length)]


def counts(length: int, level: float = 1000, *, noise: float = 0.03, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [float(round(chance.gauss(level, noise * level))) for _ in range(length)]


def alarms(values: list[float], step: float = DAY) -> list[int]:
    scores = anomaly_scores(times(len(values), step), values)
    return [place for place, score in enumerate(scores) if score > 1]


def weekday(place: int) -> int:
    return int((START + place * DAY) // DAY + 3) % 7


@pytest.mark.parametrize(
    "form", ["datetime64[ns]", "datetime64[s]", "datetime64[D]", "dates", "naive"]
)
def test_times_of_any_form_are_the_same(form: str) -> None:
    """NumPy's times, dates and naive datetimes give the scores of seconds since 1970."""
    values = [*counts(60), 300.0]
    seconds = times(len(values))
    naive = [dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=None) for at in seconds]
    given = {"naive": naive, "dates": [at.date() for at in naive]}
    told: Any = given[form] if form in given else np.array(naive, form)
    scores = anomaly_scores(told, values)
    assert scores == anomaly_scores(seconds, values)
    assert scores[-1] > 1


def test_it_is_silent_while_it_learns() -> None:
    """The first twenty values of a series by day score 0, whatever they are."""
    assert anomaly_scores(times(20), [1.0] * 10 + [1e9, -5.0] + [3.0] * 8) == [0.0] * 20


def test_series_within_days_learn_for_two_days() -> None:
    """A series by hour is silent for two days."""
    scores = anomaly_scores(times(50, HOUR), [*counts(49), 0.0])
    assert scores[:49] == [0.0] * 49
    assert scores[49] > 1


@pytest.mark.parametrize(("factor", "place"), [(0.5, 70), (2.0, 80), (0.0, 90)])
def test_a_lost_or_doubled_load_is_found_at_once(factor, place) -> None:
    """Half of the rows, twice the rows, and no rows are found on their day, and no other day."""
    values = counts(100)
    values[place] *= factor
    assert alarms(values) == [place]


def test_weekends_are_no_anomaly() -> None:
    """A quarter of the rows on each weekend is usual; on a Wednesday it is found."""
    values = [
        value * (0.25 if weekday(place) in {5, 6} else 1) for place, value in enumerate(counts(120))
    ]
    assert alarms(values) == []
    wednesday = next(place for place in range(100, 110) if weekday(place) == 2)
    values[wednesday] *= 0.25
    assert alarms(values) == [wednesday]


def test_a_workday_load_on_a_weekend_is_found() -> None:
    """What is usual on workdays is an anomaly on a Sunday that is quiet otherwise."""
    values = [
        value * (0.25 if weekday(place) in {5, 6} else 1) for place, value in enumerate(counts(120))
    ]
    sunday = next(place for place in range(100, 110) if weekday(place) == 6)
    values[sunday] *= 4
    assert alarms(values) == [sunday]


def test_quiet_nights_are_no_anomaly() -> None:
    """No rows at night are usual; no rows for six hours of a day are found within an hour."""
    chance = random.Random(4)
    values = [
        0.0 if place % 24 < 6 else float(round(chance.gauss(400, 25))) for place in range(40 * 24)
    ]
    assert alarms(values, HOUR) == []
    values[35 * 24 + 10 : 35 * 24 + 16] = [0.0] * 6
    assert alarms(values, HOUR) == [35 * 24 + 10]


def test_a_new_level_is_learned() -> None:
    """Twice the rows from one day on are said once, and are usual a week later."""
    values = counts(60) + counts(60, 2000, seed=2)
    found = alarms(values)
    assert found == [60]
    values[110] = 1000.0
    assert 110 in alarms(values)


def test_growth_is_no_anomaly() -> None:
    """A series that doubles in a year, evenly, has hardly a finding in that year."""
    values = [float(round(v * (1 + place / 365))) for place, v in enumerate(counts(365))]
    assert len(alarms(values)) <= 3


def test_a_slow_drift_is_found() -> None:
    """A level that rises by two fifths within two weeks is found before it has."""
    values = counts(114)
    for place in range(100, 114):
        values[place] *= 1 + 0.4 * (place - 99) / 14
    found = alarms(values)
    assert found
    assert all(place >= 100 for place in found)


def test_an_anomaly_is_said_once_until_it_is_much_worse() -> None:
    """A fault of three days is one finding; the severity tells that it goes on."""
    values = counts(100)
    values[80:83] = [500.0] * 3
    detector = Detector()
    judged = [detector.score(at, v) for at, v in zip(times(100), values, strict=True)]
    assert [place for place, one in enumerate(judged) if one.score > 1] == [80]
    assert [place for place, one in enumerate(judged) if one.severity > 1] == [80, 81, 82]


def test_a_constant_series_tells_any_change_that_is_worth_saying() -> None:
    """Where all values were 24, 25 is not worth a finding, and 12 is."""
    values = [24.0] * 60
    values[40], values[50] = 25.0, 12.0
    assert alarms(values) == [50]


def test_a_source_that_stands_still_is_found() -> None:
    """Values that never repeat and then do are found after some repetitions."""
    values = [1000.5 + value / 7 for value in counts(80)]
    values[60:66] = [values[59]] * 6
    detector = Detector()
    judged = [detector.score(at, v) for at, v in zip(times(80), values, strict=True)]
    found = [(place, one.reason) for place, one in enumerate(judged) if one.score > 1]
    assert [reason for _, reason in found] == ["unchanged"]
    assert 60 <= found[0][0] <= 64


def test_an_age_may_grow_until_it_is_late() -> None:
    """Ages that are set back each night are usual; a night without a load is found by noon."""
    ages = [(place % 24) * HOUR + 600 for place in range(40 * 24)]
    assert alarms(ages, HOUR) == []
    for place in range(30 * 24, 31 * 24):
        ages[place] = (24 + place % 24) * HOUR + 600
    found = alarms(ages, HOUR)
    assert len(found) == 1
    assert 30 * 24 < found[0] <= 30 * 24 + 14


@pytest.mark.parametrize("flat", [False, True])
def test_halved_and_doubled_loads_are_found_alike_where_noise_is_a_seventh(flat) -> None:
    """Where noise grows with the level, half of a usual load is as odd as twice of it."""
    weekdays = [1.0] * 7 if flat else [1, 1, 1, 1, 1.05, 0.6, 0.5]
    found = {0.5: 0, 2.0: 0}
    usual = 0
    for seed in range(10):
        chance = random.Random(seed)
        values = [
            float(round(10_000 * weekdays[place % 7] * chance.lognormvariate(0, 0.15)))
            for place in range(200)
        ]
        usual += len(alarms(values))
        for factor in found:
            changed = 10_000 * weekdays[199 % 7] * factor
            found[factor] += 199 in alarms([*values[:199], float(round(changed))])
    assert usual <= 20  # of 2,000 days
    assert min(found.values()) >= 9


def test_a_share_of_one_percent_tells_its_half() -> None:
    """Half and twice of a share of one percent of 5,000 rows are found."""
    chance = random.Random(4)
    values = [round(chance.gauss(50, 7)) / 5000 for _ in range(120)]
    values[90], values[110] = 0.005, 0.02
    assert alarms(values) == [90, 110]


def test_ratios_near_zero_tell_bursts() -> None:
    """A fifth of nulls where there were hardly any is found; a tenth of a percent is not."""
    chance = random.Random(2)
    values = [chance.randint(0, 4) / 1000 for _ in range(100)]
    values[70], values[90] = 0.005, 0.2
    assert alarms(values) == [90]


def test_gaps_and_missing_values_teach_nothing() -> None:
    """None, NaN and days without a row are passed over; an infinite value is found."""
    rows = list(zip(times(100), counts(100), strict=True))
    rows = [row for place, row in enumerate(rows) if place % 11]
    moments = [at for at, _ in rows]
    values: list[float | None] = [value for _, value in rows]
    values[40], values[50], values[60] = None, math.nan, math.inf
    scores = anomaly_scores(moments, values)
    assert [place for place, score in enumerate(scores) if score > 1] == [60]
    assert scores[40] == scores[50] == 0.0


def test_only_the_asked_direction_counts() -> None:
    """Of a doubled and a lost load, each direction finds its own."""
    values = counts(100)
    values[70], values[80] = 2000.0, 300.0
    found = {}
    for direction in ("up", "down", "both"):
        detector = Detector(direction=direction)
        judged = [detector.score(at, v) for at, v in zip(times(100), values, strict=True)]
        found[direction] = [place for place, one in enumerate(judged) if one.score > 1]
    assert found == {"up": [70], "down": [80], "both": [70, 80]}


def test_sensitivity_and_the_smallest_change_move_the_limits() -> None:
    """A value of 80 % is found at double sensitivity only, and never if 500 rows do not matter."""
    values = counts(100, noise=0.05)
    values[70] = 820.0
    found = {}
    cases: dict[str, dict[str, Any]] = {
        "usual": {},
        "sharp": {"sensitivity": 2.0},
        "tolerant": {"sensitivity": 2.0, "min_change": 500},
    }
    for name, options in cases.items():
        detector = Detector(**options)
        judged = [detector.score(at, v) for at, v in zip(times(100), values, strict=True)]
        found[name] = judged[70].severity > 1
    assert found == {"usual": False, "sharp": True, "tolerant": False}


def test_a_day_of_the_month_is_learned_after_two_months() -> None:
    """Three times the rows on each first are found twice, then usual; five times are not."""
    values = counts(300)
    firsts = [31, 59, 90, 120, 151, 181, 212, 243, 273]
    for first in firsts:
        values[first] *= 3
    assert alarms(values) == firsts[:2]
    values[firsts[-1]] *= 5 / 3
    assert alarms(values) == [*firsts[:2], firsts[-1]]
