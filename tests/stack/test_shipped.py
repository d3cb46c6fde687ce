"""What compose starts works as it is configured: the same files and command lines, run natively."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.stack import programs, shipped
from tests.stack.build import COLLECTOR
from tests.stack.debian import PACKAGES
from tests.stack.programs import check, fetch, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

SERVICES = shipped.compose()["services"]

# A pipeline that counts, serves its page, and goes when its input ends.
SCRAPED = """
import sys
from otel_pipeline import Pipeline, configure

telemetry = configure()
pipeline = Pipeline("orders")
with pipeline.run("run-1"):
    with pipeline.stage("load"), pipeline.batch(range(1000)) as records:
        for record in records:
            if record % 10 == 9:
                records.failed(reason="too_large")
print(telemetry.metrics_url, flush=True)
sys.stdin.read()
"""
PUSHED = """
from otel_pipeline import Pipeline, configure, get_logger

configure()
with (pipeline := Pipeline("orders")).run("run-1"), pipeline.batch(range(1000)) as records:
    for record in records:
        pass
    get_logger("orders").info("loaded", rows=1000)
"""
RULES = """
groups:
  - name: test
    rules:
      - alert: TooManyErrors
        expr: sum by (pipeline) (records_processed_total{status="error"}) >= 100
        labels: {severity: critical}
