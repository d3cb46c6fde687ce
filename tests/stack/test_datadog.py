"""What Datadog gets: one set of ids on spans and lines, one service, changes instead of totals."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.otlp_receiver import attributes_of, otlp_receiver
from tests.stack import programs
from tests.stack.build import COLLECTOR
from tests.stack.programs import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.otlp_receiver import HttpReceiver, Item

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

#: What Datadog takes `service`, `env` and `version` from.
TAGS = {
    "service.name": "orders-etl",
    "deployment.environment.name": "production",
    "service.version": "1.4.2",
}
GATEWAY = [COLLECTOR / name for name in ("gateway.yaml", "gateway-no-tls.yaml", "datadog.yaml")]
TOKEN = "token-of-the-tests"
AUTHORIZED = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{TOKEN}"}
NOWHERE = "http://127.0.0.1:9"
CUMULATIVE, DELTA = 2, 1

PROGRAM = """
import logging
from otel_pipeline import Pipeline, configure, get_logger

configure("orders-etl", environment="production", version="1.4.2", log_format="json")
pipeline = Pipeline("orders")
with pipeline.run("run-1"), pipeline.stage("load") as stage:
    stage.records(3)
    get_logger("orders").info("loaded", rows=3)
    logging.getLogger("library").warning("slow")
"""

# Each step is pushed by itself, and tells the totals at the end.
METRICS = """
import json
from otel_pipeline import Counter, Gauge, Histogram, Pipeline, configure

telemetry = configure("orders-etl", environment="production", version="1.4.2")
pipeline = Pipeline("orders")
orders = Counter("orders", "Orders", ["shop"])
stock = Gauge("stock", "Stock")
size = Histogram("size", "Size", buckets=[1, 10])
open_ = pipeline.meter.create_up_down_counter("open")
hits = pipeline.meter.create_counter("hits")
sums = {"a": 0, "b": 0}
for step in range(1, 6):
    shop = "ab"[step % 2]
    orders.labels(shop).inc(step)
    sums[shop] += step
    hits.add(2)
    stock.set(10 * step)
    open_.add(1 if step % 2 else -2)
    size.observe(step)
    assert telemetry.flush(10)
print(json.dumps(sums))
"""


SECRET = """
from otel_pipeline import Pipeline, configure, get_logger

configure("orders-etl")
with Pipeline("orders").run() as run:
    run.set_attribute("password", "hunter2")
    get_logger("orders").info("login", password="hunter2")
"""


def run(program: str, url: str, **variables: str) -> list[dict[str, Any]]:
    """Run a program that sends to `url`; return the lines that it printed."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_PIPELINE_SPOOL_DIR": "off",
            "OTEL_PIPELINE_LOG_DATADOG": "on",
            **variables,
        },
    )
    assert "dropped" not in result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def datadog_id(identifier: bytes) -> str:
    """Return an id as Datadog shows it: the low 64 bits, decimal."""
    return str(int.from_bytes(identifier[-8:], "big"))


def tags(resource: dict[str, Any]) -> dict[str, Any]:
    return {name: resource.get(name) for name in TAGS}


@pytest.fixture
def intake() -> Iterator[HttpReceiver]:
    """An intake for OTLP that keeps what it is sent."""
    with otlp_receiver() as receiver:
        yield receiver


