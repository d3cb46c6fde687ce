"""Data of any library, as the checks see them: a narwhals frame whose columns are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.quality.checks.model import CheckError, not_there

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import narwhals as nw

__all__ = ["ROWS_AT_ONCE", "Table", "as_frame", "as_mapping"]

#: Rows that come one by one and are looked at together.
ROWS_AT_ONCE: Final = 8192

_PLAIN: Final = {
    "boolean": "bool",
    "categorical": "string",
    "enum": "string",
    "unknown": "object",
}


class Table:
    """A frame, or a part of a stream.

    Args:
        frame: A narwhals frame; a lazy one for a DuckDB relation.
        unusable: Why columns that the rows have are not in the frame, by their names.
    """

    def __init__(
        self,
        frame: nw.DataFrame[Any] | nw.LazyFrame[Any],
        unusable: Mapping[str, str] | None = None,
    ) -> None:
        import narwhals  # noqa: PLC0415  an extra

        self.nw: Any = narwhals
        self.frame: Any = frame
        self.schema = frame.collect_schema()
        self.is_lazy = isinstance(frame, narwhals.LazyFrame)
        self._unusable = unusable or {}
        self._empty: dict[str, bool] = {}

    @classmethod
    def of(cls, data: object) -> Table | None:
        """Return the table of a frame of pandas, Polars, PyArrow or DuckDB; None for other data.

        Raises:
            CheckError: The frame cannot be used.
        """
        frame = as_frame(data)
        return None if frame is None else cls(frame)

    @classmethod
    def of_rows(cls, rows: Sequence[Any]) -> Table:
        """Return the table of rows: mappings, named tuples or dataclass objects.

        A column with values of several types is not in it.

        Raises:
            CheckError: The rows are something else.
        """
        import narwhals  # noqa: PLC0415  an extra
        import pyarrow as pa  # noqa: PLC0415  the same

        mappings = [row if type(row) is dict else as_mapping(row) for row in rows]
        names: dict[str, None] = {}
        for row in mappings:
            if row.keys() != names.keys():
                names.update(dict.fromkeys(row))
        columns, unusable = {}, {}
        for name in names:
            values = [row.get(name) for row in mappings]
            try:
                columns[str(name)] = pa.array(values)
            except (pa.ArrowException, OverflowError, TypeError, ValueError):
                kinds = sorted({type(value).__name__ for value in values if value is not None})
                unusable[str(name)] = f"holds {' and '.join(kinds[:5])}, which is no single type"
        if not columns:  # which would lose the number of rows
            columns["(rows)"] = pa.nulls(len(rows))
        return cls(narwhals.from_native(pa.table(columns)), unusable)

    @classmethod
    def each_of(cls, data: object) -> Iterator[Table]:
        """Yield the tables of data that come whole or row by row.

        Raises:
            CheckError: They are neither a frame nor rows.
        """
        whole = cls.of(data)
        if whole is not None:
            yield whole
        elif isinstance(data, Iterable):
            rows = iter(data)
            while part := list(islice(rows, ROWS_AT_ONCE)):
                yield cls.of_rows(part)
        else:
            raise CheckError(f"a {type(data).__name__} is neither a frame nor rows")

    @property
    def types(self) -> dict[str, str]:
        """The types of the columns in the names of `otel_pipeline.quality`, in order."""
        names = {
            name: "null" if self.is_empty(name) else type_name(kind)
            for name, kind in self.schema.items()
            if name != "(rows)"
        }
        return names | dict.fromkeys(self._unusable, "object")

    def column(self, name: str) -> nw.Expr:
        """Return a column.

        Raises:
            CheckError: There is none of that name.
        """
        if name in self._unusable:
            raise CheckError(f"column {name!r} {self._unusable[name]}")
        if name not in self.schema:
            raise not_there(name, self.schema)
        return self.nw.col(name)  # type: ignore[no-any-return]

    def is_empty(self, name: str) -> bool:
        """Tell whether a column has no value and so no type, as in a part of a stream."""
        self.column(name)
        if self.schema[name] not in {self.nw.Unknown, self.nw.Object}:
            return False
        if name not in self._empty:
            self._empty[name] = not len(self.present([name]))
        return self._empty[name]

    def missing(self, name: str) -> nw.Expr:
        """Return where a column has no value: null, or NaN, which some libraries use for it."""
        column = self.column(name)
        if self.schema[name].is_float():
            return column.is_null() | column.is_nan()
        return column.is_null()

    def any_missing(self, names: Sequence[str]) -> nw.Expr:
        """Return where one of some columns has no value."""
        return self.nw.any_horizontal(*map(self.missing, names), ignore_nulls=False)  # type: ignore[no-any-return]

    def literal(self, value: object) -> nw.Expr:
        """Return a constant as an expression."""
        return self.nw.lit(value)  # type: ignore[no-any-return]

    def never(self) -> nw.Expr:
        """Return an expression that is false in every row."""
        return self.nw.lit(False)  # type: ignore[no-any-return]  # noqa: FBT003

    def where(self, condition: nw.Expr, *names: str) -> Table:
        """Return some columns of the rows for which a condition holds."""
        return Table(self.frame.filter(condition).select(*names))

    def in_memory(self) -> nw.DataFrame[Any]:
        """Return the frame, computed if it is lazy."""
        return self.frame.collect("pyarrow") if self.is_lazy else self.frame  # type: ignore[no-any-return]

    def present(self, names: Sequence[str]) -> nw.DataFrame[Any]:
        """Return some columns of the rows that have a value in each of them."""
        return self.where(~self.any_missing(names), *names).in_memory()

    def one_row(self, **expressions: nw.Expr) -> dict[str, Any]:
        """Return what a few expressions over all rows come to."""
        found = Table(self.frame.select(**expressions)).in_memory()
        return {name: found[name].to_list()[0] for name in expressions}

    def how_many(self, conditions: Sequence[nw.Expr]) -> tuple[int, list[int]]:
        """Return the number of rows, and in how many of them each condition holds."""
        if not self.schema:
            return 0 if self.is_lazy else len(self.frame), [0] * len(conditions)
        named = {f"condition {index}": one for index, one in enumerate(conditions)}
        # In two steps: DuckDB cannot sum what looks at other rows.
        first = self.nw.col(next(iter(self.schema))).is_null().alias("row")
        row = Table(self.frame.select(first, **named)).one_row(
            rows=self.nw.len(), **{name: self.nw.col(name).sum() for name in named}
        )
        # The sum of no rows is null in SQL.
        return int(row["rows"]), [int(row[name] or 0) for name in named]


def as_frame(data: object) -> nw.DataFrame[Any] | nw.LazyFrame[Any] | None:
    """Return the narwhals frame of data, or None if they are no frame.

    Raises:
        CheckError: The frame cannot be used.
    """
    if isinstance(data, (Mapping, list, tuple, set, str, bytes)) or hasattr(data, "__next__"):
        return None
    import narwhals  # noqa: PLC0415  an extra

    kind = type(data)
    if kind.__name__ == "RecordBatch" and kind.__module__.startswith("pyarrow"):
        import pyarrow as pa  # noqa: PLC0415  who has a batch has PyArrow

        data = pa.Table.from_batches([data])
    try:
        frame = narwhals.from_native(data, pass_through=True)
        if not isinstance(frame, (narwhals.DataFrame, narwhals.LazyFrame)):
            return None
        names = frame.collect_schema().names()
    except Exception as error:
        if type(error).__name__ == "DuplicateError":
            raise CheckError("two columns have the same name") from None
        # Also an error of the user's lazy frame; it may quote data.
        raise CheckError(f"the {kind.__name__} cannot be used: {type(error).__name__}") from error
    if not all(isinstance(name, str) for name in names):
        raise CheckError("a column has a name that is no text")
    if len(set(names)) < len(names):
        raise CheckError("two columns have the same name")
    return frame


def as_mapping(row: Any) -> Mapping[str, Any]:
    """Return a row as a mapping.

    Raises:
        CheckError: It is no mapping, named tuple or dataclass object.
    """
    if isinstance(row, Mapping):
        return row
    if hasattr(row, "_asdict"):
        return row._asdict()  # type: ignore[no-any-return]
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {one.name: getattr(row, one.name) for one in dataclasses.fields(row)}
    raise CheckError(
        f"rows of type {type(row).__name__} cannot be observed: give dicts, named tuples or "
        f"dataclass objects"
    )


def type_name(kind: Any) -> str:
    """Return the name of a narwhals type that is the same whichever library holds the data."""
    name = type(kind).__name__.lower()
    if name == "datetime":
        return f"datetime[{kind.time_zone}]" if kind.time_zone else name
    if name in {"list", "array"}:
        return f"list[{type_name(_made(kind.inner))}]"
    if name == "struct":
        fields = (f"{one.name}: {type_name(_made(one.dtype))}" for one in kind.fields)
        return f"struct[{', '.join(fields)}]"
    return _PLAIN.get(name, name)


def _made(kind: Any) -> Any:
    return kind() if isinstance(kind, type) else kind
