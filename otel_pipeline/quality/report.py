"""What was found about a dataset: metrics, span events and log lines of the stage that saw it."""

from __future__ import annotations

import datetime as dt
import math
import threading
from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline import clock, semconv
from otel_pipeline.diagnostics import warn_once
from otel_pipeline.metrics import Counter, Gauge
from otel_pipeline.semconv import OTHER, DatasetAttr, Event, LogField, SpanEvent
from otel_pipeline.throttle import Throttle
from otel_pipeline.tracing import log_event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_pipeline.pipeline import Stage
    from otel_pipeline.quality import ColumnProfile, Profile
    from otel_pipeline.quality.checks import CheckResult
    from otel_pipeline.quality.counting import Segment
    from otel_pipeline.quality.datasets import Dataset

__all__ = ["MOST_COLUMNS", "Observed", "measures", "report"]

#: Columns of a dataset that are labels.
MOST_COLUMNS: Final = 50
#: Events of one kind about one dataset in one pass.
_MOST_EVENTS: Final = 20
#: The check under whose name it is counted that a dataset could not be looked at.
_OBSERVE: Final = "observe"
_MOST_REMEMBERED: Final = 1000
#: Log lines of one event about one dataset: so many at once, and so many in a second later.
_LINES_AT_ONCE: Final = 20
_LINES_A_SECOND: Final = 1 / 3

_ROWS = Counter.from_spec(semconv.DATASET_ROWS)
_CHECKS = Counter.from_spec(semconv.DATASET_CHECKS)
_SCHEMA_CHANGES = Counter.from_spec(semconv.DATASET_SCHEMA_CHANGES)
_LAST_ROWS = Gauge.from_spec(semconv.DATASET_LAST_ROWS)
_LAST_UPDATE = Gauge.from_spec(semconv.DATASET_LAST_UPDATE)
_FRESHNESS_LIMIT = Gauge.from_spec(semconv.DATASET_FRESHNESS_LIMIT)
_NULL_RATIO = Gauge.from_spec(semconv.DATASET_COLUMN_NULL_RATIO)
_DISTINCT_RATIO = Gauge.from_spec(semconv.DATASET_COLUMN_DISTINCT_RATIO)
_VALUE = Gauge.from_spec(semconv.DATASET_COLUMN_VALUE)
_ANOMALY_SCORE = Gauge.from_spec(semconv.DATASET_ANOMALY_SCORE)


@dataclass(frozen=True, slots=True)
class Observed:
    """What one pass of a stage saw of a dataset.

    Attributes:
        dataset: The dataset.
        rows: How many rows there were, those that went into quarantine too.
        complete: Whether all of them were seen; else nothing is judged.
        results: How each check ended.
        profile: What they look like, or None.
        updated_at: Their newest time in seconds since 1970, or None.
        at: The time that the data stand for, or None for now.
        categories: How often each value of the declared columns was seen.
        segments: The parts of the dataset.
        quarantined: How many rows went into quarantine.
        problems: What could not be done, and why.
    """

    dataset: Dataset
    rows: int
    complete: bool
    results: Sequence[CheckResult] = ()
    profile: Profile | None = None
    updated_at: float | None = None
    at: dt.datetime | None = None
    categories: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    segments: Sequence[Segment] = ()
    quarantined: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)


def report(stage: Stage, observed: Observed) -> None:
    """Tell what was observed; called where the stage's span is current."""
    name = observed.dataset.name
    _ROWS.labels(name).inc(observed.rows)
    for check in [one.name for one in observed.dataset.checks] + [_OBSERVE] * bool(
        observed.problems
    ):
        for result in semconv.CHECK_RESULTS:
            _CHECKS.labels(name, check, result)  # all are there from the first use on
    if observed.problems:
        _CHECKS.labels(name, _OBSERVE, "error").inc()
    for one in observed.results:
        _CHECKS.labels(name, one.check, one.result).inc()
    if observed.dataset.freshness is not None:
        _FRESHNESS_LIMIT.labels(name).set(observed.dataset.freshness)
    if observed.complete:
        _LAST_ROWS.labels(name).set(observed.rows)
        if observed.updated_at is not None:
            _LAST_UPDATE.labels(name).set(observed.updated_at)
        if observed.profile is not None:
            _set_columns(observed.dataset, observed.profile)
    _tell(stage, "info", Event.DATASET_OBSERVED, SpanEvent.DATASET_OBSERVED, _summary(observed))
    _tell_checks(stage, observed)
    if observed.complete and observed.dataset.monitors is not None:
        _judge(stage, observed)


