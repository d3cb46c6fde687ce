"""`otel-pipeline spool`: what waits on disk for a collector that was away."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from otel_pipeline import config as configuration
from otel_pipeline.errors import CommandError
from otel_pipeline.sdk.spool import Spool, SpoolError, folder_of
from otel_pipeline.sdk.transport import transport_for
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    import argparse

    from otel_pipeline.config import Config, SignalConfig
    from otel_pipeline.sdk.spool import Entry, Shelf
    from otel_pipeline.sdk.transport import Transport

__all__ = ["add_arguments", "run"]

_SIGNALS = (Signal.TRACES, Signal.METRICS, Signal.LOGS)


@dataclass(slots=True)
class _Result:
    """What `replay` did with one service, endpoint and signal."""

    service: str
    endpoint: str
    signal: str
    delivered: int = 0
    rejected: int = 0
    left: int = 0
    reason: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline spool`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    summaries = {
        "list": "show what waits, by service, endpoint and signal",
        "replay": "send it now, with the configured endpoint and headers",
        "drop": "delete it",
    }
    for name, summary in summaries.items():
        action = actions.add_parser(name, help=summary, description=f"{summary.capitalize()}.")
        action.add_argument("--json", action="store_true", help="print one JSON document")
        if name != "list":
            action.add_argument("--service", help="only of this service")
            action.add_argument("--signal", choices=_SIGNALS, help="only of this signal")
            action.add_argument(
                "--set-aside",
                action="store_true",
                help="what the receiver refused for good, too"
                if name == "replay"
                else "only what the receiver refused for good",
            )


def run(args: argparse.Namespace) -> int:
    """List, send or drop what is in the spool that the configuration asks for.

    Args:
        args: `action`, `json`; but for `list` also `service`, `signal`, `set_aside`.

    Returns:
        0; 1 if `replay` could not deliver something.

    Raises:
        CommandError: The spool is off or cannot be used.
    """
    config = configuration.load()
    folder = folder_of(config, explicit=True)
    if folder is None:
        raise CommandError("the spool is off: OTEL_PIPELINE_SPOOL_DIR says where it is")
    spool = Spool(folder, max_bytes=config.spool_max_bytes, max_age=config.spool_max_age)
    try:
        if args.action == "list":
            return _list(spool, args)
        return _replay(spool, config, args) if args.action == "replay" else _drop(spool, args)
    except SpoolError as error:
        raise CommandError(f"the spool {folder} cannot be used: {error}") from error
    finally:
        spool.close()


def _list(spool: Spool, args: argparse.Namespace) -> int:
    entries = spool.entries()
    if args.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif entries:
        print(_table(entries))
    else:
        print(f"Nothing waits in {spool.folder}.")
    return 0


def _table(entries: list[Entry]) -> str:
    rows = [("service", "endpoint", "signal", "state", "batches", "items", "bytes", "oldest")]
    for e in entries:
        age = f"{max(time.time() - e.oldest, 0):.0f} s ago"
        state = e.state.replace("_", " ") + (f": {e.reason}" if e.reason else "")
        numbers = (str(e.batches), str(e.items), str(e.bytes))
        rows.append((e.service, e.endpoint, e.signal, state, *numbers, age))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _drop(spool: Spool, args: argparse.Namespace) -> int:
    batches = spool.drop(service=args.service, signal=args.signal, set_aside=args.set_aside)
    print(json.dumps({"batches": batches}) if args.json else f"Dropped {batches} batches.")
    return 0


def _replay(spool: Spool, config: Config, args: argparse.Namespace) -> int:
    wanted = sorted(
        {
            (e.service, e.endpoint, e.signal)
            for e in spool.entries()
            if args.service in {None, e.service}
            and args.signal in {None, e.signal}
            and (e.state == "waiting" or args.set_aside)
        }
    )
    results = [_send_all(spool, config, _Result(*key), args.set_aside) for key in wanted]
    if args.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    elif not results:
        print(f"Nothing waits in {spool.folder}.")
    for r in () if args.json else results:
        print(
            f"{r.service}, {r.signal} to {r.endpoint}: {r.delivered} delivered, "
            f"{r.rejected} rejected, {r.left} left{': ' + r.reason if r.reason else ''}"
        )
    return 1 if any(result.rejected or result.left for result in results) else 0


def _send_all(spool: Spool, config: Config, result: _Result, set_aside: bool) -> _Result:  # noqa: FBT001
    settings: SignalConfig = getattr(config, result.signal)
    transport = transport_for(result.signal, settings.otlp)
    shelf = spool.shelf(result.service, result.endpoint, result.signal)
    try:
        if transport.endpoint == result.endpoint:
            _send(shelf, transport, result, settings.otlp.timeout, set_aside)
        else:
            result.reason = (
                f"it is not for {transport.endpoint}: set OTEL_EXPORTER_OTLP_ENDPOINT to send it"
            )
    finally:
        shelf.release()
        transport.close()
    result.left = sum(
        entry.items
        for entry in spool.entries()
        if entry.state == "waiting"
        and (entry.service, entry.endpoint, entry.signal)
        == (result.service, result.endpoint, result.signal)
    )
    if result.left and not result.reason:
        result.reason = "a running process will send it"
    return result


def _send(
    shelf: Shelf,
    transport: Transport,
    result: _Result,
    timeout: float,
    set_aside: bool,  # noqa: FBT001
) -> None:
    """Send from the shelf, oldest first, until it is empty or the receiver cannot take more."""
    if set_aside:
        shelf.take_back()
    shelf.adopt()
    while (batch := shelf.oldest()[0]) is not None:
        outcome = transport.send(batch.payload, timeout=timeout)
        result.reason = outcome.reason
        if outcome.kind in {"retry", "away"}:
            return
        if outcome.kind == "rejected":
            shelf.set_aside(batch.id, outcome.reason)
            result.rejected += batch.items
        else:
            shelf.delete(batch.id)
            rejected = min(outcome.rejected, batch.items)
            result.rejected += rejected
            result.delivered += batch.items - rejected
