"""Telemetry of the library and of its peers, set up alike: the same sink, the same batches."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import otel_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline import Telemetry

__all__ = ["LEAST_ITEMS", "MOST_ITEMS", "library", "plain_tracing", "span_processor"]

#: Fewest spans or log lines of a repetition: the first ones after a flush take longer.
LEAST_ITEMS: Final = 1_000
#: Most spans or log lines of a repetition. No batch is full or due before the flush after it, so
#: that nothing is exported while the calls are timed.
MOST_ITEMS: Final = 4_000
_QUEUE: Final = 4 * MOST_ITEMS
_DELAY: Final = 600.0  # seconds


@contextlib.contextmanager
def library(url: str | None, **options: Any) -> Iterator[Telemetry]:
    """Configure the library with `url` as its collector; without one, nothing is sent.

    What it prints goes to the null device: a system call for each line, as everywhere, and no disk.
    """
    if url is None:
        options |= {"traces_exporter": "none", "logs_exporter": "none"}
    settings = {
        "otlp_endpoint": url,
        "prometheus_port": 0,
        "signals": False,
        "spool_dir": "off",
        "log_format": "json",
        **{
            f"{items}_batch_{name}": value
            for items in ("span", "log")
            for name, value in {"max_queue": _QUEUE, "max_batch": _QUEUE, "delay": _DELAY}.items()
        },
        **options,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        otel_pipeline.configure("benchmark", environ={}, **given) as telemetry,
    ):
        yield telemetry


def span_processor(url: str) -> BatchSpanProcessor:
    """Return the SDK's own processor and exporter."""
    return BatchSpanProcessor(
        OTLPSpanExporter(endpoint=f"{url}/v1/traces"),
        max_queue_size=_QUEUE,
        max_export_batch_size=_QUEUE,
        schedule_delay_millis=_DELAY * 1000,
    )


@contextlib.contextmanager
def plain_tracing(processor: BatchSpanProcessor) -> Iterator[TracerProvider]:
    """Set the plain SDK up, beside the library and not instead of it."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    try:
        yield provider
    finally:
        provider.shutdown()
