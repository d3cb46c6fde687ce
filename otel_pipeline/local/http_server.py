"""A small HTTP/1.1 server for programs on one machine, with a limit on all that it takes.

Each connection has a thread. What a request may cost is known before it is read: the size of its
head and body, the time for each, and the number of connections.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from otel_pipeline import diagnostics
from otel_pipeline.errors import CommandError
from otel_pipeline.local.limits import (
    BODY_SECONDS,
    HEAD_SECONDS,
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_HEAD,
    WRITE_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

__all__ = ["HttpError", "HttpServer", "Request", "Response", "json_response"]

_CHUNK: Final = 65_536


class HttpError(Exception):
    """Ends a request with an answer.

    Args:
        status: The HTTP status.
        message: What was wrong and what to do.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        body: All of it, or its parts as they come; parts are sent at once.
        status: The HTTP status.
        content_type: What the body is.
        headers: Further headers.
    """

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(document: object, status: int = 200) -> Response:
    """Return a JSON document as an answer; a text is taken for one."""
    text = document if isinstance(document, str) else json.dumps(document)
    return Response(text.encode(), status)


@dataclass(slots=True)
class Request:
    """A request whose body is yet to be read.

    Attributes:
        method: `GET` and so on.
        path: The path, decoded.
        query: The parameters behind it, of several of a name the last.
        headers: The headers, their names in lower case.
        host: The address at which the server was asked.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    connection: _Connection = field(repr=False)
    body_left: int | None = 0  # None: in chunks

    def read(self, limit: int) -> bytes:
        """Read the body.

        Raises:
            HttpError: It is larger than `limit` bytes (413), broken (400) or slow (408).
        """
        length, self.body_left = self.body_left, 0
        too_large = HttpError(413, f"the body has more than {limit} bytes: send smaller requests")
        if length is not None:
            if length > limit:
                self.connection.usable = False
                raise too_large
            return self.connection.take(length, BODY_SECONDS)
        parts: list[bytes] = []
        size = 0
        end = time.monotonic() + BODY_SECONDS
        while True:
            line = self.connection.take_line(end - time.monotonic())
            try:
                chunk = int(line.split(b";")[0].strip(), 16)
            except ValueError:
                raise HttpError(400, "a chunk of the body has no length") from None
            size += chunk
            if chunk < 0 or size > limit:
                self.connection.usable = False
                raise too_large
            if not chunk:
                while self.connection.take_line(end - time.monotonic()):
                    pass
                return b"".join(parts)
            parts.append(self.connection.take(chunk, end - time.monotonic()))
            self.connection.take_line(end - time.monotonic())


