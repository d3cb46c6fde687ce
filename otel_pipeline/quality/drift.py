"""Changes of what a dataset is made of: its columns, and the shares of its categories."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SchemaChange", "population_stability", "schema_changes"]

_SMALLEST_SHARE: Final = 0.0005


class SchemaChange(NamedTuple):
    """One change of a schema.

    Attributes:
        kind: What happened.
        column: The column; empty for `reordered`.
        detail: The change in words.
    """

    kind: Literal["column_added", "column_removed", "type_changed", "reordered"]
    column: str
    detail: str


def schema_changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[SchemaChange, ...]:
    """Return what changed from one schema to the next.

    Args:
        before: The type of each column, in order.
        now: The same, later.

    Returns:
        Columns removed, added and of another type; `reordered` if those in both changed places.

    Example:
        >>> from otel_pipeline.quality.drift import schema_changes
        >>> [change.detail for change in schema_changes({"id": "int64"}, {"id": "string"})]
        ['id was int64 and is string']
    """
    removed = [
        SchemaChange("column_removed", name, f"{name} ({kind}) is gone")
        for name, kind in before.items()
        if name not in now
    ]
    added = [
        SchemaChange("column_added", name, f"{name} ({kind}) is new")
        for name, kind in now.items()
        if name not in before
    ]
    changed = [
        SchemaChange("type_changed", name, f"{name} was {before[name]} and is {kind}")
        for name, kind in now.items()
        if name in before and before[name] != kind
    ]
    order = [name for name in now if name in before]
    moved = order != [name for name in before if name in now]
    reordered = [SchemaChange("reordered", "", "columns are in another order")] if moved else []
    return (*removed, *added, *changed, *reordered)


def population_stability(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Return the population stability index of two counts of categories.

    It is the sum over categories of (p - q) ln(p / q), with the shares p now and q before; by
    custom, below 0.1 is stable and above 0.25 is another population. See Siddiqi, Credit Risk
    Scorecards (2006).

    Args:
        before: Count of each category.
        now: The same, later.

    Returns:
        The index, 0 for the same shares; 0 also where nothing was counted.

    Example:
        >>> from otel_pipeline.quality.drift import population_stability
        >>> round(population_stability({"AA": 50, "UA": 50}, {"AA": 80, "UA": 20}), 3)
        0.416
    """
    totals = sum(before.values()), sum(now.values())
    if not all(totals):
        return 0.0
    index = 0.0
    for name in before.keys() | now.keys():
        q = max(before.get(name, 0) / totals[0], _SMALLEST_SHARE)
        p = max(now.get(name, 0) / totals[1], _SMALLEST_SHARE)
        index += (p - q) * math.log(p / q)
    return index
