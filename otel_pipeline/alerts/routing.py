"""Alertmanager's configuration: who is told, in which company, and what silences what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.alerts.expressions import duration
from otel_pipeline.alerts.settings import SEVERITIES, literal

if TYPE_CHECKING:
    from otel_pipeline.alerts.settings import Settings

__all__ = ["INHIBIT_RULES", "alertmanager"]

_NAMED: Final = '{} =~ ".+"'


def _inhibit(source: list[str], target: list[str], *equal: str) -> dict[str, Any]:
    # Alertmanager takes two labels that are both missing for equal. So what must be equal must be
    # there.
    return {
        "source_matchers": [*source, *(_NAMED.format(label) for label in equal)],
        "target_matchers": [*target, *(_NAMED.format(label) for label in equal)],
        **({"equal": list(equal)} if equal else {}),
    }


_PAGES: Final = ['severity = "critical"']
_TICKETS: Final = ['severity =~ "warning|info"']

_NEED_THE_COLLECTOR: Final = (
    "PipelineAbsent",
    "PipelineStalled",
    "PipelineRunOverdue",
    "DatasetStale",
    "TelemetryLost",
    "TelemetrySpooling",
)

#: What silences what. No alert silences itself.
INHIBIT_RULES: Final = (
    # A pipeline that is gone has no records and no latency, and its process does not answer.
    _inhibit(
        ['alertname = "PipelineAbsent"'],
        ['alertname =~ "PipelineStalled|HighLatency|HighErrorRate|ScrapeFailing|QueueGrowing"'],
        "pipeline",
    ),
    # Who does not answer cannot be seen to have records.
    _inhibit(['alertname = "ScrapeFailing"'], ['alertname = "PipelineStalled"'], "pipeline"),
    # What runs late is not stalled, and that its last run failed is why.
    _inhibit(
        ['alertname = "PipelineRunOverdue"'],
        ['alertname =~ "PipelineStalled|PipelineRunFailed|LogRunFailed"'],
        "pipeline",
    ),
    # One says with numbers what the other says with lines.
    _inhibit(['alertname = "PipelineRunFailed"'], ['alertname = "LogRunFailed"'], "pipeline"),
    _inhibit(_PAGES, _TICKETS, "pipeline"),
    _inhibit(_PAGES, _TICKETS, "dataset"),
    # Data that is stale is old for its history, too.
    _inhibit(['alertname = "DatasetStale"'], ['alertname = "DatasetAnomaly"'], "dataset"),
    # While the collector does not take anything, what pipelines have to say does not arrive.
    _inhibit(
        ['alertname = "TelemetryTargetDown"', 'job = "collector"'],
        [f'alertname =~ "{"|".join(_NEED_THE_COLLECTOR)}"'],
    ),
    _inhibit(
        ['alertname = "CollectorQueueFull"'], ['alertname =~ "TelemetryLost|TelemetrySpooling"']
    ),
)


def alertmanager(settings: Settings) -> dict[str, Any]:
    """Return Alertmanager's configuration, as it stands in a file."""
    routing = settings.routing
    receivers = settings.receivers
    everywhere = [work.name for work in settings.planned_work if not work.pipelines]
    routes: list[dict[str, Any]] = [
        {
            "matchers": ['alertname = "Watchdog"'],
            "receiver": receivers["watchdog"].name,
            "group_by": ["alertname"],
            "group_wait": "0s",
            "group_interval": duration(min(60, routing.watchdog_interval)),
            "repeat_interval": duration(routing.watchdog_interval),
        }
    ]
    for pipelines, names in _worked_on(settings):
        matcher = f'pipeline =~ "{"|".join(map(literal, pipelines))}"'
        routes += _by_severity(settings, [matcher], [*names, *everywhere])
    routes += _by_severity(settings, [], everywhere)
    config: dict[str, Any] = {
        "route": {
            "receiver": receivers["info"].name,
            "group_by": list(routing.group_by),
            "group_wait": duration(routing.group_wait),
            "group_interval": duration(routing.group_interval),
            "repeat_interval": duration(routing.repeat_interval),
            "routes": routes,
        },
        "inhibit_rules": list(INHIBIT_RULES),
        "receivers": [
            {"name": name, **dict(given)}
            for name, given in {one.name: one.settings for one in receivers.values()}.items()
        ],
    }
    if settings.planned_work:
        config["time_intervals"] = [
            {"name": work.name, "time_intervals": [dict(one) for one in work.times]}
            for work in settings.planned_work
        ]
    return config


def _worked_on(settings: Settings) -> list[tuple[list[str], list[str]]]:
    """Return pipelines with the names of the times at which they are worked on, without overlap."""
    times: dict[str, list[str]] = {}
    for work in settings.planned_work:
        for pipeline in work.pipelines:
            times.setdefault(pipeline, []).append(work.name)
    groups: dict[tuple[str, ...], list[str]] = {}
    for pipeline, names in times.items():
        groups.setdefault(tuple(names), []).append(pipeline)
    return [(pipelines, list(names)) for names, pipelines in groups.items()]


def _by_severity(settings: Settings, matchers: list[str], muted: list[str]) -> list[dict[str, Any]]:
    # Child routes do not inherit when they are mute, so each says it.
    return [
        {
            "matchers": [*matchers, f'severity = "{severity}"'],
            "receiver": settings.receivers[severity].name,
            **({"mute_time_intervals": muted} if muted else {}),
        }
        for severity in SEVERITIES
    ]
