"""One declared metric: its shape, its series, and its bridge to OpenTelemetry."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import Observation

from otel_pipeline import diagnostics
from otel_pipeline.metrics import names
from otel_pipeline.metrics.cardinality import VOCABULARY_LIMIT, Guard
from otel_pipeline.metrics.cells import (
    CounterStore,
    EnumStore,
    GaugeStore,
    HistogramStore,
    InfoStore,
    Shared,
    SummaryStore,
)
from otel_pipeline.metrics.replay import representatives
from otel_pipeline.metrics.snapshots import EnumPoint, Family, InfoPoint, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter

    from otel_pipeline.metrics.cells import Store
    from otel_pipeline.metrics.registry import Registry
    from otel_pipeline.metrics.snapshots import AnyPoint
    from otel_pipeline.semconv import Kind

__all__ = ["Metric", "Shape", "forked"]

LabelSet = tuple[str, ...]

#: Observations of one series that are handed on when a provider is adopted; each is one call.
_MOST_REPLAYED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What is declared about a metric."""

    name: str
    kind: Kind
    documentation: str
    labelnames: LabelSet = ()
    unit: str = ""
    bounds: tuple[float, ...] = ()
    states: tuple[str, ...] = ()
    multiprocess_mode: str = "mostrecent"
    label_limits: tuple[tuple[str, int], ...] = ()
    vocabulary: bool = False

    @property
    def exposed_name(self) -> str:
        """The name by which people know it on `/metrics`."""
        return names.exposed_name(self.name, self.kind)

    def family(self, points: Iterable[AnyPoint]) -> Family:
        """Return a snapshot of a metric of this shape."""
        otel_name, otel_unit = names.otel_name(self.name, self.unit, self.kind)
        return Family(
            name=self.name,
            kind=self.kind,
            documentation=self.documentation,
            unit=self.unit,
            labelnames=self.labelnames,
            points=tuple(points),
            otel_name=otel_name,
            otel_unit=otel_unit,
            bounds=self.bounds,
            states=self.states,
            multiprocess_mode=self.multiprocess_mode,
        )

    def fits(self, other: Shape) -> bool:
        """Return whether both can be the same metric."""
        return self._identity() == other._identity()

    def _identity(self) -> tuple[object, ...]:
        return (self.name, self.kind, self.labelnames, self.unit, self.bounds, self.states)

    def __str__(self) -> str:
        """Return what messages say of the metric: its kind, its name, and what was given."""
        given = {
            field: getattr(self, field) for field in ("labelnames", "unit", "bounds", "states")
        }
        parts = [f"{field}={value!r}" for field, value in given.items() if value]
        return " ".join([self.kind, self.exposed_name, *parts])


#: Every metric, for the hook that runs in forked children.
_ALL: Final[weakref.WeakSet[Metric]] = weakref.WeakSet()


