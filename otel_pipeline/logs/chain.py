"""The chain: which processors a line goes through, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from structlog.contextvars import merge_contextvars
from structlog.processors import StackInfoRenderer, add_log_level

from otel_pipeline.logs.otlp import emit_otlp
from otel_pipeline.logs.processors import (
    add_logger_name,
    add_pipeline_context,
    add_service,
    add_timestamp,
    add_trace_context,
    order_fields,
    redact,
    rename_reserved,
    render_exception,
)
from otel_pipeline.logs.values import plain_values
from otel_pipeline.redaction import OFF

if TYPE_CHECKING:
    from structlog.typing import Processor

    from otel_pipeline.redaction import Redactor

__all__ = ["Chain", "make_chain"]


@dataclass(frozen=True, slots=True)
class Chain:
    """The processors of a line, in four parts that are run one after the other.

    Attributes:
        collect: Bring the fields together.
        prepare: Render, mask and stamp them.
        send: Send them as an OTLP log record; empty where nothing is sent.
        render: Make the line.
    """

    collect: tuple[Processor, ...]
    prepare: tuple[Processor, ...]
    send: tuple[Processor, ...]
    render: tuple[Processor, ...]

    def all(self) -> list[Processor]:
        """Return the processors as `structlog.configure` takes them."""
        return [*self.collect, *self.prepare, *self.send, *self.render]


def make_chain(
    *,
    service: str | None,
    environment: str | None,
    redactor: Redactor,
    renderer: Processor,
    export: bool,
    datadog: Processor | None = None,
) -> Chain:
    """Return the processors that a line of the library goes through.

    Args:
        service: Name of the service, or None to leave it out.
        environment: Such as `production`.
        redactor: What masks secrets.
        renderer: Makes the line of the fields.
        export: Whether lines are sent by OTLP.
        datadog: Adds what Datadog wants on printed lines; None adds nothing.

    Returns:
        The chain.
    """
    return Chain(
        collect=(merge_contextvars, rename_reserved),
        prepare=(
            StackInfoRenderer(["otel_pipeline.logs"]),
            render_exception,
            plain_values,
            add_logger_name,
            *((add_service(service, environment),) if service else ()),
            add_pipeline_context,
            # What follows is new on each line, holds no secret, and would cost a look each time.
            *(() if redactor is OFF else (redact(redactor),)),
            add_log_level,
            add_timestamp,
            add_trace_context,
        ),
        send=(emit_otlp,) if export else (),
        # What is sent has its trace, service, environment and version in places of their own.
        render=(*(() if datadog is None else (datadog,)), order_fields, renderer),
    )
