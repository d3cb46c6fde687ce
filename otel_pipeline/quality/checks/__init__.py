"""Checks: what one wants to be true of a dataset."""

from __future__ import annotations

from typing import Final

from otel_pipeline.quality.checks.keys import References, Unique
from otel_pipeline.quality.checks.model import Check, CheckResult
from otel_pipeline.quality.checks.rows import Between, InSet, Matches, NotNull, Row
from otel_pipeline.quality.checks.whole import Freshness, SameAs, Schema, Sql, Volume

__all__ = [
    "KINDS",
    "Between",
    "Check",
    "CheckResult",
    "Freshness",
    "InSet",
    "Matches",
    "NotNull",
    "References",
    "Row",
    "SameAs",
    "Schema",
    "Sql",
    "Unique",
    "Volume",
]

#: Every kind of check, by its name in YAML.
KINDS: Final[dict[str, type[Check]]] = {
    one.kind: one
    for one in (
        NotNull, Unique, Between, InSet, Matches, Row, References,
        Schema, Volume, Freshness, Sql, SameAs,
    )
}  # fmt: skip
