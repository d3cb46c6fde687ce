"""Objectives: how much of each error budget is left, and how fast does it burn?

This dashboard shows recorded series, as a budget of 30 days is too much to compute at each look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.alerts import recorded
from otel_pipeline.dashboards.model import (
    LOKI,
    PROMETHEUS,
    TEMPO,
    Choice,
    Dashboard,
    Override,
    Query,
    Row,
    Threshold,
)
from otel_pipeline.dashboards.panels import bars, lines, table
from otel_pipeline.dashboards.parts import (
    OF_PIPELINE,
    PIPELINE,
    ROW_LINKS,
    TO_DETAIL,
    TO_LINES,
    TO_TRACES,
    bad_from,
    values_of,
)
from otel_pipeline.dashboards.promql import ANY, largest, ratio, selector, variable

if TYPE_CHECKING:
    from otel_pipeline.alerts.recorded import Recorded
    from otel_pipeline.dashboards.model import Panel

__all__ = ["OBJECTIVES"]

_LINKS = (TO_DETAIL, TO_TRACES, TO_LINES)
_BY = ("pipeline", "slo")
_NAMES = "{{pipeline}}: {{slo}}"
_NO_RULES = "needs the recording rules of `otel-pipeline alerts`"
_SLO = Choice(
    "slo",
    "Objective",
    values_of(recorded.SLO_OBJECTIVE.name, "slo"),
    "About records, latency or freshness.",
    ANY,
)


def _series(one: Recorded) -> str:
    return largest(_BY, selector(one.name, OF_PIPELINE, variable("slo")))


_ALLOWED = f"(1 - {_series(recorded.SLO_OBJECTIVE)})"


def _burn(long: str, short: str, limit: float, what: str) -> Panel:
    """Return the burn rates of two windows, and the limit from which both together alert."""
    return lines(
        f"Burn rate over {long} and {short}",
        f"At 1 the budget lasts 30 days. {what} when both are above {limit:g}.",
        *(
            Query(
                ratio(_series(recorded.SLO_ERRORS[window]), _ALLOWED),
                f"{_NAMES}, {window}",
            )
            for window in (long, short)
        ),
        thresholds=bad_from(limit),
        links=_LINKS,
        no_value=_NO_RULES,
    )


_BUDGETS = Row(
    "Error budgets",
    (
        bars(
            "Error budget left",
            "Of the budget of the last 30 days. Below 0 the objective is missed.",
            Query(_series(recorded.SLO_BUDGET), _NAMES, instant=True),
            unit="percentunit",
            minimum=0,
            maximum=1,
            base="red",
            thresholds=(Threshold(0, "orange"), Threshold(0.25, "green")),
            width=8,
            links=_LINKS,
            no_value=_NO_RULES,
        ),
        table(
            "Objectives",
            "Each objective, and the share of the last 30 days that counts against it.",
            *(
                Query(_series(one), instant=True, format="table")
                for one in (
                    recorded.SLO_OBJECTIVE,
                    recorded.SLO_ERRORS["30d"],
                    recorded.SLO_BUDGET,
                )
            ),
            columns={
                "pipeline": "Pipeline",
                "slo": "Objective of",
                "Value #A": "Objective",
                "Value #B": "Against it",
                "Value #C": "Budget left",
            },
            merge=True,
            width=8,
            unit="percentunit",
            links=ROW_LINKS,
            no_value=_NO_RULES,
            overrides=(Override("Objective", {"decimals": 3}),),
        ),
        lines(
            "Error budget left over time",
            "A line that falls fast is an incident; one that falls steadily is a habit.",
            Query(_series(recorded.SLO_BUDGET), _NAMES),
            unit="percentunit",
            minimum=None,
            base="red",
            thresholds=(Threshold(0, "orange"), Threshold(0.25, "green")),
            width=8,
            links=_LINKS,
            no_value=_NO_RULES,
        ),
    ),
)

_RATES = Row(
    "Burn rates",
    (
        _burn("1h", "5m", 14.4, "Somebody is paged"),
        _burn("6h", "30m", 6, "Somebody is paged"),
        _burn("1d", "2h", 3, "A ticket is made"),
        _burn("3d", "6h", 1, "A ticket is made"),
    ),
)

OBJECTIVES = Dashboard(
    "otel-pipeline-slo",
    "Pipelines: objectives",
    "Objectives of pipelines, their error budgets, and how fast these burn.",
    (PROMETHEUS, LOKI, TEMPO, PIPELINE, _SLO),
    (_BUDGETS, _RATES),
    start="now-7d",
    refresh="5m",
)
