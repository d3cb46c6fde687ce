"""OTLP transports: bytes go out, and what became of them comes back as an `Outcome`.

A transport sends one encoded request, once, and never waits longer than it is told to, whatever
the other side does. Queueing and trying again are the business of `otel_pipeline.sdk.batch`.

HTTP is spoken through `http.client`, because a deadline for the whole exchange needs the socket
at hand (other clients time each read, so a server that sends a byte a second holds them for
ever), and because nothing that other libraries instrument or log is then involved.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import importlib
import math
import os
import re
import socket
import ssl
import sys
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol
from urllib.parse import unquote, urlsplit

from opentelemetry import context as otel_context
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
)

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from urllib.parse import SplitResult

    import grpc

    from otel_pipeline.config import OtlpConfig

__all__ = ["Outcome", "Transport", "exporting", "suppressed", "transport_for"]

_USER_AGENT: Final = f"otel-pipeline/{__version__}"
_MOST_ANSWER_BYTES: Final = 65536
_MOST_REASON_CHARACTERS: Final = 200
_SHORTEST_SECRET: Final = 4  # a tenant called `1` must not blot out each 1 of a message


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        kind: `delivered`: the receiver took it. `rejected`: it refused it for good. `retry`: it
            asks to come again later. `away`: nothing answered.
        rejected: Items that a receiver refused out of a delivered request.
        retry_after: Seconds that the receiver asks to wait, if it does.
        reason: Why, in words for the operator, without any header's value.
    """

    kind: Literal["delivered", "retry", "away", "rejected"]
    rejected: int = 0
    retry_after: float | None = None
    reason: str = ""


class Transport(Protocol):
    """A way to one OTLP receiver for one signal; usable from many threads and after a fork."""

    @property
    def endpoint(self) -> str:
        """Where requests go, without credentials."""

    def send(self, payload: bytes, *, timeout: float) -> Outcome:
        """Send one encoded export request, once.

        Args:
            payload: The request as protobuf.
            timeout: Seconds for the whole exchange, name resolution to answer.

        Returns:
            What became of it.
        """

    def close(self) -> None:
        """Let connections go, and end a `send` that another thread is in."""


def transport_for(signal: str, otlp: OtlpConfig) -> Transport:
    """Return the transport that the configuration of a signal asks for; connects to nothing yet.

    Args:
        signal: `traces`, `metrics` or `logs`.
        otlp: Endpoint, protocol, headers, compression and certificates.

    Returns:
        A transport for the protocol.

    Raises:
        ConfigurationError: A header or certificate that cannot be used.
    """
    for name, value in otlp.headers.items():
        if re.search(r"[\r\n\0]", name + value):
            raise ConfigurationError(f"the OTLP header {name!r} contains a line break")
    if otlp.protocol == "grpc":
        return _GrpcTransport(signal, otlp)
    return _HttpTransport(signal, otlp)


@contextlib.contextmanager
def suppressed() -> Iterator[None]:
    """Mark what the calling thread does as done while exporting.

    Instrumented libraries make no spans meanwhile, and `exporting()` is true.
    """
    context = otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True)
    context = otel_context.set_value(
        _SUPPRESS_HTTP_INSTRUMENTATION_KEY, value=True, context=context
    )
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def exporting() -> bool:
    """Return whether the calling code runs while exporting, so that it must not be exported."""
    return bool(otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY))


# --- What both protocols share ------------------------------------------------------------------


class _Service:
    """The OTLP service of one signal: its name, and how to read its answers."""

    def __init__(self, signal: str) -> None:
        package, name, self._rejected_field = {
            "traces": ("trace", "Trace", "rejected_spans"),
            "metrics": ("metrics", "Metrics", "rejected_data_points"),
            "logs": ("logs", "Logs", "rejected_log_records"),
        }[signal]
        module = f"opentelemetry.proto.collector.{package}.v1.{package}_service_pb2"
        response = getattr(importlib.import_module(module), f"Export{name}ServiceResponse")
        self.parse: Callable[[bytes], Any] = response.FromString
        self.method = f"/opentelemetry.proto.collector.{package}.v1.{name}Service/Export"

    def delivered(self, response: Any, words: _Words) -> Outcome:
        """Return the outcome that a response message stands for."""
        partial = response.partial_success
        rejected = max(0, int(getattr(partial, self._rejected_field)))
        return Outcome("delivered", rejected=rejected, reason=words.clean(partial.error_message))