class HttpServer:
    """Serves from construction to `stop`.

    Args:
        host: Address to listen on.
        port: TCP port; 0 for any free one.
        handle: Answers a request.
        option: What chooses the port, for the error.

    Raises:
        CommandError: The port is taken or the address is not one of this machine.

    >>> with HttpServer("127.0.0.1", 0, lambda request: json_response([])) as server:
    ...     server.url == f"http://127.0.0.1:{server.port}"
    True
    """

    def __init__(
        self,
        host: str,
        port: int,
        handle: Callable[[Request], Response],
        option: str = "--port",
    ) -> None:
        self._handle = handle
        self._listener = listen(host, port, option)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._wakeup = socket.socketpair()
        self.stopping = threading.Event()
        self._slots = threading.Semaphore(MAX_CONNECTIONS)
        self._open: set[_Connection] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name=f"http-{self.port}", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def __enter__(self) -> Self:
        """Return the server, which is running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def stop(self, timeout: float = 3.0) -> None:
        """Stop listening; what is being answered may end, within the time given."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        self._waker.send(b"\0")
        self._thread.join()
        for owned in (self._listener, self._waker, self._wakeup):
            owned.close()
        end = time.monotonic() + timeout
        with self._lock:
            left = list(self._open)
        for connection in left:
            connection.end_input()
        for connection in left:
            if connection.thread is not None:
                connection.thread.join(max(0.0, end - time.monotonic()))

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            while True:
                selector.select()
                if self.stopping.is_set():
                    return
                try:
                    sock, _ = self._listener.accept()
                except BlockingIOError:
                    continue
                except OSError:  # too many open files: wait, or this would spin
                    self.stopping.wait(0.1)
                    continue
                self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        if not self._slots.acquire(blocking=False):
            with contextlib.suppress(OSError):
                sock.settimeout(1.0)
                sock.sendall(_TOO_MANY)
            sock.close()
            return
        connection = _Connection(sock)
        connection.thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
        with self._lock:
            self._open.add(connection)
        try:
            connection.thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._end(connection)

    def _end(self, connection: _Connection) -> None:
        connection.close()
        with self._lock:
            self._open.discard(connection)
        self._slots.release()

    def _run(self, connection: _Connection) -> None:
        try:
            while connection.usable and not self.stopping.is_set():
                if not self._exchange(connection):
                    break
        except (OSError, _GoneError):  # slow, or gone
            pass
        finally:
            self._end(connection)

    def _exchange(self, connection: _Connection) -> bool:
        """Answer one request; whether another may follow."""
        try:
            request = connection.request()
            if request is None:
                return False
        except HttpError as error:
            connection.send(_error(error), "GET", last=True)
            return False
        try:
            response = self._handle(request)
        except HttpError as error:
            response = _error(error)
        except CommandError as error:
            response = _error(HttpError(503, str(error), (("Retry-After", "5"),)))
        except (OSError, _GoneError):
            raise
        except Exception as error:  # noqa: BLE001  one request that fails must not end the server
            diagnostics.warn_once(
                f"local:{type(error).__name__}", "a request to %s failed: %r", request.path, error
            )
            response = _error(HttpError(500, f"the request could not be answered: {error!r}"))
        if request.body_left != 0:  # it was not read, and would be taken for the next request
            connection.usable = False
        if request.headers.get("connection", "").lower() == "close" or self.stopping.is_set():
            connection.usable = False
        connection.send(response, request.method, last=not connection.usable)
        return connection.usable


_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n"
)


