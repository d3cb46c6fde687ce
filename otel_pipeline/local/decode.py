"""From the items of a request to the rows that are stored.

An item that cannot be stored is left out and said; the others are kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_pipeline.local import signature
from otel_pipeline.local.attributes import Dictionary, text_of
from otel_pipeline.local.limits import MAX_ATTRIBUTES, MAX_ITEM
from otel_pipeline.local.wire import (
    BadRequestError,
    DecodeError,
    Group,
    LogAttributes,
    OuterMetric,
    Points,
    SpanAttributes,
)
from otel_pipeline.semconv import RECORD_STATUSES, Attr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sized

__all__ = ["KINDS", "Decoder", "Origin", "Rejects", "Run", "Series", "resource_of", "service_of"]

_LATEST: Final = 2**63 - 1
_ERROR: Final = Status.STATUS_CODE_ERROR
_ERROR_BITS: Final = signature.element("status=error")
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
_LONGEST_TEXT: Final = 1_000  # characters of a log line's body beside the whole record

_RECORDS: Final = {Attr.RECORDS + status: status for status in RECORD_STATUSES}
_RUN_KEYS: Final = (
    Attr.RUN_ID,
    Attr.PIPELINE_NAME,
    Attr.PIPELINE_MODE,
    Attr.STATUS,
    Attr.STAGE,
    *_RECORDS,
)

#: What holds a metric's points, with the type of one and the metric's kind.
KINDS: Final[dict[str, Any]] = {
    "gauge": metrics_pb2.NumberDataPoint,
    "sum": metrics_pb2.NumberDataPoint,
    "histogram": metrics_pb2.HistogramDataPoint,
    "exponential_histogram": metrics_pb2.ExponentialHistogramDataPoint,
    "summary": metrics_pb2.SummaryDataPoint,
}


class Origin(NamedTuple):
    """Where items came from.

    Attributes:
        resource: The number of the resource in the store.
        scope: The number of the instrumentation scope in the store.
        service: The service's name.
    """

    resource: int
    scope: int
    service: str


@dataclass(slots=True)
class Rejects:
    """The items of a request that cannot be stored: how many, and why the first of them."""

    count: int = 0
    reason: str = ""

    def add(self, reason: object, count: int = 1) -> None:
        """Count items that are left out."""
        self.count += count
        self.reason = self.reason or str(reason)[:200]


@dataclass(slots=True)
class Run:
    """What a batch of spans says of one run.

    Attributes:
        trace_id: The trace of the run's own span, or of another of its spans.
        start: Unix time of the earliest span's start, in nanoseconds.
        end: Unix time of the latest span's end, in nanoseconds.
        mode: The pipeline's mode, from the run's own span; None where it is not there.
        status: How the run ended, from its own span; None before.
        records: Records by status, from its own span.
    """

    trace_id: bytes
    start: int
    end: int
    mode: str | None = None
    status: str | None = None
    records: tuple[int | None, ...] = (None, None, None)


class Series(NamedTuple):
    """A metric's series, with what the store keeps of it.

    Attributes:
        digest: Tells it from any other.
        metric: The metric without its points, as OTLP.
        name: The metric's name.
        kind: `gauge`, `sum`, `histogram`, `exponential_histogram` or `summary`.
        unit: The metric's unit.
        attributes: Those of the points, as (key, value as text).
        bits: The signature.
    """

    digest: bytes
    metric: bytes
    name: str
    kind: str
    unit: str
    attributes: tuple[tuple[str, str], ...]
    bits: int


class _Spans:
    """Makes the rows of the spans of one scope."""

    def __init__(
        self, attributes: Dictionary, origin: Origin, runs: dict[tuple[str, ...], Run]
    ) -> None:
        self._known, self._learn = attributes.known.get, attributes.learn
        self._origin = origin
        self._runs = runs
        self._bits = signature.element(f"service={origin.service}")
        self._names: dict[str, int] = {}

    def row(self, raw: bytes) -> tuple[Any, ...]:
        """Return the row of a span; the program spends most of its time here."""
        span = _whole(Span, raw)
        attributes = SpanAttributes.FromString(raw).attributes
        _check_count(attributes)
        trace_id, span_id, parent = span.trace_id, span.span_id, span.parent_span_id or None
        _check_ids(trace_id, span_id)
        _check_ids(None, parent)
        if trace_id == _NO_TRACE or span_id == _NO_SPAN:
            raise ValueError("a span whose trace id or span id is zero")
        start, end = span.start_time_unix_nano, span.end_time_unix_nano
        _check_time(max(start, end))
        name, status = span.name, span.status.code
        bits = self._names.get(name) or self._learn_name(name)
        if status == _ERROR:
            bits |= _ERROR_BITS
        known, learn = self._known, self._learn
        told: dict[str, str] | None = None
        for attribute in attributes:
            more, key, text = known(attribute) or learn(attribute)
            bits |= more
            if key:
                told = told or {}
                told[key] = text
        duration = end - start if end > start else 0
        if told and Attr.RUN_ID in told:
            self._tell_run(told, trace_id, start, start + duration)
        return (
            trace_id,
            span_id,
            parent,
            self._origin.resource,
            self._origin.scope,
            name,
            span.kind,
            start,
            duration,
            status,
            *signature.integers(bits),
            raw,
        )

    def _learn_name(self, name: str) -> int:
        bits = self._bits | signature.element(f"name={name}") | signature.phrase(name)
        self._names[name] = bits
        return bits

    def _tell_run(self, told: dict[str, str], trace_id: bytes, start: int, end: int) -> None:
        key = (told[Attr.RUN_ID], told.get(Attr.PIPELINE_NAME, ""), self._origin.service)
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = Run(trace_id, start, end)
        run.start = min(run.start, start)
        run.end = max(run.end, end)
        if mode := told.get(Attr.PIPELINE_MODE):  # only the run's own span has it
            run.trace_id, run.mode = trace_id, mode
            run.status = told.get(Attr.STATUS)
            run.records = tuple(_number(told.get(name)) for name in _RECORDS)


class _Logs:
    """Makes the rows of the log records of one scope."""

    def __init__(self, attributes: Dictionary, origin: Origin) -> None:
        self._known, self._learn = attributes.known.get, attributes.learn
        self._origin = origin
        self._bits = signature.element(f"service={origin.service}")

    def row(self, raw: bytes) -> tuple[Any, ...]:
        """Return the row of a log record."""
        record = _whole(LogRecord, raw)
        attributes = LogAttributes.FromString(raw).attributes
        _check_count(attributes)
        trace_id, span_id = record.trace_id or _NO_TRACE, record.span_id or _NO_SPAN
        _check_ids(trace_id, span_id)
        time = record.time_unix_nano or record.observed_time_unix_nano
        _check_time(time)
        text = text_of(record.body)
        bits = self._bits | signature.phrase(text)
        for attribute in attributes:
            bits |= (self._known(attribute) or self._learn(attribute)).bits
        return (
            time,
            record.severity_number,
            None if trace_id == _NO_TRACE else trace_id,
            None if span_id == _NO_SPAN else span_id,
            self._origin.resource,
            self._origin.scope,
            text[:_LONGEST_TEXT],
            *signature.integers(bits),
            raw,
        )


def _rows(
    items: Iterable[bytes], row_of: Callable[[bytes], tuple[Any, ...]], bad: Rejects
) -> list[tuple[Any, ...]]:
    rows = []
    for raw in items:
        try:
            rows.append(row_of(raw))
        except (DecodeError, ValueError) as error:
            bad.add(error)
    return rows


@dataclass(slots=True)
class Decoder:
    """Makes rows; remembers the attributes that it has seen."""

    _span_attributes: Dictionary = field(default_factory=lambda: Dictionary(_RUN_KEYS))
    _log_attributes: Dictionary = field(default_factory=lambda: Dictionary(()))

    def spans(
        self, items: Iterable[bytes], origin: Origin, runs: dict[tuple[str, ...], Run], bad: Rejects
    ) -> list[tuple[Any, ...]]:
        """Return the rows of spans, and add what they say of runs to `runs`."""
        row_of = _Spans(self._span_attributes, origin, runs).row
        return _rows(items, row_of, bad)

    def logs(self, items: Iterable[bytes], origin: Origin, bad: Rejects) -> list[tuple[Any, ...]]:
        """Return the rows of log records."""
        row_of = _Logs(self._log_attributes, origin).row
        return _rows(items, row_of, bad)

    def points(
        self,
        items: Iterable[bytes],
        origin: Origin,
        series_id: Callable[[Series, Origin], int],
        bad: Rejects,
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Return the rows of data points and of exemplars.

        Args:
            items: Metrics.
            origin: Where they came from.
            series_id: Returns the number of a series in the store.
            bad: Takes what is left out.
        """
        rows: list[tuple[Any, ...]] = []
        exemplars: list[tuple[Any, ...]] = []
        for item in items:
            try:
                outer, kind, points = _metric(item)
            except (DecodeError, ValueError) as error:
                bad.add(error)
                continue
            without = Points(
                aggregation_temporality=points.aggregation_temporality,
                is_monotonic=points.is_monotonic,
            )
            setattr(outer, kind, without.SerializeToString())
            metric = outer.SerializeToString()
            for raw in points.data_points:
                try:
                    point = _whole(KINDS[kind], raw)
                    series = _series(origin, metric, outer, kind, point)
                    row, found = _point(point, kind)
                except (DecodeError, ValueError) as error:
                    bad.add(error)
                    continue
                number = series_id(series, origin)
                rows.append((number, *row, raw))
                exemplars += [(number, *exemplar) for exemplar in found]
        return rows, exemplars


