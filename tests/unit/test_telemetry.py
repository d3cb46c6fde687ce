"""configure() and its handle."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import ConfigurationError, Counter, Pipeline, configure
from otel_pipeline.config import load
from otel_pipeline.sdk.runtime import build
from otel_pipeline.telemetry import current_telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET: dict[str, Any] = {
    "prometheus_port": 0,
    "traces_exporter": "none",
    "logs_exporter": "none",
}


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """Whatever a test configures is ended after it."""
    yield
    running = current_telemetry()
    if running is not None:
        running.shutdown()


def page(url: str | None) -> str:
    assert url is not None
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def test_the_same_configuration_gives_the_same_handle() -> None:
    """configure() called again with the same effect returns the running telemetry."""
    first = configure("telemetry-same", **QUIET)
    assert configure("telemetry-same", **QUIET) is first


def test_a_conflicting_configuration_names_each_difference() -> None:
    """Another configuration raises, and says which settings differ and what to do."""
    configure("telemetry-one", **QUIET)
    with pytest.raises(ConfigurationError) as raised:
        configure("telemetry-two", signals=False, log_level="debug", **QUIET)
    message = str(raised.value)
    assert "OTEL_SERVICE_NAME: 'telemetry-one' runs, 'telemetry-two' was asked for" in message
    assert "OTEL_PIPELINE_LOG_LEVEL" in message
    assert "signals: True runs, False was asked for" in message
    assert "replace=True" in message


def test_replace_ends_the_running_telemetry() -> None:
    """With replace=True the old endpoint is gone and the new one serves."""
    old = configure("telemetry-old", **QUIET)
    new = configure("telemetry-new", replace=True, **QUIET)
    assert "ended" in repr(old)
    assert 'service_name="telemetry-new"' in page(new.metrics_url)
    assert current_telemetry() is new


def test_it_can_be_configured_after_shutdown_again_and_again() -> None:
    """Each start serves its own page, and counts go on."""
    counter = Counter("telemetry_cycles", "Cycles")
    for cycle in range(1, 4):
        with configure("telemetry-cycle", **QUIET) as telemetry:
            counter.inc()
            assert f"telemetry_cycles_total {cycle}.0" in page(telemetry.metrics_url)
        assert current_telemetry() is None


def test_what_was_counted_before_configure_is_kept() -> None:
    """Instruments made and used before configure() lose nothing."""
    counter = Counter("telemetry_early", "Early")
    counter.inc(3)
    telemetry = configure("telemetry-early", **QUIET)
    assert "telemetry_early_total 3.0" in page(telemetry.metrics_url)


def test_the_report_answers_after_shutdown() -> None:
    """report() still answers, with nothing pending in memory; shutdown twice is one shutdown."""
    telemetry = configure("telemetry-report", **QUIET)
    telemetry.shutdown()
    telemetry.shutdown()
    report = telemetry.report()
    assert set(report) == {"traces", "metrics", "logs"}
    for account in report.values():
        assert account["pending_memory"] == 0
    assert report["metrics"]["state"] == "owned"
    assert report["traces"]["state"] == report["logs"]["state"] == "off"


def test_a_metrics_url_is_none_where_nothing_is_served() -> None:
    """Without the prometheus exporter no port is opened."""
    telemetry = configure("telemetry-none", **{**QUIET, "metrics_exporter": "none"})
    assert telemetry.metrics_url is None
    assert telemetry.flush(timeout=1)


def test_a_disabled_sdk_exports_nothing_and_disturbs_nothing() -> None:
    """With OTEL_SDK_DISABLED everything is off, and the API works all the same."""
    telemetry = configure("telemetry-disabled", environ={"OTEL_SDK_DISABLED": "true"})
    pipeline = Pipeline("telemetry-disabled")
    with pipeline.run() as run, pipeline.stage("s") as stage:
        stage.records(1)
        stage.set_attribute("k", object())
    assert run.records()["success"] == 1
    assert telemetry.metrics_url is None
    assert {account["state"] for account in telemetry.report().values()} == {"off"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"traces_exporter": "oltp"}, ("oltp", "did you mean 'otlp'")),
        ({"log_level": "inof"}, ("inof", "did you mean 'info'")),
        ({"prometheus_prt": 1}, ("prometheus_prt", "did you mean 'prometheus_port'")),
        ({"shutdown_timeout": "soon"}, ("soon",)),
    ],
)
def test_a_bad_argument_says_what_is_allowed(
    arguments: dict[str, Any], words: tuple[str, ...]
) -> None:
    """A wrong argument raises at start, names itself, and gives the nearest right word."""
    with pytest.raises(ConfigurationError) as raised:
        configure("telemetry-bad", **arguments)
    for word in words:
        assert word in str(raised.value)
    assert current_telemetry() is None


def test_a_busy_default_port_is_left_for_a_free_one(capfd: pytest.CaptureFixture[str]) -> None:
    """A port that nobody set and that is taken costs one warning, not the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        config = dataclasses.replace(
            load({}, **QUIET), prometheus_port=port, prometheus_port_explicit=False
        )
        runtime = build(config)
        try:
            assert runtime.metrics_url is not None
            assert f":{port}/" not in runtime.metrics_url
            assert "target_info" in page(runtime.metrics_url)
        finally:
            runtime.shutdown(1)
    assert capfd.readouterr().err.count("/metrics is served at") == 1


