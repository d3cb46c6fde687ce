"""`otel-pipeline quality report`: write what is known of datasets as one HTML page."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline import config as configuration
from otel_pipeline.cli.quality_lineage import add_sources, read_graph
from otel_pipeline.errors import CommandError
from otel_pipeline.quality.history import HistoryError, SqliteHistory, default_history
from otel_pipeline.quality.html_report.contents import gather
from otel_pipeline.quality.html_report.page import page
from otel_pipeline.quality.lineage.graph import Graph

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]

_OUTPUT = "quality-report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline quality report`."""
    parser.add_argument(
        "--output",
        default=_OUTPUT,
        metavar="PATH",
        help="where to write it; - is standard output (default: %(default)s)",
    )
    parser.add_argument(
        "--history", metavar="PATH", help="the history to read, instead of the configured one"
    )
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="[DATASET=]FILE",
        help="a file that `quality profile --json` has written; may be repeated",
    )
    parser.add_argument(
        "--checks",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a file that `quality check --json` has written; may be repeated",
    )
    add_sources(parser)


def run(args: argparse.Namespace) -> int:
    """Write the report.

    Args:
        args: `output`, `history`, `profile`, `checks`, `events`.

    Returns:
        0.

    Raises:
        CommandError: Something cannot be read, or the report not be written.
    """
    if args.history is not None and not Path(args.history).is_file():
        raise CommandError(f"--history {args.history}: there is no such file")
    history = default_history() if args.history is None else SqliteHistory(args.history)
    # Where no lineage is kept, the report is about the rest.
    kept = args.events or configuration.load().lineage != "off"
    try:
        contents = gather(
            history=history,
            graph=read_graph(args) if kept else Graph([]),
            profiles=[_profile(given) for given in args.profile],
            checks=args.checks,
            at=time.time(),
        )
    except HistoryError as error:
        raise CommandError(str(error)) from error
    text = page(contents)
    if args.output == "-":
        sys.stdout.write(text)
        return 0
    _write(Path(args.output), text)
    number = len(contents.datasets)
    print(f"Wrote {args.output}: {number} {'dataset' if number == 1 else 'datasets'}.")
    return 0


def _profile(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not equals:
        return Path(given).stem, Path(given)
    if not name or not path:
        raise CommandError(f"--profile {given}: it is DATASET=FILE, or FILE")
    return name, Path(path)


def _write(path: Path, text: str) -> None:
    """Put the page in its place in one step: whoever has it open sees the old one or the new."""
    beside = path.with_name(f".{path.name}-{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CommandError(f"{path} cannot be written: {error.strerror or error}") from error
