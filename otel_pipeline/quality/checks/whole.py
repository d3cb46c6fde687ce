"""Checks of a dataset as a whole: its columns, its size, its age, its likeness to another one."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otel_pipeline import clock
from otel_pipeline.quality.checks import params
from otel_pipeline.quality.checks.files import tables_of
from otel_pipeline.quality.checks.keys import MOST_KEYS, keys_of_table
from otel_pipeline.quality.checks.model import Check, CheckError, Progress, listed, param
from otel_pipeline.quality.checks.rows import RowProgress

if TYPE_CHECKING:
    from otel_pipeline.quality.checks.table import Table

__all__ = ["Freshness", "SameAs", "Schema", "Sql", "Volume", "newest", "seconds_of"]

#: A time stamp further ahead is a slip of the pen, and would make stale data look fresh for ever.
_MOST_AHEAD: Final = dt.timedelta(days=1)
_TELLS: Final = 5  # differences that a message tells


@dataclass(frozen=True)
class Schema(Check):
    """The columns are there, with these types.

    Args:
        columns: From each column to its type: `int64`, `float64`, `string`, `bool`, `date`,
            `datetime` and so on, or `any`.
        extra: Whether there may be other columns.
        order: Whether they must be in this order.

    Example:
        >>> from otel_pipeline.quality import Schema
        >>> Schema({"id": "int64", "note": "any"}, extra=False).name
        'schema'
    """

    kind: ClassVar[str] = "schema"

    columns: Any = param(params.types("From each column to its type, or any."))
    extra: bool = param(params.flag("Whether there may be other columns."), True)
    order: bool = param(params.flag("Whether they must be in this order."), False)

    def progress(self) -> Progress:
        """Return what compares columns and types."""
        return _SchemaProgress(self)


class _SchemaProgress(Progress):
    def __init__(self, check: Schema) -> None:
        self._check = check
        self._found: dict[str, None] = {}
        self._last: dict[str, str] | None = None

    def add(self, table: Table) -> None:
        types = table.types
        if types != self._last:
            self._last = types
            self._found |= dict.fromkeys(_differences(self._check, types))

    def verdict(self, rows: int) -> tuple[bool, str, int | None]:  # noqa: ARG002
        if self._last is None:
            raise CheckError("there were no rows to tell the columns by")
        found = list(self._found)
        told = "; ".join(found[:_TELLS])
        if len(found) > _TELLS:
            told += f"; and {len(found) - _TELLS} more differences"
        return not found, told or f"{len(self._check.columns)} columns are as declared", None


def _differences(check: Schema, types: dict[str, str]) -> list[str]:
    wanted = check.columns
    found = [f"column {name!r} is missing" for name in wanted if name not in types]
    found += [
        f"column {name!r} is {types[name]}, not {kind}"
        for name, kind in wanted.items()
        # `datetime` also stands for `datetime[UTC]`.
        # A column without a value has no type yet.
        if name in types
        and types[name] != "null"
        and kind not in {"any", types[name], types[name].partition("[")[0]}
    ]
    if not check.extra and (others := [name for name in types if name not in wanted]):
        found.append(f"there are more columns: {listed(others)}")
    if check.order and not found:
        there = [name for name in types if name in wanted]
        if there != list(wanted):
            found.append("the columns are in another order")
    return found


@dataclass(frozen=True)
class Volume(Check):
    """The number of rows is within bounds, which are allowed themselves.

    Args:
        min: The fewest rows.
        max: The most rows.

    Example:
        >>> from otel_pipeline.quality import Volume
        >>> Volume(min=1).name
        'volume'
    """

    kind: ClassVar[str] = "volume"
    short: ClassVar[str] = "min"

    min: int | None = param(params.number_of_rows("The fewest rows."), None)
    max: int | None = param(params.number_of_rows("The most rows."), None)

    def _problem(self) -> str | None:
        if self.min is None and self.max is None:
            return "a min, a max or both are needed"
        return super()._problem()

    def progress(self) -> Progress:
        """Return what compares the number of rows."""
        return _VolumeProgress(self)


class _VolumeProgress(Progress):
    def __init__(self, check: Volume) -> None:
        self._check = check

    def verdict(self, rows: int) -> tuple[bool, str, int | None]:
        low, high = self._check.min, self._check.max
        if low is not None and rows < low:
            return False, f"{rows:,} rows are fewer than {low:,}", None
        if high is not None and rows > high:
            return False, f"{rows:,} rows are more than {high:,}", None
        return True, f"{rows:,} rows", None


@dataclass(frozen=True)
class Freshness(Check):
    """The newest row is not too old.

    Args:
        column: The column with the time of each row: time stamps, dates, ISO 8601 texts or seconds
            since 1970; naive ones are UTC. What lies more than a day ahead is left out.
        max_age: The greatest age of the newest row: seconds, or text such as `26h`.

    Example:
        >>> from otel_pipeline.quality import Freshness
        >>> Freshness("ordered_at", max_age="26h").max_age
        93600.0
    """

    kind: ClassVar[str] = "freshness"

    column: str = param(params.column("The column with the time of each row."))
    max_age: Any = param(params.duration("The greatest age of the newest row."))

    def about(self) -> tuple[str, ...]:
        """Return its column."""
        return (self.column,)

    def progress(self) -> Progress:
        """Return what looks for the newest row."""
        return _FreshnessProgress(self)


class _FreshnessProgress(Progress):
    def __init__(self, check: Freshness) -> None:
        self._check = check
        self._newest: float | None = None

    def add(self, table: Table) -> None:
        found = newest(table, self._check.column)
        if found is not None:
            self._newest = found if self._newest is None else max(found, self._newest)

    def verdict(self, rows: int) -> tuple[bool, str, int | None]:  # noqa: ARG002
        if self._newest is None:
            return False, f"column {self._check.column!r} has no time that is known", None
        age = clock.now() - self._newest
        told = f"the newest row is {age_text(age)} old, allowed are {age_text(self._check.max_age)}"
        return age <= self._check.max_age, told, None


def age_text(seconds: float) -> str:
    """Return a length of time for people: `26h`, `3d 4h`."""
    return str(dt.timedelta(seconds=round(seconds)))


def newest(table: Table, name: str) -> float | None:
    """Return the newest time of a column in seconds since 1970, or None if it has none.

    Raises:
        CheckError: The column is missing, or holds no times.
    """
    column, kind = table.column(name), table.schema[name]
    if table.is_empty(name):
        return None
    limit = dt.datetime.fromtimestamp(clock.now(), dt.UTC) + _MOST_AHEAD
    if kind.is_numeric():
        given: object = limit.timestamp()
    elif kind == table.nw.Date:
        given = limit.date()
    elif kind == table.nw.Datetime:
        zone = getattr(kind, "time_zone", None)
        given = limit if zone else limit.replace(tzinfo=None)
    elif kind == table.nw.String:
        # Cut to what texts of all precisions have in common; the newest is parsed below.
        given = limit.strftime("%Y-%m-%d\x7f")
    else:
        raise CheckError(f"column {name!r} holds {table.types.get(name, kind)}, not times")
    known = ~table.missing(name) & (column <= table.literal(given))
    if kind == table.nw.String:
        known &= column.str.contains(r"^\d{4}-\d\d-\d\d")
    found = table.where(known, name).one_row(newest=table.nw.col(name).max())["newest"]
    no_times = CheckError(f"column {name!r} holds texts that are no ISO 8601 times")
    if found is None and kind == table.nw.String and len(table.present([name])):
        raise no_times
    try:
        return None if found is None else seconds_of(found)
    except ValueError:
        raise no_times from None


def seconds_of(found: Any) -> float:
    """Return a time in seconds since 1970.

    Raises:
        ValueError: It is a text that is no time.
    """
    if isinstance(found, str):
        found = dt.datetime.fromisoformat(found)
    if isinstance(found, dt.datetime):
        found = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
        return float(found.timestamp())
    if isinstance(found, dt.date):
        return dt.datetime(found.year, found.month, found.day, tzinfo=dt.UTC).timestamp()
    return float(found)


@dataclass(frozen=True)
class Sql(Check):
    """A query on the data finds no row; DuckDB runs it.

    Each observed frame, or micro-batch of a stream, is the table `data` by itself. The query sees
    nothing else: no file, no network, no variable.

    Args:
        query: The query; each row that it returns is one that fails.

    Example:
        >>> from otel_pipeline.quality import Sql
        >>> Sql("SELECT id FROM data GROUP BY id HAVING sum(amount) < 0", name="no_debts").name
        'no_debts'
    """

    kind: ClassVar[str] = "sql"
    short: ClassVar[str] = "query"

    query: str = param(params.text("A query that returns the rows that fail; the table is data."))

    def _problem(self) -> str | None:
        if self.on_fail == "quarantine":
            return "on_fail 'quarantine' needs a check of single rows; give warn or break"
        return None

    def progress(self) -> Progress:
        """Return what runs the query."""
        return _SqlProgress(self)


class _SqlProgress(RowProgress):
    def __init__(self, check: Sql) -> None:
        super().__init__(check)
        self._query = check.query

    def add(self, table: Table) -> None:
        try:
            import duckdb  # noqa: PLC0415  an extra
        except ImportError:
            raise CheckError(
                'DuckDB is not installed: pip install "otel-pipeline[quality-sql]"'
            ) from None
        closed = {"enable_external_access": "false", "python_enable_replacements": "false"}
        with duckdb.connect(config={**closed}) as connection:
            connection.register("data", table.in_memory().to_arrow())
            try:
                relation = connection.sql(self._query)
                if relation is None:
                    raise CheckError("the query returns no table; give a SELECT")
                self.failing += len(relation.fetchall())
            except duckdb.Error as error:
                # The rest of the text may hold values of the data.
                raise CheckError(f"the query failed: {type(error).__name__}") from error


@dataclass(frozen=True)
class SameAs(Check):
    """The dataset agrees with another one: as many rows, the same sums, the same keys.

    Args:
        other: The other dataset: the path of a Parquet, CSV or JSON-lines file; in code also a
            frame, rows, or a function that gives them.
        rows: Whether both have the same number of rows.
        sums: Columns whose sums are the same in both.
        keys: Columns whose distinct keys are the same in both.
        tolerance: How far numbers of rows and sums may differ, as a share of the other's.

    Example:
        >>> from otel_pipeline.quality import SameAs
        >>> SameAs([{"id": 1, "amount": 5}], sums="amount", keys="id").name
        'same_as'
    """

    kind: ClassVar[str] = "same_as"
    short: ClassVar[str] = "other"

    other: Any = param(params.other_data("A file with the other dataset."))
    rows: bool = param(params.flag("Whether both have the same number of rows."), True)
    sums: Any = param(params.columns("Columns whose sums are the same in both."), ())
    keys: Any = param(params.columns("Columns whose distinct keys are the same in both."), ())
    tolerance: float = param(
        params.ratio("How far numbers of rows and sums may differ, as a share."), 0.0
    )

    def progress(self) -> Progress:
        """Return what adds up both sides."""
        return _SameAsProgress(self)


class _Side:
    """What one of the two datasets comes to."""

    def __init__(self, check: SameAs) -> None:
        self._check = check
        self.rows = 0
        self.sums: dict[str, Any] = dict.fromkeys(check.sums, 0)
        self.keys: set[tuple[Any, ...]] = set()

    def add(self, table: Table) -> None:
        check = self._check
        row = table.one_row(
            rows=table.nw.len(),
            **{
                f"sum {index}": table.nw.when(~table.missing(name)).then(table.column(name)).sum()
                for index, name in enumerate(check.sums)
                if not table.is_empty(name)
            },
        )
        self.rows += int(row["rows"])
        for index, name in enumerate(check.sums):
            self.sums[name] += row.get(f"sum {index}") or 0
        if check.keys:
            self.keys |= keys_of_table(table, check.keys)
            if len(self.keys) > MOST_KEYS:
                raise CheckError(f"there are more than {MOST_KEYS:,} keys to compare")


class _SameAsProgress(Progress):
    def __init__(self, check: SameAs) -> None:
        self._check = check
        self._here = _Side(check)

    def add(self, table: Table) -> None:
        self._here.add(table)

    def verdict(self, rows: int) -> tuple[bool, str, int | None]:  # noqa: ARG002
        check, here, there = self._check, self._here, _Side(self._check)
        for table in tables_of(check.other):
            there.add(table)
        found = []
        if check.rows and not self._close(here.rows, there.rows):
            found.append(f"{here.rows:,} rows here, {there.rows:,} there")
        found += [
            f"the sum of {name!r} differs"
            for name in check.sums
            if not self._close(here.sums[name], there.sums[name])
        ]
        if lacking := len(there.keys - here.keys):
            found.append(f"{lacking:,} keys of the other dataset are missing")
        if more := len(here.keys - there.keys):
            found.append(f"{more:,} keys are not in the other dataset")
        return not found, "; ".join(found) or "both agree", None

    def _close(self, here: Any, there: Any) -> bool:
        if self._check.tolerance:
            return bool(abs(here - there) <= abs(there) * self._check.tolerance)
        if isinstance(here, float) or isinstance(there, float):
            # The order of an addition changes the last digits.
            return math.isclose(here, there, rel_tol=1e-9, abs_tol=1e-12)
        return bool(here == there)
