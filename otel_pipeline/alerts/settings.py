"""What can be set about alerts, with the defaults; `reading.py` reads it from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.alerts.recorded import Parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BURN_RATES",
    "DEFAULTS",
    "PER_PIPELINE",
    "SEVERITIES",
    "SLOS",
    "Alert",
    "BurnRate",
    "Links",
    "PipelineSettings",
    "PlannedWork",
    "Receiver",
    "Routing",
    "Settings",
    "Slo",
]

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

#: The most urgent first: somebody is called, somebody looks tomorrow, it is on a page.
SEVERITIES: Final = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Alert:
    """The settings of one alert. Which of them it has, its default says: the others are None.

    Attributes:
        severity: One of `SEVERITIES`.
        enabled: Whether there is a rule for it.
        hold: Seconds for which the condition must hold (`for`).
        keep: Seconds for which the alert goes on when the condition has ended (`keep_firing_for`).
        threshold: What the value is compared with.
        after: Seconds without records after which a pipeline is stalled.
        minimum_records: Records within a window, under which a longer one is looked at.
        minimum_errors: Failed records within the longer window, under which there is no alert.
    """

    severity: str = "warning"
    enabled: bool = True
    hold: int | None = None
    keep: int | None = None
    threshold: float | None = None
    after: int | None = None
    minimum_records: int | None = None
    minimum_errors: int | None = None

    def need(self, name: str) -> Any:
        """Return a setting that this alert has.

        Raises:
            KeyError: It has none of this name.
        """
        value = getattr(self, name)
        if value is None:
            raise KeyError(name)
        return value


#: Every alert, with its defaults.
DEFAULTS: Final[Mapping[str, Alert]] = {
    "HighErrorRate": Alert(
        "critical",
        hold=5 * MINUTE,
        keep=3 * MINUTE,
        threshold=0.05,
        minimum_records=10,
        minimum_errors=3,
    ),
    "HighLatency": Alert(hold=5 * MINUTE, keep=3 * MINUTE, threshold=5.0),
    "PipelineStalled": Alert(after=10 * MINUTE),
    "PipelineAbsent": Alert("critical", hold=3 * MINUTE),
    "PipelineRunOverdue": Alert("critical", hold=MINUTE),
    "PipelineRunFailed": Alert(hold=0),
    "QueueGrowing": Alert(hold=10 * MINUTE, threshold=100.0),
    "ErrorBudgetBurnFast": Alert("critical"),
    "ErrorBudgetBurnSlow": Alert(),
    "DatasetStale": Alert(hold=MINUTE),
    "DatasetVolumeAnomaly": Alert(hold=0, threshold=1.0),
    "DatasetNullAnomaly": Alert(hold=0, threshold=1.0),
    "DatasetAnomaly": Alert(hold=0, threshold=1.0),
    "DatasetSchemaChanged": Alert(hold=0),
    "DatasetCheckFailed": Alert(hold=0),
    "DatasetCheckError": Alert(hold=0),
    "TelemetryLost": Alert(hold=0),
    "TelemetrySpooling": Alert(hold=15 * MINUTE),
    "CardinalityOverflow": Alert(hold=0),
    "CollectorQueueFull": Alert(hold=5 * MINUTE, threshold=0.8),
    "ScrapeFailing": Alert(hold=5 * MINUTE),
    "SampleLimitHit": Alert(hold=0),
    "Watchdog": Alert("info"),
    "LogErrorBurst": Alert(hold=0, threshold=20.0),
    "LogRunFailed": Alert(hold=0),
    "LogVolumeHigh": Alert(hold=10 * MINUTE, threshold=1_000_000.0),
}

#: The alerts that can have settings of their own for one pipeline.
PER_PIPELINE: Final = (
    "HighErrorRate",
    "HighLatency",
    "PipelineStalled",
    "PipelineAbsent",
    "PipelineRunOverdue",
    "PipelineRunFailed",
)


@dataclass(frozen=True, slots=True)
class BurnRate:
    """How fast a budget burns when an alert fires: at a rate of 1 it lasts for the 30 days.

    Attributes:
        rate: The rate.
        long: Over which it must be above.
        short: Over which it must be above too, so that the alert ends soon after the trouble.
    """

    rate: float
    long: str
    short: str


#: The burn rates of each alert about a budget, from "Alerting on SLOs" in Google's Site Reliability
#: Workbook, chapter 5: 2 % of the budget in an hour, 5 % in six, 10 % in a day and in three.
BURN_RATES: Final[Mapping[str, tuple[BurnRate, ...]]] = {
    "ErrorBudgetBurnFast": (BurnRate(14.4, "1h", "5m"), BurnRate(6, "6h", "30m")),
    "ErrorBudgetBurnSlow": (BurnRate(3, "1d", "2h"), BurnRate(1, "3d", "6h")),
}

#: What an objective can be about.
SLOS: Final = ("records", "latency", "freshness")


@dataclass(frozen=True, slots=True)
class Slo:
    """One objective of one pipeline.

    Attributes:
        kind: One of `SLOS`.
        objective: The share that should be good, above 0.93 and below 1.
        seconds: How long a batch may take, or how old the last success may be; for freshness None
            means the interval that the pipeline declares.
    """

    kind: str
    objective: float
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What is set for one pipeline.

    Attributes:
        expected: Whether it is missed even if it never reported.
        alerts: Settings of alerts that differ from those for all, complete.
        slos: Its objectives.
    """

    expected: bool = False
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    slos: tuple[Slo, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """Times at which nobody is told of what is expected to go wrong.

    Attributes:
        name: Alertmanager's name for them.
        times: Time intervals as Alertmanager writes them.
        pipelines: The pipelines that are worked on; none means everything.
    """

    name: str
    times: tuple[Mapping[str, Any], ...]
    pipelines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told.

    Attributes:
        name: Alertmanager's name for it.
        settings: What Alertmanager's receiver has besides its name, such as `webhook_configs`.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Links:
    """Where the links of an alert lead.

    Attributes:
        grafana: Grafana's base URL.
        runbook: The address of a runbook, with `{alert}` for the alert's name.
    """

    grafana: str = "http://localhost:3000"
    runbook: str = "http://localhost:8000/runbooks/{alert}.html"


@dataclass(frozen=True, slots=True)
class Routing:
    """How Alertmanager puts alerts together, in seconds.

    Attributes:
        group_by: Labels; alerts that agree in them make one message.
        group_wait: How long the first message waits for others.
        group_interval: How long the next message of a group waits.
        repeat_interval: After which a message is sent again.
        watchdog_interval: The same for `Watchdog`.
    """

    group_by: tuple[str, ...] = ("pipeline", "dataset")
    group_wait: int = 30
    group_interval: int = 5 * MINUTE
    repeat_interval: int = 4 * HOUR
    watchdog_interval: int = 5 * MINUTE


#: Who is told of what, unless a file says otherwise: four names, and nobody behind them.
RECEIVERS: Final = {role: Receiver(role) for role in (*SEVERITIES, "watchdog")}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set about alerts."""

    parameters: Parameters = field(default_factory=Parameters)
    alerts: Mapping[str, Alert] = field(default_factory=lambda: dict(DEFAULTS))
    pipelines: Mapping[str, PipelineSettings] = field(default_factory=dict)
    planned_work: tuple[PlannedWork, ...] = ()
    receivers: Mapping[str, Receiver] = field(default_factory=lambda: dict(RECEIVERS))
    routing: Routing = field(default_factory=Routing)
    links: Links = field(default_factory=Links)

    @property
    def slos(self) -> tuple[tuple[str, Slo], ...]:
        """All objectives, each with its pipeline."""
        return tuple(
            (name, slo) for name, pipeline in self.pipelines.items() for slo in pipeline.slos
        )

    def scopes(self, alert: str) -> list[tuple[str | None, str, Alert]]:
        """Return pipelines and their selectors, with the settings that an alert has for them.

        Args:
            alert: One of `PER_PIPELINE`.

        Returns:
            First None and the selector of all pipelines without settings of their own. Disabled
            ones are left out.
        """
        own = {
            name: pipeline.alerts[alert]
            for name, pipeline in self.pipelines.items()
            if alert in pipeline.alerts
        }
        others = f'{{pipeline!~"{"|".join(map(literal, own))}"}}' if own else ""
        if len(own) == 1:
            others = f'{{pipeline!="{quoted(*own)}"}}'
        found: list[tuple[str | None, str, Alert]] = [(None, others, self.alerts[alert])]
        found += [(name, f'{{pipeline="{quoted(name)}"}}', given) for name, given in own.items()]
        return [one for one in found if one[2].enabled]


def quoted(text: str) -> str:
    """Return a text as it stands between double quotes, in PromQL and in matchers."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def literal(text: str) -> str:
    """Return a regular expression between double quotes that matches a text and nothing else."""
    special = set("\\.+*?()|[]{}^$")
    return quoted("".join(f"\\{one}" if one in special else one for one in text))
