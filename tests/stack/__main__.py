"""Build the test stack, run it, or measure with it: `python -m tests.stack --help`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import TYPE_CHECKING

from tests.stack.build import PROGRAMS, StackError, build, lock_collector
from tests.stack.debian import PACKAGES
from tests.stack.measure import measure
from tests.stack.programs import stack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_INTERRUPTED = 130  # what a shell reports for SIGINT


def main() -> int:
    args = _parser().parse_args()
    # Ended by SIGTERM as by Ctrl-C: nothing that was started stays.
    signal.signal(signal.SIGTERM, _leave)
    try:
        if args.command == "build":
            _build(args.names, args.jobs, keep_go_caches=args.keep_go_caches)
        elif args.command == "lock":
            lock_collector()
        elif args.command == "measure":
            print(measure(args.requests))
        else:
            _up()
    except StackError as error:
        print(f"tests.stack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _build(names: Sequence[str], jobs: int | None, *, keep_go_caches: bool) -> None:
    of_go = [name for name in names if name in PROGRAMS]
    if of_go or not names:
        build(of_go, jobs=jobs, keep_go_caches=keep_go_caches)
    for name in names:
        if name in PACKAGES:
            PACKAGES[name].fetch()
            print(f"{name} {PACKAGES[name].version}: {PACKAGES[name].path}", flush=True)


def _up() -> None:
    print("starting …", file=sys.stderr, flush=True)
    with stack() as running:
        try:
            print(json.dumps(running.addresses, indent=2), flush=True)
            # Who reads this may stop it at once.
            print("all is ready; Ctrl-C or SIGTERM stops it", file=sys.stderr, flush=True)
            signal.pause()
        except (KeyboardInterrupt, SystemExit):
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # it stops already
            print("stopping …", file=sys.stderr, flush=True)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _name(word: str) -> str:
    if word not in {**PROGRAMS, **PACKAGES}:
        known = ", ".join([*PROGRAMS, *PACKAGES])
        raise argparse.ArgumentTypeError(f"{word!r} is none of {known}")
    return word


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stack",
        description="The programs that the end-to-end tests export to.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build the programs that are not there yet")
    builder.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        type=_name,
        help=f"{', '.join(PROGRAMS)}; and only when named {', '.join(PACKAGES)}, with apt",
    )
    builder.add_argument(
        "--jobs", type=int, metavar="N", help="how many processors to use; by default all"
    )
    builder.add_argument(
        "--keep-go-caches",
        action="store_true",
        help="keep what Go fetched and compiled for further builds (12 GB)",
    )
    commands.add_parser("up", help="run all programs, wired, until Ctrl-C; print their addresses")
    figures = commands.add_parser(
        "measure", help="print how many spans the agent takes, with and without its queue on disk"
    )
    figures.add_argument(
        "--requests", type=int, default=100, metavar="N", help="of 1,000 spans; by default 100"
    )
    commands.add_parser(
        "lock", help="name the modules of the collector anew, after builder.yaml changed"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
