"""Keeps the library's own log lines few, where a program does the same thing very often."""

from __future__ import annotations

import math
import os
import threading
from typing import TYPE_CHECKING

from otel_pipeline import clock, lifecycle, semconv
from otel_pipeline.metrics import Counter

if TYPE_CHECKING:
    from otel_pipeline.lifecycle import Hooks

__all__ = ["Throttle"]

_LOGS_SUPPRESSED = Counter.from_spec(semconv.LOGS_SUPPRESSED)

#: One for all: a forked child is given one that no lost thread holds.
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603  a lock cannot be renewed in place
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Throttle:
    """Decides which lines of an event are written: the first few, and then few a second.

    It begins anew with each `configure()` and each capture of a test.

    Args:
        event: The event, one of `semconv.THROTTLED_EVENTS`.
        burst: How many lines may come at once, at the beginning.
        rate: How many lines a second may follow them.

    Metrics:
        `otel_pipeline_logs_suppressed_total` of the event.

    Example:
        >>> from otel_pipeline.throttle import Throttle
        >>> throttle = Throttle("batch_processed", burst=2, rate=0.001)
        >>> [throttle.ask() for _ in range(4)]
        [0, 0, None, None]
    """

    __slots__ = ("_burst", "_event", "_hooks", "_interval", "_left", "_next", "_suppressed")

    def __init__(self, event: str, *, burst: int, rate: float) -> None:
        self._event = event
        self._burst = burst
        self._interval = 1 / rate
        self._begin(None)

    def _begin(self, hooks: Hooks | None) -> None:
        self._hooks = hooks
        self._left = self._burst
        self._next = -math.inf
        self._suppressed = 0

    def ask(self) -> int | None:
        """Return how many lines were suppressed before this one, or None if this one is too."""
        with _lock:
            if (hooks := lifecycle.hooks()) is not self._hooks:
                self._begin(hooks)
            now = clock.perf_counter()
            if self._left or now >= self._next:
                self._left = max(self._left - 1, 0)
                self._next = now + self._interval
                suppressed, self._suppressed = self._suppressed, 0
                return suppressed
            self._suppressed += 1
        _LOGS_SUPPRESSED.labels(self._event).inc()
        return None
