"""What a collect returns: frozen values that readers turn into a page or a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.semconv import Kind

__all__ = [
    "AnyPoint",
    "EnumPoint",
    "Exemplar",
    "Family",
    "HistogramPoint",
    "InfoPoint",
    "Point",
    "SummaryPoint",
]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One measurement that stands for many.

    Attributes:
        value: What was measured.
        time: When, in seconds since 1970.
        trace_id: 32 hex digits of the span around it, or empty.
        span_id: 16 hex digits, or empty.
        labels: What the user gave as `exemplar=`, in order.
    """

    value: float
    time: float
    trace_id: str = ""
    span_id: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """The value of one series of a counter or gauge.

    Attributes:
        labels: Label values, in the order of the family's label names.
        value: The total or the last value.
        start: When counting began, in nanoseconds since 1970.
        exemplar: A counter's last exemplar.
        changed: When a gauge was last set, in seconds since 1970; 0.0 for never in this process.
    """

    labels: tuple[str, ...]
    value: float
    start: int
    exemplar: Exemplar | None = None
    changed: float = 0.0


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    """One series of a histogram.

    Attributes:
        labels: Label values, in the order of the family's label names.
        counts: Observations in each bucket, not cumulative; the last is above all bounds.
        sum: The sum of the observations.
        start: When counting began, in nanoseconds since 1970.
        exemplars: The last exemplar of each bucket.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    sum: float
    start: int
    exemplars: tuple[Exemplar | None, ...]


@dataclass(frozen=True, slots=True)
class SummaryPoint:
    """One series of a summary: `count` observations that add up to `sum`, since `start` (ns)."""

    labels: tuple[str, ...]
    count: int
    sum: float
    start: int


@dataclass(frozen=True, slots=True)
class InfoPoint:
    """One series of an info: its key-value pairs, beside the labels, and when they were set."""

    labels: tuple[str, ...]
    info: Mapping[str, str]
    changed: float = 0.0


@dataclass(frozen=True, slots=True)
class EnumPoint:
    """One series of an enum: the state that it is in, and since when."""

    labels: tuple[str, ...]
    state: str
    changed: float = 0.0


AnyPoint = Point | HistogramPoint | SummaryPoint | InfoPoint | EnumPoint


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series.

    Attributes:
        name: Prometheus's family name: a counter's is without `_total`, an info's without `_info`.
        kind: counter, gauge, histogram, summary, info or enum.
        documentation: The help text.
        unit: Prometheus's unit (`seconds`), or empty.
        labelnames: Label names, in order.
        points: One for each series, of the class that fits the kind.
        otel_name: The name in OpenTelemetry.
        otel_unit: The UCUM unit in OpenTelemetry, or empty.
        bounds: Finite upper bounds of a histogram's buckets.
        states: What an enum can be.
        multiprocess_mode: How a gauge's values of several processes become one.
        from_sdk: Whether an instrument of OpenTelemetry's own recorded it.
    """

    name: str
    kind: Kind
    documentation: str
    unit: str
    labelnames: tuple[str, ...]
    points: tuple[AnyPoint, ...]
    otel_name: str
    otel_unit: str
    bounds: tuple[float, ...] = ()
    states: tuple[str, ...] = ()
    multiprocess_mode: str = "mostrecent"
    from_sdk: bool = False
