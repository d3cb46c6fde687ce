"""The tests that come with the rules: each alert fires, stays quiet and ends where it should.

They are made from the same settings as the rules, for `promtool test rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.alerts.scenarios import datasets, pipelines, records, slos, telemetry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.alerts.settings import Settings

__all__ = ["test_files"]


#: The cases of each alert, with the files in which its rules stand.
_CASES: Final = (
    (records.CASES, ("pipelines.yml",)),
    (pipelines.CASES, ("pipelines.yml",)),
    (slos.CASES, ("pipelines.yml", "slos.yml")),
    (datasets.CASES, ("datasets.yml",)),
    (telemetry.CASES, ("telemetry.yml",)),
)


def test_files(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    """Return the contents of promtool's test files by their names.

    Args:
        settings: Those of the rules.
    """
    found = {}
    for cases, rules in _CASES:
        for alert, make in cases.items():
            tests = [case for case in make(settings) if settings.alerts[alert].enabled or case.own]
            if tests:
                found[f"{alert}.yml"] = {
                    "rule_files": [f"../rules/{name}" for name in rules],
                    "evaluation_interval": f"{tests[0].step}s",
                    "tests": [case.as_yaml() for case in tests],
                }
    return found
