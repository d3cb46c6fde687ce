"""Rules about datasets: freshness, anomalies, schema and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.alerts import recorded
from otel_pipeline.alerts.expressions import growth, indent
from otel_pipeline.alerts.rules import Group, RecordRule, alert_rule, label

if TYPE_CHECKING:
    from otel_pipeline.alerts.rules import AlertRule
    from otel_pipeline.alerts.settings import Settings

__all__ = ["WINDOW", "group"]

#: For how long something that happened once is worth an alert.
WINDOW = "30m"

_DATASET = label("dataset")
_QUALITY = "/d/otel-pipeline-quality?var-dataset={{ $labels.dataset | urlquery }}"


def group(settings: Settings) -> Group:
    """Return what is recorded of datasets and the alerts about them."""
    series = (recorded.DATASET_UPDATE, recorded.DATASET_LIMIT)
    rules: list[RecordRule | AlertRule] = [
        *(RecordRule(one, one.with_parameters(settings.parameters)) for one in series),
        _stale(settings),
        _anomaly(
            settings,
            "DatasetVolumeAnomaly",
            '{metric="rows"}',
            f"{_DATASET} has an unusual number of rows",
            "the number of rows",
        ),
        _anomaly(
            settings,
            "DatasetNullAnomaly",
            '{metric=~"null_ratio:.+"}',
            f"{_DATASET} has an unusual share of nulls",
            label("metric"),
        ),
        # What has an alert of its own is left out.
        _anomaly(
            settings,
            "DatasetAnomaly",
            '{metric!~"rows|schema|null_ratio:.+"}',
            f"{label('metric')} of {_DATASET} is unusual",
            label("metric"),
        ),
        _happened(
            settings,
            "DatasetSchemaChanged",
            semconv.DATASET_SCHEMA_CHANGES.name,
            labels="dataset, kind",
            summary=f"The schema of {_DATASET} changed",
            description=f"Changes of the kind {label('kind')} in {_DATASET}",
        ),
        _happened(
            settings,
            "DatasetCheckFailed",
            semconv.DATASET_CHECKS.name + '{result="fail"}',
            labels="dataset, check",
            summary=f"{_DATASET} does not pass {label('check')}",
            description=f"Failures of the check {label('check')} of {_DATASET}",
        ),
        _happened(
            settings,
            "DatasetCheckError",
            semconv.DATASET_CHECKS.name + '{result="error"}',
            labels="dataset, check",
            summary=f"{label('check')} of {_DATASET} cannot be run",
            description=f"Errors of the check {label('check')} of {_DATASET} itself",
        ),
    ]
    return Group(
        "otel-pipeline-datasets",
        tuple(
            rule
            for rule in rules
            if isinstance(rule, RecordRule) or settings.alerts[rule.name].enabled
        ),
    )


def _stale(settings: Settings) -> AlertRule:
    return alert_rule(
        settings,
        "DatasetStale",
        f"time() - {recorded.DATASET_UPDATE.name}\n> on (dataset) {recorded.DATASET_LIMIT.name}",
        f"{_DATASET} is stale",
        f"The newest data of {_DATASET} is {{{{ $value | humanizeDuration }}}} old, older than its "
        "limit.",
        dashboard=_QUALITY,
    )


def _anomaly(settings: Settings, name: str, selector: str, summary: str, measure: str) -> AlertRule:
    score = f"last_over_time({semconv.DATASET_ANOMALY_SCORE.name}{selector}[{WINDOW}])"
    threshold = settings.alerts[name].need("threshold")
    return alert_rule(
        settings,
        name,
        f"max by (dataset, metric) ({score}) > {threshold:.12g}",
        summary,
        f"The anomaly score of {measure} is {{{{ $value | humanize }}}}, and everything above "
        f"{threshold:.12g} is not what the history of {_DATASET} lets expect.",
        dashboard=_QUALITY,
    )


def _happened(
    settings: Settings, name: str, selector: str, *, labels: str, summary: str, description: str
) -> AlertRule:
    return alert_rule(
        settings,
        name,
        f"sum by ({labels}) (\n{indent(growth(selector, WINDOW))}\n) > 0",
        summary,
        f"{description}, within {WINDOW}: {{{{ $value | humanize }}}}.",
        dashboard=_QUALITY,
    )
