"""The instruments: Counter, Gauge, Histogram, Summary, Info and Enum.

Their constructors and methods are prometheus_client's. An instrument is a thin handle: the values
are in the stores of its metric, so two handles of one name count together.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Self

from otel_pipeline import clock, diagnostics, semconv
from otel_pipeline.errors import LabelError, MetricError
from otel_pipeline.metrics import names
from otel_pipeline.metrics.cells import number
from otel_pipeline.metrics.metric import Metric, Shape
from otel_pipeline.metrics.registry import REGISTRY, Registry, vocabulary_shape
from otel_pipeline.metrics.snapshots import Exemplar
from otel_pipeline.metrics.timing import ExceptionCounter, InprogressTracker, Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as PrometheusMetric

    from otel_pipeline.metrics.cells import (
        CounterStore,
        EnumStore,
        GaugeStore,
        HistogramStore,
        InfoStore,
        SummaryStore,
    )
    from otel_pipeline.semconv import Kind, MetricSpec

    AnyRegistry = Registry | CollectorRegistry | None

__all__ = [
    "DEFAULT_BUCKETS",
    "Counter",
    "Enum",
    "Gauge",
    "Histogram",
    "Info",
    "Instrument",
    "Summary",
    "from_spec",
]

#: Upper bounds of a histogram's buckets unless given: prometheus_client's.
DEFAULT_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, math.inf,
)  # fmt: skip

_GAUGE_MODES = frozenset(
    live + mode for live in ("", "live") for mode in ("all", "min", "max", "sum", "mostrecent")
)
_MOST_EXEMPLAR_CHARACTERS = 128
_NO_HANDLES: dict[tuple[str, ...], Any] = {}


class Instrument:
    """What all instruments have: a name, labels and a place to count.

    An instrument with label names is a parent: `labels()` gives its children, which count.
    """

    __slots__ = ("__weakref__", "_handles", "_labelvalues", "_metric", "_store")

    _kind: ClassVar[Kind]

    def __init__(  # noqa: PLR0917  prometheus_client's signature
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: AnyRegistry = REGISTRY,
    ) -> None:
        self._init(name, documentation, labelnames, namespace, subsystem, unit, registry)

    def _init(  # noqa: PLR0917  the same
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str],
        namespace: str,
        subsystem: str,
        unit: str,
        registry: AnyRegistry,
        **shape: Any,
    ) -> None:
        """Declare the metric, and what a kind of instrument has besides."""
        family = names.family_name(self._kind, name, namespace, subsystem, unit)
        self._declare(
            Shape(
                name=family,
                kind=self._kind,
                documentation=names.label_text(documentation),
                labelnames=names.check_label_names(self._kind, family, labelnames),
                unit=unit,
                **shape,
            ),
            registry,
        )

    @classmethod
    def from_spec(cls, spec: MetricSpec, registry: Registry = REGISTRY) -> Self:
        """Return the instrument of a metric of the vocabulary.

        Args:
            spec: The metric, of this class's kind.
            registry: Where it is declared.
        """
        instrument = cls.__new__(cls)
        instrument._declare(vocabulary_shape(spec), registry)  # noqa: SLF001  the same class
        return instrument

    def _declare(self, shape: Shape, registry: AnyRegistry) -> None:
        if isinstance(registry, Registry):
            metric = registry.declare(shape)
        else:
            metric = Metric(shape, REGISTRY)
        store = None if shape.labelnames else metric.store(())
        self._bind(metric, (), store)
        if registry is not None and not isinstance(registry, Registry):
            registry.register(self)

    def _bind(self, metric: Metric, labelvalues: tuple[str, ...], store: Any) -> None:
        """Make this the handle of one series, or of a parent if `store` is None."""
        self._metric = metric
        # A child has none, so that labels() finds nothing, and says why.
        self._handles = metric.handles if store is None else _NO_HANDLES
        self._labelvalues = labelvalues
        self._store = store

    def labels(self, *labelvalues: object, **labelkwargs: object) -> Self:
        """Return the child that counts for these label values.

        Beyond the cardinality limit the child is one whose labels are partly `__other__`.

        Args:
            labelvalues: A value for each label name, in order.
            labelkwargs: Or each by name.

        Returns:
            The child; the same one for the same values.

        Raises:
            LabelError: Wrong names or a wrong number of values.

        >>> from otel_pipeline.metrics import Counter, Registry
        >>> jobs = Counter("jobs", "Jobs done", ["kind"], registry=Registry())
        >>> jobs.labels("nightly") is jobs.labels(kind="nightly")
        True
        """
        if labelkwargs:
            labelvalues = self._by_name(labelvalues, labelkwargs)
        # Only plain strings are what they look like: 1 == True, but their texts differ.
        for value in labelvalues:
            if value.__class__ is not str:
                break
        else:
            try:
                child: Self = self._handles[labelvalues]  # type: ignore[index]
            except KeyError:
                pass
            else:
                return child
        return self._child(labelvalues)

    def _by_name(
        self, labelvalues: tuple[object, ...], labelkwargs: Mapping[str, object]
    ) -> tuple[object, ...]:
        """Return label values, given by name, in the order of the label names."""
        labelnames = self._metric.shape.labelnames
        if len(labelkwargs) == len(labelnames) and not labelvalues:
            try:
                return tuple([labelkwargs[name] for name in labelnames])
            except KeyError:
                pass
        self._parent_labelnames()
        if labelvalues:
            msg = f"{self}: give label values either by position or by name, not both"
        else:
            msg = f"{self}: incorrect label names {sorted(labelkwargs)}: give {labelnames}"
        raise LabelError(msg)

    def _parent_labelnames(self) -> tuple[str, ...]:
        labelnames = self._metric.shape.labelnames
        if not labelnames:
            msg = f"{self} was declared without label names; leave out the labels, or declare them"
            raise LabelError(msg)
        if self._store is not None:
            msg = (
                f"{self} already has its labels {self._labelvalues}; call this on what was declared"
            )
            raise LabelError(msg)
        return labelnames

    def _label_set(self, labelvalues: tuple[object, ...]) -> tuple[str, ...]:
        """Return label values as text, if this is a parent and there is one for each name."""
        labelnames = self._parent_labelnames()
        if len(labelvalues) != len(labelnames):
            msg = (
                f"{self}: incorrect label count: {len(labelvalues)} values for the labels "
                f"{labelnames}"
            )
            raise LabelError(msg)
        return tuple(map(names.label_text, labelvalues))

    def _child(self, labelvalues: tuple[object, ...]) -> Self:
        """Return the child for label values that are new, folded, or no plain strings."""
        metric = self._metric
        labels = self._label_set(labelvalues)
        known: Self | None = metric.handles.get(labels)
        if known is not None:
            return known
        with metric.shared.lock:
            store = metric.store(labels)
            child: Self | None = metric.handles.get(store.labels)
            if child is None:
                child = self.__class__.__new__(self.__class__)
                child._bind(metric, store.labels, store)  # noqa: SLF001  the same class
                metric.handles[store.labels] = child
        if store.labels != labels:
            _overflowed(metric, labels, store.labels)
        return child

    def remove(self, *labelvalues: object) -> None:
        """Remove the series with these label values.

        Args:
            labelvalues: A value for each label name, in order.

        Raises:
            LabelError: No labels were declared, or a wrong number of values is given.
        """
        self._metric.remove(self._label_set(labelvalues).__eq__)

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        """Remove all series that have these values, whatever their other labels are.

        Args:
            labels: Some of the label names, with a value each.

        Raises:
            LabelError: No labels were declared, or a name is not one of them.
            TypeError: `labels` is no dict.
        """
        labelnames = self._parent_labelnames()
        if not isinstance(labels, dict):
            msg = "labels must be a dict of {label name: label value}"
            raise TypeError(msg)
        unknown = [name for name in labels if name not in labelnames]
        if unknown:
            msg = f"{self}: unknown label names {unknown}: expected some of {labelnames}"
            raise LabelError(msg)
        wanted = {labelnames.index(name): names.label_text(labels[name]) for name in labels}
        if wanted:
            self._metric.remove(
                lambda values: all(values[index] == value for index, value in wanted.items())
            )

    def clear(self) -> None:
        """Remove all series of a metric with labels."""
        if self._store is None:
            self._metric.remove(lambda _: True)

    def describe(self) -> Iterable[PrometheusMetric]:
        """Return the metric without its series, as prometheus_client's registries ask for."""
        from otel_pipeline.metrics import compat  # noqa: PLC0415

        return [compat.metric(self._metric.family(), samples=False)]

    def collect(self) -> Iterable[PrometheusMetric]:
        """Return the metric as prometheus_client's registries and its pushgateway ask for."""
        from otel_pipeline.metrics import compat  # noqa: PLC0415

        return [compat.metric(self._metric.family(), samples=True)]

    def _no_labels(self) -> LabelError:
        """Return the error for measuring with a parent."""
        return LabelError(
            f"{self} metric is missing label values: call labels() with values for "
            f"{self._metric.shape.labelnames} first"
        )

    def _require_store(self) -> None:
        if self._store is None:
            raise self._no_labels()

    def __str__(self) -> str:
        """Return the kind and the family name: `counter:orders`."""
        return f"{self._kind}:{self._metric.shape.name}"

    def __repr__(self) -> str:
        """Return the class, the family name and the label values."""
        values = f", {self._labelvalues}" if self._labelvalues else ""
        return f"{type(self).__name__}({self._metric.shape.name!r}{values})"


