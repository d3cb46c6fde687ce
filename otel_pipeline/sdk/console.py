"""The `console` exporter: each request as one line of OTLP JSON on stdout."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline.sdk.transport import Outcome
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["ConsoleTransport", "otlp_json"]

_REQUESTS: dict[str, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


class ConsoleTransport:
    """Prints what would be sent."""

    endpoint = "the console"

    def __init__(self, signal: str) -> None:
        self._request = _REQUESTS[signal]

    def send(self, payload: bytes, *, timeout: float) -> Outcome:  # noqa: ARG002  a Transport
        """Print one request; a stdout that is closed or broken loses it in silence."""
        line = json.dumps(otlp_json(self._request.FromString(payload)), ensure_ascii=False)
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            return Outcome("rejected", reason=f"stdout: {error}")
        return Outcome("delivered")

    def close(self) -> None:
        """Do nothing: stdout is not ours."""


def otlp_json(message: Message) -> dict[str, Any]:
    """Return a request as OTLP's JSON: protobuf's, but with ids in hexadecimal."""
    found: dict[str, Any] = _with_hex_ids(MessageToDict(message, use_integers_for_enums=True))
    return found


def _with_hex_ids(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_hex_ids(item) for item in node]
    if isinstance(node, dict):
        return {
            key: base64.b64decode(value).hex()
            if key in _IDS and isinstance(value, str)
            else _with_hex_ids(value)
            for key, value in node.items()
        }
    return node
