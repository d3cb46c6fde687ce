"""A pipeline over several processes tells one story, however they start and end."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.otlp_receiver import _GrpcBehaviour, grpc_receiver, otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.otlp_receiver import GrpcReceiver, HttpReceiver, Item

METHODS = ["fork", "spawn", "forkserver"]

#: What all programs here have: children that work, and a page of metrics to look at.
COMMON = """
import json, multiprocessing, os, signal, sys, time, urllib.request
from concurrent.futures import ProcessPoolExecutor as StandardPool
from otel_pipeline import Counter, Pipeline, configure, get_logger
from otel_pipeline.propagation import ProcessPoolExecutor
from otel_pipeline.telemetry import current_telemetry

JOBS = Counter("jobs", "Jobs", ["kind"])
pipeline = Pipeline("p")


def work(kind, n):
    with pipeline.stage(kind) as stage:
        stage.records(n)
        JOBS.labels(kind).inc(n)
        get_logger("worker").info("did", kind=kind, n=n)
    return os.getpid()


def page():
    text = urllib.request.urlopen(current_telemetry().metrics_url).read().decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("jobs_total")]
    return {series.split('"')[1]: float(value) for series, value in lines}


def report(**what):
    folder = current_telemetry()._runtime.group.folder
    print(json.dumps({"result": what, "folder": str(folder), "pid": os.getpid()}), flush=True)