class TestIntake:
    """Straight to an intake for OTLP, without an Agent."""

    def test_all_three_signals_name_service_environment_and_version(
        self, intake: HttpReceiver
    ) -> None:
        """The resource of each has what Datadog's unified service tags are made of."""
        run(PROGRAM, intake.endpoint)
        for items in (intake.spans, intake.metrics, intake.logs):
            assert items
            assert [tags(item.resource) for item in items] == [TAGS] * len(items)

    def test_a_printed_line_leads_to_its_trace(self, intake: HttpReceiver) -> None:
        """A line's `dd` fields are the ids of its span, whose service has the line's tags."""
        lines = run(PROGRAM, intake.endpoint)
        spans = {span.name: span for span in (item.proto for item in intake.spans)}
        load = spans["orders load"]
        found = {line["event"]: line for line in lines}
        for line in (found["loaded"], found["slow"]):
            assert line["dd.trace_id"] == datadog_id(load.trace_id)
            assert line["dd.span_id"] == datadog_id(load.span_id)
            assert (line["trace_id"], line["span_id"]) == (
                load.trace_id.hex(),
                load.span_id.hex(),
            )
            assert [line[name] for name in ("dd.service", "dd.env", "dd.version")] == list(
                TAGS.values()
            )

    def test_a_record_has_the_ids_in_their_place(self, intake: HttpReceiver) -> None:
        """By OTLP a line needs no `dd` fields, and has none."""
        run(PROGRAM, intake.endpoint)
        [load] = [item.proto for item in intake.spans if item.proto.name == "orders load"]
        records = {item.proto.body.string_value: item.proto for item in intake.logs}
        for event in ("loaded", "slow"):
            record = records[event]
            assert (record.trace_id, record.span_id) == (load.trace_id, load.span_id)
            assert not [key for key in attributes_of(record.attributes) if "dd." in key]

    def test_the_key_goes_into_the_header(self, intake: HttpReceiver) -> None:
        """Each request has the key of the environment's headers."""
        run(PROGRAM, intake.endpoint, OTEL_EXPORTER_OTLP_HEADERS="dd-api-key=abc")
        paths = {request.path for request in intake.requests}
        assert paths == {"/v1/traces", "/v1/metrics", "/v1/logs"}
        assert {request.headers.get("dd-api-key") for request in intake.requests} == {"abc"}

    def test_changes_add_up_to_the_totals(self, intake: HttpReceiver) -> None:
        """With the temporality delta sums and histograms are changes, which add up exactly."""
        [totals] = run(
            METRICS,
            intake.endpoint,
            OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta",
            OTEL_METRIC_EXPORT_INTERVAL="3600000",
        )
        check_changes(intake.metrics, totals)


def check_changes(metrics: list[Item], totals: dict[str, int]) -> None:
    """Check that what `METRICS` sends has arrived as changes, and all of it."""
    by_name: dict[str, list[Any]] = {}
    for item in metrics:
        by_name.setdefault(item.proto.name, []).append(item.proto)

    assert added_up(by_name["orders"]) == totals
    assert added_up(by_name["hits"]) == {"": 10}
    changing = by_name["orders"] + by_name["hits"]
    assert {(one.sum.aggregation_temporality, one.sum.is_monotonic) for one in changing} == {
        (DELTA, True)
    }
    assert len(by_name["hits"]) > 1
    assert_no_gaps(by_name["hits"])

    sizes = [one.histogram for one in by_name["size"]]
    assert {size.aggregation_temporality for size in sizes} == {DELTA}
    points = [point for size in sizes for point in size.data_points]
    assert sum(point.count for point in points) == 5
    assert sum(point.sum for point in points) == 15
    assert [sum(counts) for counts in zip(*(p.bucket_counts for p in points), strict=True)] == [
        1,
        4,
        0,
    ]

    # A state is sent as it is.
    assert last_value([one.gauge for one in by_name["stock"]]) == 50
    opens = [one.sum for one in by_name["open"]]
    assert {(one.is_monotonic, one.aggregation_temporality) for one in opens} == {
        (False, CUMULATIVE)
    }
    assert last_value(opens) == -1


def value(point: Any) -> float:
    return getattr(point, point.WhichOneof("value"))


def last_value(data: list[Any]) -> float:
    """Return the latest value; requests may overtake each other."""
    points = [point for one in data for point in one.data_points]
    return value(max(points, key=lambda point: point.time_unix_nano))