def listen(host: str, port: int, option: str) -> socket.socket:
    """Return a listening socket.

    Raises:
        CommandError: The port is taken or the address is not one of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
            listener.setblocking(False)  # noqa: FBT003  the stdlib's signature
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; another program has the"
            f" port, or another `otel-pipeline ui` runs: choose another with {option}"
        ) from error
    return listener


def _error(error: HttpError) -> Response:
    document = json.dumps({"error": str(error)})
    return Response(document.encode(), error.status, headers=error.headers)


class _GoneError(Exception):
    """The client has gone."""


class _Connection:
    """Reads requests from a socket and writes answers, in bounded time and memory."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()
        self.thread: threading.Thread | None = None
        self.usable = True
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def end_input(self) -> None:
        """Let whoever waits for a request wait no longer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    # --- Reading

    def _fill(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        received = self._socket.recv(_CHUNK)
        if not received:
            raise _GoneError
        self._buffer += received

    def take(self, size: int, seconds: float) -> bytes:
        """Return the next bytes."""
        end = time.monotonic() + seconds
        try:
            while len(self._buffer) < size:
                self._fill(end)
        except TimeoutError:
            self.usable = False
            raise HttpError(408, "the body did not come in time") from None
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def take_line(self, seconds: float) -> bytes:
        """Return the next line, a short one, without its end."""
        end = time.monotonic() + seconds
        try:
            while (at := self._buffer.find(b"\n", 0, 1024)) < 0:
                if len(self._buffer) > 1024:  # noqa: PLR2004
                    self.usable = False
                    raise HttpError(400, "a chunk of the body has no length")
                self._fill(end)
        except TimeoutError:
            self.usable = False
            raise HttpError(408, "the body did not come in time") from None
        line = bytes(self._buffer[:at]).rstrip(b"\r")
        del self._buffer[: at + 1]
        return line

    def request(self) -> Request | None:
        """Read the head of the next request; None if there is none."""
        self.usable = False  # until the head has been understood
        if not self._buffer:
            try:
                self._fill(time.monotonic() + IDLE_SECONDS)
            except (TimeoutError, _GoneError):
                return None
        end = time.monotonic() + HEAD_SECONDS
        try:
            while (at := self._buffer.find(b"\r\n\r\n")) < 0:
                if len(self._buffer) > MAX_HEAD:
                    raise HttpError(431, f"more than {MAX_HEAD} bytes of headers")
                self._fill(end)
        except TimeoutError:
            raise HttpError(408, "the request did not come in time") from None
        if at > MAX_HEAD:
            raise HttpError(431, f"more than {MAX_HEAD} bytes of headers")
        head = bytes(self._buffer[:at]).decode("latin-1")
        del self._buffer[: at + 4]
        request = self._parsed(head)
        self.usable = True
        if request.headers.get("expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return request

    def _parsed(self, head: str) -> Request:
        first, *lines = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or words[2] not in {"HTTP/1.1", "HTTP/1.0"}:  # noqa: PLR2004
            raise HttpError(400, "not an HTTP/1.1 request")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip() or "\n" in line or "\0" in line:
                raise HttpError(400, "a header without a name")
            name, value = name.lower(), value.strip()
            if name in headers and name in {"host", "content-length", "transfer-encoding"}:
                raise HttpError(400, f"more than one header {name}")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if words[2] == "HTTP/1.0":
            headers["connection"] = "close"
        try:
            url = urlsplit(words[1])
            query = dict(parse_qsl(url.query, keep_blank_values=True, max_num_fields=50))
        except ValueError:
            raise HttpError(400, "the address cannot be read") from None
        return Request(words[0], unquote(url.path), query, headers, self, _body_length(headers))

    # --- Writing

    def _write(self, data: bytes) -> None:
        self._socket.settimeout(WRITE_SECONDS)
        self._socket.sendall(data)

    def send(self, response: Response, method: str, *, last: bool) -> None:
        body = response.body
        lines = [
            f"HTTP/1.1 {response.status} {_phrase(response.status)}",
            f"Content-Type: {response.content_type}",
            "X-Content-Type-Options: nosniff",
            "Cache-Control: no-store",
            *(f"{name}: {value}" for name, value in response.headers),
        ]
        if isinstance(body, bytes):
            lines += [
                f"Content-Length: {len(body)}",
                f"Connection: {'close' if last else 'keep-alive'}",
            ]
            head = "\r\n".join([*lines, "", ""]).encode("latin-1")
            self._write(head if method == "HEAD" else head + body)
        else:
            self.usable = False  # its end is the end of the connection
            lines.append("Connection: close")
            self._write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            self._stream(iter(body))
        if not self.usable:
            self._linger()

    def _stream(self, parts: Iterator[bytes]) -> None:
        try:
            for part in parts:
                self._write(part)
        finally:
            close: Any = getattr(parts, "close", None)
            if close is not None:
                close()

    def _linger(self) -> None:
        """Take a little of what the client still sends, or it would lose the answer."""
        end = time.monotonic() + 1.0
        with contextlib.suppress(OSError, _GoneError):
            self._socket.shutdown(socket.SHUT_WR)
            for _ in range(256):
                self._buffer.clear()
                self._fill(end)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def _body_length(headers: Mapping[str, str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length", "0")
    if coding is not None:
        if coding.lower() != "chunked" or "content-length" in headers:
            raise HttpError(400, "the length of the body cannot be told")
        return None
    if not (length.isascii() and length.isdigit() and len(length) < 16):  # noqa: PLR2004
        raise HttpError(400, "the length of the body is no number")
    return int(length)
