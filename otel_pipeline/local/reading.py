"""Questions to the SQLite file, each answered by one statement where speed counts.

SQLite makes the JSON itself: a page is one row, so that a thread that asks hands over the
interpreter's lock only once while another one writes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_pipeline.local import signature
from otel_pipeline.local.attributes import plain, plain_attributes, text_of
from otel_pipeline.local.filters import FilterError, compile_filter, signature_conditions
from otel_pipeline.local.limits import MAX_PAGE
from otel_pipeline.local.series import export_points, points
from otel_pipeline.local.wire import Group, request_of
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from otel_pipeline.local.filters import Kind, Where
    from otel_pipeline.local.store import Question

__all__ = [
    "add_functions",
    "changes",
    "export",
    "logs",
    "metrics",
    "points",
    "runs",
    "span",
    "status",
    "trace",
    "traces",
]

_PER_EXPORT: Final = 5_000
_MOST_COUNTED: Final = 1_000  # spans of a trace in a list
_SPAN_STATUS: Final = "CASE status WHEN 2 THEN 'error' WHEN 1 THEN 'ok' ELSE 'unset' END"
_LEVEL: Final = (
    "CASE WHEN severity >= 21 THEN 'critical' WHEN severity >= 17 THEN 'error'"
    " WHEN severity >= 13 THEN 'warning' WHEN severity >= 9 THEN 'info'"
    " WHEN severity >= 5 THEN 'debug' WHEN severity >= 1 THEN 'trace' END"
)


def _iso(column: str) -> str:
    return (
        f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000000, 'unixepoch')"
        f" || printf('.%09dZ', {column} % 1000000000)"
    )


def _hex(column: str) -> str:
    # lower(hex(NULL)) is an empty text
    return f"iif({column} IS NULL, NULL, lower(hex({column})))"


# --- Functions that SQL calls on what was stored as it came ---------------------------------------


def add_functions(db: sqlite3.Connection) -> None:
    """Give a connection the functions that filters and pages use."""
    for name, arguments, function in (
        ("span_attribute", 2, _safe(lambda raw, key: _attribute(Span, raw, key))),
        ("log_attribute", 2, _safe(lambda raw, key: _attribute(LogRecord, raw, key))),
        ("span_says", 3, _safe(_span_says)),
        ("log_says", 2, _safe(_log_says)),
        ("log_details", 1, _safe(_log_details)),
    ):
        db.create_function(name, arguments, function, deterministic=True)


def _safe(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except (ValueError, TypeError):  # a damaged row matches nothing
            return None

    return call


def _attribute(kind: Any, raw: bytes, key: str) -> str | None:
    for pair in kind.FromString(raw).attributes:
        if pair.key == key:
            return text_of(pair.value)
    return None


def _says(text: str, words: str) -> bool:
    return f" {words} " in f" {' '.join(signature.words(text))} "


def _span_says(name: str, raw: bytes, words: str) -> bool:
    texts = [name, *(text_of(pair.value) for pair in Span.FromString(raw).attributes)]
    return any(_says(text, words) for text in texts)


def _log_says(raw: bytes, words: str) -> bool:
    record = LogRecord.FromString(raw)
    values = [record.body, *(pair.value for pair in record.attributes)]
    return any(_says(text_of(value), words) for value in values)


def _log_details(raw: bytes) -> str:
    record = LogRecord.FromString(raw)
    return json.dumps([plain(record.body), plain_attributes(record.attributes)])


# --- Pages ----------------------------------------------------------------------------------------


def _limit(question: Question) -> int:
    return max(1, min(question.limit, MAX_PAGE))


def _cursor(before: str) -> tuple[int, int]:
    time, _, number = before.partition("-")
    if not (time.isdecimal() and number.isdecimal() and len(before) < 40):  # noqa: PLR2004
        raise FilterError(f"{before[:40]!r} is no place in a list: take `next` of an answer")
    return min(int(time), 2**63 - 1), min(int(number), 2**63 - 1)


def _where(question: Question, kind: Kind, time: str) -> Where:
    """Return the conditions of a question about something with a time."""
    where = compile_filter(question.filter, kind)
    for sql, part in signature_conditions(where.bits):
        where.sql.insert(0, sql)
        where.parameters[:0] = [part, part]
    if question.before:
        at, number = _cursor(question.before)
        where.add(f"{time} <= ? AND ({time} < ? OR id < ?)", at, at, number)
    return where


def _conditions(where: Where, *more: str) -> str:
    every = [*where.sql, *more]
    return " WHERE " + " AND ".join(f"({one})" for one in every) if every else ""


def _page(db: sqlite3.Connection, rows: str, item: str, where: Where, limit: int) -> str:
    """Return a page of the rows that a statement selects; they have `cursor`."""
    items, count = db.execute(
        f"SELECT json_group_array(json({item})), count(*) FROM ({rows} LIMIT ?)",  # noqa: S608
        (*where.parameters, limit),
    ).fetchone()
    return _wrapped(items, count, limit)


def _wrapped(items: str, count: int, limit: int) -> str:
    if count < limit:
        return f'{{"items":{items},"next":null}}'
    following = json.loads(items)[-1]["cursor"]
    return f'{{"items":{items},"next":{json.dumps(following)}}}'


def runs(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of runs."""
    where = _where(question, "runs", "start")
    rows = (
        "SELECT *, start || '-' || id AS cursor FROM runs"  # noqa: S608
        f"{_conditions(where)} ORDER BY start DESC, id DESC"
    )
    item = (
        "json_object('run_id', run_id, 'pipeline', pipeline, 'service', service,"
        f" 'trace_id', {_hex('trace_id')}, 'start', {_iso('start')}, 'duration_ns', duration,"
        " 'status', ifnull(status, 'running'), 'mode', mode,"
        " 'records', json_object('success', success, 'error', error, 'skipped', skipped),"
        " 'cursor', cursor)"
    )
    return _page(db, rows, item, where, _limit(question))


