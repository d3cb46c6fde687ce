"""The local backend over HTTP and gRPC, with real senders."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import socket
import threading
import zlib
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcSpanExporter,
)
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_pipeline.errors import CommandError
from otel_pipeline.local import http_server
from otel_pipeline.local import receiver as receiving
from otel_pipeline.local.backend import LocalBackend, Options
from otel_pipeline.local.limits import MAX_BODY, MAX_CONNECTIONS, MAX_HEAD, MAX_WAITING
from otel_pipeline.local.otlp_json import to_json
from otel_pipeline.local.sqlite import SqliteStore
from otel_pipeline.local.store import Question
from tests.local_data import TIME, log, logs, span, spans
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_pipeline.local.store import Added

PROTOBUF = {"Content-Type": "application/x-protobuf"}
TOKEN = "a-token-of-the-tests"
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@contextlib.contextmanager
def backend_on(store: Any, **options: Any) -> Iterator[LocalBackend]:
    with LocalBackend(
        store, Options(**{"port": 0, "otlp_port": 0, "grpc_port": 0, **options})
    ) as one:
        yield one


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "local.db") as opened:
        yield opened


@pytest.fixture
def backend(store: SqliteStore) -> Iterator[LocalBackend]:
    with backend_on(store) as running:
        yield running


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


def get(backend: LocalBackend, path: str) -> Any:
    status, _, body = ask(backend.page.port, "GET", path)
    assert status == 200, body
    return json.loads(body)


def post(backend: LocalBackend, body: Any, path: str = "/v1/traces", **headers: str) -> int:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(backend.otlp.port, "POST", path, body, {**PROTOBUF, **more})[0]


def trace_ids(backend: LocalBackend) -> list[int]:
    return sorted(int(one["trace_id"], 16) for one in get(backend, "/api/traces")["items"])


# --- Receiving ------------------------------------------------------------------------------------


def test_the_sdk_s_three_signals_arrive_by_http(backend: LocalBackend) -> None:
    """OpenTelemetry's own exporters send spans, metrics and log records that the API shows."""
    traces, numbers, lines = TracerProvider(), None, LoggerProvider()
    traces.add_span_processor(
        SimpleSpanProcessor(OTLPSpanExporter(f"{backend.otlp.url}/v1/traces"))
    )
    numbers = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter(f"{backend.otlp.url}/v1/metrics"))]
    )
    lines.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(f"{backend.otlp.url}/v1/logs"))
    )
    with traces.get_tracer("t").start_as_current_span("load") as current:
        lines.get_logger("t").emit(body="loaded", severity_text="INFO")
        trace_id = f"{current.get_span_context().trace_id:032x}"
    numbers.get_meter("t").create_counter("rows").add(3, {"table": "orders"})
    for provider in (traces, numbers, lines):
        provider.shutdown()
    (trace,) = get(backend, "/api/traces")["items"]
    (line,) = get(backend, f"/api/logs?filter=trace:{trace_id}")["items"]
    (series,) = get(backend, "/api/metrics?filter=name:rows")["items"]
    assert (trace["name"], trace["trace_id"], line["body"]) == ("load", trace_id, "loaded")
    assert (series["value"], series["attributes"]) == (3.0, {"table": "orders"})


def test_the_sdk_s_spans_arrive_by_grpc(backend: LocalBackend) -> None:
    """OpenTelemetry's own gRPC exporter sends spans that the API shows."""
    traces = TracerProvider()
    endpoint = f"http://127.0.0.1:{backend.grpc_port}"
    traces.add_span_processor(SimpleSpanProcessor(GrpcSpanExporter(endpoint, insecure=True)))
    with traces.get_tracer("t").start_as_current_span("load"):
        pass
    traces.shutdown()
    assert [one["name"] for one in get(backend, "/api/traces")["items"]] == ["load"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_a_compressed_request_is_stored_before_it_is_answered(
    backend: LocalBackend, store: SqliteStore, encoding: str
) -> None:
    """When the answer is there another reader finds the spans."""
    body = spans(span(1, 1))
    pack: Any = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding]
    status, headers, answer = ask(
        backend.otlp.port,
        "POST",
        "/v1/traces",
        pack(body),
        {**PROTOBUF, "Content-Encoding": encoding},
    )
    assert (status, headers["content-type"], answer) == (200, "application/x-protobuf", b"")
    assert len(json.loads(store.traces(Question()))["items"]) == 1


