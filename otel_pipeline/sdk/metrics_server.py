"""The server of `/metrics` and `/status`, and `start_http_server` on a port of its own."""

from __future__ import annotations

import gzip
import json
import os
import re
import selectors
import socket
import ssl
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from otel_pipeline import diagnostics
from otel_pipeline.metrics.registry import REGISTRY, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Self

    from prometheus_client.registry import CollectorRegistry

    from otel_pipeline.sdk.prometheus import Renderer

from otel_pipeline.sdk.prometheus import Exposition, choose

__all__ = ["MetricsServer", "default_exposition", "start_http_server"]

_MOST_REQUESTS: Final = 16
_MOST_HEADER_BYTES: Final = 32_768
_READ_SECONDS: Final = 5.0
_WRITE_SECONDS: Final = 30.0
_DOCTOR: Final = "otel-pipeline-doctor"


class _Request(NamedTuple):
    method: str
    target: str
    headers: Mapping[str, str]


class _Response(NamedTuple):
    status: str
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


_NOT_FOUND: Final = _Response("404 Not Found", b"not found: try /metrics or /status\n")
_NOT_ALLOWED: Final = _Response(
    "405 Method Not Allowed", b"use GET or HEAD\n", headers=(("Allow", "GET, HEAD"),)
)
_BAD_REQUEST: Final = _Response("400 Bad Request", b"not an HTTP request\n")
_FAILED: Final = _Response("500 Internal Server Error", b"the page could not be made\n")


