"""How often each category and each segment was seen, counted in constant memory.

Values of the data are kept here, for they tell categories and segments apart: only those of columns
that were declared for it, without secrets, and cut.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_pipeline import config as configuration
from otel_pipeline.quality.checks.model import CheckError
from otel_pipeline.quality.checks.table import Table, type_name
from otel_pipeline.quality.segments import MOST_SEGMENTS, segment_name
from otel_pipeline.redaction import OFF, Redactor
from otel_pipeline.semconv import OTHER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Categories", "Segment", "Segments"]

#: What stands for rows without a value.
NO_VALUE: Final = "__null__"
#: Values of a column that are counted, and those of them that are told.
_MOST_COUNTED: Final = 1000
_MOST_TOLD: Final = 100
#: Columns of a segment whose nulls are counted.
_MOST_COLUMNS: Final = 10
_LONGEST: Final = 100


class Categories:
    """How often each value of some columns was seen in one pass.

    The 100 most frequent values of a column are told, the rest as `__other__`. Of a column with
    more than 1,000 values, those that come first are counted.

    Args:
        columns: The columns.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._words = _Words()
        self._counts: dict[str, Counter[str]] = {column: Counter() for column in columns}

    def add(self, table: Table) -> None:
        """Count the rows of a table.

        Raises:
            CheckError: A column is not there, or has values of several types.
        """
        for column, counts in self._counts.items():
            for (value,), rows, _ in _groups(table, [column], []):
                word = self._words.of(column, value)
                known = word in counts or len(counts) < _MOST_COUNTED
                counts[word if known else OTHER] += rows

    def result(self) -> dict[str, dict[str, int]]:
        """Return the counts by column and value."""
        return {column: _most_frequent(counts) for column, counts in self._counts.items()}


def _most_frequent(counts: Counter[str]) -> dict[str, int]:
    ranked = sorted(counts.items(), key=lambda item: (item[0] == OTHER, -item[1], item[0]))
    told = dict(ranked[:_MOST_TOLD])
    rest = sum(rows for _, rows in ranked[_MOST_TOLD:])
    return told | ({OTHER: told.get(OTHER, 0) + rest} if rest else {})


class Segment(NamedTuple):
    """A segment, as it was seen in one pass.

    Attributes:
        values: The value of each column that makes it.
        rows: Its rows; 0 for one that was there before and is not now.
        null_ratios: The share of rows without a value, by column.
    """

    values: Mapping[str, str]
    rows: int
    null_ratios: Mapping[str, float]


class Segments:
    """The rows and nulls of each segment in one pass.

    Args:
        columns: The one or two columns whose values make a segment.
        known: Segments that were there before, by their names: they are counted first of all, and
            told with no rows if there are none.
        watched: Columns whose nulls are counted before those of others; at most 10 are.
    """

    def __init__(
        self,
        columns: Sequence[str],
        known: Mapping[str, Mapping[str, str]],
        watched: Iterable[str] = (),
    ) -> None:
        self._words = _Words()
        self._columns = columns
        self._values: dict[str, Mapping[str, str]] = dict(known)
        self._rest = dict.fromkeys(columns, OTHER)
        self._rows: Counter[str] = Counter()
        self._present: Counter[tuple[str, str]] = Counter()
        self._first = list(watched)
        self._watched: dict[str, None] = {}

    def add(self, table: Table) -> None:
        """Count the rows of a table.

        Raises:
            CheckError: A column that makes the segments is not there.
        """
        usable = [name for name in table.schema if name not in self._columns]
        for name in sorted(usable, key=lambda name: name not in self._first):
            if len(self._watched) < _MOST_COLUMNS:
                self._watched.setdefault(name)
        watched = [name for name in self._watched if name in table.schema]
        for group, rows, present in _groups(table, self._columns, watched):
            name = self._name(group)
            self._rows[name] += rows
            for column, number in zip(watched, present, strict=True):
                self._present[name, column] += number

    def _name(self, group: Sequence[object]) -> str:
        """Return the name of a group's segment: that of the rest, if there are enough others."""
        pairs = zip(self._columns, group, strict=True)
        values = {column: self._words.of(column, value) for column, value in pairs}
        name, rest = segment_name(values), segment_name(self._rest)
        if name not in self._values:
            if len(self._values.keys() - {rest}) >= MOST_SEGMENTS:
                name, values = rest, self._rest
            self._values[name] = values
        return name

    def result(self) -> list[Segment]:
        """Return the segments, those with most rows first."""
        return [
            Segment(values, rows, self._null_ratios(name, rows) if rows else {})
            for name, values in sorted(
                self._values.items(), key=lambda item: (-self._rows[item[0]], item[0])
            )
            for rows in [self._rows[name]]
        ]

    def _null_ratios(self, name: str, rows: int) -> dict[str, float]:
        return {column: (rows - self._present[name, column]) / rows for column in self._watched}


class _Words:
    """Values of the data as words that may be kept: without secrets, in one line, not long."""

    def __init__(self) -> None:
        config = configuration.load()
        self._redactor = (
            Redactor(keys=config.redact_keys, allow=config.redact_allow) if config.redact else OFF
        )

    def of(self, column: str, value: Any) -> str:
        """Return the word for a value of a column."""
        if value is None or value != value:  # noqa: PLR0124  NaN, which some libraries use for it
            return NO_VALUE
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # as pandas makes floats of integers where one is missing
        text = str(self._redactor.value(column, str(value)))
        return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)[
            :_LONGEST
        ]


def _groups(
    table: Table, columns: Sequence[str], watched: Sequence[str]
) -> list[tuple[list[object], int, list[int]]]:
    """Return each group of rows with the same values, the largest first.

    Returns:
        Its values, how many rows it has, and in how many of them each watched column has a value.
    """
    nw = table.nw
    keys = {f"key {index}": _key(table, name) for index, name in enumerate(columns)}
    present = {
        f"present {index}": (~table.missing(name)).cast(nw.Int64)
        for index, name in enumerate(watched)
    }
    one = {"one": table.missing(columns[0]).cast(nw.Int64) * 0 + 1}
    flat = table.frame.select(**keys, **present, **one)
    sums = [nw.col(name).sum() for name in (*one, *present)]
    grouped = Table(flat.group_by(*keys).agg(*sums)).in_memory()
    lists = [grouped[name].to_list() for name in (*keys, *one, *present)]
    found = [
        (
            list(row[: len(keys)]),
            int(row[len(keys)]),
            [int(number) for number in row[len(keys) + 1 :]],
        )
        for row in zip(*lists, strict=True)
    ]
    # In an order that does not depend on the library.
    return sorted(found, key=lambda group: (-group[1], [str(value) for value in group[0]]))


def _key(table: Table, name: str) -> Any:
    """Return a column that every library can group by.

    Raises:
        CheckError: It is not there, or its values are no single ones.
    """
    nw = table.nw
    column = table.column(name)
    kind = table.schema[name]
    if kind.is_nested():
        raise CheckError(f"column {name!r} holds {type_name(kind)}, which is no single value")
    as_text = table.is_empty(name) or kind in {nw.Categorical, nw.Enum}
    return column.cast(nw.String) if as_text else column