def test_a_request_in_chunks_is_stored(backend: LocalBackend) -> None:
    """The length of a body need not be known beforehand."""
    body = spans(span(1, 1))
    assert post(backend, iter([body[:10], body[10:]])) == 200
    assert trace_ids(backend) == [1]


def test_json_is_stored_and_answered_with_json(backend: LocalBackend) -> None:
    """OTLP JSON has hexadecimal ids, and what it does not know is skipped."""
    document = {**to_json("traces", spans(span(1, 1))), "future": {"x": [1]}}
    status, headers, answer = ask(
        backend.otlp.port,
        "POST",
        "/v1/traces",
        json.dumps(document),
        {"Content-Type": "application/json; charset=utf-8"},
    )
    assert (status, headers["content-type"], json.loads(answer)) == (200, "application/json", {})
    assert trace_ids(backend) == [1]


def test_a_partial_success_says_what_was_left_out(backend: LocalBackend) -> None:
    """The bad span is counted and told, the good one stored."""
    body = spans({**span(2, 2), "span_id": b"short"}, span(1, 1))
    _, _, answer = ask(backend.otlp.port, "POST", "/v1/traces", body, PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (partial.rejected_spans, partial.error_message) == (1, "a span id of 5 bytes; it has 8")
    assert trace_ids(backend) == [1]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/traces", b"\x00\x01", {}, 400),
        ("/v1/traces", b"[]", {"Content-Type": "application/json"}, 400),
        ("/v1/traces", b'{"resourceSpans": 7}', {"Content-Type": "application/json"}, 400),
        ("/v1/traces", b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        ("/v1/traces", b"not gzip", {"Content-Encoding": "gzip"}, 400),
        ("/v1/traces", gzip.compress(b"x", mtime=0)[:-4], {"Content-Encoding": "gzip"}, 400),
        ("/v1/traces", b"", {"Content-Encoding": "br"}, 400),
        ("/v1/traces", b"", {"Content-Type": "text/plain"}, 415),
        ("/v1/profiles", b"", {}, 404),
        ("/v1/traces", b"x" * (MAX_BODY + 1), {}, 413),
        (
            "/v1/traces",
            gzip.compress(bytes(64 * 2**20), mtime=0),
            {"Content-Encoding": "gzip"},
            413,
        ),
        ("/v1/traces", b"", {"Host": "evil.example"}, 421),
        ("/v1/traces", b"", {"Origin": "http://evil.example"}, 403),
        ("/v1/traces", b"", {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_a_bad_request_is_refused_with_a_reason(
    backend: LocalBackend, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """The answer has the right status and says why, and the server goes on."""
    found, _, answer = ask(backend.otlp.port, "POST", path, body, {**PROTOBUF, **headers})
    if headers.get("Content-Type") == "application/json":
        message = json.loads(answer)["message"]
    else:
        message = status_pb2.Status.FromString(answer).message
    assert found == status
    assert message
    assert post(backend, spans(span(1, 1))) == 200


def test_a_bomb_is_not_unpacked(backend: LocalBackend) -> None:
    """Bodies that would unpack to a gigabyte are refused."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    bomb = b"".join(packer.compress(zeros) for _ in range(1024)) + packer.flush()
    assert post(backend, bomb, Content_Encoding="gzip") == 413


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 10),
    ],
)
def test_what_is_not_http_is_refused(backend: LocalBackend, head: bytes) -> None:
    """A broken or ambiguous head gets an answer 4xx, and the connection ends."""
    with socket.create_connection(("127.0.0.1", backend.otlp.port), timeout=10) as client:
        client.sendall(head)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


def test_too_many_connections_are_turned_away(backend: LocalBackend) -> None:
    """One more than the limit gets 503 at once; when one ends, another may come."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", backend.otlp.port), timeout=10)
            )
            for _ in range(MAX_CONNECTIONS)
        ]
        for client in clients:  # each is in use
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 404"
        with socket.create_connection(("127.0.0.1", backend.otlp.port), timeout=10) as extra:
            assert extra.recv(65536).startswith(b"HTTP/1.1 503")
    assert post(backend, spans(span(1, 1))) == 200


def test_a_sender_is_told_to_come_again_when_memory_is_short(backend: LocalBackend) -> None:
    """While others hold all the room for requests, one more gets 503; later it is stored."""
    with backend.receiver.room(MAX_WAITING):
        during = post(backend, spans(span(1, 1)))
    assert (during, post(backend, spans(span(1, 1)))) == (503, 200)


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /v1/traces HTTP/1.1\r\nHost: local",
        (
            b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
            b"Content-Type: application/x-protobuf\r\n\r\nhalf"
        ),
    ],
)
def test_a_slow_sender_is_let_go(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """A head or a body that does not come in time is answered with 408, and the connection ends."""
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(http_server, "BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", backend.otlp.port), timeout=10) as client:
        client.sendall(begun)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408")


