"""Checks of single values and rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otel_pipeline.quality.checks import params
from otel_pipeline.quality.checks.model import Check, Progress, param
from otel_pipeline.quality.checks.predicate import Predicate

if TYPE_CHECKING:
    import narwhals as nw

    from otel_pipeline.quality.checks.table import Table

__all__ = ["Between", "InSet", "Matches", "NotNull", "Row", "RowCheck", "RowProgress"]

MISSING: Final = "Rows in which it is missing (null, NaN) pass: that is for not_null to say."


class RowProgress(Progress):
    """Counts the rows that fail."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self.failing = 0

    def verdict(self, rows: int) -> tuple[bool, str, int | None]:
        """Compare the number of failing rows with what `mostly` allows."""
        failing, allowed = self.failing, self._check.allowed(rows)
        share = f" ({failing / rows:.2%})" if rows else ""
        told = f"{failing:,} of {rows:,} rows{share} fail"
        if allowed or self._check.mostly < 1:
            told += f"; {allowed:,} may"
        return failing <= allowed, told, failing


@dataclass(frozen=True)
class RowCheck(Check):
    """A check that looks at each row by itself."""

    of_rows: ClassVar[bool] = True

    def failing(self, table: Table) -> nw.Expr:
        """Return the expression that is true, and never null, in each row that fails."""
        raise NotImplementedError

    def progress(self) -> RowProgress:
        """Return what counts the rows that fail."""
        return RowProgress(self)


@dataclass(frozen=True)
class NotNull(RowCheck):
    """Each row has a value in these columns; NaN is no value.

    Args:
        columns: One column, or several.

    Example:
        >>> from otel_pipeline.quality import NotNull
        >>> NotNull("id", severity="critical", on_fail="break").name
        'not_null_id'
    """

    kind: ClassVar[str] = "not_null"
    short: ClassVar[str] = "columns"

    columns: Any = param(params.columns("The columns that have a value in each row."))

    def about(self) -> tuple[str, ...]:
        """Return its columns."""
        return self.columns  # type: ignore[no-any-return]

    def failing(self, table: Table) -> nw.Expr:
        """Return where one of them has no value."""
        return table.any_missing(self.columns)


@dataclass(frozen=True)
class OfOneColumn(RowCheck):
    """A check of the values of one column; rows without a value pass."""

    column: str = param(params.column(f"The column. {MISSING}"))

    def about(self) -> tuple[str, ...]:
        """Return its column."""
        return (self.column,)

    def failing(self, table: Table) -> nw.Expr:
        """Return where there is a value, and it is not right."""
        if table.is_empty(self.column):
            return table.never()
        return ~table.missing(self.column) & self.wrong(table)

    def wrong(self, table: Table) -> nw.Expr:
        """Return where a value is not right."""
        raise NotImplementedError


@dataclass(frozen=True)
class Between(OfOneColumn):
    """Each value is within bounds, which are allowed themselves.

    Args:
        column: The column. Rows without a value pass.
        min: The lowest value: a number, a text, a date or a time stamp.
        max: The highest.

    Example:
        >>> from otel_pipeline.quality import Between
        >>> Between("amount", min=0, mostly=0.99).mostly
        0.99
    """

    kind: ClassVar[str] = "between"

    min: Any = param(params.bound("The lowest value."), None)
    max: Any = param(params.bound("The highest value."), None)

    def _problem(self) -> str | None:
        if self.min is None and self.max is None:
            return "a min, a max or both are needed"
        return super()._problem()

    def wrong(self, table: Table) -> nw.Expr:
        """Return where a value is outside."""
        column = table.column(self.column)
        outside = []
        if self.min is not None:
            outside.append(column < table.literal(self.min))
        if self.max is not None:
            outside.append(column > table.literal(self.max))
        return outside[0] if len(outside) == 1 else outside[0] | outside[1]


@dataclass(frozen=True)
class InSet(OfOneColumn):
    """Each value is one of a few.

    Args:
        column: The column. Rows without a value pass.
        values: What is allowed.

    Example:
        >>> from otel_pipeline.quality import InSet
        >>> InSet("status", ["open", "paid"]).values
        ('open', 'paid')
    """

    kind: ClassVar[str] = "in_set"

    values: Any = param(params.values("The values that are allowed."))

    def wrong(self, table: Table) -> nw.Expr:
        """Return where a value is another one."""
        return ~table.column(self.column).is_in(self.values)


@dataclass(frozen=True)
class Matches(OfOneColumn):
    """Each text matches a regular expression, anywhere unless it has `^` and `$`.

    Args:
        column: The column. Rows without a value pass.
        pattern: The expression. Each library brings its own engine, so keep to what all know:
            no look-around and no back-references.

    Example:
        >>> from otel_pipeline.quality import Matches
        >>> Matches("email", "^[^@]+@[^@]+$").name
        'matches_email'
    """

    kind: ClassVar[str] = "matches"

    pattern: str = param(params.pattern("A regular expression that is found in each text."))

    def wrong(self, table: Table) -> nw.Expr:
        """Return where the expression is not found."""
        # Compared, not turned round: in a column of objects pandas answers with objects.
        return table.column(self.column).str.contains(self.pattern) == table.literal(False)  # noqa: FBT003


@dataclass(frozen=True)
class Row(RowCheck):
    """Each row meets a condition, such as `paid_at is None or paid_at >= ordered_at`.

    Args:
        condition: A text in a small part of Python's syntax, in which names are columns. Where a
            missing value leaves open whether it is met, the row passes. Or in code a narwhals
            expression that is true where a row is right.

    Example:
        >>> from otel_pipeline.quality import Row
        >>> Row("paid_at is None or paid_at >= ordered_at", name="paid_after_order").about()
        ('paid_at', 'ordered_at')
    """

    kind: ClassVar[str] = "row"
    short: ClassVar[str] = "condition"

    condition: Any = param(
        params.condition("What each row meets; names are columns, in Python's syntax.")
    )

    def about(self) -> tuple[str, ...]:
        """Return the columns of the condition."""
        return self.condition.columns if isinstance(self.condition, Predicate) else ()

    def failing(self, table: Table) -> nw.Expr:
        """Return where the condition is not met."""
        if isinstance(self.condition, Predicate):
            return self.condition.broken(table)
        return (~self.condition).fill_null(value=False)  # type: ignore[no-any-return]
