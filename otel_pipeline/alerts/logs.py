"""Loki's rules: what log lines say that no metric does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.expressions import duration
from otel_pipeline.alerts.rules import Group, alert_rule, label
from otel_pipeline.semconv import Event, LogField

if TYPE_CHECKING:
    from otel_pipeline.alerts.rules import AlertRule
    from otel_pipeline.alerts.settings import Settings

__all__ = ["group"]

_STREAMS: Final = '{service_name=~".+"}'
_PIPELINE: Final = label("pipeline")
_OVERVIEW: Final = "/d/otel-pipeline-overview?var-pipeline={{ $labels.pipeline | urlquery }}"
# By OTLP the fields are structured metadata; what an agent read from stdout has them in the line.
# A line that is no JSON is no error, then.
_FIELDS: Final = (
    f'| json line_pipeline="{LogField.PIPELINE}", line_level="{LogField.LEVEL}"'
    " | drop __error__, __error_details__"
)
_UNIFY: Final = (
    "| label_format "
    "pipeline=`{{ or .pipeline .line_pipeline }}`, "
    "level=`{{ or .level .line_level .severity_text | lower }}`"
)


def group(settings: Settings) -> Group:
    """Return the alerts about log lines."""
    window = duration(settings.parameters.window)
    rules = (_burst(settings, window), _run_failed(settings, window), _volume(settings, window))
    return Group(
        "otel-pipeline-logs", tuple(rule for rule in rules if settings.alerts[rule.name].enabled)
    )


def _burst(settings: Settings, window: str) -> AlertRule:
    threshold = settings.alerts["LogErrorBurst"].need("threshold")
    return alert_rule(
        settings,
        "LogErrorBurst",
        "sum by (pipeline) (\n"
        f"  count_over_time(\n"
        f"    {_STREAMS}\n      {_FIELDS}\n      {_UNIFY}\n"
        f'      | level=~"error|critical|fatal" | pipeline!="" [{window}]\n'
        "  )\n"
        f") > {threshold:.12g}",
        f"{_PIPELINE} logs many errors",
        f"{_PIPELINE} logged {{{{ $value }}}} lines of the level error or above within {window}.",
        dashboard=_OVERVIEW,
    )


def _run_failed(settings: Settings, window: str) -> AlertRule:
    return alert_rule(
        settings,
        "LogRunFailed",
        "sum by (pipeline) (\n"
        f"  count_over_time(\n"
        f"    {_STREAMS} |= `{Event.RUN_FAILED}`\n      {_FIELDS}\n      {_UNIFY}\n"
        f'      | pipeline!="" [{window}]\n'
        "  )\n"
        ") > 0",
        f"A run of {_PIPELINE} failed",
        f"{_PIPELINE} logged {Event.RUN_FAILED} within {window}, {{{{ $value }}}} times.",
        dashboard="/d/otel-pipeline-runs?var-pipeline={{ $labels.pipeline | urlquery }}",
    )


def _volume(settings: Settings, window: str) -> AlertRule:
    threshold = settings.alerts["LogVolumeHigh"].need("threshold")
    return alert_rule(
        settings,
        "LogVolumeHigh",
        f"sum by (service_name) (bytes_rate({_STREAMS}[{window}])) > {threshold:.12g}",
        f"{label('service_name')} logs too much",
        f"{label('service_name')} logs {{{{ $value | humanize1024 }}}}B a second; the limit is "
        f"{threshold:.12g}.",
        dashboard="/d/otel-pipeline-cost",
    )
