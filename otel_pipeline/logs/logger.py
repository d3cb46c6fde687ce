"""Loggers: structlog's bound logger that never raises, and the late-bound one of `get_logger`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import structlog
from structlog import get_config, is_configured

from otel_pipeline import diagnostics, redaction
from otel_pipeline.logs.chain import make_chain
from otel_pipeline.logs.otlp import is_error
from otel_pipeline.logs.output import LineLogger
from otel_pipeline.logs.rendering import render_console
from otel_pipeline.logs.values import plain
from otel_pipeline.semconv import THROTTLED_EVENTS, LogField

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger, Processor

    from otel_pipeline.logs.volume import Volume

__all__ = [
    "BoundLogger",
    "bound_logger_at",
    "get_logger",
    "interpolate",
    "limited_logger_at",
    "tell_suppressed",
]

_NO_EVENT: Final = ""
_EVENT: Final = "event"


def interpolate(event: object, args: tuple[object, ...]) -> tuple[object, dict[str, object]]:
    """Put positional arguments into an event, as the stdlib `logging` does.

    Args:
        event: The event, %-style.
        args: Its arguments; one mapping gives them by name.

    Returns:
        The event, and fields to add: the arguments and what was wrong, where they do not fit.
    """
    if not args:
        return event, {}
    single = args[0] if len(args) == 1 else None
    try:
        if not isinstance(event, str):
            event = str(event)
        return event % (single if isinstance(single, Mapping) and single else args), {}
    except Exception as error:  # noqa: BLE001 - the arguments' own code may raise anything
        return event, {"positional_args": list(args), "logging_error": error}


def _method(level: int, name: str) -> Callable[..., None]:
    def log(self: BoundLogger, event: object = _NO_EVENT, /, *args: object, **fields: Any) -> None:
        if level >= self.level:
            self._log(name, event, args, fields)

    log.__name__ = log.__qualname__ = name
    log.__doc__ = f"Log `event % args` with `fields`, at level {name}."
    return log


def _async_method(name: str) -> Callable[..., Awaitable[None]]:
    async def log(self: BoundLogger, *args: Any, **fields: Any) -> None:
        # A line takes microseconds: less than to hand it to a thread.
        getattr(self, name)(*args, **fields)

    log.__name__ = log.__qualname__ = f"a{name}"
    log.__doc__ = f"Log as `{name}` does; for code that awaits it."
    return log


class BoundLogger(structlog.BoundLoggerBase):
    """structlog's bound logger, of which no call raises.

    It has the methods of `structlog.typing.FilteringBoundLogger`.

    Attributes:
        level: Lowest level that is logged, as a number of the stdlib `logging`.
    """

    level: ClassVar[int] = logging.NOTSET

    debug = _method(logging.DEBUG, "debug")
    info = msg = _method(logging.INFO, "info")
    warning = warn = _method(logging.WARNING, "warning")
    error = err = _method(logging.ERROR, "error")
    critical = fatal = _method(logging.CRITICAL, "critical")

    adebug = _async_method("debug")
    ainfo = amsg = _async_method("info")
    awarning = awarn = _async_method("warning")
    aerror = _async_method("error")
    acritical = afatal = _async_method("critical")
    aexception = _async_method("exception")
    alog = _async_method("log")

    def exception(self, event: object = _NO_EVENT, /, *args: object, **fields: Any) -> None:
        """Log as `error` does, with the exception that is being handled."""
        fields.setdefault("exc_info", True)
        self.error(event, *args, **fields)

    def log(
        self, level: int | str, event: object = _NO_EVENT, /, *args: object, **fields: Any
    ) -> None:
        """Log `event % args` with `fields`, at any level of the stdlib `logging`."""
        number = level if isinstance(level, int) else _level_number(level)
        if number >= self.level:
            self._log(logging.getLevelName(number).lower(), event, args, fields)

    def is_enabled_for(self, level: int) -> bool:
        """Return whether lines of `level` are logged."""
        return level >= self.level

    def get_effective_level(self) -> int:
        """Return the lowest level that is logged."""
        return self.level

    def _log(
        self, method: str, event: object, args: tuple[object, ...], fields: dict[str, Any]
    ) -> None:
        try:
            if args:
                event, more = interpolate(event, args)
                fields.update(more)
            if _EVENT in fields:
                named = fields.pop(_EVENT)
                if event is _NO_EVENT:
                    event = named
                else:
                    fields["fields.event"] = named
            # As in structlog, but for the events and types that it leaves out.
            fields[_EVENT] = event
            line: Any = {**self._context, **fields} if self._context else fields
            for processor in self._processors:
                line = processor(self._logger, method, line)
            write = getattr(self._logger, method, None) or self._logger.info
            if type(line) is str:
                write(line)
            else:
                args, fields = _arguments(line)
                write(*args, **fields)
        except structlog.DropEvent:
            pass
        except Exception as error:  # noqa: BLE001 - a processor or stream of the program
            self._salvage(method, event, error)

    def _salvage(self, level: str, event: object, error: Exception) -> None:
        """Log at least the event, where a processor of the program failed."""
        line = {"level": level, "event": plain(event), "logging_error": plain(error)}
        try:
            self._logger.info(json.dumps(line))
        except Exception as again:  # noqa: BLE001 - a logger of the program
            diagnostics.warn_once("logs:line", "a log line was lost: %s", plain(again))


def _arguments(line: Any) -> tuple[Any, Any]:
    """Return the arguments that a line is to the wrapped logger, as structlog has it."""
    if isinstance(line, tuple):
        return line
    return ((), line) if isinstance(line, dict) else ((line,), {})


def _level_number(name: object) -> int:
    return logging.getLevelNamesMapping().get(str(plain(name)).upper(), logging.INFO)


@lru_cache(maxsize=64)
def bound_logger_at(level: int) -> type[BoundLogger]:
    """Return the bound logger that logs `level` and what is above it."""
    return type("BoundLogger", (BoundLogger,), {"level": level, "__doc__": BoundLogger.__doc__})


class _LimitedLogger(BoundLogger):
    """A bound logger that asks about each line whether it is kept.

    It asks before anything is done for the line, and with the event as the program wrote it:
    arguments that are put into it do not make it another one.
    """

    volume: ClassVar[Volume]

    def _log(
        self, method: str, event: object, args: tuple[object, ...], fields: dict[str, Any]
    ) -> None:
        name = fields.get(_EVENT, event) if event is _NO_EVENT else event
        already = fields.get(LogField.SUPPRESSED) if _is_throttled(name) else None
        if type(already) is not int:
            already = 0
        suppressed = self.volume.ask(name, error=is_error(method), already=already)
        if suppressed is not None:
            if suppressed:
                tell_suppressed(fields, suppressed, already)
            super()._log(method, event, args, fields)


def _is_throttled(event: object) -> bool:
    return isinstance(event, str) and event in THROTTLED_EVENTS


def tell_suppressed(fields: dict[str, Any], suppressed: int, already: int = 0) -> None:
    """Put the number of suppressed lines into the fields of a line.

    Args:
        fields: The fields; one of the caller's of that name becomes `fields.suppressed`.
        suppressed: The number.
        already: The part of it that the line tells of by itself.
    """
    if LogField.SUPPRESSED in fields and not already:
        fields[f"fields.{LogField.SUPPRESSED}"] = fields[LogField.SUPPRESSED]
    fields[LogField.SUPPRESSED] = suppressed


def limited_logger_at(level: int, volume: Volume) -> type[BoundLogger]:
    """Return the bound logger that logs `level` and above, as far as `volume` lets it."""
    known = {"level": level, "volume": volume, "__doc__": BoundLogger.__doc__}
    return type("BoundLogger", (_LimitedLogger,), known)


def _late(name: str) -> property:
    """Return a property that is the method of this moment: found sooner than by `__getattr__`."""
    return property(lambda self: getattr(self._now(), name))


class _LateLogger:
    """A logger that looks for structlog's configuration whenever it is used.

    structlog's own one does so only until something is bound to it, and then keeps what it found:
    a module-level `get_logger().bind(...)` would never hear of a later `configure()`.
    """

    __slots__ = ("_context", "_found", "_name")

    def __init__(self, name: str | None, context: dict[str, Any]) -> None:
        self._name = name
        self._context = context
        # A configuration and what it made.
        self._found: tuple[bool | None, object, Any] = (None, None, None)

    def __repr__(self) -> str:
        return f"get_logger({self._name!r}, **{self._context!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _LateLogger, (self._name, self._context)

    def bind(self, **fields: Any) -> _LateLogger:
        """Return a logger that adds `fields` to every line."""
        return _LateLogger(self._name, {**self._context, **fields})

    def new(self, **fields: Any) -> _LateLogger:
        """Return a logger that adds `fields`, and only those, to every line."""
        return _LateLogger(self._name, fields)

    def unbind(self, *names: str) -> _LateLogger:
        """Return a logger that no longer adds the fields `names`; a `KeyError` if one is absent."""
        context = dict(self._context)
        for name in names:
            del context[name]
        return _LateLogger(self._name, context)

    def try_unbind(self, *names: str) -> _LateLogger:
        """Return a logger that no longer adds the fields `names`, where it did."""
        kept = {name: value for name, value in self._context.items() if name not in names}
        return _LateLogger(self._name, kept)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copy, pickle and inspect ask for
            raise AttributeError(name)
        return getattr(self._now(), name)

    debug = _late("debug")
    info = _late("info")
    warning = _late("warning")
    error = _late("error")
    critical = _late("critical")
    exception = _late("exception")

    def _now(self) -> Any:
        configured, config = is_configured(), get_config()
        known, known_config, bound = self._found
        if config != known_config or configured is not known:
            bound = self._bound()
            self._found = (configured, config, bound)
        return bound

    def _bound(self) -> Any:
        if not is_configured():
            return _quiet()(LineLogger("stderr", self._name), _quiet_processors(), self._context)
        arguments = () if self._name is None else (self._name,)
        return structlog.get_logger(*arguments, **self._context).bind()


def _quiet() -> type[BoundLogger]:
    return bound_logger_at(logging.WARNING)


@lru_cache(maxsize=1)
def _quiet_processors() -> list[Processor]:
    return make_chain(
        service=None,
        environment=None,
        redactor=redaction.OFF,
        renderer=render_console(colors=False),
        export=False,
    ).all()


def get_logger(name: str | None = None, **initial: Any) -> FilteringBoundLogger:
    """Return a structlog logger, stamped with the run, stage and span around each call.

    It may be made, and bound to fields, when a module is imported: each call follows the
    configuration of that moment. Where neither `configure()` nor `structlog.configure()` was
    called it does as the stdlib `logging` does: warnings and errors go to stderr, the rest nowhere.
    Under `configure()` no call raises, whatever it is given.

    Args:
        name: Usually `__name__`; the field `logger`.
        initial: Fields of every line.

    Returns:
        A logger with the methods of `structlog.typing.FilteringBoundLogger`.

    Example:
        >>> log = get_logger("etl.load", table="orders")
        >>> log.info("loaded", rows=3)
    """
    return cast("FilteringBoundLogger", _LateLogger(name, initial))
