"""What processes that `multiprocessing` starts get from this one, and how they end.

Such a child runs no `atexit` handlers, so it would lose what it has not sent; started by `spawn` or
`forkserver` it knows nothing of the configuration, and of the trace. What it needs travels with the
`Process` object, which multiprocessing copies from parent to child in each of its ways:

- A process object takes over the settings of the process that makes it (`_config`). Among them is a
  `_Handover`, which becomes what the child needs at the moment when it is pickled for it.
- `multiprocessing.util` runs hooks in each new child, and finalizers at its end.
"""

from __future__ import annotations

import functools
from multiprocessing import context, process, util
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context

from otel_pipeline import lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.propagation import Place
    from otel_pipeline.telemetry import Telemetry

__all__ = ["Handed", "follow"]

_KEY = "otel_pipeline"
#: After everything else that ends with a child, so that it is still seen.
_LAST = -1_000_000


#: What a child gets that does not share its parent's memory: what sets telemetry up there as it is
#: here, and the place in the trace where the child was started.
Handed = tuple["Callable[[], object]", "Place"]


#: Returns what a child needs at the moment when it is started; None while nothing runs.
_hand_over: Callable[[], Handed | None] | None = None


class _Handover:
    """Stands in a process's settings, and arrives in a child that does not share its memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        starting = context.get_spawning_popen()
        handed = None if _hand_over is None or starting is None else _hand_over()
        return _arrive, (handed, starting is not None and starting.method == "spawn")


def _arrive(handed: Handed | None, spawned: bool) -> _Handover:  # noqa: FBT001  it is pickled
    """Begin in a child, once multiprocessing has prepared it."""
    handover = _Handover()
    if handed is not None:
        begin = functools.partial(_begin, handed)
        if spawned:
            begin(handover)
        else:  # a fork of the server, which will forget what its parent was to do
            util.register_after_fork(handover, begin)
    return handover


def _begin(handed: Handed, _: _Handover) -> None:
    configure, place = handed
    configure()
    otel_context.attach(place.context())


def follow(telemetry: Telemetry, hand_over: Callable[[], Handed | None]) -> Callable[[], None]:
    """Let the children of this process have telemetry, too, and end it when they end.

    Args:
        telemetry: What runs here.
        hand_over: Returns what a child needs at the moment when it is started, or None for nothing.

    Returns:
        The undo.
    """
    global _hand_over  # noqa: PLW0603  one telemetry per process
    _hand_over = hand_over
    current = process.current_process()
    current._config.setdefault(_KEY, _Handover())  # type: ignore[attr-defined]  # noqa: SLF001
    util.register_after_fork(telemetry, _begin_forked)
    if process.parent_process() is not None or hasattr(current, "_inheriting"):
        _ends_with_process(telemetry)  # this is a child of multiprocessing itself

    def undo() -> None:
        global _hand_over  # noqa: PLW0603
        if _hand_over is hand_over:
            _hand_over = None

    return undo


def _begin_forked(telemetry: Telemetry) -> None:
    """Begin in a child that has its parent's memory, and the context of the thread that forked."""
    place = None if otel_context.get_current() else lifecycle.place_of_run()
    if place:
        otel_context.attach(place)
    _ends_with_process(telemetry)


def _ends_with_process(telemetry: Telemetry) -> None:
    """End telemetry when this child of multiprocessing ends, also by SIGTERM."""
    util.Finalize(None, telemetry.shutdown, exitpriority=_LAST)
    lifecycle.guard_process()
