"""OTLP/gRPC: https://opentelemetry.io/docs/specs/otlp/#otlpgrpc."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import (  # type: ignore[import-untyped]
    code_pb2,
    error_details_pb2,
    status_pb2,
)

from otel_pipeline.errors import CommandError
from otel_pipeline.local.limits import MAX_GRPC, MAX_RPCS
from otel_pipeline.local.receiver import BusyError, response_to
from otel_pipeline.local.store import StoreError
from otel_pipeline.local.wire import BadRequestError, TooLargeError
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.local.access import Access
    from otel_pipeline.local.receiver import Receiver

__all__ = ["GrpcServer"]

_METHODS: Final = {
    f"/opentelemetry.proto.collector.{package}.v1.{name}Service/Export": signal
    for signal, package, name in (
        (Signal.TRACES, "trace", "Trace"),
        (Signal.METRICS, "metrics", "Metrics"),
        (Signal.LOGS, "logs", "Logs"),
    )
}
_STOP_SECONDS: Final = 2.0


class GrpcServer:
    """Serves from construction to `stop`.

    Args:
        host: Address to listen on.
        port: TCP port; 0 for any free one.
        receiver: Takes what comes.
        access: Says who may send.

    Raises:
        CommandError: The port is taken.
    """

    def __init__(self, host: str, port: int, receiver: Receiver, access: Access) -> None:
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=4, thread_name_prefix="otlp-grpc"),
            handlers=[_Handlers(receiver, access)],
            maximum_concurrent_rpcs=MAX_RPCS,
            compression=grpc.Compression.NoCompression,
            options=[
                ("grpc.max_receive_message_length", MAX_GRPC),
                ("grpc.max_concurrent_streams", MAX_RPCS),
                ("grpc.so_reuseport", 0),  # or a second one would take the port, too
            ],
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise CommandError(
                f"cannot listen on {address}: another program has the port, or another"
                " `otel-pipeline ui` runs: choose another with --grpc-port, or 0 for none"
            )
        self._server.start()

    def stop(self) -> None:
        """Stop; what is being answered may end."""
        self._server.stop(_STOP_SECONDS).wait()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, receiver: Receiver, access: Access) -> None:
        self._access = access
        self._handlers: dict[str, Any] = {
            method: grpc.unary_unary_rpc_method_handler(self._answer(signal, receiver))
            for method, signal in _METHODS.items()
        }

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)

    def _answer(self, signal: str, receiver: Receiver) -> Callable[[bytes, Any], bytes]:
        def answer(body: bytes, context: Any) -> bytes:
            metadata = dict(context.invocation_metadata())
            if not self._access.allows(str(metadata.get("authorization", ""))):
                context.abort(
                    grpc.StatusCode.UNAUTHENTICATED,
                    "a token is needed: send the metadata authorization=Bearer TOKEN",
                )
            try:
                with receiver.room(len(body)):
                    return response_to(signal, receiver.receive(signal, body))
            except BadRequestError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except TooLargeError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except (BusyError, StoreError) as error:
                context.abort_with_status(_come_again(str(error)))
            raise AssertionError("abort does not return")

        return answer


class _come_again(grpc.Status):  # noqa: N801  the form that gRPC asks for
    """UNAVAILABLE with the time after which to come again."""

    def __init__(self, message: str) -> None:
        details = any_pb2.Any()
        details.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1)))
        status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message=message, details=[details])
        self.code = grpc.StatusCode.UNAVAILABLE
        self.details = message
        self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)
