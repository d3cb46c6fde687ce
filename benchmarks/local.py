"""The local backend: what it costs to store spans, beside Jaeger, and how soon it answers.

It runs as the command does, in a process of its own, and is spoken to by HTTP alone. Questions are
asked with a million spans stored.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import json
import os
import random
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.measure import Side, benchmark
from otel_pipeline.semconv import Attr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Work

__all__ = ["BENCHMARKS"]

#: In a request, as many as the SDK sends.
_SPANS: Final = 512
_TRACES: Final = 16
_STORED: Final = int(os.environ.get("BENCHMARK_SPANS", "1000000"))
_QUESTIONS: Final = 200
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START: Final = 1_700_000_000 * 10**9
#: Spans per processor second, as a share of Jaeger's.
_SHARE: Final = 0.6


class Requests:
    """Makes export requests that differ in their ids, times and customers."""

    def __init__(self, spans: int = _SPANS, traces: int = _TRACES) -> None:
        self._traces = traces
        self._each = spans // traces
        self._made = 0
        body = self._template().SerializeToString()
        self._body = bytearray(body)
        self._places = {
            name: [found.start() for found in re.finditer(pattern, body, re.DOTALL)]
            for name, pattern in (
                ("trace", rb"T{16}"),
                ("span", rb"S{8}"),
                ("parent", rb"P{8}"),
                ("run", rb"R{12}"),
                ("customer", rb"C{6}"),
            )
        }

    def _template(self) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add()
        group.resource.attributes.add(key="service.name").value.string_value = "benchmark"
        scope = group.scope_spans.add()
        scope.scope.name = "otel_pipeline"
        for number in range(self._traces * self._each):
            stage = number % self._each
            span = scope.spans.add(
                trace_id=b"T" * 16,
                span_id=b"S" * 8,
                parent_span_id=b"P" * 8 if stage else b"",
                name=f"orders stage{stage % 7}" if stage else "orders",
                kind=1,
                start_time_unix_nano=_START + number * 1000,
                end_time_unix_nano=_START + number * 1000 + random.randrange(10**9),
            )
            attributes: dict[str, Any] = {
                Attr.PIPELINE_NAME: "orders",
                Attr.RUN_ID: "R" * 12,
                Attr.STATUS: "success",
                f"{Attr.RECORDS}success": 1000,
                "customer.id": "C" * 6,
                "host.name": "worker-1",
            }
            attributes |= (
                {Attr.STAGE: f"stage{stage % 7}"} if stage else {Attr.PIPELINE_MODE: "batch"}
            )
            for key, value in attributes.items():
                pair = span.attributes.add(key=key).value
                if isinstance(value, int):
                    pair.int_value = value
                else:
                    pair.string_value = value
        return request

    def next(self) -> bytes:
        """Return the next request."""
        body, each = self._body, self._each
        ids = [os.urandom(16) for _ in range(self._traces)]
        for number, place in enumerate(self._places["trace"]):
            body[place : place + 16] = ids[number // each]
        roots = []
        for number, place in enumerate(self._places["span"]):
            new = os.urandom(8)
            body[place : place + 8] = new
            if number % each == 0:
                roots.append(new)
        for number, place in enumerate(self._places["parent"]):
            body[place : place + 8] = roots[number // (each - 1)]
        for number, place in enumerate(self._places["run"]):
            body[place : place + 12] = ids[number // each].hex()[:12].encode()
        for number, place in enumerate(self._places["customer"]):
            customer = self._made * self._traces * each + number
            body[place : place + 6] = b"%06d" % (customer % 1_000_000)
        self._made += 1
        return bytes(body)


@dataclass
class Server:
    """A process that takes OTLP."""

    pid: int
    otlp: str
    page: str = ""
    large_trace: str = ""
    _connections: dict[str, http.client.HTTPConnection] = field(default_factory=dict)

    def post(self, body: bytes) -> None:
        """Send a request; it must be taken."""
        headers = {"Content-Type": "application/x-protobuf"}
        self._ask(self.otlp, "POST", "/v1/traces", body, headers)

    def get(self, path: str) -> bytes:
        """Ask the API."""
        return self._ask(self.page, "GET", path)

    def _ask(self, url: str, *request: Any) -> bytes:
        host = url.removeprefix("http://")
        connection = self._connections.setdefault(url, http.client.HTTPConnection(host, timeout=60))
        connection.request(*request)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            message = f"{url}: {response.status} {content[:200]!r}"
            raise RuntimeError(message)
        return content

    def cpu(self) -> float:
        """Return the processor seconds that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> int:
        """Return the bytes that it holds in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kilobytes) * 1024


@contextlib.contextmanager
def ui() -> Iterator[Server]:
    """Run `otel-pipeline ui` on a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "otel_pipeline", "ui", "--port", "0", "--otlp-port", "0",
            "--grpc-port", "0", "--max-bytes", "16G", "--store", f"{folder}/local.db",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().decode().split() for _ in range(3)]
            yield Server(process.pid, lines[1][-1], lines[0][-1].rstrip("/"))
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


def _storing(server: Server, requests: Requests) -> Work:
    def work(count: int) -> float:
        bodies = [requests.next() for _ in range(count)]
        before = server.cpu()
        for body in bodies:
            server.post(body)
        return server.cpu() - before

    return work


