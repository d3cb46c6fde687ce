"""`otel-pipeline quality baseline`: say what of the past the monitors are to learn from."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from typing import TYPE_CHECKING, Final

from otel_pipeline.cli.quality_history import chosen_history, in_json
from otel_pipeline.errors import CommandError
from otel_pipeline.quality.history import HistoryError, Maintenance

if TYPE_CHECKING:
    from otel_pipeline.quality.history import Ruling, SqliteHistory

__all__ = ["add_arguments", "run"]

_RULINGS: Final[dict[str, tuple[Ruling, str]]] = {
    "accept": ("accepted", "these findings are real changes: learn them"),
    "confirm": ("confirmed", "these findings were anomalies: never learn from them"),
    "reject": ("confirmed", "the same as confirm"),
    "reset": ("", "take back what was said of these findings"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline quality baseline`."""
    parser.add_argument("--list", action="store_true", help="show findings, the newest last")
    parser.add_argument("--dataset", help="with --list: only of this dataset")
    _add_common(parser)
    rulings = parser.add_subparsers(dest="ruling", metavar="ACTION")
    for name, (_, summary) in _RULINGS.items():
        ruling = rulings.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        ruling.add_argument("ids", nargs="+", type=int, metavar="ID", help="from --list")
    summary = "a time in which a dataset need not look as usual: not judged, and not learned from"
    window = rulings.add_parser("maintenance", help=summary, description=f"{summary}.")
    window.add_argument("window_dataset", metavar="DATASET", help="name, or * for all")
    window.add_argument("--start", required=True, type=_moment, help="ISO 8601, UTC by default")
    window.add_argument("--stop", required=True, type=_moment, help="ISO 8601, UTC by default")
    window.add_argument("--reason", default="", help="in words")


def run(args: argparse.Namespace) -> int:
    """List findings, rule on them, or plan a maintenance window.

    Args:
        args: What was declared.

    Returns:
        0; 1 if some of the findings to rule on do not exist.

    Raises:
        CommandError: There is nothing to do, or the history cannot be used.
    """
    if not args.list and args.ruling is None:
        raise CommandError("nothing to do: give --list, accept, confirm, reset or maintenance")
    history = chosen_history(args.history)
    try:
        if args.ruling == "maintenance":
            return _plan(history, args)
        if args.ruling is not None:
            return _rule(history, args)
        return _list(history, args)
    except HistoryError as error:
        raise CommandError(str(error)) from error


def _list(history: SqliteHistory, args: argparse.Namespace) -> int:
    findings = history.findings(args.dataset)
    if args.json:
        print(json.dumps(list(map(in_json, findings)), indent=2))
        return 0
    for finding in findings:
        day = dt.datetime.fromtimestamp(finding.at, dt.UTC).strftime("%Y-%m-%d %H:%M")
        print(f"{finding.id:>6}  {day}  {finding.ruling or 'open':<9}  {finding.explanation}")
    if not findings:
        print("no findings")
    return 0


def _rule(history: SqliteHistory, args: argparse.Namespace) -> int:
    ruling = _RULINGS[args.ruling][0]
    known = history.rule(args.ids, ruling)
    missing = [number for number in args.ids if number not in known]
    if args.json:
        print(json.dumps({"ruling": ruling, "ids": known, "missing": missing}, indent=2))
    else:
        if known:
            print(f"{ruling or 'open again'}: {', '.join(map(str, known))}")
        if missing:
            numbers = ", ".join(map(str, missing))
            print(f"no finding has the number {numbers}: --list shows those there are")
    return int(bool(missing))


def _plan(history: SqliteHistory, args: argparse.Namespace) -> int:
    if args.stop < args.start:
        raise CommandError("the window stops before it starts: exchange --start and --stop")
    dataset = "" if args.window_dataset == "*" else args.window_dataset
    history.plan(Maintenance(dataset, args.start, args.stop, args.reason))
    if args.json:
        print(json.dumps({"dataset": dataset, "start": args.start, "stop": args.stop}))
    else:
        print(f"maintenance of {dataset or 'all datasets'} is planned")
    return 0


def _moment(text: str) -> float:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no time in ISO 8601, such as 2026-01-31T06:00"
        raise argparse.ArgumentTypeError(message) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--history", metavar="FILE", help="instead of the configured history")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