"""
RULE_TESTS = """
rule_files: [stack.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: up{job="collector", instance="collector:8888"}
        values: 1 0 0 0 0 0 0 0 0 1
      - series: up{job="pipelines", instance="etl:9464"}
        values: 0x10
    alert_rule_test:
      - {eval_time: 5m, alertname: TelemetryTargetDown}
      - eval_time: 7m
        alertname: TelemetryTargetDown
        exp_alerts:
          - exp_labels: {job: collector, instance: "collector:8888", severity: warning}
            exp_annotations:
              summary: collector:8888 (collector) does not answer
              description: >-
                Prometheus could not scrape it for 5 minutes. What is missing meanwhile is not in
                dashboards, and alerts about it do not fire.
              runbook_url: http://localhost:8000/runbooks/TelemetryTargetDown.html
              dashboard_url: http://localhost:3000/d/otel-pipeline-health
      - {eval_time: 9m, alertname: TelemetryTargetDown}
"""


def query(server: programs.Server, expression: str) -> list[dict[str, Any]]:
    return server.get("/api/v1/query", query=expression)["data"]["result"]


def exemplars(server: programs.Server, expression: str) -> list[dict[str, Any]]:
    now = time.time()
    answer = server.get(
        "/api/v1/query_exemplars",
        query=expression,
        start=f"{now - 3600:.0f}",
        end=f"{now + 60:.0f}",
    )
    return [exemplar for found in answer["data"] for exemplar in found["exemplars"]]


def test_the_programs_accept_their_files(need: Callable[..., list[Path]], tmp_path: Path) -> None:
    """Each file passes the check of the program that reads it."""
    promtool, amtool, loki = need("promtool", "amtool", "loki")
    config = COLLECTOR / "prometheus" / "prometheus.yml"
    assert "SUCCESS: 4 rule files found" in check(promtool, "check", "config", config)
    assert "SUCCESS" in check(amtool, "check-config", COLLECTOR / "alertmanager/alertmanager.yml")
    check(
        loki,
        "-verify-config",
        *SERVICES["loki"]["command"][1:],
        f"-config.file={COLLECTOR / 'loki' / 'loki.yaml'}",
    )


def test_the_collector_accepts_its_files(need: Callable[..., list[Path]]) -> None:
    """`gateway.yaml` and what compose changes of it are valid together."""
    [otelcol] = need("otelcol")
    arguments = [
        argument.replace("/etc/otelcol", str(COLLECTOR))
        for argument in SERVICES["collector"]["command"]
    ]
    check(otelcol, "validate", *arguments, environ=SERVICES["collector"]["environment"])


@pytest.mark.parametrize("program", ["promtool", "prometheus-debian"])
def test_an_alert_says_that_a_target_is_down(
    need: Callable[..., list[Path]], tmp_path: Path, program: str
) -> None:
    """It fires after 5 minutes, not for pipelines, and ends with the next answer."""
    [path] = need(program)
    promtool = path if program == "promtool" else PACKAGES[program].tool("promtool")
    shutil.copy(COLLECTOR / "prometheus" / "rules" / "stack.yml", tmp_path)
    (tmp_path / "tests.yml").write_text(RULE_TESTS)
    assert "SUCCESS" in check(promtool, "test", "rules", "tests.yml", cwd=tmp_path)


@pytest.fixture
def scraped() -> Iterator[str]:
    """Run a pipeline that has counted and is scraped; give its address."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRAPED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            "OTEL_SERVICE_NAME": "orders-etl",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        },
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("http://"):
                yield line.split("/")[2]
                break
        process.communicate(timeout=30)
    assert process.returncode == 0


def check_scrape_and_alert(prometheus: programs.Server, alerts: programs.Server) -> None:
    """Prometheus has what the pipeline counted, and Alertmanager the alert about it."""
    until(lambda: query(prometheus, 'up{job="pipelines"} == 1'), seconds=60)
    totals = until(lambda: query(prometheus, 'records_processed_total{pipeline="orders"}'))
    assert {one["metric"]["status"]: one["value"][1] for one in totals} == {
        "success": "900",
        "error": "100",
        "skipped": "0",
    }
    found = until(lambda: exemplars(prometheus, "records_processed_total"))
    [trace_id] = {exemplar["labels"]["trace_id"] for exemplar in found}
    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    found = until(
        lambda: alerts.get("/api/v2/alerts", filter="alertname=TooManyErrors"), seconds=60
    )
    assert [alert["receivers"] for alert in found] == [[{"name": "critical"}]]
    assert not [
        target
        for target in prometheus.get("/api/v1/targets")["data"]["activeTargets"]
        if target["lastError"]
    ]


def test_prometheus_scrapes_keeps_exemplars_and_alerts(
    need: Callable[..., list[Path]], scraped: str
) -> None:
    """The files and the command line of compose do what they are for."""
    need("prometheus", "alertmanager")
    with (
        shipped.alertmanager() as alerts,
        shipped.prometheus(
            targets={
                "pipelines/host.yml": [scraped],
                "alertmanager.yml": [shipped.address(alerts)],
                "stack.yml": [shipped.address(alerts)],
            },
            rules={"test.yml": RULES},
        ) as prometheus,
    ):
        check_scrape_and_alert(prometheus, alerts)
        flags = prometheus.get("/api/v1/status/flags")["data"]
        assert (flags["storage.tsdb.retention.time"], flags["storage.tsdb.retention.size"]) == (
            "15d",
            "8GiB",
        )


def test_older_servers_scrape_keep_exemplars_and_alert(
    need: Callable[..., list[Path]], scraped: str
) -> None:
    """Prometheus 2.42 and Alertmanager 0.25 do the same with the file for older ones."""
    old, old_alerts = need("prometheus-debian", "alertmanager-debian")
    assert "version 2.42" in check(old, "--version")
    assert "version 0.25" in check(old_alerts, "--version")
    with (
        shipped.alertmanager("alertmanager-debian") as alerts,
        shipped.prometheus(
            program="prometheus-debian",
            config="prometheus-2.yml",
            without=["--web.enable-otlp-receiver"],
            targets={
                "pipelines/host.yml": [scraped],
                "alertmanager.yml": [shipped.address(alerts)],
            },
            rules={"test.yml": RULES},
        ) as prometheus,
    ):
        check_scrape_and_alert(prometheus, alerts)


def test_older_tools_accept_the_files_for_older_servers(
    need: Callable[..., list[Path]],
) -> None:
    """The tools that came with 2.42 and 0.25 find nothing wrong, and that `otlp` is unknown."""
    need("prometheus-debian", "alertmanager-debian")
    promtool = PACKAGES["prometheus-debian"].tool("promtool")
    amtool = PACKAGES["alertmanager-debian"].tool("amtool")
    folder = COLLECTOR / "prometheus"
    assert "SUCCESS: 4 rule files" in check(
        promtool, "check", "config", folder / "prometheus-2.yml"
    )
    assert "SUCCESS" in check(amtool, "check-config", COLLECTOR / "alertmanager/alertmanager.yml")
    refused = subprocess.run(
        [promtool, "check", "config", folder / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "field otlp not found" in refused.stderr + refused.stdout


def test_the_file_for_older_servers_lacks_one_section() -> None:
    """What is changed in one of the two is changed in both."""
    new, old = (
        yaml.safe_load((COLLECTOR / "prometheus" / name).read_text())
        for name in ("prometheus.yml", "prometheus-2.yml")
    )
    del new["otlp"]
    assert new == old


def otlp_line(body: str, service: str, trace_id: str) -> dict[str, Any]:
    """Return a request with one log record, as OTLP's JSON."""
    attributes = {
        "service.name": service,
        "service.instance.id": "instance-1",
        "deployment.environment.name": "prod",
    }
    return {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": [
                        {"key": key, "value": {"stringValue": value}}
                        for key, value in attributes.items()
                    ]
                },
                "scopeLogs": [
                    {
                        "logRecords": [
                            {
                                "timeUnixNano": str(time.time_ns()),
                                "body": {"stringValue": body},
                                "traceId": trace_id,
                                "spanId": "00f067aa0ba902b7",
                            }
                        ]
                    }
                ],
            }
        ]
    }


