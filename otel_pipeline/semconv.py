"""The vocabulary: every metric, label, attribute, log field and span name of the library.

Code, dashboards and alerts take names from here, so that a renamed metric cannot leave a dead
panel behind. Names are what a Prometheus scrape shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "ALL_METRICS",
    "PROCESSING_BOUNDS",
    "RUN_BOUNDS",
    "Attr",
    "DatadogField",
    "LogField",
    "MetricSpec",
    "Status",
]

Kind = Literal["counter", "gauge", "histogram", "summary", "info", "enum"]
Multiprocess = Literal["sum", "livesum", "max", "mostrecent"]


class Status:
    """Values of the label `status`."""

    SUCCESS: Final = "success"
    ERROR: Final = "error"
    SKIPPED: Final = "skipped"
    DROPPED: Final = "dropped"
    CANCELLED: Final = "cancelled"
    INTERRUPTED: Final = "interrupted"


#: Statuses of a record in a batch, of a record in a stage, of a stage, and of a run.
RECORD_STATUSES: Final = (Status.SUCCESS, Status.ERROR, Status.SKIPPED)
STAGE_RECORD_STATUSES: Final = (Status.SUCCESS, Status.ERROR, Status.DROPPED, Status.SKIPPED)
STAGE_STATUSES: Final = (Status.SUCCESS, Status.ERROR, Status.CANCELLED)
RUN_STATUSES: Final = (Status.SUCCESS, Status.ERROR, Status.INTERRUPTED)
#: Results of a data-quality check.
CHECK_RESULTS: Final = ("pass", "fail", "error")
#: Kinds of a change of a dataset's schema.
SCHEMA_CHANGES: Final = ("column_added", "column_removed", "type_changed", "reordered")

#: What stands in a label whose values went over the limit.
OTHER: Final = "__other__"

#: Upper bounds of histogram buckets, in seconds.
PROCESSING_BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip
RUN_BOUNDS: Final = (*PROCESSING_BOUNDS, 900.0, 3600.0, 10800.0, 43200.0)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric of the vocabulary.

    Attributes:
        name: The name on `/metrics`, with unit and `_total`.
        kind: Its type.
        doc: Its help text.
        labels: Its label names, in order.
        unit: Prometheus's unit (`seconds`), which is the end of the name, or empty.
        bounds: Upper bounds of a histogram's buckets.
        multiprocess: How a gauge's values of several processes become one.
        label_limits: The most values that a label may take before `__other__`.
    """

    name: str
    kind: Kind
    doc: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    bounds: tuple[float, ...] = ()
    multiprocess: Multiprocess = "mostrecent"
    label_limits: tuple[tuple[str, int], ...] = ()


