"""Runs, stages, batches and queues beyond what they count."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

from otel_pipeline import Pipeline, current_run, current_stage, get_logger
from otel_pipeline.context import current_scope
from otel_pipeline.propagation import attached
from otel_pipeline.sdk.metrics_server import default_exposition
from otel_pipeline.testing import ManualClock, capture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from otel_pipeline.testing import Capture

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
CARRIER = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


def trace_id(span: Any) -> str:
    return trace.format_trace_id(span.context.trace_id)


# Runs


def test_a_run_is_one_trace_and_its_lines_carry_its_ids(otel_capture: Capture) -> None:
    """Run, stages, batches and log lines have one trace id; lines have pipeline, stage and run."""
    pipeline = Pipeline("run-trace")
    log = get_logger("job")
    with pipeline.run(run_id="2026-11-23", attributes={"source": "s3"}) as run:
        with pipeline.stage("load"), pipeline.batch([1]):
            log.info("inside")
        log.info("outside")
    assert {trace_id(span) for span in otel_capture.spans} == {run.trace_id}
    root = otel_capture.span("run-trace")
    assert root.parent is None
    assert root.attributes is not None
    assert root.attributes["source"] == "s3"
    assert root.attributes["pipeline.run.id"] == "2026-11-23"
    inside, _, outside = otel_capture.logs
    assert inside["stage"] == "load"
    assert "stage" not in outside
    for line in (inside, outside):
        assert line["trace_id"] == run.trace_id
        assert line["pipeline"] == "run-trace"
        assert line["run_id"] == "2026-11-23"


def test_runs_get_random_ids(otel_capture: Capture) -> None:
    """Without a run id each run gets its own."""
    pipeline = Pipeline("run-ids")
    with pipeline.run() as first:
        pass
    with pipeline.run() as second:
        pass
    assert first.id != second.id
    assert len(otel_capture.spans) == 2


def test_a_run_continues_the_trace_of_its_parent(otel_capture: Capture) -> None:
    """parent= takes a carrier, and links= whatever caused the run."""
    with Pipeline("run-parent").run(parent=CARRIER, links=[CARRIER, None]):
        pass
    span = otel_capture.span("run-parent")
    assert trace_id(span) == TRACE
    assert [trace.format_span_id(link.context.span_id) for link in span.links] == [SPAN]


def test_a_run_is_a_child_of_a_plain_span_around_it(otel_capture: Capture) -> None:
    """Code that is traced already keeps its trace."""
    pipeline = Pipeline("run-plain")
    with pipeline.tracer.start_as_current_span("task") as task, pipeline.run() as run:
        pass
    assert run.trace_id == trace.format_trace_id(task.get_span_context().trace_id)
    assert len(otel_capture.spans) == 2


def test_last_run_gauges_tell_the_last_run(otel_capture: Capture) -> None:
    """Time stamps, duration, success and records are those of the last run; success stays."""
    clock = ManualClock(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    pipeline = Pipeline("run-gauges", expected_interval="24h")
    with capture(clock=clock) as captured:
        with pipeline.run(), pipeline.batch([1, 2]):
            clock.advance(3)
        clock.advance(10)
        with contextlib.suppress(KeyError), pipeline.run(), pipeline.stage("s") as stage:
            stage.failed()
            clock.advance(4)
            raise KeyError
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp()

    def gauge(name: str, **labels: str) -> float | None:
        return captured.metric(f"pipeline_last_{name}", pipeline="run-gauges", **labels)

    assert gauge("success_timestamp_seconds") == start + 3
    assert gauge("run_timestamp_seconds") == start + 17
    assert gauge("run_duration_seconds") == 4
    assert gauge("run_success") == 0
    assert gauge("run_records", status="success") == 0
    assert gauge("run_records", status="error") == 1
    assert not otel_capture.spans


def test_time_stamp_gauges_are_absent_until_known(otel_capture: Capture) -> None:
    """A pipeline that never succeeded has no last-success time stamp, rather than 0."""
    with pytest.raises(KeyError), Pipeline("run-absent").run():
        raise KeyError
    assert "pipeline_last_run_timestamp_seconds{" in otel_capture.exposition()
    assert "pipeline_last_success_timestamp_seconds{" not in otel_capture.exposition()


@pytest.mark.usefixtures("otel_capture")
def test_all_statuses_appear_at_0_with_the_first_use() -> None:
    """Error ratios are right from the first record on, as their numerators exist."""
    pipeline = Pipeline("zeros")
    with pipeline.run(), pipeline.stage("s"), pipeline.batch([1]):
        pass
    series = every_series()
    stage = {"pipeline": "zeros", "stage": "s"}
    for name, statuses, labels in [
        ("records_processed_total", ["success", "error", "skipped"], {"pipeline": "zeros"}),
        ("pipeline_stage_records_total", ["success", "error", "dropped", "skipped"], stage),
        ("pipeline_stage_duration_seconds_count", ["success", "error", "cancelled"], stage),
        ("pipeline_runs_total", ["success", "error", "interrupted"], {"pipeline": "zeros"}),
    ]:
        for status in statuses:
            listed = sorted({**labels, "status": status}.items())
            text = ",".join(f'{key}="{value}"' for key, value in listed)
            assert f"{name}{{{text}}}" in series


def every_series() -> set[str]:
    """Return all series of the page; a series that was made but never added to counts as well."""
    body, _ = default_exposition().render()
    return {line.rpartition(" ")[0] for line in body.decode().splitlines() if line[0] != "#"}


# Stream mode


def test_stages_of_a_stream_are_traces_of_their_own_linked_to_the_run(
    otel_capture: Capture,
) -> None:
    """The run's span is short and never current; each outermost stage or batch is a root."""
    pipeline = Pipeline("stream", mode="stream")
    log = get_logger("job")
    with pipeline.run(run_id="r") as run:
        log.info("between")
        with pipeline.stage("one") as one, pipeline.stage("inner") as inner:
            pass
        with pipeline.batch([1]) as two:
            log.info("inside")
    assert one.trace_id == inner.trace_id
    assert len({run.trace_id, one.trace_id, two.trace_id}) == 3
    names = [span.name for span in otel_capture.spans]
    assert names == ["stream", "stream inner", "stream one", "stream batch"]
    for name in ("stream one", "stream batch"):
        span = otel_capture.span(name)
        assert span.parent is None
        assert [trace.format_trace_id(link.context.trace_id) for link in span.links] == [
            run.trace_id
        ]
    between, inside = otel_capture.logs[0], otel_capture.logs[1]
    assert between["run_id"] == inside["run_id"] == "r"
    assert "trace_id" not in between
    assert inside["trace_id"] == two.trace_id
    assert otel_capture.metric("pipeline_runs_total", pipeline="stream", status="success") == 1


