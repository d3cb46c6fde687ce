"""`otel-pipeline quality suggest`: write a first set of checks for a file of data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline quality suggest`."""
    parser.add_argument("file", metavar="FILE", help="CSV, Parquet, or JSON lines")
    parser.add_argument(
        "--dataset", metavar="NAME", help="the name of the dataset (default: that of FILE)"
    )
    parser.add_argument("--output", metavar="YAML", help="write it there, where no file is yet")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Print YAML with checks that the file passes.

    Args:
        args: `file`, `dataset`, `output`, `json`.

    Returns:
        0.

    Raises:
        CommandError: The file cannot be read, or the output not be written.
    """
    from otel_pipeline.quality.checks.files import read_file  # noqa: PLC0415  as in quality_check
    from otel_pipeline.quality.checks.model import CheckError  # noqa: PLC0415
    from otel_pipeline.quality.suggestions import suggest  # noqa: PLC0415

    name = args.dataset or re.sub(r"\W+", "_", Path(args.file).stem).strip("_") or "data"
    try:
        text = suggest(read_file(args.file), name)
    except CheckError as error:
        raise CommandError(str(error)) from error
    if args.output:
        try:
            with Path(args.output).open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CommandError(f"--output {args.output}: {error.strerror}") from error
    if args.json:
        print(json.dumps({"file": args.file, "dataset": name, "yaml": text}, indent=2))
    elif args.output:
        print(f"Now run: otel-pipeline quality check {args.file} --with {args.output}")
    else:
        print(text, end="")
    return 0
