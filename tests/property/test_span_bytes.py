"""The bytes of spans mean what OpenTelemetry's own encoder makes of them, whatever a span holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from otel_pipeline.redaction import OFF, Redactor
from otel_pipeline.sdk.spans import redact_span, span_encoder

# A lone surrogate cannot be encoded; what is done about it has a test of its own below.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
ATOMS = TEXTS | st.integers() | st.booleans() | st.floats(allow_nan=False)
VALUES = ATOMS | st.binary() | st.lists(TEXTS) | st.lists(st.integers(-5, 5)) | st.none()
ATTRIBUTES = st.dictionaries(TEXTS.filter(bool), ATOMS, max_size=5) | st.dictionaries(
    TEXTS.filter(bool), VALUES, max_size=3
)
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    trace_state=st.just(TraceState()) | st.just(TraceState([("vendor", "x"), ("other", "y")])),
)
TIMES = st.none() | st.integers(0, 2**64 - 1)
RESOURCES = [
    Resource({"service.name": "orders", "tags": ["a", "b"]}),
    Resource({}, "https://example.com/schema"),
]
SCOPES = [
    None,
    InstrumentationScope("otel_pipeline", "1"),
    InstrumentationScope("x", "", "https://example.com/s", {"k": 1}),
]
SPANS = st.builds(
    ReadableSpan,
    TEXTS,
    CONTEXTS,
    st.none() | CONTEXTS,
    st.sampled_from(RESOURCES),
    ATTRIBUTES,
    st.just(()) | st.lists(st.builds(Event, TEXTS, ATTRIBUTES, st.integers(0, 2**63)), max_size=2),
    st.just(()) | st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2),
    st.sampled_from(list(SpanKind)),
    status=st.builds(Status, st.sampled_from(list(StatusCode)))
    | st.builds(Status, st.just(StatusCode.ERROR), TEXTS),
    start_time=TIMES,
    end_time=TIMES,
    instrumentation_scope=st.sampled_from(SCOPES),
)


def decoded(spans: list[ReadableSpan], redactor: Redactor) -> ExportTraceServiceRequest:
    """Return the request that is made of spans, read back."""
    return ExportTraceServiceRequest.FromString(span_encoder(redactor)(spans))


@given(st.lists(SPANS, max_size=6))
def test_a_request_is_what_opentelemetry_would_send(spans: list[ReadableSpan]) -> None:
    """Any spans, of several resources and tracers, come out the same, in the same order."""
    assert decoded(spans, OFF) == encode_spans(spans)


@given(st.lists(SPANS, max_size=3), st.text(min_size=8, max_size=30))
def test_secrets_are_masked_as_in_a_copy_without_them(spans: list[ReadableSpan], word: str) -> None:
    """Plain spans are redacted on their way, and no different from any others."""
    word = word.encode("utf-8", "ignore").decode()
    secrets: dict[str, Any] = {
        "db_password": word,
        "url": f"postgres://etl:hunter2{word}@db/orders",
    }
    spans = [
        *spans,
        ReadableSpan("password=hunter2", SpanContext(1, 2, is_remote=False), attributes=secrets),
    ]
    redactor = Redactor()
    assert decoded(spans, redactor) == encode_spans([redact_span(span, redactor) for span in spans])


def test_counts_of_what_was_dropped_are_sent() -> None:
    """A span that went over its limits says so, with redaction on."""
    ended: list[Any] = []
    provider = TracerProvider(
        span_limits=SpanLimits(max_attributes=1, max_events=1), shutdown_on_exit=False
    )
    with provider.get_tracer("t").start_as_current_span("s", attributes={"a": 1, "b": 2}) as span:
        span.add_event("first")
        span.add_event("second")
    ended.append(span)
    request = decoded(ended, Redactor())
    assert request == encode_spans(ended)
    assert request.resource_spans[0].scope_spans[0].spans[0].dropped_events_count == 1


def test_an_attribute_that_cannot_be_encoded_costs_only_itself() -> None:
    """The others arrive, as they do with OpenTelemetry's encoder."""
    span = ReadableSpan(
        "s", SpanContext(1, 2, is_remote=False), attributes={"bad": "\ud800", "good": 2**70, "k": 1}
    )
    [sent] = decoded([span], OFF).resource_spans[0].scope_spans[0].spans
    assert {pair.key for pair in sent.attributes} == {"k"}
