"""Metrics by OTLP: what is in a request, and how requests get to a real receiver."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from otel_pipeline import clock, diagnostics
from otel_pipeline.config import OtlpConfig
from otel_pipeline.metrics import Counter, Enum, Gauge, Histogram, Info, Registry, Summary
from otel_pipeline.metrics.names import otel_name
from otel_pipeline.metrics.snapshots import (
    EnumPoint,
    Exemplar,
    Family,
    HistogramPoint,
    InfoPoint,
    Point,
    SummaryPoint,
)
from otel_pipeline.sdk.ledger import Ledger
from otel_pipeline.sdk.metrics import MetricPush, changes, encode, point_count
from otel_pipeline.sdk.sdk_reader import SnapshotReader
from otel_pipeline.sdk.transport import transport_for
from tests.otlp_receiver import attributes_of, grpc_receiver, otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from tests.otlp_receiver import HttpReceiver

SLACK = 0.5  # seconds that a busy machine may add
RESOURCE = Resource({"service.name": "shop"})
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def _say_everything_again(monkeypatch: Any) -> None:
    diagnostics.forget()
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def family(name: str, kind: Any, *points: Any, labelnames: Any = (), **rest: Any) -> Family:
    otel = otel_name(name, "", kind)
    return Family(name, kind, f"Help of {name}.", "", labelnames, points, *otel, **rest)


def encoded(*families: Family, data: Any = None, now: int = 7) -> list[dict[str, Any]]:
    """The metrics of a request as plain dicts."""
    message = MessageToDict(encode(families, data, RESOURCE, now=now))
    return [
        metric
        for resource in message["resourceMetrics"]
        for scope in resource.get("scopeMetrics", [])
        for metric in scope["metrics"]
    ]


class TestRequest:
    """What one request says."""

    def test_counters_are_monotonic_sums(self) -> None:
        """Ints stay ints, floats floats; the exemplar has the ids of its span."""
        exemplar = Exemplar(2, 1.5, TRACE, SPAN)
        orders = Family(
            "load_seconds",
            "counter",
            "Load.",
            "seconds",
            ("shop",),
            (Point(("a",), 3, 5, exemplar), Point(("b",), 2.5, 6)),
            "load",
            "s",
        )
        assert encoded(orders) == [
            {
                "name": "load",
                "description": "Load.",
                "unit": "s",
                "sum": {
                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                    "isMonotonic": True,
                    "dataPoints": [
                        {
                            "attributes": [{"key": "shop", "value": {"stringValue": "a"}}],
                            "startTimeUnixNano": "5",
                            "timeUnixNano": "7",
                            "asInt": "3",
                            "exemplars": [
                                {
                                    "timeUnixNano": "1500000000",
                                    "asInt": "2",
                                    "traceId": "CvdlGRbNQ92ESOshHIAxnA==",
                                    "spanId": "t61rcWkgMzE=",
                                }
                            ],
                        },
                        {
                            "attributes": [{"key": "shop", "value": {"stringValue": "b"}}],
                            "startTimeUnixNano": "6",
                            "timeUnixNano": "7",
                            "asDouble": 2.5,
                        },
                    ],
                },
            }
        ]

    def test_histograms_and_summaries_are_histograms(self) -> None:
        """A summary has no bounds."""
        point = HistogramPoint((), (1, 0, 2), 9.5, 5, (None,) * 3)
        waits, sizes = encoded(
            family("wait", "histogram", point, bounds=(1.0, 2.0)),
            family("size", "summary", SummaryPoint((), 3, 9, 5)),
        )
        common = {"startTimeUnixNano": "5", "timeUnixNano": "7", "count": "3"}
        assert waits["histogram"]["dataPoints"] == [
            {**common, "sum": 9.5, "bucketCounts": ["1", "0", "2"], "explicitBounds": [1.0, 2.0]}
        ]
        assert sizes["histogram"]["dataPoints"] == [{**common, "sum": 9.0, "bucketCounts": ["3"]}]

    def test_gauges_infos_and_enums_are_gauges(self) -> None:
        """An info is 1 under its name on /metrics; an enum is 1 for its state, else 0."""
        queue, build, state = encoded(
            family("queue", "gauge", Point((), 2, 5)),
            family("build", "info", InfoPoint((), {"tag": "1.0"})),
            family("state", "enum", EnumPoint((), "on"), states=("off", "on")),
        )

        def point(value: int, **labels: str) -> dict[str, Any]:
            attributes = [{"key": k, "value": {"stringValue": v}} for k, v in labels.items()]
            found: dict[str, Any] = {"timeUnixNano": "7", "asInt": str(value)}
            return {**found, "attributes": attributes} if labels else found

        assert queue["gauge"]["dataPoints"] == [point(2)]
        assert build["name"] == "build_info"
        assert build["gauge"]["dataPoints"] == [point(1, tag="1.0")]
        assert state["gauge"]["dataPoints"] == [point(0, state="off"), point(1, state="on")]

    def test_exemplars_of_the_user_keep_their_labels(self) -> None:
        """Ids among them go where receivers look for ids; what is no id stays a label."""
        given_ids = Exemplar(1.5, 1.0, labels=(("trace_id", TRACE), ("user", "x")))
        no_ids = Exemplar(1, 1.0, labels=(("trace_id", "0" * 32), ("span_id", "short")))
        counts = family("x", "counter", Point((), 1, 0, given_ids), Point((), 1, 0, no_ids))
        first, second = (point["exemplars"][0] for point in encoded(counts)[0]["sum"]["dataPoints"])
        assert first["traceId"] == "CvdlGRbNQ92ESOshHIAxnA=="
        assert "spanId" not in first
        assert first["filteredAttributes"] == [{"key": "user", "value": {"stringValue": "x"}}]
        assert "traceId" not in second
        assert {pair["key"] for pair in second["filteredAttributes"]} == {"trace_id", "span_id"}

    def test_numbers_beyond_64_bits_are_floats(self) -> None:
        """A counter does not break the request by being large."""
        large = family("x", "counter", Point((), 2**63, 0), Point((), 2**63 - 1, 0))
        points = encoded(large)[0]["sum"]["dataPoints"]
        assert points[0]["asDouble"] == 2.0**63
        assert points[1]["asInt"] == str(2**63 - 1)

    def test_a_metric_that_cannot_be_encoded_hides_no_other(self, capsys: Any) -> None:
        """It is left out, and said once; neither does an odd help text cost a metric."""
        metrics = encoded(
            family("bad", "gauge", Point((), 10**400, 0)),
            family("wrong", "histogram", Point((), 1, 0)),
            Family("good", "gauge", "a\ud800b", "", (), (Point((), 1, 0),), "good", ""),
            family("empty", "gauge"),
        )
        assert [(metric["name"], metric["description"]) for metric in metrics] == [
            ("good", "a\ufffdb")
        ]
        said = capsys.readouterr().err
        assert "metric 'bad' is left out of what is sent by OTLP" in said
        assert "metric 'wrong' is left out" in said

    def test_what_the_sdk_recorded_is_in_it_under_our_resource(self) -> None:
        """With scopes as they are; the provider may be older than the configuration."""
        provider = MeterProvider(resource=Resource({"service.name": "old"}), shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        provider.get_meter("lib", "2.0").create_counter("jobs").add(7, {"n": 1})
        request = encode([family("x", "gauge", Point((), 1, 0))], reader.read(), RESOURCE, now=7)
        (resource_metrics,) = request.resource_metrics
        assert attributes_of(resource_metrics.resource.attributes) == {"service.name": "shop"}
        own, lib = resource_metrics.scope_metrics
        assert (own.scope.name, own.metrics[0].name) == ("otel_pipeline", "x")
        assert (lib.scope.name, lib.scope.version, lib.metrics[0].name) == ("lib", "2.0", "jobs")
        assert lib.metrics[0].sum.data_points[0].as_int == 7
        assert point_count(request) == 2

    def test_a_metric_of_the_sdk_that_cannot_be_encoded_hides_no_other(self, capsys: Any) -> None:
        """The rest of its scope is sent."""
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        meter = provider.get_meter("lib")
        meter.create_counter("bad").add(2**70)
        meter.create_counter("good").add(1)
        assert [metric["name"] for metric in encoded(data=reader.read())] == ["good"]
        assert "metric 'bad' is left out" in capsys.readouterr().err


def sum_request(*points: tuple[str, int, Any], now: int = 10) -> ExportMetricsServiceRequest:
    """A request with a counter of such label, start and value."""
    series = tuple(Point((label,), value, start) for label, start, value in points)
    return encode([family("x", "counter", *series, labelnames=("l",))], None, RESOURCE, now=now)


def deltas(request: ExportMetricsServiceRequest) -> list[tuple[str, int, int, float]]:
    """Label, start, end and value of each sum in a request."""
    return [
        (
            attributes_of(point.attributes).get("l", ""),
            point.start_time_unix_nano,
            point.time_unix_nano,
            getattr(point, point.WhichOneof("value") or ""),
        )
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.sum.data_points
    ]


class TestChanges:
    """Delta temporality."""

    def test_the_first_is_everything(self) -> None:
        """From the start of each series."""
        request, _ = changes(sum_request(("a", 1, 5)), {})
        assert deltas(request) == [("a", 1, 10, 5)]
        data = request.resource_metrics[0].scope_metrics[0].metrics[0].sum
        assert (data.aggregation_temporality, data.is_monotonic) == (1, True)

    def test_the_next_is_what_came_since(self) -> None:
        """Series that have not changed are left out, new ones are there, gone ones forgotten."""
        before = sum_request(("a", 1, 5), ("b", 1, 5), ("c", 1, 5))
        _, totals = changes(before, {})
        after = sum_request(("a", 1, 7.5), ("b", 1, 5), ("d", 15, 1), now=20)
        request, totals = changes(after, totals)
        assert deltas(request) == [("a", 10, 20, 2.5), ("d", 15, 20, 1)]
        again, totals = changes(sum_request(("c", 1, 6), now=30), totals)
        assert deltas(again) == [("c", 1, 30, 6)]

    def test_a_value_that_fell_counts_from_0(self) -> None:
        """A reset counter is never negative."""
        _, totals = changes(sum_request(("a", 1, 5), ("b", 1, 5)), {})
        request, _ = changes(sum_request(("a", 1, 2), ("b", 15, 6), now=20), totals)
        assert deltas(request) == [("a", 10, 20, 2), ("b", 15, 20, 6)]

    def test_an_exemplar_is_sent_once(self) -> None:
        """Totals show the last one again; changes only a new one."""

        def request(value: int, time: float, now: int) -> ExportMetricsServiceRequest:
            point = Point((), value, 1, Exemplar(1, time, TRACE, SPAN))
            return encode([family("x", "counter", point)], None, RESOURCE, now=now)

        first, totals = changes(request(1, 1.0, 2_000_000_000), {})
        second, totals = changes(request(2, 1.0, 4_000_000_000), totals)
        third, totals = changes(request(3, 5.0, 6_000_000_000), totals)
        assert [
            len(r.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].exemplars)
            for r in (first, second, third)
        ] == [1, 0, 1]

    def test_gauges_and_sums_that_may_fall_stay_as_they_are(self) -> None:
        """They are no changes."""
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        provider.get_meter("lib").create_up_down_counter("open").add(3)
        request = encode(
            [family("queue", "gauge", Point((), 2, 0))], reader.read(), RESOURCE, now=7
        )
        changed, totals = changes(request, {})
        assert changed == request
        assert totals == {}

    @pytest.mark.parametrize("exponential", [False, True])
    def test_histograms_are_subtracted_bucket_by_bucket(self, exponential: bool) -> None:
        """Counts and sums are those of the time between; extremes of all time are left out."""
        aggregation = ExponentialBucketHistogramAggregation(max_size=4)
        views = [View(instrument_name="*", aggregation=aggregation)] if exponential else []
        provider = MeterProvider(shutdown_on_exit=False, views=views)
        provider.add_metric_reader(reader := SnapshotReader())
        sizes = provider.get_meter("lib").create_histogram("size")

        def change(totals: Any) -> tuple[Any, Any]:
            request, totals = changes(encode([], reader.read(), RESOURCE, now=7), totals)
            metrics = [
                metric
                for scope in request.resource_metrics[0].scope_metrics
                for metric in scope.metrics
            ]
            assert len(metrics) <= 1
            points = [
                point
                for metric in metrics
                for point in getattr(metric, metric.WhichOneof("data") or "").data_points
            ]
            return (points[0] if points else None), totals

        sizes.record(1)
        sizes.record(3)
        first, totals = change({})
        assert (first.count, first.sum, first.min, first.max) == (2, 4, 1, 3)
        nothing, totals = change(totals)
        assert nothing is None
        for value in (0, 3, 1000):  # the exponential one gets coarser buckets for this
            sizes.record(value)
        second, totals = change(totals)
        assert (second.count, second.sum) == (3, 1003)
        assert not second.HasField("min")
        assert not second.HasField("max")
        counts = (
            [second.zero_count, *second.positive.bucket_counts]
            if exponential
            else second.bucket_counts
        )
        assert sum(counts) == 3
        assert min(counts) >= 0

    def test_a_histogram_that_began_anew_is_whole(self) -> None:
        """Other bounds, fewer observations, or finer buckets are no continuation."""

        def request(*counts: int, bound: float = 1.0) -> ExportMetricsServiceRequest:
            point = HistogramPoint((), counts, sum(counts), 1, (None, None))
            return encode(
                [family("x", "histogram", point, bounds=(bound,))], None, RESOURCE, now=10
            )

        def bucket_counts(request: ExportMetricsServiceRequest) -> list[int]:
            (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
            return list(metric.histogram.data_points[0].bucket_counts)

        _, totals = changes(request(3, 3), {})
        assert bucket_counts(changes(request(4, 4), totals)[0]) == [1, 1]
        assert bucket_counts(changes(request(2, 5), totals)[0]) == [2, 5]
        assert bucket_counts(changes(request(1, 1), totals)[0]) == [1, 1]
        assert bucket_counts(changes(request(4, 4, bound=2.0), totals)[0]) == [4, 4]

    def test_an_exponential_histogram_with_finer_buckets_is_whole(self) -> None:
        """A scale only falls while a series lives."""

        def request(scale: int) -> ExportMetricsServiceRequest:
            made = ExportMetricsServiceRequest()
            metric = made.resource_metrics.add().scope_metrics.add().metrics.add(name="x")
            point = metric.exponential_histogram.data_points.add(scale=scale, count=3)
            point.positive.bucket_counts[:] = [1, 2]
            return made

        _, totals = changes(request(0), {})
        changed, _ = changes(request(1), totals)
        (metric,) = changed.resource_metrics[0].scope_metrics[0].metrics
        assert metric.exponential_histogram.data_points[0].count == 3

    @given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=4)))
    def test_add_up_to_the_totals(self, rounds: list[list[tuple[str, int]]]) -> None:
        """Whatever is counted between two pushes, nothing is lost and nothing twice."""
        registry = Registry()
        counter = Counter("x", "", ["l"], registry=registry)
        counted: dict[str, int] = {}
        received: dict[str, float] = {}
        totals: Any = {}
        for now, amounts in enumerate(rounds):
            for label, amount in amounts:
                counter.labels(label).inc(amount)
                counted[label] = counted.get(label, 0) + amount
            request, totals = changes(encode(registry.collect(), None, RESOURCE, now=now), totals)
            for label, _, _, value in deltas(request):
                assert value >= 0
                received[label] = received.get(label, 0) + value
        assert received == counted


class Push:
    """A push of a registry to a receiver, and its ledger."""

    def __init__(self, endpoint: str, *, protocol: str = "http/protobuf", **changes: Any) -> None:
        self.registry = Registry()
        self.ledger = Ledger("owned")
        otlp = OtlpConfig(
            protocol=protocol,  # type: ignore[arg-type]
            endpoint=endpoint,
            explicit=True,
            headers={},
            timeout=10.0,
            compression="none",
            certificate=None,
            client_certificate=None,
            client_key=None,
            insecure=True,
        )
        options: dict[str, Any] = {
            "collect": self.registry.collect,
            "transport": transport_for("metrics", otlp),
            "ledger": self.ledger,
            "resource": RESOURCE,
            "interval": 3600,
        }
        self.push = MetricPush(**{**options, **changes})

    def __enter__(self) -> Self:
        self.push.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.push.shutdown(1)

    def counter(self, name: str = "jobs") -> Any:
        return Counter(name, "", registry=self.registry)

    def account(self) -> tuple[int, int, int, int, int]:
        """Produced, delivered, rejected, dropped, pending."""
        a = self.ledger.snapshot()
        return a["produced"], a["delivered"], a["rejected"], a["dropped"], a["pending_memory"]


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with otlp_receiver() as running:
        yield running


def values(receiver: HttpReceiver, name: str = "jobs") -> list[float]:
    return [point.as_int for m in receiver.metrics if m.name == name for point in m.sum.data_points]


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """The endpoint of a port that refuses, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1/metrics"


