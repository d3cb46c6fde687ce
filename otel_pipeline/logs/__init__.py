"""Logs: structlog lines and stdlib records in one form, stamped with the trace they belong to.

`configure()` sets all of it up. What it uses is public, so that an application that configures
structlog itself can take just the processors that it wants.
"""

from __future__ import annotations

from otel_pipeline.logs.datadog import add_datadog
from otel_pipeline.logs.handler import PipelineHandler
from otel_pipeline.logs.logger import get_logger
from otel_pipeline.logs.otlp import emit_otlp
from otel_pipeline.logs.processors import (
    add_logger_name,
    add_pipeline_context,
    add_service,
    add_timestamp,
    add_trace_context,
    order_fields,
    redact,
    rename_reserved,
    render_exception,
)
from otel_pipeline.logs.rendering import render_console, render_json
from otel_pipeline.logs.setup import set_up, tell_rest
from otel_pipeline.logs.values import plain_values
from otel_pipeline.logs.volume import Volume

__all__ = [
    "PipelineHandler",
    "Volume",
    "add_datadog",
    "add_logger_name",
    "add_pipeline_context",
    "add_service",
    "add_timestamp",
    "add_trace_context",
    "emit_otlp",
    "get_logger",
    "order_fields",
    "plain_values",
    "redact",
    "rename_reserved",
    "render_console",
    "render_exception",
    "render_json",
    "set_up",
    "tell_rest",
]
