"""The owned logger provider, and log lines that are queued past its loggers.

A logger of the SDK copies and checks each record while the program waits. A line of the library is
plain and masked when it comes here, so the thread that exports can do all that is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from otel_pipeline.logs.json_line import Line
from otel_pipeline.logs.otlp import attributes, severity
from otel_pipeline.sdk.spans import RecordProcessor, redact_record
from otel_pipeline.semconv import LogField

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk._logs import LogRecordLimits, LogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    from otel_pipeline.redaction import Redactor

__all__ = ["LineProvider", "log_encoder"]


class LineProvider(LoggerProvider):
    """A logger provider with queues of ours, which also take finished lines.

    Args:
        resource: What the records are of.
        limits: How many attributes a record may have, and how long.

    Attributes:
        takes_lines: Whether lines may go past its loggers. Not when somebody has added a processor
            to it, which is to see them too.
    """

    def __init__(self, resource: Resource, limits: LogRecordLimits) -> None:
        super().__init__(resource=resource, shutdown_on_exit=False, log_record_limits=limits)
        self._limits = limits
        self._adds: tuple[Callable[[Any], None], ...] = ()
        self.takes_lines = True

    def add_queue(self, add: Callable[[Any], None]) -> None:
        """Give every record and line to `add`, which neither waits nor raises."""
        super().add_log_record_processor(RecordProcessor(add))
        self._adds += (add,)

    def add_log_record_processor(self, log_record_processor: LogRecordProcessor) -> None:
        """Add a processor of somebody else's."""
        self.takes_lines = False
        super().add_log_record_processor(log_record_processor)

    def send(self, line: Line) -> None:
        """Give a line to every queue."""
        for add in self._adds:
            add(line)

    def record(self, line: Line) -> ReadableLogRecord:
        """Return the record that a logger of the provider would have made of a line."""
        number, text = severity(line.head.level)
        level = {LogField.LEVEL: line.head.level}
        time = line.time // 1000 * 1000  # as it is printed
        inner = LogRecord(
            timestamp=time,
            observed_timestamp=time,
            context=set_span_in_context(NonRecordingSpan(line.span), Context()),
            severity_number=number,
            severity_text=text,
            body=line.event,
        )
        limits = self._limits
        inner.attributes = BoundedAttributes(
            maxlen=limits.max_log_record_attributes,
            attributes=attributes({**line.fields, **line.head.fields, **line.place, **level}),
            immutable=False,
            max_value_len=limits.max_log_record_attribute_length,
        )
        logger: Any = self.get_logger(line.head.scope)
        return ReadableLogRecord(
            log_record=inner,
            resource=self.resource,
            instrumentation_scope=logger.instrumentation_scope,
            limits=limits,
        )


def log_encoder(
    redactor: Redactor, provider: LineProvider
) -> Callable[[Sequence[ReadableLogRecord | Line]], bytes]:
    """Return what turns log records, and lines, into the bytes of an OTLP request.

    Args:
        redactor: What masks secrets in records; lines have been masked for printing.
        provider: Knows what a record says besides its line.
    """

    def clean(item: ReadableLogRecord | Line) -> ReadableLogRecord:
        return provider.record(item) if isinstance(item, Line) else redact_record(item, redactor)

    def encode(items: Sequence[ReadableLogRecord | Line]) -> bytes:
        return encode_logs([clean(item) for item in items]).SerializeToString()

    return encode