class TestPush:
    """Pushing to a receiver that works."""

    def test_every_interval_a_request_is_sent(self, receiver: HttpReceiver) -> None:
        """With all totals as they are then, and the resource."""
        with Push(f"{receiver.endpoint}/v1/metrics", interval=0.05) as running:
            jobs = running.counter()
            jobs.inc(1)
            receiver.wait_for(lambda: 1 in values(receiver))
            jobs.inc(1)
            receiver.wait_for(lambda: 2 in values(receiver))
        assert receiver.metrics[0].resource == {"service.name": "shop"}
        assert receiver.requests[0].path == "/v1/metrics"
        assert len({item.sum.data_points[0].start_time_unix_nano for item in receiver.metrics}) == 1

    def test_a_flush_sends_now(self, receiver: HttpReceiver) -> None:
        """It is True once the receiver has it; each data point is in the ledger."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            running.counter().inc(3)
            Histogram("wait", "", ["l"], registry=running.registry).labels("a").observe(1)
            assert running.push.flush(5)
            assert values(receiver) == [3]
            assert running.account() == (2, 2, 0, 0, 0)
            assert running.push.flush(5)
            assert running.account() == (4, 4, 0, 0, 0)

    def test_all_kinds_arrive(self, receiver: HttpReceiver) -> None:
        """Under the names that Prometheus makes its own of."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            registry = running.registry
            running.counter("records_total").inc()
            Gauge("queue", "", registry=registry).set(2)
            Histogram("wait", "", unit="seconds", registry=registry).observe(1)
            Summary("order", "", unit="bytes", registry=registry).observe(1)
            Info("build", "", registry=registry).info({"tag": "1"})
            Enum("state", "", states=["off", "on"], registry=registry).state("on")
            assert running.push.flush(5)
        assert [(item.name, item.unit) for item in receiver.metrics[:6]] == [
            ("records", ""),
            ("queue", ""),
            ("wait", "s"),
            ("order", "By"),
            ("build_info", ""),
            ("state", ""),
        ]

    def test_without_metrics_nothing_is_sent(self, receiver: HttpReceiver) -> None:
        """An empty request says nothing."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            assert running.push.flush(5)
        assert receiver.requests == []

    def test_shutdown_sends_the_last_values(self, receiver: HttpReceiver) -> None:
        """And ends the thread; afterwards nothing is sent any more."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            running.counter().inc(3)
        assert values(receiver) == [3]
        assert running.account() == (1, 1, 0, 0, 0)
        thread = running.push._thread
        assert thread is not None
        thread.join(5)
        assert not thread.is_alive()
        running.push.shutdown(1)
        assert values(receiver) == [3]

    def test_what_the_sdk_recorded_goes_out_too(self, receiver: HttpReceiver) -> None:
        """And is counted."""
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        provider.get_meter("lib").create_counter("jobs").add(7)
        with Push(f"{receiver.endpoint}/v1/metrics", sdk_reader=reader) as running:
            assert running.push.flush(5)
            assert running.account() == (1, 1, 0, 0, 0)
        assert [item.scope for item in receiver.metrics[:1]] == ["lib"]
        provider.shutdown()

    def test_over_grpc(self) -> None:
        """The same request."""
        with grpc_receiver() as receiver, Push(receiver.endpoint, protocol="grpc") as running:
            running.counter().inc(3)
            assert running.push.flush(5)
            assert [item.name for item in receiver.metrics] == ["jobs"]

    def test_the_clock_of_the_library_is_used(self, receiver: HttpReceiver) -> None:
        """So that tests can fix it."""
        undo = clock.install(clock.Clock(time_ns=lambda: 42))
        try:
            with Push(f"{receiver.endpoint}/v1/metrics") as running:
                running.counter().inc()
                assert running.push.flush(5)
        finally:
            undo()
        assert receiver.metrics[0].sum.data_points[0].time_unix_nano == 42


