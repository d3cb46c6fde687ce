"""From a number to the trace behind it, and on to its log lines, through real backends."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.programs import at_least, fetch, until

if TYPE_CHECKING:
    from tests.stack.programs import Stack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

PROGRAM = """
from otel_pipeline import Pipeline, configure, current_stage, get_logger

configure()
pipeline = Pipeline("orders")
log = get_logger("orders")

@pipeline.stage
def extract():
    log.info("extracting", source="file")
    yield from range(10)

@pipeline.stage
def load(rows):
    with pipeline.batch(rows) as records:
        for row in records:
            if row == 7:
                records.failed(reason="too_large")
    log.warning("loaded", rows=len(rows))

with pipeline.run("run-1"):
    load(list(extract()))
"""


@pytest.fixture(scope="module")
def service(stack: Stack) -> str:
    """Run a pipeline that exports to the collector; return the name of its service."""
    name = f"orders-etl-{uuid.uuid4().hex[:8]}"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={
            "OTEL_SERVICE_NAME": name,
            "OTEL_EXPORTER_OTLP_ENDPOINT": stack.collector.url,
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_PIPELINE_SPOOL_DIR": "off",
        },
    )
    assert "dropped" not in result.stderr
    return name


def lines(stack: Stack, query: str) -> list[dict[str, Any]]:
    """Return what Loki finds: each line's labels and structured metadata, and its text."""
    now = time.time()
    answer = stack.loki.get(
        "/loki/api/v1/query_range",
        query=query,
        start=f"{now - 3600:.0f}",
        end=f"{now + 60:.0f}",
        direction="forward",
    )
    return [
        {**stream["stream"], "line": text}
        for stream in answer["data"]["result"]
        for _, text in stream["values"]
    ]


def series(stack: Stack, query: str) -> list[dict[str, Any]]:
    return stack.prometheus.get("/api/v1/query", query=query)["data"]["result"]


def exemplars(stack: Stack, query: str) -> list[dict[str, Any]]:
    now = time.time()
    answer = stack.prometheus.get(
        "/api/v1/query_exemplars", query=query, start=f"{now - 3600:.0f}", end=f"{now + 60:.0f}"
    )
    return [exemplar for found in answer["data"] for exemplar in found["exemplars"]]


def spans(stack: Stack, trace_id: str) -> list[dict[str, Any]]:
    answer = stack.jaeger.get(f"/api/traces/{trace_id}")
    return [span for trace in answer["data"] for span in trace["spans"]]


def test_counts_arrive_in_prometheus(stack: Stack, service: str) -> None:
    """The records of a run are in Prometheus under the names of the vocabulary."""
    query = f'records_processed_total{{job="{service}"}}'
    found = until(lambda: series(stack, query))
    assert {one["metric"]["status"]: one["value"][1] for one in found} == {
        "success": "9",
        "error": "1",
        "skipped": "0",
    }
    assert {one["metric"]["pipeline"] for one in found} == {"orders"}


def test_an_exemplar_leads_to_the_trace_and_the_trace_to_its_lines(
    stack: Stack, service: str
) -> None:
    """A number's exemplar names a trace in Jaeger, and Loki finds that trace's log lines."""
    found = until(lambda: exemplars(stack, f'records_processed_total{{job="{service}"}}'))
    [trace_id] = {exemplar["labels"]["trace_id"] for exemplar in found}

    in_jaeger = until(at_least(4, lambda: spans(stack, trace_id)))
    operations = {span["operationName"] for span in in_jaeger}
    assert operations == {"orders", "orders extract", "orders load", "orders batch"}
    names = {span["spanID"]: span["operationName"] for span in in_jaeger}
    assert names[found[0]["labels"]["span_id"]] == "orders batch"

    by_trace = f'{{service_name="{service}"}} | trace_id="{trace_id}"'
    in_loki = until(at_least(2, lambda: lines(stack, by_trace)))
    told = {(line["line"], names[line["span_id"]], line["severity_text"]) for line in in_loki}
    assert told >= {("extracting", "orders extract", "INFO"), ("loaded", "orders load", "WARN")}
    assert {line["run_id"] for line in in_loki} == {"run-1"}


def test_a_span_carries_the_counts_of_its_stage(stack: Stack, service: str) -> None:
    """Jaeger finds the trace by its service, and its spans say what was counted."""
    found = until(
        lambda: stack.jaeger.get("/api/traces", service=service, operation="orders batch")["data"]
    )
    [batch] = [span for span in found[0]["spans"] if span["operationName"] == "orders batch"]
    tags = {tag["key"]: tag["value"] for tag in batch["tags"]}
    assert tags["pipeline.records.success"] == 9
    assert tags["pipeline.records.error"] == 1
    assert tags["pipeline.run.id"] == "run-1"


def test_the_collector_lost_nothing(stack: Stack, service: str) -> None:
    """The collector refused nothing and failed to send nothing."""
    until(lambda: series(stack, f'records_processed_total{{job="{service}"}}'))
    metrics: str = fetch(stack.collector.url_of("metrics") + "/metrics")
    values = {
        line.partition("{")[0]: float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith("otelcol_") and ("_refused_" in line or "_failed_" in line)
    }
    assert values
    assert not {name: value for name, value in values.items() if value}
