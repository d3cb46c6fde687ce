"""Counting is exact: over threads, their deaths, attached cells, resets and forks."""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import sys
import threading
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry import trace

from otel_pipeline import diagnostics
from otel_pipeline.metrics import Counter, Enum, Gauge, Histogram, Info, Registry, Summary
from otel_pipeline.metrics.snapshots import Exemplar


@pytest.fixture
def registry():
    return Registry()


def point(registry, index=0):
    (found,) = registry.collect()[index].points
    return found


def in_threads(count, work):
    start = threading.Barrier(count)

    def run():
        start.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def often_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# Threads


@pytest.mark.usefixtures("often_switching")
def test_counts_of_many_threads_are_exact_while_they_are_collected(registry):
    """No increment is lost or doubled, and no total ever goes down."""
    counter = Counter("c", "", ["a"], registry=registry)
    histogram = Histogram("h", "", buckets=[1, 2], registry=registry)
    summary = Summary("s", "", registry=registry)
    gauge = Gauge("g", "", registry=registry)
    seen = [0]
    done = threading.Event()

    def collect():
        while not done.is_set():
            families = registry.collect()
            seen.append(sum(point.value for point in families[0].points))
            (bucketed,) = families[1].points
            assert sum(bucketed.counts) == bucketed.sum

    def work():
        child = counter.labels("x")
        for _ in range(2000):
            child.inc()
            counter.labels("y").inc(2)
            histogram.observe(1)
            summary.observe(3)
            gauge.inc()

    collector = threading.Thread(target=collect)
    collector.start()
    in_threads(8, work)
    done.set()
    collector.join()
    c, h, s, g = registry.collect()
    assert {p.labels: p.value for p in c.points} == {("x",): 16_000, ("y",): 32_000}
    assert (h.points[0].counts, h.points[0].sum) == ((16_000, 0, 0), 16_000)
    assert (s.points[0].count, s.points[0].sum) == (16_000, 48_000)
    assert g.points[0].value == 16_000
    assert seen == sorted(seen)


def test_cells_of_dead_threads_do_not_pile_up(registry, monkeypatch):
    """However many threads came and went, a series keeps few cells and every count."""
    idents = iter(range(10**9, 10**9 + 5000))
    current = threading.local()

    def ident():
        return current.value

    counter = Counter("c", "", registry=registry)
    monkeypatch.setattr("otel_pipeline.metrics.cells.get_ident", ident)
    monkeypatch.setattr("otel_pipeline.metrics.instruments.get_ident", ident)
    for current.value in idents:
        counter.inc()
        counter.inc()
    assert point(registry).value == 10_000
    store: Any = counter._store
    assert len(store._cells) <= 64
    assert len(store.fast) <= 64


def test_short_lived_threads_are_counted_exactly(registry):
    """Real threads that die at once leave their counts behind."""
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    for _ in range(50):
        in_threads(10, lambda: histogram.observe(0.5))
    assert point(registry).counts == (500, 0)


def test_each_thread_has_a_cell_of_its_own(registry):
    """No two living threads ever write to the same number."""
    counter = Counter("c", "", registry=registry)
    both = threading.Barrier(2)

    def work():
        counter.inc()
        both.wait()

    in_threads(2, work)
    store: Any = counter._store
    assert list(store._cells.values()) == [[1], [1]]


def test_cells_of_living_threads_are_never_folded(registry):
    """With more threads alive than a series likes, each keeps its cell and counts on."""
    counter = Counter("c", "", registry=registry)
    store: Any = counter._store
    cells = []
    together = threading.Barrier(100, lambda: cells.append(len(store._cells)))

    def work():
        counter.inc()
        together.wait()
        counter.inc()
        together.wait()

    in_threads(100, work)
    assert cells == [100, 100]
    assert point(registry).value == 200


def test_a_signal_handler_may_measure_while_its_thread_does(registry):
    """A measurement inside the lock of another, in the same thread, does not hang."""
    counter = Counter("c", "", registry=registry)

    def measure(*_):
        counter.inc()
        registry.collect()

    before = signal.signal(signal.SIGUSR1, measure)
    try:
        with counter._metric.shared.lock:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert point(registry).value == 1


# Amounts


