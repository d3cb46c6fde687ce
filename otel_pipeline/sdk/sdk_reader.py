"""What OpenTelemetry's own instruments recorded, as families like those of the registry.

A series keeps its own labels, one name has one head, and nothing that OpenTelemetry allows and
Prometheus does not gets through.
"""

from __future__ import annotations

import json
import math
import re
import sys
import threading
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from operator import add
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricReader,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from otel_pipeline import diagnostics
from otel_pipeline.metrics.names import label_text
from otel_pipeline.metrics.snapshots import Exemplar, Family, HistogramPoint, Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
    from opentelemetry.sdk.metrics.export import (
        Buckets,
        ExponentialHistogramDataPoint,
        Metric,
        MetricsData,
    )

    from otel_pipeline.semconv import Kind
__all__ = ["SnapshotReader", "families_from_sdk", "labels_of", "left_out", "legal_label"]

#: What no document may contain: a lone surrogate has no UTF-8, and NUL ends Prometheus's lexer.
_UNSAFE: Final = re.compile("[\x00\ud800-\udfff]")
_NOT_IN_METRIC: Final = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_LABEL: Final = re.compile(r"[^a-zA-Z0-9]+")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ANNOTATION: Final = re.compile(r"\{[^}]*\}")

#: Words that OpenTelemetry's Prometheus compatibility specification has for UCUM units.
_UNITS: Final = {
    "%": "percent",
    "1": "",
    "A": "amperes",
    "By": "bytes",
    "Cel": "celsius",
    "GBy": "gigabytes",
    "GiBy": "gibibytes",
    "Hz": "hertz",
    "J": "joules",
    "KBy": "kilobytes",
    "KiBy": "kibibytes",
    "MBy": "megabytes",
    "MiBy": "mebibytes",
    "TBy": "terabytes",
    "TiBy": "tebibytes",
    "V": "volts",
    "W": "watts",
    "d": "days",
    "g": "grams",
    "h": "hours",
    "m": "meters",
    "min": "minutes",
    "ms": "milliseconds",
    "ns": "nanoseconds",
    "s": "seconds",
    "us": "microseconds",
}
_PER_UNITS: Final = {
    "d": "day",
    "h": "hour",
    "m": "minute",
    "mo": "month",
    "s": "second",
    "w": "week",
    "y": "year",
}

#: An exponential histogram is shown at powers of 2**(2**-2) or coarser, in so many buckets.
_FINEST_SCALE: Final = 2
_MOST_BUCKETS: Final = 40
_MOST_EXEMPLAR_CHARACTERS: Final = 128


class SnapshotReader(MetricReader):
    """Reads what an SDK MeterProvider holds, when asked, as cumulative values.

    It keeps the newest snapshot only, so flushing the provider adds nothing to the next page.

    Args:
        exponential: Whether histograms without a view get exponential buckets.

    >>> from opentelemetry.sdk.metrics import MeterProvider
    >>> provider = MeterProvider(shutdown_on_exit=False)
    >>> provider.add_metric_reader(reader := SnapshotReader())
    >>> provider.get_meter("shop").create_counter("orders").add(2)
    >>> [family.name for family in families_from_sdk(reader.read())]
    ['orders']
    """

    def __init__(self, *, exponential: bool = False) -> None:
        aggregation = ExponentialBucketHistogramAggregation() if exponential else None
        super().__init__(
            preferred_aggregation={HistogramInstrument: aggregation} if aggregation else None
        )
        self._newest: MetricsData | None = None
        self._reading = threading.Lock()
        self._closed = False

    def forked(self) -> None:
        """Be read in a forked child, whatever a thread of the parent did at that moment."""
        self._reading = threading.Lock()
        self._newest = None

    def read(self, timeout: float = 10.0) -> MetricsData | None:
        """Collect now.

        Args:
            timeout: Seconds that the callbacks of observable instruments may take together.

        Returns:
            What the provider holds, or None if nothing was ever recorded.
        """
        with self._reading:
            if self._closed:
                return None
            self.collect(timeout_millis=timeout * 1000)
            return self._newest

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002  the SDK's signature
        **_kwargs: object,
    ) -> None:
        self._newest = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: object) -> None:  # noqa: ARG002
        """Give up the snapshot: the provider has let go of this reader."""
        self._closed = True
        self._newest = None


#: Label names and values of a series, sorted by name, none empty.
_Labels = tuple[tuple[str, str], ...]


class _Series(NamedTuple):
    point: Point | HistogramPoint
    bounds: tuple[float, ...] = ()


