"""Instruments with prometheus_client's signatures, and the registry that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from otel_pipeline.sdk.last_values import push_to_gateway, write_to_textfile

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
    "push_to_gateway",
    "write_to_textfile",
]


def __getattr__(name: str) -> Any:
    """Load what brings prometheus_client along when it is first used."""
    if name not in {"push_to_gateway", "write_to_textfile"}:
        raise AttributeError(f"module 'otel_pipeline.metrics' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    value = getattr(importlib.import_module("otel_pipeline.sdk.last_values"), name)
    globals()[name] = value
    return value
