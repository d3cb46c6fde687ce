"""The recorded series: what dashboards and alerts ask for, computed once.

Names are `level:metric:operations`, as Prometheus recommends. Where a name has a window, that is
the default; who sets another keeps the name, since dashboards know the series by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Final

from otel_pipeline import semconv
from otel_pipeline.alerts.expressions import duration, growth, indent
from otel_pipeline.semconv import Status

if TYPE_CHECKING:
    from otel_pipeline.semconv import MetricSpec

__all__ = ["ALL_RECORDED", "DEFAULTS", "SLO_WINDOWS", "Parameters", "Recorded", "active"]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Times that expressions of recorded series depend on, in seconds.

    Attributes:
        window: Over which rates, ratios and quantiles are taken.
        long_window: Over which pipelines with little traffic are judged.
        stalled_after: Without records for as long, a pipeline is stalled.
        memory: For as long after its last success, or a dataset's last update, something that has
            vanished is expected to come back.
    """

    window: int = 300
    long_window: int = 3600
    stalled_after: int = 600
    memory: int = 35 * 86400


DEFAULTS: Final = Parameters()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded series.

    Attributes:
        name: Its name.
        labels: Its labels, all of them.
        doc: What it says.
        template: Its expression, with `$window` and other names for what `Parameters` has. Empty
            for a series that is made of the objectives that someone declares.
    """

    name: str
    labels: tuple[str, ...]
    doc: str
    template: str = ""

    @property
    def expression(self) -> str:
        """Its expression, with the default windows."""
        return self.with_parameters(DEFAULTS)

    def with_parameters(self, parameters: Parameters) -> str:
        """Return its expression with windows of your own.

        Example:
            >>> print(ERRORS_RATIO.with_parameters(Parameters(window=60)))
            pipeline:errors:rate5m
            /
            (pipeline:records:rate5m > 0)
        """
        return Template(self.template).substitute(
            window=duration(parameters.window),
            window_seconds=parameters.window,
            long_window=duration(parameters.long_window),
            stalled_after=parameters.stalled_after,
            memory=parameters.memory,
        )


_W = "$window"
_ERROR: Final = f'{{status="{Status.ERROR}"}}'
#: How far back a series looks for its own last value: Prometheus may have been away for as long.
_OWN: Final = "1d"


def _records(suffix: str, window: str) -> str:
    """Return the growth of a pipeline's records: of its batches, else of its busiest stage."""
    of_batches = growth(semconv.RECORDS_PROCESSED.name + suffix, window)
    of_stages = growth(semconv.STAGE_RECORDS.name + suffix, window)
    return (
        f"sum by (pipeline) (\n{indent(of_batches)}\n)\n"
        "or\n"
        f"max by (pipeline) (\n  sum by (pipeline, stage) (\n{indent(indent(of_stages))}\n  )\n)"
    )


def active(window: str) -> str:
    """Return the pipelines of which a record was counted within a window, in a batch or a stage."""
    return (
        f"sum by (pipeline) (\n{indent(growth(semconv.RECORDS_PROCESSED.name, window))}\n) > 0\n"
        "or\n"
        f"sum by (pipeline) (\n{indent(growth(semconv.STAGE_RECORDS.name, window))}\n) > 0"
    )


def _newest(metric: MetricSpec, name: str, label: str) -> str:
    """Return the newest time stamp, also when the series that had it is gone.

    The series looks at itself as it was a moment ago. So no rule has to read weeks of samples.
    """
    return (
        f"max by ({label}) (\n"
        f"  last_over_time({metric.name}[{_W}])\n"
        f"  or (last_over_time({name}[{_OWN}]) > time() - $memory)\n"
        ")"
    )


def _kept(metric: MetricSpec, name: str, label: str, reporting: str, memory: str) -> str:
    """Return a limit that someone declared, also when the series that had it is gone.

    It is forgotten with the time stamp that it is about, and when what declared it reports on
    without it.
    """
    return (
        f"max by ({label}) (last_over_time({metric.name}[{_W}]))\n"
        "or\n"
        f"last_over_time({name}[{_OWN}])\n"
        f"  and on ({label}) ({memory})\n"
        f"  unless on ({label}) {reporting}"
    )


