"""A run's signals go through the agent and the gateway, and lead to each other in the backends."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack import programs
from tests.stack.chain import (
    agent,
    credentials,
    gateway,
    own_metrics,
    post,
    span_request,
)
from tests.stack.programs import at_least, fetch, until
from tests.stack.test_end_to_end import exemplars, lines, series, spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stack.chain import Credentials
    from tests.stack.programs import Server, Stack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

# Runs until its standard input ends, so that Prometheus can scrape it meanwhile.
PROGRAM = """
import sys
from otel_pipeline import (
    Counter, Enum, Gauge, Histogram, Info, Pipeline, Summary, configure, get_logger
)

telemetry = configure()
pipeline = Pipeline("orders", expected_interval="24h")
log = get_logger("orders")
REJECTED = Counter("orders_rejected", "Orders rejected", ["reason"])
OPEN = Gauge("orders_open", "Orders that are open")
PRICE = Histogram("orders_price", "Price of an order", buckets=[1, 10, 100])
SIZE = Summary("order", "Size of an order", unit="bytes")
BUILD = Info("orders_build", "What runs")
MODE = Enum("orders_mode", "How it runs", states=["idle", "busy"])

@pipeline.stage
def extract():
    log.info("extracting", source="file")
    for row in range(40):
        yield row

@pipeline.stage
def load(rows):
    with pipeline.batch(rows) as records:
        for row in records:
            PRICE.observe(row)
            SIZE.observe(row)
            if row % 10 == 7:
                REJECTED.labels("too_large").inc()
                records.failed(reason="too_large")
    log.warning("loaded", rows=len(rows))

BUILD.info({"version": "1.0"})
MODE.state("busy")
OPEN.set(3)
with pipeline.run("run-1"):
    load(list(extract()))
