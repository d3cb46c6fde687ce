"""What is open in this process, and how it ends: hooks, signals and forks.

`pipeline.py` knows no SDK. What a run needs of it (a flush, an end in time) is handed over here by
`configure()`, and taken back by `shutdown()`.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from opentelemetry.context import Context

    from otel_pipeline.quality.lineage.model import JobRun
    from otel_pipeline.quality.lineage.names import DatasetName

__all__ = [
    "Hooks",
    "Lineage",
    "Openable",
    "SignalGuard",
    "close_all",
    "ending",
    "guard_process",
    "hooks",
    "install",
    "place_of_run",
    "process_generation",
]


class Openable(Protocol):
    """A run, stage or batch that can be ended from outside."""

    def end_early(self) -> None:
        """End as cancelled (or interrupted); never raises."""

    def place_of_run(self) -> Context | None:
        """Return the context of the code inside, if this is a run."""


class Lineage(Protocol):
    """Keeps what stages say of their datasets, and sends it."""

    @property
    def namespace(self) -> str:
        """Where the pipelines, and datasets of a bare name, belong."""

    def put(self, run: JobRun) -> None:
        """Take what a run or stage has to tell; never blocks or raises."""

    def last_writer(self, name: DatasetName) -> tuple[str, str] | None:
        """Return trace and span id (hex digits) of a dataset's last writer; never raises."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the running telemetry offers to runs.

    Attributes:
        flush: Flushes all signals within so many seconds; at once while the collector is away.
        finish: Ends telemetry within the shutdown timeout.
        shutdown_timeout: Seconds that the end of the program may take.
        signals: Whether runs may end cleanly on SIGTERM.
        parent: The context of the process that started this one, if it handed one over.
        redact: Masks secrets in a span attribute, where the exporter is not ours to do it.
        captures: Whether a test captures telemetry, so that none may leave the process.
        lineage: Takes what stages read and write, or None where nobody wants it.
    """

    flush: Callable[[float], object]
    finish: Callable[[], object]
    shutdown_timeout: float = 5.0
    signals: bool = True
    parent: Context | None = None
    redact: Callable[[str, Any], Any] | None = None
    captures: bool = False
    lineage: Lineage | None = None


_hooks: Hooks | None = None
_generation = 0
_open: dict[int, Openable] = {}
_place_of_parent: Context | None = None


def hooks() -> Hooks | None:
    """Return what the running telemetry offers, or None before `configure()`."""
    return _hooks


def install(new: Hooks | None) -> Callable[[], None]:
    """Make `new` the hooks of the process and return the undo."""
    global _hooks
    previous, _hooks = _hooks, new

    def undo() -> None:
        global _hooks  # noqa: PLW0603
        if _hooks is new:
            _hooks = previous

    return undo


def process_generation() -> int:
    """Return a number that differs between a process and its forked children."""
    return _generation


def opened(block: Openable) -> None:
    """Remember that `block` is open."""
    _open[id(block)] = block


def closed(block: Openable) -> bool:
    """Forget `block`; tells whether it was open, so that exactly one caller ends it."""
    return _open.pop(id(block), None) is not None


def place_of_run() -> Context | None:
    """Return the context inside the run that is open, or was when this process was forked.

    Returns:
        None if there are none or several.
    """
    places = [block.place_of_run() for block in list(_open.values())]
    found = [place for place in places if place is not None]
    return found[0] if len(found) == 1 else _place_of_parent if not found else None


def close_all() -> None:
    """End everything that is still open, innermost first."""
    for block in reversed(list(_open.values())):
        block.end_early()


class SignalGuard:
    """While a run is open, lets SIGTERM end the run and flush before it ends the program.

    Only in the main thread and only over the default action. The work is done by a helper thread
    while the interrupted code stands still, so that a lock which that code holds can delay the end
    by the shutdown timeout at most; then the default action follows, and the exit status is the
    signal's. SIGINT needs no guard: Python turns it into KeyboardInterrupt, which ends the run.
    """

    __slots__ = ("_guards",)

    def __init__(self) -> None:
        self._guards = False

    def enter(self) -> None:
        """Take over SIGTERM if nobody else has."""
        current = _hooks
        if (
            current is None
            or not current.signals
            or threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        ):
            return
        signal.signal(signal.SIGTERM, _on_sigterm)
        self._guards = True

    def leave(self) -> None:
        """Restore the default action, unless someone else has taken over meanwhile."""
        if not self._guards or threading.current_thread() is not threading.main_thread():
            return
        self._guards = False
        if signal.getsignal(signal.SIGTERM) == _on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def guard_process() -> None:
    """Let SIGTERM end this process cleanly from now on, as `SignalGuard` does during a run."""
    SignalGuard().enter()


_ends = 0
_waiting_signal: int | None = None


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Let the code inside, which ends telemetry, be done before SIGTERM ends the program."""
    global _ends  # noqa: PLW0603
    _ends += 1
    try:
        yield
    finally:
        _ends -= 1
        if not _ends and _waiting_signal is not None:
            os.kill(os.getpid(), _waiting_signal)


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    global _waiting_signal  # noqa: PLW0603
    current = _hooks
    if _ends:
        # This may be the very thread that does it, so it cannot be waited for here.
        _waiting_signal = number
        signal.signal(number, signal.SIG_DFL)  # a second one is not waited for
        return
    if current is not None:
        # Not threading.Thread: its start takes a lock that the interrupted code may hold.
        done = _thread.allocate_lock()
        done.acquire()
        _thread.start_new_thread(_end_program, (current, done))
        done.acquire(timeout=current.shutdown_timeout + 0.25)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end_program(current: Hooks, done: _thread.LockType) -> None:
    try:
        close_all()
        current.finish()
    except BaseException:  # noqa: BLE001, S110  the process is ending by a signal: nothing may stop that
        pass
    finally:
        done.release()


def _in_child() -> None:
    global _generation, _ends, _place_of_parent, _waiting_signal  # noqa: PLW0603
    _generation += 1
    _place_of_parent = place_of_run()
    _open.clear()
    _ends, _waiting_signal = 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