RECORDS_PROCESSED: Final = MetricSpec(
    "records_processed_total",
    "counter",
    "Records that batches of a pipeline processed, by how they ended.",
    ("pipeline", "status"),
)
PROCESSING_DURATION: Final = MetricSpec(
    "processing_duration_seconds",
    "histogram",
    "Seconds that each successful batch took.",
    ("pipeline",),
    "seconds",
    PROCESSING_BOUNDS,
)
QUEUE_SIZE: Final = MetricSpec(
    "queue_size", "gauge", "Items waiting in a queue.", ("queue_name",), multiprocess="sum"
)
QUEUE_INFO: Final = MetricSpec(
    "pipeline_queue_info",
    "gauge",
    "The pipeline that a queue belongs to; always 1.",
    ("pipeline", "queue_name"),
    multiprocess="max",
)
STAGE_RECORDS: Final = MetricSpec(
    "pipeline_stage_records_total",
    "counter",
    "Records that a stage handled, by how they ended.",
    ("pipeline", "stage", "status"),
)
RECORDS_REJECTED: Final = MetricSpec(
    "pipeline_records_rejected_total",
    "counter",
    "Records that failed, were dropped or skipped, by the reason given.",
    ("pipeline", "stage", "reason"),
    label_limits=(("reason", 50),),
)
STAGE_DURATION: Final = MetricSpec(
    "pipeline_stage_duration_seconds",
    "histogram",
    "Seconds spent inside a stage; for a generator the time inside its steps.",
    ("pipeline", "stage", "status"),
    "seconds",
    RUN_BOUNDS,
)
RUNS: Final = MetricSpec(
    "pipeline_runs_total", "counter", "Ended runs, by how they ended.", ("pipeline", "status")
)
RUN_DURATION: Final = MetricSpec(
    "pipeline_run_duration_seconds",
    "histogram",
    "Seconds from the start of a run to its end.",
    ("pipeline", "status"),
    "seconds",
    RUN_BOUNDS,
)
LAST_SUCCESS: Final = MetricSpec(
    "pipeline_last_success_timestamp_seconds",
    "gauge",
    "Unix time at which the last successful run ended; absent until there was one.",
    ("pipeline",),
    "seconds",
    multiprocess="max",
)
LAST_RUN: Final = MetricSpec(
    "pipeline_last_run_timestamp_seconds",
    "gauge",
    "Unix time at which the last run ended, however it ended; absent until there was one.",
    ("pipeline",),
    "seconds",
    multiprocess="max",
)
LAST_RUN_DURATION: Final = MetricSpec(
    "pipeline_last_run_duration_seconds",
    "gauge",
    "Seconds that the last run took.",
    ("pipeline",),
    "seconds",
)
LAST_RUN_SUCCESS: Final = MetricSpec(
    "pipeline_last_run_success",
    "gauge",
    "1 if the last run succeeded, else 0.",
    ("pipeline",),
)
LAST_RUN_RECORDS: Final = MetricSpec(
    "pipeline_last_run_records",
    "gauge",
    "Records of the last run, by how they ended.",
    ("pipeline", "status"),
)
EXPECTED_INTERVAL: Final = MetricSpec(
    "pipeline_expected_interval_seconds",
    "gauge",
    "Seconds within which a pipeline is expected to succeed again.",
    ("pipeline",),
    "seconds",
)
EVENT_LAG: Final = MetricSpec(
    "pipeline_event_lag_seconds",
    "gauge",
    "Age of the event that was handled last, in seconds.",
    ("pipeline",),
    "seconds",
)
PIPELINE_INFO: Final = MetricSpec(
    "pipeline_info",
    "gauge",
    "A pipeline and its mode (batch or stream); always 1.",
    ("pipeline", "mode"),
    multiprocess="max",
)
#: Datasets that are told apart.
_DATASETS: Final = (("dataset", 200),)

