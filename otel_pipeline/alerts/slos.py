"""Rules of objectives: error ratios over many windows, burn rates and the budget that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.alerts import recorded
from otel_pipeline.alerts.expressions import growth, indent
from otel_pipeline.alerts.rules import Group, RecordRule, alert_rule, label
from otel_pipeline.alerts.settings import BURN_RATES, quoted

if TYPE_CHECKING:
    from otel_pipeline.alerts.rules import AlertRule
    from otel_pipeline.alerts.settings import BurnRate, Settings, Slo

__all__ = ["MINIMUM_EVENTS", "groups"]

#: Fewer records or batches than these may fail within a long window without a word.
MINIMUM_EVENTS = 3

_OFTEN = ("5m", "30m", "1h", "2h", "6h")
_DASHBOARD = "/d/otel-pipeline-slo?var-pipeline={{ $labels.pipeline | urlquery }}"


def groups(settings: Settings) -> tuple[Group, ...]:
    """Return what is recorded of objectives and the alerts about them; nothing without objectives.

    The long windows are computed each two minutes: they change slowly, and cost most.
    """
    if not settings.slos:
        return ()
    basics: list[RecordRule] = []
    for pipeline, slo in settings.slos:
        basics += _basics(pipeline, slo)
    series = recorded.SLO_ERRORS
    often = [series[window] for window in _OFTEN]
    seldom = [one for window, one in series.items() if window not in _OFTEN]
    alerts = [
        _burn(settings, name, rates)
        for name, rates in BURN_RATES.items()
        if settings.alerts[name].enabled
    ]
    return (
        Group(
            "otel-pipeline-slo",
            (
                *basics,
                *(RecordRule(one, one.expression) for one in often),
                RecordRule(recorded.SLO_EVENTS["6h"], recorded.SLO_EVENTS["6h"].expression),
                *(rule for rule in alerts if rule.name == "ErrorBudgetBurnFast"),
            ),
        ),
        Group(
            "otel-pipeline-slo-long",
            (
                *(RecordRule(one, one.expression) for one in seldom),
                RecordRule(recorded.SLO_EVENTS["3d"], recorded.SLO_EVENTS["3d"].expression),
                RecordRule(recorded.SLO_BUDGET, recorded.SLO_BUDGET.expression),
                *(rule for rule in alerts if rule.name == "ErrorBudgetBurnSlow"),
            ),
            interval=120,
        ),
    )


def _basics(pipeline: str, slo: Slo) -> list[RecordRule]:
    """Return the rules for what is counted: what an objective is about, and what is not good."""
    selector = f'{{pipeline="{quoted(pipeline)}"}}'
    if slo.kind == "records":
        total = recorded.RECORDS_RATE.name + selector
        bad = recorded.ERRORS_RATE.name + selector
    elif slo.kind == "latency":
        total, bad = _latency(pipeline, slo)
    else:
        age = recorded.SINCE_SUCCESS.name + selector
        total = f"{age} * 0 + 1"
        if slo.seconds is None:
            bad = f"{age} > bool on (pipeline) {recorded.EXPECTED_INTERVAL.name}"
        else:
            bad = f"{age} > bool {slo.seconds:.12g}"
    labels = {"pipeline": pipeline, "slo": slo.kind}
    return [
        RecordRule(recorded.SLO_OBJECTIVE, f"vector({slo.objective:.9g})", labels),
        RecordRule(recorded.SLO_TOTAL, total, labels),
        RecordRule(recorded.SLO_BAD, bad, labels),
    ]


def _latency(pipeline: str, slo: Slo) -> tuple[str, str]:
    buckets = f'{semconv.PROCESSING_DURATION.name}_bucket{{pipeline="{quoted(pipeline)}",le='

    def rate(le: str) -> str:
        return f"sum by (pipeline) (\n{indent(growth(buckets + le + '}', '5m'))}\n) / 300"

    total = rate('"+Inf"')
    # A scrape says `5` or `5.0`, as its format is.
    bound = f"{slo.seconds:g}".replace(".", "[.]")
    within = rate(f'~"{bound}([.]0)?"')
    return total, f"{total}\n-\n{within}"


def _burn(settings: Settings, name: str, rates: tuple[BurnRate, ...]) -> AlertRule:
    parts = [_too_fast(rate) for rate in rates]
    events = recorded.SLO_EVENTS["6h" if name == "ErrorBudgetBurnFast" else "3d"].name
    either = "\nor\n".join(f"  (\n{indent(indent(part))}\n  )" for part in parts)
    words = " or ".join(f"{rate.rate:g} times over {rate.long} and {rate.short}" for rate in rates)
    return alert_rule(
        settings,
        name,
        f"(\n{either}\n)\nunless on (pipeline, slo) {events} < {MINIMUM_EVENTS}",
        f"{label('pipeline')} burns its error budget for {label('slo')}",
        f"The objective for {label('slo')} of {label('pipeline')} is missed in "
        f"{{{{ $value | humanizePercentage }}}} of its records, batches or time. Its budget for 30 "
        f"days burns too fast: {words}.",
        dashboard=_DASHBOARD,
    )


def _too_fast(burn: BurnRate) -> str:
    budget = f"({burn.rate:g} * (1 - {recorded.SLO_OBJECTIVE.name}))"
    return (
        f"{recorded.SLO_ERRORS[burn.long].name} > {budget}\n"
        f"and {recorded.SLO_ERRORS[burn.short].name} > {budget}"
    )
