"""Real OTLP receivers for tests, over HTTP and gRPC, that can be told to misbehave."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["GrpcReceiver", "HttpReceiver", "Item", "Request", "grpc_receiver", "otlp_receiver"]

_PACKAGES = {"traces": "trace", "metrics": "metrics", "logs": "logs"}
_NAMES = {"traces": "Trace", "metrics": "Metrics", "logs": "Logs"}
_REJECTED = {
    "traces": "rejected_spans",
    "metrics": "rejected_data_points",
    "logs": "rejected_log_records",
}


def _service(signal: str) -> Any:
    package = _PACKAGES[signal]
    return importlib.import_module(
        f"opentelemetry.proto.collector.{package}.v1.{package}_service_pb2"
    )


def _request_type(signal: str) -> Any:
    return getattr(_service(signal), f"Export{_NAMES[signal]}ServiceRequest")


def _response_type(signal: str) -> Any:
    return getattr(_service(signal), f"Export{_NAMES[signal]}ServiceResponse")


def attributes_of(key_values: Any) -> dict[str, Any]:
    """Return OTLP attributes as a plain dict."""
    return {pair.key: _plain(pair.value) for pair in key_values}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


@dataclass(frozen=True)
class Item:
    """A received span, log record or metric: what it has itself, and where it came from."""

    proto: Any
    resource: dict[str, Any]
    scope: str

    def __getattr__(self, name: str) -> Any:
        if name == "proto":  # while it is being copied
            raise AttributeError(name)
        return getattr(self.proto, name)

    @property
    def attributes(self) -> dict[str, Any]:
        return attributes_of(self.proto.attributes)


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]  # keys in lower case
    body: bytes
    accepted: bool


@dataclass
class _Behaviour:
    status: int = 200
    retry_after: str | None = None
    text: str | bytes = ""
    content_type: str = "text/plain"
    rejected: int = 0
    message: str = ""
    hang: bool = False
    trickle: bool = False
    close: bool = False
    chunked: bool = False


class _Receiver:
    """What both receivers share: what has come in, and how to wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._items: dict[str, list[Item]] = {signal: [] for signal in _PACKAGES}
        self._released = threading.Event()  # ends whatever hangs
        self.behaviour: Any = None
        self.accept()

    def accept(self) -> None:
        """Take everything, as at the start."""
        raise NotImplementedError

    @property
    def requests(self) -> list[Request]:
        with self._changed:
            return list(self._requests)

    @property
    def spans(self) -> list[Item]:
        return self._received("traces")

    @property
    def logs(self) -> list[Item]:
        return self._received("logs")

    @property
    def metrics(self) -> list[Item]:
        return self._received("metrics")

    def _received(self, signal: str) -> list[Item]:
        with self._changed:
            return list(self._items[signal])

    def wait_for(self, predicate: Callable[[], object], timeout: float = 5.0) -> None:
        """Wait until `predicate` holds; fail the test if it does not in time."""
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                held = {signal: len(items) for signal, items in self._items.items()}
                raise AssertionError(
                    f"not within {timeout} s; got {len(self._requests)} requests, {held}"
                )

    def _record(self, request: Request, signal: str, message: Any) -> None:
        with self._changed:
            self._requests.append(request)
            if request.accepted:
                self._items[signal].extend(_flatten(signal, message))
            self._changed.notify_all()

    def _release(self) -> None:
        self._released.set()
        self._released = threading.Event()


def _decompress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    return body


def _flatten(signal: str, message: Any) -> Iterator[Item]:
    groups, scopes, items = {
        "traces": ("resource_spans", "scope_spans", "spans"),
        "metrics": ("resource_metrics", "scope_metrics", "metrics"),
        "logs": ("resource_logs", "scope_logs", "log_records"),
    }[signal]
    for group in getattr(message, groups):
        resource = attributes_of(group.resource.attributes)
        for scope in getattr(group, scopes):
            for item in getattr(scope, items):
                yield Item(item, resource, scope.scope.name)