class _StuckStore(SqliteStore):
    """A store whose disk has come to a halt."""

    def __init__(self) -> None:
        super().__init__(None)
        self.entered, self.released = threading.Event(), threading.Event()

    def add(self, signal: str, body: bytes) -> Added:
        self.entered.set()
        self.released.wait(20)
        return super().add(signal, body)


def test_a_sender_is_told_to_come_again_when_the_store_cannot_keep_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HTTP answers 503 with Retry-After, gRPC UNAVAILABLE with RetryInfo."""
    monkeypatch.setattr(receiving, "MAX_WAIT", 0.05)
    with _StuckStore() as store, backend_on(store) as backend:
        first = threading.Thread(target=post, args=(backend, spans(span(1, 1))))
        first.start()
        assert store.entered.wait(10)
        status, headers, _ = ask(
            backend.otlp.port, "POST", "/v1/traces", spans(span(1, 1)), PROTOBUF
        )
        with grpc.insecure_channel(f"127.0.0.1:{backend.grpc_port}") as channel:
            call: Any = channel.unary_unary(METHOD)
            with pytest.raises(grpc.RpcError) as raised:
                call(spans(span(1, 1)), timeout=10)
        store.released.set()
        first.join()
    error: Any = raised.value
    (details,) = (v for k, v in error.trailing_metadata() if k == "grpc-status-details-bin")
    retry = error_details_pb2.RetryInfo()
    status_pb2.Status.FromString(details).details[0].Unpack(retry)
    assert (status, headers["retry-after"]) == (503, "1")
    assert (error.code(), retry.retry_delay.seconds) == (grpc.StatusCode.UNAVAILABLE, 1)


def test_a_bad_grpc_request_is_refused(backend: LocalBackend) -> None:
    """What is not OTLP is an invalid argument, and too much is refused, compressed or not."""
    codes = []
    with grpc.insecure_channel(f"127.0.0.1:{backend.grpc_port}") as channel:
        call: Any = channel.unary_unary(METHOD)
        for body, compression in (
            (b"\x00\x01", grpc.Compression.NoCompression),
            (bytes(5 * 2**20), grpc.Compression.NoCompression),
            (bytes(200 * 2**20), grpc.Compression.Gzip),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                call(body, timeout=20, compression=compression)
            error: Any = raised.value
            codes.append(error.code())
    assert codes == [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]


def test_everything_is_passed_on(store: SqliteStore) -> None:
    """Another endpoint gets what was received."""
    with otlp_receiver() as other:
        with backend_on(store, forward=other.endpoint, forward_headers="x-key=abc") as backend:
            post(backend, spans(span(1, 1)))
            post(backend, logs(log("line")), "/v1/logs")
            other.wait_for(lambda: other.spans and other.logs)
        assert [one.name for one in other.spans] == ["work"]
        assert [one.body.string_value for one in other.logs] == ["line"]
        assert {request.headers["x-key"] for request in other.requests} == {"abc"}


def test_an_address_to_forward_to_must_be_one() -> None:
    """A wrong one is told at the start."""
    with pytest.raises(CommandError, match="no address"), backend_on(None, forward="nowhere"):
        pass


# --- The API --------------------------------------------------------------------------------------


def test_the_page_comes_with_a_strict_policy(backend: LocalBackend) -> None:
    """Its files run nothing but themselves, and none holds a script or a style in its markup."""
    status, headers, body = ask(backend.page.port, "GET", "/")
    files = re.findall(r'(?:src|href)="([^"]+)"', body.decode())
    answers = [ask(backend.page.port, "GET", path) for path in files]
    assert status == 200
    assert [code for code, _, _ in answers] == [200] * len(files)
    for _, of_file, _ in [(status, headers, body), *answers]:
        policy = of_file["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert of_file["x-content-type-options"] == "nosniff"
    assert not re.search(rb"<style|<script>|<script [^>]*>[^<]|\son\w+=|\sstyle=", body)


@pytest.mark.parametrize(
    "path", ["/page/../pages.py", "/page/%2e%2e/pages.py", "/page/", "/page//etc/passwd", "/page"]
)
def test_only_the_page_s_own_files_are_given(backend: LocalBackend, path: str) -> None:
    """No path leads out of its folder."""
    assert ask(backend.page.port, "GET", path)[0] == 404


def test_a_link_from_elsewhere_opens_the_page_but_reads_nothing(backend: LocalBackend) -> None:
    """A browser may go to the page from another site; that site's own requests are refused."""
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    going, asking = ({**elsewhere, "Sec-Fetch-Mode": mode} for mode in ("navigate", "no-cors"))
    found = [
        ask(backend.page.port, "GET", path, headers=headers)[0]
        for path in ("/", "/api/runs")
        for headers in (going, asking)
    ]
    assert found == [200, 403, 403, 403]


