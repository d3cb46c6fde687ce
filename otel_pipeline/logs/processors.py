"""Processors: what stamps, renders, masks and orders the fields of a log line.

Each takes and returns the fields of one line, as structlog's own processors do, so an application
that configures structlog itself adds those it wants:

```python
import structlog
from otel_pipeline.logs import add_pipeline_context, add_trace_context

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        add_pipeline_context,
        add_trace_context,
        structlog.processors.JSONRenderer(),
    ]
)
```
"""

from __future__ import annotations

import sys
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.trace import INVALID_SPAN_CONTEXT, get_current_span

from otel_pipeline import clock
from otel_pipeline.context import current_scope
from otel_pipeline.logs.values import MOST_CHARS, plain
from otel_pipeline.semconv import LogField

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import SpanContext
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = [
    "FIELD_ORDER",
    "add_logger_name",
    "add_pipeline_context",
    "add_service",
    "add_timestamp",
    "add_trace_context",
    "iso_timestamp",
    "order_fields",
    "redact",
    "rename_reserved",
    "render_exception",
]

#: Fields of the library, in the order in which they stand on a line; the caller's own follow.
FIELD_ORDER: Final = (
    LogField.TIMESTAMP,
    LogField.LEVEL,
    LogField.LOGGER,
    LogField.EVENT,
    LogField.SERVICE,
    LogField.ENVIRONMENT,
    LogField.PIPELINE,
    LogField.STAGE,
    LogField.RUN_ID,
    LogField.TRACE_ID,
    LogField.SPAN_ID,
    LogField.TRACE_FLAGS,
)

_PLACES: Final = frozenset({LogField.PIPELINE, LogField.STAGE, LogField.RUN_ID})
_RESERVED: Final = frozenset(FIELD_ORDER) - _PLACES - {LogField.EVENT, LogField.LOGGER}
_EXCEPTION: Final = "exception"
_EXCEPTION_TYPE: Final = "exception.type"
_EXCEPTION_MESSAGE: Final = "exception.message"


class _Redactor(Protocol):
    def mapping(self, mapping: Mapping[str, object]) -> Mapping[str, object]: ...


