"""What was accepted is not lost: not in an outage, not by `kill -9`, not when a queue is full."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.stack.chain import (
    agent,
    credentials,
    gateway,
    gauge_request,
    log_request,
    own_metrics,
    post,
    span_request,
)
from tests.stack.programs import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.chain import Credentials
    from tests.stack.programs import Server, Stack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(180)]

ITEMS = 50  # in a request
GAUGE = "outage_progress"


@pytest.fixture
def known() -> Iterator[Credentials]:
    with credentials() as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@dataclass
class Sender:
    """Sends spans, log records and points, each request again until it is accepted."""

    service: str
    port: int
    spans: dict[str, set[str]] = field(default_factory=dict)  # by trace
    texts: set[str] = field(default_factory=set)
    points: int = 0

    def send(self, rounds: int) -> None:
        for _ in range(rounds):
            trace_id = os.urandom(16)
            spans = span_request(
                self.service,
                {"orders load": ITEMS},
                {"orders load": {"attributes": {"pipeline.name": "orders"}}},
                trace_id=trace_id,
            )
            self.spans[trace_id.hex()] = {
                span.span_id.hex() for span in spans.resource_spans[0].scope_spans[0].spans
            }
            texts = [f"loaded {uuid.uuid4().hex}" for _ in range(ITEMS)]
            self.texts.update(texts)
            self.points += 1
            for request in (
                spans,
                log_request(self.service, texts),
                gauge_request(self.service, GAUGE, self.points),
            ):
                self._send(request)

    def _send(self, request: Any) -> None:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                if post(self.port, request) == 200:
                    return
            assert time.monotonic() < end
            time.sleep(0.05)

    def missing(self, stack: Stack) -> dict[str, int]:
        """Return how many of the items that were sent are in none of the backends."""
        kept = 0
        for trace_id, ids in self.spans.items():
            with contextlib.suppress(OSError):  # a trace that Jaeger does not know
                traces = stack.jaeger.get(f"/api/traces/{trace_id}")["data"]
                kept += len(ids & {span["spanID"] for trace in traces for span in trace["spans"]})
        query = f'{GAUGE}{{job="{self.service}"}}[1h]'
        found = stack.prometheus.get("/api/v1/query", query=query)["data"]["result"]
        return {
            "spans": sum(map(len, self.spans.values())) - kept,
            "log records": len(self.texts - set(texts_in_loki(stack, self.service))),
            "points": self.points - sum(len(one["values"]) for one in found),
        }


def texts_in_loki(stack: Stack, service: str) -> list[str]:
    answer = stack.loki.get(
        "/loki/api/v1/query_range",
        query=f'{{service_name="{service}"}}',
        start=f"{time.time() - 3600:.0f}",
        end=f"{time.time() + 60:.0f}",
        limit="5000",
    )
    return [text for one in answer["data"]["result"] for _, text in one["values"]]


def accepted(server: Server) -> dict[str, int]:
    counted = own_metrics(server)
    return {
        what: round(counted.get(f"otelcol_receiver_accepted_{name}", 0))
        for what, name in (
            ("spans", "spans"),
            ("log records", "log_records"),
            ("points", "metric_points"),
        )
    }


def dropped(server: Server) -> float:
    """Return how many items a collector has given up."""
    return sum(
        value for name, value in own_metrics(server).items() if "exporter_send_failed" in name
    )


def test_an_outage_and_a_killed_agent_lose_nothing(
    stack: Stack, known: Credentials, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that an agent accepted arrives, after an outage without end and `kill -9`.

    By default a collector gives up what it could not send for 300 s. A second agent, which differs
    by a limit of 2 s instead, is in the same outage; it gives up. The first does not: it has no
    limit, and would go on after 300 s as after the limit of the second.
    """
    limited = folder / "limited.yaml"
    limit = {"otlp_http/gateway": {"retry_on_failure": {"max_elapsed_time": "2s"}}}
    limited.write_text(json.dumps({"exporters": limit}))
    with contextlib.ExitStack() as undo:
        with gateway(known, folder / "gateway", stack=stack) as front:
            ports, gateway_port = front.ports, front.ports["http"]
            near = undo.enter_context(
                agent(known, folder / "agent", gateway_port, OTELCOL_RETRY_MAX="1s")
            )
            other = undo.enter_context(
                agent(known, folder / "other", gateway_port, limited, OTELCOL_RETRY_MAX="1s")
            )
            sender = Sender(f"outage-{uuid.uuid4().hex[:8]}", near.ports["http"])
            sender.send(5)
            before = {"spans": 5 * ITEMS, "log records": 5 * ITEMS, "points": 5}
            until(lambda: accepted(front) == before)

        # The gateway is away.
        sender.send(10)
        Sender("given-up", other.ports["http"]).send(1)
        until(lambda: dropped(other) >= 2 * ITEMS + 1)
        assert dropped(near) == 0

        # The agent is killed while it is sent to, and comes back.
        sending = threading.Thread(target=sender.send, args=(60,))
        sending.start()
        while sender.points < 25:
            time.sleep(0.001)
        near.process.kill()
        near.process.wait()
        assert sending.is_alive()
        near = undo.enter_context(
            agent(known, folder / "agent", gateway_port, ports=near.ports, OTELCOL_RETRY_MAX="1s")
        )
        sending.join()

        # The gateway is back.
        back = undo.enter_context(gateway(known, folder / "gateway", stack=stack, ports=ports))
        with contextlib.suppress(TimeoutError):
            until(lambda: not any(sender.missing(stack).values()), seconds=60)
        lost = sender.missing(stack)
        sent = {"spans": 75 * ITEMS, "log records": 75 * ITEMS, "points": 75}
        twice = {what: before[what] + count - sent[what] for what, count in accepted(back).items()}
    with capsys.disabled():
        print(f"\noutage and kill -9: sent {sent}, lost {lost}, duplicated {twice}")
    assert lost == dict.fromkeys(sent, 0)
    assert all(count >= 0 for count in twice.values())