class HttpReceiver(_Receiver):
    """An OTLP/HTTP receiver on a free port of 127.0.0.1."""

    def __init__(self, ssl_context: Any = None) -> None:
        super().__init__()
        self._ssl_context = ssl_context
        self._server: _Server | None = None
        self._port = 0
        self.connections = 0
        self.start()

    @property
    def endpoint(self) -> str:
        scheme = "http" if self._ssl_context is None else "https"
        return f"{scheme}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        receiver = self

        class Handler(_Handler):
            pass

        Handler.receiver = receiver
        server = _Server(("127.0.0.1", self._port), Handler)
        if self._ssl_context is not None:
            server.socket = self._ssl_context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server = server
        self._port = server.server_address[1]
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="otlp-receiver"
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and break every connection; the port then refuses."""
        server, self._server = self._server, None
        if server is None:
            return
        self._release()
        server.shutdown()
        server.break_connections()
        server.server_close()
        self._thread.join()

    def accept(self) -> None:
        self.behaviour = _Behaviour()
        self._release()

    def answer(
        self,
        status: int = 503,
        *,
        retry_after: float | str | None = None,
        text: str | bytes = "",
        content_type: str = "text/plain",
    ) -> None:
        """Answer every request like this, and take nothing unless the status is 2xx."""
        after = None if retry_after is None else str(retry_after)
        self.behaviour = _Behaviour(
            status=status, retry_after=after, text=text, content_type=content_type
        )

    def partial(self, rejected: int, message: str = "too old") -> None:
        """Take requests, but say that so many items were rejected."""
        self.behaviour = _Behaviour(rejected=rejected, message=message)

    def hang(self) -> None:
        """Read requests, and never answer."""
        self.behaviour = _Behaviour(hang=True)

    def trickle(self) -> None:
        """Answer with one byte a second."""
        self.behaviour = _Behaviour(trickle=True)

    def break_off(self) -> None:
        """Read requests, and close the connection without an answer."""
        self.behaviour = _Behaviour(close=True)

    def answer_chunked(self) -> None:
        """Take requests, and answer in chunks."""
        self.behaviour = _Behaviour(chunked=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sockets: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._sockets.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        import socket

        for request in tuple(self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(request, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients in these tests break connections on purpose."""


class _Handler(BaseHTTPRequestHandler):
    receiver: HttpReceiver
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.receiver.connections += 1

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        receiver = self.receiver
        behaviour = receiver.behaviour
        released = receiver._released
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        signal = self.path.rpartition("/")[2].partition("?")[0]
        if signal not in _PACKAGES:
            self._reply(404, b"no such path", "text/plain")
            return
        accepted = behaviour.status // 100 == 2 and not (
            behaviour.hang or behaviour.trickle or behaviour.close
        )
        body = _decompress(body, self.headers.get("Content-Encoding", ""))
        headers = {key.lower(): value for key, value in self.headers.items()}
        message = _request_type(signal).FromString(body)
        receiver._record(Request(self.path, headers, body, accepted), signal, message)
        if behaviour.hang:
            released.wait(60)
            self.close_connection = True
        elif behaviour.close:
            self.close_connection = True
        elif behaviour.trickle:
            for byte in b"HTTP/1.1 200 OK\r\n" * 10:
                self.wfile.write(bytes([byte]))
                if released.wait(1):
                    break
            self.close_connection = True
        elif behaviour.status // 100 == 2:
            response = _response_type(signal)()
            if behaviour.rejected or behaviour.message:
                setattr(response.partial_success, _REJECTED[signal], behaviour.rejected)
                response.partial_success.error_message = behaviour.message
            content = behaviour.text or response.SerializeToString()
            kind = behaviour.content_type if behaviour.text else "application/x-protobuf"
            self._reply(behaviour.status, content, kind)
        else:
            self._reply(behaviour.status, behaviour.text, behaviour.content_type)

    def _reply(self, status: int, content: str | bytes, content_type: str) -> None:
        behaviour = self.receiver.behaviour
        data = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if behaviour.retry_after is not None:
            self.send_header("Retry-After", behaviour.retry_after)
        if behaviour.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if data:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def otlp_receiver(ssl_context: Any = None) -> Iterator[HttpReceiver]:
    """Run an OTLP/HTTP receiver; everything is stopped at the end."""
    receiver = HttpReceiver(ssl_context)
    try:
        yield receiver
    finally:
        receiver.stop()


