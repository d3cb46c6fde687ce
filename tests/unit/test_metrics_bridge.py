"""When someone else's MeterProvider is adopted, it gets the same numbers, whole."""

from __future__ import annotations

import gc
import math
import threading

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_pipeline import diagnostics
from otel_pipeline.metrics import Counter, Enum, Gauge, Histogram, Info, Registry, Summary
from otel_pipeline.metrics.replay import representatives


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider.get_meter("test")
    provider.shutdown()


def read(reader):
    """Return what the provider holds: unit and points by name."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        points = {}
        for point in metric.data.data_points:
            key = tuple(dict(point.attributes).items())
            if hasattr(point, "value"):
                points[key] = point.value
            else:
                points[key] = (tuple(point.bucket_counts), point.sum)
        found[metric.name] = (metric.unit, points)
    return found


def test_a_counter_arrives_whole_whatever_was_counted_when(registry, reader, meter):
    """Totals of before, of attached cells and of afterwards are one number."""
    counter = Counter("sent", "Sent", ["to"], unit="bytes", registry=registry)
    child = counter.labels("a")
    cell: list[float] = [0]
    child.inc(5)
    child.attach_cell(cell)
    cell[0] += 10
    registry.bridge(meter)
    child.inc(100)
    assert read(reader) == {"sent": ("By", {(("to", "a"),): 115})}
    cell[0] += 1000
    child.fold_cell(cell)
    counter.labels("b").inc(0.5)
    assert read(reader) == {"sent": ("By", {(("to", "a"),): 1115, (("to", "b"),): 0.5})}


def test_gauges_infos_and_enums_arrive_as_gauges(registry, reader, meter):
    """Info and Enum are gauges of 1 and 0; a gauge's function is asked by the provider's reader."""
    Gauge("fill", "", unit="ratio", registry=registry).set(0.5)
    Gauge("live", "", registry=registry).set_function(lambda: 7)
    registry.bridge(meter)
    Info("build", "", ["of"], registry=registry).labels("x").info({"version": "1"})
    Enum("task", "", states=["idle", "busy"], registry=registry).state("busy")
    assert read(reader) == {
        "fill": ("1", {(): 0.5}),
        "live": ("", {(): 7.0}),
        "build_info": ("", {(("of", "x"), ("version", "1")): 1}),
        "task": ("", {(("task", "idle"),): 0, (("task", "busy"),): 1}),
    }


def test_a_histogram_arrives_with_exact_buckets_and_sum(registry, reader, meter):
    """Observations of before fall into the same buckets, and add up to the same sum."""
    histogram = Histogram("took", "", unit="seconds", buckets=[1, 2, 4], registry=registry)
    amounts = [0.1, 0.2, 1, 1.5, 3, 3.5, 4, 99, 1000]
    for amount in amounts:
        histogram.observe(amount)
    registry.bridge(meter)
    ((unit, points),) = read(reader).values()
    counts, total = points[()]
    assert (unit, counts) == ("s", (3, 1, 3, 2))
    assert total == pytest.approx(sum(amounts), rel=1e-12)
    histogram.observe(0.5)
    histogram.observe(5, exemplar={"a": "b"})
    counts, total = read(reader)["took"][1][()]
    assert counts == (4, 1, 3, 3)
    assert total == pytest.approx(sum(amounts) + 5.5, rel=1e-12)


def test_a_summary_arrives_as_a_histogram_without_bounds(registry, reader, meter):
    """Its count and its sum are exact."""
    summary = Summary("order", "", ["kind"], registry=registry)
    summary.labels("a").observe(2)
    summary.labels("a").observe(5)
    registry.bridge(meter)
    summary.labels("a").observe(10)
    assert read(reader) == {"order": ("", {(("kind", "a"),): ((3,), 17)})}


def test_the_own_values_go_on(registry, reader, meter):
    """Bridged or not, the library's own snapshot holds everything."""
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    histogram.observe(0.5)
    registry.bridge(meter)
    histogram.observe(0.5)
    registry.bridge(None)
    histogram.observe(0.5)
    assert registry.collect()[0].points[0].counts == (3, 0)
    assert read(reader)["h"][1][()] == ((2, 0), 1.0)


def test_after_the_bridge_ends_nothing_is_handed_on(registry, reader, meter):
    """A provider that is no longer adopted sees no new totals."""
    counter = Counter("c", "", registry=registry)
    counter.inc()
    registry.bridge(meter)
    assert read(reader)["c"][1] == {(): 1}
    registry.bridge(None)
    counter.inc()
    assert "c" not in read(reader)


