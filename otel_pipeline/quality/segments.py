"""Segments of a dataset, such as `origin=JFK`: what they are called, and how many are watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.semconv import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["MOST_COLUMNS", "MOST_SEGMENTS", "is_rest", "named", "segment_name", "values_in"]

#: Segments of a dataset that are told apart; the rest is one more.
MOST_SEGMENTS: Final = 50
#: Columns whose values together make a segment.
MOST_COLUMNS: Final = 2


def segment_name(segment: Mapping[str, str] | None) -> str:
    """Return the name of a segment, from columns to their values; empty for the whole dataset.

    Raises:
        ConfigurationError: It has more than two columns.

    Example:
        >>> from otel_pipeline.quality.segments import segment_name
        >>> segment_name({"origin": "JFK", "carrier": "AA"})
        'carrier=AA,origin=JFK'
    """
    if not segment:
        return ""
    if len(segment) > MOST_COLUMNS:
        raise ConfigurationError(
            f"a segment has one or two columns, and this one has {len(segment)}: "
            + ", ".join(segment)
        )
    return ",".join(f"{column}={segment[column]}" for column in sorted(segment))


def values_in(name: str, columns: Iterable[str]) -> dict[str, str] | None:
    """Return the values of columns in the name of a segment; None for one of other columns.

    Where a value looks like a second column the parts may differ, and give the same name.

    Example:
        >>> from otel_pipeline.quality.segments import values_in
        >>> values_in("carrier=AA,origin=JFK", ["origin", "carrier"])
        {'carrier': 'AA', 'origin': 'JFK'}
        >>> values_in("carrier=AA", ["origin"]) is None
        True
    """
    first, *second = sorted(columns)
    if not name.startswith(f"{first}="):
        return None
    rest = name[len(first) + 1 :]
    if not second:
        return {first: rest}
    before, mark, after = rest.partition(f",{second[0]}=")
    return {first: before, second[0]: after} if mark else None


def is_rest(segment: Mapping[str, str]) -> bool:
    """Tell whether a segment stands for those that are not told apart."""
    return set(segment.values()) == {OTHER}


def named(names: Iterable[str], columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return, by their names, the segments that are made of just these columns."""
    found = {name: values_in(name, columns) for name in names}
    return {name: values for name, values in found.items() if values is not None}
