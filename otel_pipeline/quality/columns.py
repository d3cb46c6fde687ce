"""What is known of one column: counts, extremes, moments and sketches that add up."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from otel_pipeline.errors import ProfileError
from otel_pipeline.quality.moments import Lengths, Moments

if TYPE_CHECKING:
    from otel_pipeline.quality.sketches import Distinct, Frequent, Quantiles

__all__ = ["ColumnProfile", "plain", "wider"]

#: The quantiles that `to_dict` gives.
_QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_TOP: Final = 20
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


@dataclass(slots=True)
class ColumnProfile:
    """What one column looks like.

    A number that its level or type does not have is None. NaN counts apart from null, except in
    a NumPy column of pandas, where it is the only way to say null; NaN and infinite values are in
    no mean, standard deviation or quantile.

    Attributes:
        name: The column's name.
        type: Its type in the words of `Profile.schema`.
        rows: Number of rows.
        null_count: Rows without a value.
        nan_count: Values that are no number; `infinite_count`: values that are infinite.
        zero_count: Numbers that are zero; `negative_count`: numbers below.
        empty_count: Texts without a character.
        true_count: Booleans that are true; `false_count`: that are false.
        future_count: Dates and times behind the moment of the profile; `past_count`: up to it.
        epoch_count: Dates and times that are 1970-01-01 00:00, which often means zero.
        min: Least value, of texts only where values are allowed; NaN left out.
        max: Greatest value.
    """

    name: str
    type: str
    rows: int = 0
    null_count: int = 0
    nan_count: int | None = None
    infinite_count: int | None = None
    zero_count: int | None = None
    negative_count: int | None = None
    empty_count: int | None = None
    true_count: int | None = None
    false_count: int | None = None
    future_count: int | None = None
    past_count: int | None = None
    epoch_count: int | None = None
    _least: Any = None
    _greatest: Any = None
    _moments: Moments = field(default_factory=Moments)
    _lengths: Lengths = field(default_factory=Lengths)
    _quantiles: Quantiles | None = None
    _distinct: Distinct | None = None
    _frequent: Frequent | None = None

    @property
    def count(self) -> int:
        """Rows with a value; NaN is a value."""
        return self.rows - self.null_count

    @property
    def null_ratio(self) -> float | None:
        """Share of the rows without a value; None where there are no rows."""
        return self.null_count / self.rows if self.rows else None

    @property
    def distinct(self) -> int | None:
        """Number of distinct values, null left out: exact below 16,384, then an estimate."""
        return None if self._distinct is None else min(self._distinct.count(), self.count)

    @property
    def distinct_error(self) -> float | None:
        """How far `distinct` is off at most in 99 of 100 cases, as a share of it."""
        return None if self._distinct is None else self._distinct.error()

    @property
    def distinct_ratio(self) -> float | None:
        """Share of distinct values among the values; None where there are none."""
        distinct = self.distinct
        return distinct / self.count if distinct is not None and self.count else None

    @property
    def min(self) -> Any:
        """Least value: a number, a date, time or datetime; of texts only where allowed."""
        return _value(self._least, self.type)

    @property
    def max(self) -> Any:
        """Greatest value, as `min`."""
        return _value(self._greatest, self.type)

    @property
    def mean(self) -> float | None:
        """Mean of the finite numbers; None where there are none."""
        return self._moments.mean if self._moments.n else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the finite numbers; None below two of them."""
        return self._moments.std

    @property
    def min_length(self) -> int | None:
        """Least length: of a text in characters, of a binary value in bytes."""
        return self._lengths.least if self._lengths.n else None

    @property
    def max_length(self) -> int | None:
        """Greatest length."""
        return self._lengths.greatest if self._lengths.n else None

    @property
    def mean_length(self) -> float | None:
        """Mean length."""
        return self._lengths.total / self._lengths.n if self._lengths.n else None

    def quantile(self, q: float) -> Any:
        """Return the value at a rank.

        Args:
            q: The rank, from 0 to 1; 0.5 is the median.

        Returns:
            A number, or a date or time; `None` if there are no values, or none are kept.

        Raises:
            ValueError: The rank is not from 0 to 1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a rank is from 0 to 1, not {q!r}")
        return self._ranked([q])[0]

    @property
    def quantile_error(self) -> float | None:
        """How far the rank of a quantile is off at most in 99 of 100 cases, from 0 to 1."""
        return None if self._quantiles is None else self._quantiles.error()

    @property
    def top_values(self) -> list[tuple[Any, int]] | None:
        """The 20 most frequent values and how often they came at least; None unless allowed."""
        return None if self._frequent is None else self._frequent.top(_TOP)

    @property
    def top_values_error(self) -> int | None:
        """How often a value may have come more than `top_values` says; 0 says they are exact."""
        return None if self._frequent is None else self._frequent.lost

    def _ranked(self, ranks: list[float]) -> list[Any]:
        if self._quantiles is None:
            return [None] * len(ranks)
        return [
            value if value is None else _value(value, self.type)
            for value in self._quantiles.values(ranks)
        ]

    def merge(self, other: ColumnProfile) -> None:
        """Take the rows that another profile of the column describes.

        Raises:
            ProfileError: The types do not go together.
        """
        self.adopt(other.type)
        other = other.copy()
        other.adopt(self.type)
        for name in _ADDED:
            mine, theirs = getattr(self, name), getattr(other, name)
            if theirs is not None:
                setattr(self, name, theirs if mine is None else mine + theirs)
        self.extend(other._least, other._greatest)  # noqa: SLF001
        for name in ("_moments", "_lengths", "_quantiles", "_distinct", "_frequent"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is None:
                setattr(self, name, theirs)
            elif theirs is not None:
                mine.merge(theirs)

    def extend(self, least: Any, greatest: Any) -> None:
        """Take a least and a greatest value, or None and None."""
        if least is not None:
            self._least = least if self._least is None else min(self._least, least)
            self._greatest = greatest if self._greatest is None else max(self._greatest, greatest)

    def adopt(self, other: str) -> None:
        """Let the column have a type that holds both its own and another.

        Raises:
            ProfileError: There is none.
        """
        if other == self.type:
            return
        both = wider(self.type, other)
        if both is None:
            raise ProfileError(
                f"column {self.name!r} changed its type from {self.type} to {other}"
                f" after {self.rows} rows: cast it, or profile the parts apart"
            )
        if both != self.type and self._quantiles is not None and both.startswith("float"):
            self._quantiles.as_type(np.float64)
        self.type = both

    def copy(self) -> ColumnProfile:
        """Return a profile of its own with the same numbers."""
        import copy  # noqa: PLC0415

        return copy.deepcopy(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the column as a document for JSON; what it does not have is left out."""
        document: dict[str, Any] = {"type": self.type}
        for name in _TOLD:
            value = getattr(self, name)
            if value is not None:
                document[name] = plain(value)
        if (
            self._quantiles is not None
            and (values := self._ranked(list(_QUANTILES)))[0] is not None
        ):
            document["quantiles"] = {
                str(q): plain(value) for q, value in zip(_QUANTILES, values, strict=True)
            }
            document["quantile_error"] = self.quantile_error
        if self.top_values is not None:
            document["top_values"] = [
                {"value": plain(value), "count": count} for value, count in self.top_values
            ]
            document["top_values_error"] = self.top_values_error
        return document


