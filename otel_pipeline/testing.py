"""Telemetry in memory, isolated per test: `capture()` and the pytest fixture `otel_capture`.

The same code runs as in production (providers, redaction, log processors, the metrics registry);
only the ends are lists.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_pipeline import clock as clocks
from otel_pipeline import lifecycle, logs, telemetry
from otel_pipeline.errors import CaptureError
from otel_pipeline.logs.json_line import Line
from otel_pipeline.metrics import REGISTRY
from otel_pipeline.redaction import Redactor
from otel_pipeline.sdk import providers
from otel_pipeline.sdk.log_records import LineProvider
from otel_pipeline.sdk.prometheus import Exposition
from otel_pipeline.sdk.sdk_reader import SnapshotReader
from otel_pipeline.sdk.spans import SpanCollector, redact_record, redact_span
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["Capture", "ManualClock", "capture"]


class ManualClock:
    """A clock that stands still until it is told to go on.

    Args:
        start: The time that it shows at first; naive ones are UTC.

    Example:
        >>> clock = ManualClock()
        >>> clock.advance(1.5)
        >>> clock.now().isoformat()
        '2026-01-01T00:00:01.500000+00:00'
    """

    def __init__(self, start: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) -> None:
        if start.tzinfo is None:
            start = start.replace(tzinfo=dt.UTC)
        since = start - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        self._ns = (since // dt.timedelta(microseconds=1)) * 1000

    def advance(self, seconds: float) -> None:
        """Go on by so many seconds."""
        self._ns += round(seconds * 1_000_000_000)

    def now(self) -> dt.datetime:
        """Return the time that it shows."""
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=self._ns // 1000)

    def time_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return self._ns

    def perf_counter(self) -> float:
        """Return seconds since 1970."""
        return self._ns / 1_000_000_000


class _CountingIds(IdGenerator):
    """Ids 1, 2, 3 and so on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans = self._traces = 0

    def generate_span_id(self) -> int:
        with self._lock:
            self._spans += 1
            return self._spans

    def generate_trace_id(self) -> int:
        with self._lock:
            self._traces += 1
            return self._traces


class Capture:
    """What was captured so far; made by `capture`.

    Attributes:
        spans: Ended spans, in the order in which they ended, redacted as they would be exported.
        log_records: OTLP log records, redacted as they would be exported.
        clock: The `ManualClock` that was asked for, or None.
    """

    def __init__(self, clock: ManualClock | None, redactor: Redactor) -> None:
        self.spans: list[ReadableSpan] = []
        self.log_records: list[ReadableLogRecord] = []
        self.clock = clock
        self._redactor = redactor
        self._lines = io.StringIO()
        self._reader = SnapshotReader()
        self._exposition = Exposition(lambda: REGISTRY.collect(touched_only=True))
        self._exposition.attach(self._reader, None)
        self._last: str | None = None

    def _add_span(self, span: ReadableSpan) -> None:
        self.spans.append(redact_span(span, self._redactor))

    def _add_record(self, record: ReadableLogRecord) -> None:
        self.log_records.append(redact_record(record, self._redactor))

    def span(self, name: str) -> ReadableSpan:
        """Return the one ended span of this name.

        Raises:
            CaptureError: There is none, or more than one.
        """
        found = [span for span in self.spans if span.name == name]
        if len(found) != 1:
            names = ", ".join(sorted({span.name for span in self.spans})) or "none"
            message = f"{len(found)} spans are called {name!r}; ended spans: {names}"
            raise CaptureError(message)
        return found[0]

    @property
    def lines(self) -> list[str]:
        """The log lines as they would be printed."""
        return self._lines.getvalue().splitlines()

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The log lines as dicts."""
        return [json.loads(line) for line in self.lines]

    def exposition(self) -> str:
        """Return what `/metrics` would show of the metrics that were touched.

        After the capture it is what was there at its end.
        """
        if self._last is not None:
            return self._last
        body, _ = self._exposition.render()
        return body.decode()

    @property
    def metrics(self) -> dict[str, float]:
        """Every sample that was touched, as on `/metrics`: `name{label="value"}` to its value."""
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

        found = {}
        for family in text_string_to_metric_families(self.exposition()):
            for sample in family.samples:
                labels = ",".join(f'{key}="{sample.labels[key]}"' for key in sorted(sample.labels))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the value of one sample, or None if it was not touched.

        Args:
            name: As on `/metrics`, such as `records_processed_total`.
            labels: All its labels.
        """
        listed = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        return self.metrics.get(f"{name}{{{listed}}}" if listed else name)


