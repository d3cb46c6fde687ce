"""A linter for what Prometheus accepts and yet does not mean: each check is a module here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.lint import absence, counters, matching, names, quantiles, windows
from otel_pipeline.alerts.lint.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from otel_pipeline.alerts.rule_files import Rule

    Check = Callable[[Rule, Series], Iterator[tuple[int, str]]]

__all__ = ["CHECKS", "DEFAULT_SCRAPE_INTERVAL", "Finding", "Report", "lint"]

#: Seconds between two scrapes where nobody says otherwise.
DEFAULT_SCRAPE_INTERVAL: Final = 15.0

#: Each check by its id. It yields a place in the expression and a message with the remedy.
CHECKS: Final[dict[str, Check]] = {
    "ratio-without-sum": matching.check,
    "quantile-without-le": quantiles.check,
    "counter-without-rate": counters.check,
    "short-window": windows.check,
    "unknown-metric": names.check,
    "may-be-absent": absence.check,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a rule that is accepted and does not do what it seems to.

    Attributes:
        file: The file of the rule.
        line: The line of the part of the expression that is meant.
        rule: The alert, or the recorded series.
        id: The check that found it, a key of `CHECKS`.
        message: What is wrong, and what to write instead.
    """

    file: str
    line: int
    rule: str
    id: str
    message: str

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.file}:{self.line}: {self.rule}: {self.id}: {self.message}"


@dataclass(frozen=True, slots=True)
class Report:
    """What the linter found, and what comments on the rules allowed."""

    findings: tuple[Finding, ...]
    allowed: tuple[Finding, ...]


def lint(rules: Iterable[Rule], *, scrape_interval: float = DEFAULT_SCRAPE_INTERVAL) -> Report:
    """Check the expressions of rules.

    Args:
        rules: The rules of all files that are loaded together.
        scrape_interval: Seconds between two scrapes.

    Returns:
        The findings in the order of the rules.

    Example:
        >>> from otel_pipeline.alerts.lint import lint
        >>> lint([]).findings
        ()
    """
    rules = list(rules)
    series = Series(rules, scrape_interval)
    findings: list[Finding] = []
    allowed: list[Finding] = []
    for rule in rules:
        for id_, check in CHECKS.items():
            for position, message in sorted(set(check(rule, series))):
                finding = Finding(rule.file, rule.line(position), rule.name, id_, message)
                (allowed if id_ in rule.allowed else findings).append(finding)
    return Report(tuple(findings), tuple(allowed))
