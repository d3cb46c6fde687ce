"""How much one sender may ask of the local backend; its peak memory follows from these."""

from __future__ import annotations

from typing import Final

__all__: list[str] = []

MIB: Final = 1024 * 1024

#: Bytes of one request as protobuf, after decompression.
MAX_BODY: Final = 8 * MIB
#: Bytes of one request as JSON, which takes many times its size while it is read.
MAX_JSON: Final = 4 * MIB
#: Bytes of one gRPC message; OpenTelemetry's own default.
MAX_GRPC: Final = 4 * MIB
#: Bytes of all requests that wait to be stored.
MAX_WAITING: Final = 4 * MAX_BODY
#: Seconds that a request waits for its turn before it is told to come again.
MAX_WAIT: Final = 5.0
#: Resources in one request.
MAX_GROUPS: Final = 10_000
#: Spans, log records or data points in one request.
MAX_ITEMS: Final = 100_000
#: Bytes of one span, log record, data point, resource or scope.
MAX_ITEM: Final = MIB
#: Attributes of one item.
MAX_ATTRIBUTES: Final = 1_024
#: Bytes of one attribute.
MAX_ATTRIBUTE: Final = 256 * 1024
#: Open connections to one port.
MAX_CONNECTIONS: Final = 64
#: Requests by gRPC at a time.
MAX_RPCS: Final = 16
#: Bytes of a request's first line and headers.
MAX_HEAD: Final = 32 * 1024
#: Seconds for the head of a request, for its body, and for the answer to be taken.
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 20.0
WRITE_SECONDS: Final = 30.0
#: Seconds for which an idle connection is kept.
IDLE_SECONDS: Final = 120.0
#: Items in one answer.
MAX_PAGE: Final = 1_000
#: Seconds that one question to the store may take.
MAX_QUERY: Final = 10.0