def test_the_stages_of_a_trace_are_summed_up(backend: LocalBackend) -> None:
    """Spans of one name count together, one that was sent twice counts once."""
    stage: dict[str, Any] = {"pipeline__name": "orders", "pipeline__stage": "load"}
    good: dict[str, Any] = {**stage, "pipeline__records__success": 5}
    bad: dict[str, Any] = {**stage, "pipeline__records__success": 1, "pipeline__records__error": 2}
    items = [
        span(1, 1, name="orders", pipeline__name="orders", pipeline__mode="batch"),
        span(1, 2, parent=1, name="orders load", start=TIME + 10, duration=100, **good),
        span(1, 3, parent=1, name="orders load", start=TIME + 50, duration=100, status=2, **bad),
        span(1, 4, parent=1, name="GET /"),
        span(2, 5, name="orders load", **good),
    ]
    post(backend, spans(*items))
    post(backend, spans(items[1]))
    _, _, body = ask(backend.page.port, "GET", f"/api/traces/{1:032x}/stages")
    document = json.loads(body)
    assert [(one["kind"], one["name"]) for one in document["items"]] == [
        ("run", "orders"),
        ("stage", "orders load"),
    ]
    assert document["items"][1] == {
        "name": "orders load",
        "kind": "stage",
        "stage": "load",
        "spans": 2,
        "errors": 1,
        "duration_ns": 200,
        "elapsed_ns": 140,
        "records": {"success": 6, "error": 2},
        "span_id": f"{2:016x}",
    }


def test_a_trace_as_otlp_can_be_imported_again(backend: LocalBackend) -> None:
    """It has all spans of that trace and no other, with their attributes."""
    post(backend, spans(span(1, 1, name="a", customer=42), span(2, 2, name="b")))
    _, _, body = ask(backend.page.port, "GET", f"/api/traces/{1:032x}/otlp")
    sent = to_json("traces", spans(span(1, 1, name="a", customer=42)))
    assert json.loads(body) == sent


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/traces/zz", 400),
        ("/api/runs?limit=x", 400),
        ("/api/runs?order=x", 400),
        ("/api/runs?before=x", 400),
        ("/api/traces?filter=statos:error", 400),
        ("/api/nothing", 404),
        ("/nothing", 404),
        (f"/api/traces/{1:032x}", 200),
        (f"/api/traces/{1:032x}/spans/{1:016x}", 200),
        (f"/api/traces/{1:032x}/stages", 200),
        (f"/api/traces/{1:032x}/otlp", 200),
        ("/api/metrics/999", 200),
        ("/api/status", 200),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    backend: LocalBackend, path: str, status: int
) -> None:
    """A wrong question gets an error that says why, an unknown id an empty list."""
    found, _, body = ask(backend.page.port, "GET", path)
    assert found == status
    document = json.loads(body)
    assert document.get("error") if status >= 400 else document.get("items", []) == []


def test_nothing_can_be_changed_by_the_api(backend: LocalBackend) -> None:
    """Only GET and HEAD are answered."""
    statuses = [
        ask(backend.page.port, method, "/api/runs")[0] for method in ("POST", "DELETE", "HEAD")
    ]
    assert statuses == [405, 405, 200]


