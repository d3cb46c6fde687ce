"""Measure several ways to do the same thing in turn, so that a busy machine disturbs all alike."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Benchmark", "Result", "Side", "Work", "benchmark", "inside", "run"]

#: Does something so many times. It may return the seconds that count, instead of all it took.
Work = Callable[[int], float | None]

#: Seconds of one repetition. Four threads need several of the interpreter's turns of 5 ms each.
_REPETITION: Final = {1: 0.005, 4: 0.04}
_FEWEST_ROUNDS: Final = 5
_MOST_ROUNDS: Final = 101


@dataclass(frozen=True)
class Side:
    """One of those that are compared.

    Attributes:
        name: What it is called in the table.
        work: What is timed.
        goal: The library's own side may cost at most so many times this one; None for no goal.
        over: What `work` does besides, timed as well and taken off.
        context: The context in which both run; the current one by default.
        after: Follows each repetition and is not timed.
        flaw: Says what the time does not, such as lost items; then a goal is missed. Else "".
    """

    name: str
    work: Work
    goal: float | None = None
    over: Work | None = None
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    after: Callable[[], object] = lambda: None
    flaw: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Benchmark:
    """One operation.

    Attributes:
        name: For `--only`.
        title: For the table.
        sides: Sets up those that are compared, the library's own first, and undoes it.
        threads: In how many threads it is measured.
        least: Fewest operations in a repetition.
        most: Most operations in a repetition.
    """

    name: str
    title: str
    sides: Callable[[], contextlib.AbstractContextManager[list[Side]]]
    threads: tuple[int, ...]
    least: int
    most: int


def benchmark(
    name: str,
    title: str,
    *,
    threads: tuple[int, ...] = (1, 4),
    least: int = 1,
    most: int = 1_000_000,
) -> Callable[[Callable[[], Iterator[list[Side]]]], Benchmark]:
    """Make a `Benchmark` of a generator function that yields the sides once."""

    def make(sides: Callable[[], Iterator[list[Side]]]) -> Benchmark:
        return Benchmark(name, title, contextlib.contextmanager(sides), threads, least, most)

    return make


@dataclass(frozen=True)
class Result:
    """The library's own side beside one peer; costs are nanoseconds of one operation.

    Attributes:
        name: The benchmark's.
        title: The benchmark's.
        threads: In how many threads each ran.
        rounds: How often each was measured.
        ours: Median of the library's own cost.
        peer: Name of the other.
        theirs: Median of its cost.
        ratio: The median of each round's ratio.
        ratio_of_minima: Of the lowest costs.
        quartiles: Of each round's ratio: what the machine's noise did.
        goal: The ratio to reach, or None.
        flaw: Why the goal is missed whatever the ratio, or "".
    """

    name: str
    title: str
    threads: int
    rounds: int
    ours: float
    peer: str
    theirs: float
    ratio: float
    ratio_of_minima: float
    quartiles: tuple[float, float]
    goal: float | None
    flaw: str

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return None if self.goal is None else self.ratio <= self.goal and not self.flaw


class _Track:
    """The costs of one side, round by round."""

    def __init__(self, side: Side, threads: int, least: int, most: int) -> None:
        self.side = side
        self._threads = threads
        self._works = [side.work] if side.over is None else [side.work, side.over]
        self._costs: list[list[float]] = [[] for _ in self._works]
        self._counts = [self._calibrated(work, least, most) for work in self._works]

    def _calibrated(self, work: Work, least: int, most: int) -> int:
        """Return how many operations take about the time of a repetition; warms up as well."""
        wanted = _REPETITION[self._threads] * 1e9
        count = least
        while True:
            spent = self._cost(work, count) * count
            if spent > wanted / 4 or count >= most:
                return max(least, min(most, int(count * wanted / spent)))
            count = min(count * 4, most)

    def _cost(self, work: Work, count: int) -> float:
        seconds = _timed(work, count, self._threads, self.side.context)
        self.side.after()
        return seconds * 1e9 / count

    def measure(self) -> None:
        """Add a round."""
        for work, count, costs in zip(self._works, self._counts, self._costs, strict=True):
            costs.append(self._cost(work, count))

    def cost(self, pick: Callable[[list[float]], float]) -> float:
        """Return the cost that `pick` takes of the rounds, less that of `over`."""
        work, *over = map(pick, self._costs)
        return work - sum(over)

    def rounds(self) -> list[float]:
        """Return the cost of each round."""
        return [costs[0] - sum(costs[1:]) for costs in zip(*self._costs, strict=True)]


def _timed(work: Work, count: int, threads: int, context: contextvars.Context) -> float:
    """Return the seconds that `count` operations take, shared by several threads."""
    if threads == 1:
        since = time.perf_counter()
        said = context.copy().run(work, count)
        return time.perf_counter() - since if said is None else said
    barrier = threading.Barrier(threads)
    times: list[float] = []

    def share() -> None:
        barrier.wait()
        times.append(time.perf_counter())
        work(max(count // threads, 1))
        times.append(time.perf_counter())

    workers = [threading.Thread(target=context.copy().run, args=(share,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(times) - min(times)


def run(one: Benchmark, threads: int, seconds: float) -> list[Result]:
    """Measure a benchmark and compare the library's own side with each other one.

    Args:
        one: The benchmark.
        threads: In how many threads.
        seconds: About how long, but at least 5 rounds.
    """
    with one.sides() as sides:
        tracks = [_Track(side, threads, one.least, one.most) for side in sides]
        gc.collect()
        gc.freeze()  # what the set-up left is no work of those that are measured
        until = time.perf_counter() + seconds
        rounds = 0
        while rounds < _FEWEST_ROUNDS or (rounds < _MOST_ROUNDS and time.perf_counter() < until):
            for track in tracks if rounds % 2 == 0 else reversed(tracks):
                track.measure()
            rounds += 1
        gc.unfreeze()
        ours, *peers = tracks
        return [_compared(one, threads, rounds, ours, peer) for peer in peers]


def _compared(one: Benchmark, threads: int, rounds: int, ours: _Track, peer: _Track) -> Result:
    singles = [a / b for a, b in zip(ours.rounds(), peer.rounds(), strict=True)]
    low, middle, high = statistics.quantiles(singles, n=4)
    return Result(
        name=one.name,
        title=one.title,
        threads=threads,
        rounds=rounds,
        ours=ours.cost(statistics.median),
        peer=f"{peer.side.name} ({flaw})" if (flaw := peer.side.flaw()) else peer.side.name,
        theirs=peer.cost(statistics.median),
        ratio=middle,
        ratio_of_minima=ours.cost(min) / peer.cost(min),
        quartiles=(low, high),
        goal=peer.side.goal,
        flaw=ours.side.flaw(),
    )


def inside(
    stack: contextlib.ExitStack, manager: contextlib.AbstractContextManager[object]
) -> contextvars.Context:
    """Enter `manager` in a context of its own, and leave it there when `stack` is closed."""
    context = contextvars.copy_context()
    context.run(manager.__enter__)
    stack.callback(context.run, manager.__exit__, None, None, None)
    return context