@benchmark(
    "local-ingest",
    f"processor time of a stored request of {_SPANS} spans",
    threads=(1,),
    least=60,
    most=60,
)
def ingest() -> Iterator[list[Side]]:
    """Store spans in the local backend, and in Jaeger's memory."""
    from tests.stack.programs import jaeger

    requests = Requests()
    with ui() as ours, jaeger() as server:
        theirs = Server(server.process.pid, server.url_of("otlp_http"))
        yield [
            Side("otel-pipeline ui", _storing(ours, requests)),
            Side("Jaeger all-in-one, in memory", _storing(theirs, requests), 1 / _SHARE),
        ]


# --- Answers with a million spans stored ----------------------------------------------------------


@functools.cache
def _full() -> Server:
    """Return a backend that has the spans, and one trace of 10,000; it ends with this process."""
    undo = contextlib.ExitStack()
    server = undo.enter_context(ui())
    atexit.register(undo.close)
    requests = Requests()
    since = time.perf_counter()
    for _ in range(_STORED // _SPANS):
        server.post(requests.next())
    took = time.perf_counter() - since
    server.post(Requests(10_000, 1).next())
    (last,) = json.loads(server.get("/api/traces?limit=1&filter=service:benchmark"))["items"]
    server.large_trace = last["trace_id"]
    print(
        f"{_STORED} spans stored at {_STORED / took:.0f} a second,"
        f" {_STORED / server.cpu():.0f} a processor second;"
        f" {server.memory() / 2**20:.0f} MiB in memory",
        file=sys.stderr,
    )
    return server


def _slowest(server: Server, path: Callable[[int], str], questions: int) -> Work:
    """Return the time within which 99 of 100 questions are answered, as a client sees it."""

    def work(count: int) -> float:
        times = []
        for number in range(questions):
            since = time.perf_counter()
            server.get(path(number))
            times.append(time.perf_counter() - since)
        if len(times) < 10:
            return statistics.median(times) * count
        return sorted(times)[int(len(times) * 0.99) - 1] * count

    return work


def _answers(
    path: Callable[[Server], Callable[[int], str]],
    goal: float,
    *,
    questions: int = _QUESTIONS,
    busy: bool = False,
) -> Callable[[], Iterator[list[Side]]]:
    """Compare with the goal, which is a time."""

    def sides() -> Iterator[list[Side]]:
        server = _full()
        ask = path(server)
        with _ingesting(server) if busy else contextlib.nullcontext():
            yield [
                Side("otel-pipeline ui", _slowest(server, ask, questions)),
                Side(f"{goal * 1000:.0f} ms", lambda count: goal * count, 1.0),
            ]

    return sides


@contextlib.contextmanager
def _ingesting(server: Server) -> Iterator[None]:
    """Store spans meanwhile, as fast as it goes."""
    command = [sys.executable, "-c", _FEED, server.otlp]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        select.select([process.stdout], [], [], 30)  # it has begun
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


_FEED: Final = """
import sys
from benchmarks.local import Requests, Server
server, requests = Server(0, sys.argv[1]), Requests()
server.post(requests.next())
print("begun", flush=True)
while True:
    server.post(requests.next())
"""


def _trace_ids(server: Server) -> list[str]:
    ids = []
    before = ""
    for _ in range(10):
        page = json.loads(server.get(f"/api/runs?limit=1000&before={before}"))
        ids += [run["trace_id"] for run in page["items"]]
        before = page["next"] or ""
    return random.Random(1).sample(ids, _QUESTIONS)


def _trace(server: Server) -> Callable[[int], str]:
    ids = _trace_ids(server)
    return lambda number: f"/api/traces/{ids[number]}"


def _large_trace(server: Server) -> Callable[[int], str]:
    return lambda _: f"/api/traces/{server.large_trace}"


def _search(text: str) -> Callable[[Server], Callable[[int], str]]:
    return lambda _: lambda _: f"/api/traces?filter={quote(text)}"


BENCHMARKS: Final = (
    ingest,
    *(
        benchmark(name, title, threads=(1,), least=1, most=1)(sides)
        for name, title, sides in (
            (
                "local-runs",
                "newest 100 runs, p99",
                _answers(lambda _: lambda _: "/api/runs", 0.005),
            ),
            ("local-trace", "a trace by its id, p99", _answers(_trace, 0.005)),
            (
                "local-runs-busy",
                "newest 100 runs while storing, p99",
                _answers(lambda _: lambda _: "/api/runs", 0.01, busy=True),
            ),
            (
                "local-trace-busy",
                "a trace by its id while storing, p99",
                _answers(_trace, 0.01, busy=True),
            ),
            (
                "local-large-trace",
                "a trace of 10,000 spans",
                _answers(_large_trace, 0.05, questions=3),
            ),
            (
                "local-attribute",
                "spans with an attribute that few have",
                _answers(_search("attr.customer.id=000777"), 0.25, questions=3),
            ),
            (
                "local-no-attribute",
                "spans with an attribute that none has",
                _answers(_search("attr.customer.id=nobody"), 0.25, questions=3),
            ),
            (
                "local-text",
                "spans with a word that few have",
                _answers(_search('"000777"'), 0.25, questions=3),
            ),
        )
    ),
)
