"""Count a million records over threads and processes, again and again, and compare the sums.

    python -m tests.stress [--runs 20] [--records 1000000] [--only NAME ...]

For each run and scenario it prints whether the sum on `/metrics`, and the sum over instances of
what an OTLP receiver got last, are exactly the number of records. It exits with 1 if one was not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.integration.test_gunicorn import get, gunicorn
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.otlp_receiver import HttpReceiver, Item

__all__ = ["SCENARIOS", "Result", "main", "run"]

#: Counts in the way that its first argument names; prints what `/metrics` says, and its pid.
PROGRAM = """
import json, multiprocessing, os, sys, threading, time, urllib.request
from otel_pipeline import Counter, Pipeline, configure

HANDLED = Counter("handled", "Records handled")
pipeline = Pipeline("stress")


def count(n):
    with pipeline.stage("count") as stage:
        for _ in range(n):
            stage.records(1)
            HANDLED.inc()


def page(url):
    text = urllib.request.urlopen(url).read().decode()
    wanted = {"handled_total": 0.0, 'pipeline_stage_records_total{pipeline="stress",'
              'stage="count",status="success"}': 0.0}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series in wanted:
            wanted[series] = float(value)
    return list(wanted.values())


def threads(records):
    workers = [threading.Thread(target=count, args=(part,)) for part in parts(records, 8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def pool(records, method):
    context = multiprocessing.get_context(method)
    with context.Pool(3, maxtasksperchild=4) as workers:
        workers.map(count, parts(records, 24), chunksize=1)
        workers.close()
        workers.join()


def parts(records, n):
    return [records // n + (i < records % n) for i in range(n)]


def until_killed(file):
    # How far it was stands in memory that outlives it. A signal is handled between two
    # instructions, so it may come between the two: then the counter is ahead by one.
    import mmap
    with open(file, "r+b") as opened:
        memory = memoryview(mmap.mmap(opened.fileno(), 8)).cast("q")
    done = 0
    with pipeline.run(flush=False):
        while True:
            done += 1
            memory[0] = done
            HANDLED.inc()


if __name__ == "__main__":
    scenario, records = sys.argv[1], int(sys.argv[2])
    telemetry = configure("stress", prometheus_port=0)
    if scenario == "threads":
        threads(records)
    elif scenario == "killed":
        import tempfile
        told = []
        for method in ("fork", "spawn", "forkserver"):
            with tempfile.NamedTemporaryFile() as file:
                file.write(bytes(8))
                file.flush()
                context = multiprocessing.get_context(method)
                child = context.Process(target=until_killed, args=(file.name,))
                child.start()
                while int.from_bytes(open(file.name, "rb").read(8), "little") < records // 3:
                    time.sleep(0.001)
                child.terminate()
                child.join()
                assert child.exitcode == -15, child.exitcode
                told.append(int.from_bytes(open(file.name, "rb").read(8), "little"))
        records = sum(told)
    else:
        pool(records, scenario)
    print(json.dumps({"page": page(telemetry.metrics_url), "records": records}))
"""


class Result(NamedTuple):
    """What one run of a scenario came to.

    Attributes:
        expected: How many records were counted.
        page: What `/metrics` says.
        received: What the OTLP receiver got.
        slack: By how much the first may be off, where a process was killed between two steps.
    """

    expected: int
    page: float
    received: float
    slack: int = 0

    @property
    def exact(self) -> bool:
        """Whether both are right."""
        return self.page == self.received and 0 <= self.expected - self.page <= self.slack


def _sum(metrics: Iterable[Item], name: str) -> float:
    last: dict[str, float] = {}
    for metric in metrics:
        if metric.proto.name == name:
            for point in metric.proto.sum.data_points:
                value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
                last[metric.resource["service.instance.id"]] = value
    return sum(last.values())


def _program(scenario: str, records: int, folder: Path, receiver: HttpReceiver) -> Result:
    path = folder / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", path, scenario, str(records)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            "OTEL_PIPELINE_SPOOL_DIR": "off",
        },
    )
    said = json.loads(done.stdout)
    handled, staged = said["page"]
    # Each killed child may have been stopped after it said a number and before it counted it.
    slack = 3 if scenario == "killed" else 0
    if scenario != "killed" and handled != staged:
        handled = -1  # the counter and the stage must agree
    return Result(said["records"], handled, _sum(receiver.metrics, "handled"), slack)


def _gunicorn(records: int, folder: Path, receiver: HttpReceiver) -> Result:
    """Each request counts 1,000 records, and no worker has more than a few requests."""
    requests = max(records // 10_000, 20)
    with gunicorn(folder, receiver, "--preload") as server:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(get, [server.url] * (requests - 1)))
        expected = requests * 1000  # with the one that waited for the server
        page = server.handled()
        deadline = time.monotonic() + 20  # while a worker is alive, it may lag by a second
        while page != expected and time.monotonic() < deadline:
            time.sleep(0.05)
            page = server.handled()
        server.terminate()
    return Result(expected, page or 0, _sum(receiver.metrics, "handled"))


def _of(scenario: str) -> Callable[[int, Path, HttpReceiver], Result]:
    return lambda records, folder, receiver: _program(scenario, records, folder, receiver)


SCENARIOS: dict[str, Callable[[int, Path, HttpReceiver], Result]] = {
    "threads": _of("threads"),
    "fork": _of("fork"),
    "spawn": _of("spawn"),
    "forkserver": _of("forkserver"),
    "gunicorn": _gunicorn,
    "killed": _of("killed"),
}


def run(scenario: str, records: int) -> Result:
    """Run a scenario once, in a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, otlp_receiver() as receiver:
        return SCENARIOS[scenario](records, Path(folder), receiver)


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return 1 if a sum was not exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    options = parser.parse_args(arguments)
    failed = 0
    for number in range(1, options.runs + 1):
        for scenario in options.only:
            began = time.monotonic()
            result = run(scenario, options.records)
            seconds = time.monotonic() - began
            failed += not result.exact
            print(
                f"{number:3} {scenario:10} {'exact' if result.exact else 'WRONG':5} "
                f"{result.expected:>10} records, /metrics {result.page:>11.0f}, "
                f"OTLP {result.received:>11.0f}, {seconds:5.1f} s",
                flush=True,
            )
    print(f"{options.runs * len(options.only) - failed} exact, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