RECORDS_RATE: Final = Recorded(
    "pipeline:records:rate5m",
    ("pipeline",),
    "Records a second, of all statuses: of the pipeline's batches, or, where it has none, of the "
    "stage with the most.",
    f"(\n{indent(_records('', _W))}\n) / $window_seconds",
)
ERRORS_RATE: Final = Recorded(
    "pipeline:errors:rate5m",
    ("pipeline",),
    "Records a second that failed, counted where `pipeline:records:rate5m` is counted.",
    f"(\n{indent(_records(_ERROR, _W))}\n) / $window_seconds\nor\n{RECORDS_RATE.name} * 0",
)
ERRORS_RATIO: Final = Recorded(
    "pipeline:errors:ratio_rate5m",
    ("pipeline",),
    "Share of the records that failed, from 0 to 1; absent without traffic.",
    f"{ERRORS_RATE.name}\n/\n({RECORDS_RATE.name} > 0)",
)
RECORDS_LONG: Final = Recorded(
    "pipeline:records:increase1h",
    ("pipeline",),
    "Records within the last hour.",
    _records("", "$long_window"),
)
ERRORS_LONG: Final = Recorded(
    "pipeline:errors:increase1h",
    ("pipeline",),
    "Records within the last hour that failed.",
    f"{_records(_ERROR, '$long_window')}\nor\n{RECORDS_LONG.name} * 0",
)
_BUCKETS: Final = growth(semconv.PROCESSING_DURATION.name + "_bucket", _W)
LATENCY: Final = Recorded(
    "pipeline:processing_duration_seconds:p95_rate5m",
    ("pipeline",),
    "Seconds within which 95 % of the batches ended.",
    f"histogram_quantile(\n  0.95,\n  sum by (pipeline, le) (\n{indent(indent(_BUCKETS))}\n  )\n)",
)
LAST_SUCCESS: Final = Recorded(
    "pipeline:last_success_timestamp_seconds:max",
    ("pipeline",),
    "Unix time of the last successful run, also when the process that had it is gone.",
    _newest(semconv.LAST_SUCCESS, "pipeline:last_success_timestamp_seconds:max", "pipeline"),
)
LAST_RUN: Final = Recorded(
    "pipeline:last_run_timestamp_seconds:max",
    ("pipeline",),
    "Unix time of the end of the last run, also when the process that had it is gone.",
    _newest(semconv.LAST_RUN, "pipeline:last_run_timestamp_seconds:max", "pipeline"),
)
SINCE_SUCCESS: Final = Recorded(
    "pipeline:seconds_since_success",
    ("pipeline",),
    "Seconds since the last successful run, also when the process that had it is gone.",
    f"time() - {LAST_SUCCESS.name}",
)
FIRST_SEEN: Final = Recorded(
    "pipeline:first_seen_timestamp_seconds:min",
    ("pipeline",),
    "Unix time at which a pipeline first said in which interval it is expected to succeed.",
    "last_over_time(pipeline:first_seen_timestamp_seconds:min[1d]) > time() - $memory\n"
    "or\n"
    f"0 * group by (pipeline) ({semconv.EXPECTED_INTERVAL.name}) + time()",
)
EXPECTED_INTERVAL: Final = Recorded(
    "pipeline:expected_interval_seconds:max",
    ("pipeline",),
    "Seconds within which a pipeline is expected to succeed again, also when its process is gone.",
    _kept(
        semconv.EXPECTED_INTERVAL,
        "pipeline:expected_interval_seconds:max",
        "pipeline",
        f"group by (pipeline) ({semconv.PIPELINE_INFO.name})",
        f"{LAST_SUCCESS.name} or {FIRST_SEEN.name}",
    ),
)
REPORTING: Final = Recorded(
    "pipeline:reporting:info",
    ("pipeline",),
    "1 for each pipeline that Prometheus hears of.",
    f"group by (pipeline) ({semconv.PIPELINE_INFO.name})\n"
    "or\n"
    f"group by (pipeline) ({RECORDS_RATE.name})",
)
# Longer than records are seen for, which outlive their process by a window.
_BATCH: Final = (
    f'group by (pipeline) (last_over_time({semconv.PIPELINE_INFO.name}{{mode="batch"}}'
    "[$long_window]))"
)
WATCHED: Final = Recorded(
    "pipeline:watched:info",
    ("pipeline",),
    "1 for each pipeline that should have records all the time: a stream, and what has no runs.",
    "(\n"
    f"  group by (pipeline) ({RECORDS_RATE.name})\n"
    f'  or group by (pipeline) ({semconv.PIPELINE_INFO.name}{{mode="stream"}})\n'
    ")\n"
    f"unless on (pipeline) ({EXPECTED_INTERVAL.name} > $stalled_after)\n"
    f"unless on (pipeline) ({_BATCH} and on (pipeline) {LAST_RUN.name})",
)
LASTING: Final = Recorded(
    "pipeline:lasting:info",
    ("pipeline",),
    "1 for each pipeline that should have records all the time, and whose process should not end.",
    f"{WATCHED.name}\nunless on (pipeline) {_BATCH}",
)
_QUEUE_INFO: Final = semconv.QUEUE_INFO.name
QUEUE_SIZE: Final = Recorded(
    "queue:queue_size:sum",
    ("pipeline", "queue_name"),
    "Items that wait in a queue, over all processes, with its pipeline where that is known.",
    f"sum by (queue_name) ({semconv.QUEUE_SIZE.name})\n"
    f"  * on (queue_name) group_left (pipeline) group by (pipeline, queue_name) ({_QUEUE_INFO})\n"
    "or on (queue_name)\n"
    f"sum by (queue_name) ({semconv.QUEUE_SIZE.name})",
)
DATASET_UPDATE: Final = Recorded(
    "dataset:last_update_timestamp_seconds:max",
    ("dataset",),
    "Unix time of a dataset's newest data, also when the process that saw it is gone.",
    _newest(semconv.DATASET_LAST_UPDATE, "dataset:last_update_timestamp_seconds:max", "dataset"),
)
DATASET_LIMIT: Final = Recorded(
    "dataset:freshness_limit_seconds:max",
    ("dataset",),
    "Seconds after which a dataset is stale, also when the process that said so is gone.",
    _kept(
        semconv.DATASET_FRESHNESS_LIMIT,
        "dataset:freshness_limit_seconds:max",
        "dataset",
        f"group by (dataset) ({semconv.DATASET_LAST_UPDATE.name})",
        DATASET_UPDATE.name,
    ),
)

