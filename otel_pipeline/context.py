"""Where the running code is: the pipeline, run, stage and batch around it.

The scope travels inside OpenTelemetry's own context, beside the current span, so whatever carries
that context (threads, tasks, other instrumentation) carries both. Where nothing is traced and that
context is empty, there is nothing to stand beside: the scope then has a context variable of its
own, as to change OpenTelemetry's context would be most of what a stage costs.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

__all__ = [
    "UNTRACED",
    "Elsewhere",
    "Scope",
    "current_scope",
    "current_span_context",
    "scope_in",
    "with_scope",
    "with_scope_and_span",
]

_SCOPE_KEY = otel_context.create_key("otel_pipeline.scope")
# Under which OpenTelemetry keeps the span; to set both at once halves the copies.
_SPAN_KEY = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))


class Scope(Protocol):
    """What every enclosing construct (run, stage, batch) tells those inside it."""

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline."""

    @property
    def stage_name(self) -> str | None:
        """Name of the innermost stage, or None outside one."""

    @property
    def run_id(self) -> str | None:
        """Id of the run, or None outside one."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The scope around code that another process has handed over to this one."""

    pipeline_name: str
    stage_name: str | None
    run_id: str | None


#: The innermost scope that is not in OpenTelemetry's context. It is opened while that is empty, so
#: a scope that is found there is the inner one of the two.
UNTRACED: ContextVar[Scope | None] = ContextVar("otel_pipeline.untraced", default=None)


def current_scope(context: Context | None = None) -> Scope | None:
    """Return the innermost run, stage or batch around the calling code, or None.

    Args:
        context: OpenTelemetry's current context, if the caller has it already.
    """
    if context is None:
        context = otel_context.get_current()
    return (scope_in(context) if context else None) or UNTRACED.get()


def scope_in(context: Context) -> Scope | None:
    """Return the scope that OpenTelemetry's `context` holds, or None."""
    scope: Scope | None = context.get(_SCOPE_KEY)  # type: ignore[assignment]
    return scope


def current_span_context(context: Context) -> SpanContext:
    """Return the context of the span that is current in `context`, or the invalid one.

    OpenTelemetry's own look at the current span takes three times as long, too long for a log line.
    """
    span: Span | None = context.get(_SPAN_KEY)  # type: ignore[assignment]
    return trace.INVALID_SPAN_CONTEXT if span is None else span.get_span_context()


def with_scope(scope: Scope | None, context: Context | None = None) -> Context:
    """Return a copy of `context` (default: the current one) in which `scope` is current."""
    return otel_context.set_value(_SCOPE_KEY, scope, context)


def with_scope_and_span(scope: Scope, span: Span, context: Context) -> Context:
    """Return a copy of `context` in which `scope` and `span` are current."""
    return Context(context, **{_SCOPE_KEY: scope, _SPAN_KEY: span})
