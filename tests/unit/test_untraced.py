"""Where nothing is traced, a stage is current all the same, and leaves OpenTelemetry alone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context

from otel_pipeline import Pipeline, configure, current_run, current_stage, get_logger, testing
from otel_pipeline.context import UNTRACED, current_scope
from otel_pipeline.metrics.registry import REGISTRY
from otel_pipeline.metrics.snapshots import Point
from otel_pipeline.propagation import ThreadPoolExecutor, attached, inject, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

CARRIER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    assert current_scope() is None
    yield
    assert current_scope() is None
    assert otel_context.get_current() == {}


def records(pipeline: str, stage: str) -> float:
    """Return how many records of a stage succeeded."""
    for family in REGISTRY.collect():
        if family.name == "pipeline_stage_records":
            for point in family.points:
                if isinstance(point, Point) and point.labels == (pipeline, stage, "success"):
                    return point.value
    raise AssertionError


def test_a_stage_is_current_and_opentelemetrys_context_stays_empty() -> None:
    """Handles are found, innermost first, and no context is made."""
    pipeline = Pipeline("untraced")
    with pipeline.run("r") as run, pipeline.stage("outer") as outer:
        with pipeline.stage("inner") as inner:
            assert (current_stage(), current_run()) == (inner, run)
            assert otel_context.get_current() == {}
        assert current_stage() is outer
        assert inject({}) == {}
    assert not trace.get_current_span().get_span_context().is_valid


def test_records_are_counted_before_configure() -> None:
    """What stages, generators and batches count is exact without telemetry, from threads too."""
    pipeline = Pipeline("untraced-counts")

    @pipeline.stage
    def read() -> Iterator[int]:
        assert current_stage().name == "read"
        yield from range(5)

    def work(_: int) -> None:
        with pipeline.batch([1, 2, 3]) as batch:
            for _record in batch:
                pass

    with pipeline.run() as run, pipeline.stage("load"), ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(20)))
        for _record in read():
            assert current_stage().name == "load"
    assert (records("untraced-counts", "load"), records("untraced-counts", "read")) == (60, 5)
    assert run.records()["success"] == 60


def test_an_async_function_that_is_wrapped_runs_where_it_was_wrapped() -> None:
    """The stage is current inside, whatever is current for the caller, and only inside."""
    pipeline = Pipeline("untraced-wrap")

    async def name() -> str:
        await asyncio.sleep(0)
        return current_stage().name

    with pipeline.stage("here"):
        wrapped = wrap(name)

    async def main() -> str:
        with pipeline.stage("there") as there:
            found = await wrapped()
            assert current_stage() is there
            return found

    assert asyncio.run(main()) == "here"


def test_stages_left_in_the_wrong_order_never_come_back() -> None:
    """The innermost that is still open is current."""
    pipeline = Pipeline("untraced-order")
    first, second, third = (pipeline.stage(name) for name in ("first", "second", "third"))
    first.__enter__()
    second.__enter__()
    innermost = third.__enter__()
    second.__exit__(None, None, None)
    assert current_stage() is innermost
    third.__exit__(None, None, None)
    assert current_stage().name == "first"
    first.__exit__(None, None, None)


def test_tracing_may_begin_inside_a_stage_and_end_before_it() -> None:
    """A traced stage inside an untraced one is current until its end, in whatever order."""
    pipeline = Pipeline("untraced-then")
    with pipeline.stage("untraced") as untraced:
        with testing.capture(), pipeline.stage("traced") as traced:
            assert current_stage() is traced
            assert traced.parent is untraced
            assert trace.get_current_span() is traced.span
        assert current_stage() is untraced
    early = contextlib.ExitStack()
    early.enter_context(pipeline.stage("untraced"))
    with testing.capture(), pipeline.stage("traced") as traced:
        early.close()
        assert current_stage() is traced
        with pipeline.stage("inner") as inner:
            assert inner.parent is traced
    assert UNTRACED.get() is None


def test_an_untraced_stage_inside_a_traced_one_is_the_inner_one() -> None:
    """Where a context was made before tracing ended, stages go on in it."""
    pipeline = Pipeline("untraced-inside")
    with contextlib.ExitStack() as stack:
        with testing.capture():
            traced = stack.enter_context(pipeline.stage("traced"))
        with pipeline.stage("untraced") as untraced:
            assert untraced.parent is traced
            assert current_stage() is untraced
        assert current_stage() is traced


def test_a_senders_trace_and_baggage_pass_through() -> None:
    """What is in OpenTelemetry's context stays there inside an untraced stage."""
    pipeline = Pipeline("untraced-pass")
    with pipeline.stage("outer") as outer, attached(CARRIER | {"baggage": "k=v"}):
        with pipeline.stage("inner") as inner:
            assert inner.parent is outer
            assert inner.trace_id == "0af7651916cd43dd8448eb211c80319c"
            assert baggage.get_baggage("k") == "v"
            assert inject({})["traceparent"] == CARRIER["traceparent"]
        assert current_stage() is outer


def test_a_log_line_carries_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Without traces a line has pipeline, stage and run, and no trace id."""
    pipeline = Pipeline("untraced-logs")
    with (
        configure("s", environ={"OTEL_SDK_DISABLED": "true"}, log_format="json", replace=True),
        pipeline.run("r7"),
        pipeline.stage("load"),
    ):
        get_logger("l").info("hello")
    line = capsys.readouterr().out
    assert '"pipeline":"untraced-logs","stage":"load","run_id":"r7"' in line
    assert "trace_id" not in line