_ADDED: Final = (
    "rows",
    "null_count",
    "nan_count",
    "infinite_count",
    "zero_count",
    "negative_count",
    "empty_count",
    "true_count",
    "false_count",
    "future_count",
    "past_count",
    "epoch_count",
)
_TOLD: Final = (
    "null_count",
    "null_ratio",
    "distinct",
    "distinct_ratio",
    "distinct_error",
    "min",
    "max",
    "mean",
    "std",
    "min_length",
    "max_length",
    "mean_length",
    *_ADDED[2:],
)


def wider(one: str, other: str) -> str | None:
    """Return the type that holds the values of two others, or None.

    Example:
        >>> wider("int32", "int64"), wider("int64", "float32"), wider("int64", "string")
        ('int64', 'float64', None)
    """
    if other in {one, "null"}:
        return one
    if one == "null":
        return other
    kinds = [_number(one), _number(other)]
    if None in kinds:
        return None
    (kind, bits), (kind_2, bits_2) = (k for k in kinds if k is not None)
    both = {kind, kind_2}
    if len(both) == 1 and kind != "decimal":
        return f"{kind}{max(bits, bits_2)}"
    if both == {"int", "uint"}:
        signed = bits if kind == "int" else bits_2
        unsigned = bits_2 if kind == "int" else bits
        return f"int{max(signed, 2 * unsigned)}" if unsigned < 64 else "float64"  # noqa: PLR2004
    return "float64"


def _number(name: str) -> tuple[str, int] | None:
    if name == "decimal":
        return name, 0
    for kind in ("uint", "int", "float"):
        if name.startswith(kind) and name.removeprefix(kind).isdecimal():
            return kind, int(name.removeprefix(kind))
    return None


def _value(held: Any, kind: str) -> Any:  # noqa: PLR0911
    """Return a value as Python has it; dates and times are held as days or microseconds."""
    if held is None:
        return None
    try:
        if kind.startswith("float"):  # it may have been a column of another type
            return float(held)
        if kind == "date":
            return (_EPOCH + dt.timedelta(days=held)).date()
        if kind.startswith("datetime"):
            time = _EPOCH + held * _MICROSECOND
            return time if kind != "datetime" else time.replace(tzinfo=None)
        if kind == "time":
            return (_EPOCH + held * _MICROSECOND).time()
        if kind == "duration":
            return held * _MICROSECOND
    except OverflowError:  # a year that Python's own types do not reach
        unit = "D" if kind == "date" else "us"
        return np.int64(held).view(f"{'m' if kind == 'duration' else 'M'}8[{unit}]")
    return held


def plain(value: Any) -> Any:  # noqa: PLR0911
    """Return a value as JSON has it: dates in ISO 8601, what JSON cannot say as text."""
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
