"""Rules about telemetry itself: what is lost, what waits, and who does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline import semconv
from otel_pipeline.alerts.expressions import duration, growth, indent
from otel_pipeline.alerts.rules import Group, alert_rule, label

if TYPE_CHECKING:
    from otel_pipeline.alerts.rules import AlertRule
    from otel_pipeline.alerts.settings import Settings

__all__ = ["FOREIGN_METRICS", "group"]

_QUEUE_SIZE: Final = "otelcol_exporter_queue_size"
_QUEUE_CAPACITY: Final = "otelcol_exporter_queue_capacity"
#: With and without `_total`: collectors have written both.
_REFUSED: Final = (
    '{__name__=~"otelcol_exporter_enqueue_failed_(spans|metric_points|log_records)(_total)?"}'
)
_OVER_LIMIT: Final = "prometheus_target_scrapes_exceeded_sample_limit_total"
_UP: Final = "up"

#: Metrics of others that rules ask for.
FOREIGN_METRICS: Final = (_QUEUE_SIZE, _QUEUE_CAPACITY, _OVER_LIMIT, _UP)

_HEALTH: Final = "/d/otel-pipeline-health"


def group(settings: Settings) -> Group:
    """Return the alerts about telemetry itself."""
    window = duration(3 * settings.parameters.window)
    rules = (
        _lost(settings, window),
        _spooling(settings),
        _overflow(settings, window),
        _collector_queue_full(settings, window),
        _scrape_failing(settings),
        _sample_limit_hit(settings, window),
        _watchdog(settings),
    )
    return Group(
        "otel-pipeline-telemetry",
        tuple(rule for rule in rules if settings.alerts[rule.name].enabled),
    )


def _lost(settings: Settings, window: str) -> AlertRule:
    ended = semconv.ITEMS.name + '{outcome=~"rejected|dropped"}'
    return alert_rule(
        settings,
        "TelemetryLost",
        f"sum by (job, signal, outcome) (\n{indent(growth(ended, window))}\n) > 0",
        f"{label('signal')} are lost",
        f"{{{{ $value | humanize }}}} {label('signal')} of {label('job')} were {label('outcome')} "
        f"within {window}.",
        dashboard=_HEALTH,
    )


def _spooling(settings: Settings) -> AlertRule:
    return alert_rule(
        settings,
        "TelemetrySpooling",
        f'sum by (job, signal) ({semconv.ITEMS_PENDING.name}{{where="disk"}}) > 0',
        f"{label('signal')} wait on disk",
        f"{{{{ $value | humanize }}}} {label('signal')} of {label('job')} wait on disk, since the "
        "collector does not take them.",
        dashboard=_HEALTH,
    )


def _overflow(settings: Settings, window: str) -> AlertRule:
    return alert_rule(
        settings,
        "CardinalityOverflow",
        f"sum by (job, metric) (\n{indent(growth(semconv.LABEL_OVERFLOW.name, window))}\n) > 0",
        f"{label('metric')} has too many label sets",
        f"{{{{ $value | humanize }}}} look-ups of {label('metric')} within {window} were folded "
        f"into {semconv.OTHER}.",
        dashboard="/d/otel-pipeline-cost",
    )


def _collector_queue_full(settings: Settings, window: str) -> AlertRule:
    threshold = settings.alerts["CollectorQueueFull"].need("threshold")
    return alert_rule(
        settings,
        "CollectorQueueFull",
        f"max by (instance, exporter) ({_QUEUE_SIZE} / {_QUEUE_CAPACITY}) > {threshold:.12g}\n"
        "or\n"
        f"sum by (instance, exporter) (increase({_REFUSED}[{window}])) > 0",
        f"The collector's queue for {label('exporter')} is full",
        f"The queue for {label('exporter')} is above {threshold:.0%} of its capacity, or items "
        f"were refused (share of the capacity, or items within {window}: "
        "{{ $value | humanize }}).",
        dashboard=_HEALTH,
    )


def _scrape_failing(settings: Settings) -> AlertRule:
    # Only of streams: that a job has ended is no fault. What never answered is a target that was
    # never there.
    return alert_rule(
        settings,
        "ScrapeFailing",
        f"({_UP} == 0)\n"
        "+ on (job, instance) group_right ()\n"
        "group by (job, instance, pipeline) (\n"
        f'  last_over_time({semconv.PIPELINE_INFO.name}{{mode="stream"}}[1d])\n'
        ")",
        f"{label('instance')} cannot be scraped",
        f"{_UP} of {label('instance')} ({label('job')}), where {label('pipeline')} runs, has "
        f"been 0 for {duration(settings.alerts['ScrapeFailing'].need('hold'))}.",
        dashboard=_HEALTH,
    )


def _sample_limit_hit(settings: Settings, window: str) -> AlertRule:
    return alert_rule(
        settings,
        "SampleLimitHit",
        f"sum by (job, instance) (increase({_OVER_LIMIT}[{window}])) > 0",
        "A target has more samples than it may have",
        f"{{{{ $value | humanize }}}} scrapes within {window} went over the limit of samples, and "
        "were thrown away whole.",
        dashboard=_HEALTH,
    )


def _watchdog(settings: Settings) -> AlertRule:
    return alert_rule(
        settings,
        "Watchdog",
        "vector(1) > 0",
        "Alerts arrive",
        "This alert always fires (its value is {{ $value }}). Whoever waits for it and hears "
        "nothing knows that alerts do not arrive.",
        dashboard=_HEALTH,
    )
