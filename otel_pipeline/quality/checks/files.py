"""Other data that a check compares with, and files of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.config._parse import did_you_mean
from otel_pipeline.quality.checks.model import CheckError
from otel_pipeline.quality.checks.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FORMATS", "read_file", "tables_of"]

#: How the name of a file of data ends.
FORMATS: Final = (".parquet", ".csv", ".jsonl", ".ndjson")


def tables_of(data: object) -> Iterator[Table]:
    """Yield the tables of a path, a frame, rows, or a function that gives one of them.

    Raises:
        CheckError: The data cannot be read.
    """
    if callable(data):
        try:
            data = data()
        except Exception as error:
            raise CheckError(
                f"the function that gives the other dataset failed: {type(error).__name__}"
            ) from error
    yield from Table.each_of(read_file(data) if isinstance(data, str) else data)


def read_file(path: str) -> Any:
    """Return the PyArrow table of a Parquet, CSV or JSON-lines file, or of a folder of Parquet.

    In a CSV file an empty field and `NA` are missing values.

    Raises:
        CheckError: The file cannot be read.
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise CheckError(
            f"the file {path!r} is of no known format; its name ends in one of "
            f"{', '.join(FORMATS)}{did_you_mean(ending, FORMATS)}"
        )
    import pyarrow as pa  # noqa: PLC0415  an extra
    from pyarrow import csv, json, parquet  # noqa: PLC0415

    try:
        if ending == ".parquet":
            return parquet.read_table(path)
        if ending == ".csv":
            return csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))
        return json.read_json(path)
    except FileNotFoundError:
        raise CheckError(f"there is no file {path!r}") from None
    except OSError as error:
        raise CheckError(f"the file {path!r} cannot be read: {error.strerror}") from error
    except pa.ArrowException as error:
        # What the message quotes may be a row.
        raise CheckError(
            f"the file {path!r} is no {ending.removeprefix('.')} that can be read"
        ) from error
