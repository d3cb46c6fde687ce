"""`otel-pipeline ui`: the local backend, one process in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
import webbrowser
from pathlib import Path

from otel_pipeline import config as configuration
from otel_pipeline.local.backend import LocalBackend, Options
from otel_pipeline.local.schema import default_path
from otel_pipeline.local.sqlite import SqliteStore
from otel_pipeline.local.store import DEFAULT_MAX_AGE, DEFAULT_MAX_BYTES

__all__ = ["add_arguments", "run"]

_LAST_PORT = 65_535
_LEAST_BYTES = 16 * 1024**2
_SIZES = {"k": 1024, "m": 1024**2, "g": 1024**3}
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline ui`."""
    options = Options()
    parser.add_argument(
        "--port", type=_port, default=options.port, help="of the page and its API (%(default)s)"
    )
    parser.add_argument(
        "--otlp-port", type=_port, default=options.otlp_port, help="of OTLP/HTTP (%(default)s)"
    )
    parser.add_argument(
        "--grpc-port",
        type=_port,
        default=options.grpc_port,
        help="of OTLP/gRPC (%(default)s); 0 turns it off",
    )
    parser.add_argument(
        "--host",
        default=options.host,
        help="address to listen on (%(default)s); one that other machines reach needs a token",
    )
    parser.add_argument(
        "--token",
        help="what senders and readers must show; better set OTEL_PIPELINE_LOCAL_TOKEN, as other"
        " users see the arguments of a program",
    )
    parser.add_argument("--store", type=Path, metavar="PATH", help="file that keeps the data")
    parser.add_argument(
        "--max-bytes",
        type=_size,
        default=DEFAULT_MAX_BYTES,
        metavar="SIZE",
        help="most that is kept, such as 500M or 4G (2G); the oldest goes first",
    )
    parser.add_argument(
        "--max-age",
        type=_age,
        default=DEFAULT_MAX_AGE,
        metavar="AGE",
        help="how long it is kept, such as 12h or 30d (7d)",
    )
    parser.add_argument(
        "--forward", default="", metavar="URL", help="OTLP endpoint that gets a copy of everything"
    )
    parser.add_argument(
        "--forward-headers",
        default="",
        metavar="KEY=VALUE,...",
        help="headers of the copy, as in OTEL_EXPORTER_OTLP_HEADERS",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(args: argparse.Namespace) -> int:
    """Receive and answer until SIGINT or SIGTERM.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0.

    Raises:
        CommandError: A port is taken, or the store or a setting cannot be used.
    """
    token = configuration.load().local_token or "" if args.token is None else args.token
    options = Options(
        host=args.host,
        port=args.port,
        otlp_port=args.otlp_port,
        grpc_port=args.grpc_port or None,
        token=token,
        forward=args.forward,
        forward_headers=args.forward_headers,
    )
    path = args.store or default_path()
    ended = threading.Event()

    with contextlib.ExitStack() as undo:
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, lambda *_: ended.set())
            undo.callback(signal.signal, number, before)
        store = undo.enter_context(
            SqliteStore(path, max_bytes=args.max_bytes, max_age=args.max_age)
        )
        backend = undo.enter_context(LocalBackend(store, options))
        print(f"page and API  {backend.page_url}")
        print(f"OTLP/HTTP     {backend.otlp.url}")
        if backend.grpc_port is not None:
            print(f"OTLP/gRPC     {options.host}:{backend.grpc_port}")
        print(f"store         {path}", flush=True)
        if args.open:
            webbrowser.open(backend.page_url)
        ended.wait()
        print("stopping", file=sys.stderr)
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _LAST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to {_LAST_PORT}")
    return int(text)


def _size(text: str) -> int:
    size = int(_scaled(text, {**_SIZES, "": 1}, "a size: write 500M or 4G"))
    if size < _LEAST_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is too small: at least 16M")
    return size


def _age(text: str) -> float:
    return _scaled(text, _TIMES, "an age: write 90s, 15m, 12h or 30d")


def _scaled(text: str, units: dict[str, int], what: str) -> float:
    lower = text.strip().lower()
    unit = lower[-1:] if lower[-1:].isalpha() else ""
    number = lower.removesuffix(unit)
    if unit not in units or not number.replace(".", "", 1).isdecimal() or not float(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return float(number) * units[unit]