telemetry.flush(10)
print(telemetry.metrics_url, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Chain:
    """An agent and a gateway, with the stack behind them."""

    known: Credentials
    agent: Server
    gateway: Server


@pytest.fixture(scope="module")
def chain(stack: Stack, need: Callable[..., Any]) -> Iterator[Chain]:
    """Run an agent and a gateway in front of the stack, with times that suit a test."""
    with (
        tempfile.TemporaryDirectory() as folder,
        credentials() as known,
        gateway(
            known,
            Path(folder) / "gateway",
            OTELCOL_SPAN_METRICS_INTERVAL="1s",
            OTELCOL_DECISION_WAIT="1s",
            OTELCOL_SLOW_MS="1000",
            OTELCOL_SAMPLING_PERCENT="0",
            stack=stack,
        ) as front,
        agent(
            known,
            Path(folder) / "agent",
            front.ports["http"],
            OTELCOL_ENVIRONMENT="tests",
        ) as near,
    ):
        yield Chain(known, near, front)


@contextmanager
def program_that_runs(near: Server, service: str) -> Iterator[str]:
    """Run the pipeline, which exports to an agent and serves `/metrics`; return that address."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_ENDPOINT": near.url,
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_PIPELINE_LOG_STREAM": "stderr",
            "OTEL_PIPELINE_SPOOL_DIR": "off",
        },
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http"), process.communicate()[1]
            yield url
        finally:
            _, said = process.communicate("", timeout=30)
            assert "dropped" not in said


@dataclass(frozen=True)
class Service:
    """The pipeline's service while it runs: its name, and a Prometheus that scrapes it."""

    name: str
    metrics_url: str
    scraping: Server


@pytest.fixture(scope="module")
def service(chain: Chain) -> Iterator[Service]:
    """Run a pipeline, and a second Prometheus that scrapes it directly."""
    name = f"orders-{uuid.uuid4().hex[:8]}"
    with program_that_runs(chain.agent, name) as url:
        address = url.removeprefix("http://").removesuffix("/metrics")
        target = {"job_name": name, "static_configs": [{"targets": [address]}]}
        with programs.prometheus({"scrape_configs": [target]}) as scraping:
            yield Service(name, url, scraping)


def names_of(server: Server, selector: str) -> set[str]:
    """Return the names of a job's metrics, without those that Prometheus or the gateway makes."""
    found = server.get("/api/v1/label/__name__/values", **{"match[]": selector})["data"]
    made = ("scrape_", "target_info", "traces_span_metrics_")
    return {name for name in found if name != "up" and not name.startswith(made)}


def test_every_signal_leads_to_the_others(stack: Stack, service: Service) -> None:
    """An exemplar names a trace, the trace has all stages, and its lines lead back to spans."""
    found = until(lambda: exemplars(stack, f'records_processed_total{{job="{service.name}"}}'))
    [trace_id] = {exemplar["labels"]["trace_id"] for exemplar in found}

    in_jaeger = until(at_least(4, lambda: spans(stack, trace_id)))
    names = {span["spanID"]: span["operationName"] for span in in_jaeger}
    assert set(names.values()) == {"orders", "orders extract", "orders load", "orders batch"}
    assert names[found[0]["labels"]["span_id"]] == "orders batch"

    by_trace = f'{{service_name="{service.name}"}} | trace_id="{trace_id}"'
    told = until(at_least(3, lambda: lines(stack, by_trace)))
    assert {(line["line"], names[line["span_id"]]) for line in told} == {
        ("extracting", "orders extract"),
        ("batch_processed", "orders batch"),
        ("loaded", "orders load"),
    }

    [load] = [span_id for span_id, name in names.items() if name == "orders load"]
    back = lines(stack, f'{{service_name="{service.name}"}} | span_id="{load}"')
    assert [line["line"] for line in back] == ["loaded"]
    [trace] = stack.jaeger.get(f"/api/traces/{back[0]['trace_id']}")["data"]
    assert load in {span["spanID"] for span in trace["spans"]}


def test_both_ways_give_the_same_names_and_totals(stack: Stack, service: Service) -> None:
    """What is scraped and what comes by OTLP has the same names, but for three kinds, and sums."""
    job = f'{{job="{service.name}"}}'
    until(lambda: "orders_rejected_total" in names_of(stack.prometheus, job))
    until(lambda: "orders_rejected_total" in names_of(service.scraping, job))
    by_otlp, scraped = names_of(stack.prometheus, job), names_of(service.scraping, job)
    # By OTLP a Summary comes as a histogram without bounds.
    assert by_otlp - scraped == {"order_bytes_bucket"}
    assert scraped <= by_otlp
    assert len(scraped) > 30
    # Info and Enum come as gauges of 1 and 0, as they are shown to a scrape.
    assert {"orders_build_info", "orders_mode"} <= scraped

    def totals(server: Server) -> dict[str, str]:
        query = (
            f'sum by (__name__, status, stage, reason, le) ({{job="{service.name}",__name__=~'
            '"records_.*|orders_.*_total|orders_price_.*|order_bytes_(sum|count)|.*_runs_total|'
            'pipeline_stage_records_total|pipeline_records_.*"})'
        )
        answer = server.get("/api/v1/query", query=query)["data"]["result"]
        return {
            json.dumps({**one["metric"], "le": _bound(one["metric"])}): one["value"][1]
            for one in answer
        }

    sums = until(
        lambda: got if (got := totals(service.scraping)) == totals(stack.prometheus) else {}
    )
    assert Counter(sums.values())["36"] >= 2
    assert "4" in sums.values()


def _bound(metric: dict[str, str]) -> str:
    return str(float(metric["le"])) if "le" in metric else ""


def test_prometheus_scrapes_the_pipeline(service: Service) -> None:
    """A direct scrape succeeds, and its exemplars name the same trace."""
    scraping = service.scraping
    up = until(
        lambda: scraping.get("/api/v1/query", query=f'up{{job="{service.name}"}}')["data"]["result"]
    )
    assert [one["value"][1] for one in up] == ["1"]
    [target] = scraping.get("/api/v1/targets")["data"]["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")

    def found() -> list[dict[str, Any]]:
        answer = scraping.get(
            "/api/v1/query_exemplars", query="records_processed_total", start="0", end="9999999999"
        )
        return [one for each in answer["data"] for one in each["exemplars"]]

    assert all(len(one["labels"]["trace_id"]) == 32 for one in until(found))


def test_span_metrics_count_what_is_not_sampled(stack: Stack, chain: Chain) -> None:
    """Calls are counted before sampling; errors, slow and pipeline traces are kept."""
    service = f"web-{uuid.uuid4().hex[:8]}"
    kinds: dict[str, dict[str, Any]] = {
        "quick": {},
        "error": {"error": True},
        "slow": {"seconds": 2.0},
        "pipeline": {"attributes": {"pipeline.name": "orders", "pipeline.stage": "load"}},
    }
    request = span_request(service, dict.fromkeys(kinds, 5), kinds)
    sent = {
        span.span_id.hex()
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
        if span.name != "quick"
    }
    assert post(chain.agent.ports["http"], request) == 200

    def kept() -> list[str]:
        traces = stack.jaeger.get("/api/traces", service=service, limit="100")["data"]
        return [span["spanID"] for one in traces for span in one["spans"]]

    assert set(until(at_least(15, kept))) == sent

    calls = f'traces_span_metrics_calls_total{{job="{service}"}}'

    def counted_all() -> list[dict[str, Any]]:
        # A new series begins with a point of 0, and the count comes with the next.
        found = series(stack, calls)
        counts = {one["metric"]["span_name"]: one["value"][1] for one in found}
        return found if counts == dict.fromkeys(kinds, "5") else []

    counted = until(counted_all)
    [pipeline] = [one["metric"] for one in counted if "pipeline_name" in one["metric"]]
    assert (pipeline["pipeline_name"], pipeline["pipeline_stage"]) == ("orders", "load")
    duration = f"traces_span_metrics_duration_seconds_bucket{calls[31:]}"
    assert until(lambda: exemplars(stack, duration))


def test_resources_are_completed_and_cut_to_what_is_allowed(stack: Stack, chain: Chain) -> None:
    """The agent adds what is missing; the gateway keeps what its list names."""
    service = f"web-{uuid.uuid4().hex[:8]}"
    given = {"host.name": "mine", "process.command_line": "x --all", "team": "data"}
    request = span_request(service, {"a": 1}, {"a": {"error": True}}, resource=given)
    assert post(chain.agent.ports["http"], request) == 200
    [trace] = until(lambda: stack.jaeger.get("/api/traces", service=service)["data"])
    [process] = trace["processes"].values()
    tags = {tag["key"]: tag["value"] for tag in process["tags"]}
    assert tags == {"deployment.environment.name": "tests", "host.name": "mine"}


def test_nothing_was_lost_on_the_way(stack: Stack, chain: Chain, service: Service) -> None:
    """Neither collector refused anything, or failed to send it."""
    until(lambda: series(stack, f'records_processed_total{{job="{service.name}"}}'))
    for server in (chain.agent, chain.gateway):
        bad = {
            name: value
            for name, value in own_metrics(server).items()
            if value and ("_refused_" in name or "_failed_" in name)
        }
        assert not bad
        assert fetch(server.url_of("health"))["status"] == "Server available"
