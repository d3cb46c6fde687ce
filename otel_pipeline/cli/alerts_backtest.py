"""`otel-pipeline alerts backtest`: what alerts would have done over the past."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline.alerts.backtest import Backtest, Span
from otel_pipeline.alerts.files import files
from otel_pipeline.alerts.prometheus_api import Prometheus
from otel_pipeline.alerts.promql.lexer import duration
from otel_pipeline.alerts.reading import read_settings
from otel_pipeline.alerts.rule_files import read, read_text
from otel_pipeline.alerts.settings import Settings
from otel_pipeline.alerts.thresholds import replace_thresholds, thresholds
from otel_pipeline.cli._backtest_output import (
    Trial,
    comparison,
    document,
    instant,
    length,
    note,
    overview,
    title,
)
from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["add_arguments", "run"]

_DEFAULT_LAST = "7d"
_NAMES_TO_SHOW = 5
_DEFAULT_VARIABLE = "PROMETHEUS_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline alerts backtest`."""
    parser.add_argument("--url", required=True, help="address of Prometheus, as http://host:9090")
    parser.add_argument(
        "--rules",
        nargs="+",
        metavar="FILE",
        help="rule files; recording rules in them stand in for series that were not recorded; by "
        "default the rules that `otel-pipeline alerts` writes",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings of `otel-pipeline alerts`, for these"
    )
    parser.add_argument(
        "--alert", action="append", default=[], metavar="NAME", help="only this alert; repeatable"
    )
    parser.add_argument(
        "--last", metavar="DURATION", help=f"how far back, as 30d; by default {_DEFAULT_LAST}"
    )
    parser.add_argument("--start", metavar="TIME", help="Unix time, or as 2026-03-01[T12:00:00Z]")
    parser.add_argument("--end", metavar="TIME", help="the same; by default now")
    parser.add_argument(
        "--step",
        metavar="DURATION",
        help="time between evaluations; by default the `interval` of the group, or 1m",
    )
    parser.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="ALERT[#N]=VALUE[,VALUE…]",
        help="show what another number in the condition would do: the first that it compares with, "
        "or #2, its second one",
    )
    parser.add_argument(
        "--top", type=int, default=3, metavar="N", help="label sets to show for each alert; 3"
    )
    parser.add_argument("--token-file", metavar="FILE", help="file with a bearer token")
    parser.add_argument(
        "--token-variable",
        default=_DEFAULT_VARIABLE,
        metavar="NAME",
        help="environment variable with a bearer token; by default %(default)s",
    )
    parser.add_argument("--ca-file", default="", metavar="FILE", help="certificates to trust")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Replay alerts over the history and print what they would have done.

    Args:
        args: `url`, `rules`, `config`, `alert`, `last`, `start`, `end`, `step`, `threshold`, `top`,
            `token_file`, `token_variable`, `ca_file`, `json`.

    Returns:
        0.

    Raises:
        CommandError: An argument or a file is wrong, the server cannot be reached or refuses, or
            nothing of what the alerts ask for is in the history.
    """
    span = _span(args)
    trials = [_trial(text) for text in args.threshold]
    rules = _rules(args)
    alerts = _chosen([rule for rule in rules if rule.alerting], args.alert)
    tries = [
        (trial, rule, _variants(trial, rule))
        for trial in trials
        for rule in _chosen(alerts, [trial.alert])
    ]
    server = Prometheus(args.url, token=_token(args), ca_file=args.ca_file)
    backtest = Backtest(server, rules, span)
    replays = [backtest.replay(rule) for rule in alerts]
    missing = sorted({name for replay in replays for name in replay.missing})
    if missing and all(replay.unseen for replay in replays):
        raise CommandError(
            f"no data: {server.url} has none of {_some(missing)} from {instant(span.start)} to "
            f"{instant(span.end)}; is it the right server, and does it keep data for so long?"
        )
    tried = [
        (trial, rule, [(value, backtest.replay(rule, text)) for value, text in variants])
        for trial, rule, variants in tries
    ]
    if args.json:
        print(json.dumps(document(server.url, span, replays, tried), indent=2))
        return 0
    steps = sorted({length(replay.step) for replay in replays})
    print(f"{server.url} from {instant(span.start)} to {instant(span.end)}", end=", ")
    print(f"every {' or '.join(steps)}\n")
    print(overview(replays, args.top))
    for trial, rule, values in tried:
        print(f"\n{title(trial, rule)}\n{comparison(rule, trial, values)}")
    note(replays)
    return 0


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_TO_SHOW} more" if len(names) > _NAMES_TO_SHOW else ""
    return ", ".join(names[:_NAMES_TO_SHOW]) + more


def _span(args: argparse.Namespace) -> Span:
    if args.last and args.start:
        raise CommandError("--last and --start both say where to begin; give one of them")
    end = _instant("--end", args.end) if args.end else time.time()
    if args.start:
        start = _instant("--start", args.start)
    else:
        start = end - _seconds("--last", args.last or _DEFAULT_LAST)
    if start >= end:
        raise CommandError(f"--start {instant(start)} is not before the end, {instant(end)}")
    step = _seconds("--step", args.step) if args.step else None
    if step and step > end - start:
        raise CommandError(f"--step {args.step} is longer than the time to look at")
    return Span(start, end, step)


def _seconds(option: str, text: str) -> float:
    try:
        seconds = duration(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from error
    if not seconds:
        raise CommandError(f"{option} {text}: it must be greater than 0")
    return seconds


def _instant(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"{option} {text!r} is no time; write 2026-03-01, 2026-03-01T12:00:00Z or a Unix time"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()


def _rules(args: argparse.Namespace) -> list[Rule]:
    if args.rules and args.config:
        raise CommandError("--rules and --config both say which rules; give one of them")
    if args.rules:
        read_files = [read(name) for name in dict.fromkeys(args.rules)]
    else:
        settings = read_settings(args.config) if args.config else Settings()
        read_files = [
            read_text(name, text)
            for name, text in files(settings).items()
            if name.startswith("rules/")
        ]
    rules: list[Rule] = []
    for file in read_files:
        if file.loki:
            raise CommandError(f"{file.name} has rules of Loki; Prometheus cannot replay them")
        if file.problems:
            raise CommandError("\n".join(map(str, file.problems)))
        rules += file.rules
    if not any(rule.alerting for rule in rules):
        names = ", ".join(file.name for file in read_files)
        raise CommandError(f"there is no alert in {names}")
    return rules


def _chosen(alerts: Sequence[Rule], names: Sequence[str]) -> list[Rule]:
    known = sorted({rule.name for rule in alerts})
    for name in names:
        if name not in known:
            raise CommandError(f"there is no alert {name}; there are {', '.join(known)}")
    return [rule for rule in alerts if not names or rule.name in names]


def _trial(text: str) -> Trial:
    name, _, values = text.partition("=")
    alert, _, number = name.partition("#")
    try:
        return Trial(
            alert,
            int(number) if number else None,
            tuple(_number(value) for value in values.split(",")),
        )
    except ValueError as error:
        raise CommandError(
            f"--threshold {text!r}: {error}; write it as HighErrorRate=0.02,0.05,0.1"
        ) from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return duration(text.strip())


def _variants(trial: Trial, rule: Rule) -> list[tuple[float, str]]:
    """Return the values to try, the present one among them, with the expression of each."""
    found = thresholds(rule.text)
    known = ", ".join(f"#{n} is {value:g}" for n, (value, _, _) in enumerate(found, 1))
    if not found:
        raise CommandError(
            f"{rule.name} compares with no number, so there is no threshold to replace: "
            f"{' '.join(rule.text.split())}"
        )
    numbers = trial.replaced(rule)
    if not 0 <= numbers[0] < len(found):
        raise CommandError(f"{rule.name} has no number #{trial.number} to compare with: {known}")
    values = sorted({*trial.values, found[numbers[0]][0]})
    return [(value, replace_thresholds(rule.text, numbers, value)) for value in values]


def _token(args: argparse.Namespace) -> str:
    if not args.token_file:
        if args.token_variable != _DEFAULT_VARIABLE and args.token_variable not in os.environ:
            raise CommandError(f"--token-variable: {args.token_variable} is not set")
        return os.environ.get(args.token_variable, "").strip()
    try:
        return Path(args.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--token-file {args.token_file} cannot be read: {error}") from error
