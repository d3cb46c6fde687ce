"""Runs: did each pipeline run when it should, and how did it end?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.dashboards.model import LOKI, PROMETHEUS, TEMPO, Dashboard, Override, Query, Row
from otel_pipeline.dashboards.panels import bars, lines, number, states, table
from otel_pipeline.dashboards.parts import (
    OF_PIPELINE,
    PIPELINE,
    ROW_LINKS,
    TO_DETAIL,
    TO_LINES,
    TO_TRACES,
    bad_from,
)
from otel_pipeline.dashboards.promql import (
    RANGE,
    increase,
    largest,
    or_zero,
    quantile,
    rate,
    ratio,
    selector,
    sum_by,
)
from otel_pipeline.semconv import (
    EXPECTED_INTERVAL,
    LAST_RUN,
    LAST_RUN_DURATION,
    LAST_RUN_RECORDS,
    LAST_RUN_SUCCESS,
    LAST_SUCCESS,
    PIPELINE_INFO,
    RUN_DURATION,
    RUNS,
)

if TYPE_CHECKING:
    from otel_pipeline.semconv import MetricSpec

__all__ = ["RUNS_AND_FRESHNESS"]

_LINKS = (TO_DETAIL, TO_TRACES, TO_LINES)
_BY = ("pipeline",)
_ENDED = {"0": ("failed", "red"), "1": ("success", "green")}


def _known(metric: MetricSpec) -> str:
    """Return what each process said last, also those that have ended: a job is gone soon."""
    return f"last_over_time({selector(metric, OF_PIPELINE)}[{RANGE}])"


def _newest(metric: MetricSpec, *labels: str) -> str:
    """Return what was said by the process whose run ended last; an older one may still be there."""
    ignoring = f" ignoring ({', '.join(labels)})" if labels else ""
    newest = f"{_known(LAST_RUN)} == on (pipeline) group_left () {largest(_BY, _known(LAST_RUN))}"
    return largest((*_BY, *labels), f"{_known(metric)} and{ignoring} ({newest})")


_AGE = f"time() - {largest(_BY, _known(LAST_SUCCESS))}"
_INTERVAL = largest(_BY, _known(EXPECTED_INTERVAL))
_LATE = ratio(f"({_AGE})", _INTERVAL)
_NOW = Row(
    "Now",
    (
        number(
            "Pipelines",
            "Pipelines that report.",
            Query(or_zero(f"count({largest(_BY, _known(PIPELINE_INFO))})"), instant=True),
        ),
        number(
            "Last run failed",
            "Pipelines whose last run did not succeed.",
            Query(or_zero(f"count({_newest(LAST_RUN_SUCCESS)} == 0)"), instant=True),
            thresholds=bad_from(1),
        ),
        number(
            "Late",
            "Pipelines whose last success is longer ago than their expected interval.",
            Query(or_zero(f"count({_LATE} > 1)"), instant=True),
            thresholds=bad_from(1),
        ),
        number(
            "Runs in this time",
            "Runs that ended in the time shown.",
            Query(sum_by([], increase(selector(RUNS, OF_PIPELINE))), instant=True),
            decimals=0,
        ),
        number(
            "P95 of last runs",
            "The last runs of 95 of 100 pipelines took no longer.",
            Query(
                f"quantile(0.95, {_newest(LAST_RUN_DURATION)})",
            ),
            unit="s",
            no_value="no run ended",
            width=8,
        ),
    ),
)

_TABLE = Row(
    "Last runs",
    (
        table(
            "Last run of each pipeline",
            "What each pipeline said of its last run, within the time shown; its job may be gone.",
            *(
                Query(expr, instant=True, format="table")
                for expr in (
                    largest(("pipeline", "mode"), _known(PIPELINE_INFO)),
                    _newest(LAST_RUN_SUCCESS),
                    f"{largest(_BY, _known(LAST_RUN))} * 1000",
                    _newest(LAST_RUN_DURATION),
                    sum_by(_BY, _newest(LAST_RUN_RECORDS, "status")),
                    _AGE,
                    _INTERVAL,
                    _LATE,
                )
            ),
            columns={
                "pipeline": "Pipeline",
                "mode": "Mode",
                "Value #B": "Last run",
                "Value #C": "Ended",
                "Value #D": "Took",
                "Value #E": "Records",
                "Value #F": "Since last success",
                "Value #G": "Expected every",
                "Value #H": "Of the interval",
            },
            merge=True,
            sort="Of the interval",
            width=24,
            links=ROW_LINKS,
            overrides=(
                Override(
                    "Last run",
                    {
                        "mappings": [
                            {
                                "options": {
                                    value: {"color": colour, "index": int(value), "text": text}
                                    for value, (text, colour) in _ENDED.items()
                                },
                                "type": "value",
                            }
                        ],
                        "custom.cellOptions": {"type": "color-text"},
                    },
                ),
                Override("Ended", {"unit": "dateTimeFromNow"}),
                Override("Took", {"unit": "s"}),
                Override("Since last success", {"unit": "s"}),
                Override("Expected every", {"unit": "s"}),
                Override(
                    "Of the interval",
                    {
                        "unit": "percentunit",
                        "custom.cellOptions": {"type": "color-text"},
                        "thresholds": {
                            "mode": "absolute",
                            "steps": [
                                {"color": "green", "value": None},
                                {"color": "orange", "value": 0.8},
                                {"color": "red", "value": 1},
                            ],
                        },
                    },
                ),
            ),
        ),
    ),
)

_FRESHNESS = Row(
    "Freshness",
    (
        bars(
            "Since last success, of the expected interval",
            "Above 100 % a pipeline is late. Only pipelines with an expected interval.",
            Query(_LATE, "{{pipeline}}", instant=True),
            unit="percentunit",
            minimum=0,
            maximum=1.5,
            thresholds=bad_from(1, warn=0.8),
            links=_LINKS,
            no_value="no pipeline has an expected interval",
        ),
        lines(
            "Time since the last success",
            "It falls to 0 with each success; a line that goes on rising is a pipeline without.",
            Query(_AGE, "{{pipeline}}"),
            unit="s",
            links=_LINKS,
        ),
    ),
)

_HISTORY = Row(
    "History",
    (
        states(
            "How the last run ended",
            "Green: it succeeded. Red: it failed or was interrupted.",
            Query(_newest(LAST_RUN_SUCCESS), "{{pipeline}}"),
            mappings=_ENDED,
            thresholds=(),
            links=_LINKS,
        ),
        lines(
            "Runs by how they ended",
            "Runs that ended, per second, by pipeline and status.",
            Query(
                sum_by(("pipeline", "status"), rate(selector(RUNS, OF_PIPELINE))),
                "{{pipeline}}: {{status}}",
            ),
            unit="ops",
            links=_LINKS,
        ),
        lines(
            "Duration of the last run",
            "How long the last run of each pipeline took.",
            Query(_newest(LAST_RUN_DURATION), "{{pipeline}}"),
            unit="s",
            links=_LINKS,
            width=8,
        ),
        lines(
            "Duration of runs, P95",
            "95 of 100 runs take no longer. Each point is one run: click it to see its trace.",
            Query(
                quantile(0.95, RUN_DURATION, _BY, OF_PIPELINE),
                "{{pipeline}}",
                exemplars=True,
            ),
            unit="s",
            links=_LINKS,
            width=8,
        ),
        lines(
            "Records of the last run",
            "By status. A run that suddenly handles far fewer has lost its source.",
            Query(
                _newest(LAST_RUN_RECORDS, "status"),
                "{{pipeline}}: {{status}}",
            ),
            links=_LINKS,
            width=8,
        ),
    ),
)

RUNS_AND_FRESHNESS = Dashboard(
    "otel-pipeline-runs",
    "Pipelines: runs and freshness",
    "When each pipeline ran last, how that ended, and whether it is late.",
    (PROMETHEUS, LOKI, TEMPO, PIPELINE),
    (_NOW, _TABLE, _FRESHNESS, _HISTORY),
    start="now-2d",
    refresh="1m",
)
