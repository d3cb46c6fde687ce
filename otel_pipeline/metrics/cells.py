"""Where values are kept: one store for each series, exact under threads and forks.

Counters, histograms and summaries only add. Each thread adds to a cell of its own (a short list
of numbers), so the hot path needs no lock; a collect sums the cells. A store shows an instrument
its cells through `fast`, a dict from thread id to cell. A thread that is not in it takes the slow
path, under the metric's lock. That is how everything unusual costs the usual nothing: a new
thread, a counter that waits for an exemplar, a histogram that also feeds OpenTelemetry.
"""

from __future__ import annotations

import math
import numbers
import sys
from bisect import bisect_left
from operator import add, sub
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from opentelemetry.trace import get_current_span

from otel_pipeline import clock, diagnostics
from otel_pipeline.metrics.snapshots import (
    EnumPoint,
    Exemplar,
    HistogramPoint,
    InfoPoint,
    Point,
    SummaryPoint,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.metrics.snapshots import AnyPoint

__all__ = [
    "CounterStore",
    "EnumStore",
    "ExemplarFilter",
    "GaugeStore",
    "HistogramStore",
    "InfoStore",
    "Shared",
    "Store",
    "SummaryStore",
    "filter_exemplars",
    "number",
]

Number = int | float
Cell = list[Number]

#: Cells of a series before those of dead threads are folded.
_FOLD_AT: Final = 64
#: Measurements outside any sampled span before an armed store stops looking for one.
_LOOKUPS: Final = 64
_INT64: Final = 2**63


class Shared:
    """What the stores of one metric share: its name, its lock, and its way out if bridged.

    The lock is re-entrant, as a signal handler may measure while its thread holds it.
    """

    __slots__ = ("lock", "name", "record", "sums")

    def __init__(self, name: str, *, sums: bool = False) -> None:
        self.name = name
        self.sums = sums  # whether the values of a gauge add up over processes
        self.lock = RLock()
        self.record: Callable[[Number, tuple[str, ...]], None] | None = None

    def forked(self) -> None:
        """Give a forked child a lock that nobody holds."""
        self.lock = RLock()


class Store(Protocol):
    """The values of one series."""

    labels: tuple[str, ...]

    @property
    def touched(self) -> bool:
        """Whether anything was recorded since the start."""

    def point(self) -> AnyPoint | None:
        """Return the values now, and look for new exemplars from now on."""

    def take(self) -> Any:
        """Start afresh, and return what was there for `put`."""

    def put(self, state: Any) -> None:
        """Make the values what they were at `take`."""

    def slow_down(self) -> None:
        """Send every thread through the slow path once."""

    def forked(self) -> None:
        """Let a forked child begin at 0."""


def number(amount: object) -> Number:
    """Return an amount as a plain int or float, so that sums keep their precision.

    >>> number(True), number(2.5)
    (1, 2.5)
    """
    if amount.__class__ is int or amount.__class__ is float:
        return amount
    if isinstance(amount, numbers.Integral):
        return int(amount)
    if hasattr(amount, "__float__"):
        return float(amount)
    msg = f"a number is needed, not {type(amount).__name__}"
    raise TypeError(msg)


def _shown(value: Number) -> Number:
    """Return a value that fits a reader's 64 bits."""
    if value.__class__ is float or -_INT64 <= value < _INT64:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


ExemplarFilter = Literal["trace_based", "always_on", "always_off"]
_exemplar_filter: ExemplarFilter = "trace_based"


def filter_exemplars(choice: ExemplarFilter) -> Callable[[], None]:
    """Choose which measurements may become exemplars, as `OTEL_METRICS_EXEMPLAR_FILTER` does.

    Args:
        choice: `trace_based`: those inside a sampled span. `always_on`: any. `always_off`: none but
            those given as `exemplar=`.

    Returns:
        An undo.
    """
    global _exemplar_filter
    previous, _exemplar_filter = _exemplar_filter, choice

    def undo() -> None:
        global _exemplar_filter  # noqa: PLW0603
        _exemplar_filter = previous

    return undo


def _found_exemplar(value: Number) -> Exemplar | None:
    """Return an exemplar of what is measured now, or None if it may not become one."""
    if _exemplar_filter == "always_off":
        return None
    context = get_current_span().get_span_context()
    if context.is_valid and context.trace_flags.sampled:
        return Exemplar(
            _shown(value), clock.now(), f"{context.trace_id:032x}", f"{context.span_id:016x}"
        )
    return Exemplar(_shown(value), clock.now()) if _exemplar_filter == "always_on" else None


class _State(NamedTuple):
    """What a store that adds up held when it was taken."""

    totals: Cell
    handed_on: Cell
    exemplars: dict[int, Exemplar]
    touched: bool
    start: int


class _AddingStore:
    """Sums of several numbers, added to by any thread without a lock.

    Attributes:
        labels: Label values of the series.
        fast: Cells of the threads that may add without the slow path. Never replaced.
        armed: For each exemplar to find, the look-ups for a span that are left. Never replaced.
    """

    __slots__ = (
        "__weakref__",
        "_attached",
        "_base",
        "_cells",
        "_exemplars",
        "_fold_at",
        "_handed_on",
        "_touched",
        "_width",
        "armed",
        "fast",
        "labels",
        "shared",
        "start",
    )

    def __init__(
        self, shared: Shared, labels: tuple[str, ...], *, width: int, exemplars: int
    ) -> None:
        self.shared = shared
        self.labels = labels
        self.fast: dict[int, Cell] = {}
        self.armed = [_LOOKUPS] * exemplars
        self._width = width
        self._attached: list[tuple[Cell, Cell]] = []
        self._begin()

    def _begin(self) -> None:
        self.fast.clear()
        self._arm()
        self._cells: dict[int, Cell] = {}
        self._base: Cell = [0] * self._width
        self._exemplars: dict[int, Exemplar] = {}
        self._handed_on: Cell = [0] * self._width
        self._fold_at = _FOLD_AT
        self._touched = False
        self.start = clock.time_ns()

    def _arm(self) -> None:
        self.armed[:] = [_LOOKUPS] * len(self.armed)

    @property
    def touched(self) -> bool:
        """Whether anything was recorded since the start."""
        return (
            self._touched
            or bool(self._cells)
            or any(cell[0] != counted[0] for cell, counted in self._attached)
        )

    def _own_cell(self) -> Cell:
        """Return the calling thread's cell; the caller holds the lock.

        A thread id is used again once its thread is dead, and then the cell may be, too.
        """
        ident = get_ident()
        if ident not in self._cells and len(self._cells) >= self._fold_at:
            self._fold_dead()
        # A signal handler may have made the cell meanwhile: setdefault keeps that one.
        return self._cells.setdefault(ident, [0] * self._width)

    def _fold_dead(self) -> None:
        """Move the cells of dead threads into the base, so that they do not pile up."""
        # First out of reach, then the look at who is alive: a new thread with an old id either
        # is seen here, or waits for the lock and gets a new cell.
        self.fast.clear()
        alive = sys._current_frames()  # noqa: SLF001  the only list that knows foreign threads
        for ident in [ident for ident in self._cells if ident not in alive]:
            self._base[:] = map(add, self._base, self._cells.pop(ident))
            self._touched = True
        self._fold_at = max(_FOLD_AT, 2 * len(self._cells))

    def _note(self, slot: int, value: Number, exemplar: Exemplar | None) -> None:
        """Keep the given exemplar, or that of the span around while one is looked for."""
        if exemplar is None and self.armed[slot]:
            exemplar = _found_exemplar(value)
        if exemplar is not None:
            self._exemplars[slot] = exemplar
            self.armed[slot] = 0
        elif self.armed[slot]:
            self.armed[slot] -= 1

    def _totals(self) -> Cell:
        totals = self._base.copy()
        for cell in list(self._cells.values()):
            totals = list(map(add, totals, cell.copy()))
        for cell, counted in self._attached:
            totals[0] += cell[0] - counted[0]
        return totals

    def attach_cell(self, cell: Cell) -> None:
        """Count a producer's own one-element list with this series, until it is folded."""
        with self.shared.lock:
            self._attached.append((cell, [0]))

    def fold_cell(self, cell: Cell) -> None:
        """Take over what an attached cell counted, and let go of it."""
        with self.shared.lock:
            for index, entry in enumerate(self._attached):
                if entry[0] is cell:
                    self._settle(*entry)
                    del self._attached[index]
                    return

    def _settle(self, cell: Cell, counted: Cell) -> None:
        value = cell[0]
        if value != counted[0]:
            self._base[0] += value - counted[0]
            counted[0] = value
            self._touched = True

    def _restart(self) -> _State:
        for entry in self._attached:
            self._settle(*entry)
        state = _State(self._totals(), self._handed_on, self._exemplars, self.touched, self.start)
        self._begin()
        return state

    def take(self) -> _State:
        """Start afresh, and return what was there for `put`."""
        with self.shared.lock:
            return self._restart()

    def put(self, state: _State) -> None:
        """Make the values what they were at `take`."""
        with self.shared.lock:
            self._restart()
            self._base, self._handed_on, self._exemplars, self._touched, self.start = state

    def slow_down(self) -> None:
        """Send every thread through the slow path once."""
        self.fast.clear()

    def forked(self) -> None:
        """Let a forked child begin at 0; without the lock, which a lost thread may hold."""
        self._restart()


class CounterStore(_AddingStore):
    """The total of one counter series."""

    __slots__ = ()

    def __init__(self, shared: Shared, labels: tuple[str, ...]) -> None:
        super().__init__(shared, labels, width=1, exemplars=1)

    def add(self, amount: Number, exemplar: Exemplar | None = None) -> None:
        """Add an amount on the slow path, and open the fast one if no exemplar is awaited."""
        with self.shared.lock:
            cell = self._own_cell()
            cell[0] += amount
            self._note(0, amount, exemplar)
            if not self.armed[0]:
                self.fast[get_ident()] = cell

    def point(self) -> Point:
        """Return the total now, and look for a new exemplar from now on."""
        with self.shared.lock:
            value = _shown(self._totals()[0])
            self._arm()
            self.fast.clear()
            return Point(self.labels, value, self.start, self._exemplars.get(0))


class HistogramStore(_AddingStore):
    """The sum, and behind it the bucket counts, of one histogram series.

    Attributes:
        edges: Minus infinity and the buckets' upper bounds: `bisect_left` finds an amount's place
            in the cell, or 0 for the few that are told apart on the slow path.
    """

    __slots__ = ("edges",)

    def __init__(self, shared: Shared, labels: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        self.edges = (-math.inf, *bounds)
        # armed[0] stays what it is: what bisect cannot place never takes the fast path.
        super().__init__(shared, labels, width=len(bounds) + 2, exemplars=len(bounds) + 2)

    def add(self, amount: Number, exemplar: Exemplar | None = None) -> None:
        """Add an observation on the slow path, and open the fast one unless bridged."""
        index = bisect_left(self.edges, amount)
        if not index:
            index = 1 if amount == -math.inf else len(self.edges)
        with self.shared.lock:
            cell = self._own_cell()
            cell[0] += amount
            cell[index] += 1
            self._note(index, amount, exemplar)
            record = self.shared.record
            if record is None:
                self.fast[get_ident()] = cell
        if record is not None:
            record(amount, self.labels)

    def hand_on(self) -> tuple[Number, list[int]]:
        """Return what OpenTelemetry lacks when bridged: sum and counts since the last call."""
        with self.shared.lock:
            totals = self._totals()
            total, *counts = map(sub, totals, self._handed_on)
            self._handed_on = totals
            return total, list(map(int, counts))

    def point(self) -> AnyPoint:
        """Return counts and sum now, and look for new exemplars from now on."""
        with self.shared.lock:
            total, *counts = self._totals()
            self._arm()
            return HistogramPoint(
                self.labels,
                tuple(map(int, counts)),
                _shown(total),
                self.start,
                tuple(map(self._exemplars.get, range(1, len(counts) + 1))),
            )


class SummaryStore(HistogramStore):
    """Sum and count of one summary series: a histogram of a single bucket."""

    __slots__ = ()

    def __init__(self, shared: Shared, labels: tuple[str, ...]) -> None:
        super().__init__(shared, labels, ())

    def _arm(self) -> None:
        """Look for no exemplar: a summary has no place for one."""
        self.armed[1] = 0

    def point(self) -> SummaryPoint:
        """Return count and sum now."""
        with self.shared.lock:
            total, count = self._totals()
            return SummaryPoint(self.labels, int(count), _shown(total), self.start)


class GaugeStore:
    """The last value of one gauge series, or the function that knows it.

    Attributes:
        value: The value, changed under the lock.
        changed: When it was last changed by this process, in seconds since 1970; 0.0 for never.
        function: Knows the value instead.
    """

    __slots__ = ("__weakref__", "changed", "function", "labels", "shared", "start", "value")

    def __init__(self, shared: Shared, labels: tuple[str, ...]) -> None:
        self.shared = shared
        self.labels = labels
        self.function: Callable[[], float | None] | None = None
        self.value: Number = 0
        self.changed = 0.0
        self.start = clock.time_ns()

    @property
    def touched(self) -> bool:
        """Whether the gauge was set since the start."""
        return self.changed != 0.0 or self.function is not None

    def point(self) -> Point | None:
        """Return the value now, or None if its function fails or has none (`None`)."""
        function = self.function
        changed = self.changed
        if function is None:
            value = self.value
        else:
            try:
                asked = function()
                if asked is None:
                    return None
                value, changed = float(asked), clock.now()
            except Exception as error:  # noqa: BLE001  the user's function; the scrape goes on
                diagnostics.warn_once(
                    f"gauge-function:{self.shared.name}:{self.labels}",
                    "gauge %s%r is left out of /metrics, as its function failed: %r",
                    self.shared.name,
                    self.labels,
                    error,
                )
                return None
        return Point(self.labels, _shown(value), self.start, changed=changed)

    def take(self) -> tuple[Number, float]:
        """Start afresh, and return what was there for `put`."""
        with self.shared.lock:
            state = (self.value, self.changed)
            self.value, self.changed = 0, 0.0
            return state

    def put(self, state: tuple[Number, float]) -> None:
        """Make the value what it was at `take`."""
        with self.shared.lock:
            self.value, self.changed = state

    def slow_down(self) -> None:
        """Do nothing: there is one path."""

    def forked(self) -> None:
        """Show nothing in a forked child until it says something: the parent shows the value.

        The child goes on from there, unless values of several processes are added up.
        """
        self.changed = 0.0
        if self.shared.sums:
            self.value = 0


class _LastStore:
    """The last thing that was said about one series."""

    __slots__ = ("__weakref__", "changed", "labels", "shared", "value")

    def __init__(self, shared: Shared, labels: tuple[str, ...]) -> None:
        self.shared = shared
        self.labels = labels
        self.put((None, 0.0))

    def say(self, value: Any) -> None:
        """Make `value` the last thing said."""
        self.value, self.changed = value, clock.now()

    @property
    def touched(self) -> bool:
        """Whether anything was said since the start."""
        return self.value is not None

    def take(self) -> tuple[Any, float]:
        """Start afresh, and return what was there for `put`."""
        state = (self.value, self.changed)
        self.put((None, 0.0))
        return state

    def put(self, state: tuple[Any, float]) -> None:
        """Make the value what it was at `take`."""
        self.value, self.changed = state

    def slow_down(self) -> None:
        """Do nothing: there is one path."""

    def forked(self) -> None:
        """Keep the value, as the parent's: it is as true in a child."""
        self.changed = 0.0


class InfoStore(_LastStore):
    """The key-value pairs of one info series."""

    __slots__ = ()

    def point(self) -> InfoPoint:
        """Return the pairs now."""
        return InfoPoint(self.labels, self.value or {}, self.changed)


class EnumStore(_LastStore):
    """The state of one enum series; the first is the default."""

    __slots__ = ("_default",)

    def __init__(self, shared: Shared, labels: tuple[str, ...], default: str) -> None:
        super().__init__(shared, labels)
        self._default = default

    def point(self) -> EnumPoint:
        """Return the state now."""
        state = self._default if self.value is None else self.value
        return EnumPoint(self.labels, state, self.changed)
