"""Cost: what do all these numbers, spans and lines amount to, and who makes them?"""

from __future__ import annotations

from otel_pipeline.dashboards import foreign
from otel_pipeline.dashboards.model import LOKI, PROMETHEUS, Dashboard, Query, Row
from otel_pipeline.dashboards.panels import bars, lines, number
from otel_pipeline.dashboards.parts import JOB, warn_from
from otel_pipeline.dashboards.promql import (
    counted,
    increase,
    largest,
    rate,
    selector,
    sum_by,
    variable,
)
from otel_pipeline.semconv import ITEMS_PRODUCED, LABEL_OVERFLOW

__all__ = ["COST"]

_CHOSEN = variable("job")
_EVERYTHING = f"{{{_CHOSEN}}}"
_BYTES = "sum by (service_name) (bytes_over_time({service_name=~`.+`} [$__auto]))"

_SERIES = Row(
    "Series",
    (
        number(
            "Series",
            "Series of the chosen jobs at this moment; Prometheus's memory grows with them.",
            Query(counted([], _EVERYTHING)),
            width=6,
        ),
        number(
            "Samples per scrape",
            "Samples of all scrapes of the chosen jobs together. What is pushed is not in it.",
            Query(sum_by([], selector(foreign.SCRAPE_SAMPLES, _CHOSEN))),
            width=6,
            no_value="nothing is scraped",
        ),
        number(
            "New series in this time",
            "Series that scrapes brought for the first time. Many: a label changes with each run.",
            Query(
                f"sum(sum_over_time({selector(foreign.SCRAPE_NEW_SERIES, _CHOSEN)}[$__range]))",
                instant=True,
            ),
            width=6,
            no_value="nothing is scraped",
        ),
        number(
            "Folded label sets in this time",
            "Uses of label sets beyond the limit, which were counted under __other__.",
            Query(sum_by([], increase(selector(LABEL_OVERFLOW, _CHOSEN))), instant=True),
            thresholds=warn_from(1),
            width=6,
            decimals=0,
            no_value="0",
        ),
        bars(
            "Series by metric",
            "The twenty metrics with most series. Take a label away from the first to save most.",
            Query(f"topk(20, {counted(['__name__'], _EVERYTHING)})", "{{__name__}}", instant=True),
            minimum=0,
            height=12,
        ),
        bars(
            "Series by pipeline",
            "The twenty pipelines with most series.",
            Query(
                f"topk(20, {counted(['pipeline'], f'{{{_CHOSEN},pipeline!=``}}')})",
                "{{pipeline}}",
                instant=True,
            ),
            minimum=0,
            height=12,
            width=6,
        ),
        bars(
            "Label overflow by metric",
            "Metrics with more label sets than the limit, by how often that was met.",
            Query(
                f"topk(20, {sum_by(['metric'], increase(selector(LABEL_OVERFLOW, _CHOSEN)))})",
                "{{metric}}",
                instant=True,
            ),
            minimum=0,
            height=12,
            width=6,
            thresholds=warn_from(1),
            no_value="none",
        ),
        lines(
            "Series by job",
            "A line that only rises: a label has a new value with each run.",
            Query(counted(["job"], _EVERYTHING), "{{job}}"),
        ),
        lines(
            "Duration of scrapes",
            "How long each target takes to answer. Beyond the timeout a scrape is lost.",
            Query(
                largest(["job", "instance"], selector(foreign.SCRAPE_DURATION, _CHOSEN)),
                "{{instance}}",
            ),
            unit="s",
            thresholds=warn_from(5),
            no_value="nothing is scraped",
        ),
    ),
)

_VOLUME = Row(
    "Spans and log lines",
    (
        lines(
            "Items produced per second by job",
            "Spans, data points sent by OTLP, and log records.",
            Query(
                sum_by(["job", "signal"], rate(selector(ITEMS_PRODUCED, _CHOSEN))),
                "{{job}} {{signal}}",
            ),
            unit="cps",
        ),
        lines(
            "Bytes of log lines by service",
            "What Loki took in, in each step of the graph.",
            Query(_BYTES, "{{service_name}}", source=LOKI),
            unit="bytes",
            stacked=True,
        ),
    ),
)

COST = Dashboard(
    "otel-pipeline-cost",
    "Pipelines: cost and cardinality",
    "Series, samples, spans and log lines, by who makes them.",
    (PROMETHEUS, LOKI, JOB),
    (_SERIES, _VOLUME),
)
