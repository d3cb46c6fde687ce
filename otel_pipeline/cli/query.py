"""`otel-pipeline query`: what the local backend has kept, while it runs or later."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from otel_pipeline.errors import CommandError
from otel_pipeline.local.filters import compile_filter
from otel_pipeline.local.otlp_json import from_document, signal_of, to_json
from otel_pipeline.local.schema import default_path
from otel_pipeline.local.sqlite import SqliteStore
from otel_pipeline.local.store import Question
from otel_pipeline.local.wire import BadRequestError, TooLargeError, check_protobuf
from otel_pipeline.semconv import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_pipeline.local.store import Added, Store

__all__ = ["add_arguments", "run"]

_PAGE = 1_000
_SUMMARIES = {
    "runs": "list runs, the newest first",
    "traces": "list traces, the newest first, or show one",
    "logs": "list log lines, the newest first",
    "metrics": "list series with their newest value, or show the points of one",
    "export": "write what is kept as OTLP JSON, a request on each line",
    "import": "keep what is in files of OTLP JSON",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline query`."""
    actions = parser.add_subparsers(dest="action", metavar="WHAT", required=True)
    for name, summary in _SUMMARIES.items():
        action = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        action.add_argument(
            "--store", type=Path, metavar="PATH", help="the file that `otel-pipeline ui` keeps"
        )
        if name == "import":
            action.add_argument("files", nargs="+", metavar="FILE", help="- for standard input")
            continue
        if name == "export":
            action.add_argument(
                "--signal", choices=SIGNALS, action="append", help="only this; may be repeated"
            )
        else:
            action.add_argument("--json", action="store_true", help="print one JSON document")
            action.add_argument(
                "--limit", type=_limit, default=100, help="most to show (%(default)s)"
            )
        if name == "metrics":
            action.add_argument("--series", type=_limit, help="show the points of this series")
        elif name != "export":
            action.add_argument("--trace-id", type=_trace_id, help="only of this trace")
        action.add_argument(
            "--filter",
            default="",
            help="such as 'service:orders status:error dur>1s attr.customer=42 \"late order\"'",
        )


def run(args: argparse.Namespace) -> int:
    """Answer a question about what is stored.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0; 1 if a file could not be imported as a whole.

    Raises:
        CommandError: There is no such store, or a filter cannot be understood.
    """
    path = args.store or default_path()
    if args.action == "import":
        check_protobuf()
        with SqliteStore(path) as store:
            return _import(store, args.files)
    with SqliteStore(path, write=False) as store:
        if args.action == "export":
            return _export(store, args)
        items = _items(store, args)
    if args.json:
        print(json.dumps(items, indent=2))
    else:
        print(_table(items, _columns(args)))
    return 0


def _items(store: Store, args: argparse.Namespace) -> Any:
    if args.action == "metrics" and args.series is not None:
        found = json.loads(store.points(args.series, Question(args.filter, args.limit)))
        return found["items"]
    trace = getattr(args, "trace_id", None)
    if args.action == "traces" and trace:
        if args.filter:
            raise CommandError("--trace-id shows a trace as a whole: leave --filter out")
        return _spans(json.loads(store.trace(bytes.fromhex(trace))))[: args.limit]
    text = f"{args.filter} trace:{trace}" if trace else args.filter
    return _pages(getattr(store, args.action), text, args.limit)


def _pages(ask: Any, text: str, limit: int) -> list[Any]:
    items: list[Any] = []
    before = ""
    while len(items) < limit:
        page = json.loads(ask(Question(text, min(limit - len(items), _PAGE), before)))
        items += page["items"]
        before = page["next"]
        if before is None:
            break
    for item in items:
        item.pop("cursor", None)
    return items


def _spans(outline: dict[str, Any]) -> list[dict[str, Any]]:
    items = []
    for row in outline["items"]:
        span = dict(zip(outline["columns"], row, strict=True))
        span["service"] = outline["services"].get(str(span.pop("resource")))
        span["parent_span_id"] = span["parent_span_id"] or None
        items.append({"trace_id": outline["trace_id"], **span})
    return sorted(items, key=lambda span: int(span["start_ns"]))


# --- Tables ---------------------------------------------------------------------------------------


def _columns(args: argparse.Namespace) -> Sequence[str]:
    if args.action == "traces" and args.trace_id:
        return ("start_ns", "duration_ns", "status", "service", "name", "span_id", "parent_span_id")
    if args.action == "metrics" and args.series is not None:
        return ("time", "value", "count", "sum")
    return {
        "runs": (
            "start", "status", "duration_ns", "pipeline", "run_id", "records", "trace_id",
        ),
        "traces": ("start", "status", "duration_ns", "service", "name", "trace_id"),
        "logs": ("time", "level", "service", "body", "trace_id", "attributes"),
        "metrics": ("series", "name", "value", "count", "time", "service", "attributes"),
    }[args.action]  # fmt: skip


def _table(items: list[dict[str, Any]], columns: Sequence[str]) -> str:
    if not items:
        return "Nothing found."
    rows = [[name.removesuffix("_ns") for name in columns]]
    rows += [[_cell(name, item.get(name)) for name in columns] for item in items]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_ns"):
        return f"{value / 1e6:.3f} ms"
    if name in {"time", "start"}:
        return f"{value[:23]}Z"
    if isinstance(value, dict):
        return " ".join(
            f"{key}={_plain(inner)}" for key, inner in value.items() if inner is not None
        )
    return _plain(value)


def _plain(value: Any) -> str:
    """Return a value on one line, without what would steer a terminal."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


# --- Files of OTLP JSON ---------------------------------------------------------------------------


def _export(store: Store, args: argparse.Namespace) -> int:
    kinds = {"traces": "spans", "logs": "logs", "metrics": "metrics"}
    chosen = args.signal or SIGNALS
    if args.filter and len(chosen) > 1:
        raise CommandError("a filter is for one signal: say which with --signal")
    for signal in chosen:
        compile_filter(args.filter, kinds[signal])  # type: ignore[arg-type]
    for signal in chosen:
        for request in store.export(signal, args.filter):
            print(json.dumps(to_json(signal, request), ensure_ascii=False))
    return 0


def _import(store: Store, files: Sequence[str]) -> int:
    status = 0
    for name in files:
        stored = left_out = 0
        for number, document in _documents(name):
            try:
                added = _add(store, document)
            except (BadRequestError, TooLargeError) as error:
                print(f"otel-pipeline: {name}, line {number}: {error}", file=sys.stderr)
                status = 1
                continue
            stored += added.stored
            left_out += added.rejected
            if added.rejected:
                said = f"{added.rejected} left out: {added.reason}"
                print(f"otel-pipeline: {name}, line {number}: {said}", file=sys.stderr)
                status = 1
        print(f"{name}: {stored} items kept, {left_out} left out")
    return status


def _add(store: Store, document: Any) -> Added:
    signal = signal_of(document)
    if signal is None:
        raise BadRequestError("it has none of resourceSpans, resourceMetrics, resourceLogs")
    return store.add(signal, from_document(signal, document))


def _documents(name: str) -> list[tuple[int, Any]]:
    try:
        if name == "-":
            return list(_requests(sys.stdin.buffer))
        with Path(name).open("rb") as file:
            return list(_requests(file))
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"{name} is no OTLP JSON: {error}") from error


def _requests(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    """Yield the requests of a file with their lines: one on each line, or one over many."""
    text = file.read()
    try:
        yield 1, json.loads(text)
    except ValueError:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10**9):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _trace_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no trace id: it has 32 hexadecimal digits")
    return text.lower()
