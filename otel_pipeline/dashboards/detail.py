"""One pipeline and its stages: where do the time and the records go?"""

from __future__ import annotations

from otel_pipeline.dashboards.model import LOKI, PROMETHEUS, TEMPO, Dashboard, Query, Row, Text
from otel_pipeline.dashboards.panels import bars, heatmap, lines, logs
from otel_pipeline.dashboards.parts import (
    DETAIL,
    OF_PIPELINE,
    OF_STAGE,
    PIPELINE,
    STAGE,
    TO_LINES,
    TO_TRACES,
    bad_from,
    lines_of,
    warn_from,
)
from otel_pipeline.dashboards.promql import (
    buckets,
    equal,
    increase,
    largest,
    mean,
    quantile,
    rate,
    ratio,
    selector,
    sum_by,
)
from otel_pipeline.semconv import (
    EVENT_LAG,
    PROCESSING_DURATION,
    RECORDS_REJECTED,
    STAGE_DURATION,
    STAGE_RECORDS,
    LogField,
    Status,
)

__all__ = ["STAGES"]

_LINKS = (TO_TRACES, TO_LINES)
_CHOSEN = (OF_PIPELINE, OF_STAGE)
_STAGE = ("pipeline", "stage")
_NAMES = "{{pipeline}}: {{stage}}"
_TRACE = Text(
    "trace",
    "Trace",
    "A trace id, or its beginning: only its log lines are shown. Empty for all lines.",
)
# A line that came by OTLP has its trace beside it, one of stdout has it inside.
_BY_TRACE = " | ".join(
    (
        f'json trace_of_line="{LogField.TRACE_ID}"',
        "drop __error__, __error_details__",
        f"{LogField.TRACE_ID}=~`${{trace:regex}}.*` or trace_of_line=~`${{trace:regex}}.+`",
    )
)

_WHERE = Row(
    "Where the time and the records go",
    (
        bars(
            "Slowest stages, P95",
            "The ten stages whose P95 was the longest in the time shown.",
            Query(
                "topk(10, histogram_quantile(0.95, "
                + sum_by(
                    ["le", *_STAGE], increase(selector(STAGE_DURATION, *_CHOSEN, suffix="_bucket"))
                )
                + ") >= 0)",
                _NAMES,
                instant=True,
            ),
            unit="s",
            width=8,
            minimum=0,
            links=_LINKS,
        ),
        bars(
            "Stages with the most time",
            "The ten stages that together took the longest in the time shown: where to begin.",
            Query(
                "topk(10, "
                + sum_by(_STAGE, increase(selector(STAGE_DURATION, *_CHOSEN, suffix="_sum")))
                + ")",
                _NAMES,
                instant=True,
            ),
            unit="s",
            width=8,
            minimum=0,
            links=_LINKS,
        ),
        bars(
            "Records left out, by reason",
            "The ten reasons for which most records failed, were dropped or skipped.",
            Query(
                "topk(10, "
                + sum_by(["stage", "reason"], increase(selector(RECORDS_REJECTED, *_CHOSEN)))
                + ")",
                "{{stage}}: {{reason}}",
                instant=True,
            ),
            width=8,
            minimum=0,
            thresholds=warn_from(1),
            no_value="none",
            decimals=0,
        ),
        heatmap(
            "Duration of stages",
            "How many stages took how long. Each point is one: click it to see its trace.",
            Query(
                buckets(STAGE_DURATION, *_CHOSEN),
                "{{le}}",
                format="heatmap",
                exemplars=True,
            ),
            "s",
        ),
        lines(
            "Mean duration of batches",
            "Mean time of successful batches of each pipeline.",
            Query(
                mean(PROCESSING_DURATION, ["pipeline"], OF_PIPELINE),
                "{{pipeline}}",
            ),
            unit="s",
            width=6,
            links=_LINKS,
        ),
        lines(
            "Age of handled events",
            "How old events are when they are handled. A line that only rises: it falls behind.",
            Query(largest(["pipeline"], selector(EVENT_LAG, OF_PIPELINE)), "{{pipeline}}"),
            unit="s",
            width=6,
            links=_LINKS,
            no_value="no event lag is reported",
        ),
    ),
)

_EACH = Row(
    "Stage $stage",
    (
        lines(
            "Records per second by status",
            "What became of the records of this stage.",
            Query(
                sum_by(["pipeline", "status"], rate(selector(STAGE_RECORDS, *_CHOSEN))),
                "{{pipeline}}: {{status}}",
            ),
            unit="recps",
            stacked=True,
            width=6,
            height=7,
            links=_LINKS,
        ),
        lines(
            "Duration",
            "Median and P95 of this stage. Each point is one stage: click it to see its trace.",
            Query(
                quantile(0.5, STAGE_DURATION, ["pipeline"], *_CHOSEN),
                "{{pipeline}}: P50",
                exemplars=False,
            ),
            Query(
                quantile(0.95, STAGE_DURATION, ["pipeline"], *_CHOSEN),
                "{{pipeline}}: P95",
                exemplars=True,
            ),
            unit="s",
            width=6,
            height=7,
            links=_LINKS,
        ),
        lines(
            "Failed stages",
            "The share of stages that ended with an error.",
            Query(
                ratio(
                    sum_by(
                        ["pipeline"],
                        rate(
                            selector(
                                STAGE_DURATION,
                                equal("status", Status.ERROR),
                                *_CHOSEN,
                                suffix="_count",
                            )
                        ),
                    ),
                    sum_by(["pipeline"], rate(selector(STAGE_DURATION, *_CHOSEN, suffix="_count"))),
                ),
                "{{pipeline}}",
            ),
            unit="percentunit",
            thresholds=bad_from(0.05),
            width=6,
            height=7,
            links=_LINKS,
        ),
        lines(
            "Records left out per second, by reason",
            "Records that failed, were dropped or skipped in this stage.",
            Query(
                sum_by(["pipeline", "reason"], rate(selector(RECORDS_REJECTED, *_CHOSEN))),
                "{{pipeline}}: {{reason}}",
            ),
            unit="recps",
            stacked=True,
            width=6,
            height=7,
            links=_LINKS,
            no_value="none left out",
        ),
    ),
    repeat="stage",
)

_LOGS = Row(
    "Log lines",
    (
        logs(
            "Log lines of the trace",
            "Lines of the chosen pipelines; with a trace id above, only those of that trace.",
            lines_of(_BY_TRACE),
            height=12,
        ),
    ),
)

STAGES = Dashboard(
    DETAIL,
    "Pipelines: stages",
    "A pipeline and each of its stages: time, records, what was left out and why, log lines.",
    (PROMETHEUS, LOKI, TEMPO, PIPELINE, STAGE, _TRACE),
    (_WHERE, _EACH, _LOGS),
)