"""


class Outcome:
    """What a program said, and what arrived."""

    def __init__(self, process: subprocess.CompletedProcess[str], receiver: Any) -> None:
        self.stderr = process.stderr
        self.status = process.returncode
        lines = [json.loads(line) for line in process.stdout.splitlines()]
        self.logged = [line for line in lines if "event" in line]
        (said,) = [line for line in lines if "result" in line]
        self.result: dict[str, Any] = said["result"]
        self.pid: int = said["pid"]
        self.folder = Path(said["folder"])
        self.spans: list[Item] = receiver.spans
        self.records: list[Item] = receiver.logs
        self.metrics: list[Item] = receiver.metrics

    def assert_one_story(
        self, expected: Mapping[str, list[int]], *, apart: str | None = None
    ) -> None:
        """Everything arrived once, under its own process, in one trace.

        Args:
            expected: Numbers of records by kind.
            apart: The kind whose work is a trace of its own.
        """
        assert self.stderr == ""
        assert self.status == 0
        stages = collections.Counter(
            (span.name, span.attributes["pipeline.records.success"])
            for span in self.spans
            if span.name != "p" and "pipeline.records.success" in span.attributes
        )
        assert stages == collections.Counter(
            (f"p {kind}", n) for kind, numbers in expected.items() for n in numbers
        )
        assert len({span.span_id for span in self.spans}) == len(self.spans)
        (root,) = [span for span in self.spans if span.name == "p"]
        within = [span for span in self.spans if span.name != f"p {apart}"]
        assert {span.trace_id for span in within} == {root.trace_id}
        done = collections.Counter((kind, n) for kind, numbers in expected.items() for n in numbers)
        by_id = {span.span_id: span for span in self.spans}
        assert collections.Counter(_did(r.attributes) for r in self.records) == done
        assert collections.Counter(_did(line) for line in self.logged) == done
        for record in self.records:
            span = by_id[record.span_id]
            assert record.trace_id == span.trace_id
            assert span.name == f"p {record.attributes['kind']}"
            assert record.resource == span.resource
        for line in self.logged:
            span = by_id[bytes.fromhex(line["span_id"])]
            assert span.name == f"p {line['kind']}"
            assert line["trace_id"] == span.trace_id.hex()
        self.assert_own_identities([*self.spans, *self.records, *self.metrics])
        sums = {kind: sum(numbers) for kind, numbers in expected.items()}
        assert last_values(self.metrics) == sums
        assert self.result["page"] == sums
        # The server of forkserver runs module-level code, too, and ends a moment later.
        deadline = time.monotonic() + 20
        while self.folder.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not self.folder.exists()

    def assert_own_identities(self, items: Iterable[Item]) -> None:
        """Each process has one instance id, and each instance id is of one process."""
        keys = ("service.name", "process.pid", "service.instance.id")
        found = {tuple(item.resource[key] for key in keys) for item in items}
        assert len({(service, pid) for service, pid, _ in found}) == len(found)
        assert len({instance for _, _, instance in found}) == len(found)

    def pids(self, kind: str) -> list[int]:
        """The processes that did the work of this kind."""
        spans = [span for span in self.spans if span.name == f"p {kind}"]
        return [span.resource["process.pid"] for span in spans]


def _did(fields: Mapping[str, Any]) -> tuple[str, int]:
    return fields["kind"], fields["n"]


def last_values(metrics: Iterable[Item]) -> dict[str, float]:
    """The sum over instances of the last values of `jobs`, by kind."""
    last: dict[tuple[str, str], float] = {}
    for item in metrics:
        if item.proto.name == "jobs":
            for point in item.proto.sum.data_points:
                kind = point.attributes[0].value.string_value
                value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
                last[item.resource["service.instance.id"], kind] = value
    sums: collections.Counter[str] = collections.Counter()
    for (_, kind), value in last.items():
        sums[kind] += value  # type: ignore[assignment]
    return dict(sums)


def start(
    folder: Path, receiver: HttpReceiver | GrpcReceiver, program: str, *args: str, **environ: str
) -> subprocess.Popen[str]:
    path = folder / "program.py"
    path.write_text(COMMON + program)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", path, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            "OTEL_PIPELINE_SPOOL_DIR": "off",
            **environ,
        },
    )


def run(folder: Path, program: str, *args: str, **environ: str) -> Outcome:
    with otlp_receiver() as receiver:
        process = start(folder, receiver, program, *args, **environ)
        try:
            stdout, stderr = process.communicate(timeout=100)
        finally:
            process.kill()
        done = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        assert stdout, stderr
        return Outcome(done, receiver)


POOLS = """
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    configure("processes", prometheus_port=0)
    numbers = range(1, 7)
    with pipeline.run():
        with context.Pool(2) as pool:  # ends its workers by SIGTERM
            pool.starmap(work, [("terminated", n) for n in numbers])
        with context.Pool(2, maxtasksperchild=2) as pool:
            pool.starmap(work, [("recycled", n) for n in numbers], chunksize=1)
            pool.close()
            pool.join()
        for kind, factory in (("standard", StandardPool), ("own", ProcessPoolExecutor)):
            with factory(2, mp_context=context) as executor:
                list(executor.map(work, [kind] * 6, numbers))
    report(page=page())
