"""From ended spans and emitted log records to the queues that export them, without secrets."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.trace import Status

from otel_pipeline.sdk.span_bytes import encode_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import ReadWriteLogRecord
    from opentelemetry.sdk.trace import Span

    from otel_pipeline.redaction import Redactor

__all__ = [
    "RecordProcessor",
    "SpanCollector",
    "redact_record",
    "redact_span",
    "span_encoder",
]


class SpanCollector(SpanProcessor):
    """Gives every sampled span, when it ends, to `add`."""

    def __init__(self, add: Callable[[ReadableSpan], None]) -> None:
        self._add = add

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Pass the span on, if its trace is sampled."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._add(span)

    def shutdown(self) -> None:
        """Do nothing: the queue behind `add` is its owner's to end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Do nothing: the queue behind `add` is its owner's to flush."""
        return True


class RecordProcessor(LogRecordProcessor):
    """Gives every log record to `add`."""

    def __init__(self, add: Callable[[ReadableLogRecord], None]) -> None:
        self._add = add

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Pass the record on."""
        self._add(
            ReadableLogRecord(
                log_record=log_record.log_record,
                resource=log_record.resource,  # type: ignore[arg-type]  # set by every logger
                instrumentation_scope=log_record.instrumentation_scope,
                limits=log_record.limits,
            )
        )

    def shutdown(self) -> None:
        """Do nothing: the queue behind `add` is its owner's to end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """Do nothing: the queue behind `add` is its owner's to flush."""
        return True


def redact_span(span: ReadableSpan, redactor: Redactor) -> ReadableSpan:
    """Return `span` without secrets in its name, attributes, events, links and status."""
    attributes = _redact_attributes(span.attributes, redactor)
    events = [
        Event(
            redactor.text(event.name),
            _redact_attributes(event.attributes, redactor),
            event.timestamp,
        )
        for event in span.events
    ]
    status = span.status
    if status.description:
        status = Status(status.status_code, redactor.text(status.description))
    return ReadableSpan(
        name=redactor.text(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=events,
        links=[
            type(link)(link.context, _redact_attributes(link.attributes, redactor))
            for link in span.links
        ],
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _redact_attributes(attributes: Mapping[str, Any] | None, redactor: Redactor) -> Any:
    return redactor.mapping(attributes) if attributes else attributes


def redact_record(record: ReadableLogRecord, redactor: Redactor) -> ReadableLogRecord:
    """Return a log record without secrets in its body and attributes."""
    inner = record.log_record
    body: Any = redactor.value("", inner.body)
    attributes = _redact_attributes(inner.attributes, redactor)
    if body is inner.body and attributes is inner.attributes:
        return record
    clean = copy.copy(inner)
    clean.body = body
    clean.attributes = attributes
    return dataclasses.replace(record, log_record=clean)


def span_encoder(redactor: Redactor) -> Callable[[Sequence[ReadableSpan]], bytes]:
    """Return what turns spans into the bytes of an OTLP request."""

    def encode(spans: Sequence[ReadableSpan]) -> bytes:
        return encode_request(spans, redactor, redact_span)

    return encode
