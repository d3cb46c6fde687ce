"""The health of telemetry itself: is something lost on the way, and where?"""

from __future__ import annotations

from otel_pipeline.dashboards import foreign
from otel_pipeline.dashboards.model import PROMETHEUS, Dashboard, Query, Row
from otel_pipeline.dashboards.panels import gauge, lines, number, states
from otel_pipeline.dashboards.parts import RATIO, bad_from, warn_from
from otel_pipeline.dashboards.promql import (
    equal,
    largest,
    one_of,
    or_zero,
    rate,
    ratio,
    selector,
    sum_by,
)
from otel_pipeline.semconv import (
    ITEMS,
    ITEMS_PENDING,
    ITEMS_PRODUCED,
    ITEMS_RECOVERED,
    LABEL_OVERFLOW,
    LOGS_SUPPRESSED,
)

__all__ = ["HEALTH"]

_SIGNAL = ("signal",)
_LOST = one_of("outcome", ["rejected", "dropped"])
# Of what has been taken over or made, where is each item now?
_MADE, _RECOVERED, _ENDED, _PENDING = (
    sum_by(_SIGNAL, selector(metric))
    for metric in (ITEMS_PRODUCED, ITEMS_RECOVERED, ITEMS, ITEMS_PENDING)
)
_UNKNOWN = f"{_MADE} + {_RECOVERED} - {_ENDED} - {_PENDING}"


def _by_items(metric: str, *labels: str) -> tuple[Query, ...]:
    """Return a query of the collector's items for each signal."""
    named = "".join(f" {{{{{name}}}}}" for name in labels)
    return tuple(
        Query(sum_by(labels, rate(selector(f"{metric}_{items}"))), f"{signal}{named}")
        for signal, items in foreign.COLLECTOR_ITEMS.items()
    )


_LEDGER = Row(
    "Pipelines: what became of their telemetry",
    (
        number(
            "Lost items per second",
            "Spans, data points and log records that were dropped, or that the receiver rejected.",
            Query(sum_by([], rate(selector(ITEMS, _LOST)))),
            unit="cps",
            thresholds=bad_from(0.001),
            no_value="0",
        ),
        number(
            "Waiting on disk",
            "Items in the spool: the collector is or was away, and they will be sent.",
            Query(sum_by([], selector(ITEMS_PENDING, equal("where", "disk")))),
            thresholds=warn_from(1),
            no_value="0",
        ),
        number(
            "Waiting in memory",
            "Items in queues. More than 2,048 of a signal and process is a full queue.",
            Query(sum_by([], selector(ITEMS_PENDING, equal("where", "memory")))),
            thresholds=warn_from(2048),
            no_value="0",
        ),
        number(
            "Unaccounted items",
            "Made and taken over, but neither delivered, rejected, dropped nor waiting. Never far "
            "from 0: only what is on its way at the moment of a scrape.",
            Query(f"sum({_UNKNOWN})"),
        ),
        number(
            "Label overflow per second",
            "Uses of label sets beyond the cardinality limit, which were folded into __other__.",
            Query(sum_by([], rate(selector(LABEL_OVERFLOW)))),
            unit="cps",
            thresholds=warn_from(0.001),
            no_value="0",
        ),
        number(
            "Suppressed log lines per second",
            "Log lines that a rate limit or sampling kept back.",
            Query(sum_by([], rate(selector(LOGS_SUPPRESSED)))),
            unit="cps",
            no_value="0",
        ),
        lines(
            "Items produced per second",
            "Spans, data points sent by OTLP, and log records that pipelines make.",
            Query(sum_by(_SIGNAL, rate(selector(ITEMS_PRODUCED))), "{{signal}}"),
            Query(
                sum_by(_SIGNAL, rate(selector(ITEMS_RECOVERED))), "{{signal}} recovered from disk"
            ),
            unit="cps",
            width=8,
        ),
        lines(
            "Items per second by outcome",
            "Where items ended: delivered, rejected by the receiver, or dropped.",
            Query(sum_by(("signal", "outcome"), rate(selector(ITEMS))), "{{signal}} {{outcome}}"),
            unit="cps",
            width=8,
        ),
        lines(
            "Waiting items",
            "In memory and on disk. A line that only rises: nothing takes them.",
            Query(sum_by(("signal", "where"), selector(ITEMS_PENDING)), "{{signal}}: {{where}}"),
            width=8,
        ),
        lines(
            "Suppressed log lines per second by event",
            "Which events a rate limit or sampling kept back; the next line of each says how many.",
            Query(sum_by(("event",), rate(selector(LOGS_SUPPRESSED))), "{{event}}"),
            unit="cps",
        ),
        lines(
            "Label overflow per second by metric",
            "Which metrics have more label sets than the limit. Their totals stay right.",
            Query(sum_by(("metric",), rate(selector(LABEL_OVERFLOW))), "{{metric}}"),
            unit="cps",
        ),
    ),
)