"""


@pytest.mark.parametrize("method", METHODS)
def test_pools_tell_one_story(tmp_path: Path, method: str) -> None:
    """Each task counts once, in the trace that submitted it, whichever pool and start method.

    A `Pool` starts those workers that replace others from a thread of its own, where no span is.
    """
    outcome = run(tmp_path, POOLS, method)
    kinds = ("terminated", "recycled", "standard", "own")
    outcome.assert_one_story({kind: [1, 2, 3, 4, 5, 6] for kind in kinds}, apart="recycled")
    assert len(set(outcome.pids("recycled"))) >= 3
    assert outcome.pid not in {pid for kind in kinds for pid in outcome.pids(kind)}
    (root,) = [span for span in outcome.spans if span.name == "p"]
    within = [span for span in outcome.spans if span.name not in {"p", "p recycled"}]
    assert {span.parent_span_id for span in within} == {root.span_id}


ENDINGS = """
def child(ending):
    work(ending, 3)
    match ending:
        case "raises":
            sys.stderr = open(os.devnull, "w")  # multiprocessing prints the traceback
            raise RuntimeError("on purpose")
        case "exits":
            sys.exit(3)
        case "terminated":
            print(json.dumps({"waits": True}), flush=True)
            signal.pause()
        case "leaves":
            assert current_telemetry().flush()
            os._exit(4)
        case "nested":
            inner = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=("inner", 2))
            inner.start()
            inner.join()
            assert inner.exitcode == 0


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    configure("processes", prometheus_port=0)
    codes = {}
    with pipeline.run():
        for ending in ("returns", "raises", "exits", "terminated", "leaves", "nested"):
            process = context.Process(target=child, args=(ending,))
            process.start()
            if ending == "terminated":
                while page().get("terminated") != 3:
                    time.sleep(0.01)
                process.terminate()
            process.join()
            codes[ending] = process.exitcode
    report(page=page(), codes=codes)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_child_leaves_nothing_unsent_however_it_ends(tmp_path: Path, method: str) -> None:
    """By return, exception, sys.exit, SIGTERM, or os._exit after a flush; its exit code is kept."""
    outcome = run(tmp_path, ENDINGS, method)
    outcome.logged = [line for line in outcome.logged if "waits" not in line]
    endings = ["returns", "raises", "exits", "terminated", "leaves", "nested"]
    outcome.assert_one_story({**{ending: [3] for ending in endings}, "inner": [2]})
    assert outcome.result["codes"] == {
        "returns": 0, "raises": 1, "exits": 3, "terminated": -15, "leaves": 4, "nested": 0,
    }  # fmt: skip
    assert len({outcome.pids(ending)[0] for ending in endings}) == 6


FORKS = """
configure("processes", prometheus_port=0)
statuses = {}
with pipeline.run():
    with pipeline.stage("parent") as stage:
        for ending in ("exits", "leaves"):
            child = os.fork()
            if child == 0:
                work(ending, 3)
                if ending == "exits":
                    sys.exit(3)
                current_telemetry().flush()
                os._exit(4)
            statuses[ending] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        work("own", 1)
report(page=page(), statuses=statuses)
"""


def test_forked_children_tell_the_same_story(tmp_path: Path) -> None:
    """By os.fork, ended by sys.exit or by os._exit after a flush."""
    outcome = run(tmp_path, FORKS)
    outcome.assert_one_story({"exits": [3], "leaves": [3], "own": [1]})
    assert outcome.result["statuses"] == {"exits": 3, "leaves": 4}


AGAIN = """
AT_MODULE = sys.argv[2] == "module"
if AT_MODULE:
    configure("processes", prometheus_port=0)


def child(how):
    match how:
        case "same":
            configure("processes", prometheus_port=0)
        case "bare":
            configure()
        case "other":
            configure("another", prometheus_port=0)
    work(how, 2)


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    if not AT_MODULE:
        configure("processes", prometheus_port=0)
    codes = []
    with pipeline.run():
        for how in sys.argv[3:]:
            process = context.Process(target=child, args=(how,))
            process.start()
            process.join()
            codes.append(process.exitcode)
    report(page=page(), codes=codes)
"""


@pytest.mark.parametrize("where", ["main", "module"])
@pytest.mark.parametrize("method", METHODS)
def test_children_may_configure_again(tmp_path: Path, method: str, where: str) -> None:
    """The same again changes nothing; another service is one of its own, without a word."""
    same = ["none", "same", "bare"]
    # A module that configures itself has done so in a child that imports it, too: there another
    # service would be a conflict, as in any program.
    hows = same if where == "module" and method != "fork" else [*same, "other"]
    outcome = run(tmp_path, AGAIN, method, where, *hows)
    assert outcome.result["codes"] == [0] * len(hows)
    assert outcome.result["page"] == dict.fromkeys(same, 2)
    stages = [span for span in outcome.spans if span.name != "p"]
    assert {span.name: span.resource["service.name"] for span in stages} == {
        f"p {how}": "another" if how == "other" else "processes" for how in hows
    }
    outcome.result["page"] = dict.fromkeys(hows, 2)
    outcome.assert_one_story({how: [2] for how in hows})