def resource_of(head: bytes) -> Any:
    """Return the resource of a group's head.

    Raises:
        BadRequestError: It is none.
    """
    try:
        return Resource.FromString(Group.FromString(head).head)
    except DecodeError as error:
        raise BadRequestError(f"not an OTLP request: a resource: {error}") from error


def service_of(resource: Any) -> str:
    """Return the name of the service that a resource describes."""
    for pair in resource.attributes:
        if pair.key == "service.name":
            return text_of(pair.value)
    return "unknown_service"


def _whole(kind: Any, raw: bytes) -> Any:
    if len(raw) > MAX_ITEM:
        raise ValueError(f"an item of {len(raw)} bytes; at most {MAX_ITEM}")
    return kind.FromString(raw)


def _check_ids(trace_id: bytes | None, span_id: bytes | None) -> None:
    if trace_id is not None and len(trace_id) != len(_NO_TRACE):
        raise ValueError(f"a trace id of {len(trace_id)} bytes; it has 16")
    if span_id is not None and len(span_id) != len(_NO_SPAN):
        raise ValueError(f"a span id of {len(span_id)} bytes; it has 8")


def _check_count(attributes: Sized) -> None:
    if len(attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"{len(attributes)} attributes; at most {MAX_ATTRIBUTES}")


def _check_time(time: int) -> None:
    if time > _LATEST:
        raise ValueError("a time after the year 2262")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None  # noqa: PLR2004


