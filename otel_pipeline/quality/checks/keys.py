"""Checks of keys: that none comes twice, and that each is known elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otel_pipeline.quality.checks import params
from otel_pipeline.quality.checks.files import tables_of
from otel_pipeline.quality.checks.model import Check, CheckError, listed, param
from otel_pipeline.quality.checks.rows import MISSING, RowProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.quality.checks.table import Table

__all__ = ["KeyProgress", "References", "Unique", "keys_of", "keys_of_table"]

MOST_KEYS: Final = 1_000_000
_SMALL: Final = 65_536  # keys that are not worth putting together


class KeyProgress(RowProgress):
    """Counts the rows whose key is not right; each key is looked at once."""

    def __init__(self, check: Check, columns: Sequence[str]) -> None:
        super().__init__(check)
        self._columns = columns

    def mask(self, table: Table) -> list[bool]:
        """Return for each row whether it fails, and count those.

        Raises:
            CheckError: The data are a relation, whose rows have no order.
        """
        if table.is_lazy:
            raise CheckError(
                f"{self._check.kind} cannot take rows out of a relation or a lazy frame; "
                "observe it as a table: relation.to_arrow_table()"
            )
        missing = table.any_missing(self._columns)
        absent = table.frame.select(missing=missing)["missing"].to_list()
        keys = table.frame.select(*self._columns).iter_rows()
        failing = [not gone and self.is_wrong(key) for key, gone in zip(keys, absent, strict=True)]
        self.failing += sum(failing)
        return failing

    def is_wrong(self, key: tuple[Any, ...]) -> bool:
        """Tell whether a row with this key fails."""
        raise NotImplementedError


@dataclass(frozen=True)
class Unique(Check):
    """No two rows have the same key.

    The first row of a key is right, each later one fails. Rows in which a part of the key is
    missing pass.

    Args:
        columns: The column, or columns, of the key.
        max_keys: How many keys of a dataset that comes in parts are kept in memory. Beyond it the
            check ends as an error. A dataset that comes whole needs none.

    Example:
        >>> from otel_pipeline.quality import Unique
        >>> Unique(["order_id", "line"]).name
        'unique_order_id_line'
    """

    kind: ClassVar[str] = "unique"
    short: ClassVar[str] = "columns"
    of_rows: ClassVar[bool] = True

    columns: Any = param(params.columns(f"The columns of the key. {MISSING}"))
    max_keys: int = param(
        params.number_of_rows("The most keys to keep, where the dataset comes in parts."),
        MOST_KEYS,
    )

    def about(self) -> tuple[str, ...]:
        """Return the columns of the key."""
        return self.columns  # type: ignore[no-any-return]

    def progress(self) -> KeyProgress:
        """Return what counts the rows whose key was there before."""
        return _UniqueProgress(self)


class _UniqueProgress(KeyProgress):
    """Keeps the keys with their numbers, as frames that are put together now and then."""

    def __init__(self, check: Unique) -> None:
        super().__init__(check, check.columns)
        self._most = check.max_keys
        self._parts: list[Any] = []
        self._together = 0  # keys of the first part, when it was made
        self._seen: set[tuple[Any, ...]] = set()

    def add(self, table: Table) -> None:
        keys = table.present(self._columns)
        if not len(keys):  # whose columns may have no type
            return
        count = table.nw.len().alias("rows of the key")
        self._parts.append(keys.group_by(*self._columns).agg(count))
        if sum(map(len, self._parts)) > 2 * self._together + _SMALL:
            self._put_together(table.nw)

    def _put_together(self, nw: Any) -> None:
        if len(self._parts) > 1:
            summed = nw.col("rows of the key").sum()
            whole = nw.concat(self._parts).group_by(*self._columns).agg(summed)
            if len(whole) > self._most:
                raise CheckError(
                    f"there are more than {self._most:,} keys; raise max_keys, or check the "
                    f"dataset as a whole"
                )
            self._parts = [whole]
        self._together = sum(map(len, self._parts))

    def is_wrong(self, key: tuple[Any, ...]) -> bool:
        if key in self._seen:
            return True
        if len(self._seen) >= self._most:
            raise CheckError(f"there are more than {self._most:,} keys; raise max_keys")
        self._seen.add(key)
        return False

    def verdict(self, rows: int) -> tuple[bool, str, int | None]:
        if self._parts:
            import narwhals  # noqa: PLC0415  an extra

            self._put_together(narwhals)
            found = self._parts[0]["rows of the key"]
            self.failing = int(found.sum() or 0) - len(found)
            self._parts = []
        return super().verdict(rows)


def keys_of(data: object, columns: Sequence[str]) -> set[tuple[Any, ...]]:
    """Return the distinct keys of other data: a path, a frame, rows, or a function giving one.

    Raises:
        CheckError: They cannot be read, or lack a column.
    """
    return {key for table in tables_of(data) for key in keys_of_table(table, columns)}


def keys_of_table(table: Table, columns: Sequence[str]) -> set[tuple[Any, ...]]:
    """Return the distinct keys of a table."""
    return set(table.present(columns).iter_rows())


@dataclass(frozen=True)
class References(Check):
    """Each key is one of another dataset: a foreign key.

    Args:
        columns: The column, or columns, of the key. Rows in which one is missing pass.
        to: The other dataset: the path of a Parquet, CSV or JSON-lines file; in code also a frame,
            rows, or a function that gives them.
        key: The columns there; of the same names by default.

    Example:
        >>> from otel_pipeline.quality import References
        >>> References("customer", to=[{"id": 1}], key="id").name
        'references_customer'
    """

    kind: ClassVar[str] = "references"
    of_rows: ClassVar[bool] = True

    columns: Any = param(params.columns(f"The columns of the key. {MISSING}"))
    to: Any = param(params.other_data("A file with the other dataset."))
    key: Any = param(params.columns("The columns there, unless they have the same names."), None)

    def _problem(self) -> str | None:
        if self.key is not None and len(self.key) != len(self.columns):
            return f"columns {listed(self.columns)} and key {listed(self.key)} differ in number"
        return super()._problem()

    def about(self) -> tuple[str, ...]:
        """Return the columns of the key."""
        return self.columns  # type: ignore[no-any-return]

    def progress(self) -> KeyProgress:
        """Return what counts the rows whose key the other dataset lacks."""
        return _ReferencesProgress(self)


class _ReferencesProgress(KeyProgress):
    """Reads the other dataset's keys when the first row comes."""

    def __init__(self, check: References) -> None:
        super().__init__(check, check.columns)
        self._to = check.to
        self._there = check.key or check.columns
        self._known: set[tuple[Any, ...]] | None = None

    def add(self, table: Table) -> None:
        keys = table.present(self._columns)
        if len(keys):
            count = table.nw.len().alias("rows of the key")
            each = keys.group_by(*self._columns).agg(count).iter_rows()
            self.failing += sum(rows for *key, rows in each if self.is_wrong(tuple(key)))

    def is_wrong(self, key: tuple[Any, ...]) -> bool:
        if self._known is None:
            self._known = keys_of(self._to, self._there)
        return key not in self._known