class _Words:
    """Makes a receiver's words fit to print: one line, bounded, without our headers' values."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        secrets = set(headers.values())
        for value in headers.values():  # an answer may quote the token of "Bearer TOKEN" alone
            secrets.update(value.split()[1:])
        long_enough = (secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
        self._secrets = sorted(long_enough, key=len, reverse=True)

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line[:_MOST_REASON_CHARACTERS]


def _shown(parts: SplitResult) -> str:
    """Return a URL without its query, which may hold a key."""
    return parts._replace(query="", fragment="").geturl()


def _left(deadline: float) -> float:
    """Return the seconds until `deadline`; raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for the request is over")
    return left


def _status(content: bytes) -> Any:
    """Return the google.rpc.Status that explains an error; empty if it cannot be read."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        return Status.FromString(content)
    except DecodeError:
        return Status()


# --- HTTP ---------------------------------------------------------------------------------------

_HTTP_RETRY: Final = frozenset({408, 429, 502, 503, 504})
_HTTP_OK: Final = range(200, 300)
_PROTOBUF: Final = "application/x-protobuf"


class _DeadlineSocket(socket.socket):
    """A socket with one deadline for all that is done on it, instead of one for each call."""

    deadline = math.inf

    def send(self, *args: Any) -> int:
        self.settimeout(_left(self.deadline))
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self.settimeout(_left(self.deadline))
        super().sendall(*args)

    def recv_into(self, *args: Any) -> int:
        self.settimeout(_left(self.deadline))
        return super().recv_into(*args)


class _DeadlineTlsSocket(_DeadlineSocket, ssl.SSLSocket):
    """The same over TLS."""


class _AwayError(Exception):
    """No connection could be made; the message says why."""


class _HttpTransport:
    """OTLP over HTTP with binary protobuf, on a connection that is kept alive."""

    def __init__(self, signal: str, otlp: OtlpConfig) -> None:
        parts = urlsplit(otlp.endpoint)
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"the OTLP endpoint has a bad port: {error}") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(
                f"the OTLP endpoint {_shown(parts)!r} is no http:// or https:// URL"
            )
        self.endpoint = _shown(parts)
        tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port or (443 if tls else 80)
        self._tls = _tls_context(otlp) if tls else None
        self._proxy = _proxy_for(parts)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._compress = _COMPRESSORS[otlp.compression]
        self._headers = _http_headers(otlp, parts)
        if self._proxy is not None and not tls:  # with TLS, the proxy is told when tunnelling
            self._target = f"http://{parts.netloc}{self._target}"
            self._headers |= _proxy_headers(self._proxy)
        self._words = _Words(otlp.headers)
        self._service = _Service(signal)
        # `pop`, `append`, `add` and `discard` are atomic: no lock that a fork could leave held.
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False
        self._pid = os.getpid()

    def send(self, payload: bytes, *, timeout: float) -> Outcome:
        deadline = time.monotonic() + timeout
        body = self._compress(payload)
        with suppressed():
            while True:
                try:
                    connection, kept = self._connection(deadline)
                except _AwayError as error:
                    return Outcome("away", reason=str(error))
                try:
                    return self._exchange(connection, body, deadline)
                except TimeoutError:
                    return Outcome("away", reason=f"no answer within {timeout:.1f} s")
                except (OSError, http.client.HTTPException) as error:
                    if not kept:
                        return _broken(error)
                    # A kept connection that the server had closed meanwhile: on a new one, then.

    def close(self) -> None:
        self._closed = True
        self._forget_idle()
        for connection in tuple(self._busy):
            with contextlib.suppress(OSError, AttributeError):
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _forget_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def _connection(self, deadline: float) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it has been in use before."""
        if self._pid != os.getpid():  # a forked child: the connections are the parent's
            self._pid = os.getpid()
            self._busy = set()
            self._forget_idle()
        with contextlib.suppress(IndexError):
            return self._idle.pop(), True
        try:
            connection = http.client.HTTPConnection(self._host, self._port)
            connection.auto_open = 0  # it would connect without a deadline
            connection.sock = self._open_socket(deadline)
        except TimeoutError:
            raise _AwayError("no connection in time") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _AwayError(_why(error)) from None
        return connection, False

    def _open_socket(self, deadline: float) -> _DeadlineSocket:
        if self._proxy is None:
            sock = _connect(self._host, self._port, deadline)
        else:
            if self._proxy.scheme != "http":
                raise OSError(f"a {self._proxy.scheme}:// proxy is not supported, only http://")
            sock = _connect(self._proxy.hostname or "", self._proxy.port or 80, deadline)
        try:
            if self._tls is not None:
                if self._proxy is not None:
                    _open_tunnel(sock, self._host, self._port, self._proxy)
                sock.settimeout(_left(deadline))
                sock = self._tls.wrap_socket(sock, server_hostname=self._host)  # type: ignore[assignment]
        except BaseException:
            sock.close()
            raise
        return sock

    def _exchange(
        self, connection: http.client.HTTPConnection, body: bytes, deadline: float
    ) -> Outcome:
        keep = False
        self._busy.add(connection)
        try:
            connection.sock.deadline = deadline  # type: ignore[union-attr]
            # A server may refuse a large request before it has read it all: its answer counts.
            with contextlib.suppress(BrokenPipeError):
                connection.request("POST", self._target, body=body, headers=self._headers)
            response = connection.getresponse()
            content = _read(response)
            keep = response.isclosed() and connection.sock is not None
            return self._judge(response, content)
        finally:
            self._busy.discard(connection)
            if keep and not self._closed and not self._idle:
                self._idle.append(connection)
            else:
                connection.close()

    def _judge(self, response: http.client.HTTPResponse, content: bytes) -> Outcome:
        is_protobuf = response.headers.get_content_type() == _PROTOBUF
        if response.status in _HTTP_OK:
            message = self._service.parse(b"")
            if is_protobuf:
                with contextlib.suppress(Exception):  # taken, whatever was said about it
                    message = self._service.parse(content)
            return self._service.delivered(message, self._words)
        text = _status(content).message if is_protobuf else content.decode("utf-8", "replace")
        reason = f"{response.status} {self._words.clean(response.reason)}".rstrip()
        if said := self._words.clean(text):
            reason = f"{reason}: {said}"
        if response.status in _HTTP_RETRY:
            wait = _retry_after(response.headers.get("Retry-After"))
            return Outcome("retry", retry_after=wait, reason=reason)
        return Outcome("rejected", reason=reason)