def test_a_stream_that_is_interrupted_is_a_success(otel_capture: Capture) -> None:
    """A stream ends by being stopped: that is how it should end."""
    with pytest.raises(KeyboardInterrupt), Pipeline("stream-end", mode="stream").run():
        raise KeyboardInterrupt
    labels = {"pipeline": "stream-end"}
    assert otel_capture.metric("pipeline_runs_total", status="success", **labels) == 1


def test_a_sender_attached_inside_a_stream_is_the_parent(otel_capture: Capture) -> None:
    """A message's own trace wins over a root, and the link to the run stays."""
    pipeline = Pipeline("stream-attached", mode="stream")
    with pipeline.run() as run, attached(CARRIER), pipeline.stage("consume") as stage:
        pass
    assert stage.trace_id == TRACE
    links = otel_capture.span("stream-attached consume").links
    assert [trace.format_trace_id(link.context.trace_id) for link in links] == [run.trace_id]


# Stages


def test_a_decorated_function_keeps_its_name_and_result(otel_capture: Capture) -> None:
    """Signature, name and doc stay; methods, static and class methods work."""
    pipeline = Pipeline("decorated")

    class Job:
        @pipeline.stage
        def method(self, number: int) -> int:
            """Add one."""
            return number + 1

        @pipeline.stage
        @staticmethod
        def static(number: int) -> int:
            return number + 2

        @pipeline.stage("named")
        @classmethod
        def classy(cls, number: int) -> int:
            return number + 3

    assert (Job().method(1), Job.static(1), Job.classy(1)) == (2, 3, 4)
    assert Job.method.__name__ == "method"
    assert Job.method.__doc__ == "Add one."
    assert [span.name for span in otel_capture.spans] == [
        "decorated method",
        "decorated static",
        "decorated named",
    ]


def test_decorated_functions_keep_their_kind() -> None:
    """inspect still sees a generator, a coroutine and an asynchronous generator function."""
    pipeline = Pipeline("kinds")

    @pipeline.stage
    def generator() -> Iterator[int]:
        yield 1

    @pipeline.stage
    async def coroutine() -> None:
        pass

    @pipeline.stage
    async def asynchronous() -> AsyncIterator[int]:
        yield 1

    assert inspect.isgeneratorfunction(generator)
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isasyncgenfunction(asynchronous)


