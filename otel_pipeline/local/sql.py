"""SQL that several questions share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from otel_pipeline.local.filters import FilterError, compile_filter
from otel_pipeline.local.limits import MAX_PAGE
from otel_pipeline.local.signature import LOGS

if TYPE_CHECKING:
    from otel_pipeline.local.filters import Kind, Where
    from otel_pipeline.local.signature import Signature
    from otel_pipeline.local.store import Question

__all__ = [
    "add_signature",
    "conditions",
    "conditions_of",
    "cursor",
    "hexadecimal",
    "iso",
    "limit_of",
    "wrapped",
]


def iso(column: str) -> str:
    """Return an expression for a time in nanoseconds as ISO 8601."""
    return (
        f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000000, 'unixepoch')"
        f" || printf('.%09dZ', {column} % 1000000000)"
    )


def hexadecimal(column: str) -> str:
    """Return an expression for an id as text."""
    # lower(hex(NULL)) is an empty text
    return f"iif({column} IS NULL, NULL, lower(hex({column})))"


def limit_of(question: Question) -> int:
    """Return how many items a page has."""
    return max(1, min(question.limit, MAX_PAGE))


def cursor(before: str) -> tuple[int, int]:
    """Return the time and the number at which a page ends.

    Raises:
        FilterError: It is none that a page had.
    """
    time, _, number = before.partition("-")
    if not (time.isdecimal() and number.isdecimal() and len(before) < 40):  # noqa: PLR2004
        raise FilterError(f"{before[:40]!r} is no place in a list: take `next` of an answer")
    return min(int(time), 2**63 - 1), min(int(number), 2**63 - 1)


def conditions_of(question: Question, kind: Kind, time: str) -> Where:
    """Return the conditions of a question about something with a time."""
    where = compile_filter(question.filter, kind)
    add_signature(where, LOGS)
    if question.before:
        at, number = cursor(question.before)
        where.add(f"{time} <= ? AND ({time} < ? OR id < ?)", at, at, number)
    return where


def add_signature(where: Where, signature: Signature) -> None:
    """Put the signature before the conditions, which it saves from being looked at."""
    for sql, part in signature.conditions(where.bits):
        where.sql.insert(0, sql)
        where.parameters[:0] = [part, part]


def conditions(where: Where) -> str:
    """Return the conditions as the end of a statement."""
    return " WHERE " + " AND ".join(f"({one})" for one in where.sql) if where.sql else ""


def wrapped(items: str, count: int, limit: int) -> str:
    """Return a page of items, given as JSON."""
    if count < limit:
        return f'{{"items":{items},"next":null}}'
    following = json.loads(items)[-1]["cursor"]
    return f'{{"items":{items},"next":{json.dumps(following)}}}'
