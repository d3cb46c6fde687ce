"""The time as the library sees it: the system's, or a test's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock", "current", "install", "perf_counter", "stopwatch", "time_ns"]

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """A source of time.

    Attributes:
        time_ns: Returns nanoseconds since 1970.
        perf_counter: Returns seconds since some moment, never going back.
    """

    time_ns: Callable[[], int] = time.time_ns
    perf_counter: Callable[[], float] = time.perf_counter


#: The clock that is read. The functions below read it; what is called very often does so itself.
current = Clock()


def time_ns() -> int:
    """Return the time in nanoseconds since 1970."""
    return current.time_ns()


def now() -> float:
    """Return the time in seconds since 1970."""
    return current.time_ns() / _NANOSECONDS


def perf_counter() -> float:
    """Return seconds since some moment, for durations."""
    return current.perf_counter()


def stopwatch() -> Callable[[], float]:
    """Return what reads the clock of this moment as `perf_counter` does, for many short times."""
    return current.perf_counter


def install(clock: Clock) -> Callable[[], None]:
    """Let the library read `clock` and return the undo."""
    global current
    previous, current = current, clock

    def undo() -> None:
        global current  # noqa: PLW0603
        current = previous

    return undo