PROGRAM = """
import json, sys
from otel_pipeline import Pipeline, configure, get_logger

telemetry = configure()
pipeline = Pipeline("orders")
log = get_logger("orders")
for line in sys.stdin:
    for number in range(int(line)):
        with pipeline.run():
            with pipeline.stage("load"):
                log.info("loaded", number=number, text="x" * 200)
    print(json.dumps({k: dict(v) for k, v in telemetry.report().items()}), flush=True)
"""


@dataclass
class Program:
    """A program that runs the pipeline as often as it is told, and reports its ledger."""

    service: str
    process: subprocess.Popen[str]

    def run(self, times: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        report = json.loads(self.process.stdout.readline())
        return {signal: report[signal] for signal in ("traces", "logs")}

    def pending(self) -> int:
        found = self.run(0).values()
        return sum(signal["pending_memory"] + signal["pending_disk"] for signal in found)


@contextlib.contextmanager
def program(near: Server, spool: Path, service: str = "") -> Iterator[Program]:
    service = service or f"spooling-{uuid.uuid4().hex[:8]}"
    with (
        (spool.parent / "stderr").open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={
                "OTEL_SERVICE_NAME": service,
                "OTEL_EXPORTER_OTLP_ENDPOINT": near.url,
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_PIPELINE_LOG_STREAM": "stderr",
                "OTEL_PIPELINE_SPOOL_DIR": str(spool),
            },
        ) as process,
    ):
        try:
            yield Program(service, process)
        finally:
            process.communicate("", timeout=30)


def check_the_ledger(running: Program, produced: int, recovered: int = 0) -> None:
    """Wait until a program has nothing left to deliver; nothing must have been lost.

    Args:
        running: The program.
        produced: How many spans it made.
        recovered: How many spans it took over.
    """
    until(lambda: running.run(0)["traces"]["recovered"] == recovered)
    until(lambda: running.pending() == 0, seconds=90)
    report = running.run(0)
    for signal in report.values():
        assert (signal["rejected"], signal["dropped"]) == (0, 0)
        assert signal["produced"] + signal["recovered"] == signal["delivered"]
    assert report["traces"]["produced"] == produced


def check_the_backends(stack: Stack, service: str, runs: int) -> None:
    """Wait until each run's two spans and its line are there."""

    def spans() -> set[str]:
        traces = stack.jaeger.get("/api/traces", service=service, limit="1500")["data"]
        return {span["spanID"] for trace in traces for span in trace["spans"]}

    def loaded() -> int:
        return texts_in_loki(stack, service).count("loaded")

    until(lambda: len(spans()) == 2 * runs)
    until(lambda: loaded() == runs)


def test_a_full_queue_sends_back_and_the_spool_takes_over(
    stack: Stack, known: Credentials, folder: Path
) -> None:
    """An agent with a full queue answers 503; the library keeps its items, and all arrive."""
    runs = 150
    with gateway(known, folder / "gateway", stack=stack) as front:
        ports = front.ports
    with (
        agent(
            known,
            folder / "agent",
            ports["http"],
            OTELCOL_RETRY_MAX="1s",
            OTELCOL_QUEUE_BYTES="40000",
            OTELCOL_BATCH_BYTES="10000",
        ) as near,
        program(near, folder / "spool") as running,
    ):
        report = running.run(runs)
        until(lambda: own_metrics(near).get("otelcol_exporter_enqueue_failed_spans", 0) > 0)
        until(lambda: running.run(0)["traces"]["pending_disk"] > 0)
        assert post(near.ports["http"], span_request("x", {"x": 500})) == 503
        assert report["traces"]["dropped"] == 0
        with gateway(known, folder / "gateway", stack=stack, ports=ports):
            check_the_ledger(running, produced=2 * runs)
            check_the_backends(stack, running.service, runs)


def test_at_its_memory_limit_an_agent_sends_back_and_the_spool_takes_over(
    stack: Stack, known: Credentials, folder: Path
) -> None:
    """An agent above its memory limit answers 503; the next program delivers what was kept."""
    runs = 60
    with gateway(known, folder / "gateway", stack=stack) as front:
        port = front.ports["http"]
        with agent(
            known,
            folder / "agent",
            port,
            OTELCOL_MEMORY_MIB="4",
            OTELCOL_MEMORY_SPIKE_MIB="1",
        ) as near:
            until(lambda: post(near.ports["http"], span_request("x", {"x": 1})) == 503)
            ports = near.ports
            with program(near, folder / "spool") as first:
                first.run(runs)
                until(lambda: first.run(0)["traces"]["pending_disk"] == 2 * runs)
            assert own_metrics(near)["otelcol_processor_memory_limiter_refused_spans"] > 0
        with (
            agent(known, folder / "agent", port, ports=ports) as near,
            program(near, folder / "spool", first.service) as second,
        ):
            check_the_ledger(second, produced=0, recovered=2 * runs)
            check_the_backends(stack, first.service, runs)
