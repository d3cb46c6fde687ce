"""A stamped JSON log line against structlog with a stamping processor."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import ExitStack
from itertools import repeat
from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from structlog.processors import JSONRenderer, TimeStamper

from benchmarks.measure import Side, benchmark, inside
from benchmarks.setups import LEAST_ITEMS, MOST_ITEMS, library
from benchmarks.sink import sink
from otel_pipeline import Pipeline, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import EventDict

    from benchmarks.measure import Benchmark, Work

__all__ = ["BENCHMARKS"]

_PEER = "structlog, stamping"


def _stamp(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    """Add the ids of the current span, as structlog's documentation does it."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event_dict["trace_id"] = trace.format_trace_id(context.trace_id)
        event_dict["span_id"] = trace.format_span_id(context.span_id)
        event_dict["trace_flags"] = f"{context.trace_flags:02x}"
    return event_dict


def _logging(log: Any) -> Work:
    def work(count: int) -> None:
        for _ in repeat(None, count):
            log.info("loaded", table="orders", rows=1000, seconds=0.25)

    return work


def _printing(*processors: Any) -> Any:
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stdout),
        processors=[
            *processors,
            structlog.processors.add_log_level,
            TimeStamper(fmt="iso", utc=True),
            _stamp,
            JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    ).bind()


def _printed(name: str, title: str, goal: float, *, redact: bool) -> Benchmark:
    @benchmark(name, title, least=LEAST_ITEMS, most=MOST_ITEMS)
    def printed() -> Iterator[list[Side]]:
        with ExitStack() as undo:
            undo.enter_context(library(None, redact=redact))
            pipeline = Pipeline("benchmark")
            span = inside(undo, pipeline.tracer.start_as_current_span("load"))
            yield [
                Side("otel_pipeline", _logging(get_logger("etl")), context=span),
                Side(_PEER, _logging(_printing()), goal, context=span),
            ]

    return printed


@benchmark(
    "log-stage", "the same in a stage of a run, redaction on", least=LEAST_ITEMS, most=MOST_ITEMS
)
def log_stage() -> Iterator[list[Side]]:
    """Log where there is more to stamp; structlog takes it from its context variables."""
    with ExitStack() as undo:
        undo.enter_context(library(None))
        pipeline = Pipeline("benchmark")
        ours = inside(undo, pipeline.run(flush=False))
        stage = pipeline.stage("load")
        ours.run(stage.__enter__)
        undo.callback(ours.run, stage.__exit__, None, None, None)
        theirs = inside(undo, pipeline.tracer.start_as_current_span("load"))
        theirs.run(
            structlog.contextvars.bind_contextvars,
            pipeline="benchmark",
            stage="load",
            run_id="2026-11-23",
            service="benchmark",
        )
        peer = _printing(structlog.contextvars.merge_contextvars).bind(logger="etl")
        yield [
            Side("otel_pipeline", _logging(get_logger("etl")), context=ours),
            Side("structlog, the same fields", _logging(peer), context=theirs),
        ]


def _handed_on(provider: LoggerProvider) -> Any:
    """Return a structlog logger over a stdlib one that prints and sends by OTLP."""
    stdlib = logging.Logger("etl")  # noqa: LOG001  it is to have no parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        sending = LoggingHandler(logger_provider=provider)
    for handler in (logging.StreamHandler(sys.stdout), sending):
        stdlib.addHandler(handler)
    return structlog.wrap_logger(
        stdlib,
        processors=[
            structlog.stdlib.add_log_level,
            TimeStamper(fmt="iso", utc=True),
            _stamp,
            JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    ).bind()


@benchmark(
    "log-default",
    "a log line in the default set-up (printed and OTLP)",
    least=LEAST_ITEMS,
    most=MOST_ITEMS,
)
def log_default() -> Iterator[list[Side]]:
    """Print and send a line, redaction on as by default."""
    with ExitStack() as undo:
        url = undo.enter_context(sink())
        telemetry = undo.enter_context(library(url))
        provider = LoggerProvider(shutdown_on_exit=False)
        undo.callback(provider.shutdown)
        provider.add_log_record_processor(
            BatchLogRecordProcessor(
                OTLPLogExporter(endpoint=f"{url}/v1/logs"),
                schedule_delay_millis=600_000,
                max_queue_size=4 * MOST_ITEMS,
                max_export_batch_size=4 * MOST_ITEMS,
            )
        )
        span = inside(undo, Pipeline("benchmark").tracer.start_as_current_span("load"))
        yield [
            Side(
                "otel_pipeline",
                _logging(get_logger("etl")),
                context=span,
                after=telemetry.flush,
            ),
            Side(
                f"{_PEER} + OTel handler",
                _logging(_handed_on(provider)),
                0.6,
                context=span,
                after=provider.force_flush,
            ),
        ]


BENCHMARKS = (
    _printed("log-printed", "a stamped JSON log line in a span, printed", 0.6, redact=False),
    _printed("log-redacted", "the same with redaction", 1.0, redact=True),
    log_stage,
    log_default,
)
