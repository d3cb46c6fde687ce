"""`otel-pipeline env`: every setting, its value, where it comes from and what it means."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from otel_pipeline.config import examine, rows

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from otel_pipeline.config import Row

__all__ = ["add_arguments", "run"]

_SET = {"argument", "environment", "file", "OTEL_RESOURCE_ATTRIBUTES"}
_WIDE = 160  # columns, where there is no terminal to ask
_NARROWEST_DOC = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline env`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--set", action="store_true", help="only what was set explicitly")


def run(args: argparse.Namespace) -> int:
    """Print every setting; those that cannot be used with what is wrong with them.

    Args:
        args: `json` and `set`.

    Returns:
        0, or 1 if a setting cannot be used; the messages are on stderr.
    """
    examined = examine()
    problems, warnings = examined.problems, examined.config.warnings
    shown = [row for row in rows(examined.config) if row.source in _SET or not args.set]
    print(_document(shown, problems) if args.json else _table(shown, problems))
    for message in (*problems.values(), *warnings):
        print(f"otel-pipeline: {message}", file=sys.stderr)
    return 1 if problems else 0


def _document(shown: list[Row], problems: Mapping[str, str]) -> str:
    objects = [
        {
            "variable": row.variable,
            "value": row.value,
            "source": row.source,
            "default": row.default,
            "doc": row.doc,
            "error": problems.get(row.variable),
        }
        for row in shown
    ]
    return json.dumps(objects, indent=2)


def _table(shown: list[Row], problems: Mapping[str, str]) -> str:
    columns = shutil.get_terminal_size((_WIDE, 0)).columns
    topics = groupby(shown, key=lambda row: row.topic)
    parts = [_topic(topic, list(group), problems, columns) for topic, group in topics]
    return "\n\n".join(parts) or "Nothing is set."


def _topic(topic: str, group: list[Row], problems: Mapping[str, str], columns: int) -> str:
    cells = [(row.variable, row.value or "-", row.source) for row in group]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    room = max(columns - sum(widths) - 2 * len(widths) - 2, _NARROWEST_DOC)
    lines = [topic]
    for row, texts in zip(group, cells, strict=True):
        padded = [text.ljust(width) for text, width in zip(texts, widths, strict=True)]
        doc = textwrap.wrap(row.doc, room)
        indent = " " * (sum(widths) + 2 * len(widths) + 2)
        lines.append("  ".join(["", *padded, doc[0]]))
        lines += [indent + line for line in doc[1:]]
        if row.variable in problems:
            lines.append(f"    error: {problems[row.variable]}")
    return "\n".join(lines)