_FULL = ratio(
    largest(("exporter",), selector(foreign.QUEUE_SIZE)),
    largest(("exporter",), selector(foreign.QUEUE_CAPACITY)),
)

_COLLECTOR = Row(
    "Collector",
    (
        states(
            "Targets that answer",
            "What Prometheus scrapes. A batch job that has ended is no target that is down.",
            Query(largest(("job", "instance"), selector(foreign.UP)), "{{job}} {{instance}}"),
            mappings={"0": ("no answer", "red"), "1": ("up", "green")},
            height=6,
        ),
        gauge(
            "Fullest queue",
            "How full the fullest queue of an exporter is. At 100 % senders are told to wait.",
            Query(f"max({_FULL})"),
            thresholds=bad_from(0.9, warn=0.7),
            height=6,
            decimals=1,
            **RATIO,
        ),
        number(
            "Failed sends per second",
            "Items that an exporter could not send and gave up, or that found its queue full.",
            Query(
                " + ".join(
                    f"({or_zero(sum_by([], rate(selector(f'{metric}_{items}'))))})"
                    for metric in (foreign.EXPORTER_SEND_FAILED, foreign.EXPORTER_ENQUEUE_FAILED)
                    for items in foreign.COLLECTOR_ITEMS.values()
                )
            ),
            unit="cps",
            thresholds=bad_from(0.001),
            height=6,
        ),
        number(
            "Uptime",
            "How long the youngest collector has run. It was restarted if this is short.",
            Query(f"min({selector(foreign.UPTIME)})", instant=True),
            unit="s",
            height=6,
        ),
        lines(
            "Accepted per second",
            "What receivers took.",
            *_by_items(foreign.RECEIVER_ACCEPTED, "receiver"),
            unit="cps",
            width=8,
        ),
        lines(
            "Refused per second",
            "What receivers refused: memory or a queue is full. Pipelines keep it and try again.",
            *_by_items(foreign.RECEIVER_REFUSED, "receiver"),
            unit="cps",
            thresholds=bad_from(1),
            width=8,
        ),
        lines(
            "Sent per second",
            "What exporters delivered to the backends.",
            *_by_items(foreign.EXPORTER_SENT, "exporter"),
            unit="cps",
            width=8,
        ),
        lines(
            "Queues of exporters",
            "How full each queue is. One that only fills: its backend is away or too slow.",
            Query(_FULL, "{{exporter}}"),
            thresholds=bad_from(0.9, warn=0.7),
            **RATIO,
        ),
        lines(
            "Memory",
            "Resident memory of each collector.",
            Query(largest(("instance",), selector(foreign.MEMORY)), "{{instance}}"),
            unit="bytes",
        ),
    ),
)

HEALTH = Dashboard(
    "otel-pipeline-health",
    "Pipelines: telemetry health",
    "Whether spans, metrics and log lines arrive: in the pipelines, and in the collector.",
    (PROMETHEUS,),
    (_LEDGER, _COLLECTOR),
)
