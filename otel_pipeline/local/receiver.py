"""Takes OTLP requests, one after the other, and answers when they are committed."""

from __future__ import annotations

import contextlib
import threading
import zlib
from typing import TYPE_CHECKING, Final

from otel_pipeline.local.limits import MAX_BODY, MAX_JSON, MAX_WAIT, MAX_WAITING
from otel_pipeline.local.otlp_json import from_json, request_message
from otel_pipeline.local.wire import BadRequestError, TooLargeError
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.local.forward import Forwarder
    from otel_pipeline.local.store import Added, Store

__all__ = ["BusyError", "Receiver", "response_to", "unpacked"]

_REJECTED: Final = {
    Signal.TRACES: "rejected_spans",
    Signal.METRICS: "rejected_data_points",
    Signal.LOGS: "rejected_log_records",
}


class BusyError(Exception):
    """More comes in than can be stored: the sender is to come again in a second."""


class Receiver:
    """Stores what comes in, one request at a time, and passes it on.

    Args:
        store: Where it goes.
        forwarder: Who gets a copy, if anyone.

    >>> from otel_pipeline.local.sqlite import SqliteStore
    >>> Receiver(SqliteStore(None)).receive("traces", b"")
    Added(stored=0, rejected=0, reason='')
    """

    def __init__(self, store: Store, forwarder: Forwarder | None = None) -> None:
        self._store = store
        self._forwarder = forwarder
        self._turn = threading.Lock()
        self._waiting = 0
        self._count = threading.Lock()
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Hold room in memory for a request that is about to be read.

        Raises:
            BusyError: There is none now.
        """
        with self._count:
            if self._waiting + size > MAX_WAITING:
                raise BusyError("too much waits to be stored")
            self._waiting += size
        try:
            yield
        finally:
            with self._count:
                self._waiting -= size

    def receive(self, signal: str, body: bytes, *, json: bool = False, encoding: str = "") -> Added:
        """Store a request.

        Args:
            signal: `traces`, `metrics` or `logs`.
            body: The request as it came.
            json: Whether it is JSON rather than protobuf.
            encoding: How it is compressed: `gzip`, `deflate` or not at all.

        Returns:
            What became of it, when it is committed.

        Raises:
            BadRequestError: It cannot be read.
            TooLargeError: It is beyond a limit.
            BusyError: Others are before it, and that takes too long.
        """
        # One at a time: what it takes in memory to read a hostile request is taken once only.
        if not self._turn.acquire(timeout=MAX_WAIT):
            raise BusyError("the store cannot keep up")
        try:
            body = unpacked(body, encoding, MAX_JSON if json else MAX_BODY)
            if json:
                body = from_json(signal, body)
            added = self._store.add(signal, body)
        finally:
            self._turn.release()
        if self._forwarder is not None and added.stored:
            self._forwarder.add(signal, body)
        with self.changed:
            self.changed.notify_all()
        return added


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its compression.

    Raises:
        BadRequestError: It is broken or compressed in another way.
        TooLargeError: It would have more than `limit` bytes; that much was unpacked of it.
    """
    if encoding in {"", "identity"}:
        if len(body) > limit:
            raise TooLargeError(f"the body has more than {limit} bytes: send smaller requests")
        return body
    windows = {"gzip": 31, "deflate": 15}
    if encoding not in windows:
        raise BadRequestError(f"the content encoding {encoding[:40]!r} is none of gzip, deflate")
    unpacker = zlib.decompressobj(windows[encoding])
    try:
        found = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequestError(f"the body is no {encoding}: {error}") from error
    if len(found) > limit:
        raise TooLargeError(
            f"the body has more than {limit} bytes when it is unpacked: send smaller requests"
        )
    if not unpacker.eof:
        raise BadRequestError(f"the body is no {encoding}: it ends too soon")
    if unpacker.unused_data:
        raise BadRequestError(f"the body is no {encoding}: something stands behind its end")
    return found


def response_to(signal: str, added: Added) -> bytes:
    """Return the OTLP response: empty, or a partial success."""
    response = request_message(signal, "Response")()
    if added.rejected:
        setattr(response.partial_success, _REJECTED[signal], added.rejected)
        response.partial_success.error_message = added.reason
    body: bytes = response.SerializeToString()
    return body
