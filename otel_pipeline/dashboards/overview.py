"""The overview: is anything wrong, and with which pipeline?"""

from __future__ import annotations

from otel_pipeline.dashboards import foreign
from otel_pipeline.dashboards.model import LOKI, PROMETHEUS, TEMPO, Dashboard, Query, Row
from otel_pipeline.dashboards.panels import gauge, heatmap, lines, logs, number, table
from otel_pipeline.dashboards.parts import (
    ERROR_LINES,
    OF_PIPELINE,
    PIPELINE,
    TO_DETAIL,
    TO_LINES,
    TO_TRACES,
    bad_from,
    lines_of,
    warn_from,
)
from otel_pipeline.dashboards.promql import (
    buckets,
    counted,
    equal,
    largest,
    or_zero,
    quantile,
    rate,
    ratio,
    selector,
    sum_by,
    variable,
)
from otel_pipeline.semconv import (
    PROCESSING_DURATION,
    QUEUE_INFO,
    QUEUE_SIZE,
    RECORDS_PROCESSED,
    STAGE_RECORDS,
    Status,
)

__all__ = ["OVERVIEW"]


def _records(*matchers: str, labels: tuple[str, ...] = ("pipeline",)) -> str:
    """Return records a second: of a pipeline's batches, else of its busiest stage."""
    batches = rate(selector(RECORDS_PROCESSED, *matchers, OF_PIPELINE))
    stages = rate(selector(STAGE_RECORDS, *matchers, OF_PIPELINE))
    busiest = largest(labels, sum_by((*labels, "stage"), stages))
    return f"{sum_by(labels, batches)} or on (pipeline) {busiest}"


_RECORDS = _records()
_ERRORS = _records(equal("status", Status.ERROR))
_LINKS = (TO_DETAIL, TO_TRACES, TO_LINES)
# A queue's size does not say whose it is; its info, of the same process, does.
_QUEUES = (
    f"{selector(QUEUE_SIZE)} * ignoring (pipeline) group_left (pipeline) "
    f"{selector(QUEUE_INFO, OF_PIPELINE)}"
)
# Alerts about telemetry itself have no pipeline, and concern all of them.
_FIRING = selector(
    foreign.ALERTS,
    equal("alertstate", "firing"),
    f'alertname!="{foreign.WATCHDOG}"',
    variable("pipeline", or_empty=True),
)
_NO_BATCHES = "no batches"

_NOW = Row(
    "Now",
    (
        number(
            "Records per second",
            "Records of batches, whatever became of them, all chosen pipelines together. Of a "
            "pipeline without batches, those of the stage with most.",
            Query(sum_by([], _RECORDS)),
            unit="recps",
            no_value=_NO_BATCHES,
        ),
        number(
            "P95 latency",
            "95 of 100 batches take no longer than this.",
            Query(quantile(0.95, PROCESSING_DURATION, [], OF_PIPELINE), exemplars=True),
            unit="s",
            no_value=_NO_BATCHES,
        ),
        gauge(
            "Error rate",
            "The share of records that failed, up to 10 %. Without records nothing is shown.",
            Query(ratio(sum_by([], _ERRORS), sum_by([], _RECORDS))),
            thresholds=bad_from(0.05, warn=0.01),
            decimals=2,
            no_value=_NO_BATCHES,
            unit="percentunit",
            minimum=0,
            maximum=0.1,
        ),
        number(
            "Queued items",
            "Items that wait in the queues of the chosen pipelines.",
            Query(sum_by([], _QUEUES)),
            no_value="no queues",
        ),
        number(
            "Firing alerts",
            "Alerts that fire for the chosen pipelines, and those about telemetry itself.",
            Query(or_zero(counted([], _FIRING)), instant=True),
            thresholds=bad_from(1),
        ),
        number(
            "Error log lines in this time",
            "Log lines of level error or critical, in the time shown.",
            Query(
                f"sum(count_over_time({lines_of(ERROR_LINES)} [$__range]))",
                source=LOKI,
                instant=True,
            ),
            thresholds=warn_from(1),
            no_value="0",
        ),
    ),
)

_RECORDS_ROW = Row(
    "Records",
    (
        lines(
            "Records per second by pipeline",
            "Throughput of each pipeline. Batch jobs show where they ran.",
            Query(_RECORDS, "{{pipeline}}"),
            unit="recps",
            links=_LINKS,
        ),
        lines(
            "Error rate by pipeline",
            "The share of records that failed; lines end where nothing is processed.",
            Query(ratio(f"({_ERRORS})", f"({_RECORDS})"), "{{pipeline}}"),
            thresholds=bad_from(0.05, warn=0.01),
            links=_LINKS,
            unit="percentunit",
        ),
        lines(
            "Records per second by status",
            "What became of the records: success, error, or skipped on purpose.",
            Query(sum_by(["status"], _records(labels=("pipeline", "status"))), "{{status}}"),
            unit="recps",
            stacked=True,
        ),
        lines(
            "Items in queues",
            "Waiting items of each queue. A line that only rises: its consumer is too slow.",
            Query(sum_by(["pipeline", "queue_name"], _QUEUES), "{{pipeline}}: {{queue_name}}"),
            links=_LINKS,
        ),
    ),
)

_LATENCY = Row(
    "Latency",
    (
        heatmap(
            "Duration of batches",
            "How many batches took how long. Each point is one batch: click it to see its trace.",
            Query(
                buckets(PROCESSING_DURATION, OF_PIPELINE),
                "{{le}}",
                format="heatmap",
                exemplars=True,
            ),
            "s",
        ),
        lines(
            "Duration of batches by pipeline, P95",
            "95 of 100 batches take no longer. Each point is one batch: click it to see its trace.",
            Query(
                quantile(0.95, PROCESSING_DURATION, ["pipeline"], OF_PIPELINE),
                "{{pipeline}}",
                exemplars=True,
            ),
            unit="s",
            links=_LINKS,
        ),
    ),
)

_TROUBLE = Row(
    "Trouble",
    (
        table(
            "Alerts that fire",
            "What Prometheus's rules found. Alertmanager has who was told, and silences.",
            Query(_FIRING, instant=True, format="table"),
            columns={
                "alertname": "Alert",
                "severity": "Severity",
                "pipeline": "Pipeline",
                "dataset": "Dataset",
                "instance": "Instance",
            },
            width=12,
            height=10,
            no_value="nothing fires",
        ),
        logs(
            "Error log lines",
            "Lines of level error and critical. Open one to get to its trace.",
            lines_of(ERROR_LINES),
            width=12,
        ),
    ),
)

OVERVIEW = Dashboard(
    "otel-pipeline-overview",
    "Pipelines: overview",
    "Throughput, latency, errors, queues and alerts of all pipelines.",
    (PROMETHEUS, LOKI, TEMPO, PIPELINE),
    (_NOW, _RECORDS_ROW, _LATENCY, _TROUBLE),
)
