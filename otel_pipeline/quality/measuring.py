"""Add a block of a column's values to what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from otel_pipeline.errors import ProfileError
from otel_pipeline.quality.columns import plain
from otel_pipeline.quality.frames import BLOCK, type_name
from otel_pipeline.quality.sketches import Distinct, Frequent, Quantiles, mixed
from otel_pipeline.quality.texts import hashes_and_lengths, wide

if TYPE_CHECKING:
    import datetime as dt

    import numpy.typing as npt

    from otel_pipeline.quality.columns import ColumnProfile

__all__ = ["Level", "Measuring"]

Level = Literal["basic", "standard", "full"]

#: The moments of so many values are taken at once: they stay in the processor's cache.
_PIECE: Final = 32_768
#: A block gives at least `BLOCK / 2**10` samples, however many there were before.
_LOWEST_RATE: Final = 10
_TEXTS: Final = {"string", "binary"}
_FEW: Final = 4_096  # integers within such a range are told apart by a table
_EXACT: Final = 2**53  # integers up to here are floats, too
_PER_SECOND: Final = 1_000_000
_MICROSECONDS: Final = {"s": _PER_SECOND, "ms": 1_000, "us": 1}
_LARGEST: Final = 2**63 - 1


class Measuring:
    """How the blocks of one stream of rows are measured.

    Quantiles take all rows of the first block of 65,536, every second of the next two, every
    fourth of the next four and so on: as many of each, at random places, so that order in the
    data does not show. `full` takes all.
    """

    def __init__(self, level: Level, top_values: frozenset[str], now: dt.datetime) -> None:
        self.rows = BLOCK
        self._level = level
        self._top = top_values
        self._now = int(now.timestamp() * _PER_SECOND)
        self._scratch = np.empty(_PIECE, np.float64)
        self._rate = 0
        self._places: npt.NDArray[np.uint64] = np.empty(0, np.uint64)

    def begin(self, row: int) -> None:
        """Prepare for a block, by the number of its first row from 0."""
        if self._level != "standard":
            return
        self._rate = min((row // BLOCK + 1).bit_length() - 1, _LOWEST_RATE)
        windows = np.arange(-(-self.rows >> self._rate), dtype=np.uint64)
        within = mixed(windows + np.uint64(row)) & np.uint64(2**self._rate - 1)
        self._places = (windows << np.uint64(self._rate)) + within

    def add(self, column: ColumnProfile, array: pa.Array) -> None:
        """Add the values of a block to a column.

        Raises:
            ProfileError: The column changed its type, or has dates beyond all bounds.
        """
        array = _unwrapped(column.name, array)
        kind = array.type
        if type_name(kind) != column.type:
            column.adopt(type_name(kind))
        column.rows += len(array)
        column.null_count += array.null_count
        types = pa.types
        if self._level != "basic" and column.name in self._top and not types.is_null(kind):
            _count(column, array)
        with np.errstate(all="ignore"):  # of numbers that are very large
            if types.is_boolean(kind):
                self._booleans(column, array)
            elif types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
                self._numbers(column, array)
            elif types.is_temporal(kind) and not types.is_interval(kind):
                self._times(column, array)
            elif type_name(kind) in _TEXTS:
                self._texts(column, array)

    def _booleans(self, column: ColumnProfile, array: pa.Array) -> None:
        if self._level == "basic":
            return
        trues = array.true_count
        falses = len(array) - array.null_count - trues
        column.true_count = (column.true_count or 0) + trues
        column.false_count = (column.false_count or 0) + falses
        present = [value for value, n in ((0, falses), (1, trues)) if n]
        self._hashes(column, mixed(np.array(present, np.uint64)))

    def _numbers(self, column: ColumnProfile, array: pa.Array) -> None:
        decimals = pa.types.is_decimal(array.type)
        if decimals:
            ends = pc.min_max(array)
            column.extend(ends["min"].as_py(), ends["max"].as_py())
            array = array.cast(pa.float64())
        values = _values(array)
        if values.dtype.kind == "f" and not decimals:
            column.nan_count = column.nan_count or 0
            column.infinite_count = column.infinite_count or 0
        if self._level != "basic":
            column.zero_count = column.zero_count or 0
            column.negative_count = column.negative_count or 0
        for start in range(0, len(values), _PIECE):
            self._piece(column, values[start : start + _PIECE], ends_known=decimals)
        if self._level != "basic":
            self._sample(column, values)

    def _piece(self, column: ColumnProfile, values: npt.NDArray[Any], *, ends_known: bool) -> None:
        """Add a piece of the values of a block, at least one and none of them null."""
        whole = values.dtype.kind != "f"
        least, greatest = values.min().item(), values.max().item()
        if least != least:  # noqa: PLR0124  # NaN
            nan = np.isnan(values)
            column.nan_count = (column.nan_count or 0) + int(nan.sum())
            if self._level != "basic":
                self._hashes(column, mixed(np.array([0x7FF8_0000_0000_0000], np.uint64)))
            values = values[~nan]
            if not len(values):
                return
            least, greatest = values.min().item(), values.max().item()
        if not ends_known:
            column.extend(least, greatest)
        floats = values if values.dtype == np.float64 else values.astype(np.float64)
        if self._level != "basic":
            if least <= 0 <= greatest:
                column.zero_count = (column.zero_count or 0) + int((values == 0).sum())
            if least < 0:
                column.negative_count = (column.negative_count or 0) + int((values < 0).sum())
            keys = _keys(values, floats, least, greatest)
            self._hashes(column, mixed(keys.view(np.uint64)))
        if not whole and (greatest == np.inf or least == -np.inf):
            finite = np.isfinite(floats)
            column.infinite_count = (column.infinite_count or 0) + int((~finite).sum())
            floats = floats[finite]
            if not len(floats):
                return
        column._moments.add(floats, self._scratch)  # noqa: SLF001

    def _times(self, column: ColumnProfile, array: pa.Array) -> None:
        kind = array.type
        unit = getattr(kind, "unit", "ms")
        values = _values(array.view(f"int{kind.bit_width}")).astype(np.int64, copy=False)
        if not len(values):
            if self._level != "basic" and column.type.startswith("date"):
                for name in ("future_count", "past_count", "epoch_count"):
                    setattr(column, name, getattr(column, name) or 0)
            return
        least, greatest = int(values.min()), int(values.max())
        day = column.type == "date"
        if day:
            days = pa.types.is_date64(kind)
            values = values // 86_400_000 if days else values
            keys = values
        elif unit == "ns":
            keys, values = values, values // 1_000
        else:
            scale = _MICROSECONDS[unit]
            if max(greatest, -least) > _LARGEST // scale:
                raise ProfileError(
                    f"column {column.name!r} has dates more than 292,000 years away: "
                    "they may be in another unit"
                )
            values = values * scale if scale > 1 else values
            keys = values * 1_000
        column.extend(int(values.min()), int(values.max()))
        if self._level == "basic":
            return
        self._hashes(column, mixed(np.ascontiguousarray(keys).view(np.uint64)))
        if column.type.startswith("date"):
            now = self._now // (86_400 * _PER_SECOND) if day else self._now
            future = int((values > now).sum())
            column.future_count = (column.future_count or 0) + future
            column.past_count = (column.past_count or 0) + len(values) - future
            column.epoch_count = (column.epoch_count or 0) + int((values == 0).sum())
        self._sample(column, values)

    def _texts(self, column: ColumnProfile, array: pa.Array) -> None:
        if self._level == "basic":
            return
        column.empty_count = column.empty_count or 0
        hashes, lengths = hashes_and_lengths(array)
        if len(lengths):
            column.empty_count += int((lengths == 0).sum())
            column._lengths.add(lengths)  # noqa: SLF001
        self._hashes(column, hashes)

    def _hashes(self, column: ColumnProfile, hashes: npt.NDArray[np.uint64]) -> None:
        if column._distinct is None:  # noqa: SLF001
            column._distinct = Distinct()  # noqa: SLF001
        column._distinct.add(hashes)  # noqa: SLF001

    def _sample(self, column: ColumnProfile, values: npt.NDArray[Any]) -> None:
        if column._quantiles is None:  # noqa: SLF001
            column._quantiles = Quantiles()  # noqa: SLF001
        level = 0
        if self._level == "standard" and self._rate:
            level = self._rate
            places = self._places[: np.searchsorted(self._places, np.uint64(len(values)))]
            values = values[places]
        # Whole numbers stay whole where 64 bits hold them and others of the column.
        whole = values.dtype.kind in "iu" and values.dtype != np.uint64
        whole = whole and not column.type.startswith(("float", "decimal", "uint64"))
        values = values.astype(np.int64 if whole else np.float64, copy=False)
        if not whole:
            values = values[np.isfinite(values)]
        column._quantiles.add(values, level)  # noqa: SLF001


def _unwrapped(name: str, array: pa.Array) -> pa.Array:
    """Return the values themselves of a column that has them in another form."""
    if isinstance(array.type, pa.BaseExtensionType) and type_name(array.type) in _TEXTS:
        array = array.storage
    if pa.types.is_union(array.type):
        raise ProfileError(f"column {name!r} is a union of types: cast it, or leave it out")
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_dictionary(array.type) and (
        array.dictionary.null_count or type_name(array.type) not in _TEXTS
    ):
        array = array.dictionary_decode()
    if pa.types.is_dictionary(array.type):
        # Arrow computes little with the views of texts that Polars has.
        array = pa.DictionaryArray.from_arrays(array.indices, wide(array.dictionary))
    return array


def _keys(
    values: npt.NDArray[Any], floats: npt.NDArray[np.float64], least: float, greatest: float
) -> npt.NDArray[Any]:
    """Return what to hash of numbers, each at least once.

    The same number is the same, whatever its type, as far as a float holds it.
    """
    whole = values.dtype.kind != "f"
    if whole and max(-least, greatest) > _EXACT:
        return values
    if whole and greatest - least < _FEW:
        there = np.zeros(int(greatest - least) + 1, bool)
        there[values.astype(np.int64) - int(least)] = True
        return (np.flatnonzero(there) + int(least)).astype(np.float64)
    return floats + 0.0  # minus zero is zero


def _values(array: pa.Array) -> npt.NDArray[Any]:
    """Return the values of a column of numbers that are not null."""
    if not array.null_count:
        values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    else:
        bits, held = array.buffers()
        start, end = array.offset, array.offset + len(array)
        there = np.unpackbits(np.frombuffer(bits, np.uint8), count=end, bitorder="little")[start:]
        values = np.frombuffer(held, array.type.to_pandas_dtype())[start:end][there.view(bool)]
    return values


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us")


def _count(column: ColumnProfile, array: pa.Array) -> None:
    """Count each value of a column whose values may be shown, and find their ends."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if type_name(array.type) in _TEXTS:
        array = wide(array)
        ends = pc.min_max(array)
        column.extend(ends["min"].as_py(), ends["max"].as_py())
    elif pa.types.is_nested(array.type):
        return
    if column._frequent is None:  # noqa: SLF001
        column._frequent = Frequent()  # noqa: SLF001
    if getattr(array.type, "unit", None) == "ns":  # Python has microseconds
        array = array.cast(_in_microseconds(array.type), safe=False)
    counted = pc.value_counts(array.drop_null())
    values, counts = counted.field(0).to_pylist(), counted.field(1).to_pylist()
    column._frequent.add(dict(zip(map(plain, values), counts, strict=True)))  # noqa: SLF001
