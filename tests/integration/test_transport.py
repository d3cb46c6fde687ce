"""Transports against real receivers: what they send, and what they make of each answer."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import os
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline.config import OtlpConfig
from otel_pipeline.errors import ConfigurationError
from otel_pipeline.sdk import transport as transport_module
from otel_pipeline.sdk.transport import Outcome, exporting, suppressed, transport_for
from otel_pipeline.version import __version__
from tests.otlp_receiver import grpc_receiver, otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_pipeline.sdk.transport import Transport
    from tests.otlp_receiver import GrpcReceiver, HttpReceiver

#: Certificates of two parties that trust only each other; they are used nowhere else.
SERVER_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIByzCCAXGgAwIBAgIUT3mB+YDEI5kIeBZx/SY1Wi1ttPYwCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZb3RlbC1waXBlbGluZSB0ZXN0IHNlcnZlcjAgFw0yNjExMjMw
OTQyNTRaGA8yMTI2MTAzMDA5NDI1NFowJDEiMCAGA1UEAwwZb3RlbC1waXBlbGlu
ZSB0ZXN0IHNlcnZlcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEnIMG1SmESy
DT561FaYmilYeWP0hfmr4FDAbngK7FaVR815HW1Nnjoa94jIHnpsz6I3bUXbVEqq
9hSoF3BfeS+jfzB9MB0GA1UdDgQWBBQolSJBzIIKl+UuKK50HEOV0FxtUDAfBgNV
HSMEGDAWgBQolSJBzIIKl+UuKK50HEOV0FxtUDAPBgNVHRMBAf8EBTADAQH/MBoG
A1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAOBgNVHQ8BAf8EBAMCAoQwCgYIKoZI
zj0EAwIDSAAwRQIhAJIOACJ77ZAv/C1Tjr+yhSuMMk5TumCDY+UO1tOtGeldAiBV
t6Lr/7SSMIz1j3ooWFelsF2v/G9znI1uwqnLRbV1hg==
-----END CERTIFICATE-----
"""
SERVER_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgokCZK9nvluYp4vVi
MNJfHd8ngBI89mDqg8xEdJhjoUKhRANCAARJyDBtUphEsg0+etRWmJopWHlj9IX5
q+BQwG54CuxWlUfNeR1tTZ46GveIyB56bM+iN21F21RKqvYUqBdwX3kv
-----END PRIVATE KEY-----
"""
CLIENT_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBzDCCAXGgAwIBAgIUCfr8ejfkpfxnm73OoY7f4nyZ44swCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZb3RlbC1waXBlbGluZSB0ZXN0IGNsaWVudDAgFw0yNjExMjMw
OTQyNTRaGA8yMTI2MTAzMDA5NDI1NFowJDEiMCAGA1UEAwwZb3RlbC1waXBlbGlu
ZSB0ZXN0IGNsaWVudDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKQdnUcvGr2s
vmDBa/a0qNkE+/lq0rWp79+hNjXrRxZWW53Z5tmG3WtxWxTzYhOfd7g2AGSLBH72
HHs7i5WGFGujfzB9MB0GA1UdDgQWBBTrkM9p6s4/iQbPtgpPUTBwkIkdgTAfBgNV
HSMEGDAWgBTrkM9p6s4/iQbPtgpPUTBwkIkdgTAPBgNVHRMBAf8EBTADAQH/MBoG
A1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAOBgNVHQ8BAf8EBAMCAoQwCgYIKoZI
zj0EAwIDSQAwRgIhAK68rpezaEq6RFt7afj5yRmLEHsrABUo3S0AZAyYZFwXAiEA
obNHoTRvYIVdU4Y2tw2rBTk4COkzO0xetHy87khOl8U=
-----END CERTIFICATE-----
"""
CLIENT_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgv658XL1gFMTBLLRi
KbBDDj1OjMQ4rR7iIZ3AqmsxyZehRANCAASkHZ1HLxq9rL5gwWv2tKjZBPv5atK1
qe/foTY160cWVlud2ebZht1rcVsU82ITn3e4NgBkiwR+9hx7O4uVhhRr
-----END PRIVATE KEY-----
"""

SLACK = 0.5  # seconds that a busy machine may add


def config(endpoint: str, **changes: Any) -> OtlpConfig:
    fields: dict[str, Any] = {
        "protocol": "http/protobuf",
        "endpoint": endpoint,
        "explicit": True,
        "headers": {},
        "timeout": 10.0,
        "compression": "none",
        "certificate": None,
        "client_certificate": None,
        "client_key": None,
        "insecure": False,
    }
    return OtlpConfig(**{**fields, **changes})


def spans(*names: str) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for name in names:
        scope.spans.add().name = name
    return bytes(request.SerializeToString())


def points() -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "m"
    metric.gauge.data_points.add().as_int = 1
    return bytes(request.SerializeToString())


def log_records() -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.log_records.add().body.string_value = "said"
    return bytes(request.SerializeToString())


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "traces": spans,
    "metrics": points,
    "logs": log_records,
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def http() -> Iterator[HttpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def grpc() -> Iterator[GrpcReceiver]:
    with grpc_receiver() as receiver:
        yield receiver


@pytest.fixture
def open_transport() -> Iterator[Callable[..., Transport]]:
    with contextlib.ExitStack() as stack:

        def opened(endpoint: str, signal: str = "traces", **changes: Any) -> Transport:
            made = transport_for(signal, config(endpoint, **changes))
            stack.callback(made.close)
            return made

        yield opened


def traces(receiver: HttpReceiver) -> str:
    return f"{receiver.endpoint}/v1/traces"


class TestHttp:
    """OTLP over HTTP."""

    @pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
    def test_a_request_arrives_whole(
        self, http: HttpReceiver, open_transport: Any, compression: str
    ) -> None:
        """The receiver sees the spans, with OTLP's content type, our name and the headers."""
        sender = open_transport(
            traces(http), compression=compression, headers={"x-tenant": "grün", "user-id": "7"}
        )
        assert sender.send(spans("a", "b"), timeout=5) == Outcome("delivered")
        assert [span.name for span in http.spans] == ["a", "b"]
        (request,) = http.requests
        assert request.path == "/v1/traces"
        assert request.headers["content-type"] == "application/x-protobuf"
        assert request.headers["user-agent"] == f"otel-pipeline/{__version__}"
        assert request.headers["host"] == http.endpoint.removeprefix("http://")
        assert request.headers["x-tenant"].encode("latin-1").decode() == "grün"
        assert request.headers["user-id"] == "7"
        assert request.headers.get("content-encoding", "none") == compression

    @pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
    def test_every_signal_reads_its_own_partial_success(
        self, http: HttpReceiver, open_transport: Any, signal: str
    ) -> None:
        """What a receiver rejected in part is counted, for each kind of item."""
        sender = open_transport(f"{http.endpoint}/v1/{signal}", signal)
        http.partial(3, "too\nold")
        assert sender.send(PAYLOADS[signal](), timeout=5) == Outcome(
            "delivered", rejected=3, reason="too old"
        )
        assert (len(http.metrics), len(http.logs)) == (signal == "metrics", signal == "logs")

    def test_one_connection_serves_many_requests(
        self, http: HttpReceiver, open_transport: Any
    ) -> None:
        """The connection is kept alive, after chunked answers and errors too."""
        sender = open_transport(traces(http))
        for behave in (http.accept, http.answer_chunked, http.answer, http.accept):
            behave()
            sender.send(spans("a"), timeout=5)
        assert (len(http.requests), http.connections) == (4, 1)

    def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(
        self, http: HttpReceiver, open_transport: Any
    ) -> None:
        """A stale connection is replaced within the same send."""
        sender = open_transport(traces(http))
        sender.send(spans("a"), timeout=5)
        http.stop()
        http.start()
        assert sender.send(spans("b"), timeout=5).kind == "delivered"
        assert [span.name for span in http.spans] == ["a", "b"]

    @pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
    def test_a_busy_receiver_asks_to_come_again(
        self, http: HttpReceiver, open_transport: Any, status: int
    ) -> None:
        """These statuses are temporary, and Retry-After in seconds is honoured."""
        sender = open_transport(traces(http))
        http.answer(status, retry_after=7)
        outcome = sender.send(spans("a"), timeout=5)
        assert (outcome.kind, outcome.retry_after) == ("retry", 7.0)
        assert outcome.reason.startswith(f"{status} ")

    @pytest.mark.parametrize(
        ("value", "low", "high"),
        [
            (100, 60, 100),
            (-100, 0, 0),
            ("-5", 0, 0),
            ("1.5", 1.5, 1.5),
        ],
        ids=["date", "past date", "negative", "fraction"],
    )
    def test_retry_after_may_be_a_date(
        self, http: HttpReceiver, open_transport: Any, value: Any, low: float, high: float
    ) -> None:
        """An HTTP date is turned into the seconds until then, and never into a negative wait."""
        if isinstance(value, int):  # seconds from now; made now, not when tests are collected
            value = email.utils.formatdate(time.time() + value, usegmt=True)
        http.answer(503, retry_after=value)
        wait = open_transport(traces(http)).send(spans("a"), timeout=5).retry_after
        assert low <= wait <= high

    @pytest.mark.parametrize("value", ["soon", "nan", "inf", ""])
    def test_a_retry_after_without_sense_is_ignored(
        self, http: HttpReceiver, open_transport: Any, value: str
    ) -> None:
        """Then our own pauses hold."""
        http.answer(503, retry_after=value)
        outcome = open_transport(traces(http)).send(spans("a"), timeout=5)
        assert (outcome.kind, outcome.retry_after) == ("retry", None)

    @pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 500, 501])
    def test_other_errors_are_for_good(
        self, http: HttpReceiver, open_transport: Any, status: int
    ) -> None:
        """Any other status means that the same request would be refused again."""
        http.answer(status, text="no  such\r\ntenant")
        outcome = open_transport(traces(http)).send(spans("a"), timeout=5)
        assert outcome.kind == "rejected"
        assert outcome.reason.startswith(f"{status} ")
        assert outcome.reason.endswith(": no such tenant")
        assert http.spans == []

    def test_the_reason_comes_from_a_protobuf_status_too(
        self, http: HttpReceiver, open_transport: Any
    ) -> None:
        """OTLP puts a google.rpc.Status in the body of an error."""
        status = Status(code=3, message="bad span id").SerializeToString()
        http.answer(400, text=status, content_type="application/x-protobuf")
        sender = open_transport(traces(http))
        assert sender.send(spans("a"), timeout=5).reason == "400 Bad Request: bad span id"
        http.answer(400, text=b"\xff\xff", content_type="application/x-protobuf")
        assert sender.send(spans("a"), timeout=5).reason == "400 Bad Request"

    def test_the_reason_is_short_and_holds_no_header(
        self, http: HttpReceiver, open_transport: Any
    ) -> None:
        """A receiver that echoes our token does not bring it onto stderr."""
        sender = open_transport(
            traces(http), headers={"authorization": "Bearer s3cret-token", "x-scope-orgid": "1"}
        )
        http.answer(401, text="token s3cret-token of tenant 1 is bad; " + "x" * 1000)
        reason = sender.send(spans("a"), timeout=5).reason
        assert reason.startswith("401 Unauthorized: token [redacted] of tenant 1 is bad; xxx")
        assert len(reason) < 250

    @pytest.mark.parametrize("content", ["{}", b"\xff\xff"], ids=["json", "broken"])
    def test_a_success_that_cannot_be_read_is_a_success(
        self, http: HttpReceiver, open_transport: Any, content: str | bytes
    ) -> None:
        """The status says that the items were taken; the rest is a remark."""
        kind = "application/json" if content == "{}" else "application/x-protobuf"
        http.answer(200, text=content, content_type=kind)
        assert open_transport(traces(http)).send(spans("a"), timeout=5) == Outcome("delivered")

    def test_a_huge_answer_is_not_read(self, http: HttpReceiver, open_transport: Any) -> None:
        """Only the start of an answer is taken in, and its connection is not used again."""
        sender = open_transport(traces(http))
        http.answer(400, text="x" * 10_000_000)
        assert len(sender.send(spans("a"), timeout=5).reason) < 250
        http.accept()
        assert sender.send(spans("b"), timeout=5).kind == "delivered"
        assert http.connections == 2

    def test_nobody_there_is_away(self, http: HttpReceiver, open_transport: Any) -> None:
        """A refused connection is known at once."""
        sender = open_transport(traces(http))
        http.stop()
        start = time.monotonic()
        assert sender.send(spans("a"), timeout=5) == Outcome("away", reason="Connection refused")
        assert time.monotonic() - start < SLACK

    def test_an_unknown_host_is_away(self, open_transport: Any) -> None:
        """A name that does not resolve is no exception."""
        outcome = open_transport("http://no-such-host.invalid/v1/traces").send(b"", timeout=5)
        assert outcome.kind == "away"
        outcome = open_transport(f"http://{'x' * 64}.invalid/v1/traces").send(b"", timeout=5)
        assert outcome.kind == "away"

    @pytest.mark.parametrize("fault", ["hang", "trickle"])
    def test_a_receiver_that_does_not_finish_its_answer_is_away(
        self, http: HttpReceiver, open_transport: Any, fault: str
    ) -> None:
        """One deadline holds for the whole exchange, also when a byte comes every second."""
        getattr(http, fault)()
        sender = open_transport(traces(http))
        start = time.monotonic()
        assert sender.send(spans("a"), timeout=1.2) == Outcome(
            "away", reason="no answer within 1.2 s"
        )
        assert 1.1 < time.monotonic() - start < 1.2 + SLACK

    def test_without_time_nothing_is_sent(self, http: HttpReceiver, open_transport: Any) -> None:
        """A deadline that is over holds for new and for kept connections."""
        sender = open_transport(traces(http))
        assert sender.send(spans("a"), timeout=0).kind == "away"
        assert sender.send(spans("b"), timeout=5).kind == "delivered"
        assert sender.send(spans("c"), timeout=0).kind == "away"
        assert [span.name for span in http.spans] == ["b"]

    def test_a_body_that_does_not_come_leaves_the_status_standing(
        self, open_transport: Any
    ) -> None:
        """After "200 OK" the items are delivered, though the rest of the answer hangs."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
        with raw_server(lambda peer: peer.sendall(head)) as port:
            sender = open_transport(f"http://127.0.0.1:{port}/v1/traces")
            assert sender.send(spans("a"), timeout=0.3) == Outcome("delivered")

    def test_a_broken_connection_is_tried_again(
        self, http: HttpReceiver, open_transport: Any
    ) -> None:
        """Somebody is there, so the request is worth another try."""
        http.break_off()
        outcome = open_transport(traces(http)).send(spans("a"), timeout=5)
        assert outcome.kind == "retry"
        assert len(http.requests) == 1

    def test_an_answer_before_the_request_was_read_counts(self, open_transport: Any) -> None:
        """A receiver that refuses a large request half-way is understood."""
        answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"

        def refuse(peer: socket.socket) -> None:
            peer.sendall(answer)
            peer.shutdown(socket.SHUT_RD)

        with raw_server(refuse, read_request=False) as port:
            sender = open_transport(f"http://127.0.0.1:{port}/v1/traces")
            outcome = sender.send(b"\0" * 20_000_000, timeout=5)
        assert outcome.kind in {"rejected", "retry"}  # the kernel may lose the answer

    def test_a_server_that_speaks_something_else_is_named(self, open_transport: Any) -> None:
        """Sending HTTP to the gRPC port is a common slip: the reason says so."""
        with raw_server(lambda peer: peer.sendall(b"\0\0\x12\4\0\0\0\0\0\r\n\r\n")) as port:
            outcome = open_transport(f"http://127.0.0.1:{port}/v1/traces").send(b"", timeout=5)
        assert outcome.kind == "rejected"
        assert "is this the gRPC port?" in outcome.reason

    def test_a_dead_address_leaves_time_for_the_next(
        self, http: HttpReceiver, open_transport: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A host's second address is tried when its first refuses."""
        port = int(http.endpoint.rpartition(":")[2])
        with closed_port() as dead:
            tcp = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
            found = [(*tcp, ("127.0.0.1", dead)), (*tcp, ("127.0.0.1", port))]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
            outcome = open_transport("http://collector/v1/traces").send(spans("a"), timeout=5)
        assert outcome.kind == "delivered"

    def test_a_host_without_addresses_is_away(
        self, open_transport: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An empty answer of the resolver is no exception."""
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [])
        outcome = open_transport("http://collector/v1/traces").send(b"", timeout=5)
        assert outcome == Outcome("away", reason="collector has no address")

    def test_a_resolver_that_hangs_holds_nobody(
        self, open_transport: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Name resolution counts towards the deadline."""
        release = threading.Event()

        def hang(*args: Any, **kwargs: Any) -> list[Any]:
            release.wait(30)
            return []

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        start = time.monotonic()
        outcome = open_transport("http://collector/v1/traces").send(b"", timeout=0.3)
        release.set()
        assert outcome == Outcome("away", reason="no connection in time")
        assert time.monotonic() - start < 0.3 + SLACK

    def test_it_works_when_no_thread_can_be_started(
        self, http: HttpReceiver, open_transport: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the interpreter ends there are no new threads, but there is a last delivery."""
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith("otel-pipeline"):
                raise RuntimeError("can't create new thread at interpreter shutdown")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert open_transport(traces(http)).send(spans("a"), timeout=5).kind == "delivered"

    def test_close_ends_a_send_under_way(self, http: HttpReceiver, open_transport: Any) -> None:
        """A thread that waits for an answer is let go at once."""
        http.hang()
        sender = open_transport(traces(http))
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: outcomes.put(sender.send(b"", timeout=30)))
        thread.start()
        http.wait_for(lambda: http.requests)
        sender.close()
        assert outcomes.get(timeout=5).kind == "retry"
        thread.join()

    def test_after_close_no_connection_is_kept(
        self, http: HttpReceiver, open_transport: Any
    ) -> None:
        """A late send works, and leaves nothing behind."""
        sender = open_transport(traces(http))
        sender.close()
        for _ in range(2):
            assert sender.send(spans("a"), timeout=5).kind == "delivered"
        assert http.connections == 2

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_forked_child_opens_a_connection_of_its_own(
        self, http: HttpReceiver, open_transport: Any
    ) -> None:
        """Parent and child never write on the same connection."""
        sender = open_transport(traces(http))
        sender.send(spans("parent"), timeout=5)
        pid = os.fork()
        if pid == 0:
            delivered = sender.send(spans("child"), timeout=5).kind == "delivered"
            os._exit(0 if delivered else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert sender.send(spans("parent"), timeout=5).kind == "delivered"
        assert [span.name for span in http.spans] == ["parent", "child", "parent"]
        assert http.connections == 2

    def test_what_it_does_is_marked_as_exporting(
        self, http: HttpReceiver, open_transport: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Instrumented libraries and log handlers can tell, during a send and only then."""
        seen = []
        connect = socket.socket.connect

        def look(*args: Any) -> None:
            seen.append(exporting())
            connect(*args)

        monkeypatch.setattr(transport_module._DeadlineSocket, "connect", look, raising=False)
        open_transport(traces(http)).send(spans("a"), timeout=5)
        assert seen == [True]
        assert not exporting()

    def test_the_endpoint_is_shown_without_its_query(self) -> None:
        """A key in the query is sent, but not shown."""
        sender = transport_for("traces", config("http://127.0.0.1:1/v1/traces?key=s3cret"))
        assert sender.endpoint == "http://127.0.0.1:1/v1/traces"

    def test_the_query_is_sent(self, http: HttpReceiver, open_transport: Any) -> None:
        """An endpoint is used as it is."""
        open_transport(f"{traces(http)}?key=s3cret").send(spans("a"), timeout=5)
        assert http.requests[0].path == "/v1/traces?key=s3cret"

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"headers": {"x-bad": "a\r\nb"}}, "the OTLP header 'x-bad' contains a line break"),
            ({"endpoint": "ftp://host/v1/traces"}, "is no http:// or https:// URL"),
            ({"endpoint": "http://:1"}, "is no http:// or https:// URL"),
            ({"endpoint": "http://host:99999"}, "bad port"),
            ({"endpoint": "https://host", "certificate": "/no/ca"}, "'/no/ca' cannot be used: No"),
            ({"endpoint": "https://host", "client_certificate": "/no/pem"}, "'/no/pem' cannot"),
        ],
    )
    def test_what_cannot_work_is_a_configuration_error(
        self, changes: dict[str, Any], says: str
    ) -> None:
        """A mistake in the settings is said at once, with what is wrong."""
        with pytest.raises(ConfigurationError) as caught:
            transport_for("traces", config(**{"endpoint": "http://host", **changes}))
        assert says in str(caught.value)


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def raw_server(
    behave: Callable[[socket.socket], None], *, read_request: bool = True
) -> Iterator[int]:
    """A server that does to one connection what it is told, and then waits for its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.settimeout(30)
                if read_request:
                    peer.recv(65536)
                behave(peer)
                while peer.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.fixture
def pem(tmp_path: Path) -> dict[str, str]:
    """Certificate files, by the names of the settings that take them."""
    files = {
        "server": SERVER_CERTIFICATE,
        "server_key": SERVER_KEY,
        "client": CLIENT_CERTIFICATE,
        "client_key": CLIENT_KEY,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return {name: str(tmp_path / name) for name in files}


def server_tls(pem: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem["server"], pem["server_key"])
    context.load_verify_locations(pem["client"])
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class TestTls:
    """TLS with an own authority and with a client's certificate."""

    def test_http_over_tls_delivers(self, pem: dict[str, str], open_transport: Any) -> None:
        """The server is checked against the given certificate, and gets the client's."""
        with otlp_receiver(server_tls(pem)) as receiver:
            sender = open_transport(
                traces(receiver),
                certificate=pem["server"],
                client_certificate=pem["client"],
                client_key=pem["client_key"],
            )
            assert sender.send(spans("a"), timeout=5) == Outcome("delivered")
            assert sender.send(spans("b"), timeout=5) == Outcome("delivered")
            assert receiver.connections == 1
            receiver.hang()
            start = time.monotonic()
            assert sender.send(spans("c"), timeout=0.3).kind == "away"
            assert time.monotonic() - start < 0.3 + SLACK

    def test_an_unknown_server_is_not_trusted(
        self, pem: dict[str, str], open_transport: Any
    ) -> None:
        """A failed handshake counts as away and says why."""
        with otlp_receiver(server_tls(pem)) as receiver:
            outcome = open_transport(traces(receiver)).send(spans("a"), timeout=5)
            assert outcome.kind == "away"
            assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason or "certificate" in outcome.reason
            assert receiver.requests == []

    def test_a_client_without_its_certificate_is_refused(
        self, pem: dict[str, str], open_transport: Any
    ) -> None:
        """A refusal after the handshake, as TLS 1.3 has it, is away as well."""
        with otlp_receiver(server_tls(pem)) as receiver:
            sender = open_transport(traces(receiver), certificate=pem["server"])
            assert sender.send(spans("a"), timeout=5).kind in {"away", "retry"}
            assert receiver.requests == []

    def test_grpc_over_tls_delivers(self, pem: dict[str, str], open_transport: Any) -> None:
        """The same files work for gRPC."""
        import grpc as grpc_library

        credentials = grpc_library.ssl_server_credentials(
            [(SERVER_KEY.encode(), SERVER_CERTIFICATE.encode())],
            CLIENT_CERTIFICATE.encode(),
            require_client_auth=True,
        )
        with grpc_receiver(credentials) as receiver:
            sender = open_transport(
                receiver.endpoint,
                protocol="grpc",
                certificate=pem["server"],
                client_certificate=pem["client"],
                client_key=pem["client_key"],
            )
            assert sender.send(spans("a"), timeout=5) == Outcome("delivered")
            strange = open_transport(receiver.endpoint, protocol="grpc", certificate=pem["client"])
            assert strange.send(spans("a"), timeout=5).kind == "away"

    def test_a_missing_file_is_a_configuration_error(self) -> None:
        """gRPC's files are read at once too."""
        with pytest.raises(ConfigurationError, match="'/no/ca' cannot be read: No such file"):
            transport_for("traces", config("https://h:1", protocol="grpc", certificate="/no/ca"))