def test_amounts_become_plain_numbers(registry):
    """Whole numbers stay whole, and other types do not degrade the sum."""
    counter = Counter("c", "", registry=registry)

    class Float32(float):
        def __radd__(self, other):
            return Float32(0)

    amounts: list[Any] = [1, True, Decimal(2)]
    for amount in amounts:
        counter.inc(amount)
    assert point(registry).value == 4
    assert type(point(registry).value) is float
    counter.reset()
    counter.inc(True)
    assert type(point(registry).value) is int
    counter.inc(Float32(0.5))
    assert point(registry).value == 1.5


def test_a_negative_amount_is_refused_at_any_time(registry):
    """Also a counter that is in full swing cannot go down."""
    counter = Counter("c", "", registry=registry)
    for _ in range(1000):
        counter.inc()
    for amount in (-1, -0.5):
        with pytest.raises(ValueError, match="non-negative"):
            counter.inc(amount)
    assert point(registry).value == 1000


def test_numpy_amounts_keep_double_precision(registry):
    """A sum of float32 amounts is a sum of doubles."""
    numpy = pytest.importorskip("numpy")
    summary = Summary("s", "", registry=registry)
    for _ in range(1000):
        summary.observe(numpy.float32(0.5))
        summary.observe(numpy.int64(2**24 + 1))
    assert point(registry).sum == 1000 * (2**24 + 1.5)


def test_numbers_beyond_64_bits_are_shown_as_floats(registry):
    """A reader with 64 bits gets the nearest float, or infinity."""
    counter = Counter("c", "", ["a"], registry=registry)
    for name, amount in (("fits", 2**63 - 1), ("float", 2**63), ("infinite", 10**400)):
        counter.labels(name).inc(amount)
    gauge = Gauge("g", "", registry=registry)
    gauge.dec(10**400)
    assert [p.value for p in registry.collect()[0].points] == [2**63 - 1, float(2**63), math.inf]
    assert point(registry, 1).value == -math.inf


def test_what_is_no_number_in_order_has_a_bucket(registry):
    """NaN and the infinities are counted, in the last and the outermost buckets."""
    histogram = Histogram("h", "", buckets=[1, 2], registry=registry)
    for _ in range(100):  # on the fast path as well
        for amount in (math.nan, math.inf, -math.inf, 1, 2, 2.5):
            histogram.observe(amount)
    assert point(registry).counts == (200, 100, 300)
    assert math.isnan(point(registry).sum)


# Attached cells


def test_an_attached_cell_counts_in_each_counter_at_once(registry):
    """A producer's own number shows in every counter that it was attached to."""
    one, other = Counter("one", "", registry=registry), Counter("other", "", registry=registry)
    cell: list[float] = [0]
    twin: list[float] = [0]
    one.inc()
    for counter in (one, other):
        counter.attach_cell(cell)
        counter.attach_cell(twin)
    cell[0] += 5
    assert [point(registry, i).value for i in (0, 1)] == [6, 5]
    one.fold_cell(cell)
    cell[0] += 1
    assert [point(registry, i).value for i in (0, 1)] == [6, 6]
    one.fold_cell(cell)
    other.fold_cell(cell)
    assert [point(registry, i).value for i in (0, 1)] == [6, 6]
    twin[0] += 1
    assert [point(registry, i).value for i in (0, 1)] == [7, 7]


def test_of_two_equal_cells_the_right_one_is_folded(registry):
    """Cells are told apart by who owns them, not by what they hold."""
    counter = Counter("c", "", registry=registry)
    first: list[float] = [0]
    second: list[float] = [0]
    counter.attach_cell(first)
    counter.attach_cell(second)
    counter.fold_cell(second)
    first[0] += 3
    second[0] += 100
    assert point(registry).value == 3


@pytest.mark.usefixtures("often_switching")
def test_a_fold_is_seen_exactly_once_by_concurrent_collects(registry):
    """While cells come and go, no collect sees one twice or not at all."""
    counter = Counter("c", "", registry=registry)
    seen = [0]
    done = threading.Event()

    def collect():
        while not done.is_set():
            seen.append(point(registry).value)

    def produce():
        for _ in range(300):
            cell: list[float] = [0]
            counter.attach_cell(cell)
            for _ in range(10):
                cell[0] += 1
            counter.fold_cell(cell)

    collector = threading.Thread(target=collect)
    collector.start()
    in_threads(4, produce)
    done.set()
    collector.join()
    assert point(registry).value == 12_000
    assert seen == sorted(seen)
    store: Any = counter._store
    assert store._attached == []


