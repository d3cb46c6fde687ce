"""Families as prometheus_client's own objects, for its registries and its pushgateway."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from otel_pipeline.metrics.snapshots import (
    EnumPoint,
    HistogramPoint,
    InfoPoint,
    SummaryPoint,
)

if TYPE_CHECKING:
    from otel_pipeline.metrics.snapshots import AnyPoint, Exemplar, Family

__all__ = ["metric"]


def metric(family: Family, *, samples: bool) -> Metric:
    """Return a family as prometheus_client's `Metric`.

    Args:
        family: The snapshot.
        samples: Whether to add its series.
    """
    kind = "stateset" if family.kind == "enum" else family.kind
    made = Metric(family.name, family.documentation, kind, family.unit)
    if samples:
        for point in family.points:
            _add(made, family, point)
    return made


def _add(made: Metric, family: Family, point: AnyPoint) -> None:
    name = family.name
    labels = dict(zip(family.labelnames, point.labels, strict=True))
    match point:
        case HistogramPoint():
            bounds = map(floatToGoString, (*family.bounds, float("inf")))
            counts = list(accumulate(point.counts))
            for bound, count, exemplar in zip(bounds, counts, point.exemplars, strict=True):
                made.add_sample(
                    f"{name}_bucket",
                    {**labels, "le": bound},
                    float(count),
                    None,
                    _exemplar(exemplar),
                )
            made.add_sample(f"{name}_count", labels, float(counts[-1]))
            if family.bounds[0] >= 0:
                made.add_sample(f"{name}_sum", labels, float(point.sum))
        case SummaryPoint():
            made.add_sample(f"{name}_count", labels, float(point.count))
            made.add_sample(f"{name}_sum", labels, float(point.sum))
        case InfoPoint():
            made.add_sample(f"{name}_info", {**labels, **point.info}, 1.0)
        case EnumPoint():
            for state in family.states:
                made.add_sample(name, {**labels, name: state}, float(state == point.state))
        case _:
            suffix = "_total" if family.kind == "counter" else ""
            made.add_sample(
                name + suffix, labels, float(point.value), None, _exemplar(point.exemplar)
            )


def _exemplar(exemplar: Exemplar | None) -> PrometheusExemplar | None:
    if exemplar is None:
        return None
    labels = dict(exemplar.labels)
    if exemplar.trace_id:
        labels |= {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
    return PrometheusExemplar(labels, exemplar.value, exemplar.time)