def lines(loki: programs.Server, expression: str) -> list[dict[str, Any]]:
    now = time.time()
    answer = loki.get(
        "/loki/api/v1/query_range",
        query=expression,
        start=f"{now - 3600:.0f}",
        end=f"{now + 60:.0f}",
    )
    return [
        {**stream["stream"], "line": text}
        for stream in answer["data"]["result"]
        for _, text in stream["values"]
    ]


def test_loki_takes_both_kinds_of_lines_and_a_span_finds_them(
    need: Callable[..., list[Path]],
) -> None:
    """Lines of OTLP and of stdout are found by the query that is behind a span's button."""
    need("loki")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    printed = f'{{"event":"printed","trace_id":"{trace_id}"}}'
    other = '{"event":"of no trace"}'
    with shipped.loki() as loki:
        fetch(f"{loki.url}/otlp/v1/logs", body=otlp_line("sent", "orders", trace_id))
        fetch(f"{loki.url}/otlp/v1/logs", body=otlp_line("of another", "orders", "a" * 32))
        stream = {
            "stream": {"service_name": "orders"},
            "values": [
                [str(time.time_ns()), printed],
                [str(time.time_ns()), other],
            ],
        }
        fetch(f"{loki.url}/loki/api/v1/push", body={"streams": [stream]})
        wanted = shipped.data_sources()["tempo"]["jsonData"]["tracesToLogsV2"]["query"]
        for name, value in {
            "$${__tags}": 'service_name="orders"',
            "$${__trace.traceId}": trace_id,
        }.items():
            assert name in wanted
            wanted = wanted.replace(name, value)
        until(lambda: len(lines(loki, '{service_name="orders"}')) == 4)
        found = lines(loki, wanted)
        assert {line["line"] for line in found} == {"sent", printed}
        [sent] = [line for line in found if line["line"] == "sent"]
        assert "__error__" not in sent
        assert sent["service_instance_id"] == "instance-1"
        index = loki.get("/loki/api/v1/labels")["data"]
        assert sorted(index) == ["deployment_environment_name", "service_name"]
        config = yaml.safe_load(fetch(f"{loki.url}/config"))
        assert config["compactor"]["retention_enabled"] is True
        assert config["limits_config"]["retention_period"] == "2w"
        # The command that is its health check.
        [program] = need("loki")
        health = SERVICES["loki"]["healthcheck"]["test"]
        assert health[:2] == ["CMD", "/usr/bin/loki"]
        own = [word.replace("http://127.0.0.1:3100", loki.url) for word in health[2:]]
        check(program, *own)
    result = subprocess.run([program, *own], capture_output=True, check=False)
    assert result.returncode == 1


def test_the_stack_takes_a_pipeline_by_otlp(need: Callable[..., list[Path]]) -> None:
    """Through the gateway a run's numbers, exemplars and lines arrive, and meet by its trace."""
    need("jaeger", "loki", "otelcol", "prometheus")
    with (
        programs.jaeger() as traces,  # in Tempo's place
        shipped.loki() as loki,
        shipped.prometheus() as prometheus,
        shipped.collector(
            PROMETHEUS_URL=prometheus.url,
            LOKI_URL=loki.url,
            TRACES_OTLP_URL=traces.url_of("otlp_http"),
        ) as collector,
    ):
        subprocess.run(
            [sys.executable, "-c", PUSHED],
            check=True,
            timeout=60,
            stdout=subprocess.DEVNULL,
            env={
                "OTEL_SERVICE_NAME": "orders-etl",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_PIPELINE_SPOOL_DIR": "off",
            },
        )
        tags = 'pipeline="orders"'
        totals = until(lambda: query(prometheus, f"records_processed_total{{{tags}}}"))
        assert {one["metric"]["status"]: one["value"][1] for one in totals}["success"] == "1000"
        [labels] = [one["metric"] for one in totals if one["metric"]["status"] == "success"]
        assert labels["deployment_environment_name"] == "prod"
        assert labels["job"] == "orders-etl"
        info = until(lambda: query(prometheus, 'target_info{service_name="orders-etl"}'))
        assert info[0]["metric"]["job"] == "orders-etl"
        for metric in shipped.data_sources()["tempo"]["jsonData"]["tracesToMetrics"]["queries"]:
            assert "$$__tags" in metric["query"]
            query(prometheus, metric["query"].replace("$$__tags", tags))
        [trace_id] = {
            exemplar["labels"]["trace_id"]
            for exemplar in until(
                lambda: exemplars(prometheus, "processing_duration_seconds_bucket")
            )
        }
        until(lambda: traces.get(f"/api/traces/{trace_id}")["data"])
        wanted = f'{{service_name="orders-etl"}} | trace_id="{trace_id}"'
        until(lambda: "loaded" in {line["line"] for line in lines(loki, wanted)})
        assert "otelcol_process_uptime" in fetch(collector.url_of("metrics") + "/metrics")
