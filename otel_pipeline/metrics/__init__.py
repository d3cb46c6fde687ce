"""Instruments with prometheus_client's signatures, and the registry that reads them."""

from otel_pipeline.metrics.instruments import (
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    from_spec,
)
from otel_pipeline.metrics.registry import REGISTRY, Registry

__all__ = [
    "REGISTRY",
    "Counter",
    "Enum",
    "Gauge",
    "Histogram",
    "Info",
    "Registry",
    "Summary",
    "from_spec",
]
