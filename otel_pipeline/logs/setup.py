"""Setting up structlog and the stdlib `logging`, and undoing it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import structlog

from otel_pipeline import diagnostics
from otel_pipeline.logs.chain import make_chain
from otel_pipeline.logs.datadog import add_datadog
from otel_pipeline.logs.handler import PipelineHandler
from otel_pipeline.logs.json_line import JsonLine
from otel_pipeline.logs.logger import bound_logger_at, get_logger, limited_logger_at
from otel_pipeline.logs.output import LineLogger, current_stream
from otel_pipeline.logs.rendering import is_terminal, render_console, render_json, wants_colors
from otel_pipeline.logs.values import plain
from otel_pipeline.redaction import OFF
from otel_pipeline.semconv import Event, LogField

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import Processor

    from otel_pipeline.logs.json_line import LineSink
    from otel_pipeline.logs.logger import BoundLogger
    from otel_pipeline.logs.output import Stream
    from otel_pipeline.logs.volume import Volume
    from otel_pipeline.redaction import Redactor

__all__ = ["set_up", "tell_rest"]


def set_up(
    *,
    service: str,
    environment: str | None = None,
    version: str | None = None,
    format: Literal["json", "console"] | None = None,  # noqa: A002 - the option's name
    level: int = logging.INFO,
    stream: Stream = "stdout",
    redactor: Redactor,
    export: bool,
    volume: Volume | None = None,
    sink: LineSink | None = None,
    datadog: bool = False,
) -> Callable[[], None]:
    """Configure structlog and the stdlib `logging`: one form, one level, one way out.

    structlog's configuration is replaced. The root logger gets one more handler, and a lower
    level if its own would hold lines back; handlers that are there stay, and what they print or
    send is not printed or sent again. An application that wants its own structlog configuration
    calls `structlog.configure()` afterwards.

    Args:
        service: Name of the service, for the field `service`.
        environment: Such as `production`, for the field `environment`.
        version: Version of the service, for the field `dd.version`.
        format: `json`, `console`, or None for `console` on a terminal and `json` elsewhere.
        level: Lowest level that is printed and sent, as a number of the stdlib `logging`.
        stream: `stdout` or `stderr`, whatever file that is at the time of a line; or a text file.
        redactor: What masks secrets.
        export: Whether lines are sent by OTLP, through OpenTelemetry's logger provider.
        volume: Decides which lines are kept; None keeps all.
        sink: Where JSON lines of structlog are sent, past that provider; None sends them there.
        datadog: Whether printed lines have the fields by which Datadog finds their trace.

    Returns:
        The undo: it restores what was there before, except what others changed since. To call it
        again does nothing.

    Example:
        >>> from otel_pipeline.redaction import Redactor
        >>> undo = set_up(service="orders-etl", redactor=Redactor(), export=False)
        >>> structlog.get_logger().info("done", rows=3)  # doctest: +ELLIPSIS
        {"timestamp":"...","level":"info","event":"done","service":"orders-etl","rows":3}
        >>> undo()
    """
    renderer = _renderer(format, stream)
    stamp = _datadog(service, environment, version, redactor) if datadog else None
    chain = make_chain(
        service=service,
        environment=environment,
        redactor=redactor,
        renderer=renderer,
        export=export,
        datadog=stamp,
    )
    processors = chain.all()
    if renderer is render_json and (sink is not None or not export):
        line = JsonLine(
            chain,
            service=service,
            environment=environment,
            redactor=redactor,
            sink=sink,
            datadog=stamp,
        )
        processors = [line]
    bound = bound_logger_at(level) if volume is None else limited_logger_at(level, volume)
    undo_structlog = _configure_structlog(processors, bound, stream)
    undo_stdlib = _configure_stdlib(PipelineHandler(chain, LineLogger(stream), level, volume))
    undone = False

    def undo() -> None:
        nonlocal undone
        if not undone:
            undone = True
            undo_stdlib()
            undo_structlog()

    return undo


def tell_rest(volume: Volume) -> None:
    """Log what was suppressed and not told by a later line of the same event; then keep all lines.

    One line `log_lines_suppressed` for each event, at level warning: what is lost below level
    error shows wherever such lines do.

    Args:
        volume: What the lines were kept back by.
    """
    log = get_logger("otel_pipeline.logs")
    for event, number in volume.close():
        fields: dict[str, Any] = {"suppressed_event": event, LogField.SUPPRESSED: number}
        try:
            log.warning(Event.LINES_SUPPRESSED, **fields)
        except Exception as error:  # noqa: BLE001 - structlog may be configured by the program
            diagnostics.warn_once("logs:rest", "a log line was lost: %s", plain(error))


def _renderer(format_: Literal["json", "console"] | None, stream: Stream) -> Processor:
    file = current_stream(stream)
    if format_ == "console" or (format_ is None and is_terminal(file)):
        return render_console(colors=wants_colors(file))
    return render_json


def _datadog(
    service: str, environment: str | None, version: str | None, redactor: Redactor
) -> Processor:
    """Return what stamps lines for Datadog, without secrets: it comes after what masks them."""
    tags = {"service": service, "environment": environment, "version": version}
    masked: Any = tags if redactor is OFF else redactor.mapping(tags)
    return add_datadog(**masked)


def _configure_structlog(
    processors: list[Any], bound_logger: type[BoundLogger], stream: Stream
) -> Callable[[], None]:
    was_configured, before = structlog.is_configured(), structlog.get_config()

    def make_logger(name: object = None, *_: object) -> LineLogger:
        return LineLogger(stream, name if isinstance(name, str) else None)

    structlog.configure(
        processors=processors,
        wrapper_class=bound_logger,
        context_class=dict,
        logger_factory=make_logger,
        cache_logger_on_first_use=False,
    )

    def undo() -> None:
        if structlog.get_config()["processors"] is processors:
            structlog.reset_defaults()
            if was_configured:
                structlog.configure(**before)

    return undo


def _configure_stdlib(handler: PipelineHandler) -> Callable[[], None]:
    root = logging.getLogger()
    level_before = root.level
    # Of two set-ups, one within the other (as in tests), only the inner one takes records.
    outer = [other for other in root.handlers if isinstance(other, PipelineHandler)]
    for other in outer:
        root.removeHandler(other)
    root.addHandler(handler)
    if root.level > handler.level:
        root.setLevel(handler.level)
    level_after = root.level

    def undo() -> None:
        root.removeHandler(handler)
        for other in outer:
            root.addHandler(other)
        if root.level == level_after:
            root.setLevel(level_before)

    return undo
