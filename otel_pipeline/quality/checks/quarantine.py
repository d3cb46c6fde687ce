"""Where bad rows go."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import narwhals as nw

    from otel_pipeline.quality.checks.evaluation import Split

__all__ = ["FAILED_CHECKS", "send"]

#: The column of a file that names the checks which a row failed.
FAILED_CHECKS: Final = "failed_checks"


def send(split: Split, given: Callable[[Sequence[bool]], Any]) -> None:
    """Bring bad rows to the places that their checks name; each place gets a row once.

    Args:
        split: The rows.
        given: Returns some of the bad rows, in the form in which the data came, for a function.

    Raises:
        Exception: A place cannot take them.
    """
    names = [
        ", ".join(
            check.name
            for check, failed in zip(split.checks, split.failed, strict=True)
            if failed[row]
        )
        for row in range(len(split.bad))
    ]
    places: list[Any] = []
    for check in split.checks:
        if check.quarantine not in places:
            places.append(check.quarantine)
    for place in places:
        wanted = [
            failed
            for check, failed in zip(split.checks, split.failed, strict=True)
            if check.quarantine == place
        ]
        mask = [any(each) for each in zip(*wanted, strict=True)]
        if callable(place):
            place(given(mask))
            continue
        rows = split.bad.filter(mask)
        failed = [name for name, is_wanted in zip(names, mask, strict=True) if is_wanted]
        if place.endswith(".parquet"):
            _write_part(Path(place), rows, failed)
        else:
            _append_lines(Path(place), rows, failed)


def _append_lines(path: Path, rows: nw.DataFrame[Any], failed: list[str]) -> None:
    """Append rows to a file of JSON lines, in one write, so that processes may share it."""
    lines = [
        json.dumps(_plain({**row, FAILED_CHECKS: names}), ensure_ascii=False, allow_nan=False)
        for row, names in zip(rows.iter_rows(named=True), failed, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    # Bad rows are data all the same: nobody else may read them.
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(number, "wb") as file:  # noqa: PTH123  a path cannot be opened with a mode
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))


def _write_part(folder: Path, rows: nw.DataFrame[Any], failed: list[str]) -> None:
    """Write rows as one more file of a folder, which is then one Parquet dataset."""
    import pyarrow as pa  # noqa: PLC0415  an extra
    from pyarrow import parquet  # noqa: PLC0415

    table = rows.to_arrow()
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{uuid.uuid4()}"
    with open(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        parquet.write_table(table.append_column(FAILED_CHECKS, pa.array(failed, pa.string())), file)
    hidden.rename(folder / f"part-{hidden.name[1:]}.parquet")


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what is not finite becomes a text."""
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple() | set():
            return [_plain(one) for one in value]
        case _ if type(value).__name__ in {"NAType", "NaTType"}:  # of pandas
            return None
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else str(value)
