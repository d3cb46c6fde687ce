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
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from otel_pipeline.local.attributes import Dictionary, text_of
from otel_pipeline.local.limits import MAX_ATTRIBUTES, MAX_ITEM, MAX_ITEMS
from otel_pipeline.local.signature import LOGS, SPANS
from otel_pipeline.local.wire import (
    BadRequestError,
    DecodeError,
    Group,
    LogAttributes,
    OuterMetric,
    Points,
    RawSpan,
    TooLargeError,
)
from otel_pipeline.semconv import RECORD_STATUSES, Attr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sized

    from otel_pipeline.local.attributes import Known

__all__ = [
    "KINDS",
    "Block",
    "Decoder",
    "Origin",
    "Rejects",
    "Run",
    "Series",
    "resource_of",
    "service_of",
]

_LATEST: Final = 2**63 - 1
_ERROR: Final = Status.STATUS_CODE_ERROR
_ERROR_BITS: Final = SPANS.element("status=error")
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
_TRACE: Final = 16
_SPAN: Final = 8
_IN_BLOCK: Final = 32
_MOST_NAMES: Final = 10_000
_LONGEST_NAME: Final = 256
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

    def widen(self, start: int, end: int) -> None:
        """Take in another time."""
        self.start = min(self.start, start)
        self.end = max(self.end, end)


class Series(NamedTuple):
    """A metric's series, with what the store keeps of it.

    Attributes:
        digest: Tells it from any other.
        metric: The metric without its points, as OTLP.
        name: The metric's name.
        kind: `gauge`, `sum`, `histogram`, `exponential_histogram` or `summary`.
        unit: The metric's unit.
        attributes: Those of the points, as (key, value as text).
    """

    digest: bytes
    metric: bytes
    name: str
    kind: str
    unit: str
    attributes: tuple[tuple[str, str], ...]


class Block(NamedTuple):
    """Some spans of one resource and scope that came together, and are stored together.

    Attributes:
        spans: The spans as they came.
        traces: Their trace ids.
        first: The earliest start, in nanoseconds of Unix time.
        last: The latest start.
        longest: The longest duration, in nanoseconds.
        bits: Their signature.
        roots: Those without a parent, as (trace id, span id, name, start, duration, status).
    """

    spans: list[bytes]
    traces: list[bytes]
    first: int
    last: int
    longest: int
    bits: int
    roots: list[tuple[Any, ...]]


class _Spans:
    """Puts the spans of one scope together into blocks.

    The program spends most of its time here. What is done for each span is little; the attributes
    of all spans of a block are looked at together, as most are the same.
    """

    def __init__(
        self,
        attributes: Dictionary,
        names: dict[str, int],
        origin: Origin,
        runs: dict[tuple[str, ...], Run],
    ) -> None:
        self._known, self._learn = attributes.known.get, attributes.learn
        self._names = names
        self._service = origin.service
        self._runs = runs

    def block(self, items: list[bytes], bad: Rejects) -> Block | None:
        """Return a block of the items, or None if none of them can be stored."""
        spans: list[tuple[bytes, Any, Any]] = []
        seen: set[bytes] = set()
        for raw in items:
            try:
                span = _whole(RawSpan, raw)
                attributes = span.attributes
                _check_span(span)
                _check_count(attributes)
                seen.update(attributes)
            except (DecodeError, ValueError) as error:
                bad.add(error)
            else:
                spans.append((raw, span, attributes))
        try:
            bits, told = self._look(seen)
        except (DecodeError, ValueError):  # one of the attributes: leave out whose it is
            good = [raw for raw, _, attributes in spans if self._can_learn(attributes, bad)]
            return self.block(good, bad)
        return self._put_together(spans, bits, told) if spans else None

    def _look(self, seen: set[bytes]) -> tuple[int, dict[bytes, Known]]:
        """Return the bits of attributes, and those that are about runs."""
        known, learn = self._known, self._learn
        bits = 0
        told = {}
        for raw in seen:
            found = known(raw) or learn(raw)
            bits |= found.bits
            if found.key:
                told[raw] = found
        return bits, told

    def _can_learn(self, attributes: Iterable[bytes], bad: Rejects) -> bool:
        try:
            self._look(set(attributes))
        except (DecodeError, ValueError) as error:
            bad.add(error)
            return False
        return True

    def _put_together(
        self, spans: list[tuple[bytes, Any, Any]], bits: int, told: dict[bytes, Known]
    ) -> Block:
        names, starts, ends, traces, roots = set(), [], [], set(), []
        longest = 0
        for _, span, _ in spans:
            start, end, name = span.start_time_unix_nano, span.end_time_unix_nano, span.name
            names.add(name)
            starts.append(start)
            ends.append(end)
            traces.add(span.trace_id)
            duration = end - start
            if duration > longest:  # noqa: PLR1730  faster than max()
                longest = duration
            code = span.status.code
            if code == _ERROR:
                bits |= _ERROR_BITS
            if not span.parent_span_id:
                roots.append((span.trace_id, span.span_id, name, start, max(duration, 0), code))
        for name in names:
            bits |= self._names.get(name) or self._learn_name(name)
        self._tell_runs(spans, told, min(starts), max(ends))
        raws = [raw for raw, _, _ in spans]
        return Block(raws, list(traces), min(starts), max(starts), longest, bits, roots)

    def _learn_name(self, name: str) -> int:
        bits = SPANS.element(f"name={name}") | SPANS.phrase(name)
        if len(name) <= _LONGEST_NAME:
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[name] = bits
        return bits

    def _tell_runs(
        self, spans: list[tuple[bytes, Any, Any]], told: dict[bytes, Known], start: int, end: int
    ) -> None:
        ids = {one.text for one in told.values() if one.key == Attr.RUN_ID}
        if not ids:
            return
        pipelines = {one.text for one in told.values() if one.key == Attr.PIPELINE_NAME}
        if len(ids) == len(pipelines) == 1:
            # Nearly always. Only the run's own span has more to say.
            key = (*ids, *pipelines, self._service)
            self._runs.setdefault(key, Run(spans[0][1].trace_id, start, end)).widen(start, end)
            modes = {raw for raw, one in told.items() if one.key == Attr.PIPELINE_MODE}
            spans = [one for one in spans if modes and not modes.isdisjoint(one[2])]
        for _, span, attributes in spans:
            self._tell_run(
                span, {one.key: one.text for raw in attributes if (one := told.get(raw))}
            )

    def _tell_run(self, span: Any, told: dict[str, str]) -> None:
        run_id = told.get(Attr.RUN_ID)
        if run_id is None:
            return
        key = (run_id, told.get(Attr.PIPELINE_NAME, ""), self._service)
        start, end = span.start_time_unix_nano, span.end_time_unix_nano
        run = self._runs.setdefault(key, Run(span.trace_id, start, max(start, end)))
        run.widen(start, end)
        if mode := told.get(Attr.PIPELINE_MODE):  # only the run's own span has it
            run.trace_id, run.mode = span.trace_id, mode
            run.status = told.get(Attr.STATUS)
            run.records = tuple(_number(told.get(name)) for name in _RECORDS)


