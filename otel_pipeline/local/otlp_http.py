"""OTLP/HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from google.rpc import status_pb2  # type: ignore[import-untyped]

from otel_pipeline.local.http_server import HttpError, Response
from otel_pipeline.local.limits import MAX_BODY, MAX_JSON
from otel_pipeline.local.otlp_json import from_message, request_message
from otel_pipeline.local.receiver import BusyError, response_to
from otel_pipeline.local.store import StoreError
from otel_pipeline.local.wire import BadRequestError, TooLargeError
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from otel_pipeline.local.access import Access
    from otel_pipeline.local.http_server import Request
    from otel_pipeline.local.receiver import Receiver

__all__ = ["OtlpHttp"]

_PATHS: Final = {
    "/v1/traces": Signal.TRACES,
    "/v1/metrics": Signal.METRICS,
    "/v1/logs": Signal.LOGS,
}
_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"


class OtlpHttp:
    """Answers requests with telemetry.

    Args:
        receiver: Takes it.
        access: Says who may send.
    """

    def __init__(self, receiver: Receiver, access: Access) -> None:
        self._receiver = receiver
        self._access = access

    def __call__(self, request: Request) -> Response:
        """Answer a request, after what it brings is committed.

        Raises:
            HttpError: It cannot be taken.
        """
        is_json = request.headers.get("content-type", "").partition(";")[0].strip() == _JSON
        try:
            self._access.check(request)
            added = self._take(request, json=is_json)
        except HttpError as error:
            return self._refusal(error.status, str(error), error.headers, json=is_json)
        except BadRequestError as error:
            return self._refusal(400, str(error), json=is_json)
        except TooLargeError as error:
            return self._refusal(413, str(error), json=is_json)
        except (BusyError, StoreError) as error:
            return self._refusal(503, str(error), (("Retry-After", "1"),), json=is_json)
        signal, result = added
        body = response_to(signal, result)
        if not is_json:
            return Response(body, content_type=_PROTOBUF)
        document = from_message(request_message(signal, "Response").FromString(body))
        return Response(json.dumps(document).encode(), content_type=_JSON)

    def _take(self, request: Request, *, json: bool) -> tuple[str, Any]:
        signal = _PATHS.get(request.path)
        if signal is None:
            raise HttpError(404, f"there is nothing here: send to {', '.join(_PATHS)}")
        if request.method != "POST":
            raise HttpError(405, "use POST", (("Allow", "POST"),))
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if content_type not in {_PROTOBUF, _JSON}:
            raise HttpError(415, f"the content type is none of {_PROTOBUF}, {_JSON}")
        encoding = request.headers.get("content-encoding", "").strip().lower()
        limit = MAX_JSON if json else MAX_BODY
        expected = limit if request.body_left is None else min(request.body_left, limit)
        with self._receiver.room(expected):
            body = request.read(limit)
            return signal, self._receiver.receive(signal, body, json=json, encoding=encoding)

    @staticmethod
    def _refusal(
        status: int, message: str, headers: tuple[tuple[str, str], ...] = (), *, json: bool
    ) -> Response:
        """Return an error as OTLP wants it: a `Status` message."""
        if json:
            return Response(_json_status(message), status, _JSON, headers)
        body = status_pb2.Status(message=message).SerializeToString()
        return Response(body, status, _PROTOBUF, headers)


def _json_status(message: str) -> bytes:
    return json.dumps({"message": message}).encode()