ALONE = """
configure("processes", prometheus_port=0)
with pipeline.run():
    work("own", 1)
files = sorted(path.name for path in current_telemetry()._runtime.group.folder.iterdir())
group = current_telemetry()._runtime.group
before = group._own_file.stat().st_mtime_ns
group._publish()
report(
    page=page(),
    files=files,
    written=group._own_file.stat().st_mtime_ns != before,
    loaded=sorted(name for name in sys.modules if name.startswith("multiprocessing.popen")),
)
"""


def test_a_program_of_one_process_shares_nothing(tmp_path: Path) -> None:
    """It keeps what it counts to itself, and its folder goes away with it."""
    outcome = run(tmp_path, ALONE)
    outcome.assert_one_story({"own": [1]})
    assert outcome.result["files"] == ["endpoint.json", "lock", "member-0.json"]
    assert not outcome.result["written"]
    assert outcome.result["loaded"] == []


GRPC = """
if __name__ == "__main__":
    configure("processes", prometheus_port=0)
    with pipeline.run():
        work("parent", 1)
        assert current_telemetry().flush()
        for method in ("fork", "forkserver"):
            process = multiprocessing.get_context(method).Process(target=work, args=("child", 2))
            process.start()
            process.join()
        child = os.fork()
        if child == 0:
            work("forked", 3)
            sys.exit(0)
        os.waitpid(child, 0)
        work("parent", 4)
    report(page=page())
"""


def test_exports_by_grpc_survive_forks(tmp_path: Path) -> None:
    """Parent and children export before and after, each their own, and grpc prints nothing."""
    with grpc_receiver() as receiver:
        process = start(tmp_path, receiver, GRPC, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        try:
            stdout, stderr = process.communicate(timeout=100)
        finally:
            process.kill()
        done = subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        outcome = Outcome(done, receiver)
    outcome.assert_one_story({"parent": [1, 4], "child": [2, 2], "forked": [3]})


DURING = """
import threading

configure("processes", prometheus_port=0)
work("hung", 1)
threading.Thread(target=current_telemetry().flush, args=(20,)).start()
sys.stdin.readline()
child = os.fork()
if child == 0:
    work("child", 2)
    sys.exit(0)
status = os.waitpid(child, 0)[1]
report(status=status)
sys.stdin.readline()
work("parent", 3)
"""


@pytest.mark.skipif(
    tuple(map(int, version("grpcio").split(".")[:2])) < (1, 85),
    reason="an older grpcio ends a child that is forked during a call",
)
def test_a_fork_during_an_export_by_grpc(tmp_path: Path) -> None:
    """The child exports its own while its parent's request is under way, and nothing is printed."""
    with grpc_receiver() as receiver:
        receiver.hang()
        process = start(
            tmp_path,
            receiver,
            DURING,
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_METRICS_EXPORTER="prometheus",
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            paths = {"/TraceService/Export", "/LogsService/Export"}
            receiver.wait_for(lambda: paths <= {r.path for r in receiver._requests}, 60)
            receiver.behaviour = _GrpcBehaviour()  # what hangs goes on hanging
            process.stdin.write("\n")
            process.stdin.flush()
            lines = iter(process.stdout.readline, "")
            (said,) = (line for line in (next(lines), next(lines), next(lines)) if "result" in line)
            assert json.loads(said)["result"] == {"status": 0}
            names = [span.name for span in receiver.spans]
            receiver.accept()
            process.stdin.write("\n")
            process.stdin.flush()
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert names == ["p child"]
    assert [span.name for span in receiver.spans] == ["p child", "p parent"]
    assert [record.attributes["kind"] for record in receiver.logs] == ["child", "parent"]
    assert stderr == ""
    assert process.returncode == 0
