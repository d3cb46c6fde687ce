"""The server of `/metrics`, over real connections."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource

from otel_pipeline import diagnostics
from otel_pipeline.metrics import REGISTRY, Counter, Gauge, Registry
from otel_pipeline.sdk import metrics_server
from otel_pipeline.sdk.metrics_server import MetricsServer, default_exposition, start_http_server
from otel_pipeline.sdk.prometheus import Exposition
from otel_pipeline.sdk.sdk_reader import SnapshotReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

#: A certificate for localhost that signs itself, and its key; of no use elsewhere.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUUnnij7GWQ4mVr8HXZauE/gqouKYwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA5NTkzMVoYDzIxMjYxMDMw
MDk1OTMxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATf9p+ASu2uUkAIMf0xFsdl6YsjHOBJQuFpC+gJc4Jo48AIH/nydYL8
wp/EK5x83yYgLDz3fs9hWaiH2GE0CfpTo28wbTAdBgNVHQ4EFgQUr8ScNMUyUtT+
d262ETGE53mmxtUwHwYDVR0jBBgwFoAUr8ScNMUyUtT+d262ETGE53mmxtUwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgL1jyEFJ25b1ThO1hOi7611985qPcGhCNDsLiauaqOCUCIQDX
HwwZPxHTjcB09yzFG+6nigZM/j9r8GmLdvd3skmnRg==
-----END CERTIFICATE-----
"""
KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJa77W5fhz3LDbzWU
ZQiqRfDzVLTqHZKuQgOFhGIsp8OhRANCAATf9p+ASu2uUkAIMf0xFsdl6YsjHOBJ
QuFpC+gJc4Jo48AIH/nydYL8wp/EK5x83yYgLDz3fs9hWaiH2GE0CfpT
-----END PRIVATE KEY-----
"""


class Answer:
    """One response, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()


def ask(
    server: MetricsServer,
    path: str = "/metrics",
    method: str = "GET",
    body: bytes | None = None,
    **headers: str,
) -> Answer:
    connection = http.client.HTTPConnection("localhost", server.port, timeout=10)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        return Answer(connection.getresponse())