def _metric(raw: bytes) -> tuple[Any, str, Any]:
    outer = OuterMetric.FromString(raw)
    kind = next((name for name in KINDS if getattr(outer, name)), "gauge")
    if not outer.name:
        raise ValueError("a metric without a name")
    points = Points.FromString(getattr(outer, kind))
    for name in KINDS:
        outer.ClearField(name)
    return outer, kind, points


def _series(origin: Origin, metric: bytes, outer: Any, kind: str, point: Any) -> Series:
    _check_count(point.attributes)
    pairs = tuple(sorted((pair.key, text_of(pair.value)) for pair in point.attributes))
    said = repr((origin.resource, origin.scope, metric, pairs)).encode()
    digest = hashlib.blake2b(said, digest_size=16).digest()
    bits = signature.union(signature.pair(key, text) for key, text in pairs)
    return Series(digest, metric, outer.name, kind, outer.unit, pairs, bits)


def _point(point: Any, kind: str) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    time, start = point.time_unix_nano, point.start_time_unix_nano
    _check_time(max(time, start))
    if kind in {"gauge", "sum"}:
        which = point.WhichOneof("value")
        value = None if which is None else float(getattr(point, which))
        row = (time, start, value, None)
    else:
        row = (time, start, point.sum, min(point.count, _LATEST))
    exemplars = []
    for exemplar in () if kind == "summary" else point.exemplars:
        trace_id, span_id = exemplar.trace_id or None, exemplar.span_id or None
        _check_ids(trace_id, span_id)
        if trace_id and exemplar.time_unix_nano <= _LATEST:
            which = exemplar.WhichOneof("value")
            number = None if which is None else float(getattr(exemplar, which))
            exemplars.append((exemplar.time_unix_nano, trace_id, span_id, number))
    return row, exemplars
