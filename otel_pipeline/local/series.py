"""Series of metrics: their points for a chart, and their way back to OTLP."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from otel_pipeline.local.decode import KINDS
from otel_pipeline.local.filters import compile_filter
from otel_pipeline.local.limits import MAX_PAGE
from otel_pipeline.local.wire import OuterMetric, Points, request_of

if TYPE_CHECKING:
    import sqlite3

    from otel_pipeline.local.store import Question

__all__ = ["export_points", "points"]

_INFINITE = float("inf")


def points(db: sqlite3.Connection, series: int, question: Question) -> str:
    """Return a series with its newest points, the newest last, and their exemplars."""
    about = db.execute(
        "SELECT name, kind, unit, attributes, metric, service FROM series"
        " LEFT JOIN (SELECT id AS number, service FROM resources) ON number = resource"
        " WHERE series.id = ?",
        (series,),
    ).fetchone()
    if about is None:
        return '{"items":[]}'
    name, kind, unit, attributes, metric, service = about
    rows = db.execute(
        "SELECT time, raw FROM points WHERE series = ? ORDER BY time DESC LIMIT ?",
        (series, max(1, min(question.limit, MAX_PAGE))),
    ).fetchall()
    rows.reverse()
    outer = OuterMetric.FromString(metric)
    shape = Points.FromString(getattr(outer, kind))
    exemplars = db.execute(
        "SELECT time, trace_id, span_id, value FROM exemplars WHERE series = ?"
        " ORDER BY time DESC LIMIT ?",
        (series, MAX_PAGE),
    ).fetchall()
    return json.dumps(
        {
            "series": series,
            "name": name,
            "description": outer.description,
            "kind": kind,
            "unit": unit,
            "monotonic": shape.is_monotonic,
            "temporality": {1: "delta", 2: "cumulative"}.get(shape.aggregation_temporality),
            "attributes": json.loads(attributes),
            "service": service,
            "items": [_point(kind, KINDS[kind].FromString(raw)) for _, raw in rows],
            "exemplars": [
                {
                    "time": iso(time),
                    "trace_id": trace_id.hex(),
                    "span_id": span_id.hex() if span_id else None,
                    "value": None if value is None else _number(value),
                }
                for time, trace_id, span_id, value in reversed(exemplars)
            ],
        }
    )


def _point(kind: str, point: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"time": iso(point.time_unix_nano)}
    if point.start_time_unix_nano:
        found["start"] = iso(point.start_time_unix_nano)
    if kind in {"gauge", "sum"}:
        which = point.WhichOneof("value")
        found["value"] = None if which is None else _number(getattr(point, which))
        return found
    found |= {"count": point.count, "sum": _number(point.sum)}
    if kind == "histogram":
        found["bounds"] = list(map(_number, point.explicit_bounds))
        found["counts"] = list(point.bucket_counts)
    elif kind == "exponential_histogram":
        found |= {"scale": point.scale, "zero_count": point.zero_count}
        for side in ("positive", "negative"):
            buckets = getattr(point, side)
            found[side] = {"offset": buckets.offset, "counts": list(buckets.bucket_counts)}
    else:
        found["quantiles"] = [
            [_number(one.quantile), _number(one.value)] for one in point.quantile_values
        ]
    return found


def _number(value: float) -> float | str:
    """Return a number as JSON has it: infinity and not-a-number as text."""
    return value if -_INFINITE < value < _INFINITE else str(value)


def iso(nanoseconds: int) -> str:
    """Return a Unix time in nanoseconds as ISO 8601.

    >>> iso(1)
    '1970-01-01T00:00:00.000000001Z'
    """
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def export_points(
    db: sqlite3.Connection, filter_text: str, after: int, limit: int
) -> tuple[list[bytes], int]:
    """Return the next points as export requests, and behind which to go on; 0 at the end."""
    where = compile_filter(filter_text, "metrics")
    chosen = ""
    if where.sql:
        conditions = " AND ".join(f"({one})" for one in where.sql)
        chosen = f" AND series IN (SELECT id FROM series WHERE {conditions})"  # noqa: S608
    rows = db.execute(
        f"SELECT id, series, raw FROM points WHERE id > ?{chosen} ORDER BY id LIMIT ?",  # noqa: S608
        (after, *where.parameters, limit),
    ).fetchall()
    groups: dict[int, list[bytes]] = {}
    for _, series, raw in rows:
        groups.setdefault(series, []).append(raw)
    requests = [_request(db, series, raws) for series, raws in groups.items()]
    return requests, rows[-1][0] if len(rows) == limit else 0


def _request(db: sqlite3.Connection, series: int, raws: list[bytes]) -> bytes:
    kind, metric, resource, scope = db.execute(
        "SELECT kind, metric, (SELECT raw FROM resources WHERE id = resource),"
        " (SELECT raw FROM scopes WHERE id = scope) FROM series WHERE id = ?",
        (series,),
    ).fetchone()
    outer = OuterMetric.FromString(metric)
    held = getattr(outer, kind) + Points(data_points=raws).SerializeToString()
    setattr(outer, kind, held)
    return request_of(resource or b"", scope or b"", [outer.SerializeToString()])
