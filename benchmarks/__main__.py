"""`python -m benchmarks`: print what the library costs beside its peers."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from benchmarks import (
    demo,
    imports,
    local,
    logs,
    measure,
    metrics,
    profiles,
    records,
    scrape,
    spans,
)

if TYPE_CHECKING:
    from benchmarks.measure import Benchmark, Result

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one
    for module in (
        spans.BEFORE_CONFIGURE,
        metrics.BENCHMARKS,
        records.BENCHMARKS,
        spans.BENCHMARKS,
        logs.BENCHMARKS,
        demo.BENCHMARKS,
        scrape.BENCHMARKS,
        imports.BENCHMARKS,
        local.BENCHMARKS,
        profiles.BENCHMARKS,
    )
    for one in module
}
_PEERS = ("logfire", "opentelemetry-sdk", "prometheus-client", "structlog")
_HEAD = ("operation", "threads", "ours", "against", "theirs")
_RATIOS = ("ratio", "of minima", "quartiles", "goal", "met")


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=list(BENCHMARKS),
        help=f"measure this one, may be repeated: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="for each operation and number of threads"
    )
    arguments = parser.parse_args()
    try:
        versions = {name: version(name) for name in _PEERS}
    except PackageNotFoundError as error:
        parser.error(f"{error.name} is missing: pip install -e '.[benchmark]'")
    before = os.getloadavg()[0]
    results: list[Result] = []
    for one in BENCHMARKS.values():
        if arguments.only is None or one.name in arguments.only:
            for threads in one.threads:
                print(f"{one.name}, {threads} threads", file=sys.stderr)
                results += measure.run(one, threads, arguments.seconds)
    about = {**_machine(), "load before and after": (before, os.getloadavg()[0]), **versions}
    if arguments.json:
        print(json.dumps({**about, "results": list(map(_row, results))}, indent=2))
    else:
        print(_table(results))
        print("\n" + "; ".join(f"{name}: {value}" for name, value in about.items()))


def _machine() -> dict[str, Any]:
    """Return when and on what was measured."""
    return {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def _row(result: Result) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "met": result.met}


def _table(results: list[Result]) -> str:
    rows = [_HEAD + _RATIOS, *map(_cells, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)


def _cells(result: Result) -> tuple[str, ...]:
    low, high = result.quartiles
    met = {None: "", True: "yes", False: "**no**"}[result.met]
    return (
        result.title,
        str(result.threads),
        _time(result.ours),
        result.peer,
        _time(result.theirs),
        f"{result.ratio:.2f}",
        f"{result.ratio_of_minima:.2f}",
        f"{low:.2f} to {high:.2f}",
        "" if result.goal is None else f"{result.goal:.2f}",
        f"{met} ({result.flaw})" if result.flaw else met,
    )


def _time(nanoseconds: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


if __name__ == "__main__":
    main()
