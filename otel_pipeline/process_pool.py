"""The process pool of `otel_pipeline.propagation`."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from opentelemetry import context as otel_context

from otel_pipeline.propagation import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["ProcessPoolExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class ProcessPoolExecutor(concurrent.futures.ProcessPoolExecutor):
    """A `concurrent.futures.ProcessPoolExecutor` whose tasks run where they were submitted.

    A task's stages belong to the trace of the code that submitted it, and its log lines carry that
    code's `pipeline`, `stage` and `run_id`. The workers need no `configure()`, whatever the start
    method; what they count is summed up on `/metrics`.

    Example:
        >>> from otel_pipeline.propagation import ProcessPoolExecutor
        >>> with ProcessPoolExecutor(1) as pool:
        ...     list(pool.map(len, ["a", "bc"]))
        [1, 2]
    """

    def submit(
        self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Submit a call that continues the current trace; see the base class."""
        return super().submit(_run_at, Place.here(), function, args, kwargs)


def _run_at(
    place: Place, function: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> T:
    token = otel_context.attach(place.context())
    try:
        return function(*args, **kwargs)
    finally:
        otel_context.detach(token)
