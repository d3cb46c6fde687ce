"""OTLP as JSON: protobuf's JSON, except that ids are hexadecimal and enums are numbers.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import base64
import importlib
import json
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import json_format

from otel_pipeline.local.limits import MAX_ITEMS
from otel_pipeline.local.wire import JSON_KEYS, BadRequestError, TooLargeError
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["from_document", "from_json", "from_message", "request_message", "signal_of", "to_json"]

_PACKAGES: Final = {Signal.TRACES: "trace", Signal.METRICS: "metrics", Signal.LOGS: "logs"}
_IDS: Final = frozenset(
    {"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"}
)
_DEEPEST: Final = 64


def request_message(signal: str, kind: str = "Request") -> Any:
    """Return the class of a signal's export request, or of the `Response` to it."""
    package = _PACKAGES[signal]
    module = importlib.import_module(
        f"opentelemetry.proto.collector.{package}.v1.{package}_service_pb2"
    )
    return getattr(module, f"Export{package.capitalize()}Service{kind}")


def from_json(signal: str, text: bytes) -> bytes:
    """Return an export request in JSON as protobuf.

    Args:
        signal: `traces`, `metrics` or `logs`.
        text: The JSON document.

    Raises:
        BadRequestError: It is no such document.
        TooLargeError: It has too many items.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"not JSON: {_short(error)}") from error
    if not isinstance(document, dict):
        raise BadRequestError("not an OTLP request: the JSON document is no object")
    return from_document(signal, document)


def from_document(signal: str, document: dict[str, Any]) -> bytes:
    """Return an export request in JSON, already read, as protobuf; see `from_json`."""
    if _count(document, JSON_KEYS[signal]) > MAX_ITEMS:
        raise TooLargeError(f"more than {MAX_ITEMS} items in one request")
    message = request_message(signal)()
    _convert_ids(document, _hex_to_base64)
    try:
        json_format.ParseDict(
            document,
            message,
            ignore_unknown_fields=True,
            max_recursion_depth=_DEEPEST,
        )
    # Of a number that overflows and the like, protobuf lets the ordinary errors through.
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequestError(f"not an OTLP request: {_short(error)}") from error
    body: bytes = message.SerializeToString()
    return body


def signal_of(document: Any) -> str | None:
    """Return which signal an export request in JSON is of; None if it is none.

    >>> signal_of({"resourceSpans": []})
    'traces'
    """
    if isinstance(document, dict):
        for signal, (key, _, _) in JSON_KEYS.items():
            if key in document:
                return signal
    return None


def to_json(signal: str, body: bytes) -> dict[str, Any]:
    """Return an export request, given as protobuf, as a JSON object."""
    return from_message(request_message(signal).FromString(body))


def from_message(message: Any) -> dict[str, Any]:
    """Return any message of OTLP as a JSON object."""
    found: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=True)
    _convert_ids(found, _base64_to_hex)
    return found


def _count(document: dict[str, Any], keys: tuple[str, str, str]) -> int:
    """Return how many items, scopes and resources a document has, of whatever form it is."""
    level: list[Any] = [document]
    total = 0
    for key in keys:
        lists = [found for one in level if isinstance(found := one.get(key), list)]
        level = [entry for entries in lists for entry in entries if isinstance(entry, dict)]
        total += len(level)
    return total


def _convert_ids(value: Any, convert: Callable[[str], str], depth: int = 0) -> None:
    """Change the ids in a document where they stand."""
    if depth > 4 * _DEEPEST:
        raise BadRequestError("not an OTLP request: it is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _IDS and isinstance(inner, str):
                value[key] = convert(inner)
            else:
                _convert_ids(inner, convert, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _convert_ids(inner, convert, depth + 1)


def _hex_to_base64(text: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(text)).decode()
    except ValueError as error:
        raise BadRequestError(
            f"not an OTLP request: the id {text[:40]!r} is not hexadecimal"
        ) from error


def _base64_to_hex(text: str) -> str:
    return base64.b64decode(text).hex()


def _short(error: Exception) -> str:
    return str(error).replace("\n", " ")[:200]
