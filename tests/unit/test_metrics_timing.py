"""Timers and counters of blocks: as context managers, and as decorators of any function."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from otel_pipeline import clock
from otel_pipeline.errors import LabelError
from otel_pipeline.metrics import Counter, Gauge, Histogram, Registry, Summary


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def tick():
    """Let a test move the time by hand."""

    class Hand:
        seconds = 1000.0

    undo = clock.install(
        clock.Clock(time_ns=lambda: int(Hand.seconds * 1e9), perf_counter=lambda: Hand.seconds)
    )
    yield Hand
    undo()


def point(registry):
    return registry.collect()[0].points[0]


@pytest.mark.parametrize("kind", [Histogram, Summary])
def test_a_block_is_observed_with_its_seconds(registry, tick, kind):
    """A timed block is one observation, and the timer tells the duration."""
    metric = kind("m", "", unit="seconds", registry=registry)
    with metric.time() as timer:
        tick.seconds += 2.5
    assert (point(registry).sum, timer.duration) == (2.5, 2.5)


def test_a_gauge_takes_the_last_duration(registry, tick):
    """The gauge shows how long the last block took."""
    gauge = Gauge("m", "", registry=registry)
    for seconds in (5, 3):
        with gauge.time():
            tick.seconds += seconds
    assert point(registry).value == 3


def test_a_gauge_takes_the_current_time(registry, tick):
    """The gauge shows seconds since 1970."""
    Gauge("m", "", registry=registry).set_to_current_time()
    assert point(registry).value == 1000


def test_a_clock_that_goes_back_makes_no_negative_duration(registry, tick):
    """The least duration is 0."""
    histogram = Histogram("m", "", registry=registry)
    with histogram.time():
        tick.seconds -= 1
    assert point(registry).sum == 0


def test_a_failed_block_is_timed_too(registry, tick):
    """The exception passes, and the time is observed."""
    histogram = Histogram("m", "", registry=registry)

    @histogram.time()
    def fail():
        tick.seconds += 1
        raise OSError

    with pytest.raises(OSError):
        fail()
    assert point(registry).sum == 1


def test_a_decorated_function_stays_itself(registry):
    """Name, help, signature and result are those of the function."""
    histogram = Histogram("m", "", registry=registry)

    @histogram.time()
    def double(number: int) -> int:
        """Double a number."""
        return number * 2

    assert double(number=4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Double a number.")
    assert str(inspect.signature(double)) == "(number: 'int') -> 'int'"


def test_a_decorated_async_function_is_timed_to_its_end(registry, tick):
    """The await is what counts, not the call that makes the coroutine."""
    histogram = Histogram("m", "", registry=registry)
    running = Gauge("running", "", registry=registry)
    failures = Counter("failures", "", registry=registry)
    seen = []

    @histogram.time()
    @running.track_inprogress()
    @failures.count_exceptions(OSError)
    async def work(*, fail):
        await asyncio.sleep(0)
        seen.append(registry.collect()[1].points[0].value)
        tick.seconds += 1
        if fail:
            raise OSError
        return "done"

    async def main():
        return await asyncio.gather(
            work(fail=False), work(fail=False), work(fail=True), return_exceptions=True
        )

    assert inspect.iscoroutinefunction(work)
    results = asyncio.run(main())
    assert results[:2] == ["done", "done"]
    took, now_running, failed = (family.points[0] for family in registry.collect())
    assert (sum(took.counts), took.sum) == (3, 1 + 2 + 3)
    assert (seen, now_running.value, failed.value) == ([3, 2, 1], 0, 1)


def test_one_timer_can_be_entered_again(registry, tick):
    """A recursive block observes each level."""
    histogram = Histogram("m", "", registry=registry)
    timer = histogram.time()

    def recurse(depth):
        with timer:
            tick.seconds += 1
            if depth:
                recurse(depth - 1)

    recurse(2)
    assert (sum(point(registry).counts), point(registry).sum) == (3, 3 + 2 + 1)


def test_a_recursive_decorated_function_is_timed_at_each_level(registry, tick):
    """Each call has a start of its own."""
    summary = Summary("m", "", registry=registry)

    @summary.time()
    def recurse(depth):
        tick.seconds += 1
        if depth:
            recurse(depth - 1)

    recurse(2)
    assert (point(registry).count, point(registry).sum) == (3, 6)


def test_labels_can_be_chosen_inside_the_block(registry, tick):
    """A timer of a parent takes its labels when they are known."""
    histogram = Histogram("m", "", ["status"], registry=registry)
    with histogram.time() as timer:
        timer.labels(status="ok")
        tick.seconds += 1
    assert (point(registry).labels, point(registry).sum) == (("ok",), 1)
    with pytest.raises(LabelError), histogram.time():
        pass


def test_what_runs_is_counted_while_it_runs(registry):
    """Threads and nested blocks each count one."""
    gauge = Gauge("m", "", registry=registry)
    tracker = gauge.track_inprogress()
    inside, leave = threading.Barrier(3), threading.Event()

    @tracker
    def work():
        inside.wait()
        leave.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    with tracker, tracker:
        inside.wait()
        assert point(registry).value == 4
    leave.set()
    for thread in threads:
        thread.join()
    assert point(registry).value == 0


def test_only_the_named_exceptions_count(registry):
    """Others pass uncounted, and so does a block that ends well."""
    counter = Counter("m", "", registry=registry)
    for raised in (KeyError, OSError, KeyboardInterrupt):
        with pytest.raises(raised), counter.count_exceptions((KeyError, OSError)):
            raise raised

    @counter.count_exceptions()
    def fine():
        return 1

    assert fine() == 1
    assert point(registry).value == 2
    with pytest.raises(KeyboardInterrupt), counter.count_exceptions():
        raise KeyboardInterrupt
    assert point(registry).value == 2
