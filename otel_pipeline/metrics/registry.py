"""The registry: every declared metric, and the snapshot of all of them."""

from __future__ import annotations

import os
import weakref
from threading import RLock
from typing import TYPE_CHECKING, Final

from otel_pipeline import diagnostics, semconv
from otel_pipeline.errors import DuplicateMetricError
from otel_pipeline.metrics import metric as metrics
from otel_pipeline.metrics import names
from otel_pipeline.metrics.cardinality import DEFAULT_LIMIT, VOCABULARY_LIMIT
from otel_pipeline.metrics.metric import Metric, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.metrics import Meter

    from otel_pipeline.metrics.snapshots import Family
    from otel_pipeline.semconv import MetricSpec

__all__ = ["REGISTRY", "Registry", "vocabulary_shape"]


def vocabulary_shape(spec: MetricSpec) -> Shape:
    """Return the shape of a metric of the vocabulary."""
    suffix = names.exposed_name("", spec.kind)
    return Shape(
        name=spec.name.removesuffix(suffix),
        kind=spec.kind,
        documentation=spec.doc,
        labelnames=spec.labels,
        unit=spec.unit,
        bounds=spec.bounds,
        multiprocess_mode=spec.multiprocess,
        label_limits=spec.label_limits,
        vocabulary=True,
    )


_VOCABULARY: Final = [vocabulary_shape(spec) for spec in semconv.ALL_METRICS]

#: What no user's metric may be called: series of the vocabulary, and of the page itself.
_OWNED: Final = {
    series: shape for shape in _VOCABULARY for series in names.series_names(shape.name, shape.kind)
}
_VOCABULARY_BY_NAME: Final = {shape.name: shape for shape in _VOCABULARY}
_PAGE_SERIES: Final = frozenset({"target", "target_info"})

_REGISTRIES: Final[weakref.WeakSet[Registry]] = weakref.WeakSet()


class Registry:
    """All metrics of a program, by name.

    Attributes:
        limit: Label sets that a metric may have before labels are folded.

    >>> registry = Registry()
    >>> registry.collect()
    []
    """

    def __init__(self) -> None:
        self.limit = DEFAULT_LIMIT
        self._lock = RLock()
        self._metrics: dict[str, Metric] = {}
        self._series: dict[str, Metric] = {}
        self._sources: list[Callable[[], Iterable[Family]]] = []
        self._meter: Meter | None = None
        _REGISTRIES.add(self)

    def declare(self, shape: Shape) -> Metric:
        """Return the metric of this shape, the same one for the same name.

        Args:
            shape: What is declared.

        Returns:
            The metric, new or known.

        Raises:
            DuplicateMetricError: The name belongs to a metric of another shape.
        """
        shape = _as_vocabulary(shape)
        series = names.series_names(shape.name, shape.kind)
        with self._lock:
            for name in series:
                known = self._series.get(name)
                if known is not None and known.shape.fits(shape):
                    return known
                if known is not None:
                    msg = (
                        f"{shape} clashes with {known.shape}, declared before: both would show "
                        f"{name!r}. Rename one, or declare both alike"
                    )
                    raise DuplicateMetricError(msg)
            metric = Metric(shape, self)
            self._metrics[shape.name] = metric
            self._series.update(dict.fromkeys(series, metric))
        metric.bridge(self._meter)
        return metric

    def limits_of(self, family: str) -> tuple[int, Mapping[str, int]]:
        """Return how many label sets a family may have, and how many values some labels."""
        shape = _VOCABULARY_BY_NAME.get(family)
        if shape is None:
            return self.limit, {}
        return VOCABULARY_LIMIT, dict(shape.label_limits)

    def get(self, name: str) -> Metric | None:
        """Return the metric that shows a series of this name, such as `orders_total`."""
        return self._series.get(name)

    def __contains__(self, name: str) -> bool:
        """Return whether a series name is taken."""
        return name in self._series

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all metrics as `/metrics` shows them, in the order of declaration."""
        return tuple(metric.shape.exposed_name for metric in self._all())

    def _all(self) -> list[Metric]:
        with self._lock:
            return list(self._metrics.values())

    def collect(self, *, touched_only: bool = False) -> list[Family]:
        """Return a snapshot of all metrics, and look for new exemplars from now on.

        Args:
            touched_only: Leave out series in which nothing was recorded.

        Returns:
            The families in the order of their declaration, then those of the sources.
        """
        families = [metric.family(touched_only=touched_only) for metric in self._all()]
        for source in list(self._sources):
            try:
                families.extend(source())
            except Exception as error:  # noqa: BLE001  one source must not cost the others
                diagnostics.warn_once(f"source:{source!r}", "metrics are missing: %r", error)
        if touched_only:
            return [family for family in families if family.points]
        return families

    def add_source(self, source: Callable[[], Iterable[Family]]) -> Callable[[], None]:
        """Add families that are made at each collect.

        Args:
            source: Returns them.

        Returns:
            An undo.
        """
        self._sources.append(source)

        def undo() -> None:
            if source in self._sources:
                self._sources.remove(source)

        return undo

    def stash(self) -> Callable[[], None]:
        """Start all values afresh.

        Returns:
            An undo that brings them back; metrics declared meanwhile then start at 0.
        """
        saved = {metric: metric.stash() for metric in self._all()}

        def undo() -> None:
            for metric in self._all():
                saved.get(metric, metric.stash)()

        return undo

    def bridge(self, meter: Meter | None) -> None:
        """Feed instruments of an OpenTelemetry meter as well, what was counted before included.

        Args:
            meter: A meter of the provider that someone else installed; None ends the bridge.
        """
        self._meter = meter
        for metric in self._all():
            metric.bridge(meter)

    def forked(self) -> None:
        """Give a forked child a lock that nobody holds."""
        self._lock = RLock()


def _as_vocabulary(shape: Shape) -> Shape:
    """Return the vocabulary's own shape if `shape` is one of its metrics.

    Raises:
        DuplicateMetricError: The name is the vocabulary's, the rest is not.
    """
    for name in names.series_names(shape.name, shape.kind):
        owner = _OWNED.get(name)
        if owner is not None:
            same = (owner.name, owner.kind, owner.labelnames)
            if same == (shape.name, shape.kind, shape.labelnames):
                return owner
            msg = f"{shape}: {name!r} is a name of the library's vocabulary, for {owner}. Rename it"
            raise DuplicateMetricError(msg)
        if name in _PAGE_SERIES:
            msg = f"{shape}: {name!r} stands for the resource on every /metrics page. Rename it"
            raise DuplicateMetricError(msg)
    return shape


def _forked() -> None:
    for registry in list(_REGISTRIES):
        registry.forked()
    metrics.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

#: Where instruments are declared unless told otherwise.
REGISTRY: Final = Registry()
