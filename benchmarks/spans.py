"""Stages against spans: of OpenTelemetry, of logfire, and with the rest put together by hand."""

from __future__ import annotations

import importlib
import time
from contextlib import ExitStack
from itertools import repeat
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from structlog.contextvars import bound_contextvars

from benchmarks.measure import Side, benchmark, inside
from benchmarks.setups import LEAST_ITEMS, MOST_ITEMS, library, plain_tracing, span_processor
from benchmarks.sink import sink
from otel_pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from benchmarks.measure import Work

__all__ = ["BEFORE_CONFIGURE", "BENCHMARKS"]

_SPANS_TO_SINK: Final = 20_000


def _opening(make: Callable[[str], Any]) -> Work:
    def work(count: int) -> None:
        for _ in repeat(None, count):
            with make("load"):
                pass

    return work


def _by_hand(tracer: trace.Tracer) -> Work:
    """Do what a stage does with the libraries that it replaces."""
    took = prometheus_client.Histogram("took", "", ["stage", "status"], registry=None)

    def work(count: int) -> None:
        for _ in repeat(None, count):
            since = time.perf_counter()
            attributes = {"pipeline.name": "benchmark", "pipeline.stage": "load"}
            with (
                tracer.start_as_current_span("load", attributes=attributes),
                bound_contextvars(pipeline="benchmark", stage="load"),
            ):
                pass
            took.labels("load", "success").observe(time.perf_counter() - since)

    return work


@benchmark("stage-before-configure", "a stage before `configure()`")
def stage_before_configure() -> Iterator[list[Side]]:
    """Open a stage where nothing is set up."""
    tracer = trace.get_tracer("benchmark")
    yield [
        Side("otel_pipeline", _opening(Pipeline("benchmark").stage)),
        Side("no-op OpenTelemetry span", _opening(tracer.start_as_current_span), 0.5),
    ]


@benchmark("stage-disabled", "a stage under `OTEL_SDK_DISABLED=true`")
def stage_disabled() -> Iterator[list[Side]]:
    """Open a stage where everything is turned off."""
    tracer = trace.get_tracer("benchmark")
    with library(None, disabled=True):
        yield [
            Side("otel_pipeline", _opening(Pipeline("benchmark").stage)),
            Side("no-op OpenTelemetry span", _opening(tracer.start_as_current_span), 0.5),
        ]


@benchmark("stage", "a stage, sampled", least=LEAST_ITEMS, most=MOST_ITEMS)
def stage() -> Iterator[list[Side]]:
    """Open a stage inside a run; its peers open spans inside a span."""
    logfire = importlib.import_module("logfire")
    with ExitStack() as undo:
        url = undo.enter_context(sink())
        telemetry = undo.enter_context(library(url))
        provider = undo.enter_context(plain_tracing(span_processor(url)))
        tracer = provider.get_tracer("benchmark")
        fire = logfire.configure(
            local=True,
            send_to_logfire=False,
            console=False,
            metrics=False,
            inspect_arguments=False,
            additional_span_processors=[span_processor(url)],
        )
        undo.callback(fire.shutdown)
        pipeline = Pipeline("benchmark")
        plain = inside(undo, tracer.start_as_current_span("run"))
        yield [
            Side(
                "otel_pipeline",
                _opening(pipeline.stage),
                context=inside(undo, pipeline.run(flush=False)),
                after=telemetry.flush,
            ),
            Side(
                "bare OpenTelemetry span",
                _opening(tracer.start_as_current_span),
                1.3,
                context=plain,
                after=provider.force_flush,
            ),
            Side(
                "the same by hand",
                _by_hand(tracer),
                context=plain,
                after=provider.force_flush,
            ),
            Side(
                "logfire span",
                _opening(fire.span),
                context=inside(undo, fire.span("run")),
                after=fire.force_flush,
            ),
        ]


class _CountingExporter(OTLPSpanExporter):
    """Counts the spans that the receiver took."""

    delivered = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
        return result


class _Delivery:
    """Times how long it takes until what can be delivered is, for each span that was."""

    def __init__(
        self, tracer: trace.Tracer, flush: Callable[[], object], delivered: Callable[[], int]
    ) -> None:
        self._opening = _opening(tracer.start_as_current_span)
        self._flush = flush
        self._delivered = delivered
        self._lost: list[float] = []

    def work(self, count: int) -> float:
        """Make spans as fast as possible; the seconds are scaled to those that arrived."""
        before = self._delivered()
        since = time.perf_counter()
        self._opening(count)
        self._flush()
        seconds = time.perf_counter() - since
        arrived = self._delivered() - before
        self._lost.append(1 - arrived / count)
        return seconds * count / arrived

    def flaw(self) -> str:
        """Return what was lost."""
        most = max(self._lost)
        return f"up to {most:.0%} lost" if most else ""


@benchmark(
    "spans-to-sink",
    "spans to a local OTLP sink, sustained, each delivered one",
    threads=(1,),
    least=_SPANS_TO_SINK,
    most=_SPANS_TO_SINK,
)
def spans_to_sink() -> Iterator[list[Side]]:
    """Send more spans than the default queues hold, through OpenTelemetry's own API."""
    defaults = {"span_batch_max_queue": None, "span_batch_max_batch": None}
    with (
        sink() as url,
        TemporaryDirectory() as disk,
        library(url, **defaults, span_batch_delay=None, spool_dir=disk) as telemetry,
    ):
        exporter = _CountingExporter(endpoint=f"{url}/v1/traces")
        with plain_tracing(BatchSpanProcessor(exporter)) as provider:
            ours = _Delivery(
                Pipeline("benchmark").tracer,
                lambda: telemetry.flush(60),
                lambda: telemetry.report()["traces"]["delivered"],
            )
            theirs = _Delivery(
                provider.get_tracer("benchmark"),
                lambda: provider.force_flush(60_000),
                lambda: exporter.delivered,
            )
            yield [
                Side("otel_pipeline", ours.work, flaw=ours.flaw),
                Side("plain SDK", theirs.work, 1.0, flaw=theirs.flaw),
            ]


#: These come before any other that calls `configure()`.
BEFORE_CONFIGURE = (stage_before_configure, stage_disabled)
BENCHMARKS = (stage, spans_to_sink)