def test_a_reset_leaves_attached_cells_attached(registry):
    """After a reset a producer's cell counts on from 0."""
    counter = Counter("c", "", registry=registry)
    cell: list[float] = [0]
    counter.attach_cell(cell)
    cell[0] += 5
    counter.reset()
    assert point(registry).value == 0
    assert registry.collect(touched_only=True) == []
    cell[0] += 2
    assert registry.collect(touched_only=True)[0].points[0].value == 2


def test_a_reset_begins_a_new_start(registry):
    """What starts at 0 again has a start time of its own, for readers that need it."""
    counter = Counter("c", "", registry=registry)
    counter.inc()
    before = point(registry).start
    counter.reset()
    assert point(registry).start > before


# Gauges


def test_a_function_of_a_gauge_is_asked_at_each_collect(registry):
    """The value is the function's, and nothing else changes it."""
    gauge = Gauge("g", "", registry=registry)
    values = iter([1, 2])
    gauge.set_function(lambda: next(values))
    gauge.set(100)
    assert [point(registry).value, point(registry).value] == [1, 2]


def test_a_function_that_fails_costs_its_series_only(registry, caplog):
    """The sample is left out of that collect, and the operator is told once."""
    diagnostics.forget("gauge-function:")
    gauge = Gauge("g", "", ["a"], registry=registry)
    gauge.labels("bad").set_function(lambda: 1 / 0)
    gauge.labels("good").set(1)
    diagnostics.LOGGER.addHandler(caplog.handler)
    try:
        for _ in range(2):
            assert [p.labels for p in registry.collect()[0].points] == [("good",)]
    finally:
        diagnostics.LOGGER.removeHandler(caplog.handler)
    (line,) = caplog.messages
    assert "g('bad',)" in line
    assert "ZeroDivisionError" in line


# Exemplars


def span(sampled=True):
    context = trace.SpanContext(
        0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(int(sampled))
    )
    return trace.use_span(trace.NonRecordingSpan(context))


TRACE: dict[str, Any] = {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}


def test_the_first_measurement_in_a_span_is_the_exemplar(registry):
    """A counter keeps one exemplar for each collect, and shows it until there is another."""
    counter = Counter("c", "", registry=registry)
    counter.inc()
    assert point(registry).exemplar is None
    with span():
        counter.inc(2)
        counter.inc(3)
    first = point(registry).exemplar
    assert first == Exemplar(2, first.time, **TRACE)
    counter.inc(4)
    assert point(registry).exemplar == first
    with span():
        counter.inc(5)
    assert point(registry).exemplar.value == 5


def test_each_bucket_has_an_exemplar_of_its_own(registry):
    """A rare slow observation keeps its trace beside the many fast ones."""
    histogram = Histogram("h", "", buckets=[1, 2], registry=registry)
    with span():
        for _ in range(1000):
            histogram.observe(0.5)
        histogram.observe(99)
    fast, none, slow = point(registry).exemplars
    assert (fast.value, none, slow.value) == (0.5, None, 99)
    assert slow.trace_id == TRACE["trace_id"]


def test_after_a_collect_each_bucket_looks_for_a_new_exemplar(registry):
    """A bucket shows its last exemplar until a new one is found, which then takes its place."""
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    for amount in (0.1, 0.2, 0.3):
        with span():
            histogram.observe(amount)
            histogram.observe(0.9)
        assert point(registry).exemplars[0].value == amount


@pytest.mark.parametrize("outside", [0, 10])
def test_a_span_is_found_after_measurements_outside(registry, outside):
    """A few measurements outside any span do not end the search."""
    counter = Counter("c", "", registry=registry)
    for _ in range(outside):
        counter.inc()
    with span():
        counter.inc(7)
    assert point(registry).exemplar.value == 7


def test_the_search_for_a_span_ends(registry, monkeypatch):
    """Outside any span only so many measurements pay for the look-up, until the next collect."""
    looked = []

    def look():
        looked.append(1)
        return trace.INVALID_SPAN

    monkeypatch.setattr("otel_pipeline.metrics.cells.get_current_span", look)
    counter = Counter("c", "", registry=registry)
    histogram = Histogram("h", "", registry=registry)
    for _ in range(2):
        for _ in range(1000):
            counter.inc()
            histogram.observe(1)
        assert 0 < len(looked) <= 200
        looked.clear()
        registry.collect()
    assert point(registry).value == 2000