@contextlib.contextmanager
def capture(
    *,
    fixed_ids: bool = False,
    clock: ManualClock | None = None,
    log_level: int = 10,
    redactor: Redactor | None = None,
) -> Iterator[Capture]:
    """Capture spans, metrics and log lines in memory while the block runs.

    Metrics start at zero inside, and are what they were afterwards; telemetry that is running is
    set aside meanwhile, and a `configure()` inside checks its settings and sends nothing. Captures
    may be nested.

    Args:
        fixed_ids: Number trace and span ids from 1, so that whole exports can be compared.
        clock: Time for the library's spans, durations and log lines, instead of the system's.
        log_level: Lowest level to capture, a number of stdlib `logging`; DEBUG by default.
        redactor: What masks secrets; the default rules of `otel_pipeline.redaction` by default.

    Yields:
        The `Capture`.

    Raises:
        CaptureError: Someone else has installed an OpenTelemetry provider in this process.

    Example:
        >>> from otel_pipeline import Pipeline
        >>> from otel_pipeline.testing import capture
        >>> with capture() as captured:
        ...     with Pipeline("docs-capture").run(), Pipeline("docs-capture").batch([1, 2]):
        ...         pass
        >>> [span.name for span in captured.spans]
        ['docs-capture batch', 'docs-capture']
        >>> captured.metric("records_processed_total", pipeline="docs-capture", status="success")
        2.0
    """
    for signal in (Signal.TRACES, Signal.METRICS, Signal.LOGS):
        if providers.is_foreign(signal):
            message = (
                f"someone else has installed an OpenTelemetry provider for {signal} in this "
                f"process, so nothing can be captured: run the tests without "
                f"opentelemetry-instrument and without set_{signal.removesuffix('s')}r_provider()"
            )
            raise CaptureError(message)
    redactor = Redactor() if redactor is None else redactor
    captured = Capture(clock, redactor)
    resource = Resource({"service.name": "test"})
    tracers = TracerProvider(
        sampler=ALWAYS_ON,
        resource=resource,
        shutdown_on_exit=False,
        id_generator=_CountingIds() if fixed_ids else RandomIdGenerator(),
    )
    tracers.add_span_processor(SpanCollector(captured._add_span))  # noqa: SLF001  same module
    loggers = LineProvider(resource, LogRecordLimits())

    def add_log(item: ReadableLogRecord | Line) -> None:
        if isinstance(item, Line):
            captured.log_records.append(loggers.record(item))
        else:
            captured._add_record(item)  # noqa: SLF001

    loggers.add_queue(add_log)
    with contextlib.ExitStack() as undo:
        undo.enter_context(telemetry.set_aside())
        if clock is not None:
            undo.callback(clocks.install(clocks.Clock(clock.time_ns, clock.perf_counter)))
        undo.callback(
            lifecycle.install(
                lifecycle.Hooks(
                    flush=lambda _: True, finish=lambda: None, signals=False, captures=True
                )
            )
        )
        undo.callback(REGISTRY.stash())
        undo.callback(providers.add_reader(captured._reader, resource))  # noqa: SLF001
        undo.callback(providers.switch_tracers(tracers))
        undo.callback(providers.switch_loggers(loggers))
        undo.callback(
            logs.set_up(
                service="test",
                environment=None,
                format="json",
                level=log_level,
                stream=captured._lines,  # noqa: SLF001
                redactor=redactor,
                export=True,
                sink=loggers,
            )
        )
        try:
            yield captured
        finally:
            captured._last = captured.exposition()  # noqa: SLF001
