"""Profiles: what a data set looks like, in numbers that add up over batches and processes."""

from __future__ import annotations

import datetime as dt
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from otel_pipeline.errors import ProfileError
from otel_pipeline.quality import stored
from otel_pipeline.quality.columns import ColumnProfile
from otel_pipeline.quality.frames import batches, block_rows, type_name
from otel_pipeline.quality.measuring import Level, Measuring

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["ColumnProfile", "Level", "Profile", "Profiler", "profile"]

_LEVELS: Final = ("basic", "standard", "full")


class Profile:
    """What a data set looks like.

    Profiles are made by `profile()` and `Profiler`, are picklable, and add up with `merge`.

    Attributes:
        level: `basic`, `standard` or `full`.
        rows: Number of rows.
        columns: Each column by its name, in the order of the data.
    """

    def __init__(self, level: Level, rows: int, columns: Mapping[str, ColumnProfile]) -> None:
        self.level: Level = level
        self.rows = rows
        self.columns: Mapping[str, ColumnProfile] = MappingProxyType(dict(columns))

    @property
    def schema(self) -> dict[str, str]:
        """Name and type of each column, in the order of the data.

        Types have the same name whichever library held the data: `int64`, `float64`, `decimal`,
        `string`, `binary`, `bool`, `date`, `datetime` (`datetime[UTC]` with a time zone), `time`,
        `duration`, `list[int64]`, `struct[a: int64]`, `map`, `null`.
        """
        return {name: column.type for name, column in self.columns.items()}

    @classmethod
    def merge(cls, *profiles: Profile) -> Profile:
        """Return the profile of all rows that several profiles describe.

        Counts, extremes, means and deviations are those of the whole; quantiles and distinct counts
        stay within their error. A column that a part lacks has no values in that part.

        Args:
            profiles: At least one, all of one level.

        Raises:
            ProfileError: There is none; or levels, or types of a column, do not go together.

        Example:
            >>> from otel_pipeline.quality import Profile, profile
            >>> monday = profile([{"id": 1}, {"id": 2}])
            >>> tuesday = profile([{"id": 2}, {"id": 9}])
            >>> both = Profile.merge(monday, tuesday)
            >>> both.rows, both.columns["id"].distinct, both.columns["id"].max
            (4, 3, 9)
        """
        if len({one.level for one in profiles}) != 1:
            levels = ", ".join(sorted({one.level for one in profiles})) or "nothing"
            raise ProfileError(f"profiles of one level can be merged, not {levels}")
        rows = 0
        columns: dict[str, ColumnProfile] = {}
        for one in profiles:
            for name, column in one.columns.items():
                if name in columns:
                    columns[name].merge(column)
                else:
                    columns[name] = column.copy()
                    _without_values(columns[name], rows)
            rows += one.rows
            for column in columns.values():
                _without_values(column, rows - column.rows)
        return cls(profiles[0].level, rows, columns)

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as a document for JSON: `level`, `rows`, `schema`, `columns`.

        What a column does not have is left out. Texts of the data are in it only where
        `top_values` allowed them.
        """
        return {
            "level": self.level,
            "rows": self.rows,
            "schema": self.schema,
            "columns": {name: column.to_dict() for name, column in self.columns.items()},
        }

    def to_bytes(self) -> bytes:
        """Return the profile with its sketches, for `from_bytes`; the format has a version."""
        return stored.to_bytes(self.level, self.rows, self.columns)

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """Return the profile that `to_bytes` gave.

        Raises:
            ProfileError: It is no profile, is damaged, or was written by a newer version.
        """
        return cls(*stored.from_bytes(data))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Profile):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Profile.from_bytes, (self.to_bytes(),)

    def __repr__(self) -> str:
        return f"<Profile {self.level}: {self.rows} rows, {len(self.columns)} columns>"


class Profiler:
    """Makes one profile of many batches, in constant memory.

    Threads may share one; better, each has its own, and the results are merged.

    Args:
        level: `basic` (rows, nulls, least, greatest, mean, deviation, schema), `standard` (also
            distinct counts, quantiles from a sample, lengths, zeros, dates in the future and so
            on), or `full` (as `standard`, with all rows in the quantiles).
        top_values: Columns whose values may be shown: their most frequent values, and least and
            greatest text. No others show texts of the data.
        now: What dates are compared with for `future_count`; by default the present.

    Raises:
        ProfileError: The level is none of these.

    Example:
        >>> from otel_pipeline.quality import Profiler
        >>> profiler = Profiler()
        >>> for batch in ([{"price": 2.5}], [{"price": None}, {"price": 3.5}]):
        ...     profiler.update(batch)
        >>> price = profiler.result().columns["price"]
        >>> price.rows, price.null_count, price.mean
        (3, 1, 3.0)
    """

    def __init__(
        self,
        level: Level = "standard",
        *,
        top_values: Collection[str] = (),
        now: dt.datetime | None = None,
    ) -> None:
        if level not in _LEVELS:
            raise ProfileError(f"level {level!r} is none of {', '.join(_LEVELS)}")
        if isinstance(top_values, str):
            raise ProfileError(f"top_values takes a list of columns: [{top_values!r}]")
        self._level: Level = level
        self._measuring = Measuring(level, frozenset(top_values), now or dt.datetime.now(dt.UTC))
        self._columns: dict[str, ColumnProfile] = {}
        self._rows = 0
        self._waiting: list[pa.RecordBatch] = []
        self._waits = 0
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def update(self, data: object) -> None:
        """Take the rows of a batch.

        Args:
            data: What `profile()` takes.

        Raises:
            ProfileError: The data cannot be profiled, or a column changed its type.
        """
        with self._lock:
            self._check()
            try:
                for batch in batches(data):
                    self._take(batch)
            except BaseException as error:
                # What was counted in part would be a wrong number from here on.
                self._failure = error
                raise

    def _check(self) -> None:
        if self._failure is not None:
            raise ProfileError(
                f"an earlier batch could not be profiled ({self._failure}): "
                "the rows up to there are known in part only, begin with a new Profiler"
            )

    def _take(self, batch: pa.RecordBatch) -> None:
        """Measure what fills a block; the rest waits for more."""
        if not self._columns or not batch.num_rows:
            self._declare(batch.schema)
            if not self._rows:  # a block of many columns has fewer rows
                self._measuring.rows = block_rows(len(self._columns))
        block = self._measuring.rows
        while self._waits + batch.num_rows >= block:
            rest = block - self._waits
            self._measure([*self._waiting, batch.slice(0, rest)])
            batch = batch.slice(rest)
            self._waiting, self._waits = [], 0
        if batch.num_rows:
            self._waiting.append(batch)
            self._waits += batch.num_rows

    def _declare(self, schema: pa.Schema) -> None:
        for one in schema:
            if one.name not in self._columns:
                self._columns[one.name] = column = ColumnProfile(one.name, type_name(one.type))
                _without_values(column, self._rows)

    def _measure(self, parts: list[pa.RecordBatch]) -> None:
        """Measure a block, and let it begin the next one."""
        self._measuring.begin(self._rows)
        rows = sum(part.num_rows for part in parts)
        for part in _joined(parts):
            self._declare(part.schema)
            for name, array in zip(part.schema.names, part.columns, strict=True):
                for one in array.chunks:
                    self._measuring.add(self._columns[name], one)
        for column in self._columns.values():
            _without_values(column, self._rows + rows - column.rows)
        self._rows += rows

    def result(self) -> Profile:
        """Return the profile of all rows so far; more may follow."""
        with self._lock:
            self._check()
            kept = {name: column.copy() for name, column in self._columns.items()}
            rows = self._rows
            if self._waits:
                self._measure(self._waiting)
            made = Profile(self._level, self._rows, self._columns)
            self._columns, self._rows = kept, rows
            return made


def profile(
    data: object,
    level: Level = "standard",
    *,
    top_values: Collection[str] = (),
    now: dt.datetime | None = None,
) -> Profile:
    """Profile a data set.

    Equal rows give equal profiles, whichever library holds them. Rows come a part at a time where
    the data allows it, so a lazy frame, a reader or a generator is profiled in constant memory.

    Args:
        data: A frame of pandas or Polars (also lazy), a PyArrow table, record batch or reader, a
            relation of DuckDB, whatever exports an Arrow stream or narwhals knows, or an iterable
            of dicts or dataclass objects.
        level: `basic`, `standard` or `full`; see `Profiler`.
        top_values: Columns whose values may be shown.
        now: What dates are compared with for `future_count`; by default the present.

    Returns:
        The profile.

    Raises:
        ProfileError: The data cannot be profiled; the message names the column.

    Example:
        >>> from otel_pipeline.quality import profile
        >>> orders = profile([{"id": 1, "country": "DE"}, {"id": 2, "country": None}])
        >>> orders.schema
        {'id': 'int64', 'country': 'string'}
        >>> orders.columns["country"].null_ratio
        0.5
    """
    profiler = Profiler(level, top_values=top_values, now=now)
    profiler.update(data)
    return profiler.result()


def _joined(parts: list[pa.RecordBatch]) -> list[pa.Table]:
    """Return the parts of a block as one table; as several where types changed."""
    tables = [pa.Table.from_batches([part]) for part in parts]
    try:
        return [pa.concat_tables(tables, promote_options="default").combine_chunks()]
    except pa.ArrowException:
        return tables


def _without_values(column: ColumnProfile, rows: int) -> None:
    """Let a column have rows that know nothing of it."""
    column.rows += rows
    column.null_count += rows
