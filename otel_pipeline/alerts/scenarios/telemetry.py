"""Cases of alerts about telemetry itself."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from otel_pipeline import semconv
from otel_pipeline.alerts.scenarios.case import Case, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.alerts.settings import Settings

__all__ = ["CASES"]

_TARGET: Final = {"job": "etl", "instance": "a:9464"}
_STEPS: Final = 10


def _step(settings: Settings) -> int:
    return max(1, settings.parameters.window // _STEPS)


def _case(settings: Settings, alert: str, name: str, **labels: str) -> Case:
    labels["severity"] = settings.alerts[alert].severity
    return Case(name, alert, _step(settings), {}, labels)


def _counted(
    alert: str,
    metric: str,
    given: Mapping[str, str],
    shown: Mapping[str, str],
    *,
    born: bool = True,
) -> Callable[[Settings], list[Case]]:
    """Return the cases of an alert that something was counted."""

    def cases(settings: Settings) -> list[Case]:
        step, hold = _step(settings), settings.alerts[alert].need("hold")
        on = ceil(hold / step) + 2
        after = 3 * _STEPS + 4
        fires = _case(settings, alert, "it fires when it is counted, and ends after", **shown)
        fires.given(Values(7).flat(4).grow(3, on).flat(after + 5), metric, **given)
        if not born:
            fires.quiet(4 * step)
        fires.fires(5 * step + hold + step).quiet((5 + on + 4 + after) * step)
        steady = _case(settings, alert, "what was counted long ago is none", **shown)
        long = ceil(hold / step) + 2 * after
        steady.given(Values(0).flat(long), metric, **given)
        return [fires, steady.quiet(*(at * step for at in range(0, long, 4)))]

    return cases


def _spooling(settings: Settings) -> list[Case]:
    step, hold = _step(settings), settings.alerts["TelemetrySpooling"].need("hold")
    on = ceil(hold / step) + 4
    shown = {"job": "etl", "signal": "traces"}
    name = semconv.ITEMS_PENDING.name
    fires = _case(settings, "TelemetrySpooling", "it fires when items wait long, and ends", **shown)
    fires.given(
        Values(0).flat(4).at(90).flat(on).at(0).flat(4),
        name,
        **_TARGET,
        signal="traces",
        where="disk",
    )
    fires.quiet(4 * step)
    if hold:
        fires.quiet(5 * step + hold - step)
    fires.fires(5 * step + hold + step).quiet((on + 8) * step)
    memory = _case(settings, "TelemetrySpooling", "what waits in memory is on its way", **shown)
    memory.given(Values(90).flat(on), name, **_TARGET, signal="traces", where="memory")
    return [fires, memory.quiet(on * step)]


def _queue_full(settings: Settings) -> list[Case]:
    given = settings.alerts["CollectorQueueFull"]
    step, hold = _step(settings), given.need("hold")
    on = ceil(hold / step) + 4
    shown = {"instance": "collector:8888", "exporter": "otlp_http/loki"}
    fires = _case(
        settings, "CollectorQueueFull", "it fires for a queue nearly full, and ends", **shown
    )
    fires.given(Values(1000).flat(on + 10), "otelcol_exporter_queue_capacity", **shown)
    fires.given(
        Values(0).flat(4).at(1000).flat(on).at(0).flat(4), "otelcol_exporter_queue_size", **shown
    )
    fires.quiet(4 * step).fires(5 * step + hold + step).quiet((on + 8) * step)
    quiet = _case(settings, "CollectorQueueFull", "a queue that is half as long is none", **shown)
    quiet.given(Values(1000).flat(on), "otelcol_exporter_queue_capacity", **shown)
    quiet.given(
        Values(500 * given.need("threshold")).flat(on), "otelcol_exporter_queue_size", **shown
    )
    lost = _case(settings, "CollectorQueueFull", "it fires when items are refused", **shown)
    lost.given(Values(0).grow(5, on + 4), "otelcol_exporter_enqueue_failed_spans_total", **shown)
    return [fires, quiet.quiet(on * step), lost.fires((on + 3) * step)]


def _scrape_failing(settings: Settings) -> list[Case]:
    step, hold = _step(settings), settings.alerts["ScrapeFailing"].need("hold")
    off = ceil(hold / step) + 4
    found = []
    for mode, name in (
        ("stream", "it fires when a stream does not answer, and ends when it does"),
        ("batch", "a batch job that has ended need not answer"),
    ):
        case = _case(settings, "ScrapeFailing", name, **_TARGET, pipeline="orders")
        case.given(Values(1).flat(4).at(0).flat(off).at(1).flat(4), "up", **_TARGET)
        case.given(
            Values(1).flat(4).ended(off + 5),
            semconv.PIPELINE_INFO.name,
            **_TARGET,
            pipeline="orders",
            mode=mode,
        )
        at = 5 * step + hold + step
        case.quiet(4 * step, (off + 8) * step)
        found.append(case.fires(at) if mode == "stream" else case.quiet(at))
    return found


def _watchdog(settings: Settings) -> list[Case]:
    case = _case(settings, "Watchdog", "it always fires")
    case.given(Values(1).flat(9), "up", **_TARGET)
    return [case.fires(0, 5 * case.step)]


CASES: Final[Mapping[str, Callable[[Settings], list[Case]]]] = {
    "TelemetryLost": _counted(
        "TelemetryLost",
        semconv.ITEMS.name,
        {**_TARGET, "signal": "logs", "outcome": "dropped"},
        {"job": "etl", "signal": "logs", "outcome": "dropped"},
    ),
    "TelemetrySpooling": _spooling,
    "CardinalityOverflow": _counted(
        "CardinalityOverflow",
        semconv.LABEL_OVERFLOW.name,
        {**_TARGET, "metric": "orders_total"},
        {"job": "etl", "metric": "orders_total"},
    ),
    "CollectorQueueFull": _queue_full,
    "ScrapeFailing": _scrape_failing,
    "SampleLimitHit": _counted(
        "SampleLimitHit",
        "prometheus_target_scrapes_exceeded_sample_limit_total",
        {"job": "stack", "instance": "localhost:9090"},
        {"job": "stack", "instance": "localhost:9090"},
        born=False,
    ),
    "Watchdog": _watchdog,
}
