"""The duration of a generator stage: exact where steps are slow, a sample where they are short."""

from __future__ import annotations

import pytest

from otel_pipeline import Pipeline, clock
from otel_pipeline.testing import capture


class _Hand:
    """A clock whose hand the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def read(self) -> float:
        return self.seconds


def told(records: int, inside: dict[int, float], outside: dict[int, float], usual: float) -> float:
    """Return the duration that a stage tells whose steps and consumer take so many seconds."""
    hand = _Hand()
    pipeline = Pipeline("step-times")

    @pipeline.stage
    def rows():
        for number in range(records):
            hand.seconds += inside.get(number, usual)
            yield number

    undo = clock.install(clock.Clock(perf_counter=hand.read))
    try:
        with capture() as captured:
            for number in rows():
                hand.seconds += outside.get(number, usual)
    finally:
        undo()
    found = captured.metric(
        "pipeline_stage_duration_seconds_sum",
        pipeline="step-times",
        stage="rows",
        status="success",
    )
    assert found is not None
    return found


def test_slow_steps_are_all_timed() -> None:
    """Where a step takes longer than the look at the clock, the duration is exact."""
    slow = dict.fromkeys(range(0, 400, 2), 0.25)
    assert told(400, slow, {7: 3.0}, 1e-4) == pytest.approx(50 + 200e-4)


def test_few_steps_are_all_timed() -> None:
    """The first steps are timed however short they are."""
    assert told(40, {}, {3: 5.0}, 1e-7) == pytest.approx(40e-7)


def test_short_steps_are_estimated() -> None:
    """Many short steps are timed now and then; the rest is taken to be alike."""
    assert told(50_000, {}, {}, 1e-7) == pytest.approx(50_000 * 1e-7, rel=0.01)


@pytest.mark.parametrize("offset", [0, 1, 500])
def test_a_slow_step_now_and_then_is_found(offset: int) -> None:
    """A generator that fetches a page of records with every thousandth step took that time."""
    pages = dict.fromkeys(range(offset, 20000, 1000), 0.02)
    assert told(20_000, pages, {}, 1e-7) == pytest.approx(0.4, rel=0.1)


def test_a_slow_consumer_is_not_the_generators() -> None:
    """What the consumer does with every thousandth record is not time inside the steps."""
    writes = dict.fromkeys(range(999, 20000, 1000), 0.02)
    assert told(20_000, {}, writes, 1e-7) < 0.04


def test_a_clock_that_stands_still_gives_no_time() -> None:
    """Without any time between two looks at the clock nothing fails."""
    assert told(5_000, {}, {}, 0.0) == 0
