"""The ids of a line for Datadog are those of its trace, whatever these are."""

from __future__ import annotations

import io
import json

from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace

from otel_pipeline import redaction
from otel_pipeline.logs import get_logger, set_up


@given(trace_id=st.integers(1, 2**128 - 1), span_id=st.integers(1, 2**64 - 1))
@example(trace_id=2**128 - 1, span_id=2**64 - 1)
@example(trace_id=2**64, span_id=1)
@example(trace_id=2**63, span_id=2**63)
def test_decimal_ids_are_the_low_64_bits_of_the_hexadecimal_ones(
    trace_id: int, span_id: int
) -> None:
    """`dd.trace_id` is `int(trace_id[16:], 16)`, `dd.span_id` is `int(span_id, 16)`."""
    stream = io.StringIO()
    undo = set_up(
        service="orders", redactor=redaction.OFF, export=False, stream=stream, datadog=True
    )
    try:
        context = trace.SpanContext(trace_id, span_id, is_remote=False)
        with trace.use_span(trace.NonRecordingSpan(context)):
            get_logger().info("loaded")
    finally:
        undo()
    line = json.loads(stream.getvalue())
    assert line["dd.trace_id"] == str(int(line["trace_id"][16:], 16))
    assert line["dd.span_id"] == str(int(line["span_id"], 16))
