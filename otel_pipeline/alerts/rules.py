"""Rules and groups, as Prometheus and Loki read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from otel_pipeline.alerts.expressions import NEW_SERIES, duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.alerts.recorded import Recorded
    from otel_pipeline.alerts.settings import Alert, Settings

__all__ = ["AlertRule", "Group", "RecordRule", "alert_rule", "document", "label"]


@dataclass(frozen=True, slots=True)
class RecordRule:
    """A recording rule."""

    series: Recorded
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_yaml(self) -> dict[str, Any]:
        """Return the rule as it stands in a file."""
        rule: dict[str, Any] = {"record": self.series.name, "expr": _explained(self.expression)}
        if self.labels:
            rule["labels"] = dict(self.labels)
        return rule


@dataclass(frozen=True, slots=True)
class AlertRule:
    """An alerting rule."""

    name: str
    expression: str
    hold: int
    keep: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    def as_yaml(self) -> dict[str, Any]:
        """Return the rule as it stands in a file."""
        rule: dict[str, Any] = {"alert": self.name, "expr": _explained(self.expression)}
        if self.hold:
            rule["for"] = duration(self.hold)
        if self.keep:
            rule["keep_firing_for"] = duration(self.keep)
        rule["labels"] = dict(self.labels)
        rule["annotations"] = dict(self.annotations)
        return rule


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated in order, so that each sees what those before it recorded."""

    name: str
    rules: tuple[RecordRule | AlertRule, ...]
    interval: int | None = None

    def as_yaml(self) -> dict[str, Any]:
        """Return the group as it stands in a file."""
        group: dict[str, Any] = {"name": self.name}
        if self.interval:
            group["interval"] = duration(self.interval)
        group["rules"] = [rule.as_yaml() for rule in self.rules]
        return group


def label(name: str) -> str:
    """Return the template of an alert's label."""
    return f"{{{{ $labels.{name} }}}}"


def alert_rule(
    settings: Settings,
    name: str,
    expression: str,
    summary: str,
    description: str,
    *,
    dashboard: str,
    given: Alert | None = None,
    hold: int | None = None,
) -> AlertRule:
    """Return the rule of an alert, with its links.

    Args:
        settings: Those of all.
        name: The alert.
        expression: When it fires.
        summary: One line, a template.
        description: What is the matter, with the value, a template.
        dashboard: The path and query of the dashboard.
        given: The alert's settings where they are not those for all.
        hold: `for`, where it is not a setting.
    """
    own = given or settings.alerts[name]
    return AlertRule(
        name,
        expression,
        own.hold or 0 if hold is None else hold,
        own.keep or 0,
        {"severity": own.severity},
        {
            "summary": summary,
            "description": description,
            "runbook_url": settings.links.runbook.replace("{alert}", name),
            "dashboard_url": settings.links.grafana + dashboard,
        },
    )


def _explained(expression: str) -> str:
    """Return an expression with a comment for linters, where it does what looks like a mistake."""
    if NEW_SERIES in expression:
        return (
            "# otel-pipeline: allow counter-without-rate: what a new series has, it grew by\n"
            f"{expression}"
        )
    return expression


class _Dumper(yaml.SafeDumper):
    """Writes expressions as blocks, and lists as they are read best."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)

_MADE_BY: Final = """\
# Written by `otel-pipeline alerts`; the next time it is written anew.
"""


def document(content: Mapping[str, Any], *, comment: str = "") -> str:
    """Return a YAML file that says who wrote it.

    Args:
        content: What it has.
        comment: Further lines of comment at its top.
    """
    text = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return _MADE_BY + comment + text