def test_a_meter_that_is_let_go_of_sees_nothing_more(registry, reader):
    """Also when nobody else holds the meter, the end of the bridge is the end."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    counter = Counter("c", "", registry=registry)
    for _ in range(2):
        registry.bridge(provider.get_meter("test"))
        counter.inc()
        registry.bridge(None)
        gc.collect()
        assert read(reader) == {}
    registry.bridge(provider.get_meter("test"))
    assert read(reader) == {"c": ("", {(): 2})}
    provider.shutdown()


def test_a_bridge_to_another_meter_doubles_nothing(registry, reader, meter):
    """Of one provider, a second meter is not told again what the first one was."""
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    registry.bridge(meter)
    histogram.observe(0.5)
    other_reader = InMemoryMetricReader()
    other = MeterProvider([other_reader], shutdown_on_exit=False)
    registry.bridge(other.get_meter("test"))
    histogram.observe(0.5)
    assert read(reader)["h"][1][()] == read(other_reader)["h"][1][()] == ((1, 0), 0.5)
    other.shutdown()


def test_a_bridge_to_the_same_meter_again_doubles_nothing(registry, reader, meter, caplog):
    """What was handed on before is not handed on twice; what it missed is."""
    counter = Counter("c", "", registry=registry)
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    for turn in (meter, None, meter, meter):
        registry.bridge(turn)
        counter.inc()
        histogram.observe(0.5)
    assert read(reader) == {"c": ("", {(): 4}), "h": ("", {(): ((4, 0), 2.0)})}
    assert caplog.messages == []


def test_observations_while_the_bridge_is_built_are_handed_on_once(registry, reader, meter):
    """Threads that observe meanwhile lose nothing and double nothing."""
    histogram = Histogram("h", "", ["a"], buckets=[1], registry=registry)
    started, stop = threading.Barrier(5), threading.Event()
    done = []

    def observe():
        child = histogram.labels("x")
        started.wait()
        count = 0
        while not stop.is_set() or count < 100:
            child.observe(0.5)
            count += 1
        done.append(count)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    registry.bridge(meter)
    stop.set()
    for thread in threads:
        thread.join()
    assert read(reader)["h"][1][(("a", "x"),)][0] == (sum(done), 0)


def test_a_reset_restarts_what_is_handed_on(registry, reader, meter):
    """A histogram that was stashed is not replayed as less than nothing."""
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    registry.bridge(meter)
    histogram.observe(0.5)
    registry.bridge(None)
    undo = registry.stash()
    histogram.observe(0.5)
    undo()
    registry.bridge(meter)
    assert read(reader)["h"][1][()] == ((1, 0), 0.5)


def test_too_many_observations_to_hand_on_are_said(registry, reader, meter, caplog, monkeypatch):
    """A bridge never holds the program up for minutes; it says what does not arrive."""
    diagnostics.forget("replay:")
    monkeypatch.setattr("otel_pipeline.metrics.metric._MOST_REPLAYED", 10)
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    for _ in range(11):
        histogram.observe(0.5)
    diagnostics.LOGGER.addHandler(caplog.handler)
    registry.bridge(meter)
    diagnostics.LOGGER.removeHandler(caplog.handler)
    assert "more than 10 observations" in caplog.text
    histogram.observe(0.5)
    assert read(reader)["h"][1][()] == ((1, 0), 0.5)


@pytest.mark.parametrize("amount", [math.nan, math.inf])
def test_a_sum_that_is_no_number_keeps_its_counts(registry, reader, meter, amount):
    """Buckets are handed on also where no observations could give the sum."""
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    histogram.observe(0.5)
    histogram.observe(amount)
    registry.bridge(meter)
    assert read(reader)["h"][1][()][0] == (1, 1)


def test_a_name_that_the_provider_refuses_is_said_and_harms_nobody(registry, reader, meter, caplog):
    """OpenTelemetry has no names with ':'; the metric goes on without it, and so do the others."""
    diagnostics.forget("bridge:")
    counter = Counter("a:b", "", registry=registry)
    histogram = Histogram("_h", "", registry=registry)
    fine = Counter("fine", "", registry=registry)
    diagnostics.LOGGER.addHandler(caplog.handler)
    registry.bridge(meter)
    diagnostics.LOGGER.removeHandler(caplog.handler)
    counter.inc()
    histogram.observe(1)
    fine.inc()
    assert read(reader) == {"fine": ("", {(): 1})}
    assert [line.split()[0] for line in caplog.messages] == ["a:b_total", "_h"]
    assert registry.collect()[0].points[0].value == 1


def test_a_provider_that_fails_harms_nobody(registry, caplog):
    """An exception of someone else's provider never reaches the program."""
    diagnostics.forget("record:")

    class Failing:
        def record(self, *_):
            raise RuntimeError("no")

    class Meter:
        def create_histogram(self, *_, **__):
            return Failing()

    histogram = Histogram("h", "", registry=registry)
    diagnostics.LOGGER.addHandler(caplog.handler)
    registry.bridge(Meter())
    for _ in range(3):
        histogram.observe(1)
    diagnostics.LOGGER.removeHandler(caplog.handler)
    assert registry.collect()[0].points[0].sum == 3
    assert len(caplog.messages) == 1


def test_a_provider_that_does_nothing_will_do(registry):
    """The API's own provider, without any SDK, can be bridged."""
    histogram = Histogram("h", "", registry=registry)
    Counter("c", "", registry=registry).inc()
    registry.bridge(NoOpMeterProvider().get_meter("test"))
    histogram.observe(1)
    assert registry.collect()[0].points[0].sum == 1


def test_no_observations_need_no_replay():
    """An empty histogram is handed on as nothing."""
    assert list(representatives([0, 0], [1.0], 0)) == []


def test_a_replay_is_never_negative_where_the_sum_is_not():
    """OpenTelemetry would drop a negative observation, and its bucket would lack one."""
    assert [value >= 0 for value, _ in representatives([1, 1], [1.0], 0.5)] == [True, True]


def test_negative_observations_can_be_replayed():
    """Where the sum is negative, the lowest bucket takes what is below 0."""
    assert list(representatives([2, 1], [0.0], -9.0)) == [(-4.5, 2), (5e-324, 1)]
    ((value, count),) = representatives([2, 0], [-1.0], -9.0)
    assert (value, count) == (-4.5, 2)