class Counter(Instrument):
    """Count what only goes up: records, bytes, failures.

    Args:
        name: The name; `_total` is added where it lacks.
        documentation: The help text.
        labelnames: Names of the labels.
        namespace: Stands before the name.
        subsystem: Stands between namespace and name.
        unit: A base unit such as `bytes`, which the name then ends with.
        registry: Where it is declared: the default one, another `Registry`, one of
            prometheus_client, or None.

    Raises:
        MetricNameError: A name that Prometheus cannot carry.
        DuplicateMetricError: The name belongs to a metric of another shape.

    >>> from otel_pipeline.metrics import Counter, Registry
    >>> rejected = Counter("orders_rejected", "Orders rejected", ["reason"], registry=Registry())
    >>> rejected.labels("no_key").inc()
    >>> rejected.labels(reason="no_key").inc(2)
    """

    __slots__ = ("_fast",)

    _kind = "counter"
    _store: CounterStore | None

    def _bind(self, metric: Metric, labelvalues: tuple[str, ...], store: Any) -> None:
        super()._bind(metric, labelvalues, store)
        self._fast: dict[int, list[float]] = {} if store is None else store.fast

    def inc(self, amount: float = 1, exemplar: Mapping[str, str] | None = None) -> None:
        """Add to the total.

        Args:
            amount: How much, not negative.
            exemplar: Labels that point to what was counted; by default the span around.

        Raises:
            MetricError: The amount is negative, or the exemplar too long.
            LabelError: The counter has labels, and this is not one of its children.
        """
        if (
            exemplar is None
            and (amount.__class__ is int or amount.__class__ is float)
            and amount >= 0
        ):
            try:
                # No call between look-up and sum: nothing can come between them.
                self._fast[get_ident()][0] += amount
            except KeyError:
                pass
            else:
                return
        self._inc(amount, exemplar)

    def _inc(self, amount: float, exemplar: Mapping[str, str] | None) -> None:
        if self._store is None:
            raise self._no_labels()
        amount = number(amount)
        if amount < 0:
            msg = f"{self}: counters can only be incremented by non-negative amounts, not {amount}"
            raise MetricError(msg)
        self._store.add(amount, _exemplar(exemplar, amount))

    def reset(self) -> None:
        """Begin at 0 again, as when a logical process restarts."""
        if self._store is None:
            raise self._no_labels()
        self._store.take()

    def count_exceptions(
        self, exception: type[BaseException] | tuple[type[BaseException], ...] = Exception
    ) -> ExceptionCounter:
        """Count exceptions that leave a block or a function.

        Args:
            exception: The types that count.

        Returns:
            A context manager that is a decorator as well, for async functions, too.
        """
        self._require_store()
        return ExceptionCounter(self.inc, exception)

    def attach_cell(self, cell: list[float]) -> None:
        """Count a list of one number with this counter, until `fold_cell` takes it over.

        One producer owns the list and adds to it; several counters may show it.

        Args:
            cell: A list that holds one number, 0 at first.
        """
        if self._store is None:
            raise self._no_labels()
        self._store.attach_cell(cell)

    def fold_cell(self, cell: list[float]) -> None:
        """Take over what an attached cell holds, and let go of it.

        Args:
            cell: A list given to `attach_cell`.
        """
        if self._store is None:
            raise self._no_labels()
        self._store.fold_cell(cell)


