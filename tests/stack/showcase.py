"""The shipped servers with all that there is to see in dashboards: the demo, and busy programs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from otel_pipeline.alerts.files import files
from otel_pipeline.alerts.settings import PipelineSettings, Settings, Slo
from tests.stack import programs, shipped
from tests.stack.grafana import Backends

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.programs import Server

__all__ = ["Showcase", "showcase"]

ROOT = Path(__file__).parents[2]
NOBODY = "http://127.0.0.1:9"
RULES = """
groups:
  - name: showcase
    interval: 1s
    rules:
      - alert: TooManyErrors
        expr: sum by (pipeline) (records_processed_total{status="error"}) > 0
        labels: {severity: warning}
"""


def rules() -> dict[str, str]:
    """Return the rules that `otel-pipeline alerts` writes, with objectives, evaluated each 5 s."""
    objectives = (Slo("records", 0.98), Slo("latency", 0.95, seconds=0.05), Slo("freshness", 0.95))
    settings = Settings(pipelines={"orders": PipelineSettings(slos=objectives)})
    found = {"showcase.yml": RULES}
    for path, text in files(settings).items():
        if path.startswith("rules/"):
            document = yaml.safe_load(text)
            for group in document["groups"]:
                group["interval"] = "5s"
            found[path.removeprefix("rules/")] = json.dumps(document)
    return found


@dataclass(frozen=True)
class Showcase:
    """What runs."""

    prometheus: Server
    loki: Server
    alertmanager: Server
    collector: Server
    pages: tuple[str, ...]  # addresses of the programs' /metrics

    @property
    def backends(self) -> Backends:
        """Where dashboards ask."""
        return Backends(self.prometheus, self.loki)


@contextlib.contextmanager
def showcase() -> Iterator[Showcase]:
    """Run the servers as compose does, the demo once, and the busy programs until the end."""
    with contextlib.ExitStack() as undo:
        traces = undo.enter_context(programs.jaeger())  # in Tempo's place
        loki = undo.enter_context(shipped.loki())
        alerts = undo.enter_context(shipped.alertmanager())
        prometheus = undo.enter_context(
            shipped.prometheus(
                targets={
                    "alertmanager.yml": [shipped.address(alerts)],
                    "stack.yml": [shipped.address(alerts), shipped.address(loki)],
                },
                rules=rules(),
            )
        )
        collector = undo.enter_context(
            shipped.collector(
                PROMETHEUS_URL=prometheus.url,
                LOKI_URL=loki.url,
                TRACES_OTLP_URL=traces.url_of("otlp_http"),
            )
        )
        shipped.set_targets(prometheus, "collector.yml", [shipped.address(collector, "metrics")])
        spool = undo.enter_context(tempfile.TemporaryDirectory(prefix="showcase-spool-"))
        pages = (
            undo.enter_context(_busy("orders-etl", collector.url, "off")),
            undo.enter_context(_busy("orders-offline", NOBODY, spool)),
        )
        addresses = [page.split("/")[2] for page in pages]
        shipped.set_targets(prometheus, "pipelines/host.yml", addresses)
        _demo(collector.url)
        yield Showcase(prometheus, loki, alerts, collector, pages)


def _environ(service: str, endpoint: str, spool: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {
        **kept,
        "OTEL_SERVICE_NAME": service,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_PIPELINE_SPOOL_DIR": spool,
        "OTEL_PIPELINE_CARDINALITY_LIMIT": "20",
        "OTEL_PIPELINE_LOG_FORMAT": "json",
    }


@contextlib.contextmanager
def _busy(service: str, endpoint: str, spool: str) -> Iterator[str]:
    """Run the busy program; give the address of its page."""
    environ = {**_environ(service, endpoint, spool), "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.stack.busy"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**environ, "OTEL_PIPELINE_LOG_STREAM": "stderr"},
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        page = process.stdout.readline().strip()
        assert page.startswith("http://"), page
        try:
            yield page
        finally:
            process.stdin.close()
            process.wait(30)
    assert process.returncode == 0


def _demo(endpoint: str) -> None:
    """Run the demo, which pushes its metrics each second."""
    subprocess.run(
        [sys.executable, "-m", "otel_pipeline", "demo", "--no-ui", "--limit", "30000"],
        check=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **_environ("flights", endpoint, "off"),
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        },
    )
