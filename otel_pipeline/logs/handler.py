"""The stdlib `logging` handler: its records take the same form and way as structlog's lines."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline import diagnostics
from otel_pipeline.logs.logger import interpolate, tell_suppressed
from otel_pipeline.logs.processors import iso_timestamp
from otel_pipeline.logs.values import plain
from otel_pipeline.semconv import LogField

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import EventDict

    from otel_pipeline.logs.chain import Chain
    from otel_pipeline.logs.output import LineLogger
    from otel_pipeline.logs.volume import Volume

__all__ = ["PipelineHandler"]

#: Attributes of every record, of formatters, and of OpenTelemetry's own logging instrumentation,
#: which say what the line says already. All others came by `extra=`.
_NOT_EXTRA: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
    "otelServiceName",
    "otelSpanID",
    "otelTraceID",
    "otelTraceSampled",
}


class PipelineHandler(logging.Handler):
    """Prints and sends the records of the stdlib `logging` in the form of the library's lines.

    A record that another handler already prints to a standard stream, or sends to OpenTelemetry,
    is not printed, or sent, again.
    """

    def __init__(
        self, chain: Chain, output: LineLogger, level: int, volume: Volume | None = None
    ) -> None:
        super().__init__(level)
        self._chain = chain
        self._output = output
        self._volume = volume

    def createLock(self) -> None:  # noqa: N802
        """Make no lock: a line is one write, and a lock could be held by a thread at a fork."""
        self.lock: Any = contextlib.nullcontext()  # from Python 3.13 on it is entered as it is

    def acquire(self) -> None:
        """Do nothing; see `createLock`."""

    def release(self) -> None:
        """Do nothing; see `createLock`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print and send one record, as far as nobody else does."""
        try:
            others = [other for other in _handlers(record) if other is not self]
            printed = any(_prints(other) for other in others)
            sent = any(_sends(other) for other in others)
            if not (printed and (sent or not self._chain.send)):
                suppressed = self._suppressed(record)
                if suppressed is not None:
                    self._emit(record, suppressed, prints=not printed, sends=not sent)
        except Exception as error:  # noqa: BLE001 - logging must not harm the program
            diagnostics.warn_once("logs:record", "a log record was lost: %s", plain(error))

    def _suppressed(self, record: logging.LogRecord) -> int | None:
        """Return how many lines were suppressed before this one, or None if this one is too."""
        if self._volume is None:
            return 0
        return self._volume.ask(record.msg, error=record.levelno >= logging.ERROR)

    def _emit(
        self, record: logging.LogRecord, suppressed: int, *, prints: bool, sends: bool
    ) -> None:
        method = record.levelname.lower()
        event_dict: Any = _extra(record)
        for processor in self._chain.collect:
            event_dict = processor(record, method, event_dict)
        _add_record(record, event_dict)
        if suppressed:
            tell_suppressed(event_dict, suppressed)
        for processor in (*self._chain.prepare, *(self._chain.send if sends else ())):
            event_dict = processor(record, method, event_dict)
        if prints:
            for processor in self._chain.render:
                event_dict = processor(record, method, event_dict)
            self._output.write(event_dict)


def _extra(record: logging.LogRecord) -> EventDict:
    # A program may have used other keys than strings, whatever their type says.
    return {str(plain(key)): value for key, value in vars(record).items() if key not in _NOT_EXTRA}


def _add_record(record: logging.LogRecord, event_dict: EventDict) -> None:
    event, more = interpolate(record.msg, _arguments(record))
    if LogField.EVENT in event_dict:
        event_dict["fields.event"] = event_dict[LogField.EVENT]
    event_dict[LogField.EVENT] = event
    event_dict[LogField.TIMESTAMP] = iso_timestamp(int(record.created * 1e9))
    event_dict.update(more)
    if record.exc_info:
        event_dict["exc_info"] = record.exc_info
    elif record.exc_text:  # all that is left of an exception that came through a queue
        event_dict["exception"] = record.exc_text
    if record.stack_info:
        event_dict["stack"] = record.stack_info


def _arguments(record: logging.LogRecord) -> tuple[object, ...]:
    # `logging` unpacks a single mapping.
    if isinstance(record.args, tuple):
        return record.args
    return (record.args,) if record.args else ()


def _handlers(record: logging.LogRecord) -> Iterator[logging.Handler]:
    """Yield the handlers that get the record, as `Logger.callHandlers` finds them."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        for handler in logger.handlers:
            if record.levelno >= handler.level:
                yield handler
        logger = logger.parent if logger.propagate else None


def _prints(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    if stream is None:  # such as Rich's handler
        stream = getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and any(
        stream is standard for standard in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    )


def _sends(handler: logging.Handler) -> bool:
    return any(kind.__module__.startswith("opentelemetry.") for kind in type(handler).__mro__)
