"""Alerts from end to end: a pipeline fails, Prometheus fires, Alertmanager tells a webhook."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from otel_pipeline.alerts.files import files
from otel_pipeline.alerts.reading import read_settings
from tests.stack import programs, shipped
from tests.stack.programs import fetch, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(120)]

# A few seconds in place of minutes: the same settings as anyone's, only shorter.
CONFIG = """
window: 5s
alerts:
  HighErrorRate: {{for: 2s, keep_firing_for: 1s, minimum_records: 5}}
  HighLatency: {{enabled: false}}
  PipelineStalled: {{after: 1h}}
  PipelineAbsent: {{for: 1s}}
  PipelineRunFailed: {{for: 0s}}
pipelines:
  payments:
    alerts:
      HighErrorRate: {{severity: warning}}
routing: {{group_wait: 1s, group_interval: 1s, repeat_interval: 1h, watchdog_interval: 1h}}
receivers:
  critical: {{name: page, webhook_configs: [{{url_file: {url_file}, send_resolved: true}}]}}
  warning: {{name: ticket, webhook_configs: [{{url_file: {url_file}, send_resolved: true}}]}}
"""

# Two pipelines that fail as they are told: how many of ten records, in a line of JSON.
PIPELINES = """
import json, select, sys
from otel_pipeline import Pipeline, configure

telemetry = configure("etl")
pipelines = {name: Pipeline(name, mode="stream") for name in ("orders", "payments")}
failing = dict.fromkeys(pipelines, 0)
print(telemetry.metrics_url, flush=True)
while True:
    if select.select([sys.stdin], [], [], 0.1)[0]:
        line = sys.stdin.readline()
        if not line:
            break
        failing.update(json.loads(line))
    for name, pipeline in pipelines.items():
        with pipeline.batch(range(10)) as records:
            for record in records:
                if record < failing[name]:
                    records.failed(reason="refused")
"""

LOGS = """
from otel_pipeline import Pipeline, configure, get_logger

configure("etl")
pipeline = Pipeline("orders")
try:
    with pipeline.run("run-1"):
        for number in range(30):
            get_logger("orders").error("refused", number=number)
        raise RuntimeError("the bank is closed")
except RuntimeError:
    pass
"""


class Webhook:
    """What Alertmanager tells, in the order in which it comes."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self._came = threading.Condition()

    def add(self, message: dict[str, Any]) -> None:
        with self._came:
            self.told.append(message)
            self._came.notify_all()

    def wait_for(self, wanted: Callable[[list[tuple]], bool], *, seconds: float = 40) -> None:
        """Return as soon as what came is what is wanted."""
        with self._came:
            if not self._came.wait_for(lambda: wanted(self.alerts()), timeout=seconds):
                raise TimeoutError(f"only this came: {self.alerts()}")

    def alerts(self) -> list[tuple[str, str, str, str]]:
        """Return receiver, status, alert and pipeline of each alert of each message."""
        return [
            (message["receiver"], alert["status"], labels["alertname"], labels.get("pipeline", ""))
            for message in self.told
            for alert in message["alerts"]
            for labels in [alert["labels"]]
        ]


