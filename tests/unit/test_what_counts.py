"""What counts: for each construct and each way to end it, the spans, counts, durations and lines.

This table is the contract of the pipeline facade. Every case runs in the same pipeline `p`; what
is not listed must not be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import Pipeline, current_run, current_stage
from otel_pipeline.context import current_scope
from otel_pipeline.testing import ManualClock, capture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from otel_pipeline.testing import Capture


class Boom(Exception):  # noqa: N818
    """The error of the cases."""


class Abort(BaseException):
    """An error of the cases that is no Exception, as test frameworks have."""


@dataclass
class Expected:
    """What a case leaves behind.

    spans: in the order of their ends: name, `pipeline.status`, whether the span's status is ERROR,
        whether it has the exception, and its non-zero `pipeline.records.*`.
    counts: every counter that is not zero.
    durations: observations of histograms, by series.
    events: level and event of each log line, and whether it has a stack.
    """

    spans: list[tuple[str, str | None, bool, bool, dict[str, int]]]
    counts: dict[str, int] = field(default_factory=dict)
    durations: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, str, bool]] = field(default_factory=list)


def stage_records(stage: str, **counts: int) -> dict[str, int]:
    return {f"pipeline_stage_records_total p/{stage}/{status}": n for status, n in counts.items()}


def processed(**counts: int) -> dict[str, int]:
    return {f"records_processed_total p/{status}": n for status, n in counts.items()}


def runs(status: str) -> dict[str, int]:
    return {f"pipeline_runs_total p/{status}": 1}


def took_stage(stage: str, status: str, n: int = 1) -> dict[str, int]:
    return {f"pipeline_stage_duration_seconds p/{stage}/{status}": n}


def took_run(status: str) -> dict[str, int]:
    return {f"pipeline_run_duration_seconds p/{status}": 1}


NO_ERRORS = (asyncio.CancelledError, KeyboardInterrupt, SystemExit)
TOOK_BATCH = {"processing_duration_seconds p": 1}
BATCH_LINE = ("info", "batch_processed", False)


# The cases ----------------------------------------------------------------------------------------

CASES: list[Any] = []


def case(expected: Expected) -> Callable[[Callable[[Pipeline], Any]], Callable[[Pipeline], Any]]:
    def add(scenario: Callable[[Pipeline], Any]) -> Callable[[Pipeline], Any]:
        CASES.append(pytest.param(scenario, expected, id=scenario.__name__))
        return scenario

    return add


def ok(name: str, **records: int) -> tuple[str, str, bool, bool, dict[str, int]]:
    return (name, "success", False, False, records)


def ended(name: str, status: str, **records: int) -> tuple[str, str, bool, bool, dict[str, int]]:
    return (name, status, False, False, records)


def failed(
    name: str, *, innermost: bool, **records: int
) -> tuple[str, str, bool, bool, dict[str, int]]:
    return (name, "error", True, innermost, records)


# Runs


@case(Expected([ok("p")], runs("success"), took_run("success")))
def run_returns(p: Pipeline) -> None:
    with p.run():
        pass


@case(
    Expected(
        [failed("p", innermost=True)],
        runs("error"),
        took_run("error"),
        [("error", "run_failed", True)],
    )
)
def run_fails(p: Pipeline) -> None:
    with p.run():
        raise Boom


@case(Expected([ended("p", "interrupted")], runs("interrupted"), took_run("interrupted")))
def run_is_cancelled(p: Pipeline) -> None:
    with p.run():
        raise asyncio.CancelledError


@case(Expected([ended("p", "interrupted")], runs("interrupted"), took_run("interrupted")))
def run_gets_ctrl_c(p: Pipeline) -> None:
    with p.run():
        raise KeyboardInterrupt


@case(Expected([ended("p", "interrupted")], runs("interrupted"), took_run("interrupted")))
def run_exits_with_0(p: Pipeline) -> None:
    with p.run():
        raise SystemExit(0)


@case(
    Expected(
        [failed("p", innermost=True)],
        runs("error"),
        took_run("error"),
        [("error", "run_failed", True)],
    )
)
def run_exits_with_1(p: Pipeline) -> None:
    with p.run():
        raise SystemExit(1)


@case(Expected([ok("p")], runs("success"), took_run("success")))
def run_as_decorator(p: Pipeline) -> None:
    @p.run()
    def main() -> None:
        assert current_run() is not None

    main()


@case(
    Expected(
        [ok("p"), ok("p")],
        {"pipeline_runs_total p/success": 2},
        {"pipeline_run_duration_seconds p/success": 2},
    )
)
def run_in_a_run(p: Pipeline) -> None:
    with p.run() as outer, p.run() as inner:
        assert inner.trace_id == outer.trace_id


# Stages around code


@case(Expected([ok("p s")], {}, took_stage("s", "success")))
def stage_counts_nothing_by_itself(p: Pipeline) -> None:
    with p.stage("s"):
        pass


@case(
    Expected(
        [ok("p s", success=6, error=1, dropped=2)],
        {
            **stage_records("s", success=6, error=1, dropped=2),
            "pipeline_records_rejected_total p/s/late": 1,
            "pipeline_records_rejected_total p/s/null": 2,
        },
        took_stage("s", "success"),
    )
)
def stage_counts_what_it_is_told(p: Pipeline) -> None:
    with p.stage("s") as stage:
        stage.records()
        stage.records(5)
        stage.failed(reason="late")
        stage.dropped(2, reason="null")


@case(
    Expected(
        [failed("p s", innermost=True, success=1)],
        stage_records("s", success=1),
        took_stage("s", "error"),
        [("error", "stage_failed", True)],
    )
)
def stage_fails(p: Pipeline) -> None:
    with p.stage("s") as stage:
        stage.records()
        raise Boom


@case(
    Expected(
        [failed("p inner", innermost=True), failed("p outer", innermost=False)],
        {},
        {**took_stage("inner", "error"), **took_stage("outer", "error")},
        [("error", "stage_failed", True)],
    )
)
def stage_in_a_stage_fails(p: Pipeline) -> None:
    with p.stage("outer"), p.stage("inner"):
        raise Boom


@case(
    Expected(
        [failed("p inner", innermost=True), failed("p outer", innermost=True)],
        {},
        {**took_stage("inner", "error"), **took_stage("outer", "error")},
        [("error", "stage_failed", True), ("error", "stage_failed", True)],
    )
)
def stage_fails_otherwise_than_the_stage_inside(p: Pipeline) -> None:
    with p.stage("outer"):
        with contextlib.suppress(Boom), p.stage("inner"):
            raise Boom
        raise Boom


@case(Expected([ended("p s", "cancelled")], {}, took_stage("s", "cancelled")))
def stage_is_cancelled(p: Pipeline) -> None:
    with p.stage("s"):
        raise asyncio.CancelledError


@case(Expected([ended("p s", "cancelled")], {}, took_stage("s", "cancelled")))
def stage_exits_with_0(p: Pipeline) -> None:
    with p.stage("s"):
        raise SystemExit(0)


@case(
    Expected(
        [ok("p s", success=1), ok("p", success=1)],
        {**stage_records("s", success=1), **runs("success")},
        {**took_stage("s", "success"), **took_run("success")},
    )
)
def stage_as_asynchronous_context_manager(p: Pipeline) -> None:
    async def main() -> None:
        async with p.run(), p.stage("s") as stage:
            await asyncio.sleep(0)
            stage.records()

    asyncio.run(main())


# Stages around functions


@case(Expected([ok("p named")], {}, took_stage("named", "success")))
def stage_takes_the_functions_name(p: Pipeline) -> None:
    @p.stage
    def named() -> None:
        assert current_stage().name == "named"

    named()


@case(Expected([ok("p s", success=3)], stage_records("s", success=3), took_stage("s", "success")))
def stage_counts_the_result(p: Pipeline) -> None:
    @p.stage("s", count=len)
    def function() -> list[int]:
        return [1, 2, 3]

    assert function() == [1, 2, 3]


@case(
    Expected(
        [ok("p s", success=2, dropped=1)],
        {
            **stage_records("s", success=2, dropped=1),
            "pipeline_records_rejected_total p/s/null": 1,
        },
        took_stage("s", "success"),
    )
)
def stage_of_an_asynchronous_function(p: Pipeline) -> None:
    @p.stage("s", count=len)
    async def function() -> list[int]:
        await asyncio.sleep(0)
        current_stage().dropped(reason="null")
        return [1, 2]

    asyncio.run(function())


@case(
    Expected(
        [failed("p s", innermost=True)],
        {},
        took_stage("s", "error"),
        [("error", "stage_failed", True)],
    )
)
def stage_of_an_asynchronous_function_fails(p: Pipeline) -> None:
    @p.stage("s")
    async def function() -> None:
        await asyncio.sleep(0)
        raise Boom

    asyncio.run(function())


@case(Expected([ended("p s", "cancelled")], {}, took_stage("s", "cancelled")))
def stage_of_an_asynchronous_function_is_cancelled(p: Pipeline) -> None:
    @p.stage("s")
    async def function(started: asyncio.Event) -> None:
        started.set()
        await asyncio.Event().wait()

    async def main() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(function(started))
        await started.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


# Generators


def three(p: Pipeline) -> Callable[[], Iterator[int]]:
    @p.stage
    def three() -> Iterator[int]:
        for number in range(3):
            assert current_stage().name == "three"
            yield number

    return three


@case(
    Expected(
        [ok("p three", success=3)],
        stage_records("three", success=3),
        took_stage("three", "success"),
    )
)
def generator_is_exhausted(p: Pipeline) -> None:
    for _ in three(p)():
        assert current_stage() is None


@case(Expected([]))
def generator_is_never_started(p: Pipeline) -> None:
    three(p)()


@case(
    Expected(
        [ended("p three", "cancelled", success=2)],
        stage_records("three", success=2),
        took_stage("three", "cancelled"),
    )
)
def generator_is_left_by_break(p: Pipeline) -> None:
    for number in three(p)():
        if number == 1:
            break


@case(
    Expected(
        [failed("p fails", innermost=True, success=1)],
        stage_records("fails", success=1),
        took_stage("fails", "error"),
        [("error", "stage_failed", True)],
    )
)
def generator_fails(p: Pipeline) -> None:
    @p.stage
    def fails() -> Iterator[int]:
        yield 1
        raise Boom

    list(fails())


@case(
    Expected(
        [failed("p fails", innermost=True, success=1), failed("p load", innermost=False)],
        stage_records("fails", success=1),
        {**took_stage("fails", "error"), **took_stage("load", "error")},
        [("error", "stage_failed", True)],
    )
)
def generator_fails_inside_a_stage(p: Pipeline) -> None:
    @p.stage
    def fails() -> Iterator[int]:
        yield 1
        raise Boom

    with p.stage("load"):
        list(fails())


@case(
    Expected(
        [
            ended("p three", "cancelled", success=1),
            failed("p load", innermost=True),
        ],
        stage_records("three", success=1),
        {**took_stage("three", "cancelled"), **took_stage("load", "error")},
        [("error", "stage_failed", True)],
    )
)
def consumer_of_a_generator_fails(p: Pipeline) -> None:
    generator = three(p)()
    try:
        with p.stage("load"), contextlib.closing(generator):  # type: ignore[type-var]
            for _ in generator:
                raise Boom
    finally:
        del generator


@case(
    Expected(
        [ok("p talks", success=2)],
        stage_records("talks", success=2),
        took_stage("talks", "success"),
    )
)
def generator_is_sent_to_thrown_into_and_returns(p: Pipeline) -> None:
    @p.stage
    def talks() -> Any:
        try:
            got = yield "ready"
            yield got * 2
        except Boom:
            return "caught"

    def consumer() -> Any:
        generator = talks()
        assert next(generator) == "ready"
        assert generator.send(21) == 42
        try:
            generator.throw(Boom())
        except StopIteration as stop:
            return stop.value

    assert consumer() == "caught"


@case(
    Expected(
        [ok("p pages", success=5)],
        stage_records("pages", success=5),
        took_stage("pages", "success"),
    )
)
def generator_counts_what_each_item_is(p: Pipeline) -> None:
    @p.stage("pages", count=len)
    def pages() -> Iterator[list[int]]:
        yield [1, 2, 3]
        yield [4, 5]

    list(pages())


@case(
    Expected(
        [ok("p b", success=2), ok("p a", success=3)],
        {**stage_records("a", success=3), **stage_records("b", success=2)},
        {**took_stage("a", "success"), **took_stage("b", "success")},
    )
)
def generators_are_interleaved(p: Pipeline) -> None:
    @p.stage("a")
    def a() -> Iterator[int]:
        yield from range(3)

    @p.stage("b")
    def b() -> Iterator[int]:
        yield from range(2)

    first, second = a(), b()
    next(first)
    next(second)
    next(first)
    assert list(second) == [1]
    assert current_scope() is None
    assert list(first) == [2]


def asynchronous(p: Pipeline) -> Callable[[], AsyncIterator[int]]:
    @p.stage
    async def asynchronous() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            assert current_stage().name == "asynchronous"
            yield number

    return asynchronous


@case(
    Expected(
        [ok("p asynchronous", success=3)],
        stage_records("asynchronous", success=3),
        took_stage("asynchronous", "success"),
    )
)
def asynchronous_generator_is_exhausted(p: Pipeline) -> None:
    async def main() -> None:
        async for _ in asynchronous(p)():
            assert current_stage() is None

    asyncio.run(main())


@case(
    Expected(
        [ended("p asynchronous", "cancelled", success=2)],
        stage_records("asynchronous", success=2),
        took_stage("asynchronous", "cancelled"),
    )
)
def asynchronous_generator_is_left_by_break(p: Pipeline) -> None:
    async def main() -> None:
        async for number in asynchronous(p)():
            if number == 1:
                break

    asyncio.run(main())


@case(
    Expected(
        [failed("p fails", innermost=True, success=1)],
        stage_records("fails", success=1),
        took_stage("fails", "error"),
        [("error", "stage_failed", True)],
    )
)
def asynchronous_generator_fails(p: Pipeline) -> None:
    @p.stage
    async def fails() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0)
        raise Boom

    async def main() -> None:
        async for _ in fails():
            pass

    asyncio.run(main())


@case(
    Expected(
        [ended("p waits", "cancelled", success=1)],
        stage_records("waits", success=1),
        took_stage("waits", "cancelled"),
    )
)
def asynchronous_generator_is_cancelled(p: Pipeline) -> None:
    @p.stage
    async def waits(started: asyncio.Event) -> AsyncIterator[int]:
        yield 1
        started.set()
        await asyncio.Event().wait()

    async def consume(started: asyncio.Event) -> None:
        async for _ in waits(started):
            pass

    async def main() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(consume(started))
        await started.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


@case(
    Expected(
        [ok("p talks", success=2)],
        stage_records("talks", success=2),
        took_stage("talks", "success"),
    )
)
def asynchronous_generator_is_sent_to_and_thrown_into(p: Pipeline) -> None:
    @p.stage
    async def talks() -> Any:
        try:
            got = yield "ready"
            yield got * 2
        except Boom:
            return

    async def main() -> None:
        generator = talks()
        assert await anext(generator) == "ready"
        assert await generator.asend(21) == 42
        with pytest.raises(StopAsyncIteration):
            await generator.athrow(Boom())

    asyncio.run(main())


# Batches


@case(Expected([ok("p batch", success=3)], processed(success=3), TOOK_BATCH, [BATCH_LINE]))
def batch_is_iterated(p: Pipeline) -> None:
    with p.batch([1, 2, 3]) as records:
        assert list(records) == [1, 2, 3]


@case(
    Expected(
        [ok("p batch", success=3), ok("p load", success=3)],
        {**processed(success=3), **stage_records("load", success=3)},
        {**TOOK_BATCH, **took_stage("load", "success")},
        [BATCH_LINE],
    )
)
def batch_counts_in_the_stage_around_it(p: Pipeline) -> None:
    with p.stage("load"), p.batch([1, 2, 3]) as records:
        list(records)


@case(
    Expected(
        [failed("p batch", innermost=True, success=1, error=1)],
        processed(success=1, error=1),
        {},
        [("error", "batch_failed", True)],
    )
)
def batch_fails_while_iterated(p: Pipeline) -> None:
    with p.batch([1, 2, 3]) as records:
        for record in records:
            if record == 2:
                raise Boom


@case(
    Expected(
        [failed("p batch", innermost=True, success=2)],
        processed(success=2),
        {},
        [("error", "batch_failed", True)],
    )
)
def batch_fails_between_records(p: Pipeline) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise Boom

    with p.batch(source()) as records:
        for _ in records:
            pass


@case(
    Expected(
        [failed("p batch", innermost=True, success=2)],
        processed(success=2),
        {},
        [("error", "batch_failed", True)],
    )
)
def batch_fails_after_the_loop(p: Pipeline) -> None:
    with p.batch([1, 2]) as records:
        for _ in records:
            pass
        raise Boom


@case(
    Expected(
        [failed("p batch", innermost=True, error=3)],
        processed(error=3),
        {},
        [("error", "batch_failed", True)],
    )
)
def batch_fails_not_iterated(p: Pipeline) -> None:
    with p.batch([1, 2, 3]):
        raise Boom


@case(Expected([ok("p batch", success=1)], processed(success=1), TOOK_BATCH, [BATCH_LINE]))
def batch_is_left_by_break(p: Pipeline) -> None:
    with p.batch([1, 2, 3]) as records:
        for record in records:
            if record == 2:
                break


@case(Expected([ended("p batch", "cancelled", success=1)], processed(success=1)))
def batch_is_cancelled(p: Pipeline) -> None:
    with p.batch([1, 2, 3]) as records:
        for record in records:
            if record == 2:
                raise asyncio.CancelledError


@case(Expected([ended("p batch", "cancelled", success=8, error=2)], processed(success=8, error=2)))
def batch_is_cancelled_after_it_was_told(p: Pipeline) -> None:
    with p.batch(iter([])) as records:
        records.records(10)
        records.failed(2)
        raise asyncio.CancelledError


@case(
    Expected(
        [failed("p batch", innermost=True, error=2)],
        processed(error=2),
        {},
        [("error", "batch_failed", True)],
    )
)
def batch_fails_by_another_base_exception(p: Pipeline) -> None:
    with p.batch([1, 2]):
        raise Abort


@case(Expected([ended("p batch", "cancelled")]))
def batch_is_cancelled_not_iterated(p: Pipeline) -> None:
    with p.batch([1, 2, 3]):
        raise asyncio.CancelledError


@case(
    Expected(
        [ok("p batch", success=1, error=1, skipped=1)],
        {
            **processed(success=1, error=1, skipped=1),
            "pipeline_records_rejected_total p//bad": 1,
            "pipeline_records_rejected_total p//twice": 1,
        },
        TOOK_BATCH,
        [BATCH_LINE],
    )
)
def batch_replaces_the_success_of_the_current_record(p: Pipeline) -> None:
    with p.batch([1, 2, 3]) as records:
        for record in records:
            if record == 1:
                records.failed(reason="bad")
                records.failed(reason="bad")
            if record == 2:
                records.skipped(reason="twice")


@case(
    Expected(
        [failed("p batch", innermost=True, error=1)],
        processed(error=1),
        {},
        [("error", "batch_failed", True)],
    )
)
def batch_counts_a_record_that_failed_and_raised_once(p: Pipeline) -> None:
    with p.batch([1, 2]) as records:
        for _ in records:
            records.failed()
            raise Boom


@case(
    Expected(
        [ok("p batch", success=5, error=3, skipped=2)],
        processed(success=5, error=3, skipped=2),
        TOOK_BATCH,
        [BATCH_LINE],
    )
)
def batch_replaces_some_successes_not_iterated(p: Pipeline) -> None:
    with p.batch(range(10)) as records:
        records.failed(3)
        records.skipped(2)


@case(Expected([ok("p batch", success=3)], processed(success=3), TOOK_BATCH, [BATCH_LINE]))
def batch_is_counted_by_its_length(p: Pipeline) -> None:
    with p.batch([1, 2, 3]):
        pass


@case(Expected([ok("p batch", success=7)], processed(success=7), TOOK_BATCH, [BATCH_LINE]))
def batch_is_counted_by_what_it_is_told(p: Pipeline) -> None:
    with p.batch(iter([])) as records:
        records.records(3)
        records.records(4)


@case(Expected([ok("p batch", success=2)], processed(success=2), TOOK_BATCH, [BATCH_LINE]))
def batch_counts_the_first_pass_only(p: Pipeline) -> None:
    with p.batch([1, 2]) as records:
        assert list(records) == list(records) == [1, 2]


@case(Expected([ok("p batch")], {}, TOOK_BATCH, [BATCH_LINE]))
def batch_is_empty(p: Pipeline) -> None:
    with p.batch([]) as records:
        list(records)


@case(
    Expected(
        [
            failed("p s", innermost=True),
            failed("p batch", innermost=False, error=1),
        ],
        processed(error=1),
        took_stage("s", "error"),
        [("error", "stage_failed", True), ("error", "batch_failed", False)],
    )
)
def stage_fails_inside_a_batch(p: Pipeline) -> None:
    with p.batch([1, 2]) as records:
        for _ in records:
            with p.stage("s"):
                raise Boom


@case(
    Expected(
        [ok("p batch", success=1), ok("p batch", success=1), ok("p batch", success=2)],
        processed(success=2),
        TOOK_BATCH,
        [BATCH_LINE] * 3,
    )
)
def batch_in_a_batch_is_not_processed_twice(p: Pipeline) -> None:
    with p.batch([1, 2]) as outer:
        for record in outer:
            with p.batch([record]) as inner:
                list(inner)


@case(
    Expected(
        [ok("p batch", success=2), ok("p inner", success=2), ok("p batch", success=1)],
        {**processed(success=1), **stage_records("inner", success=2)},
        {**TOOK_BATCH, **took_stage("inner", "success")},
        [BATCH_LINE] * 2,
    )
)
def batch_in_a_batch_counts_in_its_own_stage(p: Pipeline) -> None:
    with p.batch([[1, 2]]) as outer:
        for page in outer:
            with p.stage("inner"), p.batch(page) as inner:
                list(inner)


@case(
    Expected(
        [ok("p batch", success=1), ok("p batch", success=1), ok("p load", success=2)],
        {**processed(success=1), **stage_records("load", success=2)},
        {**TOOK_BATCH, **took_stage("load", "success")},
        [BATCH_LINE] * 2,
    )
)
def batch_in_a_batch_counts_in_the_stage_around_both(p: Pipeline) -> None:
    with p.stage("load"), p.batch([1]) as outer:
        for record in outer:
            with p.batch([record]) as inner:
                list(inner)


@case(
    Expected(
        [ok("p batch", success=2, error=1)],
        processed(success=2, error=1),
        TOOK_BATCH,
        [BATCH_LINE],
    )
)
def batch_is_iterated_asynchronously(p: Pipeline) -> None:
    async def main() -> None:
        async with p.batch([1, 2, 3]) as records:
            async for record in records:
                await asyncio.sleep(0)
                if record == 2:
                    records.failed()

    asyncio.run(main())


@case(
    Expected(
        [
            ended("p asynchronous", "cancelled", success=2),
            failed("p batch", innermost=True, success=1, error=1),
        ],
        {**processed(success=1, error=1), **stage_records("asynchronous", success=2)},
        took_stage("asynchronous", "cancelled"),
        [("error", "batch_failed", True)],
    )
)
def batch_over_an_asynchronous_generator_fails(p: Pipeline) -> None:
    async def main() -> None:
        source = asynchronous(p)()
        async with p.batch(source) as records, contextlib.aclosing(source):  # type: ignore[type-var]
            async for record in records:
                if record == 1:
                    raise Boom

    asyncio.run(main())


# The table is run ---------------------------------------------------------------------------------


def seen(captured: Capture) -> Expected:
    """Return what a case left behind, in the form of the table."""
    spans: list[Any] = []
    for span in captured.spans:
        attributes = dict(span.attributes or {})
        records = {
            key.rpartition(".")[2]: value
            for key, value in attributes.items()
            if key.startswith("pipeline.records.") and value
        }
        spans.append(
            (
                span.name,
                attributes.get("pipeline.status"),
                span.status.status_code.name == "ERROR",
                any(event.name == "exception" for event in span.events),
                records,
            )
        )
    counts: dict[str, int] = {}
    durations: dict[str, int] = {}
    for sample, value in captured.metrics.items():
        name, _, labels = sample.partition("{")
        pairs = dict(pair.split("=") for pair in labels.rstrip("}").split(",") if pair)
        order = ("pipeline", "stage", "status", "reason")
        where = "/".join(pairs[key].strip('"') for key in order if key in pairs)
        if name.endswith("_total") and value and not name.startswith("otel_pipeline"):
            counts[f"{name} {where}"] = int(value)
        if name.endswith("_duration_seconds_count") and value:
            durations[f"{name.removesuffix('_count')} {where}"] = int(value)
    events = [(line["level"], line["event"], "exception" in line) for line in captured.logs]
    return Expected(spans, counts, durations, events)


@pytest.mark.parametrize(("scenario", "expected"), CASES)
def test_what_counts(scenario: Callable[[Pipeline], Any], expected: Expected) -> None:
    """Each construct, ended in each way, leaves exactly what the table says."""
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    with capture(clock=ManualClock()) as captured:
        with contextlib.suppress(Boom, Abort, *NO_ERRORS):
            scenario(Pipeline("p"))
        assert current_scope() is None
    found = seen(captured)
    assert found.spans == expected.spans
    assert found.counts == expected.counts
    assert found.durations == expected.durations
    assert found.events == expected.events
