"""Cases of alerts about error budgets, for each objective that was declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline import semconv
from otel_pipeline.alerts.scenarios.case import Case, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.alerts.settings import Settings, Slo

__all__ = ["CASES"]

_STEP: Final = 60
_HOUR: Final = 3600
#: Steps of a good time, of a bad one that is long enough for every objective, and of a good one
#: after which the short windows are good again.
_GOOD, _BAD, _AGAIN = 30, 80, 45


def _cases(alert: str) -> Callable[[Settings], list[Case]]:
    def cases(settings: Settings) -> list[Case]:
        found = []
        for pipeline, slo in settings.slos:
            labels = {
                "pipeline": pipeline,
                "slo": slo.kind,
                "severity": settings.alerts[alert].severity,
            }
            about = {"pipeline": pipeline, "slo": slo.kind}
            fires = Case(
                f"it fires when the budget for {slo.kind} burns", alert, _STEP, about, labels
            )
            _SERIES[slo.kind](fires, pipeline, slo, bad=_BAD)
            fires.quiet(_GOOD * _STEP).fires((_GOOD + _BAD) * _STEP)
            if alert == "ErrorBudgetBurnFast":
                fires.quiet((_GOOD + _BAD + _AGAIN - 1) * _STEP)
            well = Case(f"no budget for {slo.kind} burns", alert, _STEP, about, labels)
            _SERIES[slo.kind](well, pipeline, slo, bad=0)
            well.quiet((_GOOD + _AGAIN - 1) * _STEP)
            found += [fires, well]
            if slo.kind == "records":
                few = Case("one failure of two records is none", alert, _STEP, about, labels)
                for status in ("success", "error"):
                    few.given(
                        Values(0).flat(_GOOD).at(1).flat(_AGAIN),
                        semconv.RECORDS_PROCESSED.name,
                        pipeline=pipeline,
                        status=status,
                    )
                found.append(few.quiet(*((_GOOD + at) * _STEP for at in range(1, _AGAIN, 4))))
        return found

    return cases


def _records(case: Case, pipeline: str, _slo: Slo, *, bad: int) -> None:
    for status, values in (
        ("success", Values(0).grow(100, _GOOD).flat(bad).grow(100, _AGAIN)),
        ("error", Values(0).flat(_GOOD).grow(100, bad).flat(_AGAIN)),
    ):
        case.given(values, semconv.RECORDS_PROCESSED.name, pipeline=pipeline, status=status)


def _latency(case: Case, pipeline: str, slo: Slo, *, bad: int) -> None:
    name = semconv.PROCESSING_DURATION.name + "_bucket"
    within = Values(0).grow(20, _GOOD).flat(bad).grow(20, _AGAIN)
    every = Values(0).grow(20, _GOOD + bad + _AGAIN)
    case.given(within, name, pipeline=pipeline, le=f"{slo.seconds:g}")
    case.given(every, name, pipeline=pipeline, le="+Inf")


def _freshness(case: Case, pipeline: str, slo: Slo, *, bad: int) -> None:
    limit = slo.seconds or _HOUR
    steps = _GOOD + bad + _AGAIN
    if slo.seconds is None:
        case.given(Values(limit).flat(steps), semconv.EXPECTED_INTERVAL.name, pipeline=pipeline)
    # The last success is so long ago that it becomes too old when the good time ends.
    start = (_GOOD + 1) * _STEP - limit
    case.given(
        Values(start).flat(_GOOD + bad).grow(0, 0).at((_GOOD + bad) * _STEP).flat(_AGAIN)
        if bad
        else Values(0).grow(_STEP, steps),
        semconv.LAST_SUCCESS.name,
        pipeline=pipeline,
    )


_SERIES: Final = {"records": _records, "latency": _latency, "freshness": _freshness}

CASES: Final[Mapping[str, Callable[[Settings], list[Case]]]] = {
    "ErrorBudgetBurnFast": _cases("ErrorBudgetBurnFast"),
    "ErrorBudgetBurnSlow": _cases("ErrorBudgetBurnSlow"),
}
