"""The OTLP side of metrics: all of them in one request, sent again and again.

```text
Registry.collect() ──────┐
                         ├─> encode() ─> changes() if delta ─> BatchProcessor ─> receiver
SnapshotReader.read() ───┘
```

A push is one item of the queue that spans and log records go through, so that time limits, a
receiver that is away, and what is said about it are the same for all signals. One push is on its
way at a time: totals that could not be sent are in the next one.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from dataclasses import dataclass, replace
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics

from otel_pipeline import clock, diagnostics
from otel_pipeline.metrics.names import label_text
from otel_pipeline.metrics.snapshots import (
    EnumPoint,
    HistogramPoint,
    InfoPoint,
    Point,
    SummaryPoint,
)
from otel_pipeline.sdk.batch import BatchProcessor
from otel_pipeline.semconv import Signal
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from opentelemetry.sdk.metrics.export import Metric as SdkMetric
    from opentelemetry.sdk.resources import Resource

    from otel_pipeline.metrics.snapshots import Exemplar, Family
    from otel_pipeline.sdk.ledger import Ledger
    from otel_pipeline.sdk.sdk_reader import SnapshotReader
    from otel_pipeline.sdk.spool import Shelf
    from otel_pipeline.sdk.transport import Outcome, Transport

__all__ = ["MetricPush", "Totals", "changes", "encode", "point_count"]

_SCOPE: Final = "otel_pipeline"
_INT64: Final = 2**63
_TRACE_ID: Final = re.compile(r"(?!0+$)[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0+$)[0-9a-f]{16}")

_CUMULATIVE: Final = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA: Final = metrics_pb2.AGGREGATION_TEMPORALITY_DELTA


# --- Encoding -------------------------------------------------------------------------------------


def encode(
    families: Iterable[Family], data: MetricsData | None, resource: Resource, *, now: int
) -> ExportMetricsServiceRequest:
    """Encode the library's families and what the SDK recorded as one OTLP request of totals.

    Args:
        families: What `Registry.collect` returned.
        data: What `SnapshotReader.read` returned.
        resource: What the process is; also stands for the one in `data`.
        now: The time of the families' values, in nanoseconds since 1970.

    Returns:
        The request. A summary is a histogram without bounds; info and enum are gauges of 1 and 0.
        A metric that cannot be encoded is left out, and said once on stderr.
    """
    request = encode_metrics(MetricsData([ResourceMetrics(resource, [], resource.schema_url)]))
    (described,) = request.resource_metrics
    own = metrics_pb2.ScopeMetrics(
        scope=common_pb2.InstrumentationScope(name=_SCOPE, version=__version__)
    )
    for family in families:
        try:
            metric = _metric(family, now)
        except Exception as error:  # noqa: BLE001  one strange metric hides no other
            _left_out(family.name, error)
        else:
            if metric is not None:
                own.metrics.append(metric)
    if own.metrics:
        described.scope_metrics.append(own)
    for part in data.resource_metrics if data else ():
        for encoded in _encode_sdk(part).resource_metrics:
            described.scope_metrics.extend(encoded.scope_metrics)
    return request


def _encode_sdk(part: ResourceMetrics) -> ExportMetricsServiceRequest:
    try:
        return encode_metrics(MetricsData([part]))
    except Exception:  # noqa: BLE001  some metric in it: find out which
        scopes = [
            replace(scope, metrics=[m for m in scope.metrics if _can_encode(part, m)])
            for scope in part.scope_metrics
        ]
        return encode_metrics(MetricsData([replace(part, scope_metrics=scopes)]))


def _can_encode(part: ResourceMetrics, metric: SdkMetric) -> bool:
    scope = replace(part.scope_metrics[0], metrics=[metric])
    try:
        encode_metrics(MetricsData([replace(part, scope_metrics=[scope])]))
    except Exception as error:  # noqa: BLE001  whatever a value makes the encoder raise
        _left_out(metric.name, error)
        return False
    return True


def _left_out(name: str, error: Exception) -> None:
    diagnostics.warn_once(
        f"encode:{name}", "metric %r is left out of what is sent by OTLP: %r", name, error
    )


def _metric(family: Family, now: int) -> metrics_pb2.Metric | None:
    if not family.points:
        return None
    metric = metrics_pb2.Metric(
        name=family.otel_name,
        description=label_text(family.documentation),
        unit=family.otel_unit,
    )
    match family.kind:
        case "counter":
            metric.sum.is_monotonic = True
            metric.sum.aggregation_temporality = _CUMULATIVE
            metric.sum.data_points.extend(_number_points(family, now))
        case "histogram" | "summary":
            metric.histogram.aggregation_temporality = _CUMULATIVE
            metric.histogram.data_points.extend(_histogram_points(family, now))
        case _:
            metric.gauge.data_points.extend(_number_points(family, now))
    return metric


def _number_points(family: Family, now: int) -> Iterator[metrics_pb2.NumberDataPoint]:
    for point in family.points:
        labels = dict(zip(family.labelnames, point.labels, strict=True))
        match point:
            case Point():
                encoded = _number_point(labels, point.value, now)
                if family.kind == "counter":
                    encoded.start_time_unix_nano = point.start
                if point.exemplar is not None:
                    encoded.exemplars.append(_exemplar(point.exemplar))
                yield encoded
            case InfoPoint():
                yield _number_point({**labels, **point.info}, 1, now)
            case EnumPoint():
                for state in family.states:
                    state_labels = {**labels, family.name: state}
                    yield _number_point(state_labels, int(state == point.state), now)


def _number_point(labels: Mapping[str, str], value: float, now: int) -> metrics_pb2.NumberDataPoint:
    return metrics_pb2.NumberDataPoint(
        attributes=_attributes(labels.items()), time_unix_nano=now, **_number(value)
    )


def _histogram_points(family: Family, now: int) -> Iterator[metrics_pb2.HistogramDataPoint]:
    for point in family.points:
        match point:
            case HistogramPoint():
                encoded = _histogram_point(point, point.counts, now)
                encoded.explicit_bounds.extend(family.bounds)
                encoded.exemplars.extend(_exemplar(e) for e in point.exemplars if e is not None)
            case SummaryPoint():
                encoded = _histogram_point(point, [point.count], now)
            case _:
                raise TypeError(f"{type(point).__name__} in a {family.kind}")
        encoded.attributes.extend(_attributes(zip(family.labelnames, point.labels, strict=True)))
        yield encoded


def _histogram_point(
    point: HistogramPoint | SummaryPoint, counts: Sequence[int], now: int
) -> metrics_pb2.HistogramDataPoint:
    return metrics_pb2.HistogramDataPoint(
        start_time_unix_nano=point.start,
        time_unix_nano=now,
        count=sum(counts),
        sum=point.sum,
        bucket_counts=counts,
    )


def _number(value: float) -> dict[str, Any]:
    """Return the field of a number: an int stays one, unless it needs more than 64 bits."""
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return {"as_int": value}
    return {"as_double": float(value)}


def _attributes(labels: Iterable[tuple[str, str]]) -> list[common_pb2.KeyValue]:
    return [
        common_pb2.KeyValue(key=name, value=common_pb2.AnyValue(string_value=value))
        for name, value in labels
    ]


def _exemplar(exemplar: Exemplar) -> metrics_pb2.Exemplar:
    """Encode an exemplar; ids that the user gave as labels go where receivers look for them."""
    labels = dict(exemplar.labels)
    ids = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
    for name, form in (("trace_id", _TRACE_ID), ("span_id", _SPAN_ID)):
        if form.fullmatch(labels.get(name, "")):
            ids[name] = labels.pop(name)
    return metrics_pb2.Exemplar(
        time_unix_nano=int(exemplar.time * 1e9),
        trace_id=bytes.fromhex(ids["trace_id"]),
        span_id=bytes.fromhex(ids["span_id"]),
        filtered_attributes=_attributes(labels.items()),
        **_number(exemplar.value),
    )


def point_count(request: ExportMetricsServiceRequest) -> int:
    """Return how many data points a request has."""
    return sum(
        len(_data(metric).data_points)
        for resource_metrics in request.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
    )


def _data(metric: metrics_pb2.Metric) -> Any:
    return getattr(metric, metric.WhichOneof("data") or "gauge")


# --- Delta temporality ----------------------------------------------------------------------------

#: Points of totals by scope, metric name and attributes.
Totals = dict[tuple[bytes, str, bytes], Any]


def changes(
    request: ExportMetricsServiceRequest, before: Totals
) -> tuple[ExportMetricsServiceRequest, Totals]:
    """Return what has changed since the totals that the receiver has.

    Args:
        request: Totals, as `encode` returns them; left as it is.
        before: What an earlier call returned, for a request that was delivered; first empty.

    Returns:
        A request with the changes of sums and histograms (gauges and sums that may fall stay as
        they are), without series that have not changed; and the totals that it leads to.
    """
    totals: Totals = {}
    result = ExportMetricsServiceRequest()
    for resource_metrics in request.resource_metrics:
        described = result.resource_metrics.add(
            resource=resource_metrics.resource, schema_url=resource_metrics.schema_url
        )
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope.SerializeToString(deterministic=True)
            changed = [_changed(metric, scope, before, totals) for metric in scope_metrics.metrics]
            described.scope_metrics.add(
                scope=scope_metrics.scope,
                schema_url=scope_metrics.schema_url,
                metrics=[metric for metric in changed if _data(metric).data_points],
            )
    return result, totals


def _changed(
    metric: metrics_pb2.Metric, scope: bytes, before: Totals, totals: Totals
) -> metrics_pb2.Metric:
    subtract = _SUBTRACT.get(metric.WhichOneof("data") or "")
    if subtract is None or (metric.HasField("sum") and not metric.sum.is_monotonic):
        return metric
    result = metrics_pb2.Metric(name=metric.name, description=metric.description, unit=metric.unit)
    data = getattr(result, metric.WhichOneof("data") or "")
    data.aggregation_temporality = _DELTA
    if metric.HasField("sum"):
        data.is_monotonic = True
    for total in _data(metric).data_points:
        attributes = b"".join(sorted(kv.SerializeToString() for kv in total.attributes))
        key = (scope, metric.name, attributes)
        totals[key] = total
        point = _change(total, before.get(key), subtract)
        if point is not None:
            data.data_points.append(point)
    return result


def _change(total: Any, old: Any, subtract: Callable[[Any, Any], float]) -> Any:
    """Return the point of what came since `old`; None if nothing did.

    A series that began anew, or whose values fell, counts from 0.
    """
    point = type(total)()
    point.CopyFrom(total)
    if old is None:
        return point
    if total.start_time_unix_nano <= old.start_time_unix_nano:
        point.start_time_unix_nano = old.time_unix_nano
        step = subtract(point, old)
        if step == 0:
            return None
        if step < 0:
            point.CopyFrom(total)
            point.start_time_unix_nano = old.time_unix_nano
    # A point of totals shows its last exemplar again and again; here that would be a new one.
    fresh = [e for e in point.exemplars if e.time_unix_nano > old.time_unix_nano]
    del point.exemplars[:]
    point.exemplars.extend(fresh)
    return point


def _subtract_number(point: Any, old: Any) -> float:
    """Take `old` off `point`; return the change, below 0 if `point` does not go on from `old`."""
    change: float = _value(point) - _value(old)
    point.MergeFrom(metrics_pb2.NumberDataPoint(**_number(change)))
    return change


def _value(point: Any) -> float:
    value: float = getattr(point, point.WhichOneof("value") or "as_int")
    return value


def _subtract_histogram(point: Any, old: Any) -> float:
    if point.explicit_bounds != old.explicit_bounds:
        return -1
    steps = [new - was for new, was in zip(point.bucket_counts, old.bucket_counts, strict=True)]
    if min(steps) < 0:
        return -1
    point.bucket_counts[:] = steps
    return _subtract_summary(point, old)


def _subtract_exponential(point: Any, old: Any) -> float:
    coarser = old.scale - point.scale
    if coarser < 0 or point.zero_count < old.zero_count:
        return -1
    for new, was in ((point.positive, old.positive), (point.negative, old.negative)):
        counts = {new.offset + i: count for i, count in enumerate(new.bucket_counts)}
        for i, count in enumerate(was.bucket_counts):
            index = (was.offset + i) >> coarser
            counts[index] = counts.get(index, 0) - count
        if min(counts.values(), default=0) < 0:
            return -1
        new.bucket_counts[:] = [counts[new.offset + i] for i in range(len(new.bucket_counts))]
    point.zero_count -= old.zero_count
    return _subtract_summary(point, old)


def _subtract_summary(point: Any, old: Any) -> float:
    """Take count and sum of `old` off `point`, whose buckets are done."""
    point.count -= old.count
    point.sum -= old.sum
    point.ClearField("min")  # of all time, not of the change
    point.ClearField("max")
    change: int = point.count
    return change


_SUBTRACT: Final[Mapping[str, Callable[[Any, Any], float]]] = {
    "sum": _subtract_number,
    "histogram": _subtract_histogram,
    "exponential_histogram": _subtract_exponential,
}


# --- The push -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Push:
    """A request, how many data points it has, and what the receiver has once it took it."""

    request: ExportMetricsServiceRequest
    count: int
    totals: Totals


class _Wish(NamedTuple):
    """Somebody wants a snapshot now; the answer is whether one was taken."""

    last: bool
    answer: SimpleQueue[bool]


class _Watched:
    """A transport that tells when a request was delivered."""

    def __init__(self, transport: Transport, delivered: Callable[[], None]) -> None:
        self._transport = transport
        self._delivered = delivered

    @property
    def endpoint(self) -> str:
        return self._transport.endpoint

    def send(self, payload: bytes, *, timeout: float) -> Outcome:
        outcome = self._transport.send(payload, timeout=timeout)
        if outcome.kind == "delivered":
            self._delivered()
        return outcome

    def close(self) -> None:
        self._transport.close()


class MetricPush:
    """Sends all metrics by OTLP every so many seconds, from a daemon thread.

    While an earlier push is still in memory no new one is made: the next carries its totals (with
    `delta`, all changes since the last push that was delivered, or written to disk). The ledger
    counts data points.

    A forked child sends nothing until it calls `restart`.

    Args:
        collect: Gives the library's families, as `Registry.collect` does.
        sdk_reader: Reads what the OpenTelemetry SDK recorded.
        transport: Where requests go; closed by `shutdown`.
        ledger: Where data points are counted; no other exporter may use it.
        resource: What the process is.
        explicit: Whether someone asked for this endpoint; see `BatchProcessor`.
        interval: Seconds between two pushes.
        timeout: Seconds for one request.
        delta: Whether to send changes instead of totals.
        shelf: Where pushes wait on disk while the receiver is away, or None.
    """

    def __init__(
        self,
        *,
        collect: Callable[[], Iterable[Family]],
        sdk_reader: SnapshotReader | None = None,
        transport: Transport,
        ledger: Ledger,
        resource: Resource,
        explicit: bool = True,
        interval: float = 60.0,
        timeout: float = 30.0,
        delta: bool = False,
        shelf: Shelf | None = None,
    ) -> None:
        self._collect = collect
        self._sdk_reader = sdk_reader
        self._ledger = ledger
        self._resource = resource
        self._interval = interval
        self._timeout = timeout
        self._delta = delta
        # What is on its way by the disk is not sent again: it arrives, or is counted.
        self._acknowledges_early = shelf is not None
        self._queue: BatchProcessor[_Push] = BatchProcessor(
            Signal.METRICS,
            encode=self._encode,
            transport=transport if shelf else _Watched(transport, self._acknowledge),
            ledger=ledger,
            explicit=explicit,
            timeout=timeout,
            max_queue=1,
            max_batch=1,
            delay=0.0,
            count=attrgetter("count"),
            shelf=shelf,
        )
        self._reset()
        _LIVE.add(self)

    def _reset(self) -> None:
        """Be as before `start`, with nothing that another thread could hold; also after a fork."""
        self._process = os.getpid()
        self._wishes: SimpleQueue[_Wish] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._sending = self._latest = _Push(ExportMetricsServiceRequest(), 0, {})
        self._acknowledged: Totals = {}
        self._asked: _Wish | None = None
        self._last: _Wish | None = None
        self._end_by = 0.0

    @property
    def away(self) -> bool:
        """Whether nothing answered the last attempt."""
        return self._queue.away

    def recover(self) -> None:
        """Begin to send what earlier processes left on disk; returns at once."""
        self._queue.recover()

    def start(self) -> None:
        """Begin to push, first after one interval."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="otel-pipeline-push", daemon=True
            )
            self._thread.start()

    def restart(self, resource: Resource) -> None:
        """Push from a forked child, which is another process.

        Args:
            resource: What the child is.
        """
        self._resource = resource
        self._be_of_this_process()
        self.start()

    def _be_of_this_process(self) -> None:
        """Reset once in a forked child, by whichever hook comes first."""
        if self._process != os.getpid():
            self._reset()

    def flush(self, timeout: float) -> bool:
        """Push now and wait for the answer; does nothing before `start`.

        `flush(0)` asks and does not wait, and the next flush waits for that push.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            True if everything was delivered.
        """
        asked, self._asked = self._asked, None
        if not timeout:
            if self._is_running():
                self._asked = asked or self._ask()
            return False
        deadline = time.monotonic() + timeout
        lost = self._lost()
        taken = not self._is_running()
        while self._queue.flush(_left(deadline)) and self._lost() == lost:
            if taken:
                return True
            taken = _answer(asked or self._ask(), _left(deadline))
            asked = None
            if time.monotonic() >= deadline:
                break
        return False

    def close(self, timeout: float) -> None:
        """Begin the last push; returns at once. See `BatchProcessor.close`.

        Args:
            timeout: Seconds that the last push may take.
        """
        if self._last is None:
            self._end_by = time.monotonic() + timeout
            self._last = self._ask(last=True)

    def shutdown(self, timeout: float) -> None:
        """Push a last time, drop what could not be sent, and end; never takes longer.

        Args:
            timeout: Seconds that this may take, counted from an earlier `close` if there was one.
        """
        self.close(timeout)
        if self._last is not None and self._is_running():
            # Callbacks that hang must leave time to send.
            _answer(self._last, _left(self._end_by) / 2)
        self._queue.shutdown(_left(self._end_by))

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _lost(self) -> int:
        account = self._ledger.snapshot()
        return account["rejected"] + account["dropped"]

    def _ask(self, *, last: bool = False) -> _Wish:
        wish = _Wish(last, SimpleQueue())
        self._wishes.put(wish)
        return wish

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        last = False
        while not last:
            try:
                wish = self._wishes.get(timeout=_left(due))
            except Empty:
                due = max(due + self._interval, time.monotonic())
                self._take(even_if_busy=False)
            else:
                last = wish.last
                wish.answer.put(self._take(even_if_busy=last))

    def _take(self, *, even_if_busy: bool) -> bool:
        """Take a snapshot and queue it, unless a push is on its way; whether one was taken."""
        busy = self._ledger.snapshot()["pending_memory"] > 0
        if busy and not even_if_busy:
            return False
        try:
            push = self._snapshot(self._latest.totals if busy else self._acknowledged)
        except Exception as error:  # noqa: BLE001  the thread never dies
            diagnostics.warn_once("push:failed", "metrics could not be collected: %r", error)
            return True
        if push.count:
            self._latest = push
            self._queue.add(push)
        return True

    def _snapshot(self, before: Totals) -> _Push:
        request = encode(self._collect(), self._sdk_data(), self._resource, now=clock.time_ns())
        totals: Totals = {}
        if self._delta:
            request, totals = changes(request, before)
        return _Push(request, point_count(request), totals)

    def _sdk_data(self) -> MetricsData | None:
        if self._sdk_reader is None:
            return None
        try:
            return self._sdk_reader.read(self._timeout)
        except Exception as error:  # noqa: BLE001  the library's own metrics go out all the same
            diagnostics.warn_once("push:sdk", "OpenTelemetry's SDK could not be read: %r", error)
            return None

    def _encode(self, pushes: Sequence[_Push]) -> bytes:
        (self._sending,) = pushes
        if self._acknowledges_early:
            self._acknowledge()
        return self._sending.request.SerializeToString()

    def _acknowledge(self) -> None:
        self._acknowledged = self._sending.totals


def _answer(wish: _Wish, timeout: float) -> bool:
    """Return the answer to a wish, or False if there is none in time."""
    try:
        return wish.answer.get(timeout=timeout)
    except Empty:
        return False


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


_LIVE: weakref.WeakSet[MetricPush] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for push in _LIVE:
        push._be_of_this_process()  # noqa: SLF001  one module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all_after_fork)