def send_raw(server: MetricsServer, data: bytes) -> bytes:
    with socket.create_connection(("localhost", server.port), timeout=10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status(server: MetricsServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(server, "/status").body)
    return found


def serve(render: Callable[..., tuple[bytes, str]]) -> MetricsServer:
    return MetricsServer("localhost", 0, render)


@pytest.fixture
def registry() -> Registry:
    diagnostics.forget()
    registry = Registry()
    Counter("orders", "Orders", registry=registry).inc(3)
    Gauge("queue", "Waiting", registry=registry).set(2)
    return registry


@pytest.fixture
def server(registry: Registry) -> Iterator[MetricsServer]:
    exposition = Exposition(registry.collect)
    with MetricsServer("localhost", 0, exposition.render, lambda: {"service": "shop"}) as server:
        yield server


TEXT = b"""# HELP orders_total Orders
# TYPE orders_total counter
orders_total 3.0
# HELP queue Waiting
# TYPE queue gauge
queue 2.0
"""


class TestMetrics:
    """The page itself."""

    def test_is_text_by_default(self, server: MetricsServer) -> None:
        """A client that asks for nothing special gets text 0.0.4."""
        answer = ask(server)
        assert (answer.status, answer.body) == (200, TEXT)
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["Content-Length"] == str(len(TEXT))

    def test_is_openmetrics_where_asked_for(self, server: MetricsServer) -> None:
        """The Accept header decides, several of them together."""
        answer = ask(server, Accept=OPENMETRICS)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.body.endswith(b"# EOF\n")
        twice = send_raw(
            server,
            b"GET /metrics HTTP/1.1\r\nAccept: text/html\r\n"
            b"ACCEPT: application/openmetrics-text\r\n\r\n",
        )
        assert twice.endswith(b"# EOF\n")

    def test_head_has_no_body(self, server: MetricsServer) -> None:
        """But the headers that GET has."""
        answer = ask(server, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(TEXT))

    @pytest.mark.parametrize(
        ("accepted", "zipped"),
        [
            ("gzip", True),
            ("deflate, GZIP;q=0.5", True),
            ("gzip;q=0", False),
            ("gzip; q=0.00", False),
            ("identity", False),
        ],
    )
    def test_is_gzipped_where_accepted(
        self, server: MetricsServer, accepted: str, zipped: bool
    ) -> None:
        """And only there."""
        answer = ask(server, Accept_Encoding=accepted)
        assert answer.headers["Content-Encoding"] == ("gzip" if zipped else None)
        assert (gzip.decompress(answer.body) if zipped else answer.body) == TEXT

    def test_can_be_asked_for_some_names(self, server: MetricsServer) -> None:
        """`?name[]=` chooses samples, in its escaped form too."""
        assert ask(server, "/metrics?name[]=queue").body == TEXT[TEXT.index(b"# HELP queue") :]
        assert ask(server, "/metrics?name%5B%5D=queue&name%5B%5D=orders_total").body == TEXT

    def test_a_proxys_form_of_the_address_is_understood(self, server: MetricsServer) -> None:
        """The whole URL may stand in the request line."""
        answer = send_raw(server, b"GET http://localhost/metrics HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(TEXT)


class TestOtherPages:
    """What else the server answers."""

    def test_status_tells_who_serves(self, server: MetricsServer) -> None:
        """The service, the process, since when; nobody has scraped yet."""
        found = status(server)
        assert time.time() - 60 < found.pop("started") <= time.time()
        assert found == {"service": "shop", "pid": os.getpid(), "last_scrape": None}

    def test_status_tells_of_the_last_scrape(self, server: MetricsServer) -> None:
        """When, from where, and by what; the doctor's own and HEAD do not count."""
        ask(server, User_Agent="otel-pipeline-doctor/1.0")
        ask(server, method="HEAD", User_Agent="curl")
        assert status(server)["last_scrape"] is None
        ask(server, User_Agent="Prometheus/3.0")
        ask(server, User_Agent="otel-pipeline-doctor")
        scrape = status(server)["last_scrape"]
        assert time.time() - 60 < scrape.pop("time") <= time.time()
        assert scrape == {"address": "127.0.0.1", "user_agent": "Prometheus/3.0"}

    def test_the_root_names_both(self, server: MetricsServer) -> None:
        """A person who opens the address finds the way."""
        answer = ask(server, "/")
        assert answer.status == 200
        assert b"/metrics" in answer.body
        assert b"/status" in answer.body

    def test_other_paths_are_not_found(self, server: MetricsServer) -> None:
        """And say what there is."""
        assert ask(server, "/favicon.ico").status == 404
        assert ask(server, "/metrics/").status == 404

    def test_other_methods_are_not_allowed(self, server: MetricsServer) -> None:
        """A body does not keep the answer from arriving."""
        answer = ask(server, method="POST", body=b"x" * 20_000)
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"


class TestBadClients:
    """Clients that are slow, wrong or many."""

    @pytest.mark.parametrize(
        "data",
        [b"hello\r\n\r\n", b"GET /metrics\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000],
    )
    def test_what_is_no_request_is_refused(self, server: MetricsServer, data: bytes) -> None:
        """Also headers without an end."""
        assert send_raw(server, data).startswith(b"HTTP/1.1 400 Bad Request\r\n")

    def test_an_address_that_cannot_be_parsed_is_no_crash(
        self, server: MetricsServer, capsys: Any
    ) -> None:
        """It is a bad answer to one client, and said once."""
        answer = send_raw(server, b"GET //[/metrics HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert "a request to" in capsys.readouterr().err
        assert ask(server).status == 200

    def test_one_that_leaves_at_once_does_no_harm(self, server: MetricsServer) -> None:
        """A port scan prints nothing and breaks nothing."""
        socket.create_connection(("localhost", server.port)).close()
        assert ask(server).status == 200

    def test_a_slow_one_is_left(self, server: MetricsServer, monkeypatch: Any) -> None:
        """The whole request has a time limit, not each byte."""
        monkeypatch.setattr(metrics_server, "_READ_SECONDS", 0.3)
        with socket.create_connection(("localhost", server.port), timeout=10) as connection:
            begun = time.monotonic()
            with contextlib.suppress(OSError):
                for byte in b"GET /metrics HTTP/1.1" * 100:
                    connection.sendall(bytes([byte]))
                    connection.settimeout(0.05)
                    with contextlib.suppress(TimeoutError):
                        if not connection.recv(1):
                            break
            assert 0.2 < time.monotonic() - begun < 3

    def test_so_many_at_once_are_served_and_the_others_wait(self, monkeypatch: Any) -> None:
        """All get their answer in the end."""
        monkeypatch.setattr(metrics_server, "_MOST_REQUESTS", 2)
        under_way: list[int] = []
        most = []
        enough = threading.Event()

        def render(*_: Any) -> tuple[bytes, str]:
            under_way.append(1)
            most.append(len(under_way))
            if len(most) >= 2:
                enough.set()
            enough.wait(10)
            under_way.pop()
            return b"done", "text/plain"

        with serve(render) as server, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(server).body, range(8)))
        assert answers == [b"done"] * 8
        assert max(most) == 2

    def test_a_page_that_fails_is_an_answer(self, capsys: Any) -> None:
        """The server lives on, and says it once."""
        diagnostics.forget()

        def render(*_: Any) -> tuple[bytes, str]:
            raise RuntimeError("no luck")

        with serve(render) as server:
            assert [ask(server).status, ask(server).status] == [500, 500]
            assert ask(server, "/status").status == 200
        assert capsys.readouterr().err.count("no luck") == 1

    def test_without_threads_connections_are_closed(
        self, server: MetricsServer, monkeypatch: Any
    ) -> None:
        """A program at its limit, or at its end, gets no exception from the server."""

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert send_raw(server, b"") == b""
        assert ask(server).status == 200

    def test_without_file_descriptors_the_server_waits(
        self, server: MetricsServer, monkeypatch: Any
    ) -> None:
        """It serves again when there are some."""
        assert ask(server).status == 200  # its thread has begun to listen
        listener = server._listener
        failed = threading.Event()

        class Exhausted:
            def accept(self) -> Any:
                server._listener = listener
                failed.set()
                raise OSError(24, "Too many open files")

        monkeypatch.setattr(server, "_listener", Exhausted())
        assert ask(server).status == 200
        assert failed.is_set()


class TestLife:
    """Starting and stopping."""

    def test_a_busy_port_is_the_callers_to_handle(self, server: MetricsServer) -> None:
        """Nothing is left open."""
        with pytest.raises(OSError, match="in use"):
            MetricsServer("localhost", server.port, Exposition(list).render)

    def test_an_unknown_host_is_an_oserror(self) -> None:
        """Like a busy port."""
        with pytest.raises(OSError, match=r".+"):
            MetricsServer("no-such-host.invalid", 0, Exposition(list).render)

    def test_stop_frees_the_port_at_once(self, registry: Registry) -> None:
        """Even with an idle connection and a request under way; again it does nothing."""
        asked, release = threading.Event(), threading.Event()

        def render(*_: Any) -> tuple[bytes, str]:
            asked.set()
            release.wait(10)
            return b"late", "text/plain"

        server = serve(render)
        with (
            socket.create_connection(("localhost", server.port)),
            ThreadPoolExecutor(1) as pool,
        ):
            late = pool.submit(ask, server)
            assert asked.wait(10)
            begun = time.monotonic()
            server.stop()
            assert time.monotonic() - begun < 0.5
            assert not server.thread.is_alive()
            with MetricsServer(
                "localhost", server.port, Exposition(registry.collect).render
            ) as new:
                assert ask(new).body == TEXT
            release.set()
            assert late.result().body == b"late"
        server.stop()

    def test_stop_does_not_wait_for_a_free_slot(self) -> None:
        """A server that is full stops as fast."""
        waits = threading.Event()

        class Full(threading.Semaphore):
            def acquire(self, *args: Any, **kwargs: Any) -> bool:
                waits.set()
                return super().acquire(*args, **kwargs)

        server = serve(Exposition(list).render)
        assert ask(server).status == 200
        server._slots = Full(0)
        with socket.create_connection(("localhost", server.port)):
            assert waits.wait(10)
            begun = time.monotonic()
            server.stop()
            assert time.monotonic() - begun < 0.5
            assert not server.thread.is_alive()

    def test_it_has_a_thread_of_its_name(self, server: MetricsServer) -> None:
        """A daemon, so that it never keeps a program from ending."""
        assert (server.thread.name, server.thread.daemon) == ("otel-pipeline-metrics", True)

    @pytest.mark.parametrize(
        ("host", "shown"),
        [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost")],
    )
    def test_the_url_can_be_opened(self, host: str, shown: str) -> None:
        """A wildcard is shown as what one can open."""
        with MetricsServer(host, 0, Exposition(list).render) as server:
            assert server.url == f"http://{shown}:{server.port}/metrics"
            assert ask(server).status == 200

    @pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
    def test_ipv6_hosts_work(self) -> None:
        """Their URL has brackets."""
        try:
            server = MetricsServer("::1", 0, Exposition(list).render)
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        with server:
            assert server.url == f"http://[::1]:{server.port}/metrics"
            connection = http.client.HTTPConnection("::1", server.port, timeout=10)
            with contextlib.closing(connection):
                connection.request("GET", "/metrics")
                assert Answer(connection.getresponse()).status == 200

    def test_it_does_not_keep_a_program_from_ending(self) -> None:
        """Nothing needs to be stopped, and nothing is printed."""
        ended = run("""
            from otel_pipeline.sdk.metrics_server import start_http_server
            start_http_server(0, "localhost")
        """)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_does_not_hold_the_port(self) -> None:
        """When the parent stops serving the port is free, though the child lives on."""
        ended = run("""
            import os, socket, warnings
            from otel_pipeline.sdk.metrics_server import start_http_server
            warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads
            server, thread = start_http_server(0, "localhost")
            forked, to_child = os.pipe(), os.pipe()
            pid = os.fork()
            if not pid:
                os.write(forked[1], b".")
                server.shutdown()
                os.read(to_child[0], 1)
                os._exit(0)
            os.read(forked[0], 1)
            socket.create_connection(("localhost", server.port)).close()
            server.shutdown()
            try:
                socket.create_connection(("localhost", server.port)).close()
            except ConnectionRefusedError:
                print("free")
            os.write(to_child[1], b".")
            print(os.waitpid(pid, 0)[1])
        """)
        assert (ended.stdout, ended.stderr) == ("free\n0\n", "")


def run(script: str) -> subprocess.CompletedProcess[str]:
    import textwrap

    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextlib.contextmanager
def started(*args: Any, **kwargs: Any) -> Iterator[MetricsServer]:
    server, thread = start_http_server(0, "localhost", *args, **kwargs)
    yield server
    server.shutdown()
    thread.join(5)
    assert not thread.is_alive()


class TestStartHttpServer:
    """prometheus_client's function of that name."""

    def test_serves_every_metric_of_the_program(self) -> None:
        """Those of the default registry, before `configure()` too."""
        undo = REGISTRY.stash()
        Counter("endpoint_test_orders", "Orders").inc(3)
        with started() as server:
            assert b"\nendpoint_test_orders_total 3.0\n" in ask(server).body
        undo()

    def test_serves_what_the_sdk_recorded(self) -> None:
        """Once a reader is attached to the page of the process."""
        provider = MeterProvider(shutdown_on_exit=False)
        provider.add_metric_reader(reader := SnapshotReader())
        provider.get_meter("scope").create_counter("endpoint.test.sdk").add(7)
        undo = default_exposition().attach(reader, Resource({"service.name": "shop"}))
        with started() as server:
            body = ask(server).body
            undo()
            assert b"\nendpoint_test_sdk_total 7.0\n" in body
            assert b'\ntarget_info{service_name="shop"} 1.0\n' in body
            assert b"endpoint_test_sdk" not in ask(server).body
        provider.shutdown()

    def test_serves_a_registry_of_ones_own(self, registry: Registry) -> None:
        """And nothing else."""
        with started(registry) as server:
            assert ask(server).body == TEXT

    def test_serves_a_registry_of_prometheus_client(self) -> None:
        """Names can be asked for, and a wrong Accept header is no failure."""
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.Gauge("queue", "Waiting", registry=registry).set(2)
        prometheus_client.Gauge("other", "Other", registry=registry)
        with started(registry) as server:
            expected = b"# HELP queue Waiting\n# TYPE queue gauge\nqueue 2.0\n"
            assert ask(server, "/metrics?name[]=queue").body == expected
            wrong = ask(server, Accept="application/openmetrics-text;version=new")
            assert expected in wrong.body

    def test_serves_an_instrument_that_prometheus_client_registered(self) -> None:
        """The library's instruments can be registered there."""
        registry = prometheus_client.CollectorRegistry()
        Counter("orders", "Orders", registry=registry).inc(3)
        with started(registry) as server:
            assert b"orders_total 3.0\n" in ask(server).body

    def test_serves_at_the_root_too(self, registry: Registry) -> None:
        """As prometheus_client does."""
        with started(registry) as server:
            assert ask(server, "/").body == TEXT

    def test_a_busy_port_raises(self, server: MetricsServer) -> None:
        """As there."""
        with pytest.raises(OSError, match="in use"):
            start_http_server(server.port, "localhost")

    def test_speaks_tls(self, registry: Registry, tmp_path: Path) -> None:
        """With a certificate and its key; a client without TLS harms nobody."""
        (tmp_path / "cert").write_text(CERTIFICATE)
        (tmp_path / "key").write_text(KEY)
        with started(
            registry,
            certfile=str(tmp_path / "cert"),
            keyfile=str(tmp_path / "key"),
            client_cafile=str(tmp_path / "cert"),
            client_auth_required=True,
            tls_min_version=ssl.TLSVersion.TLSv1_2,
            tls_max_version=ssl.TLSVersion.TLSv1_3,
        ) as server:
            assert server.url == f"https://localhost:{server.port}/metrics"
            with contextlib.suppress(ConnectionResetError):
                assert send_raw(server, b"GET / HTTP/1.1\r\n\r\n") == b""
            context = ssl.create_default_context(cadata=CERTIFICATE)
            context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
            connection = http.client.HTTPSConnection(
                "localhost", server.port, timeout=10, context=context
            )
            with contextlib.closing(connection):
                connection.request("GET", "/metrics")
                assert Answer(connection.getresponse()).body == TEXT

    def test_a_certificate_that_is_not_there_raises(self) -> None:
        """At the start, not at the first scrape."""
        with pytest.raises(OSError, match="No such file"):
            start_http_server(0, "localhost", certfile="/no/cert", keyfile="/no/key")