@dataclass
class _GrpcBehaviour:
    code: str = "OK"
    details: str = ""
    retry_after: float | None = None
    rejected: int = 0
    message: str = ""
    hang: bool = False
    extra: list[tuple[str, bytes]] = field(default_factory=list)


class GrpcReceiver(_Receiver):
    """An OTLP/gRPC receiver with the three services on a free port of 127.0.0.1."""

    def __init__(self, credentials: Any = None) -> None:
        super().__init__()
        self._credentials = credentials
        self._server: Any = None
        self._port = 0
        self.start()

    @property
    def endpoint(self) -> str:
        scheme = "http" if self._credentials is None else "https"
        return f"{scheme}://localhost:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        import grpc

        self._pool = ThreadPoolExecutor(4, thread_name_prefix="grpc-receiver")
        server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        for signal, package in _PACKAGES.items():
            module = importlib.import_module(
                f"opentelemetry.proto.collector.{package}.v1.{package}_service_pb2_grpc"
            )
            name = _NAMES[signal]
            base = getattr(module, f"{name}ServiceServicer")
            servicer = type(f"{name}Receiver", (base,), {"Export": self._exporter(signal)})()
            getattr(module, f"add_{name}ServiceServicer_to_server")(servicer, server)
        address = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            self._port = server.add_insecure_port(address)
        else:
            self._port = server.add_secure_port(address, self._credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Stop listening and break every connection; the port then refuses."""
        server, self._server = self._server, None
        if server is not None:
            self._release()
            server.stop(0).wait()
            self._pool.shutdown()

    def accept(self) -> None:
        self.behaviour = _GrpcBehaviour()
        self._release()

    def answer(
        self,
        code: str,
        details: str = "",
        *,
        retry_after: float | None = None,
        extra: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Answer every call with a status, by its name, and with RetryInfo where given."""
        self.behaviour = _GrpcBehaviour(
            code=code, details=details, retry_after=retry_after, extra=extra or []
        )

    def partial(self, rejected: int, message: str = "too old") -> None:
        """Take calls, but say that so many items were rejected."""
        self.behaviour = _GrpcBehaviour(rejected=rejected, message=message)

    def hang(self) -> None:
        """Take calls, and never answer."""
        self.behaviour = _GrpcBehaviour(hang=True)

    def _exporter(self, signal: str) -> Callable[..., Any]:
        def export(_servicer: Any, message: Any, context: Any) -> Any:
            behaviour = self.behaviour
            released = self._released
            headers = dict(context.invocation_metadata())
            accepted = behaviour.code == "OK" and not behaviour.hang
            path = f"/{_NAMES[signal]}Service/Export"
            request = Request(path, headers, message.SerializeToString(), accepted)
            self._record(request, signal, message)
            if behaviour.hang:
                deadline = time.monotonic() + 60
                while context.is_active() and time.monotonic() < deadline:
                    if released.wait(0.02):
                        break
            if behaviour.code != "OK":
                self._abort(context, behaviour)
            response = _response_type(signal)()
            if behaviour.rejected or behaviour.message:
                setattr(response.partial_success, _REJECTED[signal], behaviour.rejected)
                response.partial_success.error_message = behaviour.message
            return response

        return export

    @staticmethod
    def _abort(context: Any, behaviour: _GrpcBehaviour) -> None:
        import grpc
        from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
        from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

        code = getattr(grpc.StatusCode, behaviour.code)
        trailing = list(behaviour.extra)
        if behaviour.retry_after is not None:
            info = RetryInfo()
            info.retry_delay.FromNanoseconds(int(behaviour.retry_after * 1e9))
            status = Status(code=code.value[0], message=behaviour.details)
            status.details.add().Pack(info)
            trailing.append(("grpc-status-details-bin", status.SerializeToString()))
        context.set_trailing_metadata(trailing)
        context.abort(code, behaviour.details)


@contextlib.contextmanager
def grpc_receiver(credentials: Any = None) -> Iterator[GrpcReceiver]:
    """Run an OTLP/gRPC receiver; everything is stopped at the end."""
    receiver = GrpcReceiver(credentials)
    try:
        yield receiver
    finally:
        receiver.stop()
