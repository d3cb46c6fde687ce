"""SIGTERM and SIGINT during a run: what arrives, and how the program ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import signal, sys, threading
from otel_pipeline import Pipeline, configure, get_logger

telemetry = configure("signals", prometheus_port=0, signals=SIGNALS)
pipeline = Pipeline("signals", mode="MODE")
log = get_logger("program")

@pipeline.stage
def extract():
    yield from range(1000)

HANDLER
with pipeline.run(run_id="r1"):
    with pipeline.stage("load"), pipeline.batch(extract()) as records:
        for record in records:
            if record == 5:
                log.info("in the middle")
                print("ready", file=sys.stderr, flush=True)
                threading.Event().wait(30)
"""


def end_by_signal(
    tmp_path: Path,
    number: signal.Signals,
    endpoint: str,
    *,
    mode: str = "batch",
    signals: bool = True,
    handler: str = "",
) -> int:
    """Run the program, send the signal when it is in the middle, and return its exit status."""
    program = tmp_path / "program.py"
    text = PROGRAM.replace("MODE", mode).replace("SIGNALS", str(signals))
    program.write_text(text.replace("HANDLER", handler))
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_PIPELINE_SPOOL_DIR": "off",
            "PATH": "/usr/bin",
        },
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line == "ready\n":
                break
        process.send_signal(number)
        process.stderr.read()
        return process.wait(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("mode", "status"), [("batch", "interrupted"), ("stream", "success")])
def test_a_signal_ends_the_run_and_everything_arrives(
    tmp_path: Path, number: signal.Signals, mode: str, status: str
) -> None:
    """All open spans end and arrive, records are exact, and the exit status is the signal's."""
    with otlp_receiver() as receiver:
        code = end_by_signal(tmp_path, number, receiver.endpoint, mode=mode)
        spans = {span.name: span.attributes for span in receiver.spans}
        lines = [record.body.string_value for record in receiver.logs]
    assert code == -number
    assert set(spans) == {"signals", "signals load", "signals batch", "signals extract"}
    assert spans["signals extract"]["pipeline.records.success"] == 6
    assert spans["signals extract"]["pipeline.status"] == "cancelled"
    batch = spans["signals batch"]
    assert (batch["pipeline.records.success"], batch["pipeline.records.error"]) == (5, 0)
    assert spans["signals load"]["pipeline.records.success"] == 5
    assert "in the middle" in lines
    if mode == "batch":
        assert spans["signals"]["pipeline.status"] == status


def test_signals_false_leaves_the_default_action(tmp_path: Path) -> None:
    """With signals=False SIGTERM ends the program at once, as without the library."""
    with otlp_receiver() as receiver:
        code = end_by_signal(tmp_path, signal.SIGTERM, receiver.endpoint, signals=False)
        assert receiver.spans == []
    assert code == -signal.SIGTERM


def test_a_handler_of_the_program_is_left_alone(tmp_path: Path) -> None:
    """A program's own SIGTERM handler decides; leaving by it ends the run like any exit."""
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    with otlp_receiver() as receiver:
        code = end_by_signal(tmp_path, signal.SIGTERM, receiver.endpoint, handler=handler)
        statuses = {span.name: span.attributes["pipeline.status"] for span in receiver.spans}
    assert code == 7
    assert statuses["signals"] == "error"


def test_the_default_action_is_restored_after_the_run() -> None:
    """During a run SIGTERM is taken over, and afterwards it is what it was."""
    code = """
import signal
from otel_pipeline import Pipeline, configure
configure("signals", prometheus_port=0, traces_exporter="none", logs_exporter="none")
with Pipeline("signals").run():
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == ["False", "True"]
