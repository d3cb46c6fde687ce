"""How many spans an agent takes, a second and a second of a processor: `… measure`.

A few threads send requests of 1,000 spans that were encoded before, over connections that stay
open. The agent sends on to a second collector, which counts and throws away. A figure is the median
of several runs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.stack.chain import agent, credentials, own_metrics, span_request
from tests.stack.programs import collector, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.stack.chain import Credentials
    from tests.stack.programs import Server

__all__ = ["measure"]

SPANS = 1_000  # in a request
THREADS = 3
RUNS = 3

_HTTP = {"http": {"endpoint": "${env:OTELCOL_HTTP}"}, "grpc": {"endpoint": "${env:OTELCOL_GRPC}"}}
_SINK = {
    "extensions": {"health_check": {"endpoint": "${env:OTELCOL_HEALTH}"}},
    "receivers": {"otlp": {"protocols": _HTTP}},
    "exporters": {"debug": {"verbosity": "basic", "sampling_initial": 1, "sampling_thereafter": 0}},
    "service": {
        "extensions": ["health_check"],
        "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["debug"]}},
        "telemetry": {
            "metrics": {
                "readers": [
                    {
                        "pull": {
                            "exporter": {
                                "prometheus": {
                                    "host": "localhost",
                                    "port": "${env:OTELCOL_METRICS_PORT}",
                                    "without_scope_info": True,
                                    "without_type_suffix": True,
                                    "without_units": True,
                                }
                            }
                        }
                    }
                ]
            }
        },
    },
}
_BARE = {"service": {"pipelines": {"traces": {"processors": ["memory_limiter"]}}}}
_MEMORY = {"exporters": {"otlp_http/gateway": {"sending_queue": {"storage": None}}}}
_UNSAFE = {"extensions": {"file_storage": {"fsync": False}}}

#: What is measured -> how it differs from `agent.yaml`.
_KINDS: Mapping[str, list[dict[str, Any]]] = {
    "queue in memory, no processors": [_BARE, _MEMORY],
    "queue on disk without fsync, no processors": [_BARE, _UNSAFE],
    "queue on disk with fsync, no processors": [_BARE],
    "`agent.yaml` with the queue in memory": [_MEMORY],
    "`agent.yaml` without fsync": [_UNSAFE],
    "`agent.yaml`": [],
}


@dataclass(frozen=True)
class _Figures:
    per_second: float
    per_cpu_second: float
    peak_bytes: int


def measure(requests: int) -> str:
    """Measure each kind of agent; return a table in Markdown.

    Args:
        requests: How many requests are sent to each agent in a run.
    """
    rows = [
        "| collector | spans a second | spans a CPU second | peak memory |",
        "|---|---:|---:|---:|",
    ]
    bodies = [_body() for _ in range(20)]
    found: dict[str, list[_Figures]] = {kind: [] for kind in _KINDS}
    with credentials() as known:
        # In turns, so that a slow spell of the machine is not one kind's.
        for _ in range(RUNS):
            for kind, changes in _KINDS.items():
                found[kind].append(_run(known, changes, bodies, requests))
    for kind, figures in found.items():
        wall = statistics.median(one.per_second for one in figures)
        processor = statistics.median(one.per_cpu_second for one in figures)
        peak = max(one.peak_bytes for one in figures)
        rows.append(
            f"| {kind} | {wall / 1000:,.0f} k | {processor / 1000:,.0f} k | {peak >> 20} MiB |"
        )
    size = statistics.mean(map(len, bodies)) / SPANS
    rows.append("")
    rows.append(
        f"{os.cpu_count()} processors, which the {THREADS} senders and the receiving collector "
        f"share; spans of {size:.0f} bytes, {requests * SPANS:,} a run, median of {RUNS} runs."
    )
    return "\n".join(rows)


def _body() -> bytes:
    attributes = {
        "pipeline.name": "orders",
        "pipeline.stage": "load",
        "pipeline.run.id": "0191f6d0-5a7c-7c54-9d5e-3d2c5e5b1a10",
        "pipeline.status": "success",
        "file": "orders-2026-11-23.csv",
    }
    kinds = {"orders load": {"attributes": attributes}}
    return span_request("orders-etl", {"orders load": SPANS}, kinds).SerializeToString()


def _run(
    known: Credentials, changes: list[dict[str, Any]], bodies: list[bytes], requests: int
) -> _Figures:
    with contextlib.ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="stack-measure-")))
        overlays = []
        for number, change in enumerate(changes):
            overlays.append(folder / f"{number}.yaml")
            overlays[-1].write_text(json.dumps(change), encoding="utf-8")
        (folder / "sink.yaml").write_text(json.dumps(_SINK), encoding="utf-8")
        sink = undo.enter_context(collector(folder / "sink.yaml"))
        server = undo.enter_context(
            agent(
                known,
                folder / "queue",
                1,
                *overlays,
                OTELCOL_GATEWAY_URL=sink.url,
                OTELCOL_FLUSH="1s",
                OTELCOL_MEMORY_MIB="1024",
            )
        )
        _send(server, bodies, 10)  # connections, and memory that it keeps
        until(lambda: _taken(sink) == 10 * SPANS)
        before, start = _processor_seconds(server), time.perf_counter()
        _send(server, bodies, requests)
        seconds = time.perf_counter() - start
        total = (requests + 10) * SPANS
        until(lambda: _taken(sink) >= total, seconds=120)
        used = _processor_seconds(server) - before
        return _Figures(requests * SPANS / seconds, requests * SPANS / used, _peak(server))


def _send(server: Server, bodies: list[bytes], requests: int) -> None:
    """Send that many requests, each until it is taken."""
    left = iter(range(requests))
    lock = threading.Lock()

    def sender() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=60)
        with contextlib.closing(connection):
            while True:
                with lock:
                    number = next(left, None)
                if number is None:
                    return
                status = 0
                while status != 200:
                    headers = {"Content-Type": "application/x-protobuf"}
                    connection.request("POST", "/v1/traces", bodies[number % len(bodies)], headers)
                    with connection.getresponse() as response:
                        response.read()
                        status = response.status

    threads = [threading.Thread(target=sender) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _taken(server: Server) -> float:
    return own_metrics(server).get("otelcol_receiver_accepted_spans", 0.0)


def _processor_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