DATASET_ROWS: Final = MetricSpec(
    "dataset_rows_total",
    "counter",
    "Rows that a dataset was seen with.",
    ("dataset",),
    label_limits=_DATASETS,
)
DATASET_CHECKS: Final = MetricSpec(
    "dataset_checks_total",
    "counter",
    "Checks of a dataset, by how they ended: pass, fail, or error, when the check itself failed.",
    ("dataset", "check", "result"),
    label_limits=(*_DATASETS, ("check", 1000)),
)
DATASET_SCHEMA_CHANGES: Final = MetricSpec(
    "dataset_schema_changes_total",
    "counter",
    "Changes of a dataset's schema since it was last seen, by their kind.",
    ("dataset", "kind"),
    label_limits=_DATASETS,
)
DATASET_LAST_ROWS: Final = MetricSpec(
    "dataset_last_rows",
    "gauge",
    "Rows of a dataset when it was last seen.",
    ("dataset",),
    label_limits=_DATASETS,
)
DATASET_LAST_UPDATE: Final = MetricSpec(
    "dataset_last_update_timestamp_seconds",
    "gauge",
    "Unix time of a dataset's newest data; absent until known.",
    ("dataset",),
    "seconds",
    multiprocess="max",
    label_limits=_DATASETS,
)
DATASET_FRESHNESS_LIMIT: Final = MetricSpec(
    "dataset_freshness_limit_seconds",
    "gauge",
    "Seconds after which a dataset without newer data is stale.",
    ("dataset",),
    "seconds",
    label_limits=_DATASETS,
)
DATASET_COLUMN_NULL_RATIO: Final = MetricSpec(
    "dataset_column_null_ratio",
    "gauge",
    "Share of a column's values that are null, from 0 to 1.",
    ("dataset", "column"),
    label_limits=_DATASETS,
)
DATASET_COLUMN_DISTINCT_RATIO: Final = MetricSpec(
    "dataset_column_distinct_ratio",
    "gauge",
    "Distinct values of a column for each value that is not null, from 0 to 1.",
    ("dataset", "column"),
    label_limits=_DATASETS,
)
DATASET_COLUMN_VALUE: Final = MetricSpec(
    "dataset_column_value",
    "gauge",
    "A statistic of a column: min, max, mean, std, or a quantile such as p50.",
    ("dataset", "column", "stat"),
    label_limits=_DATASETS,
)
DATASET_ANOMALY_SCORE: Final = MetricSpec(
    "dataset_anomaly_score",
    "gauge",
    "How far a dataset is from what its history lets expect; above 1 is anomalous.",
    ("dataset", "metric"),
    label_limits=_DATASETS,
)
ITEMS_PRODUCED: Final = MetricSpec(
    "otel_pipeline_items_produced_total",
    "counter",
    "Spans, metric data points and log records made for export.",
    ("signal",),
)
ITEMS_RECOVERED: Final = MetricSpec(
    "otel_pipeline_items_recovered_total",
    "counter",
    "Items that an earlier process left on disk and this one took over.",
    ("signal",),
)
ITEMS: Final = MetricSpec(
    "otel_pipeline_items_total",
    "counter",
    "Items by where they ended: delivered, rejected by the receiver, or dropped here.",
    ("signal", "outcome"),
)
ITEMS_PENDING: Final = MetricSpec(
    "otel_pipeline_items_pending",
    "gauge",
    "Items that wait to be exported, in memory or on disk.",
    ("signal", "where"),
    multiprocess="livesum",
)
LABEL_OVERFLOW: Final = MetricSpec(
    "otel_pipeline_label_overflow_total",
    "counter",
    "Look-ups of a label set that the cardinality limit folded into __other__.",
    ("metric",),
)
LOGS_SUPPRESSED: Final = MetricSpec(
    "otel_pipeline_logs_suppressed_total",
    "counter",
    "Log lines that a rate limit or sampling kept back.",
    ("event",),
    label_limits=(("event", 100),),
)

ALL_METRICS: Final = (
    RECORDS_PROCESSED,
    PROCESSING_DURATION,
    QUEUE_SIZE,
    QUEUE_INFO,
    STAGE_RECORDS,
    RECORDS_REJECTED,
    STAGE_DURATION,
    RUNS,
    RUN_DURATION,
    LAST_SUCCESS,
    LAST_RUN,
    LAST_RUN_DURATION,
    LAST_RUN_SUCCESS,
    LAST_RUN_RECORDS,
    EXPECTED_INTERVAL,
    EVENT_LAG,
    PIPELINE_INFO,
    DATASET_ROWS,
    DATASET_CHECKS,
    DATASET_SCHEMA_CHANGES,
    DATASET_LAST_ROWS,
    DATASET_LAST_UPDATE,
    DATASET_FRESHNESS_LIMIT,
    DATASET_COLUMN_NULL_RATIO,
    DATASET_COLUMN_DISTINCT_RATIO,
    DATASET_COLUMN_VALUE,
    DATASET_ANOMALY_SCORE,
    ITEMS_PRODUCED,
    ITEMS_RECOVERED,
    ITEMS,
    ITEMS_PENDING,
    LABEL_OVERFLOW,
    LOGS_SUPPRESSED,
)


class Attr:
    """Span attributes."""

    PIPELINE_NAME: Final = "pipeline.name"
    PIPELINE_MODE: Final = "pipeline.mode"
    STAGE: Final = "pipeline.stage"
    RUN_ID: Final = "pipeline.run.id"
    STATUS: Final = "pipeline.status"
    RECORDS: Final = "pipeline.records."  # followed by the status


