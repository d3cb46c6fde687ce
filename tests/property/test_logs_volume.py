"""Lines that are kept back: whatever the limits, none is lost in silence."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_pipeline import clock
from otel_pipeline.logs import Volume
from otel_pipeline.redaction import OFF
from otel_pipeline.testing import ManualClock


@given(
    lines=st.lists(
        st.tuples(
            st.one_of(st.sampled_from(["a", "b", "c"]), st.text(), st.integers()),
            st.booleans(),
            st.floats(0, 5),
        ),
        max_size=60,
    ),
    rate=st.none() | st.floats(0.01, 10),
    sample=st.floats(0, 1),
)
def test_printed_and_suppressed_are_all(lines: Any, rate: float | None, sample: float) -> None:
    """Kept lines and the numbers told, at the end too, add up to the calls; errors are all kept."""
    manual = ManualClock()
    undo = clock.install(clock.Clock(manual.time_ns, manual.perf_counter))
    try:
        volume = Volume(rate=rate, sample=sample, follow_trace=False, redactor=OFF)
        answers = []
        for event, error, seconds in lines:
            answer = volume.ask(event, error=error)
            assert not (error and answer is None)
            answers.append(answer)
            manual.advance(seconds)
    finally:
        undo()
    told = [answer for answer in answers if answer is not None]
    rest = sum(number for _, number in volume.close())
    assert len(told) + sum(told) + rest == len(lines)
