"""Every file that `otel-pipeline alerts` writes, made from settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts import datasets, logs, pipelines, routing, scenarios, slos, telemetry
from otel_pipeline.alerts.rules import document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.alerts.rules import Group
    from otel_pipeline.alerts.settings import Settings

__all__ = ["files", "rule_groups"]

# Groups of different intervals cannot be one, and freshness is recorded with the runs.
_PINT: Final = "# pint file/disable rule/dependency\n"
_RECEIVERS: Final = """\
# A receiver without a way to tell tells nobody. Who is told, and how, is in the section `receivers`
# of the settings that the command is given with --config. Secrets stay in files that only
# Alertmanager reads.
"""


def rule_groups(settings: Settings) -> Mapping[str, tuple[Group, ...]]:
    """Return Prometheus's groups of rules by the names of the files in which they stand."""
    found = {
        "pipelines.yml": (pipelines.group(settings),),
        "slos.yml": slos.groups(settings),
        "datasets.yml": (datasets.group(settings),),
        "telemetry.yml": (telemetry.group(settings),),
    }
    return {name: groups for name, groups in found.items() if groups}


def files(settings: Settings) -> Mapping[str, str]:
    """Return the texts of all files by their paths.

    Args:
        settings: What they are made from.

    Returns:
        `rules/*.yml` for Prometheus, `tests/*.yml` for `promtool test rules`, `alertmanager.yml`,
        and `loki/*.yml` for Loki's ruler. The same settings give the same texts.

    Example:
        >>> from otel_pipeline.alerts.settings import Settings
        >>> [path for path in files(Settings()) if path.startswith("rules/")]
        ['rules/pipelines.yml', 'rules/datasets.yml', 'rules/telemetry.yml']
    """
    rules = rule_groups(settings)
    found = {
        f"rules/{name}": document({"groups": [group.as_yaml() for group in groups]}, comment=_PINT)
        for name, groups in rules.items()
    }
    found |= {
        f"tests/{name}": document(content)
        for name, content in scenarios.test_files(settings).items()
    }
    found["alertmanager.yml"] = document(routing.alertmanager(settings), comment=_RECEIVERS)
    found["loki/logs.yml"] = document({"groups": [logs.group(settings).as_yaml()]})
    return found
