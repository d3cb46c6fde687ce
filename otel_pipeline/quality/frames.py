"""Any kind of rows as Arrow record batches, a part at a time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from otel_pipeline.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BLOCK", "batches", "block_rows", "type_name"]

#: Rows of a block, which is worked on at once, where there are not very many columns. Everything is
#: cut at its multiples, so the profile does not depend on how the rows came.
BLOCK: Final = 65_536
_CELLS: Final = 1 << 23  # of a block
_LEAST: Final = 1_024

#: Rows given as objects that become one batch.
_OBJECTS: Final = 8_192

#: Types of Arrow's own that are another type with a meaning.
_KNOWN_EXTENSIONS: Final = {"arrow.json", "arrow.uuid"}


def batches(data: object) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `data` as record batches, in their order.

    Args:
        data: A frame of pandas or Polars, also a lazy one; a table, record batch or reader of
            PyArrow; a relation of DuckDB; whatever exports an Arrow stream or narwhals knows; a
            mapping of names to columns; an iterable of dicts or dataclass objects.

    Raises:
        ProfileError: A column has values of several types, or a name occurs twice; or this kind of
            data is not known.
    """
    for batch in _native(data):
        _check_names(batch.schema.names)
        yield batch


def block_rows(columns: int) -> int:
    """Return how many rows a block has: a power of two, fewer where there are many columns."""
    rows = BLOCK
    while rows > _LEAST and rows * columns > _CELLS:
        rows //= 2
    return rows


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name, n in Counter(names).items() if n > 1)
        raise ProfileError(f"column {twice!r} occurs twice: give each column a name of its own")


def _native(data: object) -> Iterable[pa.RecordBatch]:  # noqa: C901, PLR0911
    if isinstance(data, pa.RecordBatch):
        return (data,)
    if isinstance(data, pa.Table):
        return _first_empty(data.schema, data.to_batches())
    library = type(data).__module__.partition(".")[0]
    kind = type(data).__name__
    if library == "pandas" and kind in {"DataFrame", "Series"}:
        return _pandas(data)
    if library == "polars":
        return _polars(data, kind)
    if library == "duckdb" and hasattr(data, "to_arrow_reader"):
        return _stream(data.to_arrow_reader(BLOCK))
    if hasattr(data, "__arrow_c_stream__"):
        return _stream(pa.RecordBatchReader.from_stream(data))
    if isinstance(data, Mapping):
        return _first_empty(None, [_columns({str(name): data[name] for name in data})])
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        if library != "builtins" and (frame := _narwhals(data)) is not None:
            return frame
        return _objects(data)
    if (frame := _narwhals(data)) is not None:
        return frame
    raise ProfileError(
        f"{type(data).__qualname__} cannot be profiled: give a frame of pandas, Polars, "
        "PyArrow or DuckDB, or an iterable of dicts or dataclass objects"
    )


