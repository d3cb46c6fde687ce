"""Rules about pipelines: records, latency, runs and queues."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.alerts import recorded
from otel_pipeline.alerts.expressions import duration, indent
from otel_pipeline.alerts.rules import Group, RecordRule, alert_rule, label
from otel_pipeline.alerts.settings import quoted

if TYPE_CHECKING:
    from otel_pipeline.alerts.rules import AlertRule
    from otel_pipeline.alerts.settings import Alert, Settings

__all__ = ["confirmed_after", "group"]

_RECORDED = (
    recorded.RECORDS_RATE,
    recorded.ERRORS_RATE,
    recorded.ERRORS_RATIO,
    recorded.RECORDS_LONG,
    recorded.ERRORS_LONG,
    recorded.LATENCY,
    recorded.LAST_SUCCESS,
    recorded.LAST_RUN,
    recorded.SINCE_SUCCESS,
    recorded.FIRST_SEEN,
    recorded.EXPECTED_INTERVAL,
    recorded.REPORTING,
    recorded.WATCHED,
    recorded.LASTING,
    recorded.QUEUE_SIZE,
)

_PIPELINE = label("pipeline")
_OVERVIEW = "/d/otel-pipeline-overview?var-pipeline={{ $labels.pipeline | urlquery }}"
_RUNS = "/d/otel-pipeline-runs?var-pipeline={{ $labels.pipeline | urlquery }}"


def group(settings: Settings) -> Group:
    """Return what is recorded of pipelines and the alerts about them.

    They are one group, so that an alert sees what was recorded in the same moment.
    """
    rules: list[RecordRule | AlertRule] = [
        RecordRule(series, series.with_parameters(settings.parameters)) for series in _RECORDED
    ]
    for name, make in _ALERTS.items():
        for pipeline, selector, given in settings.scopes(name):
            rule = make(settings, selector, given)
            rules.append(rule if pipeline is None else _of_one(rule, pipeline))
    if settings.alerts["QueueGrowing"].enabled:
        rules.append(_queue_growing(settings))
    return Group("otel-pipeline", tuple(rules))


def _of_one(rule: AlertRule, pipeline: str) -> AlertRule:
    """Return a rule that differs by its labels from those of the same alert for others."""
    text = f'{{{{ "{quoted(pipeline)}" }}}}' if "{{" in pipeline else pipeline
    return replace(rule, labels={**rule.labels, "pipeline": text})


def _high_error_rate(settings: Settings, selector: str, given: Alert) -> AlertRule:
    window = settings.parameters.window
    threshold = f"{given.need('threshold'):.12g}"
    busy = f"{recorded.RECORDS_RATE.name} * {window} >= {given.need('minimum_records')}"
    soon = f"{recorded.ERRORS_RATIO.name}{selector} > {threshold}\nand on (pipeline) {busy}"
    # With little traffic a window has too few records to tell a share. A longer one has more, and
    # speaks as long as errors still come.
    later = (
        f"{recorded.ERRORS_LONG.name}{selector} / ({recorded.RECORDS_LONG.name} > 0)"
        f" > {threshold}\n"
        f"and on (pipeline) {recorded.ERRORS_LONG.name} >= {given.need('minimum_errors')}\n"
        f"and on (pipeline) "
        f"max_over_time({recorded.ERRORS_RATE.name}[{duration(2 * window)}]) > 0\n"
        f"unless on (pipeline) {busy}"
    )
    return alert_rule(
        settings,
        "HighErrorRate",
        f"(\n{indent(soon)}\n)\nor\n(\n{indent(later)}\n)",
        f"Records of {_PIPELINE} fail",
        f"{{{{ $value | humanizePercentage }}}} of the records of {_PIPELINE} fail, for more than "
        f"{duration(given.need('hold'))}. The limit is {given.need('threshold') * 100:.6g} %.",
        dashboard=_OVERVIEW,
        given=given,
    )


def _high_latency(settings: Settings, selector: str, given: Alert) -> AlertRule:
    return alert_rule(
        settings,
        "HighLatency",
        f"{recorded.LATENCY.name}{selector} > {given.need('threshold'):.12g}",
        f"Batches of {_PIPELINE} are slow",
        f"5 % of the batches of {_PIPELINE} take longer than {{{{ $value | humanizeDuration }}}}, "
        f"for more than {duration(given.need('hold'))}. The limit is "
        f"{given.need('threshold'):.12g} s.",
        dashboard=_OVERVIEW,
        given=given,
    )


def confirmed_after(after: int) -> int:
    """Return for how many of the seconds without records the rule waits after its window.

    A scrape or two, so that a gap in what Prometheus scraped is no stall.
    """
    return max(1, min(60, after // 10))


def _pipeline_stalled(settings: Settings, selector: str, given: Alert) -> AlertRule:
    after = given.need("after")
    hold = confirmed_after(after)
    window = duration(after - hold)
    # One second more: the last record came between two scrapes, and a range leaves out its start.
    active = recorded.active(duration(after - hold + 1))
    return alert_rule(
        settings,
        "PipelineStalled",
        "(\n"
        f"  {recorded.WATCHED.name}{selector} offset {window} and {recorded.WATCHED.name}\n"
        f"  or last_over_time({recorded.LASTING.name}{selector}[1d] offset {window})\n"
        ")\n"
        f"unless on (pipeline) (\n{indent(active)}\n)\n"
        f"unless on (pipeline) ({recorded.EXPECTED_INTERVAL.name} > {after})",
        f"{_PIPELINE} has stalled",
        f"{_PIPELINE} has processed 0 records for more than {duration(after)}.",
        dashboard=_OVERVIEW,
        given=given,
        hold=hold,
    )


def _pipeline_absent(settings: Settings, selector: str, given: Alert) -> AlertRule:
    gone = (
        f"last_over_time({recorded.LASTING.name}{selector}[1d])\n"
        f"unless on (pipeline) {recorded.REPORTING.name}\n"
        f"unless on (pipeline) ({recorded.EXPECTED_INTERVAL.name} > "
        f"{settings.parameters.stalled_after})"
    )
    parts = [gone]
    for name, pipeline in settings.pipelines.items():
        if not pipeline.expected or given is not pipeline.alerts.get(
            "PipelineAbsent", settings.alerts["PipelineAbsent"]
        ):
            continue
        parts.append(
            f'label_replace(vector(1), "pipeline", "{quoted(name).replace("$", "$$")}", "", "")\n'
            f"unless on (pipeline) last_over_time({recorded.REPORTING.name}[1d])\n"
            f"unless on (pipeline) {recorded.SINCE_SUCCESS.name}"
        )
    expression = parts[0] if len(parts) == 1 else "\nor\n".join(f"(\n{indent(p)}\n)" for p in parts)
    return alert_rule(
        settings,
        "PipelineAbsent",
        expression,
        f"{_PIPELINE} is gone",
        f"0 processes of {_PIPELINE} report metrics, for more than {duration(given.need('hold'))}. "
        "It ended, or what it says does not arrive.",
        dashboard=_OVERVIEW,
        given=given,
    )


def _run_overdue(settings: Settings, selector: str, given: Alert) -> AlertRule:
    return alert_rule(
        settings,
        "PipelineRunOverdue",
        "(\n"
        f"  {recorded.SINCE_SUCCESS.name}{selector}\n"
        f"  or on (pipeline) time() - {recorded.FIRST_SEEN.name}{selector}\n"
        ")\n"
        f"> on (pipeline) {recorded.EXPECTED_INTERVAL.name}",
        f"{_PIPELINE} is overdue",
        f"The last successful run of {_PIPELINE} ended {{{{ $value | humanizeDuration }}}} ago, or "
        "it was first seen then. That is longer than the interval which it declares.",
        dashboard=_RUNS,
        given=given,
    )


def _run_failed(settings: Settings, selector: str, given: Alert) -> AlertRule:
    return alert_rule(
        settings,
        "PipelineRunFailed",
        f"min by (pipeline) (last_over_time({semconv.LAST_RUN_SUCCESS.name}{selector}[6h])) == 0\n"
        f"unless on (pipeline) {recorded.LAST_SUCCESS.name} >= {recorded.LAST_RUN.name}",
        f"The last run of {_PIPELINE} failed",
        f"The last run of {_PIPELINE} ended with an error or was interrupted "
        f"({semconv.LAST_RUN_SUCCESS.name} is {{{{ $value }}}}).",
        dashboard=_RUNS,
        given=given,
    )


def _queue_growing(settings: Settings) -> AlertRule:
    given = settings.alerts["QueueGrowing"]
    window = settings.parameters.window
    size = recorded.QUEUE_SIZE.name
    now, before = duration(2 * window), duration(4 * window)
    return alert_rule(
        settings,
        "QueueGrowing",
        f"{size} > {given.need('threshold'):.12g}\n"
        f"and min_over_time({size}[{now}]) > max_over_time({size}[{now}] offset {before})",
        f"The queue {label('queue_name')} grows",
        f"{{{{ $value | humanize }}}} items wait in {label('queue_name')} of {_PIPELINE}, more "
        f"than {before} ago, and it has not been shorter since.",
        dashboard=_OVERVIEW,
    )


_ALERTS = {
    "HighErrorRate": _high_error_rate,
    "HighLatency": _high_latency,
    "PipelineStalled": _pipeline_stalled,
    "PipelineAbsent": _pipeline_absent,
    "PipelineRunOverdue": _run_overdue,
    "PipelineRunFailed": _run_failed,
}
