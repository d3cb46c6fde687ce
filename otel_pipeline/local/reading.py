"""Questions to the SQLite file, each answered by one statement where speed counts.

SQLite makes the JSON itself: a page is one row, so that a thread that asks hands over the
interpreter's lock only once while another one writes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_pipeline.local import sql
from otel_pipeline.local.attributes import attribute_of, plain, plain_attributes, says, text_of
from otel_pipeline.local.filters import compile_filter
from otel_pipeline.local.series import export_points, points
from otel_pipeline.local.signature import LOGS
from otel_pipeline.local.traces import export_spans
from otel_pipeline.local.wire import request_of
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from otel_pipeline.local.store import Question

__all__ = [
    "add_functions",
    "changes",
    "export",
    "logs",
    "metrics",
    "points",
    "runs",
    "status",
]

_PER_EXPORT: Final = 5_000
_LEVEL: Final = (
    "CASE WHEN severity >= 21 THEN 'critical' WHEN severity >= 17 THEN 'error'"
    " WHEN severity >= 13 THEN 'warning' WHEN severity >= 9 THEN 'info'"
    " WHEN severity >= 5 THEN 'debug' WHEN severity >= 1 THEN 'trace' END"
)


# --- Functions that SQL calls on what was stored as it came ---------------------------------------


def add_functions(db: sqlite3.Connection) -> None:
    """Give a connection the functions that filters and pages use."""
    for name, arguments, function in (
        ("log_attribute", 2, _safe(_log_attribute)),
        ("log_says", 2, _safe(_log_says)),
        ("log_body", 1, _safe(_log_body)),
        ("log_attributes", 1, _safe(_log_attributes)),
    ):
        db.create_function(name, arguments, function, deterministic=True)


def _safe(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except (ValueError, TypeError):  # a damaged row matches nothing
            return None

    return call


def _log_attribute(raw: bytes, key: str) -> str | None:
    return attribute_of(LogRecord.FromString(raw).attributes, key)


def _log_says(raw: bytes, wanted: str) -> bool:
    record = LogRecord.FromString(raw)
    return says(wanted, text_of(record.body), record.attributes)


def _log_body(raw: bytes) -> str:
    return json.dumps(plain(LogRecord.FromString(raw).body))


def _log_attributes(raw: bytes) -> str:
    return json.dumps(plain_attributes(LogRecord.FromString(raw).attributes))


# --- Pages ----------------------------------------------------------------------------------------


def runs(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of runs."""
    where = sql.conditions_of(question, "runs", "start")
    rows = (
        "SELECT *, start || '-' || id AS cursor FROM runs"  # noqa: S608
        f"{sql.conditions(where)} ORDER BY start DESC, id DESC LIMIT ?"
    )
    item = (
        "json_object('run_id', run_id, 'pipeline', pipeline, 'service', service,"
        f" 'trace_id', {sql.hexadecimal('trace_id')}, 'start', {sql.iso('start')},"
        " 'duration_ns', duration,"
        " 'status', ifnull(status, 'running'), 'mode', mode,"
        " 'records', json_object('success', success, 'error', error, 'skipped', skipped),"
        " 'cursor', cursor)"
    )
    limit = sql.limit_of(question)
    items, count = db.execute(
        f"SELECT json_group_array(json({item})), count(*) FROM ({rows})",  # noqa: S608
        (*where.parameters, limit),
    ).fetchone()
    return sql.wrapped(items, count, limit)


def logs(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of log lines."""
    where = sql.conditions_of(question, "logs", "time")
    order = "time DESC, id DESC"
    if question.after is not None:
        where.add("id > ?", question.after)
        order = "id"
    limit = sql.limit_of(question)
    rows = (
        "SELECT *, time || '-' || logs.id AS cursor FROM logs"  # noqa: S608
        f"{sql.conditions(where)} ORDER BY {order} LIMIT ?"
    )
    item = (
        f"json_object('id', page.id, 'time', {sql.iso('time')}, 'level', {_LEVEL},"
        f" 'service', service, 'trace_id', {sql.hexadecimal('trace_id')},"
        f" 'span_id', {sql.hexadecimal('span_id')},"
        " 'body', json(log_body(page.raw)),"
        " 'attributes', json(log_attributes(page.raw)),"
        " 'cursor', cursor)"
    )
    text, count, last = db.execute(
        f"SELECT json_group_array(json({item})), count(*), max(page.id) FROM ({rows}) AS page"  # noqa: S608
        " LEFT JOIN (SELECT id AS number, service FROM resources) ON number = resource",
        (*where.parameters, limit),
    ).fetchone()
    if question.after is None:
        return sql.wrapped(text, count, limit)
    return f'{{"items":{text},"last":{last or question.after}}}'


def metrics(db: sqlite3.Connection, question: Question) -> str:
    """Return a page of series, by name."""
    where = compile_filter(question.filter, "metrics")
    if question.before:
        where.add("id > ?", sql.cursor(question.before)[1])
    limit = sql.limit_of(question)
    newest = "(SELECT {} FROM points WHERE series = page.id ORDER BY time DESC LIMIT 1)"
    rows = db.execute(
        "SELECT page.id, name, kind, unit, attributes, service,"  # noqa: S608
        f" {newest.format(sql.iso('time'))}, {newest.format('value')}, {newest.format('count')}"
        f" FROM (SELECT * FROM series{sql.conditions(where)} ORDER BY id LIMIT ?) AS page"
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
        "SELECT ifnull((SELECT max(id) FROM blocks), 0), ifnull((SELECT max(id) FROM logs), 0),"
        " ifnull((SELECT max(id) FROM points), 0)"
    ).fetchone()
    return tuple(row)


def status(db: sqlite3.Connection) -> dict[str, Any]:
    """Return the size of the file and about how much of what there is."""
    names = ("logs", "points")
    about: dict[str, Any] = {
        name: db.execute(
            f"SELECT ifnull(max(id) - min(id) + 1, 0) FROM {name}"  # noqa: S608
        ).fetchone()[0]
        for name in names
    }
    (about["spans"],) = db.execute("SELECT ifnull(sum(spans), 0) FROM blocks").fetchone()
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
    if signal == Signal.TRACES:
        return export_spans(db, filter_text, after)
    where = compile_filter(filter_text, "logs")
    sql.add_signature(where, LOGS)
    where.add("id > ?", after)
    rows = db.execute(
        f"SELECT id, resource, scope, raw FROM logs{sql.conditions(where)} ORDER BY id LIMIT ?",  # noqa: S608
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
