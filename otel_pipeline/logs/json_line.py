"""The chain as one processor, for lines that are printed as JSON."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import structlog.contextvars
from opentelemetry.context import get_current
from structlog.processors import add_log_level

from otel_pipeline import clock
from otel_pipeline.context import current_scope, current_span_context
from otel_pipeline.logs.datadog import DATADOG_FIELDS
from otel_pipeline.logs.otlp import is_exported, is_exporter, scope_name
from otel_pipeline.logs.processors import (
    FIELD_ORDER,
    add_logger_name,
    add_pipeline_context,
    add_service,
    add_trace_context,
    iso_timestamp,
)
from otel_pipeline.logs.rendering import render_json
from otel_pipeline.logs.values import plain_values
from otel_pipeline.redaction import OFF
from otel_pipeline.semconv import LogField

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import SpanContext
    from structlog.typing import EventDict, Processor, WrappedLogger

    from otel_pipeline.logs.chain import Chain
    from otel_pipeline.redaction import Redactor

__all__ = ["Head", "JsonLine", "Line", "LineSink"]

#: Fields of a line that only the chain can place.
_SPECIAL: Final = frozenset(FIELD_ORDER) - {LogField.EVENT} | {"exc_info", "stack_info"}
_MOST_KEPT: Final = 1000

#: structlog's context variables by name, empty until one is bound: to look through the context for
#: them takes as long as to render the line.
_context_variables: Final = getattr(structlog.contextvars, "_CONTEXT_VARS", ("unknown",))


class Head(NamedTuple):
    """What the lines of one level and logger have in common.

    Attributes:
        level: The level's name.
        fields: Name of the logger, service and environment.
        scope: The instrumentation scope.
        is_exported: Whether lines of this logger may be sent.
        before: The level and the logger as JSON.
        after: The service as JSON.
    """

    level: str
    fields: Mapping[str, str]
    scope: str
    is_exported: bool
    before: str
    after: str


class Line(NamedTuple):
    """A line to be sent: plain values of its own, masked, and nothing that anybody changes.

    Attributes:
        time: Nanoseconds since 1970.
        event: The event.
        head: Level, logger and service.
        place: Pipeline, stage and run.
        fields: The caller's fields.
        span: The span that was current.
    """

    time: int
    event: str
    head: Head
    place: Mapping[str, str]
    fields: Mapping[str, Any]
    span: SpanContext


class LineSink(Protocol):
    """Where lines go that are sent, past OpenTelemetry's API.

    Attributes:
        takes_lines: Whether it does at this moment; else lines take the way of the chain.
    """

    @property
    def takes_lines(self) -> bool: ...  # noqa: D102

    def send(self, line: Line) -> None:
        """Queue a line; never waits and never raises."""


class JsonLine:
    """Makes the line that the chain makes.

    From line to line little changes but the time, the event and the caller's fields. What the
    chain's processors add besides is kept as JSON, and made anew when the logger, the place or the
    span is another one. A line with a field that has a place of its own goes through the chain.

    Args:
        chain: The chain; it sends, if there is a sink.
        service: Name of the service, or None to leave it out.
        environment: Such as `production`.
        redactor: What masks secrets.
        sink: Where lines are sent to, or None where they are only printed.
        datadog: What the chain adds for Datadog, or None.
    """

    def __init__(
        self,
        chain: Chain,
        *,
        service: str | None,
        environment: str | None,
        redactor: Redactor,
        sink: LineSink | None = None,
        datadog: Processor | None = None,
    ) -> None:
        self._chain = chain.all()
        self._special = _SPECIAL if datadog is None else _SPECIAL | DATADOG_FIELDS
        self._datadog = datadog
        self._redactor = redactor
        self._sink = sink
        self._add_service = add_service(service, environment) if service else None
        self._heads: dict[tuple[str, str | None], Head] = {}
        self._place: tuple[object, str, Mapping[str, str]] = (None, "", {})
        self._trace: tuple[SpanContext | None, str] = (None, "")

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> Any:
        """Return the line, and send it."""
        if _context_variables:
            structlog.contextvars.merge_contextvars(logger, method, event_dict)
        name = getattr(logger, "name", None)
        sink = self._sink
        if not (
            self._special.isdisjoint(event_dict)
            and (type(name) is str or name is None)
            and (sink is None or sink.takes_lines)
        ):
            line: Any = event_dict
            for processor in self._chain:
                line = processor(logger, method, line)
            return line
        fields: Any = plain_values(logger, method, event_dict)
        if self._redactor is not OFF:
            masked = self._redactor.mapping(fields)
            if masked is not fields:
                fields = dict(masked)
        event = fields.pop(LogField.EVENT)
        context = get_current()
        head = self._heads.get((method, name)) or self._new_head(logger, method, name)
        scope = current_scope(context)
        place, place_fields = ("", _NOWHERE) if scope is None else self._place_in(scope)
        span = current_span_context(context)
        known, trace = self._trace
        if span is not known:
            trace = self._new_trace(span)
        now = clock.time_ns()
        if sink is not None and head.is_exported and is_exported(context):
            sink.send(Line(now, event, head, place_fields, fields, span))
        line = (
            f'{{"timestamp":"{iso_timestamp(now)}",{head.before}"event":{quoted(event)},'
            f"{head.after}{place}{trace}"
        )
        if fields:
            return line + render_json(logger, method, fields)[1:]
        return f"{line[:-1]}}}"

    def _new_head(self, logger: WrappedLogger, method: str, name: str | None) -> Head:
        """Return what stands around the event: level and logger, and the service."""
        level = add_log_level(logger, method, {})
        logged_by = self._masked(add_logger_name(logger, method, {}))
        service = self._masked(self._add_service(logger, method, {}) if self._add_service else {})
        scope = scope_name(logged_by)
        head = Head(
            level[LogField.LEVEL],
            {**logged_by, **service},
            scope,
            not is_exporter(scope),
            _text(level) + _text(logged_by),
            _text(service),
        )
        if len(self._heads) >= _MOST_KEPT:
            self._heads.clear()
        self._heads[method, name] = head
        return head

    def _place_in(self, scope: Any) -> tuple[str, Mapping[str, str]]:
        """Return the pipeline, stage and run around, as JSON and as fields."""
        key = (scope.pipeline_name, scope.stage_name, scope.run_id)
        known, text, fields = self._place
        if key != known:
            fields = self._masked(add_pipeline_context(None, "", {}))
            text = _text(fields)
            self._place = (key, text, fields)
        return text, fields

    def _new_trace(self, span: SpanContext) -> str:
        """Return the ids of the current span, and what Datadog wants besides, as JSON."""
        text = _text(add_trace_context(None, "", {}))
        if self._datadog is not None:
            stamps: Any = self._datadog(None, "", {})
            text += _text(stamps)
        self._trace = (span, text)
        return text

    def _masked(self, fields: Any) -> Any:
        return fields if self._redactor is OFF else dict(self._redactor.mapping(fields))


_NOWHERE: Final[Mapping[str, str]] = {}


def _text(fields: EventDict) -> str:
    """Return fields as they stand inside a line, each with its comma."""
    return f"{render_json(None, '', fields)[1:-1]}," if fields else ""
