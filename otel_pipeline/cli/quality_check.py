"""`otel-pipeline quality check`: check a file of data against a YAML file of checks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline.config._parse import did_you_mean
from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from otel_pipeline.quality import CheckResult, Dataset

__all__ = ["add_arguments", "run"]

_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline quality check`."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="CSV, Parquet, or JSON lines")
    parser.add_argument("--with", dest="checks", metavar="YAML", help="the file with the checks")
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="which dataset of YAML it is (default: the only one, or the one of FILE's name)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="also end with 1 where only warnings fail"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--print-schema", action="store_true", help="print the JSON schema of YAML, for editors"
    )


def run(args: argparse.Namespace) -> int:
    """Check a file and print how each check ended.

    Args:
        args: `file`, `checks`, `dataset`, `strict`, `json`, `print_schema`.

    Returns:
        0 if the data may go on, 1 if not: a check failed that is critical, breaks or takes rows
        out, or could not be made and fails closed.

    Raises:
        CommandError: An argument is missing, or FILE cannot be read.
        ConfigurationError: YAML cannot be used.
    """
    from otel_pipeline.quality import check, load  # noqa: PLC0415  a command imports what it needs
    from otel_pipeline.quality.checks.files import read_file  # noqa: PLC0415
    from otel_pipeline.quality.checks.model import CheckError  # noqa: PLC0415
    from otel_pipeline.quality.declarations import json_schema  # noqa: PLC0415

    if args.print_schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    if not args.file or not args.checks:
        raise CommandError(
            "quality check takes a FILE and --with YAML; a first YAML for a file is written by: "
            "otel-pipeline quality suggest FILE"
        )
    dataset = _dataset(load(args.checks), args)
    try:
        data = read_file(args.file)
    except CheckError as error:
        raise CommandError(str(error)) from error
    results = check(data, dataset.checks)
    failed = [one for one in results if _fails(one, strict=args.strict)]
    if args.json:
        document = {
            "file": args.file,
            "dataset": dataset.name,
            "rows": data.num_rows,
            "failed": bool(failed),
            "checks": [dataclasses.asdict(one) for one in results],
        }
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(_report(args.file, dataset.name, data.num_rows, results, bool(failed))))
    return _FAILED if failed else 0


def _dataset(datasets: Sequence[Dataset], args: argparse.Namespace) -> Dataset:
    named = {one.name: one for one in datasets}
    if not named:
        raise CommandError(f"{args.checks} declares no dataset")
    wanted = args.dataset or (next(iter(named)) if len(named) == 1 else Path(args.file).stem)
    if wanted not in named:
        raise CommandError(
            f"{args.checks} declares no dataset {wanted!r}, but {', '.join(named)}"
            f"{did_you_mean(wanted, named)}; say which with --dataset"
        )
    return named[wanted]


def _fails(one: CheckResult, *, strict: bool) -> bool:
    if one.result == "fail":
        return strict or one.severity == "critical" or one.on_fail != "warn"
    return one.breaks or (strict and one.result == "error")


def _report(
    file: str,
    dataset: str,
    rows: int,
    results: Sequence[CheckResult],
    failed: bool,  # noqa: FBT001
) -> list[str]:
    lines = [f"{file}: {rows:,} rows of {dataset}", ""]
    width = max((len(one.check) for one in results), default=0)
    lines += [
        f"{one.result:5}  {one.check:{width}}  {one.message}"
        + (f" ({one.severity}, {one.on_fail})" if one.result != "pass" else "")
        for one in results
    ]
    bad = sum(one.result != "pass" for one in results)
    told = f"{len(results) - bad} of {len(results)} checks passed"
    if bad and not failed:
        told += "; what did not is a warning"
    return [*lines, "", f"{told}."]
