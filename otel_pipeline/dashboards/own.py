"""A dashboard of a program's own metrics, from what its `/metrics` page says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from otel_pipeline.dashboards.model import PROMETHEUS, Dashboard, Query, Row
from otel_pipeline.dashboards.panels import heatmap, lines, states, table
from otel_pipeline.dashboards.parts import JOB, values_of
from otel_pipeline.dashboards.promql import (
    buckets,
    largest,
    mean,
    quantile,
    rate,
    selector,
    sum_by,
    variable,
)
from otel_pipeline.semconv import ALL_METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from otel_pipeline.dashboards.model import Panel

__all__ = ["OWN_UID", "Instrument", "instruments_of", "own_dashboard"]

OWN_UID: Final = "otel-pipeline-own"

Kind = Literal["counter", "gauge", "histogram", "summary", "info", "enum"]

_CHOSEN: Final = variable("job")
#: Grafana's units by the ends of metric names.
_UNITS: Final = {
    "bytes": "bytes",
    "celsius": "celsius",
    "hertz": "hertz",
    "joules": "joule",
    "meters": "lengthm",
    "ratio": "percentunit",
    "seconds": "s",
    "timestamp_seconds": "dateTimeFromNow",
    "volts": "volt",
}
#: Units of what grows by a unit a second; seconds a second are a share.
_RATES: Final = {"bytes": "Bps", "s": "percentunit"}
_KINDS: Final[dict[str, Kind]] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "info": "info",
    "stateset": "enum",
    "summary": "summary",
    "unknown": "gauge",
}
_TITLES: Final[dict[Kind, str]] = {
    "counter": "Counters",
    "gauge": "Gauges",
    "histogram": "Histograms",
    "summary": "Summaries",
    "enum": "States",
    "info": "Information",
}
#: What the series of a kind are called behind the metric's name.
_SERIES: Final[dict[Kind, str]] = {"histogram": "_count", "summary": "_count"}
#: The vocabulary has its own dashboards, and the resource stands on every page.
_NOT_OWN: Final = {
    "target",
    "target_info",
    *(spec.name.removesuffix("_total") for spec in ALL_METRICS),
}


@dataclass(frozen=True, slots=True)
class Instrument:
    """A metric of a program, as its page tells of it.

    Attributes:
        name: Its name in queries, with `_total` or `_info`, without `_bucket`, `_sum` and `_count`.
        kind: Its type.
        doc: Its help text.
        labels: Its label names.
    """

    name: str
    kind: Kind
    doc: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Grafana's unit of its values."""
        words = self.name.removesuffix("_total")
        ends = [end for end in _UNITS if words == end or words.endswith(f"_{end}")]
        return _UNITS[max(ends, key=len)] if ends else "short"


def instruments_of(page: str) -> tuple[Instrument, ...]:
    r"""Return the metrics of a `/metrics` page, but for those of the vocabulary.

    Args:
        page: In the text format of Prometheus or OpenMetrics.

    Raises:
        ValueError: It is no such page.

    Example:
        >>> from otel_pipeline.dashboards import instruments_of
        >>> page = '# TYPE orders_total counter\norders_total{shop="a"} 1'
        >>> [(found.name, found.kind, found.labels) for found in instruments_of(page)]
        [('orders_total', 'counter', ('shop',))]
    """
    # Imported when it is used: it takes as long as the rest of the command.
    from prometheus_client.openmetrics import parser as openmetrics  # noqa: PLC0415
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    is_openmetrics = page.rstrip().endswith("# EOF")
    read = (
        openmetrics.text_string_to_metric_families
        if is_openmetrics
        else (text_string_to_metric_families)
    )
    families = [family for family in read(page) if family.name not in _NOT_OWN]
    return tuple(_instrument(family) for family in families if family.type in _KINDS)


def _instrument(family: Metric) -> Instrument:
    samples = family.samples
    labels = {label for sample in samples for label in sample.labels}
    kind = _KINDS[family.type]
    name = family.name
    # The older format has no types for these two.
    if kind == "gauge" and name.endswith("_info"):
        kind = "info"
    elif kind == "gauge" and name in labels:
        kind = "enum"
    elif kind == "counter":
        name = samples[0].name if samples else f"{name}_total"
    elif kind == "info":
        name += "_info"
    return Instrument(
        name, kind, family.documentation, tuple(sorted(labels - {"le", "quantile", name}))
    )


def own_dashboard(instruments: Iterable[Instrument]) -> Dashboard:
    """Return a dashboard with a row for each kind of metric, and panels that fit the kind.

    Args:
        instruments: At least one metric, such as `instruments_of()` found.
    """
    found = tuple(instruments)
    first = found[0]
    job = replace(JOB, query=values_of(first.name + _SERIES.get(first.kind, ""), "job"))
    rows = (
        Row(title, tuple(panel for one in found if one.kind == kind for panel in _panels(one)))
        for kind, title in _TITLES.items()
    )
    return Dashboard(
        OWN_UID,
        "Pipelines: own metrics",
        "The metrics that your programs declare themselves.",
        (PROMETHEUS, job),
        tuple(row for row in rows if row.panels),
    )


def _panels(one: Instrument) -> tuple[Panel, ...]:  # noqa: PLR0911  one for each kind
    series = selector(one.name, _CHOSEN)
    legend = " ".join(f"{{{{{name}}}}}" for name in one.labels) or one.name
    doc = one.doc or f"The metric {one.name}."
    match one.kind:
        case "counter":
            query = Query(sum_by(one.labels, rate(series)), legend)
            unit = _RATES.get(one.unit, "cps")
            return (lines(f"{one.name}, per second", doc, query, unit=unit),)
        case "gauge":
            value = largest(one.labels, series)
            if one.unit == "dateTimeFromNow":
                query = Query(f"time() - {value}", legend)
                return (lines(f"{one.name}, its age", doc, query, unit="s"),)
            return (lines(one.name, doc, Query(value, legend), unit=one.unit, minimum=None),)
        case "histogram":
            p95 = quantile(0.95, one.name, one.labels, _CHOSEN)
            return (
                heatmap(
                    one.name,
                    doc,
                    Query(buckets(one.name, _CHOSEN), "{{le}}", format="heatmap", exemplars=True),
                    one.unit,
                ),
                lines(f"{one.name}, P95", doc, Query(p95, legend, exemplars=True), unit=one.unit),
            )
        case "summary":
            count = sum_by(one.labels, rate(selector(one.name, _CHOSEN, suffix="_count")))
            return (
                lines(
                    f"{one.name}, mean",
                    doc,
                    Query(mean(one.name, one.labels, _CHOSEN), legend),
                    unit=one.unit,
                ),
                lines(f"{one.name}, per second", doc, Query(count, legend), unit="cps"),
            )
        case "info":
            query = Query(largest(one.labels, series), instant=True, format="table")
            return (table(one.name, doc, query, columns={name: name for name in one.labels}),)
        case "enum":
            state = largest((*one.labels, one.name), f"{series} == 1")
            return (states(one.name, doc, Query(state, f"{legend} {{{{{one.name}}}}}".strip())),)