def traces(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of traces."""
    where = _where(question, "spans", "start")
    only_roots = () if question.filter.strip() else ("parent_id IS NULL",)
    rows = (
        "SELECT *, start || '-' || id AS cursor FROM spans"  # noqa: S608
        f"{_conditions(where, *only_roots)} ORDER BY start DESC, id DESC"
    )
    counted = (
        "(SELECT count(*) FROM (SELECT 1 FROM spans AS other"
        f" WHERE other.trace_id = page.trace_id LIMIT {_MOST_COUNTED}))"
    )
    item = (
        f"json_object('trace_id', {_hex('trace_id')}, 'span_id', {_hex('span_id')},"
        f" 'name', name, 'service', service, 'start', {_iso('start')},"
        f" 'duration_ns', duration, 'status', {_SPAN_STATUS},"
        " 'root', json(iif(parent_id IS NULL, 'true', 'false')),"
        f" 'spans', {counted}, 'cursor', cursor)"
    )
    limit = _limit(question)
    text, count = db.execute(
        f"SELECT json_group_array(json({item})), count(*) FROM ({rows} LIMIT ?) AS page"  # noqa: S608
        " LEFT JOIN (SELECT id AS number, service FROM resources) ON number = resource",
        (*where.parameters, limit),
    ).fetchone()
    page: dict[str, Any] = json.loads(_wrapped(text, count, limit))
    seen: dict[str, Any] = {}
    for found in page["items"]:
        seen.setdefault(found["trace_id"], found)
    return json.dumps({**page, "items": list(seen.values())})


def trace(db: sqlite3.Connection, trace_id: bytes) -> str:
    """Return the outline of a trace."""
    start, end, count = db.execute(
        "SELECT min(start), max(start + duration), count(*) FROM spans WHERE trace_id = ?",
        (trace_id,),
    ).fetchone()
    if not count:
        return f'{{"trace_id":"{trace_id.hex()}","items":[]}}'
    services, items = db.execute(
        "SELECT (SELECT json_group_object(id, service) FROM resources WHERE id IN"
        " (SELECT resource FROM spans WHERE trace_id = ?)),"
        " json_group_array(json_array(lower(hex(span_id)), lower(hex(parent_id)), name, resource,"
        f" start - ?, duration, {_SPAN_STATUS})) FROM spans WHERE trace_id = ?",
        (trace_id, start, trace_id),
    ).fetchone()
    (when,) = db.execute(f"SELECT {_iso('?')}".replace("?", "?1"), (start,)).fetchone()
    return (
        f'{{"trace_id":"{trace_id.hex()}","start":"{when}","duration_ns":{end - start},'
        '"columns":["span_id","parent_span_id","name","resource","start_ns","duration_ns",'
        f'"status"],"services":{services},"items":{items}}}'
    )


def span(db: sqlite3.Connection, trace_id: bytes, span_id: bytes) -> str:
    """Return everything about a span."""
    row = db.execute(
        f"SELECT spans.raw, resources.raw, scopes.raw, service, duration, {_iso('start')},"  # noqa: S608
        f" {_iso('(start + duration)')}, {_SPAN_STATUS} FROM spans"
        " LEFT JOIN resources ON resources.id = resource LEFT JOIN scopes ON scopes.id = scope"
        " WHERE trace_id = ? AND span_id = ?",
        (trace_id, span_id),
    ).fetchone()
    if row is None:
        return '{"items":[]}'
    raw, resource, scope, service, duration, start, end, state = row
    found = Span.FromString(raw)
    item = {
        "trace_id": trace_id.hex(),
        "span_id": span_id.hex(),
        "parent_span_id": found.parent_span_id.hex() or None,
        "name": found.name,
        "kind": Span.SpanKind.Name(found.kind).removeprefix("SPAN_KIND_").lower()
        if found.kind in Span.SpanKind.values()
        else "unspecified",
        "service": service,
        "start": start,
        "end": end,
        "duration_ns": duration,
        "status": state,
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
        "resource": plain_attributes(_head(Resource, resource).attributes),
        "scope": _scope_name(scope),
    }
    return json.dumps({"items": [item]})


def _head(kind: Any, raw: bytes | None) -> Any:
    return kind.FromString(Group.FromString(raw or b"").head)


def _scope_name(raw: bytes | None) -> str:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope  # noqa: PLC0415

    name: str = _head(InstrumentationScope, raw).name
    return name


def logs(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of log lines."""
    where = _where(question, "logs", "time")
    order = "time DESC, id DESC"
    if question.after is not None:
        where.add("id > ?", question.after)
        order = "id"
    limit = _limit(question)
    rows = (
        "SELECT *, time || '-' || logs.id AS cursor, log_details(raw) AS details FROM logs"  # noqa: S608
        f"{_conditions(where)} ORDER BY {order} LIMIT ?"
    )
    item = (
        f"json_object('id', page.id, 'time', {_iso('time')}, 'level', {_LEVEL},"
        f" 'service', service, 'trace_id', {_hex('trace_id')}, 'span_id', {_hex('span_id')},"
        " 'body', json(details -> '$[0]'), 'attributes', json(details -> '$[1]'),"
        " 'cursor', cursor)"
    )
    text, count, last = db.execute(
        f"SELECT json_group_array(json({item})), count(*), max(page.id) FROM ({rows}) AS page"  # noqa: S608
        " LEFT JOIN (SELECT id AS number, service FROM resources) ON number = resource",
        (*where.parameters, limit),
    ).fetchone()
    if question.after is None:
        return _wrapped(text, count, limit)
    return f'{{"items":{text},"last":{last or question.after}}}'


def metrics(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of series, by name."""
    where = compile_filter(question.filter, "metrics")
    if question.before:
        where.add("id > ?", _cursor(question.before)[1])
    limit = _limit(question)
    newest = "(SELECT {} FROM points WHERE series = page.id ORDER BY time DESC LIMIT 1)"
    rows = db.execute(
        "SELECT page.id, name, kind, unit, attributes, service,"  # noqa: S608
        f" {newest.format(_iso('time'))}, {newest.format('value')}, {newest.format('count')}"
        f" FROM (SELECT * FROM series{_conditions(where)} ORDER BY id LIMIT ?) AS page"
        " LEFT JOIN (SELECT id AS number, service FROM resources) ON number = resource",
        (*where.parameters, limit),
    ).fetchall()
    items = [
        {
            "series": number,
            "name": name,
            "kind": kind,
            "unit": unit,
            "attributes": json.loads(attributes),
            "service": service,
            "time": time,
            "value": None if value is None else _number(value),
            "count": count,
        }
        for number, name, kind, unit, attributes, service, time, value, count in rows
    ]
    following = f"0-{items[-1]['series']}" if len(items) == limit else None
    return json.dumps({"items": items, "next": following})


def _number(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)


# --- About the whole ------------------------------------------------------------------------------


def changes(db: sqlite3.Connection) -> tuple[int, ...]:
    """Return the newest number of each table."""
    row = db.execute(
        "SELECT ifnull((SELECT max(id) FROM spans), 0), ifnull((SELECT max(id) FROM logs), 0),"
        " ifnull((SELECT max(id) FROM points), 0)"
    ).fetchone()
    return tuple(row)


def status(db: sqlite3.Connection) -> dict[str, Any]:
    """Return the size of the file and about how much of what there is."""
    names = ("spans", "logs", "points")
    about = {
        name: db.execute(
            f"SELECT ifnull(max(id) - min(id) + 1, 0) FROM {name}"  # noqa: S608
        ).fetchone()[0]
        for name in names
    }
    about["series"], about["runs"] = (
        db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
        for name in ("series", "runs")
    )
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return {"version": version, "bytes": pages * size, **about}


def export(
    db: sqlite3.Connection, signal: str, filter_text: str, after: int
) -> tuple[list[bytes], int]:
    """Return the next items as export requests, and behind which to go on; 0 at the end."""
    if signal == Signal.METRICS:
        return export_points(db, filter_text, after, _PER_EXPORT)
    table, kind = ("spans", "spans") if signal == Signal.TRACES else ("logs", "logs")
    where = compile_filter(filter_text, kind)  # type: ignore[arg-type]
    for sql, part in signature_conditions(where.bits):
        where.add(sql, part, part)
    where.add("id > ?", after)
    rows = db.execute(
        f"SELECT id, resource, scope, raw FROM {table}{_conditions(where)} ORDER BY id LIMIT ?",  # noqa: S608
        (*where.parameters, _PER_EXPORT),
    ).fetchall()
    groups: dict[tuple[int, int], list[bytes]] = {}
    for _, resource, scope, raw in rows:
        groups.setdefault((resource, scope), []).append(raw)
    requests = [
        request_of(*heads(db, resource, scope), items)
        for (resource, scope), items in groups.items()
    ]
    return requests, rows[-1][0] if len(rows) == _PER_EXPORT else 0


def heads(db: sqlite3.Connection, resource: int, scope: int) -> tuple[bytes, bytes]:
    """Return a resource and a scope as they came."""
    row = db.execute(
        "SELECT (SELECT raw FROM resources WHERE id = ?), (SELECT raw FROM scopes WHERE id = ?)",
        (resource, scope),
    ).fetchone()
    return row[0] or b"", row[1] or b""