def test_a_span_that_is_not_sampled_gives_no_exemplar(registry):
    """An exemplar never points to a trace that nobody kept."""
    counter = Counter("c", "", registry=registry)
    with span(sampled=False):
        counter.inc()
    assert point(registry).exemplar is None


def test_an_exemplar_given_by_the_user_wins(registry):
    """What the user gave is shown, not the span around; any UTF-8 will do."""
    counter = Counter("c", "", registry=registry)
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    with span():
        counter.inc(1, exemplar={"ключ-1": "é" * 122})
        counter.inc(2)
        histogram.observe(2, {"run": "7\0"})
        histogram.observe(0.5, {})
    exemplar = point(registry).exemplar
    assert exemplar == Exemplar(1, exemplar.time, labels=(("ключ-1", "é" * 122),))
    low, high = point(registry, 1).exemplars
    assert (low.trace_id, high.labels) == (TRACE["trace_id"], (("run", "7\ufffd"),))


def test_an_exemplar_that_is_refused_counts_nothing(registry):
    """The amount is not counted when the call raises."""
    counter = Counter("c", "", registry=registry)
    exemplars: list[Any] = [{"a": "x" * 128}, {"__a": "x"}, {"a": 1}, {1: "a"}]
    for exemplar in exemplars:
        with pytest.raises(ValueError, match="exemplar"):
            counter.inc(1, exemplar)
    assert point(registry).value == 0


# Forks


def forked(work):
    """Return what `work` returns in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - the child's lines are measured where it says so
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


def values(registry):
    return {
        family.name: [
            getattr(p, "value", None) or getattr(p, "counts", None) or getattr(p, "count", 0)
            for p in family.points
        ]
        for family in registry.collect()
    }


def test_a_forked_child_counts_from_0(registry):
    """The sum over parent and child is what was counted; gauges and infos keep their value."""
    counter = Counter("c", "", ["a"], registry=registry)
    child = counter.labels("x")
    histogram = Histogram("h", "", buckets=[1], registry=registry)
    summary = Summary("s", "", registry=registry)
    gauge = Gauge("g", "", registry=registry)
    info = Info("i", "", registry=registry)
    enum = Enum("e", "", states=["a", "b"], registry=registry)
    unregistered: Any = Counter("u", "", registry=None)
    cell: list[float] = [0]
    child.attach_cell(cell)
    cell[0] += 10
    with span():
        child.inc(5)
    for observing in (histogram, summary):
        observing.observe(0.5)
    unregistered.inc()
    gauge.set(3)
    info.info({"a": "b"})
    enum.state("b")
    start = point(registry).start

    def in_child():
        exemplar, new_start = point(registry).exemplar, point(registry).start
        cell[0] += 1
        child.inc(2)
        child.fold_cell(cell)
        histogram.observe(0.5)
        unregistered.inc()
        (i,), (e,) = (family.points for family in registry.collect()[4:])
        return [
            values(registry),
            exemplar is None and new_start > start,
            unregistered._store.point().value,
            [i.info, e.state],
        ]

    seen, fresh, alone, kept = forked(in_child)
    assert seen == {"c": [3], "h": [[1, 0]], "s": [0], "g": [3.0], "i": [0], "e": [0]}
    assert (fresh, alone, kept) == (True, 1, [{"a": "b"}, "b"])
    assert point(registry).value == 15


def test_a_fork_under_a_held_lock_does_not_hang_the_child(registry):
    """Whatever other threads were doing, the child can count, declare and collect."""
    counter = Counter("c", "", registry=registry)
    held, release = threading.Event(), threading.Event()

    def hold():
        with counter._metric.shared.lock, registry._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    def in_child():
        counter.inc(2)
        Counter("d", "", registry=registry).inc(3)
        return values(registry)

    try:
        assert forked(in_child) == {"c": [2], "d": [3]}
    finally:
        release.set()
        thread.join()


def test_an_unregistered_instrument_can_be_collected_by_the_garbage_collector():
    """The hook for forks keeps nothing alive."""
    from otel_pipeline.metrics import metric

    counter = Counter("only_here", "", registry=None)
    assert any(known.shape.name == "only_here" for known in metric._ALL)
    del counter
    gc.collect()
    assert not any(known.shape.name == "only_here" for known in metric._ALL)