class Metric:
    """A declared metric and the series that it has.

    Args:
        shape: What was declared.
        registry: Whose limit holds, and where folded label sets are counted.
    """

    def __init__(self, shape: Shape, registry: Registry) -> None:
        self.shape = shape
        self.registry = registry
        self.shared = Shared(shape.exposed_name, sums=shape.multiprocess_mode in {"sum", "livesum"})
        #: Instruments bound to a series, kept here for them. Never replaced.
        self.handles: dict[LabelSet, Any] = {}
        #: The counter of this metric's folded look-ups, once there is one; kept by them as well.
        self.overflow: Any = None
        self._stores: dict[LabelSet, Store] = {}
        #: Series that a stash put aside; one that is used again comes back.
        self._dormant: weakref.WeakValueDictionary[LabelSet, Store] = weakref.WeakValueDictionary()
        self._guard = Guard(shape.labelnames, dict(shape.label_limits))
        self._meter: Meter | None = None
        self._otel_name, self._otel_unit = names.otel_name(shape.name, shape.unit, shape.kind)
        _ALL.add(self)

    # Series

    def store(self, labels: LabelSet) -> Store:
        """Return the store of a label set, made if need be.

        Beyond the limit it is that of a label set which is partly `__other__`.

        Args:
            labels: Label values, in the order of the label names.
        """
        with self.shared.lock:
            known = self._stores.get(labels)
            if known is not None:
                return known
            limit = VOCABULARY_LIMIT if self.shape.vocabulary else self.registry.limit
            placed = self._guard.place(labels, self._stores.keys(), limit)
            return self._stores.get(placed) or self._created(placed)

    def _created(self, labels: LabelSet) -> Store:
        store = self._dormant.get(labels) or self._new_store(labels)
        self._dormant.pop(labels, None)
        self._stores[labels] = store
        self._guard.created(labels)
        return store

    def _new_store(self, labels: LabelSet) -> Store:
        match self.shape.kind:
            case "counter":
                return CounterStore(self.shared, labels)
            case "gauge":
                return GaugeStore(self.shared, labels)
            case "histogram":
                return HistogramStore(self.shared, labels, self.shape.bounds)
            case "summary":
                return SummaryStore(self.shared, labels)
            case "info":
                return InfoStore(self.shared, labels)
            case "enum":
                return EnumStore(self.shared, labels, self.shape.states[0])

    def folded_label(self, labels: LabelSet, placed: LabelSet) -> tuple[str, int]:
        """Return the widest label that was folded, and how many values it has."""
        with self.shared.lock:
            return self._guard.widest(labels, placed, self._stores.keys())

    def remove(self, matches: Callable[[LabelSet], bool]) -> None:
        """Forget the series whose label values match."""
        with self.shared.lock:
            for labels in [labels for labels in self._stores if matches(labels)]:
                del self._stores[labels]
            self._series_left()

    def _series_left(self) -> None:
        self.handles.clear()
        self._guard.forget()

    # Snapshots

    def family(self, *, touched_only: bool = False) -> Family:
        """Return the metric with all its series as they are now."""
        return self.shape.family(self._points(touched_only=touched_only))

    def _points(self, *, touched_only: bool) -> Iterator[AnyPoint]:
        for store in self._live_stores():
            if touched_only and not store.touched:
                continue
            point = store.point()
            if point is not None:
                yield point

    def _live_stores(self) -> list[Store]:
        with self.shared.lock:
            for labels, store in list(self._dormant.items()):
                if store.touched:
                    self._stores.setdefault(labels, store)
                    del self._dormant[labels]
                    self._guard.forget()
            return list(self._stores.values())

    # Starting afresh

    def stash(self) -> Callable[[], None]:
        """Start all series afresh; the returned undo brings their values back."""
        with self.shared.lock:
            saved = [(store, store.take()) for store in self._put_aside()]

        def undo() -> None:
            with self.shared.lock:
                for store in self._put_aside():
                    store.take()
                for store, state in saved:
                    store.put(state)
                    self._stores[store.labels] = store
                    self._dormant.pop(store.labels, None)

        return undo

    def _put_aside(self) -> list[Store]:
        """Return all stores; those with labels are then dormant."""
        stores = self._live_stores()
        if self.shape.labelnames:
            self._dormant.update(self._stores)
            self._stores.clear()
            self._series_left()
        return stores

    def forked(self) -> None:
        """Let a forked child count from 0, with a lock that nobody holds."""
        self.shared.forked()
        self._guard.forget()
        for store in [*self._stores.values(), *self._dormant.values()]:
            store.forked()

    # OpenTelemetry

    def bridge(self, meter: Meter | None) -> None:
        """Feed an instrument of `meter` from now on as well; None ends it.

        Counters, gauges, infos and enums are observed by the provider's own readers, so totals
        arrive whole. Histograms and summaries hand on each observation, first those of before.
        """
        if meter is self._meter:
            return
        self._meter = meter
        try:
            if self.shape.kind in {"histogram", "summary"}:
                self._record_into(meter)
            elif meter is not None:
                self._be_observed_by(meter)
        except Exception as error:  # noqa: BLE001  someone else's provider; the program goes on
            diagnostics.warn_once(
                f"bridge:{self.shape.name}",
                "%s does not go to the OpenTelemetry provider that is installed: %r",
                self.shape.exposed_name,
                error,
            )

    def _be_observed_by(self, meter: Meter) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self._meter is not meter:
                return []
            return [seen for point in self.family().points for seen in self._observations(point)]

        create = (
            meter.create_observable_counter
            if self.shape.kind == "counter"
            else meter.create_observable_gauge
        )
        create(
            self._otel_name,
            [observe],
            unit=self._otel_unit,
            description=self.shape.documentation,
        )

    def _observations(self, point: AnyPoint) -> Iterator[Observation]:
        attributes = self._attributes(point.labels)
        match point:
            case Point():
                yield Observation(point.value, attributes)
            case InfoPoint():
                yield Observation(1, {**attributes, **point.info})
            case EnumPoint():
                for state in self.shape.states:
                    yield Observation(
                        int(state == point.state), {**attributes, self.shape.name: state}
                    )

    def _attributes(self, labels: LabelSet) -> dict[str, str]:
        return dict(zip(self.shape.labelnames, labels, strict=True))

    def _record_into(self, meter: Meter | None) -> None:
        record = None if meter is None else self._recorder(meter)
        with self.shared.lock:
            # What was observed under a bridge before this one has been handed on already.
            bridged, self.shared.record = self.shared.record is not None, record
            stores = [store for store in self._live_stores() if isinstance(store, HistogramStore)]
            for store in [*stores, *self._dormant.values()]:
                store.slow_down()
            lacking = [(store.labels, store.hand_on()) for store in stores]
        if record is not None and not bridged:
            for labels, (total, counts) in lacking:
                self._replay(labels, counts, total, record)

    def _recorder(self, meter: Meter) -> Callable[[float, LabelSet], None]:
        histogram = meter.create_histogram(
            self._otel_name,
            unit=self._otel_unit,
            description=self.shape.documentation,
            explicit_bucket_boundaries_advisory=self.shape.bounds,
        )

        def record(amount: float, labels: LabelSet) -> None:
            try:
                histogram.record(amount, self._attributes(labels))
            except Exception as error:  # noqa: BLE001  as in bridge()
                diagnostics.warn_once(f"record:{self.shape.name}", "record failed: %r", error)

        return record

    def _replay(
        self,
        labels: LabelSet,
        counts: Sequence[int],
        total: float,
        record: Callable[[float, LabelSet], None],
    ) -> None:
        """Record what was observed before, exact in its bucket counts and its sum."""
        if sum(counts) > _MOST_REPLAYED:
            diagnostics.warn_once(
                f"replay:{self.shape.name}",
                "%s: more than %d observations before an OpenTelemetry provider was adopted do "
                "not go there; call configure() earlier",
                self.shape.exposed_name,
                _MOST_REPLAYED,
            )
            return
        for value, count in representatives(counts, self.shape.bounds, total):
            for _ in range(count):
                record(value, labels)


def forked() -> None:
    """Let every metric of a forked child count from 0."""
    for metric in list(_ALL):
        metric.forked()