@contextmanager
def webhook() -> Iterator[tuple[Webhook, str]]:
    """Run a receiver of Alertmanager's messages; give it and its address."""
    told = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.add(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield told, f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def pipelines() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the pipelines; give the process and the address at which they are scraped."""
    with subprocess.Popen(
        [sys.executable, "-c", PIPELINES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PIPELINE_LOG_STREAM": "stderr",
            "OTEL_PIPELINE_LOG_LEVEL": "critical",
        },
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process, process.stdout.readline().split("/")[2]
        process.stdin.close()
        process.wait(timeout=30)


def tell(process: subprocess.Popen[str], **shares: int) -> None:
    """Tell pipelines how many of ten records are to fail."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(shares) + "\n")
    process.stdin.flush()


def test_a_failing_pipeline_is_told_of_once_and_again_when_it_is_well(
    need: Callable[..., list[Path]], tmp_path: Path
) -> None:
    """It fires, is routed, grouped and inhibited; it recovers, and the resolve arrives."""
    need("prometheus", "alertmanager")
    began = time.monotonic()
    with webhook() as (told, url), pipelines() as (process, target):
        url_file = tmp_path / "url"
        url_file.write_text(url)
        config = tmp_path / "alerts.yaml"
        config.write_text(CONFIG.format(url_file=url_file))
        written = files(read_settings(config))
        rules = {
            name.replace("/", "-"): text
            for name, text in written.items()
            if name.startswith("rules/")
        }
        with (
            programs.alertmanager(yaml.safe_load(written["alertmanager.yml"])) as alerts,
            programs.prometheus(
                {
                    "scrape_configs": [
                        {"job_name": "pipelines", "static_configs": [{"targets": [target]}]}
                    ],
                    "rule_files": list(rules),
                    "alerting": {
                        "alertmanagers": [
                            {"static_configs": [{"targets": [shipped.address(alerts)]}]}
                        ]
                    },
                },
                files=rules,
                arguments=["--rules.alert.resend-delay=1s"],
            ) as prometheus,
        ):
            until(lambda: query(prometheus, "pipeline:records:rate5m > 10"))
            groups = prometheus.get("/api/v1/rules")["data"]["groups"]
            rules_health = {rule["health"] for group in groups for rule in group["rules"]}
            assert rules_health <= {"ok", "unknown"}
            tell(process, orders=5, payments=5)
            page = ("page", "firing", "HighErrorRate", "orders")
            ticket = ("ticket", "firing", "HighErrorRate", "payments")
            told.wait_for(lambda came: set(came) >= {page, ticket})
            [message] = [one for one in told.told if one["receiver"] == "page"]
            [alert] = message["alerts"]
            assert alert["annotations"] == {
                "summary": "Records of orders fail",
                "description": alert["annotations"]["description"],
                "runbook_url": "http://localhost:8000/runbooks/HighErrorRate.html",
                "dashboard_url": "http://localhost:3000/d/otel-pipeline-overview?var-pipeline=orders",
            }
            assert "of the records of orders fail, for more than 2s" in str(alert["annotations"])
            assert message["groupLabels"] == {"pipeline": "orders"}

            # A warning about a pipeline that has a page is kept back; one of another is not.
            post(alerts, "HighLatency", "orders", "warning")
            post(alerts, "HighLatency", "payments", "warning")
            told.wait_for(lambda came: ("ticket", "firing", "HighLatency", "payments") in came)
            held = alerts.get("/api/v2/alerts", filter="alertname=HighLatency")
            assert {
                one["labels"]["pipeline"]: (
                    one["status"]["state"],
                    len(one["status"]["inhibitedBy"]),
                )
                for one in held
            } == {"orders": ("suppressed", 1), "payments": ("active", 0)}

            # What was kept back is told when the page has ended.
            tell(process, orders=0, payments=0)
            kept_back = ("ticket", "firing", "HighLatency", "orders")
            ended = {
                ("page", "resolved", "HighErrorRate", "orders"),
                ("ticket", "resolved", "HighErrorRate", "payments"),
            }
            told.wait_for(lambda came: set(came) >= {kept_back, *ended})
        assert set(told.alerts()) == {
            page,
            ticket,
            kept_back,
            ("ticket", "firing", "HighLatency", "payments"),
            *ended,
        }
        assert told.alerts().count(page) == 1
    assert time.monotonic() - began < 60


def query(server: programs.Server, expression: str) -> list[dict[str, Any]]:
    return server.get("/api/v1/query", query=expression)["data"]["result"]


def post(alerts: programs.Server, name: str, pipeline: str, severity: str) -> None:
    """Give Alertmanager an alert, as Prometheus would."""
    labels = {"alertname": name, "pipeline": pipeline, "severity": severity}
    fetch(f"{alerts.url}/api/v2/alerts", body=[{"labels": labels}])


def test_what_has_no_pipeline_is_not_silenced_by_what_has_none(
    need: Callable[..., list[Path]],
) -> None:
    """A full queue of the collector is no reason to keep quiet about a dataset."""
    need("alertmanager")
    with shipped.alertmanager() as alerts:
        fetch(
            f"{alerts.url}/api/v2/alerts",
            body=[
                {"labels": {"alertname": name, **labels}}
                for name, labels in {
                    "Mine": {"severity": "critical"},
                    "CollectorQueueFull": {"severity": "warning", "exporter": "otlp_http/loki"},
                    "DatasetStale": {"severity": "warning", "dataset": "flights"},
                    "TelemetryLost": {"severity": "warning", "signal": "logs"},
                    "PipelineAbsent": {"severity": "critical", "pipeline": "orders"},
                    "PipelineStalled": {"severity": "warning", "pipeline": "orders"},
                    "HighLatency": {"severity": "warning", "pipeline": "payments"},
                    "DatasetAnomaly": {"severity": "warning", "dataset": "flights", "metric": "x"},
                }.items()
            ],
        )
        found = until(programs.at_least(8, lambda: alerts.get("/api/v2/alerts")))
        assert {one["labels"]["alertname"] for one in found if one["status"]["inhibitedBy"]} == {
            "DatasetAnomaly",
            "PipelineStalled",
            "TelemetryLost",
        }


def test_loki_tells_of_error_lines_and_failed_runs(need: Callable[..., list[Path]]) -> None:
    """Its rules hold for lines that came by OTLP, and for those that an agent read from stdout."""
    need("alertmanager", "loki")
    with (
        shipped.alertmanager() as alerts,
        shipped.loki(
            "-ruler.evaluation-interval=1s",
            "-ruler.poll-interval=1s",
            LOKI_ALERTMANAGER_URL=alerts.url,
        ) as loki,
    ):
        printed = subprocess.run(
            [sys.executable, "-c", LOGS],
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
            env={
                "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{loki.url}/otlp/v1/logs",
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_PIPELINE_SPOOL_DIR": "off",
            },
        ).stdout
        lines = printed.replace('"pipeline":"orders"', '"pipeline":"printed"').splitlines()
        stream = {
            "stream": {"service_name": "etl"},
            "values": [[str(time.time_ns()), line] for line in lines],
        }
        fetch(f"{loki.url}/loki/api/v1/push", body={"streams": [stream]})

        def fired() -> set[tuple[str, str]]:
            return {
                (one["labels"]["alertname"], one["labels"]["pipeline"])
                for one in alerts.get("/api/v2/alerts")
            }

        wanted = {
            (name, pipeline)
            for name in ("LogErrorBurst", "LogRunFailed")
            for pipeline in ("orders", "printed")
        }
        until(lambda: fired() >= wanted, seconds=60)
        assert fired() == wanted
        groups = loki.get("/prometheus/api/v1/rules")["data"]["groups"]
        assert {rule["name"]: rule["health"] for group in groups for rule in group["rules"]} == {
            "LogErrorBurst": "ok",
            "LogRunFailed": "ok",
            "LogVolumeHigh": "ok",
        }
