"""The `console` exporter prints one line of OTLP JSON for each request."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline import Counter, Pipeline, configure, get_logger
from otel_pipeline.sdk.console import ConsoleTransport

if TYPE_CHECKING:
    import pytest


def test_each_signal_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Spans, metrics and log records are printed with ids in hexadecimal."""
    Counter("console_jobs", "Jobs").inc(3)
    with configure(
        "console",
        traces_exporter="console",
        metrics_exporter="console",
        logs_exporter="console",
        log_stream="stderr",
    ) as telemetry:
        with Pipeline("console").run() as run:
            get_logger("job").info("up")
        assert telemetry.flush(5)
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {key: one[key] for one in documents for key in one}
    assert set(found) == {"resourceSpans", "resourceMetrics", "resourceLogs"}
    (span,) = found["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span["traceId"] == run.trace_id
    (record,) = found["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert record["traceId"] == run.trace_id
    names = {m["name"] for m in found["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]}
    assert "console_jobs" in names


def test_a_broken_stdout_loses_a_request_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be printed is counted as rejected, and nothing is raised."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    request = ExportTraceServiceRequest().SerializeToString()
    transport = ConsoleTransport("traces")
    assert transport.send(request, timeout=1).kind == "rejected"
    transport.close()
