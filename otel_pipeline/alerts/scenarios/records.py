"""Cases of alerts about records: how many fail, how long they take, and that they go on."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from otel_pipeline import semconv
from otel_pipeline.alerts.scenarios.case import Case, Values, subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.alerts.settings import Alert, Settings

__all__ = ["CASES"]

_RECORDS: Final = semconv.RECORDS_PROCESSED.name
_STAGE_RECORDS: Final = semconv.STAGE_RECORDS.name
_BUCKET: Final = semconv.PROCESSING_DURATION.name + "_bucket"
#: Steps within a window.
_STEPS: Final = 10


def _high_error_rate(settings: Settings) -> list[Case]:
    found = []
    for pipeline, given, own in subjects(settings, "HighErrorRate"):
        found += _ErrorCases(settings, pipeline, given, own=own).all()
    return found


class _ErrorCases:
    """The cases of one pipeline's error rate."""

    def __init__(self, settings: Settings, pipeline: str, given: Alert, *, own: bool) -> None:
        self.pipeline, self.given, self.own = pipeline, given, own
        self.window = settings.parameters.window
        self.step = max(1, self.window // _STEPS)
        self.hold, self.keep = given.need("hold"), given.need("keep")
        self.threshold = given.need("threshold")
        # Records a step, so many that the short window is enough to judge.
        self.rate = max(10, 2 * ceil(given.need("minimum_records") * self.step / self.window) + 1)

    def all(self) -> list[Case]:
        return [
            self._fails_and_recovers(),
            self._stages_fail(),
            self._below_the_limit(),
            self._one_instance(),
            self._resets(),
            self._no_traffic(),
            self._vanishes(),
            *self._one_of_two(),
            *self._little_traffic(),
            *self._born(),
        ]

    def _case(self, name: str) -> Case:
        labels = {"pipeline": self.pipeline, "severity": self.given.severity}
        about = {"pipeline": self.pipeline}
        return Case(name, "HighErrorRate", self.step, about, labels, own=self.own)

    def _steps(self, seconds: float) -> int:
        return ceil(seconds / self.step)

    def _records(self, case: Case, success: Values, error: Values, **labels: str) -> Case:
        for status, values in (("success", success), ("error", error)):
            case.given(values, _RECORDS, **labels, pipeline=self.pipeline, status=status)
        return case

    def _trouble(self) -> tuple[int, int, int]:
        """Return the steps of a good time, of a bad one, and of a good one again."""
        bad = self._steps(self.hold + self.window) + 5
        return 2 * _STEPS, bad, self._steps(self.window + self.keep) + 5

    def _times(self, case: Case) -> Case:
        good, bad, _ = self._trouble()
        start, end = good * self.step, (good + bad) * self.step
        case.quiet(start)
        if self.hold:
            case.quiet(start + self.hold - self.step)
        case.fires(start + self.hold + self.window + 2 * self.step, end)
        return case.quiet(end + self.window + self.keep + 3 * self.step)

    def _fails_and_recovers(self) -> Case:
        good, bad, again = self._trouble()
        rate = self.rate
        return self._times(
            self._records(
                self._case("it fires when records fail, not before its time, and ends"),
                Values(1000).grow(rate, good).flat(bad).grow(rate, again),
                Values(0).flat(good).grow(rate, bad).flat(again),
                instance="a:9464",
                job="etl",
            )
        )

    def _stages_fail(self) -> Case:
        good, bad, again = self._trouble()
        rate = self.rate
        case = self._case("a pipeline without batches is judged by its stages")
        own = {"pipeline": self.pipeline, "stage": "load"}
        case.given(
            Values(1000).grow(rate, good).flat(bad).grow(rate, again),
            _STAGE_RECORDS,
            **own,
            status="success",
        )
        case.given(
            Values(0).flat(good).grow(rate, bad).flat(again), _STAGE_RECORDS, **own, status="error"
        )
        return self._times(case)

    def _below_the_limit(self) -> Case:
        steps = self._steps(self.hold + 3 * self.window)
        share = self.threshold / 2
        case = self._case("half of what is allowed is no alert")
        self._records(
            case,
            Values(0).grow(self.rate * (1 - share), steps),
            Values(0).grow(self.rate * share, steps),
        )
        return case.quiet(steps * self.step)

    def _one_instance(self) -> Case:
        steps = self._steps(self.hold + 3 * self.window)
        case = self._case("one failing instance counts for as much as it does")
        instances = [f"{number}:9464" for number in range(200)]
        share = 1 / 4 if self.threshold < 1 / 5 else self.threshold / 2
        good = Values(0).grow(self.rate * (1 - share), steps)
        self._records(case, good, Values(0).flat(steps), instance=instances[0])
        bad = Values(0).grow(self.rate * share, steps)
        self._records(case, Values(0).flat(steps), bad, instance=instances[1])
        check = case.fires if share > self.threshold else case.quiet
        return check(steps * self.step)

    def _resets(self) -> Case:
        steps = self._steps(self.hold + 2 * self.window + self.keep)
        case = self._case("a restarted process is no error")
        self._records(
            case,
            Values(1e6).grow(self.rate, steps).at(0).grow(self.rate, steps),
            Values(5e5).flat(steps).at(0).flat(steps),
        )
        # What it is first seen with is new, and counts within the first window.
        first = self._steps(self.window + self.keep) + 2
        return case.quiet(*(at * self.step for at in range(first, 2 * steps, _STEPS // 2)))

    def _no_traffic(self) -> Case:
        steps = self._steps(self.hold + 13 * self.window)
        case = self._case("without traffic there is no share")
        self._records(case, Values(0).flat(steps), Values(0).flat(steps))
        return case.quiet(steps * self.step)

    def _vanishes(self) -> Case:
        good, bad, _ = self._trouble()
        after = self._steps(3 * self.window + self.keep) + 6
        case = self._case("it ends when the series vanish")
        self._records(
            case,
            Values(0).grow(self.rate, good).flat(bad).gone(after),
            Values(0).flat(good).grow(self.rate, bad).gone(after),
        )
        end = (good + bad) * self.step
        return case.fires(end).quiet(end + 3 * self.window + self.keep + 5 * self.step)

    def _one_of_two(self) -> list[Case]:
        if self.given.need("minimum_records") <= 2 or self.given.need("minimum_errors") <= 1:  # noqa: PLR2004
            return []
        steps = self._steps(self.hold + 3 * self.window)
        case = self._case("one failure of two records is no alert")
        self._records(
            case,
            Values(0).flat(_STEPS).at(1).flat(steps),
            Values(0).flat(_STEPS).at(1).flat(steps),
        )
        return [case.quiet(*(at * self.step for at in range(_STEPS, steps, 2)))]

    def _little_traffic(self) -> list[Case]:
        records, errors = self.given.need("minimum_records"), self.given.need("minimum_errors")
        a_window = records / 2
        if not a_window or errors > 8 * a_window:
            return []
        until = (max(1, ceil(errors / a_window)) + 1) * self.window + self.hold + 2 * self.step
        steps = self._steps(until) + 2
        case = self._case("a pipeline with few records that all fail is heard of")
        error = Values(0).grow(a_window * self.step / self.window, steps)
        self._records(case, Values(0).flat(steps), error)
        if self.hold:
            case.quiet(self.hold - self.step)
        return [case.fires(until)]

    def _born(self) -> list[Case]:
        steps = self._steps(self.hold + 2 * self.window) + 4
        born = self._case("a counter that is first seen with errors, and gets more, is heard of")
        self._records(born, Values(None).gone(_STEPS), Values(None).gone(_STEPS))
        first = 10 * self.rate
        error = Values(None).gone(_STEPS).at(first).grow(self.rate, steps)
        success = Values(None).gone(_STEPS).at(1).flat(steps)
        self._records(born, success, error)
        at = (_STEPS + steps) * self.step
        return [born.fires(at)]


def _high_latency(settings: Settings) -> list[Case]:
    found = []
    for pipeline, given, own in subjects(settings, "HighLatency"):
        window, hold, keep = settings.parameters.window, given.need("hold"), given.need("keep")
        step = max(1, window // _STEPS)
        labels = {"pipeline": pipeline, "severity": given.severity}

        def case(name: str, own: bool = own, labels: Mapping[str, str] = labels) -> Case:  # noqa: FBT001
            about = {"pipeline": labels["pipeline"]}
            return Case(name, "HighLatency", step, about, labels, own=own)  # noqa: B023

        good, bad = 2 * _STEPS, ceil((hold + window) / step) + 5
        again = ceil((window + keep) / step) + 5
        start, end = good * step, (good + bad) * step
        fires = case("it fires when batches are slow, not before its time, and ends")
        _buckets(
            fires,
            pipeline,
            Values(0).grow(20, good).flat(bad).grow(20, again),
            Values(0).grow(20, good + bad + again),
            instance="a:9464",
        )
        fires.quiet(start)
        if hold:
            fires.quiet(start + hold - step)
        fires.fires(start + hold + window + 2 * step, end)
        fires.quiet(end + window + keep + 3 * step)
        few = case("2 of 100 batches that are slow are no alert")
        _buckets(few, pipeline, Values(0).grow(98, 40), Values(0).grow(100, 40))
        few.quiet(40 * step)
        idle = case("without batches there is no latency")
        _buckets(idle, pipeline, Values(100).flat(40), Values(200).flat(40))
        idle.quiet(40 * step)
        found += [fires, few, idle]
    return found


def _buckets(case: Case, pipeline: str, fast: Values, every: Values, **labels: str) -> None:
    """Add a histogram: fast batches are within the first bound, the others beyond the last."""
    for bound in semconv.PROCESSING_BOUNDS:
        case.given(fast, _BUCKET, **labels, pipeline=pipeline, le=f"{bound:g}")
    case.given(every, _BUCKET, **labels, pipeline=pipeline, le="+Inf")


def _pipeline_stalled(settings: Settings) -> list[Case]:
    found = []
    for pipeline, given, own in subjects(settings, "PipelineStalled"):
        found += _StallCases(settings, pipeline, given, own=own).all()
    return found


class _StallCases:
    """The cases of one pipeline that stops."""

    def __init__(self, settings: Settings, pipeline: str, given: Alert, *, own: bool) -> None:
        self.pipeline, self.given, self.own = pipeline, given, own
        self.after = given.need("after")
        # All files have one interval for all their tests, so it fits the shortest.
        shortest = min(one.need("after") for _, one, _ in subjects(settings, "PipelineStalled"))
        self.step = max(1, min(shortest, settings.parameters.window) // _STEPS)
        self.steps = ceil(self.after / self.step)

    def all(self) -> list[Case]:
        return [
            self._stops_and_goes_on(),
            self._stages_stop(),
            self._vanishes(),
            self._nothing_from_the_start(),
            self._a_stream_without_records(),
            self._slow(),
            self._resets(),
            self._nightly(),
            self._between_runs(),
        ]

    def _case(self, name: str) -> Case:
        labels = {"pipeline": self.pipeline, "severity": self.given.severity}
        about = {"pipeline": self.pipeline}
        return Case(name, "PipelineStalled", self.step, about, labels, own=self.own)

    def _own(self, **labels: str) -> dict[str, str]:
        return {**labels, "pipeline": self.pipeline}

    def _around(self, case: Case, stop: int) -> Case:
        """Say that it fires as long after the step of the last record as is set, and not before."""
        end = stop * self.step
        case.quiet(end, end + self.after - 2 * self.step)
        return case.fires(end + self.after + 2 * self.step)

    def _stops_and_goes_on(self) -> Case:
        start, stop = 2 * _STEPS, self.steps + 4
        case = self._case("it fires when records stop, at its time, and ends with the next")
        for instance in ("a:9464", "b:9464"):
            values = Values(50).grow(5, start).flat(stop).grow(5, 10)
            case.given(values, _RECORDS, **self._own(instance=instance, status="success"))
        return self._around(case, start).quiet((start + stop + 2) * self.step)

    def _stages_stop(self) -> Case:
        case = self._case("a pipeline without batches is judged by its stages")
        values = Values(50).grow(5, 20).flat(self.steps + 4)
        case.given(values, _STAGE_RECORDS, **self._own(stage="load", status="success"))
        return self._around(case, 20)

    def _vanishes(self) -> Case:
        case = self._case("it fires for a series that vanished")
        values = Values(50).grow(5, 20).gone(self.steps + 4)
        case.given(values, _RECORDS, **self._own(status="success"))
        return self._around(case, 20)

    def _nothing_from_the_start(self) -> Case:
        case = self._case("a new pipeline has as much time as any other")
        values = Values(None).gone(20).at(7).flat(self.steps + 4)
        case.given(values, _RECORDS, **self._own(status="success"))
        return self._around(case, 20)

    def _a_stream_without_records(self) -> Case:
        case = self._case("a stream that never had a record is heard of")
        case.given(
            Values(1).flat(self.steps + 4), semconv.PIPELINE_INFO.name, **self._own(mode="stream")
        )
        return self._around(case, 0)

    def _slow(self) -> Case:
        case = self._case("a record now and then is no stall")
        values = Values(0)
        for _ in range(4):
            values.grow(1, 1).flat(max(1, self.steps // 2))
        case.given(values, _RECORDS, **self._own(status="success"))
        return case.quiet(*(at * self.step for at in range(0, values.steps, 3)))

    def _resets(self) -> Case:
        case = self._case("a restarted process that goes on is no stall")
        values = Values(1000).grow(5, self.steps).at(0).grow(5, self.steps)
        case.given(values, _RECORDS, **self._own(status="success"))
        return case.quiet(*(at * self.step for at in range(0, values.steps, 3)))

    def _nightly(self) -> Case:
        case = self._case("a job that is expected once a day is not stalled between its runs")
        steps = 2 * self.steps + 10
        interval = max(86400, 2 * self.after)
        case.given(Values(50).flat(steps), _RECORDS, **self._own(status="success"))
        case.given(Values(interval).flat(steps), semconv.EXPECTED_INTERVAL.name, **self._own())
        return case.quiet(*(at * self.step for at in range(0, steps, 3)))

    def _between_runs(self) -> Case:
        case = self._case("a batch job whose run has ended is not stalled, there or gone")
        steps = 2 * self.steps + 10
        case.given(
            Values(0).grow(5, 5).flat(steps).ended(steps),
            _RECORDS,
            **self._own(status="success"),
        )
        case.given(
            Values(1).flat(5 + steps).ended(steps),
            semconv.PIPELINE_INFO.name,
            **self._own(mode="batch"),
        )
        case.given(
            Values(None).gone(6).at(5 * self.step).flat(steps).ended(steps),
            semconv.LAST_RUN.name,
            **self._own(),
        )
        return case.quiet(*(at * self.step for at in range(0, 5 + 2 * steps, 3)))


CASES: Final[Mapping[str, Callable[[Settings], list[Case]]]] = {
    "HighErrorRate": _high_error_rate,
    "HighLatency": _high_latency,
    "PipelineStalled": _pipeline_stalled,
}