class MetricsServer:
    """Serves `/metrics` and `/status` by HTTP, from daemon threads, from construction to `stop`.

    Args:
        host: Name or address to listen on: `localhost`, `0.0.0.0`, `::`.
        port: TCP port; 0 for any free one.
        render: Makes the page from the Accept header and the names asked for by `?name[]=`.
        status: What `/status` shows beside `pid`, `started` (seconds since 1970) and `last_scrape`
            (`time`, `address` and `user_agent`, or null).
        tls: Speaks HTTPS with this.
        paths: Where the page of metrics is.

    Raises:
        OSError: The port is taken, or the host is not one of this machine.

    >>> with MetricsServer("localhost", 0, Exposition(list).render) as server:
    ...     server.url == f"http://localhost:{server.port}/metrics"
    True
    """

    def __init__(
        self,
        host: str,
        port: int,
        render: Renderer,
        status: Callable[[], Mapping[str, object]] = dict,
        *,
        tls: ssl.SSLContext | None = None,
        paths: Collection[str] = ("/metrics",),
    ) -> None:
        self._host, self._render, self._status, self._tls = host, render, status, tls
        self._paths = paths
        self._started = time.time()
        self._last_scrape: Mapping[str, object] | None = None
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._wakeup = socket.socketpair()
        self._stopping = threading.Event()
        self._slots = threading.Semaphore(_MOST_REQUESTS)
        self.thread = threading.Thread(
            target=self._serve, name="otel-pipeline-metrics", daemon=True
        )
        self.thread.start()
        _servers.add(self)

    @property
    def url(self) -> str:
        """The whole URL of the page; a wildcard address is shown as localhost."""
        host = "localhost" if self._host in {"", "0.0.0.0", "::"} else self._host  # noqa: S104  only compared
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"

    def __enter__(self) -> Self:
        """Return the server, which is running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop listening and free the port; requests under way end by themselves."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._slots.release()  # the server's thread may wait for a slot
        self._waker.send(b"\0")
        self.thread.join(1.0)
        self._close()

    # What prometheus_client's server calls all this.
    shutdown = stop
    server_close = stop

    @property
    def server_port(self) -> int:
        """The TCP port."""
        return self.port

    @property
    def server_address(self) -> tuple[str, int]:
        """Host and port."""
        return self._host, self.port

    def _close(self) -> None:
        for owned in (self._listener, self._waker, self._wakeup):
            owned.close()

    def _abandon(self) -> None:
        """Let go of the sockets in a forked child: the parent serves."""
        self._stopping = threading.Event()  # a thread of the parent may hold the inherited one
        self._stopping.set()
        self._close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            while not self._stopping.is_set():
                selector.select()
                self._slots.acquire()
                if self._stopping.is_set() or not self._accept():
                    self._slots.release()

    def _accept(self) -> bool:
        """Hand the next connection to a thread; whether there was one, and a thread for it."""
        try:
            connection, address = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError:  # too many open files: wait, or this would spin
            self._stopping.wait(0.1)
            return False
        thread = threading.Thread(target=self._handle, args=(connection, address), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            connection.close()
            return False
        return True

    def _handle(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            connection.settimeout(_READ_SECONDS)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            request = _read_request(connection)
            response = _BAD_REQUEST if request is None else self._respond(request, str(address[0]))
            _send(connection, request, response)
        except OSError:  # slow, gone, or it does not speak TLS
            pass
        finally:
            connection.close()
            self._slots.release()

    def _respond(self, request: _Request, address: str) -> _Response:
        if request.method not in {"GET", "HEAD"}:
            return _NOT_ALLOWED
        try:
            url = urlsplit(request.target)
            if url.path in self._paths:
                return self._metrics(request, parse_qs(url.query).get("name[]", []), address)
            if url.path == "/status":
                return self._status_page()
        except Exception as error:  # noqa: BLE001  a page that fails must not end the thread loudly
            diagnostics.warn_once("server:failed", "a request to %s failed: %r", self.url, error)
            return _FAILED
        return self._index() if url.path == "/" else _NOT_FOUND

    def _metrics(self, request: _Request, names: Collection[str], address: str) -> _Response:
        body, content_type = self._render(request.headers.get("accept", ""), names)
        user_agent = request.headers.get("user-agent", "")
        if request.method == "GET" and not user_agent.startswith(_DOCTOR):
            self._last_scrape = {"time": time.time(), "address": address, "user_agent": user_agent}
        if not _accepts_gzip(request.headers.get("accept-encoding", "")):
            return _Response("200 OK", body, content_type)
        packed = gzip.compress(body, compresslevel=_GZIP_LEVEL, mtime=0)
        return _Response("200 OK", packed, content_type, (("Content-Encoding", "gzip"),))

    def _status_page(self) -> _Response:
        status = {
            **self._status(),
            "pid": os.getpid(),
            "started": self._started,
            "last_scrape": self._last_scrape,
        }
        return _Response("200 OK", json.dumps(status, default=str).encode(), "application/json")

    def _index(self) -> _Response:
        return _Response("200 OK", b"/metrics  for Prometheus\n/status   who scraped last\n")


#: A scrape is sent over a fast network, so speed is worth more than the last tenth of size.
_GZIP_LEVEL: Final = 1


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; a name that has several addresses gets an IPv4 one."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003  the stdlib's signature
    except BaseException:
        listener.close()
        raise
    return listener


def _read_request(connection: socket.socket) -> _Request | None:
    """Read up to the end of the headers, all within the time limit; None if it is no request."""
    deadline = time.monotonic() + _READ_SECONDS
    head = b""
    while b"\r\n\r\n" not in head:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        received = connection.recv(4096)
        head += received
        if not received or len(head) > _MOST_HEADER_BYTES:
            return None
    first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):  # noqa: PLR2004  method, target, version
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _Request(words[0], words[1], headers)


def _send(connection: socket.socket, request: _Request | None, response: _Response) -> None:
    lines = [
        f"HTTP/1.1 {response.status}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    connection.settimeout(_WRITE_SECONDS)
    connection.sendall(head if request and request.method == "HEAD" else head + response.body)
    connection.shutdown(socket.SHUT_WR)
    if response.status[0] == "4":
        # What the client still sends (a body, a long line) would reset the connection otherwise,
        # and the answer with it.
        connection.settimeout(0.5)
        connection.recv(_MOST_HEADER_BYTES)


def _accepts_gzip(accept_encoding: str) -> bool:
    for choice in accept_encoding.split(","):
        coding, _, quality = choice.replace(" ", "").lower().partition(";")
        if coding == "gzip":
            return not re.fullmatch(r"q=0(\.0*)?", quality)
    return False


_servers: weakref.WeakSet[MetricsServer] = weakref.WeakSet()


def _abandon_all() -> None:
    for server in list(_servers):
        server._abandon()  # noqa: SLF001  one module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


_default: Final = Exposition(REGISTRY.collect)


def default_exposition() -> Exposition:
    """Return the page of this process: the default registry, and what `configure()` attached."""
    return _default


def start_http_server(  # noqa: PLR0917  prometheus_client's signature
    port: int,
    addr: str = "0.0.0.0",  # noqa: S104  prometheus_client's default
    registry: Registry | CollectorRegistry | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    client_cafile: str | None = None,
    client_capath: str | None = None,
    protocol: int = ssl.PROTOCOL_TLS_SERVER,
    client_auth_required: bool = False,  # noqa: FBT001, FBT002
    tls_min_version: ssl.TLSVersion | None = None,
    tls_max_version: ssl.TLSVersion | None = None,
) -> tuple[MetricsServer, threading.Thread]:
    """Serve metrics on a port of their own, as prometheus_client's function of that name does.

    It needs no `configure()`. The page is at `/metrics`, and at `/` as there.

    Args:
        port: TCP port; 0 for any free one, which `server.port` tells.
        addr: Address to listen on.
        registry: What to serve: a `Registry`, or prometheus_client's `CollectorRegistry`; by
            default every metric of the program.
        certfile: Certificate for HTTPS; needs `keyfile`.
        keyfile: Its private key.
        client_cafile: Certificates that sign those of clients.
        client_capath: A folder of such certificates.
        protocol: A protocol of the `ssl` module.
        client_auth_required: Whether clients must show a certificate.
        tls_min_version: The oldest TLS version to speak.
        tls_max_version: The newest.

    Returns:
        The server, whose `shutdown()` ends it, and its thread.

    Raises:
        OSError: The port is taken, or a certificate cannot be read.

    >>> server, thread = start_http_server(0, addr="localhost")
    >>> server.shutdown()
    >>> thread.join()
    """
    tls = None
    if certfile and keyfile:
        tls = ssl.SSLContext(protocol)
        tls.load_cert_chain(certfile, keyfile)
        if client_cafile or client_capath:
            tls.load_verify_locations(client_cafile, client_capath)
        if client_auth_required:
            tls.verify_mode = ssl.CERT_REQUIRED
        if tls_min_version is not None:
            tls.minimum_version = tls_min_version
        if tls_max_version is not None:
            tls.maximum_version = tls_max_version
    server = MetricsServer(addr, port, _renderer(registry), tls=tls, paths=("/metrics", "/"))
    return server, server.thread


def _renderer(registry: Registry | CollectorRegistry | None) -> Renderer:
    if registry is None:
        return _default.render
    if isinstance(registry, Registry):
        return Exposition(registry.collect).render

    def render(accept: str, names: Collection[str]) -> tuple[bytes, str]:
        """Serve a registry of prometheus_client's the way it does."""
        encode, content_type = choose(accept)
        return encode(registry.restricted_registry(names) if names else registry), content_type

    return render