_SLO: Final = ("pipeline", "slo")
SLO_OBJECTIVE: Final = Recorded(
    "pipeline:slo_objective:ratio", _SLO, "The objective, from 0 to 1, such as 0.999."
)
SLO_BAD: Final = Recorded(
    "pipeline:slo_bad:rate5m",
    _SLO,
    "What counts against the objective: records or batches a second, or 1 while data is stale.",
)
SLO_TOTAL: Final = Recorded(
    "pipeline:slo_total:rate5m",
    _SLO,
    "What the objective is about: records or batches a second, or 1.",
)


def _slo_ratio(window: str) -> Recorded:
    # Sums over one window have the same number of samples above and below the line, so this is the
    # share of events, and not the mean of shares.
    bad, total = (f"sum_over_time({one.name}[{window}])" for one in (SLO_BAD, SLO_TOTAL))
    return Recorded(
        f"pipeline:slo_errors:ratio_rate{window}",
        _SLO,
        f"Share of the last {window} that counts against the objective; absent without traffic.",
        f"{bad}\n/\n({total} > 0)",
    )


#: The windows of burn rates, the shortest first; the last is that of the objective itself.
SLO_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")
SLO_ERRORS: Final = {
    "5m": Recorded(
        "pipeline:slo_errors:ratio_rate5m",
        _SLO,
        "Share of the last 5 minutes that counts against the objective; absent without traffic.",
        f"{SLO_BAD.name}\n/\n({SLO_TOTAL.name} > 0)",
    ),
    **{window: _slo_ratio(window) for window in SLO_WINDOWS[1:]},
}
#: How many events counted against an objective: a few may be no pattern. Steps of five minutes,
#: since each rate is that of five.
SLO_EVENTS: Final = {
    window: Recorded(
        f"pipeline:slo_bad:increase{window}",
        _SLO,
        f"Records or batches of the last {window} that count against the objective.",
        f'sum_over_time({SLO_BAD.name}{{slo!="freshness"}}[{window}:5m]) * 300',
    )
    for window in ("6h", "3d")
}
SLO_BUDGET: Final = Recorded(
    "pipeline:slo_error_budget:remaining_ratio",
    _SLO,
    "Share of the error budget of 30 days that is left; below 0 the objective is missed.",
    f"1 - {SLO_ERRORS['30d'].name} / (1 - {SLO_OBJECTIVE.name})",
)

#: Every recorded series; one that uses another comes after it.
ALL_RECORDED: Final = (
    RECORDS_RATE,
    ERRORS_RATE,
    ERRORS_RATIO,
    RECORDS_LONG,
    ERRORS_LONG,
    LATENCY,
    LAST_SUCCESS,
    LAST_RUN,
    SINCE_SUCCESS,
    FIRST_SEEN,
    EXPECTED_INTERVAL,
    REPORTING,
    WATCHED,
    LASTING,
    QUEUE_SIZE,
    DATASET_UPDATE,
    DATASET_LIMIT,
    SLO_OBJECTIVE,
    SLO_BAD,
    SLO_TOTAL,
    *SLO_ERRORS.values(),
    *SLO_EVENTS.values(),
    SLO_BUDGET,
)