def test_one_stage_object_can_be_entered_at_once_by_many(otel_capture: Capture) -> None:
    """A stage object that is kept and entered from many threads makes one span for each."""
    stage = Pipeline("shared").stage("work")
    together = threading.Barrier(4)

    def work() -> None:
        with stage as handle:
            together.wait(10)
            handle.records(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = [dict(span.attributes or {}) for span in otel_capture.spans]
    assert [found["pipeline.records.success"] for found in records] == [1] * 4


def test_an_exception_reaches_the_program_as_it_was(otel_capture: Capture) -> None:
    """The exception that is caught is the one that was raised, its text untouched."""
    error = ValueError("password=hunter2")
    with pytest.raises(ValueError, match="password=hunter2") as raised, Pipeline("same").stage("s"):
        raise error
    assert raised.value is error
    assert error.args == ("password=hunter2",)
    assert not error.__dict__
    assert "hunter2" not in str([e.attributes for e in otel_capture.span("same s").events])
    assert "hunter2" not in "".join(otel_capture.lines)


def test_an_undecorated_generator_that_is_interleaved_leaves_no_ended_span(
    otel_capture: Capture,
) -> None:
    """Stages inside plain generators may be left in any order: no ended span stays current."""
    pipeline = Pipeline("plain-generators")

    def generator(name: str) -> Iterator[int]:
        with pipeline.stage(name):
            yield 1

    with pipeline.run() as run:
        first, second = generator("a"), generator("b")
        next(first)
        next(second)
        assert list(first) == []
        assert list(second) == []
        assert current_scope() is run
        assert trace.get_current_span() is run.span
    assert current_scope() is None
    assert len(otel_capture.spans) == 3


def test_a_stage_left_in_another_task_disturbs_nothing(otel_capture: Capture) -> None:
    """A stage that is entered in one task and left in another ends, and stays quiet."""
    pipeline = Pipeline("tasks")

    async def main() -> None:
        opener = pipeline.stage("s")
        await asyncio.create_task(opener.__aenter__())
        await asyncio.create_task(opener.__aexit__(None, None, None))
        assert current_stage() is None

    asyncio.run(main())
    assert [span.name for span in otel_capture.spans] == ["tasks s"]


def test_concurrent_tasks_have_their_own_stages(otel_capture: Capture) -> None:
    """Each task sees its own stage, and all are children of the run."""
    pipeline = Pipeline("gather")

    @pipeline.stage
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        assert current_stage().name == "work"
        return number

    async def main() -> list[int]:
        async with pipeline.run():
            return await asyncio.gather(*(work(n) for n in range(5)))

    assert asyncio.run(main()) == list(range(5))
    root = otel_capture.span("gather")
    children = [span for span in otel_capture.spans if span.name == "gather work"]
    assert {span.parent.span_id for span in children if span.parent} == {root.context.span_id}


def test_a_count_that_fails_costs_the_count_only(
    otel_capture: Capture, capfd: pytest.CaptureFixture[str]
) -> None:
    """count= that raises is said once, and the stage's result comes through."""
    pipeline = Pipeline("bad-count")

    @pipeline.stage(count=len)
    def number() -> int:
        return 3

    assert number() == number() == 3
    assert capfd.readouterr().err.count("count=len failed on a int") == 1
    assert len(otel_capture.spans) == 2


def test_attributes_of_any_type_are_kept_as_text(otel_capture: Capture) -> None:
    """Strange attribute values become text; a broken one is marked."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    with Pipeline("attributes").stage("s", attributes={"path": dt.date(2026, 1, 1)}) as stage:
        stage.set_attribute("numbers", (1, 2))
        stage.set_attribute("mixed", [1, "a", None])
        stage.set_attribute("broken", Broken())
        stage.set_attribute("long", "x" * 100_000)
        stage.set_attribute("nothing", None)
    found = dict(otel_capture.span("attributes s").attributes or {})
    assert found["path"] == "2026-01-01"
    assert found["numbers"] == (1, 2)
    assert found["mixed"] == ("1", "a", "None")
    assert found["broken"] == "<unprintable Broken>"
    assert len(str(found["long"])) < 70_000


@pytest.mark.parametrize("number", [-1, 1.5, "3", True, None])
def test_wrong_numbers_of_records_are_refused(number: Any) -> None:
    """A negative number is a ValueError, no whole number a TypeError."""
    with Pipeline("numbers").stage("s") as stage, pytest.raises((ValueError, TypeError)):
        stage.records(number)


def test_numbers_that_act_as_integers_are_taken(otel_capture: Capture) -> None:
    """NumPy's integers and the like count as what they are."""

    class Seven:
        def __index__(self) -> int:
            return 7

    with Pipeline("index").stage("s") as stage:
        stage.records(Seven())  # type: ignore[arg-type]
    labels = {"pipeline": "index", "stage": "s", "status": "success"}
    assert otel_capture.metric("pipeline_stage_records_total", **labels) == 7


@pytest.mark.parametrize("name", ["", "  "])
def test_empty_names_are_refused(name: str) -> None:
    """Pipelines, stages and queues need a name."""
    with pytest.raises(ValueError, match="empty"):
        Pipeline(name)
    with pytest.raises(ValueError, match="empty"):
        Pipeline("names").stage(name)
    with pytest.raises(ValueError, match="empty"):
        Pipeline("names").queue(name)
    with pytest.raises(TypeError, match="string"):
        Pipeline(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a name"), Pipeline("names").stage():
        pass


def test_unknown_modes_and_intervals_are_refused() -> None:
    """A wrong mode or interval says what is allowed."""
    with pytest.raises(ValueError, match="'batch' or 'stream'"):
        Pipeline("modes", mode="micro")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="soon"):
        Pipeline("modes", expected_interval="soon")


# Batches


def test_a_fan_in_batch_has_a_link_for_each_message(otel_capture: Capture) -> None:
    """links= takes carriers, or a function from a record to its carrier; bad ones are left out."""
    pipeline = Pipeline("fan-in")
    messages = [{"headers": [("traceparent", CARRIER["traceparent"].encode())]}, {"headers": []}]
    with pipeline.batch(messages, links=lambda message: message["headers"]) as records:
        list(records)
    with pipeline.batch(iter(messages), links=lambda message: message["headers"]) as records:
        list(records)
    with pipeline.batch([1, 2], links=[CARRIER, CARRIER]):
        pass
    with pipeline.batch([1], links=lambda message: message["headers"]) as records:
        list(records)
    counts = [len(span.links) for span in otel_capture.spans]
    assert counts == [1, 1, 2, 0]


def test_a_frame_is_counted_by_its_rows_and_never_iterated(otel_capture: Capture) -> None:
    """Iterating the handle of a frame is a TypeError that says what to do."""

    class Frame:
        columns = ("a", "b")
        shape = (4, 2)

        def __len__(self) -> int:
            return 4

    pipeline = Pipeline("frames")
    with pipeline.batch(Frame()):
        pass
    with pytest.raises(TypeError, match="leave the batch alone"), pipeline.batch(Frame()) as rows:
        for _ in rows:
            pass
    labels = {"pipeline": "frames"}
    assert otel_capture.metric("records_processed_total", status="success", **labels) == 4


def test_an_unsized_batch_that_nobody_counts_is_said_once(
    otel_capture: Capture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A generator that is neither iterated nor counted says what to call."""
    pipeline = Pipeline("unsized")
    for _ in range(2):
        with pipeline.batch(iter([1])):
            pass
    assert capfd.readouterr().err.count("call records(n) on its handle") == 1
    assert len(otel_capture.spans) == 2


def test_batch_lines_are_few_and_say_how_many_were_suppressed() -> None:
    """The first ten lines come at once, then one a second, with the number of those left out."""
    pipeline = Pipeline("lines")
    clock = ManualClock()
    with capture(clock=clock) as captured:
        for _ in range(30):
            with pipeline.batch([1]):
                pass
        lines = [line for line in captured.logs if line["event"] == "batch_processed"]
        assert len(lines) == 10
        assert all(line["count"] == 1 and line["duration_seconds"] >= 0 for line in lines)
        assert "suppressed" not in lines[-1]
        clock.advance(1)
        with pipeline.batch([1]):
            pass
        assert captured.logs[-1]["suppressed"] == 20
        assert captured.metric("otel_pipeline_logs_suppressed_total", event="batch_processed") == 20


def test_batch_failed_is_logged_for_each_batch() -> None:
    """Failures are never suppressed."""
    pipeline = Pipeline("failures")
    with capture() as captured:
        for _ in range(15):
            with pytest.raises(KeyError), pipeline.batch([1]):
                raise KeyError("gone")
    lines = [line for line in captured.logs if line["event"] == "batch_failed"]
    assert len(lines) == 15
    assert lines[0]["error"] == "'gone'"


def test_a_batch_feeds_its_counters_while_it_runs(otel_capture: Capture) -> None:
    """A long batch is seen record by record, not only at its end."""
    pipeline = Pipeline("live")
    with pipeline.batch([1, 2, 3]) as records:
        for record in records:
            seen = otel_capture.metric("records_processed_total", pipeline="live", status="success")
            assert (seen or 0) == record - 1


# Queues and lag


def test_queues_show_their_size(otel_capture: Capture) -> None:
    """set, inc, dec and watch all feed queue_size, and the queue's pipeline is told."""
    pipeline = Pipeline("queues")
    handle = pipeline.queue("queues-manual")
    handle.set(3)
    handle.inc(2)
    handle.dec()
    waiting: queue.Queue[int] = queue.Queue()
    pipeline.queue("queues-watched").watch(waiting)
    waiting.put(1)
    assert otel_capture.metric("queue_size", queue_name="queues-manual") == 4
    assert otel_capture.metric("queue_size", queue_name="queues-watched") == 1
    info = {"pipeline": "queues", "queue_name": "queues-watched"}
    assert otel_capture.metric("pipeline_queue_info", **info) == 1


def test_a_watched_queue_is_not_kept_alive(otel_capture: Capture) -> None:
    """Once the queue is gone, its size is 0; lists are watched by their length."""
    pipeline = Pipeline("queues-gone")
    waiting: queue.Queue[int] = queue.Queue()
    waiting.put(1)
    pipeline.queue("queues-gone").watch(waiting)
    del waiting
    pipeline.queue("queues-list").watch([1, 2])
    assert otel_capture.metric("queue_size", queue_name="queues-gone") == 0
    assert otel_capture.metric("queue_size", queue_name="queues-list") == 2
    with pytest.raises(TypeError, match="neither qsize"):
        pipeline.queue("queues-list").watch(3)


def test_a_queue_belongs_to_one_pipeline() -> None:
    """queue_size has only the queue's name, so another pipeline may not take it."""
    Pipeline("owner").queue("queues-owned")
    Pipeline("owner").queue("queues-owned")
    with pytest.raises(ValueError, match="belongs to pipeline 'owner'"):
        Pipeline("other").queue("queues-owned")


def test_lag_is_the_age_of_an_event() -> None:
    """Seconds, aware and naive (UTC) datetimes are time stamps."""
    clock = ManualClock(dt.datetime(2026, 1, 1, 0, 1))  # noqa: DTZ001  naive is UTC
    pipeline = Pipeline("lag")
    with capture(clock=clock) as captured:
        for moment in (
            dt.datetime(2026, 1, 1, 0, 0, 30),  # noqa: DTZ001  naive is UTC
            dt.datetime(2026, 1, 1, 1, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))),
            clock.time_ns() / 1e9 - 30,
        ):
            pipeline.lag(moment)
            assert captured.metric("pipeline_event_lag_seconds", pipeline="lag") == 30


