"""A job of 50 ms leaves complete telemetry behind, however it ends and whatever answers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.otlp_receiver import otlp_receiver
from tests.pushgateway import pushgateway, samples

if TYPE_CHECKING:
    from pathlib import Path

    from tests.otlp_receiver import HttpReceiver

TIMEOUT = 1.0
#: What starting and stopping an interpreter may take on a busy machine, beyond the contract.
SLACK = 3.0

PROGRAM = """
import os, signal, sys, threading, time
from otel_pipeline import Counter, Gauge, Pipeline, configure, get_logger

telemetry = configure("orders-etl", prometheus_port=0)
pipeline, rows = Pipeline("orders"), Counter("short_rows", "Rows", ["kind"])
began = time.monotonic()
with pipeline.run():
    with pipeline.stage("load") as stage:
        stage.records(3)
        rows.labels("good").inc(7)
        get_logger("job").info("loaded")
    while time.monotonic() < began + 0.05:
        pass
    {ending}
{after}
"""

ENDINGS = {
    "return": ("pass", 0, "success", 1.0),
    "exception": ("raise ValueError('boom')", 1, "error", 0.0),
    "sys.exit": ("sys.exit(3)", 3, "error", 0.0),
    "sys.exit(0)": ("sys.exit(0)", 0, "interrupted", 0.0),
    "SIGTERM": (
        "os.kill(os.getpid(), signal.SIGTERM); threading.Event().wait(30)",
        -signal.SIGTERM,
        "interrupted",
        0.0,
    ),
}


def run(
    *, ending: str = "pass", after: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the program and return what became of it."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(ending=ending, after=after)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"OTEL_PIPELINE_SPOOL_DIR": "off", **environ},
    )


def number(receiver: HttpReceiver, name: str, **labels: str) -> Any:
    """Return the last value of a metric that came by OTLP."""
    metric = [metric for metric in receiver.metrics if metric.name == name][-1].proto
    for point in getattr(metric, metric.WhichOneof("data")).data_points:
        attributes = {pair.key: pair.value.string_value for pair in point.attributes}
        if attributes == labels:
            return getattr(point, point.WhichOneof("value"))
    raise AssertionError(f"no point of {name} has {labels}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_job_of_50_ms_leaves_everything_behind(ending: str, tmp_path: Path) -> None:
    """Spans, log records, data points, the file and the push have exact values."""
    code, status, success = ENDINGS[ending][1:]
    textfile = tmp_path / "orders.prom"
    with otlp_receiver() as receiver, pushgateway() as gateway:
        result = run(
            ending=ENDINGS[ending][0],
            OTEL_METRICS_EXPORTER="otlp,prometheus",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_PIPELINE_TEXTFILE=str(textfile),
            OTEL_PIPELINE_PUSHGATEWAY=gateway.url,
            OTEL_PIPELINE_PUSHGATEWAY_GROUPING="instance=a%2Fb,team=data",
        )
        assert result.returncode == code, result.stderr
        spans = {span.name: span for span in receiver.spans}
        bodies = [record.body.string_value for record in receiver.logs]
        assert number(receiver, "short_rows", kind="good") == 7
        runs = number(receiver, "pipeline_runs", pipeline="orders", status=status)
        last = number(receiver, "pipeline_last_run_success", pipeline="orders")
    assert set(spans) == {"orders", "orders load"}
    assert spans["orders"].attributes["pipeline.status"] == status
    assert bodies[0] == "loaded"
    assert (runs, last) == (1, success)

    assert "otel_pipeline:" not in result.stderr
    expected = {
        "short_rows_total{kind=good}": 7.0,
        "pipeline_stage_records_total{pipeline=orders,stage=load,status=success}": 3.0,
        f"pipeline_runs_total{{pipeline=orders,status={status}}}": 1.0,
        "pipeline_last_run_success{pipeline=orders}": success,
        # What became of the last items is there, too.
        "otel_pipeline_items_total{outcome=delivered,signal=traces}": 2.0,
        "otel_pipeline_items_total{outcome=delivered,signal=logs}": float(len(bodies)),
        "otel_pipeline_items_pending{signal=traces,where=memory}": 0.0,
    }
    last_push = gateway.pushes[-1]
    assert {push.method for push in gateway.pushes} == {"PUT"}
    assert last_push.path == "/metrics/job/orders-etl/instance@base64/YS9i/team/data"
    assert last_push.content_type.startswith("text/plain")
    for page in (samples(textfile.read_text()), last_push.samples):
        assert {series: page.get(series) for series in expected} == expected
        assert any(series.startswith("target_info{") for series in page)
    assert [path.name for path in tmp_path.iterdir()] == ["orders.prom"]


def test_the_values_of_a_run_are_in_the_file_when_the_run_has_ended(tmp_path: Path) -> None:
    """A worker that leaves by os._exit after a run has left its page behind."""
    textfile = tmp_path / "orders.prom"
    result = run(
        after="os._exit(0)",
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_PIPELINE_TEXTFILE=str(textfile),
    )
    assert result.returncode == 0, result.stderr
    assert samples(textfile.read_text())["short_rows_total{kind=good}"] == 7


def test_prometheus_s_own_receiver_gets_the_final_values() -> None:
    """With its path as the endpoint of metrics alone, the last flush carries what was counted."""
    with otlp_receiver() as receiver:
        result = run(
            after="rows.labels('good').inc(4)  # after the run's own flush",
            OTEL_TRACES_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_METRICS_EXPORTER="otlp,prometheus",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{receiver.endpoint}/api/v1/otlp/v1/metrics",
        )
        assert result.returncode == 0, result.stderr
        assert {request.path for request in receiver.requests} == {"/api/v1/otlp/v1/metrics"}
        assert number(receiver, "short_rows", kind="good") == 11
        assert number(receiver, "pipeline_last_run_success", pipeline="orders") == 1
        resource = receiver.metrics[-1].resource
    assert resource["service.name"] == "orders-etl"


def test_the_exit_takes_one_shutdown_timeout_for_everything(tmp_path: Path) -> None:
    """A collector and a Pushgateway that hang cost one timeout together, and are left behind."""
    textfile = tmp_path / "orders.prom"
    with otlp_receiver() as receiver, pushgateway() as gateway:
        receiver.hang()
        gateway.hang = True
        result = run(
            after="print(time.time(), flush=True)",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_PIPELINE_LOG_STREAM="stderr",
            OTEL_PIPELINE_PUSHGATEWAY=gateway.url,
            OTEL_PIPELINE_SHUTDOWN_TIMEOUT=str(TIMEOUT),
            OTEL_PIPELINE_TEXTFILE=str(textfile),
        )
        took = time.time() - float(result.stdout)
    assert result.returncode == 0, result.stderr
    assert took < TIMEOUT + SLACK
    assert f"could not be pushed to {gateway.url} (no answer in time)" in result.stderr
    assert samples(textfile.read_text())["short_rows_total{kind=good}"] == 7


def test_a_callback_that_hangs_is_left_behind() -> None:
    """A gauge whose function never returns costs the last values, and one shutdown timeout."""
    with pushgateway() as gateway:
        result = run(
            after="Gauge('g', 'G').set_function(lambda: time.sleep(60))\n"
            "print(time.time(), flush=True)",
            OTEL_METRICS_EXPORTER="none",
            OTEL_TRACES_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_PIPELINE_LOG_STREAM="stderr",
            OTEL_PIPELINE_PUSHGATEWAY=gateway.url,
            OTEL_PIPELINE_SHUTDOWN_TIMEOUT=str(TIMEOUT),
        )
        took = time.time() - float(result.stdout)
    assert result.returncode == 0, result.stderr
    assert took < TIMEOUT + SLACK
    assert "(no answer in time)" in result.stderr
    assert gateway.pushes == []


def test_nobody_at_the_gateway_costs_nothing_and_is_said_once() -> None:
    """A refused connection neither changes the exit status nor delays the exit."""
    with pushgateway() as gateway:
        url = gateway.url
    result = run(
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_PIPELINE_PUSHGATEWAY=url.replace("//", "//me:hunter2@"),
    )
    assert result.returncode == 0
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("otel_pipeline:")]
    assert said == (
        f"otel_pipeline: metrics could not be pushed to {url} (Connection refused): the last "
        f"values of this program are not there. Start a Pushgateway there, correct "
        f"OTEL_PIPELINE_PUSHGATEWAY, or unset it."
    )


def test_a_missing_folder_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    """The program works and ends as it would, and stderr says at the start what to do."""
    missing = tmp_path / "missing"
    result = run(
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_PIPELINE_TEXTFILE=str(missing / "orders.prom"),
    )
    assert result.returncode == 0
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("otel_pipeline:")]
    assert f"{missing / 'orders.prom'} (there is no folder {missing})" in said
    assert "OTEL_PIPELINE_TEXTFILE" in said


def test_a_wrong_name_of_the_file_is_a_configuration_error() -> None:
    """A file that node_exporter would not read is refused when the program starts."""
    result = run(OTEL_PIPELINE_TEXTFILE="/tmp/orders.txt")
    assert result.returncode == 1
    assert (
        "ConfigurationError: OTEL_PIPELINE_TEXTFILE='/tmp/orders.txt' does not end in .prom"
        in result.stderr
    )


def test_a_forked_child_writes_and_pushes_nothing(tmp_path: Path) -> None:
    """Only the process that was configured leaves the page: the sum over both."""
    textfile = tmp_path / "orders.prom"
    after = """
child = os.fork()
rows.labels("good").inc(100 if child == 0 else 1)
if child == 0:
    with pipeline.run():
        pass
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(open(telemetry.config.textfile).read())
"""
    with pushgateway() as gateway:
        result = run(
            after=after,
            OTEL_TRACES_EXPORTER="none",
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_PIPELINE_LOG_STREAM="stderr",
            OTEL_PIPELINE_PUSHGATEWAY=gateway.url,
            OTEL_PIPELINE_TEXTFILE=str(textfile),
        )
        assert result.returncode == 0, result.stderr
        (push,) = gateway.pushes
    series = "short_rows_total{kind=good}"
    assert samples(result.stdout)[series] == 7
    assert samples(textfile.read_text())[series] == 108
    assert push.samples[series] == 108
