"""Hooks, open blocks, and what happens between a signal and the end."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from otel_pipeline import lifecycle
from otel_pipeline.lifecycle import Hooks, SignalGuard


class Block:
    """Something open."""

    def __init__(self, ended: list[str], name: str) -> None:
        self._ended = ended
        self._name = name

    def end_early(self) -> None:
        lifecycle.closed(self)
        self._ended.append(self._name)

    def place_of_run(self) -> None:
        return None


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, object]]:
    """What the default action would be, instead of taking it."""
    seen: list[tuple[int, object]] = []
    monkeypatch.setattr(
        os, "kill", lambda _, number: seen.append((number, signal.getsignal(number)))
    )
    return seen


def guarded(finish: object, *, timeout: float = 5.0) -> None:
    """Take a SIGTERM with these hooks, as the interpreter would hand it over."""
    undo = lifecycle.install(
        Hooks(flush=lambda _: True, finish=finish, shutdown_timeout=timeout)  # type: ignore[arg-type]
    )
    guard = SignalGuard()
    guard.enter()
    try:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)
    finally:
        guard.leave()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        undo()


def test_a_signal_ends_what_is_open_then_telemetry_then_the_program(
    killed: list[tuple[int, object]],
) -> None:
    """Innermost first, on a helper thread, and the default action comes last."""
    ended: list[str] = []
    for name in ("run", "stage"):
        lifecycle.opened(Block(ended, name))

    def finish() -> None:
        assert threading.current_thread() is not threading.main_thread()
        ended.append("telemetry")

    guarded(finish)
    assert ended == ["stage", "run", "telemetry"]
    assert killed == [(signal.SIGTERM, signal.SIG_DFL)]


@pytest.mark.parametrize("what", ["hangs", "fails"])
def test_whatever_telemetry_does_the_program_ends(
    killed: list[tuple[int, object]], what: str
) -> None:
    """A shutdown that hangs is left behind when the time is over; one that fails says nothing."""
    released = threading.Event()

    def finish() -> None:
        if what == "fails":
            raise SystemExit(3)
        released.wait(30)

    guarded(finish, timeout=0.1)
    released.set()
    assert killed == [(signal.SIGTERM, signal.SIG_DFL)]


def test_a_guard_steps_back_behind_others() -> None:
    """Without hooks, in other threads, and over somebody's handler nothing is taken over."""
    guard = SignalGuard()
    guard.enter()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    undo = lifecycle.install(Hooks(flush=lambda _: True, finish=lambda: None))
    try:
        thread = threading.Thread(target=guard.enter)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        guard.enter()

        def theirs(*_: object) -> None:
            """Handle it otherwise."""

        signal.signal(signal.SIGTERM, theirs)
        guard.leave()
        assert signal.getsignal(signal.SIGTERM) is theirs
        guard.enter()
        guard.leave()
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        undo()


def test_hooks_are_undone_in_any_order() -> None:
    """An undo that comes late does not take away what came after."""
    first = lifecycle.install(Hooks(flush=lambda _: True, finish=lambda: None))
    hooks = Hooks(flush=lambda _: False, finish=lambda: None)
    second = lifecycle.install(hooks)
    first()
    assert lifecycle.hooks() is hooks
    second()
    lifecycle.install(None)
    assert lifecycle.hooks() is None