def rename_reserved(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Rename a caller's field that has a name of the library's own, so that neither is lost.

    A processor; it comes before those that stamp. `timestamp`, `level`, `service`, `environment`,
    `trace_id`, `span_id` and `trace_flags` become `fields.timestamp` and so on. A `logger` stays:
    there the caller's value wins. For `pipeline`, `stage` and `run_id` see `add_pipeline_context`.

    Args:
        event_dict: The fields of the line.

    Returns:
        The same mapping.

    Example:
        >>> rename_reserved(None, "info", {"event": "up", "level": 7})
        {'event': 'up', 'fields.level': 7}
    """
    if not _RESERVED.isdisjoint(event_dict):
        for name in _RESERVED.intersection(event_dict):
            event_dict[f"fields.{name}"] = event_dict.pop(name)
    return event_dict


def add_logger_name(logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add `logger`, the name given to `get_logger`, unless the line has one.

    A processor.

    Args:
        logger: The wrapped logger; its `name` is taken, if it has one.
        event_dict: The fields of the line.

    Returns:
        The same mapping.

    Example:
        >>> import logging
        >>> add_logger_name(logging.getLogger("etl.load"), "info", {"event": "done"})
        {'event': 'done', 'logger': 'etl.load'}
    """
    if LogField.LOGGER not in event_dict:
        name = getattr(logger, "name", None)
        if name:
            event_dict[LogField.LOGGER] = plain(name)
    return event_dict


def add_timestamp(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add `timestamp`, the time as ISO 8601 in UTC, unless the line has one.

    A processor. It always has six digits of a second; structlog's `TimeStamper` leaves them out
    where they are zero, and takes longer.

    Args:
        event_dict: The fields of the line.

    Returns:
        The same mapping.

    Example:
        >>> sorted(add_timestamp(None, "info", {"event": "done"}))
        ['event', 'timestamp']
    """
    if LogField.TIMESTAMP not in event_dict:
        event_dict[LogField.TIMESTAMP] = iso_timestamp(clock.time_ns())
    return event_dict


def iso_timestamp(nanoseconds: int) -> str:
    """Return a time as ISO 8601 in UTC, with six digits of a second.

    Args:
        nanoseconds: Since 1970.

    Returns:
        Such as `2026-11-23T09:20:00.000001Z`.

    Example:
        >>> iso_timestamp(1_500)
        '1970-01-01T00:00:00.000001Z'
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    # The digits of a larger number, as that is faster than to fill up with zeros.
    return f"{_iso_second(seconds)}.{str(1_000_000 + rest // 1000)[1:]}Z"


@lru_cache(maxsize=16)
def _iso_second(seconds: int) -> str:
    # Many lines share their second, and this is most of the cost of a time stamp.
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def add_service(service: str, environment: str | None = None) -> Processor:
    """Make a processor that adds `service`, and `environment` where there is one.

    Args:
        service: Name of the service.
        environment: Such as `production`.

    Returns:
        A processor.

    Example:
        >>> add_service("orders-etl")(None, "info", {"event": "done"})
        {'event': 'done', 'service': 'orders-etl'}
    """
    fields = {LogField.SERVICE: plain(service)}
    if environment:
        fields[LogField.ENVIRONMENT] = plain(environment)

    def processor(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        event_dict.update(fields)
        return event_dict

    return processor


def add_pipeline_context(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add `pipeline`, `stage` and `run_id` of the run, stage or batch around the call.

    A processor. What does not apply is left out. A caller's own field of that name becomes
    `fields.pipeline` and so on where the library has something to say, and else stays.

    Args:
        event_dict: The fields of the line.

    Returns:
        The same mapping.

    Example:
        >>> add_pipeline_context(None, "info", {"event": "outside of any run"})
        {'event': 'outside of any run'}
    """
    scope = current_scope()
    if scope is not None:
        _stamp(event_dict, LogField.PIPELINE, scope.pipeline_name)
        stage = scope.stage_name
        if stage is not None:
            _stamp(event_dict, LogField.STAGE, stage)
        run_id = scope.run_id
        if run_id is not None:
            _stamp(event_dict, LogField.RUN_ID, run_id)
    return event_dict


def _stamp(event_dict: EventDict, name: str, value: str) -> None:
    if name in event_dict:
        event_dict[f"fields.{name}"] = event_dict[name]
    event_dict[name] = plain(value)


def add_trace_context(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add `trace_id`, `span_id` and `trace_flags` of the current span.

    A processor. Outside a valid span nothing is added.

    Args:
        event_dict: The fields of the line.

    Returns:
        The same mapping.

    Example:
        >>> from opentelemetry import trace
        >>> context = trace.SpanContext(0xABC, 0xDEF, False, trace.TraceFlags(1))
        >>> with trace.use_span(trace.NonRecordingSpan(context)):
        ...     fields = add_trace_context(None, "info", {})
        >>> fields["trace_id"], fields["span_id"], fields["trace_flags"]
        ('00000000000000000000000000000abc', '0000000000000def', '01')
    """
    global _latest  # noqa: PLW0603
    context = get_current_span().get_span_context()
    known, fields = _latest
    if context is not known:
        fields = _trace_fields(context)
        _latest = (context, fields)
    event_dict.update(fields)
    return event_dict


def _trace_fields(context: SpanContext) -> dict[str, str]:
    if not context.is_valid:
        return {}
    return {
        LogField.TRACE_ID: f"{context.trace_id:032x}",
        LogField.SPAN_ID: f"{context.span_id:016x}",
        LogField.TRACE_FLAGS: f"{context.trace_flags:02x}",
    }


# The latest span's fields: most lines come from the span that the line before came from.
_latest: tuple[SpanContext, dict[str, str]] = (INVALID_SPAN_CONTEXT, {})


def render_exception(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Replace `exc_info` by `exception` (the stack trace), `exception.type`, `exception.message`.

    A processor. The exception itself is not touched. A stack trace beyond 65,536 characters
    loses its middle. `exc_info` may be true (the exception being handled), an exception, or what
    `sys.exc_info()` returns; where there is none, nothing is added.

    Args:
        event_dict: The fields of the line.

    Returns:
        The same mapping.

    Example:
        >>> fields = render_exception(None, "error", {"exc_info": ValueError("no such row")})
        >>> fields["exception"], fields["exception.type"], fields["exception.message"]
        ('ValueError: no such row', 'ValueError', 'no such row')
    """
    if "exc_info" in event_dict:
        error = _exception(event_dict.pop("exc_info"))
        if error is not None:
            text = "".join(traceback.format_exception(error)).rstrip("\n")
            event_dict[_EXCEPTION] = _without_middle(text)
            event_dict[_EXCEPTION_TYPE] = _type_name(type(error))
            event_dict[_EXCEPTION_MESSAGE] = _message(error)
    return event_dict


def _exception(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return next((part for part in exc_info if isinstance(part, BaseException)), None)
    return sys.exc_info()[1] if exc_info else None


def _type_name(kind: type[BaseException]) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - the exception's own __str__ may raise anything
        return f"[unprintable {type(error).__name__}: {type(broken).__name__}]"


def _without_middle(text: str) -> str:
    # The first frames say where it began and the last lines what it was: both are needed.
    if len(text) <= MOST_CHARS:
        return text
    head, tail = MOST_CHARS // 4, MOST_CHARS // 2
    return f"{text[:head]}\n…[truncated {len(text)} chars]\n{text[-tail:]}"


def redact(redactor: _Redactor) -> Processor:
    """Make a processor that masks secrets in the event and in all fields.

    It comes before the time and the ids of the trace are added, so that no id is taken for a card
    number, and after the names that the program gives.

    Args:
        redactor: The rules, such as `otel_pipeline.redaction.Redactor()`.

    Returns:
        A processor.

    Example:
        >>> from otel_pipeline.redaction import Redactor
        >>> redact(Redactor())(None, "info", {"event": "login", "password": "hunter2"})
        {'event': 'login', 'password': '[redacted:password]'}
    """

    def processor(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> Any:
        return redactor.mapping(event_dict)

    return processor


def order_fields(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Put the library's fields first, in their fixed order, and the caller's own after them.

    A processor.

    Args:
        event_dict: The fields of the line.

    Returns:
        A new mapping.

    Example:
        >>> order_fields(None, "info", {"rows": 3, "event": "done", "level": "info"})
        {'level': 'info', 'event': 'done', 'rows': 3}
    """
    ordered = {name: event_dict[name] for name in FIELD_ORDER if name in event_dict}
    ordered.update(event_dict)  # a name that is there already keeps its place
    return ordered