def test_a_busy_port_that_was_set_is_no_exception(capfd: pytest.CaptureFixture[str]) -> None:
    """A port that was set and is taken costs one warning with the remedy, and the endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        telemetry = configure("telemetry-busy", **{**QUIET, "prometheus_port": port})
        assert telemetry.metrics_url is None
    said = capfd.readouterr().err
    assert said.count("OTEL_EXPORTER_PROMETHEUS_PORT") == 1
    assert str(port) in said


def test_importing_the_library_loads_no_sdk_and_no_exporter() -> None:
    """`import otel_pipeline` brings no SDK, no exporter, no grpc, and starts no thread."""
    code = (
        "import sys, threading, otel_pipeline\n"
        "heavy = ('opentelemetry.sdk', 'opentelemetry.exporter', 'grpc', 'requests', "
        "'prometheus_client', 'google.protobuf', 'structlog')\n"
        "print([name for name in sys.modules if name.startswith(heavy)], threading.active_count())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split("\n")[0] == "[] 1"


def test_a_bare_configure_means_what_is_running() -> None:
    """Settings that nobody asks for are no conflict; with replace=True they are asked for."""
    first = configure("telemetry-bare", **QUIET)
    assert configure() is first
    assert configure("telemetry-bare") is first
    second = configure(replace=True, **QUIET)
    assert second is not first
    assert second.config.service_name == "unknown_service"


def test_signals_is_true_or_false() -> None:
    """An argument of the wrong type says so at start."""
    with pytest.raises(ConfigurationError, match="signals='no'"):
        configure(signals="no")  # type: ignore[arg-type]


def test_an_ended_endpoint_has_no_url() -> None:
    """After shutdown nothing is served, so there is no URL."""
    telemetry = configure("telemetry-url", **QUIET)
    telemetry.shutdown()
    assert telemetry.metrics_url is None


def test_secrets_in_the_resource_are_masked() -> None:
    """Resource attributes are on every page and every request."""
    telemetry = configure(environ={"OTEL_RESOURCE_ATTRIBUTES": "db.password=hunter2"}, **QUIET)
    shown = page(telemetry.metrics_url)
    assert "hunter2" not in shown
    assert 'db_password="[redacted:password]"' in shown


@pytest.mark.parametrize("command", ["env", "doctor"])
def test_a_wrong_propagator_is_a_setting_like_any_other(command: str) -> None:
    """OpenTelemetry raises for it at import; here it is named, in the command's own form."""
    environ = {"OTEL_PROPAGATORS": "tracecontxt", "OTEL_SDK_DISABLED": ""}
    run = [sys.executable, "-m", "otel_pipeline", command, "--json"]
    result = subprocess.run(run, capture_output=True, text=True, env=environ, check=False)
    assert result.returncode == 1
    assert "did you mean 'tracecontext'" in result.stdout
    code = """
from otel_pipeline import Pipeline, ConfigurationError, configure
from otel_pipeline.propagation import inject
with Pipeline("p").run():
    inject({})
try:
    configure()
except ConfigurationError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True
    )
    assert "OTEL_PROPAGATORS='tracecontxt'" in result.stdout
