"""`otel-pipeline alerts lint`: mistakes in alert rules that Prometheus accepts."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from otel_pipeline.alerts.lint import CHECKS, DEFAULT_SCRAPE_INTERVAL, lint
from otel_pipeline.alerts.promql.lexer import duration
from otel_pipeline.alerts.rule_files import read
from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    import argparse

    from otel_pipeline.alerts.lint import Report
    from otel_pipeline.alerts.rule_files import Problem, RuleFile

__all__ = ["add_arguments", "run"]

_INVALID = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline alerts lint`."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="rule files of Prometheus, or PrometheusRule objects; name those together "
        "that are loaded together; - is standard input",
    )
    parser.add_argument(
        "--scrape-interval",
        default=f"{DEFAULT_SCRAPE_INTERVAL:g}s",
        metavar="DURATION",
        help="time between two scrapes, as in Prometheus' configuration; by default %(default)s",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Check rule files and print a line for each finding.

    Args:
        args: `files`, `scrape_interval`, `json`.

    Returns:
        0 if nothing was found; 1 if something was; 2 if a file is invalid.

    Raises:
        CommandError: An argument is wrong, or a file cannot be read.
    """
    interval = _interval(args.scrape_interval)
    files = [read(name) for name in dict.fromkeys(args.files)]
    report = lint([rule for file in files for rule in file.rules], scrape_interval=interval)
    problems = [problem for file in files for problem in file.problems]
    if args.json:
        print(json.dumps(_document(files, report, problems), indent=2))
    else:
        for finding in report.findings:
            print(finding)
    for problem in problems:
        print(f"otel-pipeline: {problem}", file=sys.stderr)
    if not args.json:
        _say_more(files, report)
    if problems:
        return _INVALID
    return 1 if report.findings else 0


def _interval(text: str) -> float:
    try:
        seconds = float(text) if text.replace(".", "", 1).isdigit() else duration(text)
    except ValueError as error:
        raise CommandError(f"--scrape-interval: {error}") from error
    if seconds <= 0:
        raise CommandError(f"--scrape-interval {text}: it must be greater than 0")
    return seconds


def _document(files: list[RuleFile], report: Report, problems: list[Problem]) -> dict[str, object]:
    return {
        "rules": sum(len(file.rules) for file in files),
        "findings": [asdict(finding) for finding in report.findings],
        "allowed": [asdict(finding) for finding in report.allowed],
        "invalid": [asdict(problem) for problem in problems],
        "not_judged": [file.name for file in files if file.loki],
    }


def _say_more(files: list[RuleFile], report: Report) -> None:
    """Say on stderr what was left out, and that something was looked at."""
    for file in files:
        if file.loki:
            print(f"{file.name}: rules of Loki (LogQL) are not judged", file=sys.stderr)
    for rule in (rule for file in files for rule in file.rules):
        if rule.allowed and not rule.allowed & CHECKS.keys():
            print(
                f"{rule.file}:{rule.line()}: {rule.name}: its comment allows "
                f"{', '.join(sorted(rule.allowed))}, which is no check; there are "
                f"{', '.join(CHECKS)}",
                file=sys.stderr,
            )
    rules = _count(sum(len(file.rules) for file in files), "rule")
    allowed = f", {len(report.allowed)} allowed by comments" if report.allowed else ""
    print(f"{rules}: {_count(len(report.findings), 'finding')}{allowed}", file=sys.stderr)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