class TestTrouble:
    """Receivers and programs that do not do what they should."""

    def test_what_a_receiver_rejects_is_counted(self, receiver: HttpReceiver, capsys: Any) -> None:
        """In part, or as a whole; the flush says that not all was delivered."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            running.counter("a").inc()
            running.counter("b").inc()
            receiver.partial(1)
            assert not running.push.flush(5)
            assert running.account() == (2, 1, 1, 0, 0)
            receiver.answer(400, text="bad")
            assert not running.push.flush(5)
            assert running.account() == (4, 1, 3, 0, 0)
            receiver.accept()
            assert running.push.flush(5)
        assert "rejected data points" in capsys.readouterr().err

    def test_nobody_at_an_endpoint_that_nobody_set_is_said_once(self, capsys: Any) -> None:
        """In plain words; data points are dropped, and counted."""
        with (
            closed_port() as endpoint,
            Push(endpoint, explicit=False, interval=0.02) as running,
        ):
            running.counter().inc()
            begun = time.monotonic()
            assert not running.push.flush(5)
            assert time.monotonic() - begun < 1 + SLACK
            assert running.push.away
            assert not running.push.flush(1)
            produced, _, _, dropped, _ = running.account()
            assert dropped >= 1
            assert produced >= dropped
        said = capsys.readouterr().err
        assert said.count("no OpenTelemetry collector answers at http://127.0.0.1:") == 1
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in said

    def test_while_a_receiver_is_away_pushes_do_not_pile_up(self, capsys: Any) -> None:
        """One waits; the next carries the totals."""
        with closed_port() as endpoint, Push(endpoint, interval=0.01) as running:
            collected = threading.Semaphore(0)
            collect = running.push._collect

            def observed() -> list[Family]:
                collected.release()
                return list(collect())

            running.push._collect = observed
            running.counter().inc()
            assert collected.acquire(timeout=5)
            assert not running.push.flush(0.3)
            assert running.account() == (1, 0, 0, 0, 1)
            assert not collected.acquire(timeout=0.1)
        assert running.account() == (2, 0, 0, 2, 0)
        assert "does not answer" in capsys.readouterr().err

    def test_after_an_outage_the_totals_are_right(self, receiver: HttpReceiver) -> None:
        """Nothing that was counted meanwhile is missing."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            jobs = running.counter()
            receiver.answer(503, retry_after=0)
            jobs.inc(1)
            assert not running.push.flush(0.2)
            jobs.inc(1)
            receiver.accept()
            running.push.flush(5)
            assert running.push.flush(5)
            assert values(receiver)[-1] == 2
            assert running.account()[-1] == 0

    @pytest.mark.parametrize("trouble", ["hang", "trickle", "answer", "stop"])
    def test_shutdown_keeps_its_time(
        self, receiver: HttpReceiver, trouble: str, capsys: Any
    ) -> None:
        """Whatever the receiver does, it ends in time, with all counted and the loss said."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            running.counter().inc()
            getattr(receiver, trouble)()
            begun = time.monotonic()
            running.push.shutdown(0.5)
            assert time.monotonic() - begun < 0.5 + SLACK
            assert running.account() == (1, 0, 0, 1, 0)
        assert "could not be delivered" in capsys.readouterr().err

    def test_a_callback_that_hangs_holds_neither_flush_nor_shutdown(
        self, receiver: HttpReceiver
    ) -> None:
        """They keep their time without what it would have told."""
        release = threading.Event()

        def hang() -> list[Family]:
            release.wait(10)
            return []

        running = Push(f"{receiver.endpoint}/v1/metrics", collect=hang)
        running.push.start()
        begun = time.monotonic()
        assert not running.push.flush(0.2)
        running.push.shutdown(0.4)
        assert time.monotonic() - begun < 0.6 + SLACK
        release.set()

    def test_a_callback_that_hangs_leaves_time_to_send_what_waits(
        self, receiver: HttpReceiver
    ) -> None:
        """At the end an earlier push gets its last try all the same."""
        release = threading.Event()
        snapshots = iter([[family("jobs", "counter", Point((), 1, 0))]])

        def collect() -> list[Family]:
            for snapshot in snapshots:
                return snapshot
            release.wait(10)
            return []

        receiver.answer(503, retry_after=60)
        running = Push(f"{receiver.endpoint}/v1/metrics", collect=collect)
        running.push.start()
        assert not running.push.flush(0.5)
        receiver.accept()
        running.push.shutdown(2)
        assert values(receiver) == [1]
        release.set()

    def test_a_source_that_fails_hides_no_other(self, receiver: HttpReceiver, capsys: Any) -> None:
        """What can be collected is sent; the failure is said once."""

        class Broken(SnapshotReader):
            def read(self, timeout: float = 10.0) -> Any:
                raise TimeoutError("too slow")

        with Push(f"{receiver.endpoint}/v1/metrics", sdk_reader=Broken()) as running:
            running.counter().inc()
            assert running.push.flush(5)
            assert running.push.flush(5)
        assert values(receiver)[0] == 1
        assert capsys.readouterr().err.count("too slow") == 1

    def test_a_collect_that_fails_is_said_and_the_thread_lives(
        self, receiver: HttpReceiver, capsys: Any
    ) -> None:
        """The next push is a new chance."""
        attempts = iter([RuntimeError("no luck")])

        def collect() -> list[Family]:
            for error in attempts:
                raise error
            return [family("jobs", "counter", Point((), 1, 0))]

        with Push(f"{receiver.endpoint}/v1/metrics", collect=collect) as running:
            running.push.flush(5)
            assert "no luck" in capsys.readouterr().err
            assert running.push.flush(5)
        assert values(receiver)[0] == 1

    def test_flushes_of_many_threads_all_get_their_values(self, receiver: HttpReceiver) -> None:
        """Each returns when what was counted before it has arrived."""
        with Push(f"{receiver.endpoint}/v1/metrics") as running:
            jobs = running.counter()
            failed = []

            def work() -> None:
                for _ in range(5):
                    jobs.inc()
                    if not running.push.flush(10):
                        failed.append(1)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failed
            assert values(receiver)[-1] == 20
            assert running.account()[2:] == (0, 0, 0)


class TestDelta:
    """Changes instead of totals."""

    def test_the_changes_add_up(self, receiver: HttpReceiver) -> None:
        """A flush without news sends nothing."""
        with Push(f"{receiver.endpoint}/v1/metrics", delta=True) as running:
            jobs = running.counter()
            for amount in (1, 2, 0, 4):
                jobs.inc(amount)
                assert running.push.flush(5)
        assert values(receiver) == [1, 2, 4]
        assert {item.sum.aggregation_temporality for item in receiver.metrics} == {1}
        assert running.account() == (3, 3, 0, 0, 0)

    def test_a_push_that_failed_loses_nothing(self, receiver: HttpReceiver) -> None:
        """The next carries all changes since the last that was delivered."""
        with Push(f"{receiver.endpoint}/v1/metrics", delta=True) as running:
            jobs = running.counter()
            jobs.inc(1)
            assert running.push.flush(5)
            for amount in (2, 4):
                receiver.answer(400)
                jobs.inc(amount)
                assert not running.push.flush(5)
            receiver.accept()
            assert running.push.flush(5)
            jobs.inc(8)
            assert running.push.flush(5)
        assert values(receiver) == [1, 6, 8]

    def test_an_outage_doubles_nothing(self, receiver: HttpReceiver) -> None:
        """What waits and what is sent at the end add up, also when both go at once."""
        with Push(f"{receiver.endpoint}/v1/metrics", delta=True) as running:
            jobs = running.counter()
            receiver.answer(503, retry_after=0)
            jobs.inc(1)
            assert not running.push.flush(0.2)
            jobs.inc(2)
            receiver.accept()
        assert sum(values(receiver)) == 3
        assert running.account()[2:] == (0, 0, 0)

    def test_of_the_sdk_is_made_here_too(self, receiver: HttpReceiver) -> None:
        """Its reader gives totals, so a failed push cannot lose them either."""
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        jobs = provider.get_meter("lib").create_counter("jobs")
        with Push(f"{receiver.endpoint}/v1/metrics", sdk_reader=reader, delta=True) as running:
            jobs.add(1)
            receiver.answer(400)
            assert not running.push.flush(5)
            receiver.accept()
            jobs.add(2)
            assert running.push.flush(5)
        assert values(receiver) == [3]
        provider.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_sends_nothing_until_it_starts(receiver: HttpReceiver) -> None:
    """Neither what the parent has counted, nor by itself; after a start only its own."""
    script = """
        import os, sys, warnings
        from opentelemetry.sdk.resources import Resource
        from otel_pipeline.config import OtlpConfig
        from otel_pipeline.metrics import Counter, REGISTRY
        from otel_pipeline.sdk.ledger import Ledger
        from otel_pipeline.sdk.metrics import MetricPush
        from otel_pipeline.sdk.transport import transport_for
        warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads
        otlp = OtlpConfig("http/protobuf", sys.argv[1] + "/v1/metrics", True, {}, 10.0, "none",
                          None, None, None, True)
        push = MetricPush(collect=lambda: REGISTRY.collect(touched_only=True),
                          transport=transport_for("metrics", otlp), ledger=Ledger("owned"),
                          resource=Resource({"pid": os.getpid()}), delta=True)
        push.start()
        jobs = Counter("jobs", "")
        jobs.inc(5)
        assert push.flush(10)
        jobs.inc(1)
        pid = os.fork()
        if not pid:
            jobs.inc(2)
            assert push.flush(10)  # there is nothing to flush
            push.start()
            assert push.flush(10)
            push.shutdown(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        push.shutdown(5)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), receiver.endpoint]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert values(receiver) == [5, 2, 1]
