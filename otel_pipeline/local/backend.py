"""All parts of the local backend together."""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_pipeline import diagnostics
from otel_pipeline.local.access import Access
from otel_pipeline.local.api import Api
from otel_pipeline.local.http_server import HttpServer
from otel_pipeline.local.otlp_http import OtlpHttp
from otel_pipeline.local.receiver import Receiver
from otel_pipeline.local.store import StoreError
from otel_pipeline.local.wire import check_protobuf

if TYPE_CHECKING:
    from typing import Self

    from otel_pipeline.local.store import Store

__all__ = ["LocalBackend", "Options"]

#: A thread that stores much leaves the interpreter to one that answers after so many seconds.
_SWITCH: Final = 0.0005
_MAINTAIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """How the local backend listens.

    Attributes:
        host: Address of all ports.
        port: Port of the page and the API; 0 for any free one.
        otlp_port: Port of OTLP/HTTP; 0 for any free one.
        grpc_port: Port of OTLP/gRPC; None for none, 0 for any free one.
        token: What senders and readers show; empty for none.
        forward: Where a copy goes; empty for nowhere.
        forward_headers: Headers of the copy, as `OTEL_EXPORTER_OTLP_HEADERS` has them.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    otlp_port: int = 4318
    grpc_port: int | None = 4317
    token: str = ""
    forward: str = ""
    forward_headers: str = ""


class LocalBackend:
    """Listens from construction to `stop`.

    Args:
        store: Where all goes; `stop` leaves it open.
        options: How to listen.

    Raises:
        CommandError: A port is taken, or a setting cannot be used.

    >>> from otel_pipeline.local.sqlite import SqliteStore
    >>> any_port = Options(port=0, otlp_port=0, grpc_port=None)
    >>> with SqliteStore(None) as store, LocalBackend(store, any_port) as backend:
    ...     backend.page_url == f"http://127.0.0.1:{backend.page.port}/"
    True
    """

    def __init__(self, store: Store, options: Options) -> None:
        check_protobuf()
        self._store = store
        self._stopping = threading.Event()
        access = Access(options.host, options.token)
        self._access = access
        self.grpc_port: int | None = None
        with contextlib.ExitStack() as undo:
            interval = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH)
            undo.callback(sys.setswitchinterval, interval)
            forwarder = None
            if options.forward:
                # It brings the exporters' transport along, which few need here.
                from otel_pipeline.local.forward import Forwarder  # noqa: PLC0415

                forwarder = Forwarder(options.forward, options.forward_headers)
                undo.callback(forwarder.stop)
            self.receiver = Receiver(store, forwarder)
            api = Api(store, self.receiver, access, self._stopping.is_set)
            self.page = undo.enter_context(HttpServer(options.host, options.port, api, "--port"))
            self.otlp = undo.enter_context(
                HttpServer(
                    options.host,
                    options.otlp_port,
                    OtlpHttp(self.receiver, access),
                    "--otlp-port",
                )
            )
            if options.grpc_port is not None:
                # gRPC takes a fifth of a second to import, and not everybody wants it.
                from otel_pipeline.local.otlp_grpc import GrpcServer  # noqa: PLC0415

                server = GrpcServer(options.host, options.grpc_port, self.receiver, access)
                self.grpc_port = server.port
                undo.callback(server.stop)
            keeper = threading.Thread(target=self._maintain, name="maintain", daemon=True)
            keeper.start()
            undo.callback(keeper.join)
            undo.callback(self._wake)
            self._undo = undo.pop_all()

    @property
    def page_url(self) -> str:
        """The address to open in a browser; with a token it works once."""
        return self.page.url + self._access.login

    def __enter__(self) -> Self:
        """Return the backend, which is running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop listening; what is being answered may end."""
        self._undo.close()

    def _wake(self) -> None:
        self._stopping.set()
        with self.receiver.changed:
            self.receiver.changed.notify_all()

    def _maintain(self) -> None:
        while not self._stopping.wait(_MAINTAIN):
            try:
                self._store.maintain()
            except StoreError as error:
                diagnostics.warn_once("local:maintain", "%s", error)
