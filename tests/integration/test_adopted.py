"""Providers that someone else has installed are adopted, not replaced.

OpenTelemetry's providers are set once for a process, so each case is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROVIDERS = """
import json, sys
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_pipeline import *

spans, reader, records = InMemorySpanExporter(), InMemoryMetricReader(), InMemoryLogRecordExporter()
tracers, loggers = TracerProvider(), LoggerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
loggers.add_log_record_processor(SimpleLogRecordProcessor(records))

def install():
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([reader]))
    _logs.set_logger_provider(loggers)

def points():
    data = reader.get_metrics_data()
    return {
        metric.name: [
            [dict(p.attributes), getattr(p, "value", None) or getattr(p, "sum", 0)]
            for p in metric.data.data_points
        ]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
"""


def run(program: str) -> Any:
    """Run a program that prints one JSON document last."""
    result = subprocess.run(
        [sys.executable, "-c", PROVIDERS + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_every_signal_goes_to_the_installed_provider() -> None:
    """Spans, totals from before and after, and log records arrive there; nothing is served."""
    found = run("""
early = Counter("early", "Early", ["kind"])
early.labels("a").inc(2)
took = Histogram("took", "Took", unit="seconds")
took.observe(0.3)
install()
telemetry = configure("adopted")
early.labels("a").inc()
took.observe(0.5)
pipeline = Pipeline("p")
with pipeline.run() as run:
    run.set_attribute("password", "hunter2")
    with pipeline.batch([1, 2]):
        get_logger("job").info("up", token="abc")
print(json.dumps({
    "states": [account["state"] for account in telemetry.report().values()],
    "url": telemetry.metrics_url,
    "spans": [[s.name, dict(s.attributes).get("password")] for s in spans.get_finished_spans()],
    "points": points(),
    "records": [
        [r.log_record.body, r.log_record.attributes.get("token"), bool(r.log_record.trace_id)]
        for r in records.get_finished_logs()
    ],
    "flushed": telemetry.flush(5),
}))
""")
    assert found["states"] == ["adopted"] * 3
    assert found["url"] is None
    assert found["spans"] == [["p batch", None], ["p", "[redacted:password]"]]
    assert found["points"]["early"] == [[{"kind": "a"}, 3]]
    assert found["points"]["took"] == [[{}, 0.8]]
    success = [{"pipeline": "p", "status": "success"}, 2]
    assert success in found["points"]["records_processed"]
    assert ["up", "[redacted:token]", True] in found["records"]
    assert found["flushed"] is True


def test_the_provider_reads_until_its_own_end() -> None:
    """After our shutdown the installed reader still sees all totals."""
    found = run("""
install()
jobs = Counter("jobs", "Jobs")
with configure("adopted"):
    jobs.inc(3)
print(json.dumps(points()["jobs"]))
""")
    assert found == [[{}, 3]]


def test_a_provider_that_hangs_does_not_hold_a_flush() -> None:
    """flush() returns in time, and False, whatever the installed provider does."""
    found = run("""
import threading, time
install()
tracers.force_flush = lambda timeout: threading.Event().wait(30)
telemetry = configure("adopted")
since = time.monotonic()
print(json.dumps([telemetry.flush(0.3), time.monotonic() - since < 5]))
""")
    assert found == [False, True]


def test_one_signal_may_be_adopted_and_another_owned() -> None:
    """Each signal is decided by itself."""
    found = run("""
trace.set_tracer_provider(tracers)
telemetry = configure("mixed", prometheus_port=0, logs_exporter="none")
with Pipeline("p").run():
    pass
print(json.dumps([
    {signal: account["state"] for signal, account in telemetry.report().items()},
    telemetry.metrics_url is not None,
    [span.name for span in spans.get_finished_spans()],
]))
""")
    assert found == [{"traces": "adopted", "metrics": "owned", "logs": "off"}, True, ["p"]]


def test_what_was_taken_before_configure_goes_on_after_the_next_one() -> None:
    """Tracers, loggers and instruments that a library keeps survive configure and shutdown."""
    found = run("""
from opentelemetry._logs import LogRecord
tracer, logger = trace.get_tracer("library"), _logs.get_logger("library")
counter = metrics.get_meter("library").create_counter("library.calls")
import io, urllib.request
seen = []
for name in ("one", "two"):
    with configure(name, prometheus_port=0, traces_exporter="none", logs_exporter="none") as t:
        provider = trace.get_tracer_provider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        with tracer.start_as_current_span("call"):
            counter.add(1)
        logger.emit(LogRecord(body="x"))
        page = urllib.request.urlopen(t.metrics_url).read().decode()
        seen.append("library_calls_total" in page)
    with tracer.start_as_current_span("nobody listens") as span:
        seen.append(span.is_recording())
print(json.dumps([seen, [span.name for span in spans.get_finished_spans()]]))
""")
    assert found == [[True, False, True, False], ["call", "call"]]


def test_nothing_can_be_captured_where_a_provider_is_installed() -> None:
    """capture() says so, and what to do."""
    found = run("""
from otel_pipeline.errors import CaptureError
from otel_pipeline.testing import capture
install()
try:
    with capture():
        pass
except CaptureError as error:
    print(json.dumps(str(error)))
""")
    assert "set_tracer_provider()" in found
