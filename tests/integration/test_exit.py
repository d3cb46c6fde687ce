"""How long a program takes to end, whatever the collector does."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.otlp_receiver import HttpReceiver

TIMEOUT = 1.0
#: What starting and stopping an interpreter may take on a busy machine, beyond the contract.
SLACK = 3.0

PROGRAM = """
import time
from otel_pipeline import Pipeline, configure, get_logger
configure("exit", prometheus_port=0)
pipeline = Pipeline("exit")
with pipeline.run(flush=False):
    with pipeline.stage("work") as stage:
        stage.records(3)
    get_logger("exit").info("done")
print(time.time(), flush=True)
"""


def run(endpoint: str | None) -> tuple[float, str]:
    """Run the program; return the seconds from its last line to its exit, and its stderr."""
    environ = {
        "OTEL_PIPELINE_SHUTDOWN_TIMEOUT": str(TIMEOUT),
        "OTEL_PIPELINE_LOG_STREAM": "stderr",
        "OTEL_PIPELINE_SPOOL_DIR": "off",
    }
    if endpoint is not None:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=environ,
    )
    return time.time() - float(result.stdout), result.stderr


def test_everything_is_delivered_at_exit_without_shutdown() -> None:
    """A program that just ends leaves complete telemetry behind."""
    with otlp_receiver() as receiver:
        _, stderr = run(receiver.endpoint)
        assert {span.name for span in receiver.spans} == {"exit", "exit work"}
        assert [record.body.string_value for record in receiver.logs] == ["done"]
    assert "dropped" not in stderr


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda r: r.stop(), id="refuses"),
        pytest.param(lambda r: r.hang(), id="never answers"),
        pytest.param(lambda r: r.answer(status=503), id="answers 503"),
        pytest.param(lambda r: r.trickle(), id="a byte a second"),
    ],
)
def test_the_exit_waits_for_the_shutdown_timeout_at_most(
    misbehave: Callable[[HttpReceiver], None],
) -> None:
    """A collector that misbehaves costs the shutdown timeout at most, and the loss is said."""
    with otlp_receiver() as receiver:
        misbehave(receiver)
        seconds, stderr = run(receiver.endpoint)
    assert seconds < TIMEOUT + SLACK
    assert "2 spans could not be delivered" in stderr
    assert "1 log records could not be delivered" in stderr


def test_no_collector_at_the_default_endpoint_is_said_once() -> None:
    """Nobody set an endpoint and nobody answers: one line, and the exit does not wait."""
    _, stderr = run(None)
    said = [line for line in stderr.splitlines() if line.startswith("otel_pipeline:")]
    assert len(said) == 1
    assert "no OpenTelemetry collector answers at http://localhost:4318" in said[0]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in said[0]
