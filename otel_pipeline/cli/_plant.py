"""Problems that `otel-pipeline demo --plant` puts into the flights, to see them being found."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["PROBLEMS", "planted"]

#: The day that is missing, a Wednesday, and the week from it on without tail numbers.
_DAY: Final = b"2013,10,16,"
_WEEK: Final = re.compile(rb"2013,10,(1[6-9]|2[0-2]),")
_TAIL_NUMBER: Final = 11  # its place in a row


def _without_a_day(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line for line in lines if not line.startswith(_DAY))


def _without_tail_numbers(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        if _WEEK.match(line):
            fields = line.split(b",")
            fields[_TAIL_NUMBER] = b"NA"
            yield b",".join(fields)
        else:
            yield line


#: Each problem, by its name on the command line.
PROBLEMS: Final[dict[str, Callable[[Iterator[bytes]], Iterator[bytes]]]] = {
    "dropped-day": _without_a_day,
    "null-burst": _without_tail_numbers,
}


def planted(archive: Path, problem: str, folder: Path) -> Path:
    """Write a copy of the flights that has a problem.

    Args:
        archive: The zip with the true flights.
        problem: One of `PROBLEMS`.
        folder: Where the copy is written.

    Returns:
        The copy.
    """
    copy = folder / archive.name
    with (
        zipfile.ZipFile(archive) as files,
        files.open("flights.csv") as lines,
        zipfile.ZipFile(copy, "w") as made,
        made.open("flights.csv", "w") as target,
    ):
        target.writelines(PROBLEMS[problem](iter(lines)))
    return copy