def _summary(observed: Observed) -> dict[str, Any]:
    told: dict[str, Any] = {
        DatasetAttr.NAME: observed.dataset.name,
        DatasetAttr.ROWS: observed.rows,
        DatasetAttr.COMPLETE: observed.complete,
    }
    if observed.profile is not None:
        told[DatasetAttr.COLUMNS] = len(observed.profile.columns)
    counts = Tally(one.result for one in observed.results)
    told |= {DatasetAttr.CHECKS + one: counts[one] for one in semconv.CHECK_RESULTS if counts}
    if observed.quarantined:
        told[DatasetAttr.QUARANTINED] = observed.quarantined
    if observed.problems:
        told[DatasetAttr.PROBLEMS] = [f"{what}: {why}" for what, why in observed.problems.items()]
    return told


def _tell_checks(stage: Stage, observed: Observed) -> None:
    worse = [one for one in observed.results if one.result != "pass"]
    # Those that matter most come first, should there be too many to tell.
    worse.sort(key=lambda one: (not one.breaks, one.severity != "critical"))
    for one in worse[:_MOST_EVENTS]:
        failed = one.result == "fail"
        told: dict[str, Any] = {
            DatasetAttr.NAME: observed.dataset.name,
            DatasetAttr.CHECK: one.check,
            DatasetAttr.CHECK_KIND: one.kind,
            DatasetAttr.CHECK_RESULT: one.result,
            DatasetAttr.CHECK_SEVERITY: one.severity,
            DatasetAttr.CHECK_MESSAGE: one.message,
        }
        if one.failing is not None:
            told[DatasetAttr.CHECK_FAILING] = one.failing
        _tell(
            stage,
            "error" if one.severity == "critical" or one.breaks else "warning",
            Event.DATASET_CHECK_FAILED if failed else Event.DATASET_CHECK_ERROR,
            SpanEvent.DATASET_CHECK_FAILED if failed else SpanEvent.DATASET_CHECK_ERROR,
            told,
        )


def _tell(stage: Stage, level: str, event: str, span_event: str, told: dict[str, Any]) -> None:
    """Tell it twice: as an event of the stage's span, and as a log line, unless there are many."""
    try:
        if stage.span.is_recording():
            stage.span.add_event(span_event, told, clock.time_ns())
    except Exception as error:  # noqa: BLE001  a foreign tracer may fail
        warn_once("dataset event", "adding an event to a span failed: %s", type(error).__name__)
    suppressed: int | None = 0
    if event in semconv.THROTTLED_EVENTS:  # findings are few: monitors have a cool-down
        suppressed = _throttle(told[DatasetAttr.NAME], event).ask()
    if suppressed is None:
        return
    fields = {_field(key): value for key, value in told.items()}
    log_event(level, event, **fields, **({LogField.SUPPRESSED: suppressed} if suppressed else {}))


_throttles: dict[tuple[str, str], Throttle] = {}


def _throttle(dataset: str, event: str) -> Throttle:
    """Return what keeps the lines of an event few: a stream may have many short stages."""
    key = (dataset, event)
    if key not in _throttles and len(_throttles) >= _MOST_REMEMBERED:
        key = (OTHER, event)
    if key not in _throttles:
        _throttles.setdefault(key, Throttle(event, burst=_LINES_AT_ONCE, rate=_LINES_A_SECOND))
    return _throttles[key]


def _field(attribute: str) -> str:
    """Return the field of a log line for an attribute: `dataset.check.name` is `check_name`."""
    if attribute == DatasetAttr.NAME:
        return LogField.DATASET
    return attribute.removeprefix("dataset.").replace(".", "_")


# --- Columns ---------------------------------------------------------------------------------

_shown: dict[str, set[str]] = {}  # the columns that are labels now, by dataset
_lock = threading.Lock()


def _set_columns(dataset: Dataset, profile: Profile) -> None:
    """Set the gauges of columns, and take away those of columns that are gone."""
    every = profile.columns
    labels = label_columns(dataset, profile)
    with _lock:
        before = _shown.get(dataset.name, set())
        if len(_shown) < _MOST_REMEMBERED or before:
            _shown[dataset.name] = {*labels, OTHER}
    for gone in before - _shown.get(dataset.name, set()):
        for gauge in (_NULL_RATIO, _DISTINCT_RATIO, _VALUE):
            gauge.remove_by_labels({"dataset": dataset.name, "column": gone})
    for name in labels:
        column = every[name]
        _set(_NULL_RATIO, (dataset.name, name), missing_ratio(column))
        _set(_DISTINCT_RATIO, (dataset.name, name), column.distinct_ratio)
        for stat, value in numbers(column).items():
            _set(_VALUE, (dataset.name, name, stat), value)
    others = [missing_ratio(column) for name, column in every.items() if name not in labels]
    worst = max((ratio for ratio in others if ratio is not None), default=None)
    # Of the columns without a label one knows how bad the worst of them is.
    _set(_NULL_RATIO, (dataset.name, OTHER), worst)


