"""The tests that come with the rules: each alert fires, stays quiet and ends where it should.

They are made from the same settings as the rules, for `promtool test rules`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.alerts.scenarios import datasets, pipelines, records, slos, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_pipeline.alerts.settings import Settings

__all__ = ["test_files"]


def test_files(settings: Settings, rules: Iterable[str]) -> Mapping[str, Mapping[str, Any]]:
    """Return the contents of promtool's test files by their names.

    Args:
        settings: Those of the rules.
        rules: The names of the files in `rules/`.
    """
    cases = {
        **records.CASES,
        **pipelines.CASES,
        **slos.CASES,
        **datasets.CASES,
        **telemetry.CASES,
    }
    found = {}
    for alert, make in cases.items():
        tests = [case for case in make(settings) if settings.alerts[alert].enabled or case.own]
        if tests:
            found[f"{alert}.yml"] = {
                "rule_files": [f"../rules/{name}" for name in rules],
                "evaluation_interval": f"{tests[0].step}s",
                "tests": [case.as_yaml() for case in tests],
            }
    return found
