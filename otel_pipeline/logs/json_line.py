"""The chain as one processor, for lines that are printed as JSON and not sent."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import get_current_span
from structlog.contextvars import merge_contextvars
from structlog.processors import add_log_level

from otel_pipeline import clock
from otel_pipeline.context import current_scope
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
    from structlog.typing import EventDict, WrappedLogger

    from otel_pipeline.logs.chain import Chain
    from otel_pipeline.redaction import Redactor

__all__ = ["JsonLine"]

#: Fields of a line that only the chain can place.
_SPECIAL: Final = frozenset(FIELD_ORDER) - {LogField.EVENT} | {"exc_info", "stack_info"}
_MOST_KEPT: Final = 1000


class JsonLine:
    """Makes the line that the chain makes.

    From line to line little changes but the time, the event and the caller's fields. What the
    chain's processors add besides is kept as JSON, and made anew when the logger, the place or the
    span is another one. A line with a field that has a place of its own goes through the chain.

    Args:
        chain: The chain.
        service: Name of the service, or None to leave it out.
        environment: Such as `production`.
        redactor: What masks secrets.
    """

    def __init__(
        self, chain: Chain, *, service: str | None, environment: str | None, redactor: Redactor
    ) -> None:
        self._chain = chain.all()
        self._redactor = redactor
        self._add_service = add_service(service, environment) if service else None
        self._ends: dict[tuple[str, str | None], tuple[str, str]] = {}
        self._place: tuple[object, str] = (None, "")
        self._trace: tuple[object, str] = (None, "")

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> Any:
        """Return the line."""
        merge_contextvars(logger, method, event_dict)
        name = getattr(logger, "name", None)
        if not (_SPECIAL.isdisjoint(event_dict) and (name is None or type(name) is str)):
            line: Any = event_dict
            for processor in self._chain:
                line = processor(logger, method, line)
            return line
        fields: Any = plain_values(logger, method, event_dict)
        if self._redactor is not OFF:
            fields = dict(self._redactor.mapping(fields))
        event = quoted(fields.pop(LogField.EVENT))
        rest = render_json(logger, method, fields)[1:] if fields else "}"
        before, after = self._ends.get((method, name)) or self._new_ends(logger, method, name)
        line = (
            f'{{"timestamp":"{iso_timestamp(clock.time_ns())}",{before}"event":{event},{after}'
            f"{self._place_now()}{self._trace_now()}"
        )
        return line + rest if fields else line[:-1] + rest

    def _new_ends(self, logger: WrappedLogger, method: str, name: str | None) -> tuple[str, str]:
        """Return what stands around the event: level and logger, and the service."""
        before = _text(add_log_level(logger, method, {}))
        before += self._masked(add_logger_name(logger, method, {}))
        after = self._masked(self._add_service(logger, method, {})) if self._add_service else ""
        if len(self._ends) >= _MOST_KEPT:
            self._ends.clear()
        self._ends[method, name] = (before, after)
        return before, after

    def _place_now(self) -> str:
        """Return the pipeline, stage and run around."""
        scope = current_scope()
        if scope is None:
            return ""
        key = (scope.pipeline_name, scope.stage_name, scope.run_id)
        known, text = self._place
        if key != known:
            text = self._masked(add_pipeline_context(None, "", {}))
            self._place = (key, text)
        return text

    def _trace_now(self) -> str:
        """Return the ids of the current span."""
        context = get_current_span().get_span_context()
        known, text = self._trace
        if context is not known:
            text = _text(add_trace_context(None, "", {}))
            self._trace = (context, text)
        return text

    def _masked(self, fields: Any) -> str:
        return _text(fields if self._redactor is OFF else dict(self._redactor.mapping(fields)))


def _text(fields: EventDict) -> str:
    """Return fields as they stand inside a line, each with its comma."""
    return f"{render_json(None, '', fields)[1:-1]}," if fields else ""
