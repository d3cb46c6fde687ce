"""Questions about spans, which are stored in blocks: some that came together, as they came."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_pipeline.local import sql
from otel_pipeline.local.attributes import plain_attributes
from otel_pipeline.local.filters import compile_filter
from otel_pipeline.local.series import iso
from otel_pipeline.local.signature import SPANS
from otel_pipeline.local.wire import Group, RawSpan, request_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from otel_pipeline.local.store import Question

__all__ = ["export_spans", "page", "span", "trace"]

_STATUS: Final = ("unset", "ok", "error")
_BLOCKS_PER_EXPORT: Final = 200


def page(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of traces: by their root spans, or by the spans that match a filter."""
    if question.filter.strip():
        return _matching(db, question)
    where = sql.conditions_of(question, "runs", "start")
    rows = (
        "SELECT *, start || '-' || id AS cursor FROM roots"  # noqa: S608
        f"{sql.conditions(where)} ORDER BY start DESC, id DESC LIMIT ?"
    )
    item = (
        f"json_object('trace_id', {sql.hexadecimal('trace_id')},"
        f" 'span_id', {sql.hexadecimal('span_id')}, 'name', name, 'service', service,"
        f" 'start', {sql.iso('start')}, 'duration_ns', duration, 'status',"
        " CASE status WHEN 2 THEN 'error' WHEN 1 THEN 'ok' ELSE 'unset' END,"
        " 'root', json('true'), 'cursor', cursor)"
    )
    limit = sql.limit_of(question)
    items, count = db.execute(
        f"SELECT json_group_array(json({item})), count(*) FROM ({rows})"  # noqa: S608
        " LEFT JOIN (SELECT id AS number, service FROM resources) ON number = resource",
        (*where.parameters, limit),
    ).fetchone()
    return sql.wrapped(items, count, limit)