def added_up(metrics: list[Any]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for metric in metrics:
        for point in metric.sum.data_points:
            shop = attributes_of(point.attributes).get("shop", "")
            sums[shop] = sums.get(shop, 0) + value(point)
    return sums


def assert_no_gaps(metrics: list[Any]) -> None:
    """Each change begins where the one before it ended."""
    times = sorted(
        (point.start_time_unix_nano, point.time_unix_nano)
        for metric in metrics
        for point in metric.sum.data_points
    )
    ends = [end for _, end in times]
    assert [start for start, _ in times[1:]] == ends[:-1]


class TestAgent:
    """To Datadog's own test agent."""

    @pytest.fixture
    def agent(self, need: Callable[..., list[Path]]) -> Iterator[programs.Server]:
        need("ddapm")
        with programs.datadog_agent() as agent:
            yield agent

    @pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
    def test_it_sees_the_trace_and_its_lines(self, agent: programs.Server, protocol: str) -> None:
        """Spans, metrics and records arrive with the ids and tags of the printed line."""
        port = "grpc" if protocol == "grpc" else "http"
        lines = run(PROGRAM, agent.url_of(port), OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
        check_agent(agent, lines)

    def test_it_sees_them_through_the_gateway(
        self, agent: programs.Server, tmp_path: Path, need: Callable[..., list[Path]]
    ) -> None:
        """The overlay passes on all three signals."""
        with gateway(need, tmp_path, agent.url) as server:
            lines = run(PROGRAM, server.url, **AUTHORIZED)
            check_agent(agent, lines)


def check_agent(agent: programs.Server, lines: list[dict[str, Any]]) -> None:
    """Check that the agent has the spans, metrics and records of `PROGRAM`."""
    spans = until(lambda: found_by(agent, "traces", "spans"))
    [(resource, load)] = [(tags_, span) for tags_, span in spans if span["name"] == "orders load"]
    [line] = [line for line in lines if line["event"] == "loaded"]
    assert tags(resource) == TAGS
    assert datadog_id(base64.b64decode(load["trace_id"])) == line["dd.trace_id"]
    assert datadog_id(base64.b64decode(load["span_id"])) == line["dd.span_id"]

    records = until(lambda: found_by(agent, "logs", "log_records"))
    [(resource, record)] = [
        (tags_, record) for tags_, record in records if record["body"]["string_value"] == "loaded"
    ]
    assert tags(resource) == TAGS
    assert (record["trace_id"], record["span_id"]) == (load["trace_id"], load["span_id"])

    metrics = until(lambda: found_by(agent, "metrics", "metrics"))
    names = {metric["name"] for resource, metric in metrics if tags(resource) == TAGS}
    assert "pipeline_stage_records" in names


def found_by(agent: programs.Server, signal: str, items: str) -> list[Any]:
    """Return what the agent was sent: each item with the resource it came from."""
    kind = {"traces": "spans", "metrics": "metrics", "logs": "logs"}[signal]
    return [
        (
            {
                one["key"]: one["value"].get("string_value")
                for one in group["resource"]["attributes"]
            },
            item,
        )
        for request in agent.get(f"/test/session/{signal}")
        for group in request[f"resource_{kind}"]
        for scope in group[f"scope_{kind}"]
        for item in scope[items]
    ]


@contextlib.contextmanager
def gateway(need: Callable[..., list[Path]], folder: Path, url: str) -> Iterator[programs.Server]:
    """Run the gateway with the overlay, sending to `url`; what else it sends goes nowhere."""
    need("otelcol")
    token = folder / "token"
    token.write_text(TOKEN)
    with programs.collector(
        *GATEWAY,
        DD_OTLP_URL=url,
        DD_API_KEY="abc",
        OTELCOL_TOKEN_FILE=str(token),
        OTELCOL_STORAGE_DIR=str(folder / "storage"),
        OTELCOL_FLUSH="200ms",
        PROMETHEUS_URL=NOWHERE,
        LOKI_URL=NOWHERE,
        TRACES_OTLP_URL=NOWHERE,
    ) as server:
        yield server


class TestOverlay:
    """The overlay over the gateway."""

    @pytest.mark.parametrize("temporality", ["cumulative", "delta"])
    def test_changes_arrive_whatever_the_program_sends(
        self,
        temporality: str,
        intake: HttpReceiver,
        tmp_path: Path,
        need: Callable[..., list[Path]],
    ) -> None:
        """Of totals nothing is lost on the way, and changes are not counted again."""
        with gateway(need, tmp_path, intake.endpoint) as server:
            [totals] = run(
                METRICS,
                server.url,
                OTEL_METRIC_EXPORT_INTERVAL="3600000",
                OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
                **AUTHORIZED,
            )
            intake.wait_for(lambda: has_all(intake.metrics), 30)
        check_changes(intake.metrics, totals)

    def test_each_request_has_the_key(
        self, intake: HttpReceiver, tmp_path: Path, need: Callable[..., list[Path]]
    ) -> None:
        """All three signals go to their paths of the intake, and the program's token does not."""
        with gateway(need, tmp_path, intake.endpoint) as server:
            run(PROGRAM, server.url, **AUTHORIZED)
            intake.wait_for(lambda: intake.spans and intake.metrics and intake.logs, 30)
        assert {request.path for request in intake.requests} == {
            "/v1/traces",
            "/v1/metrics",
            "/v1/logs",
        }
        for request in intake.requests:
            assert request.headers["dd-api-key"] == "abc"
            assert request.headers["dd-otlp-source"] == "datadog"
            assert TOKEN not in str(request.headers)

    def test_secrets_that_a_program_let_through_are_masked(
        self, intake: HttpReceiver, tmp_path: Path, need: Callable[..., list[Path]]
    ) -> None:
        """What goes to Datadog passes the same net as what goes to the other backends."""
        with gateway(need, tmp_path, intake.endpoint) as server:
            run(SECRET, server.url, OTEL_PIPELINE_REDACT="off", **AUTHORIZED)
            intake.wait_for(lambda: intake.spans and intake.logs, 30)
        assert "hunter2" not in str([item.proto for item in (*intake.spans, *intake.logs)])

    @pytest.mark.parametrize(
        ("environ", "url"),
        [
            ({}, "https://otlp.datadoghq.com"),
            ({"DD_SITE": "datadoghq.eu"}, "https://otlp.datadoghq.eu"),
            ({"DD_SITE": "datadoghq.eu", "DD_OTLP_URL": "http://agent:4318"}, "http://agent:4318"),
        ],
    )
    def test_the_site_decides_where_it_sends(
        self, environ: dict[str, str], url: str, need: Callable[..., list[Path]]
    ) -> None:
        """By default to the first site, else to the named one, or to the URL that is set."""
        [otelcol] = need("otelcol")
        result = subprocess.run(
            [
                otelcol,
                "print-config",
                *(f"--config={path}" for path in GATEWAY),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"DD_API_KEY": "abc", **environ},
        )
        assert result.returncode == 0, result.stderr
        config = yaml.safe_load(result.stdout)
        assert config["exporters"]["otlp_http/datadog"]["endpoint"] == url


def has_all(metrics: list[Item]) -> bool:
    """Whether all that `METRICS` counts is there."""
    counted = sum(
        point.count
        for item in metrics
        if item.proto.name == "size"
        for point in item.proto.histogram.data_points
    )
    added = added_up([item.proto for item in metrics if item.proto.name == "orders"])
    hits = added_up([item.proto for item in metrics if item.proto.name == "hits"])
    opens = sum(item.proto.name == "open" for item in metrics)
    stocks = sum(item.proto.name == "stock" for item in metrics)
    complete = counted >= 5 and sum(added.values()) >= 15 and sum(hits.values()) >= 10
    return complete and opens >= 5 and stocks >= 5
