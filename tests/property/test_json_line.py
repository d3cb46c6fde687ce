"""The one processor that makes JSON lines, against the chain that it stands for."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk.resources import Resource

from otel_pipeline import Pipeline, clock
from otel_pipeline.logs.chain import make_chain
from otel_pipeline.logs.datadog import add_datadog
from otel_pipeline.logs.json_line import JsonLine
from otel_pipeline.logs.output import LineLogger
from otel_pipeline.logs.rendering import render_json
from otel_pipeline.redaction import OFF, Redactor
from otel_pipeline.sdk.log_records import LineProvider, log_encoder
from otel_pipeline.sdk.providers import switch_loggers

NAMES = st.one_of(
    st.sampled_from(
        "rows password level timestamp service pipeline stage run_id logger trace_id "
        "dd.trace_id dd.service".split()
    ),
    st.text(max_size=8),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(max_size=4),
        st.sampled_from(["Bearer abcdefghijklmnopqrstuvwx", "4111 1111 1111 1111", "\ud800", "é"]),
        st.dates(),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["info", "warn", "exception", "level 25"]),
            st.sampled_from([None, "etl.load", "lögger", "token=abcdefghijklmnopqrst"]),
            VALUES,
            st.dictionaries(NAMES, VALUES, max_size=4),
            st.sampled_from(["", "run", "stage", "span"]),
        ),
        max_size=4,
    ),
    redact=st.booleans(),
    datadog=st.booleans(),
)
@example(lines=[("info", None, "", {}, "")], redact=True, datadog=False)
@example(
    lines=[("error", "a", "e", {"exc_info": ValueError("x")}, "stage")], redact=True, datadog=False
)
@example(
    lines=[("info", None, "", {}, ""), ("info", None, "", {"rows": 3}, "span")],
    redact=True,
    datadog=True,
)
@example(lines=[("info", None, "", {"dd.span_id": "mine"}, "span")], redact=False, datadog=True)
def test_the_line_is_that_of_the_chain(lines: list[Any], *, redact: bool, datadog: bool) -> None:
    """Whatever is logged wherever, in one go or processor by processor, gives the same line.

    So does what is sent: as a record of OpenTelemetry's logger, or as a line queued past it.
    """
    redactor = Redactor() if redact else OFF
    parts: Any = {
        "service": "orders",
        "environment": "test",
        "redactor": redactor,
        "datadog": add_datadog("orders", "test", "1.2") if datadog else None,
    }
    chain = make_chain(**parts, renderer=render_json, export=True)
    provider = LineProvider(Resource({}), LogRecordLimits())
    queue: list[Any] = []
    provider.add_queue(queue.append)
    line = JsonLine(chain, **parts, sink=provider)
    encode = log_encoder(redactor, provider)
    pipeline = Pipeline("json-line")
    context = trace.SpanContext(
        0xABC << 64 | 0xFED, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)
    )
    places: Any = {
        "run": lambda: pipeline.run("r-1", flush=False),
        "stage": lambda: pipeline.stage("clean"),
        "span": lambda: trace.use_span(trace.NonRecordingSpan(context)),
    }

    def sent() -> Any:
        request = ExportLogsServiceRequest.FromString(encode(queue))
        queue.clear()
        for record in request.resource_logs[0].scope_logs[0].log_records:
            record.observed_time_unix_nano = 0
            record.attributes.sort(key=lambda attribute: attribute.key)
        return request

    def both(logger: LineLogger, method: str, fields: dict[str, Any]) -> None:
        expected: Any = dict(fields)
        for processor in chain.all():
            expected = processor(logger, method, expected)
        expected_record = sent()
        assert line(logger, method, dict(fields)) == expected
        assert sent() == expected_record

    with contextlib.ExitStack() as undo:
        undo.callback(clock.install(clock.Clock(time_ns=lambda: 1_764_000_000_123_456_789)))
        undo.callback(switch_loggers(provider))
        for method, name, event, more, where in lines:
            logger = LineLogger(io.StringIO(), name)
            fields = {"event": event, **more}
            with places[where]() if where else contextlib.nullcontext():
                both(logger, method, fields)