class _Logs:
    """Makes the rows of the log records of one scope."""

    def __init__(self, attributes: Dictionary, origin: Origin) -> None:
        self._known, self._learn = attributes.known.get, attributes.learn
        self._origin = origin
        self._bits = LOGS.element(f"service={origin.service}")

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
        bits = self._bits | LOGS.phrase(text)
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
            *LOGS.integers(bits),
            raw,
        )


@dataclass(slots=True)
class Decoder:
    """Makes rows; remembers the attributes that it has seen."""

    _span_attributes: Dictionary = field(default_factory=lambda: Dictionary(SPANS, _RUN_KEYS))
    _names: dict[str, int] = field(default_factory=dict)
    _log_attributes: Dictionary = field(default_factory=lambda: Dictionary(LOGS))

    def spans(
        self, items: list[bytes], origin: Origin, runs: dict[tuple[str, ...], Run], bad: Rejects
    ) -> Iterator[Block]:
        """Yield the spans in blocks, and add what they say of runs to `runs`."""
        together = _Spans(self._span_attributes, self._names, origin, runs)
        for at in range(0, len(items), _IN_BLOCK):
            block = together.block(items[at : at + _IN_BLOCK], bad)
            if block is not None:
                yield block

    def logs(self, items: Iterable[bytes], origin: Origin, bad: Rejects) -> list[tuple[Any, ...]]:
        """Return the rows of log records."""
        row_of = _Logs(self._log_attributes, origin).row
        rows = []
        for raw in items:
            try:
                rows.append(row_of(raw))
            except (DecodeError, ValueError) as error:
                bad.add(error)
        return rows

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

        Raises:
            TooLargeError: There are more points than the limit.
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
            if len(rows) + len(points.data_points) > MAX_ITEMS:
                raise TooLargeError(f"more than {MAX_ITEMS} data points in one request")
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
                exemplars += [(number, *one) for one in found[: MAX_ITEMS - len(exemplars)]]
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
    if trace_id is not None and len(trace_id) != _TRACE:
        raise ValueError(f"a trace id of {len(trace_id)} bytes; it has 16")
    if span_id is not None and len(span_id) != _SPAN:
        raise ValueError(f"a span id of {len(span_id)} bytes; it has 8")


def _check_span(span: Any) -> None:
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != _TRACE or len(span_id) != _SPAN:
        _check_ids(trace_id, span_id)
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        raise ValueError("a span whose trace id or span id is zero")
    if span.parent_span_id:
        _check_ids(None, span.parent_span_id)
    if span.start_time_unix_nano > _LATEST or span.end_time_unix_nano > _LATEST:
        raise ValueError("a time after the year 2262")


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
    return Series(digest, metric, outer.name, kind, outer.unit, pairs)


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