def _matching(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of spans that match, one of each trace; what came last comes first."""
    found: dict[bytes, dict[str, Any]] = {}
    limit = sql.limit_of(question)
    for block, service, spans in _candidates(db, question):
        for match in sorted(spans, key=lambda one: -one.start_time_unix_nano):
            found.setdefault(match.trace_id, _outline(match, service, block))
        if len(found) >= limit:
            break
    items = list(found.values())
    # All of a block's traces are shown, so that the next page can begin behind it.
    following = items[-1]["cursor"] if len(items) >= limit else None
    return json.dumps({"items": items, "next": following})


def _outline(found: Any, service: str, block: int) -> dict[str, Any]:
    return {
        "trace_id": found.trace_id.hex(),
        "span_id": found.span_id.hex(),
        "name": found.name,
        "service": service,
        "start": iso(found.start_time_unix_nano),
        "duration_ns": _duration(found),
        "status": _status(found),
        "root": not found.parent_span_id,
        "cursor": f"0-{block}",
    }


def _candidates(db: sqlite3.Connection, question: Question) -> Iterator[tuple[int, str, list[Any]]]:
    """Yield blocks with spans that match, the one that came last first."""
    where = compile_filter(question.filter, "spans")
    sql.add_signature(where, SPANS)
    if question.before:
        where.add("id < ?", sql.cursor(question.before)[1])
    rows = db.execute(
        f"SELECT id, service, raw FROM (SELECT * FROM blocks{sql.conditions(where)})"  # noqa: S608
        " CROSS JOIN block_data ON block = id"
        " LEFT JOIN (SELECT id AS number, service FROM resources) ON number = resource"
        " ORDER BY id DESC",
        where.parameters,
    )
    for number, service, raw in rows:
        spans = [
            one
            for one in map(Span.FromString, Group.FromString(raw).items)
            if all(test(one) for test in where.tests)
        ]
        if spans:
            yield number, service, spans


def _duration(found: Any) -> int:
    length: int = found.end_time_unix_nano - found.start_time_unix_nano
    return max(length, 0)


def _status(found: Any) -> str:
    code = found.status.code
    return _STATUS[code] if 0 <= code < len(_STATUS) else "unset"


def _spans_of(db: sqlite3.Connection, trace_id: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks that have spans of a trace, each with its resource."""
    yield from db.execute(
        "SELECT resource, raw FROM block_traces JOIN blocks ON blocks.id = block_traces.block"
        " JOIN block_data ON block_data.block = block_traces.block WHERE trace_id = ?"
        " ORDER BY block_traces.block",
        (trace_id,),
    )


def trace(db: sqlite3.Connection, trace_id: bytes) -> str:
    """Return the outline of a trace."""
    rows: dict[bytes, tuple[Any, ...]] = {}  # a span that was sent twice is shown once
    for resource, raw in _spans_of(db, trace_id):
        # Attributes are left as they came: nobody looks at them here.
        for one in map(RawSpan.FromString, Group.FromString(raw).items):
            if one.trace_id == trace_id and one.span_id not in rows:
                start, end = one.start_time_unix_nano, one.end_time_unix_nano
                length = end - start if end > start else 0
                parent, name = one.parent_span_id.hex(), one.name
                rows[one.span_id] = (parent, name, resource, start, length, _status(one))
    if not rows:
        return json.dumps({"trace_id": trace_id.hex(), "items": []})
    start = min(row[3] for row in rows.values())
    end = max(row[3] + row[4] for row in rows.values())
    services = dict(
        db.execute(
            "SELECT id, service FROM resources WHERE id IN"
            " (SELECT resource FROM block_traces JOIN blocks ON id = block WHERE trace_id = ?)",
            (trace_id,),
        )
    )
    columns = "span_id parent_span_id name resource start_ns duration_ns status"
    return json.dumps(
        {
            "trace_id": trace_id.hex(),
            "start": iso(start),
            "duration_ns": end - start,
            "services": services,
            "columns": columns.split(),
            "items": [
                (span_id.hex(), parent, name, resource, begin - start, duration, state)
                for span_id, (parent, name, resource, begin, duration, state) in rows.items()
            ],
        },
        separators=(",", ":"),
    )


def span(db: sqlite3.Connection, trace_id: bytes, span_id: bytes) -> str:
    """Return everything about a span."""
    rows = db.execute(
        "SELECT data.raw, resources.raw, scopes.raw, service FROM block_traces"
        " JOIN blocks ON blocks.id = block_traces.block"
        " JOIN block_data AS data ON data.block = block_traces.block"
        " LEFT JOIN resources ON resources.id = resource LEFT JOIN scopes ON scopes.id = scope"
        " WHERE trace_id = ? AND instr(data.raw, ?) ORDER BY block_traces.block",
        (trace_id, span_id),
    )
    for raw, resource, scope, service in rows:
        for item in Group.FromString(raw).items:
            found = Span.FromString(item)
            if (found.trace_id, found.span_id) == (trace_id, span_id):
                about = {
                    "service": service,
                    "resource": plain_attributes(_head(Resource, resource).attributes),
                    "scope": _head(InstrumentationScope, scope).name,
                }
                return json.dumps({"items": [{**_details(found), **about}]})
    return '{"items": []}'


def _head(kind: Any, raw: bytes | None) -> Any:
    return kind.FromString(Group.FromString(raw or b"").head)


def _details(found: Any) -> dict[str, Any]:
    known = Span.SpanKind.DESCRIPTOR.values_by_number
    kind = known[found.kind].name if found.kind in known else "SPAN_KIND_UNSPECIFIED"
    return {
        "trace_id": found.trace_id.hex(),
        "span_id": found.span_id.hex(),
        "parent_span_id": found.parent_span_id.hex() or None,
        "name": found.name,
        "kind": kind.removeprefix("SPAN_KIND_").lower(),
        "start": iso(found.start_time_unix_nano),
        "end": iso(found.end_time_unix_nano),
        "duration_ns": _duration(found),
        "status": _status(found),
        "status_message": found.status.message,
        "attributes": plain_attributes(found.attributes),
        "events": [
            {
                "name": event.name,
                "offset_ns": event.time_unix_nano - found.start_time_unix_nano,
                "attributes": plain_attributes(event.attributes),
            }
            for event in found.events
        ],
        "links": [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": plain_attributes(link.attributes),
            }
            for link in found.links
        ],
    }


def export_spans(db: sqlite3.Connection, filter_text: str, after: int) -> tuple[list[bytes], int]:
    """Return the next spans as export requests, and behind which block to go on; 0 at the end."""
    where = compile_filter(filter_text, "spans")
    sql.add_signature(where, SPANS)
    where.add("id > ?", after)
    rows = db.execute(
        "SELECT id, data.raw, head, scope_head FROM"  # noqa: S608
        f" (SELECT * FROM blocks{sql.conditions(where)} ORDER BY id LIMIT ?)"
        " CROSS JOIN block_data AS data ON data.block = id"
        " LEFT JOIN (SELECT id AS number, raw AS head FROM resources)"
        " ON number = resource"
        " LEFT JOIN (SELECT id AS scope_number, raw AS scope_head FROM scopes)"
        " ON scope_number = scope ORDER BY id",
        (*where.parameters, _BLOCKS_PER_EXPORT),
    ).fetchall()
    requests = []
    for _, raw, head, scope_head in rows:
        items = list(Group.FromString(raw).items)
        if where.tests:
            spans = map(Span.FromString, items)
            keep = [all(test(one) for test in where.tests) for one in spans]
            items = list(itertools.compress(items, keep))
        if items:
            requests.append(request_of(head or b"", scope_head or b"", items))
    return requests, rows[-1][0] if len(rows) == _BLOCKS_PER_EXPORT else 0
