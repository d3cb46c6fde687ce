"""The Prometheus side: what the SDK recorded as families, the page, and the server of `/metrics`.

```text
Registry.collect() ────────────────────────────┐
                                               ├─> Exposition.render() ─> MetricsServer
SnapshotReader.read() ─> families_from_sdk() ──┘
```

Families of the library's own registry come first: a family of the SDK that would use one of their
names is left out, so that a page never says anything twice.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import selectors
import socket
import ssl
import sys
import threading
import time
import weakref
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, groupby
from operator import add, attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast
from urllib.parse import parse_qs, urlsplit

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
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from otel_pipeline import diagnostics
from otel_pipeline.metrics.names import exposed_name, label_text, series_names
from otel_pipeline.metrics.registry import REGISTRY, Registry
from otel_pipeline.metrics.snapshots import Exemplar, Family, HistogramPoint, InfoPoint, Point

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
    from opentelemetry.sdk.metrics.export import (
        Buckets,
        ExponentialHistogramDataPoint,
        Metric,
        MetricsData,
    )
    from opentelemetry.sdk.resources import Resource
    from prometheus_client.registry import CollectorRegistry

    from otel_pipeline.metrics.snapshots import EnumPoint, SummaryPoint
    from otel_pipeline.semconv import Kind

__all__ = [
    "Exposition",
    "MetricsServer",
    "SnapshotReader",
    "default_exposition",
    "families_from_sdk",
    "start_http_server",
]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

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


# --- What the SDK recorded ------------------------------------------------------------------------


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
                    _left_out(metric.name, error)
    return [family for block in blocks.values() for family in block.families()]


def _add_metric(blocks: dict[str, _Block], metric: Metric) -> None:
    kind = _kind(metric)
    name, unit = _family_name(metric, kind)
    block = blocks.setdefault(
        name,
        _Block(name, kind, metric.description or "", unit, metric.name, metric.unit or ""),
    )
    if block.kind != kind:
        _left_out(f"{kind} {metric.name!r}", f"{name!r} is a {block.kind} on this page already")
        return
    adds_up = not isinstance(metric.data, Gauge)
    for data_point in metric.data.data_points:
        labels = _labels(data_point.attributes, reserved="le" if kind == "histogram" else None)
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


def _labels(attributes: Mapping[str, Any] | None, reserved: str | None = None) -> _Labels:
    """Return attributes as labels; values of keys that become the same label are joined by `;`.

    Empty values are left out: to Prometheus they are the same as none.
    """
    found: dict[str, list[str]] = {}
    for key, value in sorted((attributes or {}).items(), key=_key_text):
        name = _legal(_NOT_IN_LABEL, str(key))
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
        return _Series(Point(values, point.value, start, exemplars[-1] if exemplars else None))
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
    labels = _labels(exemplar.filtered_attributes)
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
    _left_out(f"a histogram {name!r}", "the same series has other bucket bounds already")
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


def _left_out(what: str, why: object) -> None:
    diagnostics.warn_once(f"left out:{what}", "%s is left out of /metrics: %s", what, why)


# --- The document ---------------------------------------------------------------------------------


class Renderer(Protocol):
    """Makes the body and the content type of a page."""

    def __call__(self, accept: str, names: Collection[str]) -> tuple[bytes, str]:
        """Answer an Accept header; `names` are the only samples wanted, or none for all."""


#: Families of one name, which stand under one head.
_Group = list[Family]


class Exposition:
    """The page of metrics: a registry's families, those of SDK readers, and `target_info`.

    Args:
        collect: Gives the library's own families, as `Registry.collect` does.

    >>> from otel_pipeline.metrics.snapshots import Family, Point
    >>> queue = Family("queue", "gauge", "Waiting.", "", (), (Point((), 3, 0),), "queue", "")
    >>> body, content_type = Exposition(lambda: [queue]).render()
    >>> print(body.decode(), end="")
    # HELP queue Waiting.
    # TYPE queue gauge
    queue 3.0
    """

    def __init__(self, collect: Callable[[], Iterable[Family]]) -> None:
        self._collect = collect
        self._attached: tuple[tuple[SnapshotReader, Resource | None], ...] = ()

    def attach(self, reader: SnapshotReader, resource: Resource | None) -> Callable[[], None]:
        """Show what `reader` reads too, and `resource` as `target_info`.

        Args:
            reader: A reader that has been added to a MeterProvider.
            resource: What the process is, or None for no `target_info`.

        Returns:
            The undo; call it before the reader is removed from its provider.
        """
        entry = (reader, resource)
        self._attached = (*self._attached, entry)

        def undo() -> None:
            self._attached = tuple(other for other in self._attached if other is not entry)

        return undo

    def render(self, accept: str = "", names: Collection[str] = ()) -> tuple[bytes, str]:
        """Make the document that a client asks for.

        Args:
            accept: The client's Accept header; text 0.0.4 unless it asks for OpenMetrics.
            names: Names of the only samples wanted (`orders_total`); all if empty.

        Returns:
            The body and its content type. A family that cannot be rendered, or that has the name
            of another, is left out and said once on stderr.
        """
        openmetrics, content_type = _negotiate(accept)
        parts = [_render(group, names, openmetrics=openmetrics) for group in self._groups()]
        if openmetrics:
            parts.append("# EOF\n")
        return _encode("".join(parts)), content_type

    def families(self) -> list[Family]:
        """Return what stands on the page; families of one name follow each other."""
        return [family for group in self._groups() for family in group]

    def _groups(self) -> Iterator[_Group]:
        """Yield the families of each name, unless a name of theirs is taken already."""
        taken: dict[str, str] = {}
        for group in self._offered():
            name, kind = group[0].name, group[0].kind
            owned = series_names(name, kind)
            rival = next((taken[series] for series in owned if series in taken), None)
            if rival is not None:
                _left_out(f"{kind} {name!r}", f"{rival!r} is on the page already")
                continue
            taken.update(dict.fromkeys(owned, name))
            yield group

    def _offered(self) -> Iterator[_Group]:
        for family in _guarded("the registry", self._collect):
            yield [family]
        resources = [resource for _, resource in self._attached if resource is not None]
        if resources:
            yield [_target_info(resources[0])]
        for reader, _ in self._attached:
            families = _guarded("the SDK", partial(_read, reader))
            for _, group in groupby(families, key=attrgetter("name")):
                yield list(group)


def _guarded(source: str, collect: Callable[[], Iterable[Family]]) -> list[Family]:
    try:
        return list(collect())
    except Exception as error:  # noqa: BLE001  the other sources still have something to show
        _left_out(f"what {source} holds", repr(error))
        return []


def _read(reader: SnapshotReader) -> list[Family]:
    return families_from_sdk(reader.read())


def _target_info(resource: Resource) -> Family:
    point = InfoPoint((), dict(_labels(resource.attributes)))
    return Family("target", "info", "Target metadata", "", (), (point,), "target", "")


def _negotiate(accept: str) -> tuple[bool, str]:
    """Choose the format as prometheus_client does: whether it is OpenMetrics, and its type.

    All names fit the legacy character set, so every escaping scheme but `allow-utf-8` gives what
    `underscores` gives, and the answer says so.
    """
    _, chosen = _choose(accept)
    openmetrics = chosen.startswith("application/openmetrics-text")
    if "escaping=" not in chosen:
        return openmetrics, OPENMETRICS if openmetrics else TEXT
    scheme = "allow-utf-8" if chosen.endswith("allow-utf-8") else "underscores"
    base = OPENMETRICS if openmetrics else TEXT.replace("0.0.4", "1.0.0")
    return openmetrics, f"{base}; escaping={scheme}"


def _choose(accept: str) -> tuple[Callable[[Any], bytes], str]:
    try:
        return choose_encoder(accept)
    except Exception:  # noqa: BLE001  a version that is no number
        return choose_encoder("")


def _encode(document: str) -> bytes:
    try:
        body = document.encode()
    except UnicodeEncodeError:
        body = b"\0"
    return body if b"\0" not in body else _UNSAFE.sub("\ufffd", document).encode()


def _render(group: _Group, names: Collection[str], *, openmetrics: bool) -> str:
    """Render families of one name under one head; an empty string if none of it is wanted."""
    try:
        write = _WRITERS[group[0].kind]
        head = _head(group[0], openmetrics=openmetrics)
        lines = [line for family in group for line in write(family, openmetrics=openmetrics)]
    except Exception as error:  # noqa: BLE001  a page without this family is still a page
        _left_out(f"{group[0].kind} {group[0].name!r}", repr(error))
        return ""
    if names:
        lines = [line for line in lines if _SAMPLE_END.split(line, maxsplit=1)[0] in names]
        if not lines:
            return ""
    return head + "".join(lines)


def _head(family: Family, *, openmetrics: bool) -> str:
    text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    if not openmetrics:
        name = exposed_name(family.name, family.kind)
        kind = _TEXT_TYPES.get(family.kind, family.kind)
        return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    text = text.replace('"', r"\"")
    kind = "stateset" if family.kind == "enum" else family.kind
    unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
    return f"# HELP {family.name} {text}\n# TYPE {family.name} {kind}\n{unit}"


def _number_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    name = exposed_name(family.name, family.kind)
    series = _series_writer(name, family.labelnames)
    for point in cast("tuple[Point, ...]", family.points):  # as its kind says; here and below
        if openmetrics and family.kind == "counter" and not point.value >= 0:
            _left_out(f"counter {family.name!r}", f"it is {point.value}")
            continue
        exemplar = _exemplar_text(point.exemplar) if openmetrics and point.exemplar else ""
        yield f"{series(point.labels)} {_number(point.value)}{exemplar}\n"


def _histogram_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    bounds = [*map(floatToGoString, family.bounds), "+Inf"]
    # `le` stands among the labels by its name, like any other.
    bucket = _series_writer(f"{family.name}_bucket", (*family.labelnames, "le"))
    count = _series_writer(f"{family.name}_count", family.labelnames)
    total = _series_writer(f"{family.name}_sum", family.labelnames)
    negative = bool(family.bounds) and family.bounds[0] < 0
    for point in cast("tuple[HistogramPoint, ...]", family.points):
        below = tuple(accumulate(point.counts))
        for bound, number, exemplar in zip(bounds, below, point.exemplars, strict=True):
            note = _exemplar_text(exemplar) if openmetrics and exemplar else ""
            yield f"{bucket((*point.labels, bound))} {_number(number)}{note}\n"
        # With negative bounds, or values, a sum can fall, so it is no counter; OpenMetrics has both
        # or none.
        if not openmetrics or (not negative and point.sum >= 0):
            yield f"{count(point.labels)} {_number(below[-1])}\n"
        if not negative and (not openmetrics or point.sum >= 0):
            yield f"{total(point.labels)} {_number(point.sum)}\n"


def _summary_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    count = _series_writer(f"{family.name}_count", family.labelnames)
    total = _series_writer(f"{family.name}_sum", family.labelnames)
    for point in cast("tuple[SummaryPoint, ...]", family.points):
        yield f"{count(point.labels)} {_number(point.count)}\n"
        if not openmetrics or point.sum >= 0:
            yield f"{total(point.labels)} {_number(point.sum)}\n"


def _info_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:  # noqa: ARG001
    for point in cast("tuple[InfoPoint, ...]", family.points):
        series = _series_writer(f"{family.name}_info", (*family.labelnames, *point.info))
        yield f"{series((*point.labels, *point.info.values()))} 1.0\n"


def _enum_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:  # noqa: ARG001
    series = _series_writer(family.name, (*family.labelnames, family.name))
    for point in cast("tuple[EnumPoint, ...]", family.points):
        for state in family.states:
            yield f"{series((*point.labels, state))} {_number(int(state == point.state))}\n"


_WRITERS: Final = {
    "counter": _number_lines,
    "gauge": _number_lines,
    "histogram": _histogram_lines,
    "summary": _summary_lines,
    "info": _info_lines,
    "enum": _enum_lines,
}
_TEXT_TYPES: Final = {"info": "gauge", "enum": "gauge"}
_SAMPLE_END: Final = re.compile(r"[{ ]")


def _series_writer(name: str, labelnames: Sequence[str]) -> Callable[[tuple[str, ...]], str]:
    """Return what writes a series from its label values: `name{a="1",b="2"}`, labels by name."""
    if not labelnames:
        return lambda _values: name
    order = sorted(range(len(labelnames)), key=labelnames.__getitem__)
    template = name + "{" + ",".join(f'{labelnames[i]}="%s"' for i in order) + "}"
    quotes = 2 * len(labelnames)

    def write(values: tuple[str, ...]) -> str:
        ordered = tuple([values[i] for i in order])
        series = template % ordered
        # One look at the whole is faster than one at each value, and few need escapes.
        if series.count('"') == quotes and "\\" not in series and "\n" not in series:
            return series
        return template % tuple(map(_escaped, ordered))

    return write


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if type(value) is int and -_EXPONENT_FROM < value < _EXPONENT_FROM:
        return f"{value}.0"
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


#: From here on numbers are written with an exponent.
_EXPONENT_FROM: Final = 1_000_000


def _exemplar_text(exemplar: Exemplar) -> str:
    """Return ` # {trace_id="..",span_id=".."} value time`; names outside ASCII are replaced."""
    labels: dict[str, str] = {}
    if exemplar.trace_id:
        labels.update(trace_id=exemplar.trace_id, span_id=exemplar.span_id)
    for name, value in exemplar.labels:
        labels[name if _LABEL_NAME.fullmatch(name) else _legal(_NOT_IN_LABEL, name)] = value
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))
    return f" # {{{text}}} {_number(exemplar.value)} {exemplar.time}"


# --- The server -----------------------------------------------------------------------------------

_MOST_REQUESTS: Final = 16
_MOST_HEADER_BYTES: Final = 32_768
_READ_SECONDS: Final = 5.0
_WRITE_SECONDS: Final = 30.0
_DOCTOR: Final = "otel-pipeline-doctor"


class _Request(NamedTuple):
    method: str
    target: str
    headers: Mapping[str, str]


class _Response(NamedTuple):
    status: str
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


_NOT_FOUND: Final = _Response("404 Not Found", b"not found: try /metrics or /status\n")
_NOT_ALLOWED: Final = _Response(
    "405 Method Not Allowed", b"use GET or HEAD\n", headers=(("Allow", "GET, HEAD"),)
)
_BAD_REQUEST: Final = _Response("400 Bad Request", b"not an HTTP request\n")
_FAILED: Final = _Response("500 Internal Server Error", b"the page could not be made\n")


class MetricsServer:
    """Serves `/metrics` and `/status` by HTTP, from daemon threads, from construction to `stop`.

    Args:
        host: Name or address to listen on: `localhost`, `0.0.0.0`, `::`.
        port: TCP port; 0 for any free one.
        render: Makes the page from the Accept header and the names asked for by `?name[]=`.
        status: What `/status` shows beside `pid`, `started` (seconds since 1970) and `last_scrape`
            (`time`, `address` and `user_agent`, or null).
        tls: Speaks HTTPS with this.
        paths: Where the page of metrics is.

    Raises:
        OSError: The port is taken, or the host is not one of this machine.

    >>> with MetricsServer("localhost", 0, Exposition(list).render) as server:
    ...     server.url == f"http://localhost:{server.port}/metrics"
    True
    """

    def __init__(
        self,
        host: str,
        port: int,
        render: Renderer,
        status: Callable[[], Mapping[str, object]] = dict,
        *,
        tls: ssl.SSLContext | None = None,
        paths: Collection[str] = ("/metrics",),
    ) -> None:
        self._host, self._render, self._status, self._tls = host, render, status, tls
        self._paths = paths
        self._started = time.time()
        self._last_scrape: Mapping[str, object] | None = None
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._wakeup = socket.socketpair()
        self._stopping = threading.Event()
        self._slots = threading.Semaphore(_MOST_REQUESTS)
        self.thread = threading.Thread(
            target=self._serve, name="otel-pipeline-metrics", daemon=True
        )
        self.thread.start()
        _servers.add(self)

    @property
    def url(self) -> str:
        """The whole URL of the page; a wildcard address is shown as localhost."""
        host = "localhost" if self._host in {"", "0.0.0.0", "::"} else self._host  # noqa: S104  only compared
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"

    def __enter__(self) -> Self:
        """Return the server, which is running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop listening and free the port; requests under way end by themselves."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._slots.release()  # the server's thread may wait for a slot
        self._waker.send(b"\0")
        self.thread.join(1.0)
        self._close()

    # What prometheus_client's server calls all this.
    shutdown = stop
    server_close = stop

    @property
    def server_port(self) -> int:
        """The TCP port."""
        return self.port

    @property
    def server_address(self) -> tuple[str, int]:
        """Host and port."""
        return self._host, self.port

    def _close(self) -> None:
        for owned in (self._listener, self._waker, self._wakeup):
            owned.close()

    def _abandon(self) -> None:
        """Let go of the sockets in a forked child: the parent serves."""
        self._stopping = threading.Event()  # a thread of the parent may hold the inherited one
        self._stopping.set()
        self._close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                self._slots.acquire()
                if self._stopping.is_set() or not self._accept():
                    self._slots.release()

    def _accept(self) -> bool:
        """Hand the next connection to a thread; whether there was one, and a thread for it."""
        try:
            connection, address = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError:  # too many open files: wait, or this would spin
            self._stopping.wait(0.1)
            return False
        thread = threading.Thread(target=self._handle, args=(connection, address), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            connection.close()
            return False
        return True

    def _handle(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            connection.settimeout(_READ_SECONDS)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            request = _read_request(connection)
            response = _BAD_REQUEST if request is None else self._respond(request, str(address[0]))
            _send(connection, request, response)
        except OSError:  # slow, gone, or it does not speak TLS
            pass
        finally:
            connection.close()
            self._slots.release()

    def _respond(self, request: _Request, address: str) -> _Response:
        if request.method not in {"GET", "HEAD"}:
            return _NOT_ALLOWED
        try:
            url = urlsplit(request.target)
            if url.path in self._paths:
                return self._metrics(request, parse_qs(url.query).get("name[]", []), address)
            if url.path == "/status":
                return self._status_page()
        except Exception as error:  # noqa: BLE001  a page that fails must not end the thread loudly
            diagnostics.warn_once("server:failed", "a request to %s failed: %r", self.url, error)
            return _FAILED
        return self._index() if url.path == "/" else _NOT_FOUND

    def _metrics(self, request: _Request, names: Collection[str], address: str) -> _Response:
        body, content_type = self._render(request.headers.get("accept", ""), names)
        user_agent = request.headers.get("user-agent", "")
        if request.method == "GET" and not user_agent.startswith(_DOCTOR):
            self._last_scrape = {"time": time.time(), "address": address, "user_agent": user_agent}
        if not _accepts_gzip(request.headers.get("accept-encoding", "")):
            return _Response("200 OK", body, content_type)
        packed = gzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0)
        return _Response("200 OK", packed, content_type, (("Content-Encoding", "gzip"),))

    def _status_page(self) -> _Response:
        status = {
            **self._status(),
            "pid": os.getpid(),
            "started": self._started,
            "last_scrape": self._last_scrape,
        }
        return _Response("200 OK", json.dumps(status, default=str).encode(), "application/json")

    def _index(self) -> _Response:
        return _Response("200 OK", b"/metrics  for Prometheus\n/status   who scraped last\n")


#: A scrape is sent over a fast network, so speed is worth more than the last tenth of size.
_GZIP_LEVEL: Final = 1


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; a name that has several addresses gets an IPv4 one."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003  the stdlib's signature
    except BaseException:
        listener.close()
        raise
    return listener


def _read_request(connection: socket.socket) -> _Request | None:
    """Read up to the end of the headers, all within the time limit; None if it is no request."""
    deadline = time.monotonic() + _READ_SECONDS
    head = b""
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        received = connection.recv(4096)
        head += received
        if not received or len(head) > _MOST_HEADER_BYTES:
            return None
    first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):  # noqa: PLR2004  method, target, version
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _Request(words[0], words[1], headers)


