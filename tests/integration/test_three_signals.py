"""One story: span, printed line, OTLP record and exemplar of a stage carry the same ids."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from otel_pipeline import Counter, Pipeline, configure, current_stage, get_logger
from otel_pipeline.context import current_scope
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

HANDLED = Counter("three_signals_handled", "Handled", ["kind"])
log = get_logger("job")
numbers = itertools.count()


class Boom(Exception):  # noqa: N818
    """The error of the cases."""


def touch(kind: str) -> None:
    """Do what code inside a stage does: count, log, and look where it is."""
    assert current_stage().name == kind
    HANDLED.labels(kind).inc()
    log.info("inside", kind=kind)


def stages(  # noqa: C901  one function of each kind
    pipeline: Pipeline,
) -> dict[str, Callable[[str], object]]:
    """Return a way to run each kind of stage, ended by `how`."""

    @pipeline.stage
    def sync(how: str) -> None:
        touch("sync")
        if how == "exception":
            raise Boom

    @pipeline.stage("async")
    async def coroutine(how: str) -> None:
        await asyncio.sleep(0)
        touch("async")
        if how == "exception":
            raise Boom

    @pipeline.stage
    def generator(how: str) -> Iterator[int]:
        touch("generator")
        yield 1
        if how == "exception":
            raise Boom
        yield 2

    @pipeline.stage
    async def asyncgen(how: str) -> AsyncIterator[int]:
        await asyncio.sleep(0)
        touch("asyncgen")
        yield 1
        if how == "exception":
            raise Boom
        yield 2

    def consume(how: str) -> None:
        outside = trace.get_current_span()
        for _ in generator(how):
            assert trace.get_current_span() is outside
            if how == "break":
                break

    async def consume_async(how: str) -> None:
        outside = trace.get_current_span()
        async with contextlib.aclosing(asyncgen(how)) as source:  # type: ignore[type-var]
            async for _ in source:
                assert trace.get_current_span() is outside
                if how == "break":
                    break

    return {
        "sync": sync,
        "async": lambda how: asyncio.run(coroutine(how)),
        "generator": consume,
        "asyncgen": lambda how: asyncio.run(consume_async(how)),
    }


def exemplars(url: str) -> dict[str, dict[str, str]]:
    """Return the labels of each kind's exemplar on the page."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    request = urllib.request.Request(url, headers=accept)
    with urllib.request.urlopen(request, timeout=10) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return {
        sample.labels["kind"]: sample.exemplar.labels
        for family in families
        if family.name == "three_signals_handled"
        for sample in family.samples
        if sample.exemplar
    }


@pytest.mark.parametrize("how", ["return", "break", "exception"])
@pytest.mark.parametrize("kind", ["sync", "async", "generator", "asyncgen"])
def test_the_signals_of_a_stage_agree(
    kind: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever kind of stage, however it ends: one trace id, one span id, and no leaked context."""
    name = f"three-signals-{next(numbers)}"
    pipeline = Pipeline(name)
    with otlp_receiver() as receiver:
        telemetry = configure(
            "three-signals", prometheus_port=0, otlp_endpoint=receiver.endpoint, log_format="json"
        )
        try:
            assert telemetry.metrics_url is not None
            exemplars(telemetry.metrics_url)  # what comes now is looked at anew
            with contextlib.suppress(Boom), pipeline.run(run_id="r"):
                stages(pipeline)[kind](how)
            assert current_scope() is None
            assert not trace.get_current_span().get_span_context().is_valid
            found = exemplars(telemetry.metrics_url)[kind]
            assert telemetry.flush(5)
        finally:
            telemetry.shutdown()
        (span,) = [span for span in receiver.spans if span.name == f"{name} {kind}"]
        (record,) = [r for r in receiver.logs if r.attributes.get("kind") == kind]
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in capsys.readouterr().out.split("\n") if line
    ]
    (line,) = [line for line in lines if line.get("kind") == kind]
    ids = {"trace_id": span.trace_id.hex(), "span_id": span.span_id.hex()}
    assert {key: line[key] for key in ids} == ids
    assert {"trace_id": record.trace_id.hex(), "span_id": record.span_id.hex()} == ids
    assert found == ids
    place = {"pipeline": name, "stage": kind, "run_id": "r"}
    assert {key: line[key] for key in place} == place
    assert {key: record.attributes[key] for key in place} == place
    assert record.body.string_value == "inside"
