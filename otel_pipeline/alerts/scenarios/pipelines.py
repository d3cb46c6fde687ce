"""Cases of alerts about a pipeline as a whole: that it is there, its runs and its queues."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from otel_pipeline import semconv
from otel_pipeline.alerts.scenarios.case import Case, Values, subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.alerts.settings import Settings

__all__ = ["CASES"]

_RECORDS: Final = semconv.RECORDS_PROCESSED.name
_INFO: Final = semconv.PIPELINE_INFO.name
_HOUR: Final = 3600
#: Seconds for which Prometheus takes the last sample of a series that did not say its end.
_LOOKBACK: Final = 300


def _pipeline_absent(settings: Settings) -> list[Case]:
    window = settings.parameters.window
    step = max(1, window // 10)
    found = []
    for pipeline, given, own in subjects(settings, "PipelineAbsent"):
        labels = {"pipeline": pipeline, "severity": given.severity}
        hold = given.need("hold")
        gone = ceil((window + _LOOKBACK + hold) / step) + 5
        until = window + _LOOKBACK + hold + 3 * step

        def case(name: str, own: bool = own, labels: Mapping[str, str] = labels) -> Case:  # noqa: FBT001
            return Case(
                name,
                "PipelineAbsent",
                step,
                {"pipeline": labels["pipeline"]},
                labels,
                own=own,
            )

        fires = case("it fires when a stream vanishes, and ends when it is back")
        for name, more in ((_RECORDS, {"status": "success"}), (_INFO, {"mode": "stream"})):
            rate = 5 if name == _RECORDS else 0
            values = Values(1).grow(rate, 20).ended(gone).grow(rate, 5)
            fires.given(values, name, **more, pipeline=pipeline, instance="a:9464")
        fires.quiet(20 * step, 20 * step + hold)
        fires.fires(20 * step + until).quiet((20 + gone + 3) * step)

        one = case("one process of several that vanishes is no absence")
        for instance in ("a:9464", "b:9464"):
            values = Values(1).grow(5, 20 + gone)
            if instance == "a:9464":
                values = Values(1).grow(5, 20).ended(gone)
            one.given(values, _RECORDS, pipeline=pipeline, status="success", instance=instance)
        one.quiet((20 + gone) * step)

        job = case("a batch job that has ended is not missed")
        for name, more in ((_RECORDS, {"status": "success"}), (_INFO, {"mode": "batch"})):
            values = Values(1).grow(5 if name == _RECORDS else 0, 20).ended(gone)
            job.given(values, name, **more, pipeline=pipeline)
        job.quiet(*(at * step for at in range(20, 20 + gone, 4)))
        if pipeline in settings.pipelines and settings.pipelines[pipeline].expected:
            # These two vanish like any other once they were seen, so they are only missed if never.
            never = case("one that never reported, and is expected, is missed")
            never.given(Values(1).flat(gone), "up", job="etl", instance="a:9464")
            never.fires(hold + 2 * step)
            found.append(never)
        found += [fires, one, job]
    return found


def _run_overdue(settings: Settings) -> list[Case]:
    step = 60
    found = []
    for pipeline, given, own in subjects(settings, "PipelineRunOverdue"):
        labels = {"pipeline": pipeline, "severity": given.severity}
        hold = given.need("hold")
        steps = ceil((_HOUR + hold) / step) + 10

        def case(name: str, own: bool = own, labels: Mapping[str, str] = labels) -> Case:  # noqa: FBT001
            return Case(
                name,
                "PipelineRunOverdue",
                step,
                {"pipeline": labels["pipeline"]},
                labels,
                own=own,
            )

        gone = case("it fires when a job whose process is gone does not come again, and then ends")
        after = (steps + 2) * step
        gone.given(
            Values(60).flat(5).ended(steps - 5).at(after).flat(5),
            semconv.LAST_SUCCESS.name,
            pipeline=pipeline,
            instance="a:9464",
        )
        gone.given(
            Values(_HOUR).flat(5).ended(steps - 5).at(_HOUR).flat(5),
            semconv.EXPECTED_INTERVAL.name,
            pipeline=pipeline,
            instance="a:9464",
        )
        gone.quiet(0, _HOUR - step, _HOUR).fires(60 + _HOUR + hold + 2 * step).quiet(after)

        never = case("one that never succeeded is overdue, too")
        never.given(Values(_HOUR).flat(steps), semconv.EXPECTED_INTERVAL.name, pipeline=pipeline)
        never.quiet(_HOUR - step).fires(_HOUR + hold + 2 * step)

        several = case("the newest success of several processes counts")
        for instance, at in (("a:9464", 60), ("b:9464", _HOUR)):
            several.given(
                Values(at).flat(steps),
                semconv.LAST_SUCCESS.name,
                pipeline=pipeline,
                instance=instance,
            )
        several.given(
            Values(2 * _HOUR + hold).flat(steps), semconv.EXPECTED_INTERVAL.name, pipeline=pipeline
        )
        several.quiet(steps * step)

        silent = case("one without an interval is never overdue")
        silent.given(Values(60).flat(steps), semconv.LAST_SUCCESS.name, pipeline=pipeline)
        silent.quiet(steps * step)
        found += [gone, never, several, silent]
    return found


def _run_failed(settings: Settings) -> list[Case]:
    step = 60
    found = []
    for pipeline, given, own in subjects(settings, "PipelineRunFailed"):
        labels = {"pipeline": pipeline, "severity": given.severity}
        hold = given.need("hold")
        bad = ceil(hold / step) + 3

        def case(name: str, own: bool = own, labels: Mapping[str, str] = labels) -> Case:  # noqa: FBT001
            return Case(
                name,
                "PipelineRunFailed",
                step,
                {"pipeline": labels["pipeline"]},
                labels,
                own=own,
            )

        after = (5 + bad) * step
        fires = case("it fires when a run fails, and ends with the next that succeeds")
        fires.given(
            Values(1).flat(4).at(0).flat(bad - 1).at(1).flat(5),
            semconv.LAST_RUN_SUCCESS.name,
            pipeline=pipeline,
        )
        fires.given(
            Values(30).flat(4).at(300).flat(bad - 1).at(after).flat(5),
            semconv.LAST_RUN.name,
            pipeline=pipeline,
        )
        fires.given(
            Values(30).flat(3 + bad).flat(1).at(after).flat(5),
            semconv.LAST_SUCCESS.name,
            pipeline=pipeline,
        )
        fires.quiet(0, 4 * step).fires(5 * step + hold + step).quiet(after + step)

        other = case("a run that failed long ago in another process does not count")
        for instance, success, at in (("a:9464", 0, 60), ("b:9464", 1, 600)):
            own_labels = {"pipeline": pipeline, "instance": instance}
            steps = 20 + bad
            other.given(Values(success).flat(steps), semconv.LAST_RUN_SUCCESS.name, **own_labels)
            other.given(Values(at).flat(steps), semconv.LAST_RUN.name, **own_labels)
            if success:
                other.given(Values(at).flat(steps), semconv.LAST_SUCCESS.name, **own_labels)
        other.quiet((20 + bad) * step)
        found += [fires, other]
    return found


def _queue_growing(settings: Settings) -> list[Case]:
    given = settings.alerts["QueueGrowing"]
    window, hold = settings.parameters.window, given.need("hold")
    step = max(1, window // 10)
    rate = max(1.0, given.need("threshold"))
    labels = {"pipeline": "orders", "queue_name": "inbox", "severity": given.severity}
    about = {"queue_name": "inbox"}
    steps = ceil((7 * window + hold) / step) + 5

    def case(name: str) -> Case:
        one = Case(name, "QueueGrowing", step, about, labels)
        return one.given(
            Values(1).flat(steps + 10),
            semconv.QUEUE_INFO.name,
            pipeline="orders",
            queue_name="inbox",
        )

    fires = case("it fires for a queue that only grows, and ends when it is empty")
    size = semconv.QUEUE_SIZE.name
    values = Values(0).grow(rate, steps).at(0).flat(9)
    fires.given(values, size, queue_name="inbox", instance="a:9464")
    fires.quiet(4 * window - step, 4 * window + hold - 2 * step)
    fires.fires(7 * window + hold + 2 * step).quiet((steps + 5) * step)
    long = case("a long queue that stays as it is is no alert")
    long.given(Values(100 * rate).flat(steps), size, queue_name="inbox")
    long.quiet(steps * step)
    return [fires, long]


CASES: Final[Mapping[str, Callable[[Settings], list[Case]]]] = {
    "PipelineAbsent": _pipeline_absent,
    "PipelineRunOverdue": _run_overdue,
    "PipelineRunFailed": _run_failed,
    "QueueGrowing": _queue_growing,
}
