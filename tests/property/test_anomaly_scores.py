"""Whatever a series holds, its anomaly scores are finite, causal and the same every time."""

from __future__ import annotations

import datetime as dt
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_pipeline.quality import anomaly_scores
from tests.faults.series import synthetic

START = 1_767_225_600.0
STEPS = st.sampled_from([300.0, 3600.0, 86400.0])
VALUES = st.lists(
    st.one_of(
        st.floats(),
        st.none(),
        st.integers(0, 20).map(float),
        st.floats(0, 1),
    ),
    max_size=150,
)


def times(length: int, step: float) -> list[float]:
    return [START + step * place for place in range(length)]


@given(VALUES, STEPS)
@settings(max_examples=60, deadline=None)
def test_scores_are_finite_and_one_for_each_row(values, step) -> None:
    """A row gets one finite score that is not negative, whatever the values are."""
    scores = anomaly_scores(times(len(values), step), values)
    assert len(scores) == len(values)
    assert all(math.isfinite(score) and score >= 0 for score in scores)


@given(st.lists(st.tuples(st.floats(0, 2e9), st.floats(-1e9, 1e9)), max_size=120))
@settings(max_examples=40, deadline=None)
def test_times_may_come_in_any_order_and_twice(rows) -> None:
    """Times that stand still, jump or go back give finite scores too."""
    scores = anomaly_scores([at for at, _ in rows], [value for _, value in rows])
    assert len(scores) == len(rows)
    assert all(math.isfinite(score) for score in scores)


@given(VALUES, VALUES, STEPS)
@settings(max_examples=40, deadline=None)
def test_later_rows_change_no_earlier_score(values, more, step) -> None:
    """The scores of a series begin with those of its beginning."""
    every = [*values, *more]
    scores = anomaly_scores(times(len(every), step), every)
    assert scores[: len(values)] == anomaly_scores(times(len(values), step), values)


@pytest.mark.parametrize("series", synthetic(11), ids=lambda series: series.name)
def test_scores_of_real_shapes_are_causal(series) -> None:
    """For each family of series, the first half alone has the scores it has in the whole."""
    length = min(len(series.values), 1200)
    whole = anomaly_scores(series.times[:length], series.values[:length])
    half = length // 2
    assert anomaly_scores(series.times[:half], series.values[:half]) == whole[:half]


@given(st.integers(-8, 8))
@settings(max_examples=8, deadline=None)
def test_the_unit_of_measured_values_does_not_matter(power) -> None:
    """Values that are neither counts nor ratios score the same in another unit."""
    chance = random.Random(5)
    values = [chance.gauss(100, 3) + 300 for _ in range(120)]
    values[100] = 900.5
    scores = anomaly_scores(times(120, 86400.0), values)
    scaled = anomaly_scores(times(120, 86400.0), [value * 2.0**power for value in values])
    assert scores[100] > 1
    assert scaled == scores


def test_times_may_be_datetimes_or_seconds() -> None:
    """Naive datetimes, those with a zone, and seconds mean the same moments."""
    chance = random.Random(3)
    values = [float(chance.randint(90, 110)) for _ in range(60)] + [20.0]
    seconds = times(61, 86400.0)
    aware = [dt.datetime.fromtimestamp(at, dt.timezone(dt.timedelta(hours=2))) for at in seconds]
    naive = [moment.astimezone(dt.UTC).replace(tzinfo=None) for moment in aware]
    scores = anomaly_scores(seconds, values)
    assert scores[-1] > 1
    assert anomaly_scores(aware, values) == scores
    assert anomaly_scores(naive, values) == scores


def test_times_and_values_must_be_as_many() -> None:
    """A time without a value is an error."""
    with pytest.raises(ValueError, match="shorter"):
        anomaly_scores([1.0, 2.0], [1.0])