@dataclass(slots=True)
class _Block:
    """One family of the SDK under construction: its head, and its series by their labels."""

    name: str
    kind: Kind
    documentation: str
    unit: str
    otel_name: str
    otel_unit: str
    multiprocess_mode: str
    series: dict[_Labels, _Series] = field(default_factory=dict)

    def families(self) -> Iterator[Family]:
        """Yield a family for each set of label names and bounds among the series."""
        shapes: dict[tuple[tuple[str, ...], tuple[float, ...]], list[Point | HistogramPoint]] = {}
        for labels, series in self.series.items():
            names = tuple(name for name, _ in labels)
            shapes.setdefault((names, series.bounds), []).append(series.point)
        for (names, bounds), points in shapes.items():
            yield Family(
                self.name,
                self.kind,
                self.documentation,
                self.unit,
                names,
                tuple(points),
                self.otel_name,
                self.otel_unit,
                bounds,
                multiprocess_mode=self.multiprocess_mode,
                from_sdk=True,
            )


def families_from_sdk(data: MetricsData | None) -> list[Family]:
    """Convert a snapshot of the SDK to families, named as OpenTelemetry's specification says.

    A metric that several scopes recorded is one family with the first help text. Families of one
    name follow each other; each holds the series that have its label names. A series that exists
    twice is added up (a gauge: the later one stays).

    Args:
        data: What `SnapshotReader.read` returned.

    Returns:
        The families; what cannot stand on one page with the rest is left out, and said once.
    """
    blocks: dict[str, _Block] = {}
    for resource_metrics in data.resource_metrics if data else ():
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                try:
                    _add_metric(blocks, metric)
                except Exception as error:  # noqa: BLE001  one strange metric hides no other
                    left_out(metric.name, error)
    return [family for block in blocks.values() for family in block.families()]


def _add_metric(blocks: dict[str, _Block], metric: Metric) -> None:
    kind = _kind(metric)
    name, unit = _family_name(metric, kind)
    block = blocks.setdefault(
        name,
        _Block(
            name,
            kind,
            metric.description or "",
            unit,
            metric.name,
            metric.unit or "",
            "sum" if isinstance(metric.data, Sum) else "mostrecent",
        ),
    )
    if block.kind != kind:
        left_out(f"{kind} {metric.name!r}", f"{name!r} is a {block.kind} on this page already")
        return
    adds_up = not isinstance(metric.data, Gauge)
    for data_point in metric.data.data_points:
        labels = labels_of(data_point.attributes, reserved="le" if kind == "histogram" else None)
        new = _series(data_point, tuple(value for _, value in labels))
        old = block.series.get(labels)
        block.series[labels] = new if old is None else _joined(name, old, new, adds_up=adds_up)


def _kind(metric: Metric) -> Kind:
    match metric.data:
        case Sum():
            return "counter" if metric.data.is_monotonic else "gauge"
        case Gauge():
            return "gauge"
        case Histogram() | ExponentialHistogram():
            return "histogram"
    raise TypeError(f"unknown data {type(metric.data).__name__}")


def _family_name(metric: Metric, kind: Kind) -> tuple[str, str]:
    """Return the name on the page and the unit, if the name ends with it."""
    name = _legal(_NOT_IN_METRIC, metric.name)
    if kind == "counter":
        name = name.removesuffix("_total") or "_"
    unit = _unit_word(metric.unit or "")
    if isinstance(metric.data, Gauge) and metric.unit == "1":
        unit = "ratio"
    if unit and f"_{unit}_" not in f"_{name}_":
        name = f"{name}_{unit}"
    return name, unit if name.endswith(f"_{unit}") else ""


def _unit_word(unit: str) -> str:
    """Return Prometheus's word for a UCUM unit: `meters_per_second` for `m/s`."""
    main, _, per = _ANNOTATION.sub("", unit).partition("/")
    main = _UNITS.get(main, _NOT_IN_LABEL.sub("_", main).strip("_"))
    per = _PER_UNITS.get(per, _NOT_IN_LABEL.sub("_", per).strip("_"))
    return f"{main}_per_{per}".strip("_") if per else main


def _legal(forbidden: re.Pattern[str], name: str) -> str:
    name = forbidden.sub("_", name) or "_"
    return f"_{name}" if name[0].isdigit() else name


def legal_label(name: str) -> str:
    """Return a name that a label may have."""
    return _legal(_NOT_IN_LABEL, name)


def labels_of(attributes: Mapping[str, Any] | None, reserved: str | None = None) -> _Labels:
    """Return attributes as labels; values of keys that become the same label are joined by `;`.

    Empty values are left out: to Prometheus they are the same as none.
    """
    found: dict[str, list[str]] = {}
    for key, value in sorted((attributes or {}).items(), key=_key_text):
        name = legal_label(str(key))
        found.setdefault(f"key_{name}" if name == reserved else name, []).append(_text(value))
    joined = ((name, ";".join(filter(None, values))) for name, values in sorted(found.items()))
    return tuple((name, value) for name, value in joined if value)


