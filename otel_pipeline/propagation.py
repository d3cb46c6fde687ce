"""Carry the trace, and the place in the pipeline, to other threads, processes and services.

A carrier is a mapping of header names to text: a dict, `os.environ`, or Kafka's list of
`(name, bytes)` pairs. What it holds is decided by `OTEL_PROPAGATORS` (W3C trace context and baggage
by default).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import functools
import inspect
import os
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.trace import Link, Span, SpanContext

from otel_pipeline import lifecycle
from otel_pipeline.context import UNTRACED, Elsewhere, current_scope, with_scope
from otel_pipeline.diagnostics import warn_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.propagators.textmap import TextMapPropagator

    from otel_pipeline.process_pool import ProcessPoolExecutor

__all__ = [
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    "attached",
    "environment",
    "extract",
    "inject",
    "kafka_headers",
    "wrap",
]

P = ParamSpec("P")
T = TypeVar("T")


class _CarrierGetter(Getter[Mapping[str, Any]]):
    """Finds headers whatever their case, as text or as bytes; environment variables included."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        for name in (key, key.lower(), key.upper(), key.upper().replace("-", "_"), key.title()):
            value = carrier.get(name)
            if value is not None:
                return [
                    value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                ]
        return None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return [str(key) for key in carrier]


class _EnvironmentSetter(Setter[MutableMapping[str, str]]):
    """Writes headers as environment variables: `TRACEPARENT`, `TRACESTATE`, `BAGGAGE`."""

    def set(self, carrier: MutableMapping[str, str], key: str, value: str) -> None:
        carrier[key.upper().replace("-", "_")] = value


_GETTER = _CarrierGetter()
_ENVIRONMENT = _EnvironmentSetter()

Carrier = Mapping[str, Any] | Iterable[tuple[str, Any]]


def _propagator() -> TextMapPropagator:
    """Return the propagator of the process.

    OpenTelemetry reads `OTEL_PROPAGATORS` when its module is imported, and raises for a wrong name.
    `configure()` says so; without it the default does.
    """
    try:
        from opentelemetry import propagate  # noqa: PLC0415
    except ValueError as error:
        from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415
        from opentelemetry.propagators.composite import CompositePropagator  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        warn_once("propagators", "%s W3C trace context and baggage are used instead.", error)
        return CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    return propagate.get_global_textmap()


