"""What Datadog finds the trace, the service, the environment and the version of a log line by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.context import get_current

from otel_pipeline.context import current_span_context
from otel_pipeline.logs.values import plain
from otel_pipeline.semconv import DatadogField

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["DATADOG_FIELDS", "add_datadog"]

DATADOG_FIELDS: Final = frozenset(
    {
        DatadogField.SERVICE,
        DatadogField.ENV,
        DatadogField.VERSION,
        DatadogField.TRACE_ID,
        DatadogField.SPAN_ID,
    }
)
_LOW_64_BITS: Final = 2**64 - 1


def add_datadog(
    service: str, environment: str | None = None, version: str | None = None
) -> Processor:
    """Make a processor that adds `dd.service`, `dd.env`, `dd.version`, `dd.trace_id`, `dd.span_id`.

    The ids are those of the current span as Datadog writes them: the low 64 bits, decimal. Outside
    a valid span they are left out. A caller's own field of such a name becomes `fields.dd.service`
    and so on.

    Args:
        service: Name of the service.
        environment: Such as `production`, or None to leave it out.
        version: Version of the service, or None to leave it out.

    Returns:
        A processor; it comes after those that mask.

    Example:
        >>> from opentelemetry import trace
        >>> context = trace.SpanContext(2**64 + 0xABC, 0xDEF, False)
        >>> with trace.use_span(trace.NonRecordingSpan(context)):
        ...     fields = add_datadog("orders-etl")(None, "info", {})
        >>> fields
        {'dd.service': 'orders-etl', 'dd.trace_id': '2748', 'dd.span_id': '3567'}
    """
    known = {
        DatadogField.SERVICE: service,
        DatadogField.ENV: environment,
        DatadogField.VERSION: version,
    }
    tags = {name: plain(value) for name, value in known.items() if value}

    def processor(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        if not DATADOG_FIELDS.isdisjoint(event_dict):
            event_dict = {
                f"fields.{name}" if name in DATADOG_FIELDS else name: value
                for name, value in event_dict.items()
            }
        # In front, so that they stand with the library's fields and not behind the caller's.
        return {**tags, **_ids(current_span_context(get_current())), **event_dict}

    return processor


def _ids(context: SpanContext) -> dict[str, str]:
    if not context.is_valid:
        return {}
    return {
        DatadogField.TRACE_ID: str(context.trace_id & _LOW_64_BITS),
        DatadogField.SPAN_ID: str(context.span_id),
    }
