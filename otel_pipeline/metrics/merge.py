"""The metrics of several processes as one: what adds up, and what becomes of gauges.

Counters, histograms and summaries add up. A gauge's values become one as its multiprocess mode
says; the modes are prometheus_client's. Snapshots travel between processes as JSON.
"""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from operator import add
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from otel_pipeline import diagnostics
from otel_pipeline.metrics.cardinality import DEFAULT_LIMIT, Guard
from otel_pipeline.metrics.snapshots import (
    EnumPoint,
    Exemplar,
    Family,
    HistogramPoint,
    InfoPoint,
    Point,
    SummaryPoint,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_pipeline.metrics.snapshots import AnyPoint
    from otel_pipeline.semconv import Kind

__all__ = ["Limits", "Snapshot", "default_limits", "dump", "load", "merge"]


#: How many label sets a family may have, and how many values some of its labels may take.
Limits = tuple[int, "Mapping[str, int]"]


class Snapshot(NamedTuple):
    """What one process has, or all that have ended.

    Attributes:
        families: Its metrics.
        pid: The process, or None for those that have ended.
        alive: Whether it is running.
    """

    families: Sequence[Family]
    pid: int | None = None
    alive: bool = True


#: The most label sets of a metric that tells processes apart by a label `pid`.
_MOST_PIDS: Final = 100


def default_limits(_name: str) -> Limits:
    """Return the limits of a family of which nothing is known."""
    return DEFAULT_LIMIT, {}


def merge(
    snapshots: Iterable[Snapshot], limits_of: Callable[[str], Limits] = default_limits
) -> list[Family]:
    """Return the metrics of several processes as those of one.

    Args:
        snapshots: What each process has. The first to show a metric decides its place and text.
        limits_of: By the name of a family, how many label sets it may have before labels are
            folded, and how many values a label may take; see `cardinality`.

    Returns:
        The families. What was merged can be merged again with more.

    >>> from otel_pipeline.metrics.snapshots import Family, Point
    >>> jobs = Family("jobs", "counter", "", "", (), (Point((), 2, 0),), "jobs", "")
    >>> merge([Snapshot([jobs]), Snapshot([jobs])])[0].points[0].value
    4
    """
    metrics: dict[tuple[bool, str], _Metric] = {}
    for snapshot in snapshots:
        for family in snapshot.families:
            shown = _as_shown(family, snapshot)
            if shown is None:
                continue
            key = (shown.from_sdk, shown.name)
            if key not in metrics:
                metrics[key] = _Metric(shown, limits_of(shown.name))
            metrics[key].add(shown)
    return [family for metric in metrics.values() for family in metric.families()]


def _as_shown(family: Family, snapshot: Snapshot) -> Family | None:
    """Return a family as it enters the sum; None if it ended with its process."""
    mode = family.multiprocess_mode
    if family.kind != "gauge" or mode in _GAUGES:
        return family
    if mode.startswith("live"):
        if not snapshot.alive:
            return None
        mode = mode.removeprefix("live")
    if mode != "all" or "pid" in family.labelnames:
        return replace(family, multiprocess_mode=mode)
    # From here on it is told apart by its label.
    pid = str(snapshot.pid)
    points = [
        replace(point, labels=(*point.labels, pid))
        for point in cast("tuple[Point, ...]", family.points)
    ]
    return replace(
        family,
        labelnames=(*family.labelnames, "pid"),
        points=tuple(points),
        multiprocess_mode=mode,
    )


class _Metric:
    """What has one name; OpenTelemetry's instruments allow it several families."""

    def __init__(self, head: Family, limits: Limits) -> None:
        self._head = head
        self._limits = limits
        self._sums: dict[tuple[tuple[str, ...], tuple[float, ...]], _Sum] = {}

    def add(self, family: Family) -> None:
        shape = (family.labelnames, family.bounds)
        fits = (family.kind, family.states) == (self._head.kind, self._head.states) and (
            family.from_sdk or shape == (self._head.labelnames, self._head.bounds)
        )
        points = family.points
        if fits:
            rivals = [
                other
                for (labelnames, bounds), other in self._sums.items()
                if labelnames == family.labelnames and bounds != family.bounds
            ]
            points = tuple(
                [point for point in points if not any(other.has(point.labels) for other in rivals)]
            )
            if shape not in self._sums:
                self._sums[shape] = _Sum(family, *self._limits)
            self._sums[shape].add(points)
        if not fits or len(points) != len(family.points):
            diagnostics.warn_once(
                f"merge:{family.name}",
                "metric %r is declared otherwise in another process of this service (kind, labels, "
                "buckets or states): /metrics shows the values of some processes only",
                family.name,
            )

    def families(self) -> list[Family]:
        return [each.family() for each in self._sums.values()]


class _Sum:
    """One family of the result while it is being made."""

    def __init__(self, head: Family, limit: int, label_limits: Mapping[str, int]) -> None:
        self._head = head
        self._join = _JOINERS.get(head.kind) or _GAUGES.get(head.multiprocess_mode, _newer)
        self._points: dict[tuple[str, ...], AnyPoint] = {}
        if head.kind == "gauge" and head.multiprocess_mode == "all":
            label_limits = {"pid": _MOST_PIDS, **label_limits}
        self._guard = Guard(head.labelnames, label_limits)
        self._limit = limit

    def has(self, labels: tuple[str, ...]) -> bool:
        return labels in self._points

    def add(self, points: Iterable[AnyPoint]) -> None:
        for point in points:
            labels = point.labels
            if labels not in self._points:
                labels = self._guard.place(labels, self._points.keys(), self._limit)
            placed = point if labels == point.labels else _moved(point, labels)
            known = self._points.get(labels)
            if known is None:
                self._guard.created(labels)
                self._points[labels] = placed
            else:
                self._points[labels] = self._join(known, placed)

    def family(self) -> Family:
        return replace(self._head, points=tuple(self._points.values()))


def _moved(point: AnyPoint, labels: tuple[str, ...]) -> AnyPoint:
    return replace(point, labels=labels)


def _sum_counters(old: Point, new: Point) -> Point:
    return Point(
        old.labels,
        old.value + new.value,
        min(old.start, new.start),
        _latest(old.exemplar, new.exemplar),
    )


def _sum_histograms(old: HistogramPoint, new: HistogramPoint) -> HistogramPoint:
    return HistogramPoint(
        old.labels,
        tuple(map(add, old.counts, new.counts)),
        old.sum + new.sum,
        min(old.start, new.start),
        tuple(map(_latest, old.exemplars, new.exemplars)),
    )


def _sum_summaries(old: SummaryPoint, new: SummaryPoint) -> SummaryPoint:
    return SummaryPoint(
        old.labels, old.count + new.count, old.sum + new.sum, min(old.start, new.start)
    )


def _latest(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return other if other.time > one.time else one


def _newer(old: Any, new: Any) -> Any:
    """Return what was set last; what was never set gives way to everything else."""
    return new if new.changed > old.changed else old


def _of_set(choose: Callable[[float, float], float]) -> Callable[[Point, Point], Point]:
    """Return what joins two values of a gauge, of which one that was never set is none."""

    def join(old: Point, new: Point) -> Point:
        if not (old.changed and new.changed):
            return _newer(old, new)  # type: ignore[no-any-return]
        value = choose(old.value, new.value)
        return Point(old.labels, value, old.start, changed=max(old.changed, new.changed))

    return join


_JOINERS: Final[dict[Kind, Callable[[Any, Any], AnyPoint]]] = {
    "counter": _sum_counters,
    "histogram": _sum_histograms,
    "summary": _sum_summaries,
    "info": _newer,
    "enum": _newer,
}
_GAUGES: Final[dict[str, Callable[[Any, Any], AnyPoint]]] = {
    "sum": _of_set(add),
    "max": _of_set(lambda one, other: other if other > one or isnan(one) else one),
    "min": _of_set(lambda one, other: other if other < one or isnan(one) else one),
    "mostrecent": _newer,
}


# --- JSON -----------------------------------------------------------------------------------------

_HEAD: Final = (
    "name",
    "kind",
    "documentation",
    "unit",
    "labelnames",
    "otel_name",
    "otel_unit",
    "bounds",
    "states",
    "multiprocess_mode",
    "from_sdk",
)


def dump(families: Iterable[Family]) -> list[Any]:
    """Return families as what JSON can hold.

    >>> import json
    >>> from otel_pipeline.metrics.snapshots import Family, Point
    >>> jobs = Family("jobs", "counter", "", "", (), (Point((), 2, 0),), "jobs", "")
    >>> load(json.loads(json.dumps(dump([jobs])))) == [jobs]
    True
    """
    return [
        [[getattr(family, name) for name in _HEAD], [_dumped(point) for point in family.points]]
        for family in families
    ]


def _dumped(point: AnyPoint) -> list[Any]:
    match point:
        case Point():
            exemplar = _dumped_exemplar(point.exemplar)
            return [point.labels, point.value, point.start, exemplar, point.changed]
        case HistogramPoint():
            exemplars = [_dumped_exemplar(exemplar) for exemplar in point.exemplars]
            return [point.labels, point.counts, point.sum, point.start, exemplars]
        case SummaryPoint():
            return [point.labels, point.count, point.sum, point.start]
        case InfoPoint():
            return [point.labels, dict(point.info), point.changed]
        case EnumPoint():
            return [point.labels, point.state, point.changed]


def _dumped_exemplar(exemplar: Exemplar | None) -> list[Any] | None:
    if exemplar is None:
        return None
    return [
        exemplar.value, exemplar.time, exemplar.trace_id, exemplar.span_id, exemplar.labels,
    ]  # fmt: skip


def load(dumped: Iterable[Any]) -> list[Family]:
    """Return what `dump` was given."""
    families = []
    for head, points in dumped:
        fields = dict(zip(_HEAD, map(_tupled, head), strict=True))
        make = _LOADERS[fields["kind"]]
        loaded = tuple([make(tuple(labels), *rest) for labels, *rest in points])
        families.append(Family(points=loaded, **fields))
    return families


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _loaded_exemplar(dumped: list[Any] | None) -> Exemplar | None:
    if dumped is None:
        return None
    value, time, trace_id, span_id, labels = dumped
    pairs = tuple([(name, text) for name, text in labels])
    return Exemplar(value, time, trace_id, span_id, pairs)


def _loaded_number(
    labels: tuple[str, ...], value: float, start: int, exemplar: Any, changed: float
) -> Point:
    return Point(labels, value, start, _loaded_exemplar(exemplar), changed)


def _loaded_histogram(
    labels: tuple[str, ...], counts: list[int], total: float, start: int, exemplars: list[Any]
) -> HistogramPoint:
    found = tuple(map(_loaded_exemplar, exemplars))
    return HistogramPoint(labels, tuple(counts), total, start, found)


_LOADERS: Final[dict[str, Callable[..., AnyPoint]]] = {
    "counter": _loaded_number,
    "gauge": _loaded_number,
    "histogram": _loaded_histogram,
    "summary": SummaryPoint,
    "info": InfoPoint,
    "enum": EnumPoint,
}