def inject(carrier: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
    """Write the current trace context into `carrier`.

    Args:
        carrier: A dict of headers, or `os.environ`, where the names are in capitals; a new dict by
            default.

    Returns:
        The carrier.

    Example:
        >>> from otel_pipeline.propagation import inject
        >>> headers = inject({"content-type": "text/csv"})
        >>> headers["content-type"]
        'text/csv'
    """
    target: MutableMapping[str, str] = {} if carrier is None else carrier
    if target is os.environ:
        _propagator().inject(target, setter=_ENVIRONMENT)
    else:
        _propagator().inject(target)
    return target


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a copy of the environment with the current trace context, for a subprocess.

    Args:
        environ: The variables to start from; those of this process by default.

    Returns:
        The variables with `TRACEPARENT` (and `TRACESTATE`, `BAGGAGE`) of the current context. A
        subprocess that calls `configure()` joins the trace.

    Example:
        >>> import subprocess, sys
        >>> from otel_pipeline.propagation import environment
        >>> subprocess.run([sys.executable, "-c", "pass"], env=environment()).returncode
        0
    """
    variables = dict(os.environ if environ is None else environ)
    for stale in ("TRACEPARENT", "TRACESTATE", "BAGGAGE"):
        variables.pop(stale, None)
    _propagator().inject(variables, setter=_ENVIRONMENT)
    return variables


def kafka_headers(headers: Iterable[tuple[str, bytes]] = ()) -> list[tuple[str, bytes]]:
    """Return Kafka message headers with the current trace context added.

    Args:
        headers: The message's other headers; trace headers among them are replaced.

    Returns:
        A list of `(name, bytes)`, as Kafka's clients for Python take it. `extract`, `attached` and
        `links=` of runs and batches read it.

    Example:
        >>> from otel_pipeline.propagation import kafka_headers
        >>> kafka_headers([("source", b"shop")])[0]
        ('source', b'shop')
    """
    injected: dict[str, str] = {}
    _propagator().inject(injected)
    kept = [(name, value) for name, value in headers if name not in injected]
    return kept + [(name, value.encode()) for name, value in injected.items()]


def extract(carrier: Carrier) -> Context:
    """Read the trace context from `carrier`.

    Args:
        carrier: A mapping of headers, `os.environ`, or a list of `(name, text or bytes)`.

    Returns:
        An OpenTelemetry context with the sender's span, empty if the carrier has none. Whatever the
        carrier holds, nothing is raised.

    Example:
        >>> from otel_pipeline.propagation import extract
        >>> from opentelemetry import trace
        >>> headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        >>> parent = extract(headers)
        >>> trace.format_span_id(trace.get_current_span(parent).get_span_context().span_id)
        'b7ad6b7169203331'
    """
    return _extract(carrier, Context())


def _extract(carrier: Carrier, base: Context) -> Context:
    try:
        headers = carrier if isinstance(carrier, Mapping) else dict(carrier)
        return _propagator().extract(headers, context=base, getter=_GETTER)
    except Exception as error:  # noqa: BLE001  a carrier comes from outside and may hold anything
        warn_once("extract", "a carrier could not be read: %s: %s", type(error).__name__, error)
        return base


@contextlib.contextmanager
def attached(carrier: Carrier) -> Iterator[Context]:
    """Make the sender's span the current parent for the code inside.

    Args:
        carrier: As for `extract`.

    Yields:
        The context.

    Example:
        >>> from otel_pipeline.propagation import attached
        >>> headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        >>> with attached(headers):
        ...     pass  # stages here belong to the sender's trace
    """
    context = _extract(carrier, otel_context.get_current())
    token = otel_context.attach(context)
    try:
        yield context
    finally:
        otel_context.detach(token)


def wrap(function: Callable[P, T]) -> Callable[P, T]:
    """Return `function` bound to the place where `wrap` is called: its span, stage and log fields.

    Args:
        function: What another thread, or a callback, will call; sync or async.

    Returns:
        A function with the same signature that may be called often, also at the same time.

    Example:
        >>> import threading
        >>> from otel_pipeline.propagation import wrap
        >>> thread = threading.Thread(target=wrap(print), args=("in the same trace",))
        >>> thread.start(); thread.join()
        in the same trace
    """
    if inspect.iscoroutinefunction(function):
        captured = otel_context.get_current()
        untraced = UNTRACED.get()

        @functools.wraps(function)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            token = otel_context.attach(captured)
            place = UNTRACED.set(untraced)
            try:
                return await function(*args, **kwargs)
            finally:
                UNTRACED.reset(place)
                otel_context.detach(token)

        return cast("Callable[P, T]", call_async)

    context = contextvars.copy_context()

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        # A context can be entered once at a time: each call gets a copy.
        return context.copy().run(function, *args, **kwargs)

    return call


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a trace and a pipeline, on its way to another process."""

    carrier: Mapping[str, str]
    scope: Elsewhere | None

    @classmethod
    def here(cls) -> Self:
        """Return the place of the calling code.

        Code that is nowhere, such as the thread with which a pool replaces its workers, is taken to
        belong to the run that is open, if there is one.
        """
        around = otel_context.get_current() or lifecycle.place_of_run() or Context()
        scope = current_scope(around)
        carrier: dict[str, str] = {}
        _propagator().inject(carrier, around)
        if scope is None:
            return cls(carrier, None)
        return cls(carrier, Elsewhere(scope.pipeline_name, scope.stage_name, scope.run_id))

    def context(self) -> Context:
        """Return a context in which this place is current."""
        return with_scope(self.scope, extract(self.carrier))


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """A `concurrent.futures.ThreadPoolExecutor` whose tasks run where they were submitted.

    Example:
        >>> from otel_pipeline.propagation import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as pool:
        ...     list(pool.map(len, ["a", "bc"]))
        [1, 2]
    """

    def submit(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Submit a call that continues the current trace; see the base class."""
        return super().submit(wrap(function), *args, **kwargs)


def __getattr__(name: str) -> Any:
    if name == "ProcessPoolExecutor":  # made at its first use: multiprocessing takes long to load
        from otel_pipeline.process_pool import ProcessPoolExecutor  # noqa: PLC0415

        return ProcessPoolExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def context_from(parent: object) -> Context:
    """Return the context that a carrier, span, span context or context stands for."""
    if isinstance(parent, Context):
        return parent
    if isinstance(parent, Span):
        return trace.set_span_in_context(parent, Context())
    if isinstance(parent, SpanContext):
        return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
    return extract(cast("Carrier", parent))


def link_from(source: object) -> Link | None:
    """Return a link to what a link, span, span context, context or carrier stands for, if valid."""
    if source is None:
        return None
    if isinstance(source, Link):
        return source
    context = trace.get_current_span(context_from(source)).get_span_context()
    return Link(context) if context.is_valid else None