class Proxy:
    """An HTTP proxy that forwards one host, whatever it is asked for, and keeps what it saw."""

    def __init__(self, target: str, answer: bytes = b"") -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heads: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            client.settimeout(30)
            head = client.recv(65536)
            self.heads.append(head)
            if self._answer:
                client.sendall(self._answer)
                return
            with socket.create_connection(self._target) as upstream:
                if head.startswith(b"CONNECT"):
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    upstream.sendall(head.replace(b"POST http://collector.test", b"POST ", 1))
                back = threading.Thread(target=pump, args=(upstream, client))
                back.start()
                pump(client, upstream)
                back.join()

    def stop(self) -> None:
        self._thread.join()
        self._listener.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class TestProxy:
    """The usual proxy variables."""

    def test_plain_http_goes_through_the_proxy(
        self, http: HttpReceiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The proxy is asked for the whole URL, with its own credentials."""
        proxy = Proxy(http.endpoint.removeprefix("http://"))
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        sender = transport_for("traces", config("http://collector.test/v1/traces"))
        outcome = sender.send(spans("a"), timeout=5)
        sender.close()
        proxy.stop()
        assert outcome == Outcome("delivered")
        assert proxy.heads[0].startswith(b"POST http://collector.test/v1/traces HTTP/1.1\r\n")
        assert base64.b64encode(b"me:p@ss") in proxy.heads[0]
        assert [span.name for span in http.spans] == ["a"]

    def test_https_goes_through_a_tunnel(
        self, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The proxy sees where to, and nothing else."""
        with otlp_receiver(server_tls(pem)) as receiver:
            proxy = Proxy(receiver.endpoint.removeprefix("https://"))
            monkeypatch.setenv("https_proxy", f"me:pass@127.0.0.1:{proxy.port}")
            sender = transport_for(
                "traces",
                config(
                    "https://localhost/v1/traces",
                    certificate=pem["server"],
                    client_certificate=pem["client"],
                    client_key=pem["client_key"],
                    headers={"x-key": "s3cret"},
                ),
            )
            outcome = sender.send(spans("a"), timeout=5)
            sender.close()
            proxy.stop()
            assert outcome == Outcome("delivered")
            assert receiver.requests[0].headers["x-key"] == "s3cret"
            assert "proxy-authorization" not in receiver.requests[0].headers
        assert proxy.heads[0].startswith(b"CONNECT localhost:443 HTTP/1.1\r\n")
        assert base64.b64encode(b"me:pass") in proxy.heads[0]
        assert b"s3cret" not in proxy.heads[0]

    def test_a_proxy_that_refuses_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the proxy says is the reason, and its password is not in it."""
        refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        proxy = Proxy("127.0.0.1:1", refusal)
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        sender = transport_for("traces", config("https://[::1]/v1/traces"))
        outcome = sender.send(b"", timeout=5)
        proxy.stop()
        assert outcome == Outcome(
            "away", reason="the proxy answered 407 Proxy Authentication Required"
        )
        assert proxy.heads[0].startswith(b"CONNECT [::1]:443 ")

    def test_no_proxy_is_honoured(
        self, http: HttpReceiver, open_transport: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Hosts in NO_PROXY are reached directly."""
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert open_transport(traces(http)).send(spans("a"), timeout=5).kind == "delivered"

    @pytest.mark.parametrize(
        ("proxy", "reason"),
        [
            ("socks5://127.0.0.1:1", "a socks5:// proxy is not supported, only http://"),
            ("http://127.0.0.1:port", "Port could not be cast to integer value as 'port'"),
        ],
    )
    def test_a_proxy_that_cannot_be_used_is_said(
        self, monkeypatch: pytest.MonkeyPatch, proxy: str, reason: str
    ) -> None:
        """Nothing is sent around a proxy that somebody asked for."""
        monkeypatch.setenv("HTTP_PROXY", proxy)
        sender = transport_for("traces", config("http://127.0.0.1:1/v1/traces"))
        assert sender.send(b"", timeout=5) == Outcome("away", reason=reason)


class TestGrpc:
    """OTLP over gRPC."""

    @pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
    def test_a_request_arrives_whole(
        self, grpc: GrpcReceiver, open_transport: Any, compression: str
    ) -> None:
        """The receiver sees the spans, our name, and the headers as metadata."""
        sender = open_transport(
            grpc.endpoint, protocol="grpc", compression=compression, headers={"X-Tenant": "t1"}
        )
        assert sender.send(spans("a", "b"), timeout=5) == Outcome("delivered")
        assert [span.name for span in grpc.spans] == ["a", "b"]
        headers = grpc.requests[0].headers
        assert headers["x-tenant"] == "t1"
        assert headers["user-agent"].startswith(f"otel-pipeline/{__version__} ")

    @pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
    def test_every_signal_has_its_service(
        self, grpc: GrpcReceiver, open_transport: Any, signal: str
    ) -> None:
        """Each signal reaches its own service and reads its own partial success."""
        grpc.partial(2)
        sender = open_transport(grpc.endpoint, signal, protocol="grpc")
        assert sender.send(PAYLOADS[signal](), timeout=5) == Outcome(
            "delivered", rejected=2, reason="too old"
        )
        assert (len(grpc.metrics), len(grpc.logs)) == (signal == "metrics", signal == "logs")

    def test_an_endpoint_without_a_scheme_may_be_insecure(
        self, grpc: GrpcReceiver, open_transport: Any
    ) -> None:
        """`host:port` is plain where the configuration says so, else TLS."""
        target = grpc.endpoint.removeprefix("http://")
        plain = open_transport(target, protocol="grpc", insecure=True)
        assert plain.endpoint == target
        assert plain.send(spans("a"), timeout=5).kind == "delivered"
        assert open_transport(target, protocol="grpc").send(spans("a"), timeout=5).kind == "away"

    @pytest.mark.parametrize(
        "code",
        ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"],
    )
    def test_temporary_codes_ask_to_come_again(
        self, grpc: GrpcReceiver, open_transport: Any, code: str
    ) -> None:
        """OTLP's retryable codes, with RetryInfo where the server gives it."""
        sender = open_transport(grpc.endpoint, protocol="grpc")
        grpc.answer(code, "busy")
        assert sender.send(spans("a"), timeout=5) == Outcome("retry", reason=f"{code}: busy")
        grpc.answer(code, "busy", retry_after=2.5)
        assert sender.send(spans("a"), timeout=5).retry_after == 2.5

    def test_resource_exhausted_is_temporary_only_with_retry_info(
        self, grpc: GrpcReceiver, open_transport: Any
    ) -> None:
        """Without RetryInfo the server does not expect to recover."""
        sender = open_transport(grpc.endpoint, protocol="grpc")
        grpc.answer("RESOURCE_EXHAUSTED", "full", retry_after=0)
        assert sender.send(spans("a"), timeout=5) == Outcome(
            "retry", retry_after=0.0, reason="RESOURCE_EXHAUSTED: full"
        )
        other = [("other", b"x"), ("grpc-status-details-bin", b"\xff")]
        grpc.answer("RESOURCE_EXHAUSTED", "full", extra=other)
        assert sender.send(spans("a"), timeout=5).kind == "rejected"

    def test_details_of_another_kind_are_no_retry_info(
        self, grpc: GrpcReceiver, open_transport: Any
    ) -> None:
        """Only RetryInfo speaks of waiting."""
        status = Status(code=8)
        status.details.add().Pack(Status(message="unrelated"))
        grpc.answer(
            "RESOURCE_EXHAUSTED",
            extra=[("grpc-status-details-bin", status.SerializeToString())],
        )
        outcome = open_transport(grpc.endpoint, protocol="grpc").send(spans("a"), timeout=5)
        assert (outcome.kind, outcome.retry_after) == ("rejected", None)

    @pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNAUTHENTICATED", "UNIMPLEMENTED"])
    def test_other_codes_are_for_good(
        self, grpc: GrpcReceiver, open_transport: Any, code: str
    ) -> None:
        """The reason has the code and the words, without our headers' values."""
        grpc.answer(code, "key s3cret is bad")
        sender = open_transport(grpc.endpoint, protocol="grpc", headers={"x-key": "s3cret"})
        assert sender.send(spans("a"), timeout=5) == Outcome(
            "rejected", reason=f"{code}: key [redacted] is bad"
        )

    def test_a_code_without_words_is_the_reason(
        self, grpc: GrpcReceiver, open_transport: Any
    ) -> None:
        """A server need not explain itself."""
        grpc.answer("PERMISSION_DENIED")
        sender = open_transport(grpc.endpoint, protocol="grpc")
        assert sender.send(b"", timeout=5) == Outcome("rejected", reason="PERMISSION_DENIED")

    def test_nobody_there_is_away_and_a_return_is_noticed_at_once(
        self, grpc: GrpcReceiver, open_transport: Any
    ) -> None:
        """gRPC's own pauses between attempts do not delay the next send."""
        sender = open_transport(grpc.endpoint, protocol="grpc")
        assert sender.send(spans("a"), timeout=5).kind == "delivered"
        grpc.stop()
        outcomes = [sender.send(spans("lost"), timeout=5).kind for _ in range(5)]
        assert outcomes[-1] == "away"
        grpc.start()
        assert sender.send(spans("b"), timeout=5).kind == "delivered"

    def test_an_unknown_host_is_away(self, open_transport: Any) -> None:
        """A name that does not resolve is no exception."""
        sender = open_transport("http://no-such-host.invalid:4317", protocol="grpc")
        assert sender.send(b"", timeout=5).kind == "away"

    def test_a_receiver_that_never_answers_is_away(
        self, grpc: GrpcReceiver, open_transport: Any
    ) -> None:
        """The deadline holds, with a server that takes the call and with one that is mute."""
        grpc.hang()
        start = time.monotonic()
        sender = open_transport(grpc.endpoint, protocol="grpc")
        assert sender.send(spans("a"), timeout=0.3).kind == "away"
        with socket.create_server(("127.0.0.1", 0)) as mute:
            target = f"http://127.0.0.1:{mute.getsockname()[1]}"
            assert open_transport(target, protocol="grpc").send(b"", timeout=0.3).kind == "away"
        assert time.monotonic() - start < 0.6 + SLACK

    def test_a_forked_child_opens_a_channel_of_its_own(self) -> None:
        """Parent and child both deliver, and both end."""
        with grpc_receiver_process() as (endpoint, count):
            program = FORKING.format(endpoint=endpoint, payload=spans("a"))
            ended = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert ended.stdout.split() == ["delivered", "delivered", "0", "delivered"], ended
            assert count() == 3


#: A child may find that gRPC lost its first stream over the fork; then it comes again.
FORKING = """
import os, sys
from otel_pipeline.config import OtlpConfig
from otel_pipeline.sdk.transport import transport_for

sender = transport_for("traces", OtlpConfig(
    "grpc", {endpoint!r}, True, {{}}, 10.0, "none", None, None, None, True))

def send():
    for _ in range(3):
        if (outcome := sender.send({payload!r}, timeout=5)).kind != "retry":
            break
    print(outcome.kind, flush=True)

send()
pid = os.fork()
if pid == 0:
    send()
    sender.close()
    sys.exit(0)
print(os.waitpid(pid, 0)[1], flush=True)
send()
sender.close()
"""

SERVING = """
import sys
from tests.otlp_receiver import grpc_receiver

with grpc_receiver() as receiver:
    print(receiver.endpoint, flush=True)
    sys.stdin.readline()
    print(len(receiver.spans), flush=True)
"""


@contextlib.contextmanager
def grpc_receiver_process() -> Iterator[tuple[str, Callable[[], int]]]:
    """A receiver in a process of its own, since gRPC's server threads do not fork well."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        endpoint = process.stdout.readline().strip()

        def count() -> int:
            said, _ = process.communicate("\n", timeout=30)
            return int(said)

        yield endpoint, count


@given(st.text(), st.dictionaries(st.text(max_size=5), st.text(min_size=4), max_size=3))
def test_words_of_a_receiver_are_one_short_line_without_header_values(
    text: str, headers: dict[str, str]
) -> None:
    """Whatever a receiver says can be printed."""
    clean = transport_module._Words(headers).clean(text)
    assert clean.isprintable()
    assert len(clean) <= 200
    assert clean == clean.strip()


def test_suppressed_marks_the_block_and_nothing_else() -> None:
    """The mark is gone after the block, also after an exception."""
    assert not exporting()
    seen = []
    with contextlib.suppress(KeyError), suppressed():
        seen.append(exporting())
        raise KeyError
    assert seen == [True]
    assert not exporting()


def test_neither_grpc_nor_requests_is_loaded_for_http() -> None:
    """Only the chosen protocol's stack is imported."""
    program = (
        "import sys\n"
        "from otel_pipeline.config import OtlpConfig\n"
        "from otel_pipeline.sdk.transport import transport_for\n"
        "transport_for('traces', OtlpConfig('http/protobuf', 'http://127.0.0.1:1/v1/traces',\n"
        "    False, {}, 10.0, 'none', None, None, None, False))\n"
        "print([m for m in ('grpc', 'requests', 'urllib3', 'opentelemetry.sdk')"
        " if m in sys.modules])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.strip() == "[]"