class Gauge(Instrument):
    """Show a value that goes up and down: a queue's size, a temperature.

    Args:
        name: The name.
        documentation: The help text.
        labelnames: Names of the labels.
        namespace: Stands before the name.
        subsystem: Stands between namespace and name.
        unit: A base unit such as `bytes`, which the name then ends with.
        registry: As for `Counter`.
        multiprocess_mode: How the values of several processes become one: prometheus_client's
            words (`sum`, `max`, `min`, `mostrecent`, `all` and their `live` forms).

    Raises:
        MetricError: An unknown multiprocess mode.

    >>> from otel_pipeline.metrics import Gauge, Registry
    >>> depth = Gauge("depth", "Depth of the pool", unit="meters", registry=Registry())
    >>> depth.set(4.2)
    """

    __slots__ = ()

    _kind = "gauge"
    _store: GaugeStore | None

    def __init__(  # noqa: PLR0917  prometheus_client's signature
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: AnyRegistry = REGISTRY,
        multiprocess_mode: str = "mostrecent",
    ) -> None:
        if multiprocess_mode not in _GAUGE_MODES:
            msg = (
                f"{name}: invalid multiprocess mode {multiprocess_mode!r}: "
                f"use one of {sorted(_GAUGE_MODES)}"
            )
            raise MetricError(msg)
        self._init(
            name,
            documentation,
            labelnames,
            namespace,
            subsystem,
            unit,
            registry,
            multiprocess_mode=multiprocess_mode,
        )

    def inc(self, amount: float = 1) -> None:
        """Raise the value by `amount`."""
        store = self._store
        if store is None:
            raise self._no_labels()
        if amount.__class__ is not int:
            amount = number(amount)
        with store.shared.lock:
            store.value += amount
            store.changed = clock.now()

    def dec(self, amount: float = 1) -> None:
        """Lower the value by `amount`."""
        self.inc(-amount)

    def set(self, value: float) -> None:
        """Make `value` the current one."""
        store = self._store
        if store is None:
            raise self._no_labels()
        value = float(value)
        with store.shared.lock:
            store.value = value
            store.changed = clock.now()

    def set_to_current_time(self) -> None:
        """Set the value to the time now, in seconds since 1970."""
        self.set(clock.now())

    def set_function(self, f: Callable[[], float | None]) -> None:
        """Ask `f` for the value at each collect, from any thread; nothing else counts then.

        Args:
            f: Returns the value. When it has none (`None`), or raises, the series is left out of
                that collect.
        """
        if self._store is None:
            raise self._no_labels()
        self._store.function = f

    def track_inprogress(self) -> InprogressTracker:
        """Count what is running: up at the start of a block or function, down at its end.

        Returns:
            A context manager that is a decorator as well, for async functions, too.
        """
        self._require_store()
        return InprogressTracker(self)

    def time(self) -> Timer[Gauge]:
        """Set the value to the seconds that a block or function takes.

        Returns:
            A context manager that is a decorator as well, for async functions, too.
        """
        return Timer(self, Gauge.set)


