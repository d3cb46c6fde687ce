"""OTLP as bytes: only its outer shape is taken apart, the items stay as they came.

The three signals nest alike: a request has groups, a group has a resource and scopes, a scope has
items, each at the same field numbers. So one message, `Group`, reads both inner levels of all
three. Items are never built as a tree of objects all at once, which bounds the memory that a
hostile request can take.

OTLP: https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_pipeline.errors import CommandError
from otel_pipeline.local.limits import MAX_GROUPS, MAX_ITEM, MAX_ITEMS
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BadRequestError",
    "DecodeError",
    "Group",
    "LogAttributes",
    "OuterMetric",
    "Points",
    "RawSpan",
    "TooLargeError",
    "check_protobuf",
    "request_of",
    "scopes_of",
]


class BadRequestError(Exception):
    """A request that cannot be read; the message says why."""


class TooLargeError(Exception):
    """A request that is larger than the limits; the message says which."""


_Field = descriptor_pb2.FieldDescriptorProto
_TRACE: Final = ".opentelemetry.proto.trace.v1"
_FIELDS: Final[dict[str, list[tuple[str, int, Any, bool]]]] = {
    # name, number, type, whether repeated
    "Request": [("groups", 1, _Field.TYPE_BYTES, True)],
    "Group": [
        ("head", 1, _Field.TYPE_BYTES, False),
        ("items", 2, _Field.TYPE_BYTES, True),
        ("schema_url", 3, _Field.TYPE_STRING, False),
    ],
    # A span and a log record whose attributes stay as they came; the rest is read as usual, so
    # that whatever is wrong with it shows.
    "RawSpan": [
        ("trace_id", 1, _Field.TYPE_BYTES, False),
        ("span_id", 2, _Field.TYPE_BYTES, False),
        ("trace_state", 3, _Field.TYPE_STRING, False),
        ("parent_span_id", 4, _Field.TYPE_BYTES, False),
        ("name", 5, _Field.TYPE_STRING, False),
        ("kind", 6, _Field.TYPE_INT32, False),
        ("start_time_unix_nano", 7, _Field.TYPE_FIXED64, False),
        ("end_time_unix_nano", 8, _Field.TYPE_FIXED64, False),
        ("attributes", 9, _Field.TYPE_BYTES, True),
        ("dropped_attributes_count", 10, _Field.TYPE_UINT32, False),
        ("events", 11, f"{_TRACE}.Span.Event", True),
        ("dropped_events_count", 12, _Field.TYPE_UINT32, False),
        ("links", 13, f"{_TRACE}.Span.Link", True),
        ("dropped_links_count", 14, _Field.TYPE_UINT32, False),
        ("status", 15, f"{_TRACE}.Status", False),
        ("flags", 16, _Field.TYPE_FIXED32, False),
    ],
    "LogAttributes": [("attributes", 6, _Field.TYPE_BYTES, True)],
    # A metric; what holds its points is one of five fields.
    "OuterMetric": [
        ("name", 1, _Field.TYPE_STRING, False),
        ("description", 2, _Field.TYPE_STRING, False),
        ("unit", 3, _Field.TYPE_STRING, False),
        ("gauge", 5, _Field.TYPE_BYTES, False),
        ("sum", 7, _Field.TYPE_BYTES, False),
        ("histogram", 9, _Field.TYPE_BYTES, False),
        ("exponential_histogram", 10, _Field.TYPE_BYTES, False),
        ("summary", 11, _Field.TYPE_BYTES, False),
    ],
    "Points": [
        ("data_points", 1, _Field.TYPE_BYTES, True),
        ("aggregation_temporality", 2, _Field.TYPE_INT32, False),
        ("is_monotonic", 3, _Field.TYPE_BOOL, False),
    ],
}


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="otel_pipeline/local.proto",
        package="otel_pipeline.local",
        syntax="proto3",
        dependency=[trace_pb2.DESCRIPTOR.name],
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _Field.TYPE_MESSAGE, kind
            else:
                added.type = kind
    pool = descriptor_pool.Default()  # where OTLP's own messages are
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"otel_pipeline.local.{name}")
        )
        for name in _FIELDS
    }


_MESSAGES: Final = _messages()
_Request: Final = _MESSAGES["Request"]
#: A resource with its scopes, or a scope with its items: `head`, `items`, `schema_url`.
Group: Final = _MESSAGES["Group"]
RawSpan: Final = _MESSAGES["RawSpan"]
LogAttributes: Final = _MESSAGES["LogAttributes"]
OuterMetric: Final = _MESSAGES["OuterMetric"]
Points: Final = _MESSAGES["Points"]


def check_protobuf() -> None:
    """Refuse to go on with protobuf's pure Python build, which is fifty times slower.

    Raises:
        CommandError: It is not the compiled build.
    """
    kind = api_implementation.Type()
    if kind != "upb":
        raise CommandError(
            f"protobuf runs as its {kind!r} build, which is too slow to receive telemetry: unset"
            " PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, and install protobuf as a wheel with"
            " `pip install --force-reinstall --only-binary protobuf protobuf`"
        )


def scopes_of(body: bytes) -> Iterator[tuple[bytes, bytes, list[bytes]]]:
    """Take a request apart.

    Args:
        body: An export request of any signal.

    Yields:
        For each scope the resource and the scope, each as a `Group` without its items, and the
        items as they came.

    Raises:
        BadRequestError: It is no export request.
        TooLargeError: It has too many resources or items.
    """
    try:
        groups = _Request.FromString(body).groups
        if len(groups) > MAX_GROUPS:
            raise TooLargeError(f"{len(groups)} resources in one request; at most {MAX_GROUPS}")
        left = MAX_ITEMS
        for group in groups:
            resource = Group.FromString(group)
            if len(resource.items) > MAX_ITEMS:
                raise TooLargeError(f"more than {MAX_ITEMS} scopes in one request")
            for inner in resource.items:
                scope = Group.FromString(inner)
                left -= len(scope.items)
                if left < 0:
                    raise TooLargeError(f"more than {MAX_ITEMS} items in one request")
                yield _head(resource), _head(scope), list(scope.items)
    except DecodeError as error:
        raise BadRequestError(f"not an OTLP request: {error}") from error


def _head(group: Any) -> bytes:
    if len(group.head) > MAX_ITEM:
        raise TooLargeError(f"a resource or scope of {len(group.head)} bytes; at most {MAX_ITEM}")
    head: bytes = Group(head=group.head, schema_url=group.schema_url).SerializeToString()
    return head


def request_of(resource: bytes, scope: bytes, items: list[bytes]) -> bytes:
    """Put together what `scopes_of` took apart.

    >>> list(scopes_of(request_of(b"", b"", [b"item"])))
    [(b'', b'', [b'item'])]
    """
    inner = scope + Group(items=items).SerializeToString()
    outer = resource + Group(items=[inner]).SerializeToString()
    body: bytes = _Request(groups=[outer]).SerializeToString()
    return body


#: The key of a request's groups in OTLP JSON, their scopes and items, for each signal.
JSON_KEYS: Final = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
    Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics"),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
}
