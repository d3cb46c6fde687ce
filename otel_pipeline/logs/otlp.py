"""Log lines as OTLP log records: the only module that uses the API `opentelemetry._logs`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from opentelemetry._logs import SeverityNumber, get_logger_provider
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_current

from otel_pipeline import clock, diagnostics
from otel_pipeline.logs.output import BUSY
from otel_pipeline.semconv import LogField

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.context import Context
    from structlog.typing import EventDict, WrappedLogger

__all__ = [
    "attributes",
    "emit_otlp",
    "is_error",
    "is_exported",
    "is_exporter",
    "scope_name",
    "severity",
]

#: First parts of the names of loggers that exporters and the HTTP and gRPC libraries under them
#: use. What they log about one export would be exported by the next, without end.
_EXPORTERS: Final = frozenset(
    {"charset_normalizer", "grpc", "http", "opentelemetry", "requests", "urllib3"}
)

#: Fields that have a place of their own in a log record.
_OWN_PLACE: Final = frozenset(
    {
        LogField.TIMESTAMP,
        LogField.EVENT,
        LogField.TRACE_ID,
        LogField.SPAN_ID,
        LogField.TRACE_FLAGS,
    }
)
_RENAMED: Final = {"exception": "exception.stacktrace", "": "_"}
_UNNAMED: Final = "otel_pipeline.logs"

_MOST_ATTRIBUTES: Final = 128  # the limit of the specification; what is beyond it would be dropped
_MOST_SCOPES: Final = 1_000
_LARGEST: Final = 2**63 - 1
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SEVERITY_OF_TENS: Final = (1, 5, 9, 13, 17, 21)
_SEVERITY_TEXT: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}


def emit_otlp(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Send the line as an OTLP log record, through the logger provider of the OpenTelemetry API.

    A processor; it comes after those that stamp and mask, and does not change the fields. The
    event is the body; `timestamp`, `level` and the current span go into the record's own fields;
    `level` and the other fields are attributes, `exception` as `exception.stacktrace`. The name of
    the logger is the instrumentation scope. The record has no event name: a log line is no
    OpenTelemetry event. Nothing is sent for loggers of exporters and of the HTTP libraries under
    them, nor for what is logged while exporting.

    Args:
        event_dict: The fields of the line, as `plain_values` leaves them.

    Returns:
        The same mapping.

    Example:
        >>> emit_otlp(None, "info", {"event": "done", "level": "info"})
        {'event': 'done', 'level': 'info'}
    """
    name = scope_name(event_dict)
    if is_exported() and not is_exporter(name):
        BUSY.emitting = True
        try:
            _emit(name, event_dict)
        except Exception as error:  # noqa: BLE001 - whatever a provider does, the program goes on
            diagnostics.warn_once(
                "logs:emit",
                "a log record could not be handed to OpenTelemetry: %s: %s",
                type(error).__name__,
                error,
            )
        finally:
            BUSY.emitting = False
    return event_dict


def is_exporter(name: str) -> bool:
    """Return whether the logger `name` is one of exporters or of what they stand on.

    Example:
        >>> is_exporter("etl.load"), is_exporter("urllib3.connectionpool")
        (False, True)
    """
    return name.partition(".")[0] in _EXPORTERS


def is_exported(context: Context | None = None) -> bool:
    """Return whether a line made now may be sent by OTLP.

    Args:
        context: The current context, where it is known.

    Returns:
        False for lines made while exporting, and by the sending or printing of another line.

    Example:
        >>> is_exported()
        True
    """
    if context is None:
        context = get_current()
    return not (BUSY.emitting or BUSY.writing or context.get(_SUPPRESS_INSTRUMENTATION_KEY))


def scope_name(fields: Mapping[str, Any]) -> str:
    """Return the instrumentation scope of a line: its logger.

    Args:
        fields: The fields of the line.

    Example:
        >>> scope_name({"logger": "etl.load"}), scope_name({})
        ('etl.load', 'otel_pipeline.logs')
    """
    return str(fields.get(LogField.LOGGER) or _UNNAMED)


def _emit(name: str, event_dict: Mapping[str, Any]) -> None:
    logger = _scope(get_logger_provider(), name)
    number, text = severity(str(event_dict.get(LogField.LEVEL, "")))
    if logger.enabled(severity_number=number):
        logger.emit(
            timestamp=_nanoseconds(event_dict.get(LogField.TIMESTAMP)),
            severity_number=number,
            severity_text=text,
            body=event_dict.get(LogField.EVENT),
            attributes=attributes(event_dict),
        )


def attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a line's record: the fields without a place of their own there.

    Args:
        fields: The fields of the line, as `plain_values` leaves them.

    Example:
        >>> attributes({"event": "done", "level": "info", "rows": 2**64})
        {'level': 'info', 'rows': '18446744073709551616'}
    """
    found = {
        _RENAMED.get(key, key): value if type(value) is str else _attribute(value)
        for key, value in fields.items()
        if key not in _OWN_PLACE
    }
    if len(found) > _MOST_ATTRIBUTES:
        items = iter(found.items())
        found = dict(islice(items, _MOST_ATTRIBUTES - 1))
        found["fields"] = dict(items)
    return found


def _attribute(value: Any) -> Any:
    """Return what the protocol can carry: integers of 64 bits, no empty keys."""
    if type(value) is int:
        return value if abs(value) <= _LARGEST else str(value)
    if type(value) is dict:
        return {key or "_": _attribute(item) for key, item in value.items()}
    if type(value) is list:
        return [_attribute(item) for item in value]
    return value


_scopes: tuple[LoggerProvider | None, dict[str, Logger]] = (None, {})


def _scope(provider: LoggerProvider, name: str) -> Logger:
    """Return the provider's logger of that name, kept because a look-up costs as much as a line."""
    global _scopes  # noqa: PLW0603
    if _scopes[0] is not provider or len(_scopes[1]) >= _MOST_SCOPES:
        _scopes = (provider, {})
    loggers = _scopes[1]
    if name not in loggers:
        loggers[name] = provider.get_logger(name)
    return loggers[name]


@lru_cache(maxsize=64)
def severity(level: str) -> tuple[SeverityNumber, str]:
    """Return number and text of a level: `info`, or one of the program's own such as `level 25`.

    Example:
        >>> severity("warning")
        (<SeverityNumber.WARN: 13>, 'WARN')
    """
    name = level.upper()
    number = logging.getLevelNamesMapping().get(name, 0)
    if not number and name.startswith("LEVEL ") and name[6:].isdecimal():
        number = int(name[6:])
    if number <= 0:
        return SeverityNumber.UNSPECIFIED, name
    tens, ones = divmod(min(number, 59), 10)
    number = _SEVERITY_OF_TENS[tens] + min(ones, 3)
    return SeverityNumber(number), _SEVERITY_TEXT.get(name, name)


def is_error(level: str) -> bool:
    """Return whether a level, by its name, is error or above.

    Example:
        >>> is_error("info"), is_error("critical"), is_error("level 45")
        (False, True, True)
    """
    number: int = severity(level)[0].value
    return number >= SeverityNumber.ERROR.value


def _nanoseconds(timestamp: object) -> int:
    try:
        since = datetime.fromisoformat(str(timestamp)) - _EPOCH
    except (TypeError, ValueError):  # another TimeStamper's form, or no zone
        return clock.time_ns()
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