def _key_text(item: tuple[object, object]) -> str:
    return str(item[0])


def _text(value: object) -> str:
    if not isinstance(value, str):
        try:
            value = json.dumps(value, default=str, ensure_ascii=False)
        except Exception:  # noqa: BLE001  a broken __str__, or an object that contains itself
            value = f"<unprintable {type(value).__name__}>"
    return label_text(value)


def _series(
    point: NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint,
    values: tuple[str, ...],
) -> _Series:
    start = point.start_time_unix_nano or 0
    exemplars = [_exemplar(exemplar) for exemplar in point.exemplars if exemplar.trace_id]
    if isinstance(point, NumberDataPoint):
        exemplar = exemplars[-1] if exemplars else None
        return _Series(Point(values, point.value, start, exemplar, point.time_unix_nano / 1e9))
    if isinstance(point, HistogramDataPoint):
        bounds = tuple(map(float, point.explicit_bounds))
        counts = tuple(point.bucket_counts)
    else:
        bounds, counts = _classic_buckets(point)
    latest: list[Exemplar | None] = [None] * len(counts)
    for exemplar in exemplars:
        latest[bisect_left(bounds, exemplar.value)] = exemplar
    return _Series(HistogramPoint(values, counts, point.sum, start, tuple(latest)), bounds)


def _exemplar(exemplar: SdkExemplar) -> Exemplar:
    labels = labels_of(exemplar.filtered_attributes)
    trace_id, span_id = f"{exemplar.trace_id:032x}", f"{exemplar.span_id:016x}"
    room = _MOST_EXEMPLAR_CHARACTERS - len("trace_idspan_id") - len(trace_id) - len(span_id)
    if sum(len(name) + len(value) for name, value in labels) > room:
        labels = ()
    return Exemplar(exemplar.value, exemplar.time_unix_nano / 1e9, trace_id, span_id, labels)


def _joined(name: str, old: _Series, new: _Series, *, adds_up: bool) -> _Series:
    """Make one of two series that have the same labels."""
    diagnostics.warn_once(
        f"twice:{name}",
        "metric %r: several scopes record the same series, or attributes that become the same "
        "label; /metrics shows them as one. Give each its own attributes",
        name,
    )
    match old.point, new.point:
        case Point(), Point() if adds_up:
            value = old.point.value + new.point.value
            return old._replace(point=replace(old.point, value=value))
        case HistogramPoint(), HistogramPoint() if old.bounds == new.bounds:
            counts = tuple(map(add, old.point.counts, new.point.counts))
            total = old.point.sum + new.point.sum
            return old._replace(point=replace(old.point, counts=counts, sum=total))
        case Point(), Point():
            return new
    left_out(f"a histogram {name!r}", "the same series has other bucket bounds already")
    return old


def _classic_buckets(
    point: ExponentialHistogramDataPoint,
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return bounds and counts of an exponential histogram in classic buckets.

    Bounds lie on one grid (powers of two and the three steps between), so that those of two
    scrapes match; a wide histogram takes every second of them, and so on.
    """
    scale = min(point.scale, _FINEST_SCALE)
    positive = _rescaled(point.positive, point.scale - scale)
    while positive and max(positive) - min(positive) >= _MOST_BUCKETS:
        scale -= 1
        positive = _rescaled(point.positive, point.scale - scale)
    # What is not above 0 shares one bucket: the SDK takes no negative values.
    counts = {0.0: point.zero_count + sum(point.negative.bucket_counts)}
    if positive:
        first, last = min(positive), max(positive)
        counts.setdefault(_power(first, scale), 0)
        counts |= {_power(i + 1, scale): positive.get(i, 0) for i in range(first, last + 1)}
    counts.pop(math.inf, None)
    inside = tuple(counts.values())
    return tuple(counts), (*inside, point.count - sum(inside))


def _rescaled(buckets: Buckets, steps: int) -> dict[int, int]:
    """Return the counts that are not 0, by index, at a scale so many steps coarser."""
    counts: dict[int, int] = {}
    for index, count in enumerate(buckets.bucket_counts, buckets.offset):
        if count:
            counts[index >> steps] = counts.get(index >> steps, 0) + count
    return counts


def _power(index: int, scale: int) -> float:
    """Return the lower bound of a bucket, `2 ** (index / 2 ** scale)`."""
    exponent = index * 2.0**-scale
    return 2.0**exponent if exponent < sys.float_info.max_exp else math.inf


def left_out(what: str, why: object) -> None:
    """Say once that something is not on the page, and why."""
    diagnostics.warn_once(f"left out:{what}", "%s is left out of /metrics: %s", what, why)