class DatasetAttr:
    """Attributes of span events about a dataset.

    On log lines the first is the field `dataset`; the others lose `dataset.` and have `_` for `.`.
    """

    NAME: Final = "dataset.name"
    ROWS: Final = "dataset.rows"
    COLUMNS: Final = "dataset.columns"
    COMPLETE: Final = "dataset.complete"
    PROBLEMS: Final = "dataset.problems"
    CHECKS: Final = "dataset.checks."  # followed by the result
    QUARANTINED: Final = "dataset.rows.quarantined"
    CHECK: Final = "dataset.check.name"
    CHECK_KIND: Final = "dataset.check.kind"
    CHECK_RESULT: Final = "dataset.check.result"
    CHECK_SEVERITY: Final = "dataset.check.severity"
    CHECK_MESSAGE: Final = "dataset.check.message"
    CHECK_FAILING: Final = "dataset.check.failing"
    METRIC: Final = "dataset.anomaly.metric"
    SCORE: Final = "dataset.anomaly.score"
    AT: Final = "dataset.anomaly.at"  # the time that the data stand for
    EXPLANATION: Final = "dataset.anomaly.explanation"
    SEGMENT: Final = "dataset.anomaly.segment"
    CHANGE: Final = "dataset.schema.change"
    COLUMN: Final = "dataset.schema.column"
    # On a stage's span: what it reads, and what it writes.
    INPUTS: Final = "dataset.inputs"
    OUTPUTS: Final = "dataset.outputs"


class LogField:
    """Fields of a log line, in the order in which they are printed."""

    TIMESTAMP: Final = "timestamp"
    LEVEL: Final = "level"
    LOGGER: Final = "logger"
    EVENT: Final = "event"
    SERVICE: Final = "service"
    ENVIRONMENT: Final = "environment"
    PIPELINE: Final = "pipeline"
    STAGE: Final = "stage"
    RUN_ID: Final = "run_id"
    TRACE_ID: Final = "trace_id"
    SPAN_ID: Final = "span_id"
    TRACE_FLAGS: Final = "trace_flags"
    DATASET: Final = "dataset"  # among the caller's own
    SUPPRESSED: Final = "suppressed"  # among the caller's own: lines before this one, of its event


class DatadogField:
    """Fields of a printed log line for Datadog, in the order in which they are printed."""

    SERVICE: Final = "dd.service"
    ENV: Final = "dd.env"
    VERSION: Final = "dd.version"
    TRACE_ID: Final = "dd.trace_id"
    SPAN_ID: Final = "dd.span_id"


class Event:
    """Events that the library logs itself."""

    BATCH_PROCESSED: Final = "batch_processed"
    BATCH_FAILED: Final = "batch_failed"
    STAGE_FAILED: Final = "stage_failed"
    RUN_FAILED: Final = "run_failed"
    DATASET_OBSERVED: Final = "dataset_observed"
    DATASET_CHECK_FAILED: Final = "dataset_check_failed"
    DATASET_CHECK_ERROR: Final = "dataset_check_error"
    DATASET_ANOMALY: Final = "dataset_anomaly"
    DATASET_SCHEMA_CHANGED: Final = "dataset_schema_changed"
    LINES_SUPPRESSED: Final = "log_lines_suppressed"


#: Events whose lines the library itself keeps few: they say `suppressed`.
THROTTLED_EVENTS: Final = frozenset(
    {
        Event.BATCH_PROCESSED,
        Event.DATASET_OBSERVED,
        Event.DATASET_CHECK_FAILED,
        Event.DATASET_CHECK_ERROR,
    }
)


class Signal:
    """Names of the signals, as in `Telemetry.report()` and the label `signal`."""

    TRACES: Final = "traces"
    METRICS: Final = "metrics"
    LOGS: Final = "logs"
    LINEAGE: Final = "lineage"  # events of OpenLineage, where they are sent; no signal of OTLP


class SpanEvent:
    """Names of events on spans."""

    DATASET_OBSERVED: Final = "dataset.observed"
    DATASET_CHECK_FAILED: Final = "dataset.check_failed"
    DATASET_CHECK_ERROR: Final = "dataset.check_error"
    DATASET_ANOMALY: Final = "dataset.anomaly"
    DATASET_SCHEMA_CHANGED: Final = "dataset.schema_changed"


SIGNALS: Final = (Signal.TRACES, Signal.METRICS, Signal.LOGS)


def run_span_name(pipeline: str) -> str:
    """Return the name of a run's span: `orders`."""
    return pipeline


def stage_span_name(pipeline: str, stage: str) -> str:
    """Return the name of a stage's span: `orders extract`."""
    return f"{pipeline} {stage}"


def batch_span_name(pipeline: str) -> str:
    """Return the name of a batch's span: `orders batch`."""
    return f"{pipeline} batch"