def _first_empty(schema: pa.Schema | None, parts: list[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    """Return the parts, or an empty one that tells the columns."""
    return parts or ([pa.RecordBatch.from_pylist([], schema=schema)] if schema else [])


def _stream(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader


def _polars(data: Any, kind: str) -> Iterable[pa.RecordBatch]:
    import polars as pl  # noqa: PLC0415

    if kind == "Series":
        data = data.to_frame()
    if kind == "LazyFrame":
        if not hasattr(data, "collect_batches"):
            return _polars(data.collect(), "DataFrame")
        return itertools.chain.from_iterable(
            _polars(part, "DataFrame") for part in data.collect_batches(maintain_order=True)
        )
    for name, dtype in data.schema.items():
        if dtype == pl.Object:
            raise ProfileError(f"column {name!r} holds Python objects: cast it, or leave it out")
    # The newest form of Arrow takes Polars' strings without a copy.
    newest = pl.CompatLevel.newest()
    try:
        table = data.to_arrow(compat_level=newest)
    except Exception:
        for name in data.columns:
            try:
                data[name].to_arrow(compat_level=newest)
            except Exception:  # noqa: BLE001  # also a panic, which says nothing to the user
                raise ProfileError(
                    f"column {name!r} is of type {data.schema[name]}, which Arrow does not have: "
                    "cast it, or leave it out"
                ) from None
        raise
    return _first_empty(table.schema, table.to_batches())


def _pandas(data: Any) -> Iterator[pa.RecordBatch]:
    if not hasattr(data, "columns"):
        data = data.to_frame()
    names = [str(name) for name in data.columns]
    _check_names(names)
    for start in range(0, max(len(data), 1), BLOCK):
        part = data.iloc[start : start + BLOCK].copy()  # frames may be changed in place
        yield _columns(
            {name: part.iloc[:, place] for place, name in enumerate(names)}, rows=len(part)
        )


def _narwhals(data: object) -> Iterable[pa.RecordBatch] | None:
    """Return the rows of what narwhals knows, else None."""
    import narwhals as nw  # noqa: PLC0415

    frame = nw.from_native(data, pass_through=True) if not _is_narwhals(data) else data
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect(backend="pyarrow")
    if not isinstance(frame, nw.DataFrame):
        return None
    native = frame.to_native()
    table = frame.to_arrow() if type(native).__module__.startswith("modin") else None
    if table is None and type(native) is not type(data):
        return _native(native)
    table = frame.to_arrow() if table is None else table
    return _first_empty(table.schema, table.to_batches())


def _is_narwhals(data: object) -> bool:
    return type(data).__module__.startswith("narwhals.")


def _objects(data: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    rows = iter(data)
    while chunk := list(itertools.islice(rows, _OBJECTS)):
        if dataclasses.is_dataclass(chunk[0]):
            chunk = [_fields(row) for row in chunk]
        names: dict[str, None] = {}
        try:
            for row in chunk:
                if row.keys() != names.keys():
                    names.update(dict.fromkeys(row))
            columns = {name: [row.get(name) for row in chunk] for name in names}
            yield _columns(columns, rows=len(chunk))
        except AttributeError:
            kinds = {type(row).__name__ for row in chunk}
            raise ProfileError(
                f"rows of type {', '.join(sorted(kinds))} cannot be profiled: give dicts or "
                "dataclass objects"
            ) from None


def _fields(row: Any) -> dict[str, Any]:
    return {one.name: getattr(row, one.name) for one in dataclasses.fields(row)}


def _columns(columns: Mapping[str, Any], rows: int | None = None) -> pa.RecordBatch:
    arrays = [_array(name, values) for name, values in columns.items()]
    if not arrays and rows:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    for name, array in zip(columns, arrays, strict=True):
        if len(array) != len(arrays[0]):
            raise ProfileError(
                f"column {name!r} has {len(array)} rows, the first column {len(arrays[0])}"
            )
    return pa.RecordBatch.from_arrays(arrays, names=list(map(str, columns)))


def _array(name: str, values: Any) -> pa.Array:
    """Return the values of one column; no value gets into the text of an error."""
    if isinstance(values, np.ndarray):
        values = values.copy()
    try:
        array = pa.array(values, from_pandas=not isinstance(values, list))
    except OverflowError:
        what = "holds an integer of more than 64 bits: make it a float, a decimal or text"
    except (pa.ArrowException, TypeError, ValueError):
        what = f"holds {_kinds(values)}, which Arrow has no single type for: cast it"
    else:
        if not _changed(values, array.type):
            return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        what = f"holds {_kinds(values)}, and not all alike: cast it"
    raise ProfileError(f"column {name!r} {what}, or leave it out")


def _kinds(values: Iterable[Any]) -> str:
    """Return the names of the types of values."""
    kinds = {
        "datetime with a time zone"
        if isinstance(value, dt.datetime) and value.tzinfo
        else type(value).__name__
        for value in values
        if value is not None
    }
    return " and ".join(sorted(kinds)[:5])


def _changed(values: Any, kind: pa.DataType) -> bool:
    """Whether Arrow took some objects for what they are not, such as times for dates."""
    is_ = pa.types
    if not isinstance(values, list) and str(getattr(values, "dtype", "")) != "object":
        return False
    if is_.is_date(kind):
        return any(isinstance(value, dt.datetime) for value in values)
    if is_.is_timestamp(kind):
        known = (value for value in values if value is not None and value == value)  # noqa: PLR0124
        return len({getattr(value, "tzinfo", None) is None for value in known}) > 1
    if is_.is_binary(kind):
        return any(isinstance(value, str) for value in values)
    return False


@functools.lru_cache(maxsize=1_024)
def type_name(kind: pa.DataType) -> str:  # noqa: PLR0911
    """Return the name of a type that is the same whichever library held the data.

    Example:
        >>> import pyarrow as pa
        >>> type_name(pa.large_string()), type_name(pa.timestamp("ns", "UTC"))
        ('string', 'datetime[UTC]')
    """
    is_ = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        known = kind.extension_name in _KNOWN_EXTENSIONS
        return type_name(kind.storage_type) if known else str(kind.extension_name)
    if is_.is_dictionary(kind) or is_.is_run_end_encoded(kind):
        return type_name(kind.value_type)
    if is_.is_floating(kind):
        return f"float{kind.bit_width}"
    if is_.is_timestamp(kind):
        return "datetime" if kind.tz is None else f"datetime[{kind.tz}]"
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return f"list[{type_name(kind.value_type)}]"
    if is_.is_struct(kind):
        return f"struct[{', '.join(f'{one.name}: {type_name(one.type)}' for one in kind)}]"
    names = {
        "string": (is_.is_string, is_.is_large_string, is_.is_string_view),
        "binary": (
            is_.is_binary,
            is_.is_large_binary,
            is_.is_binary_view,
            is_.is_fixed_size_binary,
        ),
        "date": (is_.is_date,),
        "time": (is_.is_time,),
        "duration": (is_.is_duration,),
        "decimal": (is_.is_decimal,),
        "map": (is_.is_map,),
    }
    for name, tests in names.items():
        if any(test(kind) for test in tests):
            return name
    return str(kind)