def _http_headers(otlp: OtlpConfig, parts: SplitResult) -> dict[str, bytes]:
    texts = {"User-Agent": _USER_AGENT} | {
        name.title(): value for name, value in otlp.headers.items()
    }
    texts |= {"Content-Type": _PROTOBUF, "Host": parts.netloc}
    if otlp.compression != "none":
        texts["Content-Encoding"] = otlp.compression
    return {name: value.encode() for name, value in texts.items()}


def _proxy_headers(proxy: SplitResult) -> dict[str, bytes]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": b"Basic " + base64.b64encode(pair.encode())}


def _gzip(data: bytes) -> bytes:
    return zlib.compress(data, wbits=31)


_COMPRESSORS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "none": bytes,
    "gzip": _gzip,
    "deflate": zlib.compress,
}


def _tls_context(otlp: OtlpConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=otlp.certificate)
        if otlp.client_certificate is not None:
            context.load_cert_chain(otlp.client_certificate, otlp.client_key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = [otlp.certificate, otlp.client_certificate, otlp.client_key]
        names = ", ".join(repr(name) for name in files if name is not None)
        raise ConfigurationError(
            f"the OTLP certificate files {names} cannot be used: {_why(error)}"
        ) from error
    context.sslsocket_class = _DeadlineTlsSocket
    return context


def _proxy_for(endpoint: SplitResult) -> SplitResult | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY ask for."""
    import urllib.request  # noqa: PLC0415  (heavy, and only for this)

    proxies = urllib.request.getproxies()
    proxy = proxies.get(endpoint.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(endpoint.netloc):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _connect(host: str, port: int, deadline: float) -> _DeadlineSocket:
    addresses = _resolve(host, port, deadline)
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = _DeadlineSocket(family, kind, protocol)
        try:
            # A share for each address, so that a dead one leaves time for the next.
            sock.settimeout(_left(deadline) / (len(addresses) - number))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            if number == len(addresses) - 1:
                raise
        else:
            sock.deadline = deadline
            return sock
    raise OSError(f"{host} has no address")


def _resolve(host: str, port: int, deadline: float) -> list[Any]:
    """Look a host up on a thread of its own, because nothing else can bound the time it takes."""
    answers: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    try:
        threading.Thread(target=look_up, name="otel-pipeline-resolve", daemon=True).start()
    except RuntimeError:  # no new threads while the interpreter ends
        look_up()
    try:
        answer = answers.get(timeout=_left(deadline))
    except Empty:
        raise TimeoutError(f"looking {host} up takes too long") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _open_tunnel(sock: _DeadlineSocket, host: str, port: int, proxy: SplitResult) -> None:
    host = f"[{host}]" if ":" in host else host
    lines = [f"CONNECT {host}:{port} HTTP/1.1".encode(), f"Host: {host}:{port}".encode()]
    for name, value in _proxy_headers(proxy).items():
        lines.append(name.encode() + b": " + value)
    sock.sendall(b"\r\n".join([*lines, b"", b""]))
    response = http.client.HTTPResponse(sock, method="CONNECT")
    response.begin()
    response.close()
    if response.status not in _HTTP_OK:
        raise OSError(f"the proxy answered {response.status} {response.reason}")


def _read(response: http.client.HTTPResponse) -> bytes:
    """Return the start of the body; the status counts even when the body does not come."""
    try:
        return response.read(_MOST_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        return b""


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header, a number or a date, asks for."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _broken(error: Exception) -> Outcome:
    """Judge an exchange that broke off on a fresh connection."""
    if isinstance(error, ssl.SSLError):  # TLS 1.3 refuses a client's certificate after the fact
        return Outcome("away", reason=_why(error))
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return Outcome(
            "rejected", reason=f"the answer is not HTTP ({_why(error)}): is this the gRPC port?"
        )
    return Outcome("retry", reason=_why(error))


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:_MOST_REASON_CHARACTERS]


# --- gRPC ---------------------------------------------------------------------------------------

_GRPC_RETRY: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
#: How gRPC words an UNAVAILABLE of its own making, when it has no connection; a server's status
#: looks the same otherwise.
_NO_CONNECTION: Final = re.compile(
    r"failed to connect|errors? resolving|resolution fail|connection refused|handshak",
    re.IGNORECASE,
)
#: gRPC's own pauses between connection attempts, and connections shared between channels, would
#: hide that a receiver is back: the batch processor sets the pace.
_CHANNEL_OPTIONS: Final = (
    ("grpc.primary_user_agent", _USER_AGENT),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", _MOST_ANSWER_BYTES),
)
#: Channels that a forked child inherited. Closing them could wait for threads that only the
#: parent has, so they are kept, not collected.
_inherited: list[object] = []


class _GrpcTransport:
    """OTLP over gRPC; a channel is made at the first send, and anew after a failure to connect."""

    def __init__(self, signal: str, otlp: OtlpConfig) -> None:
        parts = urlsplit(otlp.endpoint)
        is_url = parts.scheme in {"http", "https"}
        self._target = parts.netloc if is_url else otlp.endpoint
        self.endpoint = _shown(parts) if is_url else otlp.endpoint
        plain = parts.scheme == "http" or (parts.scheme != "https" and otlp.insecure)
        self._credentials = None if plain else _grpc_credentials(otlp)
        self._metadata = tuple((name.lower(), value) for name, value in otlp.headers.items())
        self._compression = otlp.compression
        self._words = _Words(otlp.headers)
        self._service = _Service(signal)
        self._channel: grpc.Channel | None = None
        self._pid = os.getpid()

    def send(self, payload: bytes, *, timeout: float) -> Outcome:
        grpc = _grpc()
        with suppressed():
            channel = self._open_channel()
            export = channel.unary_unary(
                self._service.method,
                request_serializer=bytes,
                response_deserializer=self._service.parse,
            )
            try:
                response = export(payload, timeout=timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                outcome = self._judge(error)
                if outcome.kind == "away":
                    self.close()
                return outcome
            return self._service.delivered(response, self._words)

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None and self._pid == os.getpid():
            channel.close()

    def _open_channel(self) -> grpc.Channel:
        grpc = _grpc()
        if self._pid != os.getpid():
            self._pid = os.getpid()
            _inherited.append(self._channel)
            self._channel = None
        channel = self._channel
        if channel is None:
            compression = {
                "none": grpc.Compression.NoCompression,
                "gzip": grpc.Compression.Gzip,
                "deflate": grpc.Compression.Deflate,
            }[self._compression]
            if self._credentials is None:
                channel = grpc.insecure_channel(self._target, _CHANNEL_OPTIONS, compression)
            else:
                channel = grpc.secure_channel(
                    self._target, self._credentials, _CHANNEL_OPTIONS, compression
                )
            self._channel = channel
        return channel

    def _judge(self, error: Any) -> Outcome:
        code = error.code().name
        details = error.details() or ""
        said = self._words.clean(details)
        reason = f"{code}: {said}" if said else code
        timed_out = code == "DEADLINE_EXCEEDED" and "Deadline Exceeded" in details
        if timed_out or (code == "UNAVAILABLE" and _NO_CONNECTION.search(details)):
            return Outcome("away", reason=reason)
        wait = _retry_info(error.trailing_metadata() or ())
        if code in _GRPC_RETRY or (code == "RESOURCE_EXHAUSTED" and wait is not None):
            return Outcome("retry", retry_after=wait, reason=reason)
        return Outcome("rejected", reason=reason)


def _grpc() -> Any:
    """Import grpc, and let it print nothing about forks: a child makes a channel of its own."""
    variable = "GRPC_VERBOSITY"  # read when grpc is imported
    if "grpc" in sys.modules or variable in os.environ:
        import grpc  # noqa: PLC0415
    else:
        os.environ[variable] = "ERROR"
        try:
            import grpc  # noqa: PLC0415
        finally:
            del os.environ[variable]
    return grpc


def _grpc_credentials(otlp: OtlpConfig) -> grpc.ChannelCredentials:
    grpc = _grpc()

    def content(name: str | None) -> bytes | None:
        try:
            return None if name is None else Path(name).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"the OTLP certificate file {name!r} cannot be read: {_why(error)}"
            ) from error

    return grpc.ssl_channel_credentials(  # type: ignore[no-any-return]
        root_certificates=content(otlp.certificate),
        private_key=content(otlp.client_key),
        certificate_chain=content(otlp.client_certificate),
    )


def _retry_info(metadata: Any) -> float | None:
    """Return the seconds of the RetryInfo in an error's details, if there is one."""
    from google.rpc.error_details_pb2 import (  # type: ignore[import-untyped]  # noqa: PLC0415
        RetryInfo,
    )

    for key, value in metadata:
        if key == "grpc-status-details-bin":
            for detail in _status(value).details:
                info = RetryInfo()
                if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
                    delay = info.retry_delay
                    return max(0.0, float(delay.seconds + delay.nanos / 1e9))
    return None