def label_columns(dataset: Dataset, profile: Profile) -> list[str]:
    """Return the columns that are labels: those that checks name, then the first ones."""
    named = [name for check in dataset.checks for name in check.about() if name in profile.columns]
    return list(dict.fromkeys([*named, *profile.columns]))[:MOST_COLUMNS]


def _set(gauge: Gauge, labels: tuple[str, ...], value: float | None) -> None:
    if value is not None:
        gauge.labels(*labels).set(value)


def missing_ratio(column: ColumnProfile) -> float | None:
    """Return the share of rows without a value: null, or NaN, which some libraries use for it."""
    if not column.rows:
        return None
    return (column.null_count + (column.nan_count or 0)) / column.rows


def numbers(column: ColumnProfile) -> dict[str, float]:
    """Return the statistics of a column that are finite numbers."""
    found = {"min": column.min, "max": column.max, "mean": column.mean, "std": column.std}
    found["p50"] = column.quantile(0.5)
    return {
        stat: float(value)
        for stat, value in found.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


# --- Monitors --------------------------------------------------------------------------------


def measures(observed: Observed, now: float) -> dict[str, float]:
    """Return what monitors judge, from the name of each metric to its value."""
    found: dict[str, float] = {"rows": observed.rows}
    if observed.updated_at is not None:
        found["freshness"] = now - observed.updated_at
    profile = observed.profile
    for name in label_columns(observed.dataset, profile) if profile is not None else ():
        column = profile.columns[name]  # type: ignore[union-attr]
        stats = numbers(column)
        each = {
            "null_ratio": missing_ratio(column),
            "distinct_ratio": column.distinct_ratio,
            "mean": stats.get("mean"),
            "p50": stats.get("p50"),
        }
        found |= {f"{stat}:{name}": value for stat, value in each.items() if value is not None}
    return found


def _measures_of(segment: Segment) -> dict[str, float]:
    ratios = {f"null_ratio:{column}": value for column, value in segment.null_ratios.items()}
    return {"rows": segment.rows} | ratios


def _judge(stage: Stage, observed: Observed) -> None:
    """Let the monitors judge what was measured, and tell what they find."""
    name = observed.dataset.name
    monitors = observed.dataset.monitors
    at = observed.at or dt.datetime.fromtimestamp(clock.now(), dt.UTC)
    verdict = monitors.judge(
        name,
        measures(observed, at.replace(tzinfo=at.tzinfo or dt.UTC).timestamp()),
        at=at,
        schema=observed.profile.schema if observed.profile is not None else None,
        categories=observed.categories,
    )
    scores, findings = dict(verdict.scores), list(verdict.findings)
    if observed.segments and not any(one.metric == "history" for one in findings):
        parts = monitors.judge_segments(
            name, [(one.values, _measures_of(one)) for one in observed.segments], at=at
        )
        findings += parts.findings
        for metric, score in parts.scores.items():
            scores[metric] = max(score, scores.get(metric, 0.0))
    for metric, score in scores.items():
        _ANOMALY_SCORE.labels(name, metric).set(score)
    for kind in semconv.SCHEMA_CHANGES:
        _SCHEMA_CHANGES.labels(name, kind)
    for change in verdict.changes:
        _SCHEMA_CHANGES.labels(name, change.kind).inc()
    for change in verdict.changes[:_MOST_EVENTS]:
        _tell(
            stage,
            "warning",
            Event.DATASET_SCHEMA_CHANGED,
            SpanEvent.DATASET_SCHEMA_CHANGED,
            {
                DatasetAttr.NAME: name,
                DatasetAttr.CHANGE: change.kind,
                DatasetAttr.COLUMN: change.column,
            },
        )
    for finding in [one for one in findings if one.metric != "schema"][:_MOST_EVENTS]:
        told = {
            DatasetAttr.NAME: name,
            DatasetAttr.METRIC: finding.metric,
            DatasetAttr.SCORE: finding.score,
            DatasetAttr.AT: finding.at.isoformat(),
            DatasetAttr.EXPLANATION: finding.explanation,
        }
        if finding.segment:
            told[DatasetAttr.SEGMENT] = finding.segment
        _tell(stage, "warning", Event.DATASET_ANOMALY, SpanEvent.DATASET_ANOMALY, told)
