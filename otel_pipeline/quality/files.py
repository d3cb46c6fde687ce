"""The rows of a file, a part at a time: CSV, Parquet, JSON lines."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from otel_pipeline.errors import ProfileError
from otel_pipeline.quality.frames import BLOCK
from otel_pipeline.quality.profiles import Profiler

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from otel_pipeline.quality.profiles import Level, Profile

__all__ = ["FORMATS", "profile_file"]

#: Each format with the endings of its files; those of text may be followed by `.gz` and the like.
FORMATS: Final = {
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
_PACKED: Final = {".gz", ".bz2", ".zst", ".lz4"}
_CSV_BLOCK: Final = 8 << 20
#: What a column of CSV is read as next, where it has something that the type cannot be.
_WIDER: Final = {"null": pa.int64(), "int64": pa.float64()}


def profile_file(
    path: str | Path,
    level: Level = "standard",
    *,
    form: str | None = None,
    top_values: Collection[str] = (),
) -> Profile:
    """Profile a file in constant memory.

    Args:
        path: The file, which may be packed with gzip, bzip2, zstd or lz4 unless it is Parquet.
        level: `basic`, `standard` or `full`.
        form: `csv`, `jsonl` or `parquet`; by default what the file's name says.
        top_values: Columns whose values may be shown.

    Raises:
        ProfileError: The file cannot be read as that, or a column cannot be profiled.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    path.open("rb").close()  # Arrow's own errors name no reason that a person can read
    form = form or _form(path)
    if form == "csv":
        return _csv(path, level, top_values)
    profiler = Profiler(level, top_values=top_values)
    if form == "jsonl":
        profiler.update(_json_lines(path))
        return profiler.result()
    try:
        with pa.parquet.ParquetFile(path) as file:
            profiler.update(file.schema_arrow.empty_table())
            for batch in file.iter_batches(batch_size=BLOCK):
                profiler.update(batch)
    except pa.ArrowException:
        raise ProfileError("it cannot be read as Parquet: it may be cut off") from None
    return profiler.result()


def _form(path: Path) -> str:
    endings = [one.lower() for one in path.suffixes if one.lower() not in _PACKED]
    for form, known in FORMATS.items():
        if endings and endings[-1] in known:
            return form
    raise ProfileError(
        "the name is not that of a CSV, Parquet or JSON lines file: say which with --format"
    )


def _csv(path: Path, level: Level, top_values: Collection[str]) -> Profile:
    """Profile CSV; where a later part of a column has another type, begin again with a wider one.

    Arrow takes the types from the first 8 MiB.
    """
    types: dict[str, pa.DataType] = {}
    found: dict[str, pa.DataType] = {}
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    while True:
        profiler = Profiler(level, top_values=top_values)
        try:
            with pa.input_stream(str(path), compression="detect") as stream:
                reader = pa.csv.open_csv(
                    stream,
                    read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK),
                    parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                    convert_options=pa.csv.ConvertOptions(
                        column_types=types, strings_can_be_null=True
                    ),
                )
                found = {one.name: one.type for one in reader.schema}
                profiler.update(reader)
                return profiler.result()
        except pa.ArrowInvalid as error:
            place = re.search(r"In CSV column #(\d+)", str(error))
            if place is None or not found:
                raise ProfileError(_csv_fault(str(error))) from None
            name = list(found)[int(place[1])]
            types[name] = _WIDER.get(str(types.get(name, found[name])), pa.string())


def _csv_fault(text: str) -> str:
    """Return what is wrong with a file, without the values that Arrow quotes."""
    if "Empty CSV" in text:
        return "it is empty: there is no line with the names of columns"
    counts = re.search(r"Expected (\d+) columns, got (\d+)", text)
    if counts:
        return f"a line has {counts[2]} columns, and {counts[1]} were expected"
    return "it cannot be read as CSV: is it text in UTF-8?"


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with pa.input_stream(str(path), compression="detect") as stream:
        number = 0
        try:
            for number, line in enumerate(io.BufferedReader(stream), 1):  # noqa: B007
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError  # noqa: TRY301
                    yield row
        except ValueError:
            raise ProfileError(f"line {number} is not one JSON object in UTF-8") from None
