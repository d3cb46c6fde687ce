"""A forked child has a life of its own: it ends and exports nothing of its parent's."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.otlp_receiver import otlp_receiver

PROGRAM = """
import json, os, sys, urllib.request
from otel_pipeline import Counter, Pipeline, configure, get_logger
telemetry = configure("forks", prometheus_port=0)
pipeline, jobs = Pipeline("forks"), Counter("fork_jobs", "Jobs")
jobs.inc(5)
with pipeline.run(run_id="r") as run:
    with pipeline.stage("parent") as stage:
        stage.records(2)
        child = os.fork()
        if child == 0:
            stage.records(1)
            jobs.inc()
            with pipeline.stage("child") as own:
                own.records(3)
                get_logger("child").info("in the child")
            assert stage.pipeline_name == "forks"
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
page = urllib.request.urlopen(telemetry.metrics_url).read().decode()
wanted = ("fork_jobs_total", "pipeline_runs_total")
print(json.dumps([line for line in page.splitlines() if line.startswith(wanted)]))
"""


def test_a_child_that_leaves_a_run_ends_its_own_spans_only() -> None:
    """The child's stage arrives once, in the parent's trace; and so do the parent's own."""
    with otlp_receiver() as receiver:
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_PIPELINE_SPOOL_DIR": "off",
                "OTEL_PIPELINE_LOG_STREAM": "stderr",
            },
        )
        spans = receiver.spans
        records = receiver.logs
    assert sorted(span.name for span in spans) == ["forks", "forks child", "forks parent"]
    assert len({span.trace_id for span in spans}) == 1
    by_name = {span.name: span for span in spans}
    assert by_name["forks parent"].attributes["pipeline.records.success"] == 2
    assert by_name["forks child"].attributes["pipeline.records.success"] == 3
    assert [record.body.string_value for record in records] == ["in the child"]
    assert json.loads(result.stdout) == [
        'pipeline_runs_total{pipeline="forks",status="success"} 1.0',
        'pipeline_runs_total{pipeline="forks",status="error"} 0.0',
        'pipeline_runs_total{pipeline="forks",status="interrupted"} 0.0',
        "fork_jobs_total 6.0",
    ]


def test_a_subprocess_joins_the_trace() -> None:
    """TRACEPARENT in the environment makes the program's runs part of the caller's trace."""
    program = """
from otel_pipeline import Pipeline, configure
configure("child", prometheus_port=0, logs_exporter="none")
with Pipeline("child").run():
    pass
"""
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with otlp_receiver() as receiver:
        subprocess.run(
            [sys.executable, "-c", program],
            timeout=60,
            check=True,
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_PIPELINE_SPOOL_DIR": "off",
                "TRACEPARENT": f"00-{trace}-{parent}-01",
            },
        )
        (span,) = receiver.spans
    assert span.trace_id.hex() == trace
    assert span.parent_span_id.hex() == parent


def test_a_fork_inherits_no_held_lock() -> None:
    """A child that goes on counting inside its parent's stage never waits for a lost thread."""
    program = """
import os, threading
from otel_pipeline import Pipeline, pipeline as module
held, release = threading.Event(), threading.Event()

def hold():
    with module._lock:
        held.set()
        release.wait(30)

with Pipeline("locks").stage("s") as stage:
    threading.Thread(target=hold, daemon=True).start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        stage.records(1)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
    release.set()
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "0\n"
