"""Cases of alerts about datasets."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from otel_pipeline import semconv
from otel_pipeline.alerts.scenarios.case import Case, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.alerts.settings import Settings

__all__ = ["CASES"]

_STEP: Final = 60
_HOUR: Final = 3600
#: Steps for which what happened once is an alert, and a little more.
_AFTER: Final = 30 + 3


def _case(settings: Settings, alert: str, name: str, **labels: str) -> Case:
    all_labels = {**labels, "dataset": "flights", "severity": settings.alerts[alert].severity}
    return Case(name, alert, _STEP, {"dataset": "flights"}, all_labels)


def _stale(settings: Settings) -> list[Case]:
    hold = settings.alerts["DatasetStale"].need("hold")
    steps = ceil((_HOUR + hold) / _STEP) + 10
    case = _case(settings, "DatasetStale", "it fires when nothing new comes, and ends when it does")
    after = (steps + 2) * _STEP
    for name, first, then in (
        (semconv.DATASET_LAST_UPDATE.name, 60, after),
        (semconv.DATASET_FRESHNESS_LIMIT.name, _HOUR, _HOUR),
    ):
        values = Values(first).flat(5).ended(steps - 5).at(then).flat(5)
        case.given(values, name, dataset="flights", instance="a:9464")
    case.quiet(0, _HOUR).fires(60 + _HOUR + hold + 2 * _STEP).quiet(after)
    free = _case(settings, "DatasetStale", "without a limit nothing is stale")
    free.given(Values(60).flat(steps), semconv.DATASET_LAST_UPDATE.name, dataset="flights")
    return [case, free.quiet(steps * _STEP)]


def _anomaly(alert: str, metric: str) -> Callable[[Settings], list[Case]]:
    def cases(settings: Settings) -> list[Case]:
        given = settings.alerts[alert]
        threshold, hold = given.need("threshold"), given.need("hold")
        bad = ceil(hold / _STEP) + 3
        case = _case(
            settings, alert, "it fires when the score is above, and ends after", metric=metric
        )
        score = semconv.DATASET_ANOMALY_SCORE.name
        low, high = threshold / 2, 2 * threshold + 1
        case.given(
            Values(low).flat(4).at(high).flat(bad).at(low).flat(_AFTER + 5),
            score,
            dataset="flights",
            metric=metric,
        )
        end = (6 + bad) * _STEP
        case.quiet(4 * _STEP).fires(5 * _STEP + hold + _STEP).quiet(end + _AFTER * _STEP)
        other = _case(settings, alert, "a score of something else is not its matter", metric=metric)
        for one in {"rows", "null_ratio:delay", "mean:delay", "schema"} - {metric}:
            if alert == "DatasetAnomaly" and one.startswith("mean"):
                continue
            other.given(Values(high).flat(20 + bad), score, dataset="flights", metric=one)
        return [case, other.quiet((20 + bad) * _STEP)]

    return cases


def _happened(alert: str, metric: str, **labels: str) -> Callable[[Settings], list[Case]]:
    def cases(settings: Settings) -> list[Case]:
        given = settings.alerts[alert]
        hold = given.need("hold")
        kept = {name: value for name, value in labels.items() if name != "result"}
        again = ceil(hold / _STEP) + 2
        case = _case(settings, alert, "it fires when it happens, and ends after", **kept)
        values = Values(0).flat(4).grow(1, again).flat(_AFTER + 5)
        case.given(values, metric, dataset="flights", **labels)
        end = (5 + again) * _STEP
        case.quiet(4 * _STEP).fires(5 * _STEP + hold).quiet(end + _AFTER * _STEP)
        born = _case(settings, alert, "it fires for a counter that is first seen with it", **kept)
        born.given(Values(None).gone(5).at(1).grow(1, again), metric, dataset="flights", **labels)
        born.quiet(4 * _STEP).fires(5 * _STEP + hold)
        never = _case(settings, alert, "what stays at 0 or goes back to it is none", **kept)
        never.given(
            Values(0).flat(80 + again), metric, dataset="flights", instance="a:9464", **labels
        )
        return [case, born, never.quiet((80 + again) * _STEP)]

    return cases


CASES: Final[Mapping[str, Callable[[Settings], list[Case]]]] = {
    "DatasetStale": _stale,
    "DatasetVolumeAnomaly": _anomaly("DatasetVolumeAnomaly", "rows"),
    "DatasetNullAnomaly": _anomaly("DatasetNullAnomaly", "null_ratio:delay"),
    "DatasetAnomaly": _anomaly("DatasetAnomaly", "mean:delay"),
    "DatasetSchemaChanged": _happened(
        "DatasetSchemaChanged", semconv.DATASET_SCHEMA_CHANGES.name, kind="column_removed"
    ),
    "DatasetCheckFailed": _happened(
        "DatasetCheckFailed", semconv.DATASET_CHECKS.name, check="unique", result="fail"
    ),
    "DatasetCheckError": _happened(
        "DatasetCheckError", semconv.DATASET_CHECKS.name, check="unique", result="error"
    ),
}