def _send(connection: socket.socket, request: _Request | None, response: _Response) -> None:
    lines = [
        f"HTTP/1.1 {response.status}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    connection.settimeout(_WRITE_SECONDS)
    connection.sendall(head if request and request.method == "HEAD" else head + response.body)
    connection.shutdown(socket.SHUT_WR)
    if response.status[0] == "4":
        # What the client still sends (a body, a long line) would reset the connection otherwise,
        # and the answer with it.
        connection.settimeout(0.5)
        connection.recv(_MOST_HEADER_BYTES)


def _accepts_gzip(accept_encoding: str) -> bool:
    for choice in accept_encoding.split(","):
        coding, _, quality = choice.replace(" ", "").lower().partition(";")
        if coding == "gzip":
            return not re.fullmatch(r"q=0(\.0*)?", quality)
    return False


_servers: weakref.WeakSet[MetricsServer] = weakref.WeakSet()


def _abandon_all() -> None:
    for server in list(_servers):
        server._abandon()  # noqa: SLF001  one module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


# --- Without configure() --------------------------------------------------------------------------

_default: Final = Exposition(REGISTRY.collect)


def default_exposition() -> Exposition:
    """Return the page of this process: the default registry, and what `configure()` attached."""
    return _default


def start_http_server(  # noqa: PLR0917  prometheus_client's signature
    port: int,
    addr: str = "0.0.0.0",  # noqa: S104  prometheus_client's default
    registry: Registry | CollectorRegistry | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    client_cafile: str | None = None,
    client_capath: str | None = None,
    protocol: int = ssl.PROTOCOL_TLS_SERVER,
    client_auth_required: bool = False,  # noqa: FBT001, FBT002
    tls_min_version: ssl.TLSVersion | None = None,
    tls_max_version: ssl.TLSVersion | None = None,
) -> tuple[MetricsServer, threading.Thread]:
    """Serve metrics on a port of their own, as prometheus_client's function of that name does.

    It needs no `configure()`. The page is at `/metrics`, and at `/` as there.

    Args:
        port: TCP port; 0 for any free one, which `server.port` tells.
        addr: Address to listen on.
        registry: What to serve: a `Registry`, or prometheus_client's `CollectorRegistry`; by
            default every metric of the program.
        certfile: Certificate for HTTPS; needs `keyfile`.
        keyfile: Its private key.
        client_cafile: Certificates that sign those of clients.
        client_capath: A folder of such certificates.
        protocol: A protocol of the `ssl` module.
        client_auth_required: Whether clients must show a certificate.
        tls_min_version: The oldest TLS version to speak.
        tls_max_version: The newest.

    Returns:
        The server, whose `shutdown()` ends it, and its thread.

    Raises:
        OSError: The port is taken, or a certificate cannot be read.

    >>> server, thread = start_http_server(0, addr="localhost")
    >>> server.shutdown()
    >>> thread.join()
    """
    tls = None
    if certfile and keyfile:
        tls = ssl.SSLContext(protocol)
        tls.load_cert_chain(certfile, keyfile)
        if client_cafile or client_capath:
            tls.load_verify_locations(client_cafile, client_capath)
        if client_auth_required:
            tls.verify_mode = ssl.CERT_REQUIRED
        if tls_min_version is not None:
            tls.minimum_version = tls_min_version
        if tls_max_version is not None:
            tls.maximum_version = tls_max_version
    server = MetricsServer(addr, port, _renderer(registry), tls=tls, paths=("/metrics", "/"))
    return server, server.thread


def _renderer(registry: Registry | CollectorRegistry | None) -> Renderer:
    if registry is None:
        return _default.render
    if isinstance(registry, Registry):
        return Exposition(registry.collect).render

    def render(accept: str, names: Collection[str]) -> tuple[bytes, str]:
        """Serve a registry of prometheus_client's the way it does."""
        encode, content_type = _choose(accept)
        return encode(registry.restricted_registry(names) if names else registry), content_type

    return render
