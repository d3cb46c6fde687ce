"""Carriers, wrapped functions and executors keep the trace and the place in the pipeline."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context

from otel_pipeline import Pipeline, current_run, current_stage
from otel_pipeline.propagation import (
    ThreadPoolExecutor,
    attached,
    context_from,
    environment,
    extract,
    inject,
    kafka_headers,
    link_from,
    wrap,
)

if TYPE_CHECKING:
    from otel_pipeline.testing import Capture

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


def ids(context: Context) -> tuple[str, str]:
    found = trace.get_current_span(context).get_span_context()
    return trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)


@pytest.mark.parametrize(
    "carrier",
    [
        {"traceparent": TRACEPARENT},
        {"Traceparent": TRACEPARENT},
        {"TRACEPARENT": TRACEPARENT},
        {"traceparent": TRACEPARENT.encode()},
        [("traceparent", TRACEPARENT.encode())],
        (("source", b"shop"), ("traceparent", TRACEPARENT)),
    ],
)
def test_extract_reads_headers_whatever_their_form(carrier: object) -> None:
    """Dicts of any case, bytes, environment names and Kafka's lists of pairs are carriers."""
    assert ids(extract(carrier)) == (TRACE, SPAN)  # type: ignore[arg-type]


@given(st.one_of(st.dictionaries(st.text(), st.binary() | st.text()), st.lists(st.integers())))
def test_extract_raises_for_no_carrier(carrier: object) -> None:
    """Whatever a carrier from outside holds, reading it gives an empty context or the sender's."""
    assert isinstance(extract(carrier), Context)  # type: ignore[arg-type]


@pytest.mark.usefixtures("otel_capture")
def test_inject_and_extract_are_inverse() -> None:
    """What one process injects, the other extracts, by dict, environment and Kafka headers."""
    pipeline = Pipeline("propagation-inverse")
    with pipeline.stage("send") as stage:
        sent = stage.trace_id, trace.format_span_id(stage.span.get_span_context().span_id)
        headers = inject({"content-type": "text/csv"})
        variables = environment({"PATH": "/bin", "TRACEPARENT": "stale"})
        messages = kafka_headers([("source", b"shop"), ("traceparent", b"stale")])
    assert ids(extract(headers)) == ids(extract(variables)) == ids(extract(messages)) == sent
    assert headers["content-type"] == "text/csv"
    assert variables["PATH"] == "/bin"
    assert [name for name, _ in messages].count("traceparent") == 1
    assert messages[0] == ("source", b"shop")


@pytest.mark.usefixtures("otel_capture")
def test_environment_without_a_span_hands_on_no_stale_parent() -> None:
    """Outside a span a subprocess gets no TRACEPARENT, not even the one this process was given."""
    assert "TRACEPARENT" not in environment({"TRACEPARENT": TRACEPARENT})


@pytest.mark.usefixtures("otel_capture")
def test_inject_into_the_environment_uses_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    """os.environ gets TRACEPARENT, as the specification of environment carriers says."""
    monkeypatch.setenv("TRACEPARENT", "stale")
    with Pipeline("propagation-environ").stage("send") as stage:
        inject(os.environ)
        assert stage.trace_id in os.environ["TRACEPARENT"]
    assert "traceparent" not in os.environ


def test_inject_makes_a_carrier(otel_capture: Capture) -> None:
    """Without a carrier, inject returns a new dict."""
    with Pipeline("propagation-new").stage("send"):
        carrier = inject()
    span = otel_capture.span("propagation-new send")
    assert span.context is not None
    assert trace.format_trace_id(span.context.trace_id) in carrier["traceparent"]


def test_attached_makes_the_sender_the_parent(otel_capture: Capture) -> None:
    """A stage inside attached() belongs to the sender's trace, and the place in the run stays."""
    pipeline = Pipeline("propagation-attached")
    with pipeline.run(run_id="r1") as run:
        with attached({"traceparent": TRACEPARENT}):
            assert current_run() is run
            with pipeline.stage("receive"):
                pass
        with pipeline.stage("after"):
            pass
    span = otel_capture.span("propagation-attached receive")
    assert span.parent is not None
    assert trace.format_span_id(span.parent.span_id) == SPAN
    assert span.attributes is not None
    assert span.attributes["pipeline.run.id"] == "r1"
    after = otel_capture.span("propagation-attached after")
    assert after.parent is not None
    assert after.parent.span_id == otel_capture.span("propagation-attached").context.span_id


def test_wrapped_functions_run_where_they_were_wrapped(otel_capture: Capture) -> None:
    """A wrapped function sees the stage of its wrapping, from any thread, several at a time."""
    pipeline = Pipeline("propagation-wrap")
    seen: list[object] = []
    together = threading.Barrier(2)

    def work(name: str) -> str:
        together.wait(10)
        seen.append(current_stage().name)
        with pipeline.stage(name):
            return name

    with pipeline.stage("outer"):
        wrapped = wrap(work)
        threads = [threading.Thread(target=wrapped, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == ["outer", "outer"]
    outer = otel_capture.span("propagation-wrap outer").context
    assert outer is not None
    for name in ("a", "b"):
        parent = otel_capture.span(f"propagation-wrap {name}").parent
        assert parent is not None
        assert parent.span_id == outer.span_id


@pytest.mark.usefixtures("otel_capture")
def test_wrapped_coroutines_keep_their_place() -> None:
    """A wrapped async function sees the stage of its wrapping, and leaves nothing behind."""

    async def work() -> str:
        await asyncio.sleep(0)
        return str(current_stage().name)

    with Pipeline("propagation-async").stage("outer"):
        wrapped = wrap(work)

    async def main() -> tuple[str, object]:
        return await wrapped(), current_stage()

    assert asyncio.run(main()) == ("outer", None)


@pytest.mark.usefixtures("otel_capture")
def test_thread_pool_tasks_run_where_they_were_submitted() -> None:
    """submit and map carry the stage; a worker thread keeps nothing of it afterwards."""
    pipeline = Pipeline("propagation-pool")
    with ThreadPoolExecutor(1) as pool:
        with pipeline.stage("outer"):
            assert pool.submit(lambda: current_stage().name).result() == "outer"
            assert list(pool.map(lambda n: (n, current_stage().name), [1])) == [(1, "outer")]
        assert pool.submit(current_stage).result() is None


def test_links_come_from_everything_that_names_a_span(otel_capture: Capture) -> None:
    """Links, spans, span contexts, contexts and carriers become links, unless invalid."""
    with Pipeline("propagation-links").stage("s") as stage:
        span = stage.span
    context = span.get_span_context()
    sources: list[object] = [
        span,
        context,
        trace.Link(context),
        trace.set_span_in_context(span, Context()),
    ]
    assert [link.context for link in map(link_from, sources) if link] == [context] * 4
    carried = link_from({"traceparent": TRACEPARENT})
    assert carried is not None
    assert trace.format_span_id(carried.context.span_id) == SPAN
    assert link_from({}) is None
    assert link_from(None) is None
    assert ids(context_from(span))[1] == trace.format_span_id(context.span_id)
    assert otel_capture.spans
