"""`otel-pipeline doctor` against real receivers, ports and pages."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import Counter, clock, configure
from otel_pipeline.cli import doctor, main
from tests.otlp_receiver import grpc_receiver, otlp_receiver
from tests.pushgateway import pushgateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.otlp_receiver import HttpReceiver


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with otlp_receiver() as running:
        yield running


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free port and a name, so that only what a test changes is found."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders-etl")


def run(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Run `doctor --json`; its exit status, and findings by check."""
    status = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is (status == 0)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in document["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return status, found


def test_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], receiver: HttpReceiver
) -> None:
    """A collector that answers and a free port are no problem, and no warning."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus,otlp")
    status, found = run(capsys)
    assert status == 0
    assert {one["status"] for findings in found.values() for one in findings} == {"ok"}
    assert {f"collector ({signal})" for signal in ("traces", "metrics", "logs")} <= set(found)
    assert found["clock"][0]["message"] == "agrees with that of the collector"
    assert {request.path for request in receiver.requests} == {
        "/v1/traces",
        "/v1/metrics",
        "/v1/logs",
    }


def test_grpc_is_probed_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The probe speaks the protocol that is configured."""
    with grpc_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        status, found = run(capsys)
    assert status == 0
    assert "(grpc) answers" in found["collector (traces)"][0]["message"]


def test_nobody_answers(capsys: pytest.CaptureFixture[str], receiver: HttpReceiver) -> None:
    """A collector that is away is a problem with a remedy; so is one that refuses, or is behind."""
    receiver.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        status, found = run(capsys)
        assert status == 1
        finding = found["collector (traces)"][0]
        assert finding["status"] == "problem"
        assert "nothing answers at" in finding["message"]
        assert "correct OTEL_EXPORTER_OTLP_ENDPOINT" in finding["remedy"]
        receiver.start()
        receiver.answer(503)
        assert "takes nothing now" in run(capsys)[1]["collector (logs)"][0]["message"]
        receiver.answer(401, text="no token")
        finding = run(capsys)[1]["collector (logs)"][0]
        assert "refuses: 401" in finding["message"]
        assert "OTEL_EXPORTER_OTLP_HEADERS" in finding["remedy"]


def test_clocks_that_differ(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], receiver: HttpReceiver
) -> None:
    """Spans of several machines only line up if their clocks do."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    undo = clock.install(clock.Clock(lambda: time.time_ns() + 3600 * 10**9))
    try:
        assert " s ahead of that of" in run(capsys)[1]["clock"][0]["message"]
        clock.install(clock.Clock(lambda: 0))
        findings = run(capsys)[1]["clock"]
    finally:
        undo()
    assert findings[0]["status"] == "problem"
    assert "1970" in findings[0]["message"]


def test_settings_that_hurt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disabled SDK, wrong values and time-outs in milliseconds are found, each with a remedy."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "oltp")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
    monkeypatch.setenv("OTEL_PIPELINE_LOG_LEVLE", "debug")
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    status, found = run(capsys)
    assert status == 1
    assert "did you mean 'otlp'" in found["configuration"][0]["message"]
    assert "OTEL_PIPELINE_LOG_LEVEL" in found["configuration"][1]["message"]
    assert "OTEL_EXPORTER_OTLP_TIMEOUT=10" in found["timeout"][0]["remedy"]
    assert found["service name"][0]["status"] == "warning"
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    status, found = run(capsys)
    assert status == 1
    assert found["disabled"][0]["remedy"] == "unset OTEL_SDK_DISABLED"


def test_a_busy_port(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A port of another program is a problem; one that a pipeline serves is looked at."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        busy.settimeout(0)
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(busy.getsockname()[1]))
        monkeypatch.setattr(doctor, "_PAGE_SECONDS", 0.2)
        status, found = run(capsys)
    assert status == 1
    assert "another program's" in found["metrics endpoint"][0]["message"]


def test_a_running_pipeline_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says whose page it is, whether it can be read, and who scraped last; not itself."""
    quiet: Any = {"traces_exporter": "none", "logs_exporter": "none"}
    Counter("doctor_jobs", "Jobs").inc()
    with configure("doctored", prometheus_port=0, **quiet) as telemetry:
        assert telemetry.metrics_url is not None
        port = telemetry.metrics_url.rpartition(":")[2].partition("/")[0]
        monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", port)
        for name in ("TRACES", "LOGS"):
            monkeypatch.setenv(f"OTEL_{name}_EXPORTER", "none")
        status, found = run(capsys)
        assert status == 0
        assert "of service 'doctored'" in found["metrics endpoint"][0]["message"]
        assert "readable in both formats" in found["metrics page"][0]["message"]
        assert found["scraped"][0]["status"] == "warning"
        agent = {"User-Agent": "Prometheus/2.50"}
        request = urllib.request.Request(telemetry.metrics_url, headers=agent)
        urllib.request.urlopen(request, timeout=10).close()
        assert "by Prometheus/2.50 from 127.0.0.1" in run(capsys)[1]["scraped"][0]["message"]


def test_where_last_values_go_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder and a Pushgateway that are there are fine; otherwise there is a remedy."""
    for name in ("TRACES", "LOGS"):
        monkeypatch.setenv(f"OTEL_{name}_EXPORTER", "none")
    monkeypatch.setenv("OTEL_PIPELINE_TEXTFILE", str(tmp_path / "x.prom"))
    with pushgateway() as gateway:
        url = gateway.url.replace("//", "//me:hunter2@")
        monkeypatch.setenv("OTEL_PIPELINE_PUSHGATEWAY", url)
        status, found = run(capsys)
        assert (status, found["pushgateway"][0]["message"]) == (0, f"{gateway.url} is ready")
        assert found["textfile"][0]["status"] == "ok"
    monkeypatch.setenv("OTEL_PIPELINE_TEXTFILE", str(tmp_path / "missing" / "x.prom"))
    status, found = run(capsys)
    assert status == 1
    assert "there is no folder" in found["textfile"][0]["message"]
    assert "OTEL_PIPELINE_TEXTFILE" in found["textfile"][0]["remedy"]
    assert "Connection refused" in found["pushgateway"][0]["message"]
    assert "hunter2" not in str(found)


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json each finding is a line, with its remedy below, and the sum at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        assert main(["doctor"]) == 1
        out = capsys.readouterr().out
        assert "FAIL  collector (traces)" in out
        assert "-> start the collector" in out
        assert out.endswith("2 problems found.\n")
        patch.setenv("OTEL_TRACES_EXPORTER", "none")
        patch.setenv("OTEL_LOGS_EXPORTER", "none")
        assert main(["doctor"]) == 0
        assert capsys.readouterr().out.endswith("No problem found.\n")
