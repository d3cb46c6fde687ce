"""Context managers that measure a block, and decorators that measure each call.

All of them can be entered again while they are entered, and wrap async functions as well: then
the whole await is measured.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

from otel_pipeline import clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

__all__ = ["ExceptionCounter", "InprogressTracker", "Timer"]

F = TypeVar("F", bound="Callable[..., Any]")


class _Labelled(Protocol):
    def labels(self, *labelvalues: object, **labelkwargs: object) -> Self: ...


M = TypeVar("M", bound=_Labelled)


def _wrapped(function: F, block: Callable[[], AbstractContextManager[Any]]) -> F:
    """Return a function that runs each call of `function` inside a new block."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def measured_async(*args: Any, **kwargs: Any) -> Any:
            with block():
                return await function(*args, **kwargs)

        return cast("F", measured_async)

    @functools.wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return cast("F", measured)


class Timer(Generic[M]):
    """Measures the seconds that a block or each call of a function takes.

    Attributes:
        duration: Seconds that the last block took, or None before its end.
    """

    def __init__(self, metric: M, callback: Callable[[M, float], None]) -> None:
        self._metric = metric
        self._callback = callback
        self._starts: list[float] = []
        self.duration: float | None = None

    def __enter__(self) -> Self:
        """Start to measure."""
        self._starts.append(clock.perf_counter())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Report the seconds, also when the block failed."""
        self.duration = max(clock.perf_counter() - self._starts.pop(), 0)
        self._callback(self._metric, self.duration)

    def labels(self, *labelvalues: object, **labelkwargs: object) -> None:
        """Choose the labels while the block runs: for a timer of a metric's parent."""
        self._metric = self._metric.labels(*labelvalues, **labelkwargs)

    def __call__(self, function: F) -> F:
        """Return `function`, each call of which is measured."""
        return _wrapped(function, lambda: Timer(self._metric, self._callback))


class _Counting(Protocol):
    def inc(self, amount: float = 1) -> None: ...

    def dec(self, amount: float = 1) -> None: ...


class InprogressTracker:
    """Counts up while a block or a call runs."""

    def __init__(self, gauge: _Counting) -> None:
        self._gauge = gauge

    def __enter__(self) -> None:
        """Count one more."""
        self._gauge.inc()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count one less."""
        self._gauge.dec()

    def __call__(self, function: F) -> F:
        """Return `function`, each call of which is counted while it runs."""
        return _wrapped(function, lambda: self)


class ExceptionCounter:
    """Counts exceptions that leave a block or a call, and lets them pass."""

    def __init__(
        self,
        inc: Callable[[], None],
        exception: type[BaseException] | tuple[type[BaseException], ...],
    ) -> None:
        self._inc = inc
        self._exception = exception

    def __enter__(self) -> None:
        """Watch the block."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count the exception if it is of a type that counts."""
        if isinstance(exc, self._exception):
            self._inc()

    def __call__(self, function: F) -> F:
        """Return `function`, the exceptions of which are counted."""
        return _wrapped(function, lambda: self)