# Without configure()


def test_without_configure_everything_works_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The unconfigured facade is a working no-op that counts."""
    code = """
from otel_pipeline import Counter, Pipeline, current_run
p = Pipeline("plain", expected_interval=60)
c = Counter("plain", "Plain")
with p.run() as run, p.stage("s") as s, p.batch([1, 2]) as b:
    c.inc(sum(b)); s.records(3); p.queue("q").set(1); p.lag(0)
try:
    with p.batch([1]): raise KeyError
except KeyError:
    pass
assert run.records()["success"] == 2 and current_run() is None
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout == result.stderr == ""
    assert current_run() is None
    assert capfd.readouterr() == ("", "")


def test_pipeline_objects_of_one_name_are_one_pipeline(otel_capture: Capture) -> None:
    """A batch of one object counts for the run of the other, and a batch inside counts once."""
    first, second = Pipeline("twins"), Pipeline("twins")
    with first.run() as run, second.batch([1, 2]), first.batch([1, 2]):
        pass
    assert run.records() == {"success": 2, "error": 0, "skipped": 0}
    labels = {"pipeline": "twins", "status": "success"}
    assert otel_capture.metric("records_processed_total", **labels) == 2


def test_stage_names_without_end_are_not_kept(otel_capture: Capture) -> None:
    """A stage named after each record costs memory for the first thousand only."""
    pipeline = Pipeline("unbounded")
    for number in range(1100):
        with pipeline.stage(f"record-{number}") as stage:
            stage.records()
    assert len(pipeline._shared.series) == 1000
    assert len(otel_capture.spans) == 1100