def test_events_tell_that_something_came(backend: LocalBackend) -> None:
    """A listener hears of each change, with the numbers from which to go on."""
    connection = http.client.HTTPConnection("127.0.0.1", backend.page.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/api/events")
        response = connection.getresponse()
        first = response.readline()
        response.readline()
        post(backend, logs(log("line")), "/v1/logs")
        second = response.readline()
    assert response.getheader("content-type") == "text/event-stream"
    assert json.loads(first.removeprefix(b"data: ")) == {"spans": 0, "logs": 0, "points": 0}
    assert json.loads(second.removeprefix(b"data: ")) == {"spans": 0, "logs": 1, "points": 0}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[", "10.0.0.1"])
def test_a_page_that_turned_its_name_to_this_machine_gets_nothing(
    backend: LocalBackend, host: str
) -> None:
    """A request for another host (DNS rebinding) is refused with 421."""
    assert ask(backend.page.port, "GET", "/api/runs", headers={"Host": host})[0] == 421


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST."]
)
def test_this_machine_s_own_names_are_answered(backend: LocalBackend, host: str) -> None:
    """The names of the loopback address are right with any port."""
    assert ask(backend.page.port, "GET", "/api/runs", headers={"Host": host})[0] == 200


def test_a_page_from_elsewhere_may_not_ask(backend: LocalBackend) -> None:
    """Another origin is refused, and no answer allows one."""
    own = f"http://127.0.0.1:{backend.page.port}"
    answers = [
        ask(backend.page.port, "GET", "/api/runs", headers={"Origin": origin})
        for origin in ("http://evil.example", "null", "http://localhost:1", own)
    ]
    assert [status for status, _, _ in answers] == [403, 403, 403, 200]
    assert not any(
        name.startswith("access-control") for _, headers, _ in answers for name in headers
    )


# --- Tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "token"), [("0.0.0.0", ""), ("0.0.0.0", "short"), ("::", "")])
def test_other_machines_need_a_token(store: SqliteStore, host: str, token: str) -> None:
    """Without one, or with a short one, nothing listens on an address that others reach."""
    with pytest.raises(CommandError, match="token"), backend_on(store, host=host, token=token):
        pass


def test_with_a_token_nobody_is_answered_without_it(store: SqliteStore) -> None:
    """Senders and readers show the token, by HTTP and by gRPC."""
    right, wrong = {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": "Bearer wrong"}
    body = spans(span(1, 1))
    codes: list[Any] = []
    with backend_on(store, token=TOKEN) as backend:
        for headers in ({}, wrong, right):
            codes.append(
                ask(backend.otlp.port, "POST", "/v1/traces", body, {**PROTOBUF, **headers})[0]
            )
            codes.append(ask(backend.page.port, "GET", "/api/runs", headers=headers)[0])
        with grpc.insecure_channel(f"127.0.0.1:{backend.grpc_port}") as channel:
            call: Any = channel.unary_unary(METHOD)
            assert call(body, timeout=10, metadata=[("authorization", f"Bearer {TOKEN}")]) == b""
            with pytest.raises(grpc.RpcError) as raised:
                call(body, timeout=10)
            error: Any = raised.value
    assert codes == [401, 401, 401, 401, 200, 200]
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_link_to_the_page_works_once(store: SqliteStore) -> None:
    """It leaves a cookie for this host alone, and is of no use to who sees it later."""
    with backend_on(store, token=TOKEN) as backend:
        path = backend.page_url.removeprefix(backend.page.url)
        first, headers, _ = ask(backend.page.port, "GET", path)
        second, _, _ = ask(backend.page.port, "GET", path)
        cookie = headers["set-cookie"]
        answer, _, _ = ask(
            backend.page.port, "GET", "/api/runs", headers={"Cookie": cookie.split(";")[0]}
        )
        wrong, _, _ = ask(
            backend.page.port, "GET", "/api/runs", headers={"Cookie": "otel-pipeline-session=x"}
        )
    assert (first, headers["location"], second, answer, wrong) == (303, "/", 403, 200, 401)
    assert cookie.endswith("; HttpOnly; SameSite=Strict; Path=/")
    assert TOKEN not in cookie
