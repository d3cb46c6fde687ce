"""Observability for Python data pipelines, OpenTelemetry first.

Importing this package configures nothing, starts no thread and opens no port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline import errors
from otel_pipeline.errors import ConfigurationError, OtelPipelineError
from otel_pipeline.metrics import Counter, Enum, Gauge, Histogram, Info, Summary
from otel_pipeline.pipeline import Pipeline, current_run, current_stage
from otel_pipeline.telemetry import Telemetry, configure
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from otel_pipeline.logs import get_logger
    from otel_pipeline.sdk.last_values import push_to_gateway, write_to_textfile
    from otel_pipeline.sdk.metrics_server import start_http_server

__all__ = [
    "ConfigurationError",
    "Counter",
    "Enum",
    "Gauge",
    "Histogram",
    "Info",
    "OtelPipelineError",
    "Pipeline",
    "Summary",
    "Telemetry",
    "__version__",
    "configure",
    "current_run",
    "current_stage",
    "errors",
    "get_logger",
    "push_to_gateway",
    "start_http_server",
    "write_to_textfile",
]

#: Names that are loaded when they are first used, since they bring heavier libraries.
_LAZY = {
    "get_logger": "otel_pipeline.logs",
    "push_to_gateway": "otel_pipeline.sdk.last_values",
    "start_http_server": "otel_pipeline.sdk.metrics_server",
    "write_to_textfile": "otel_pipeline.sdk.last_values",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'otel_pipeline' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib  # noqa: PLC0415

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