class _Distribution(Instrument):
    """What histograms and summaries have in common: they observe amounts."""

    __slots__ = ("_armed", "_edges", "_fast")

    _store: HistogramStore | SummaryStore | None

    def _bind(self, metric: Metric, labelvalues: tuple[str, ...], store: Any) -> None:
        super()._bind(metric, labelvalues, store)
        self._edges: tuple[float, ...] = () if store is None else store.edges
        self._armed: list[int] = [1] if store is None else store.armed
        self._fast: dict[int, list[float]] = {} if store is None else store.fast

    def _observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        if self._store is None:
            raise self._no_labels()
        amount = number(amount)
        self._store.add(amount, _exemplar(exemplar, amount))


class Histogram(_Distribution):
    """Count amounts by size, in buckets: durations, sizes.

    Args:
        name: The name.
        documentation: The help text.
        labelnames: Names of the labels.
        namespace: Stands before the name.
        subsystem: Stands between namespace and name.
        unit: A base unit such as `seconds`, which the name then ends with.
        registry: As for `Counter`.
        buckets: Upper bounds, rising; the one of infinity is added where it lacks.

    Raises:
        MetricError: Buckets that do not rise, or none.

    >>> from otel_pipeline.metrics import Histogram, Registry
    >>> took = Histogram("load", "Load", unit="seconds", buckets=[1, 10], registry=Registry())
    >>> took.observe(2.5)
    >>> with took.time():
    ...     pass
    """

    __slots__ = ()

    _kind = "histogram"

    DEFAULT_BUCKETS: ClassVar = DEFAULT_BUCKETS

    def __init__(  # noqa: PLR0917  prometheus_client's signature
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: AnyRegistry = REGISTRY,
        buckets: Sequence[float | str] = DEFAULT_BUCKETS,
    ) -> None:
        self._init(
            name,
            documentation,
            labelnames,
            namespace,
            subsystem,
            unit,
            registry,
            bounds=_bounds(name, buckets),
        )

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count one amount in its bucket, and add it to the sum.

        Args:
            amount: What was measured.
            exemplar: Labels that point to what was measured; by default the span around.

        Raises:
            MetricError: The exemplar is too long.
            LabelError: The histogram has labels, and this is not one of its children.
        """
        if exemplar is None and (amount.__class__ is float or amount.__class__ is int):
            index = bisect_left(self._edges, amount)
            if not self._armed[index]:
                try:
                    cell = self._fast[get_ident()]
                except KeyError:
                    pass
                else:
                    cell[0] += amount
                    cell[index] += 1
                    return
        self._observe(amount, exemplar)

    def time(self) -> Timer[Histogram]:
        """Observe the seconds that a block or function takes.

        Returns:
            A context manager that is a decorator as well, for async functions, too.
        """
        return Timer(self, Histogram.observe)


class Summary(_Distribution):
    """Count amounts, and add them up.

    Args:
        name: The name.
        documentation: The help text.
        labelnames: Names of the labels.
        namespace: Stands before the name.
        subsystem: Stands between namespace and name.
        unit: A base unit such as `bytes`, which the name then ends with.
        registry: As for `Counter`.

    >>> from otel_pipeline.metrics import Registry, Summary
    >>> size = Summary("order", "Size of an order", unit="bytes", registry=Registry())
    >>> size.observe(512)
    """

    __slots__ = ()

    _kind = "summary"

    def observe(self, amount: float) -> None:
        """Count one amount, and add it to the sum.

        Args:
            amount: What was measured.

        Raises:
            LabelError: The summary has labels, and this is not one of its children.
        """
        if amount.__class__ is float or amount.__class__ is int:
            try:
                cell = self._fast[get_ident()]
            except KeyError:
                pass
            else:
                cell[0] += amount
                cell[1] += 1
                return
        self._observe(amount)

    def time(self) -> Timer[Summary]:
        """Observe the seconds that a block or function takes.

        Returns:
            A context manager that is a decorator as well, for async functions, too.
        """
        return Timer(self, Summary.observe)


class Info(Instrument):
    """Show key-value pairs about a program: versions, sources.

    Args:
        name: The name; the series' name ends with `_info`.
        documentation: The help text.
        labelnames: Names of the labels.
        namespace: Stands before the name.
        subsystem: Stands between namespace and name.
        unit: Always empty.
        registry: As for `Counter`.

    >>> from otel_pipeline.metrics import Info, Registry
    >>> Info("build", "The build", registry=Registry()).info({"version": "1.2.3"})
    """

    __slots__ = ()

    _kind = "info"
    _store: InfoStore | None

    def info(self, val: Mapping[str, str]) -> None:
        """Set the pairs.

        Args:
            val: Names, of the form of label names, and their values.

        Raises:
            MetricError: A name is one of the labels, or a value is None.
            MetricNameError: A name that Prometheus cannot carry.
        """
        if self._store is None:
            raise self._no_labels()
        shape = self._metric.shape
        overlap = sorted(set(shape.labelnames).intersection(val))
        if overlap:
            msg = f"{self}: overlapping labels: {overlap} are labels of the metric. Rename them"
            raise MetricError(msg)
        if any(value is None for value in val.values()):
            msg = f"{self}: label value cannot be None in {dict(val)}: leave it out"
            raise MetricError(msg)
        for name in val:
            names.check_label_name(shape.name, name)
        self._store.say({name: names.label_text(value) for name, value in val.items()})


class Enum(Instrument):
    """Show which of several states something is in.

    Args:
        name: The name, which is the label of the states as well.
        documentation: The help text.
        labelnames: Names of the labels.
        namespace: Stands before the name.
        subsystem: Stands between namespace and name.
        unit: Always empty.
        registry: As for `Counter`.
        states: The states; the first is the default.

    Raises:
        MetricError: No states, or one twice.

    >>> from otel_pipeline.metrics import Enum, Registry
    >>> task = Enum("task", "The task", states=["idle", "running"], registry=Registry())
    >>> task.state("running")
    """

    __slots__ = ()

    _kind = "enum"
    _store: EnumStore | None

    def __init__(  # noqa: PLR0917  prometheus_client's signature
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        namespace: str = "",
        subsystem: str = "",
        unit: str = "",
        registry: AnyRegistry = REGISTRY,
        states: Sequence[str] | None = None,
    ) -> None:
        if not states:
            msg = f"No states provided for Enum metric {name}: give states=[...]"
            raise MetricError(msg)
        texts = tuple(map(names.label_text, states))
        if len(set(texts)) != len(texts):
            msg = f"{name}: a state is there twice in {texts}; name each state once"
            raise MetricError(msg)
        self._init(
            name,
            documentation,
            labelnames,
            namespace,
            subsystem,
            unit,
            registry,
            states=texts,
        )

    def state(self, state: str) -> None:
        """Set the state.

        Args:
            state: One of the declared states.

        Raises:
            MetricError: It is not one of them.
        """
        if self._store is None:
            raise self._no_labels()
        text = names.label_text(state)
        if text not in self._metric.shape.states:
            msg = f"{self}: {text!r} is no state: use one of {self._metric.shape.states}"
            raise MetricError(msg)
        self._store.say(text)


_CLASSES: dict[Kind, type[Instrument]] = {
    "counter": Counter,
    "gauge": Gauge,
    "histogram": Histogram,
    "summary": Summary,
    "info": Info,
    "enum": Enum,
}


def from_spec(spec: MetricSpec, registry: Registry = REGISTRY) -> Any:
    """Return the instrument of a metric of the vocabulary, of the class that fits its kind.

    `Counter.from_spec(spec)` does the same and tells type checkers which class it is.

    Args:
        spec: The metric.
        registry: Where it is declared.
    """
    return _CLASSES[spec.kind].from_spec(spec, registry)


def _bounds(name: str, buckets: Sequence[float | str]) -> tuple[float, ...]:
    """Return the finite bounds of buckets that can be used."""
    given = tuple(float(bound) for bound in buckets)
    bounds = given[:-1] if given and given[-1] == math.inf else given
    if not bounds:
        msg = f"{name}: must have at least two buckets, that of infinity included: got {given}"
        raise MetricError(msg)
    if not all(map(math.isfinite, bounds)) or list(bounds) != sorted(set(bounds)):
        msg = f"{name}: buckets not in sorted order, or one is there twice: {given}"
        raise MetricError(msg)
    return bounds


def _exemplar(labels: Mapping[str, str] | None, value: float) -> Exemplar | None:
    """Return the exemplar that a user gave, if one was given."""
    if not labels:
        return None
    if not all(isinstance(part, str) for pair in labels.items() for part in pair):
        msg = f"exemplar labels must be strings: {dict(labels)}"
        raise MetricError(msg)
    if any(name.startswith("__") for name in labels):
        msg = f"exemplar label names with '__' first are reserved: {sorted(labels)}"
        raise MetricError(msg)
    length = sum(len(name) + len(text) for name, text in labels.items())
    if length > _MOST_EXEMPLAR_CHARACTERS:
        msg = (
            f"exemplar labels have {length} UTF-8 characters, exceeding the limit of "
            f"{_MOST_EXEMPLAR_CHARACTERS}; give fewer or shorter ones"
        )
        raise MetricError(msg)
    pairs = tuple((names.label_text(k), names.label_text(v)) for k, v in labels.items())
    return Exemplar(value, clock.now(), labels=pairs)


def _overflowed(metric: Metric, labels: tuple[str, ...], placed: tuple[str, ...]) -> None:
    """Count a look-up whose label set was folded, and say so the first time."""
    name = metric.shape.exposed_name
    if name == semconv.LABEL_OVERFLOW.name:
        return
    if metric.overflow is None:
        label, values = metric.folded_label(labels, placed)
        diagnostics.warn_once(
            f"overflow:{name}",
            "metric %s has too many label sets: label %r has %d values, and further ones are "
            "counted as %r. Drop that label, or raise OTEL_PIPELINE_CARDINALITY_LIMIT",
            name,
            label,
            values,
            semconv.OTHER,
        )
        metric.overflow = Counter.from_spec(semconv.LABEL_OVERFLOW, metric.registry).labels(name)
    metric.overflow.inc()
