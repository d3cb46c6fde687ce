"""While the collector is away batches wait on disk, and each arrives once."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import diagnostics
from otel_pipeline.sdk.batch import BatchProcessor
from otel_pipeline.sdk.ledger import Ledger
from otel_pipeline.sdk.spool import Spool, SpoolError
from otel_pipeline.sdk.transport import Outcome
from tests.integration.test_batch import Script, at_most, counts, encode, wait_until
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.otlp_receiver import HttpReceiver

DELIVERED = Outcome("delivered")
GONE = Outcome("away", reason="Connection refused")
BAD = Outcome("rejected", reason="400 Bad Request")
SOON = 0.01
LIMIT = 100_000_000


@pytest.fixture(autouse=True)
def _say_everything_again() -> Iterator[None]:
    diagnostics.forget("")
    yield
    diagnostics.forget("")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool"


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., Any]]:
    """Make processors with a shelf, and end them."""
    made: list[tuple[Any, Any]] = []

    def processor(transport: Any, **options: Any) -> Any:
        limits = {"max_bytes": options.pop("max_bytes", LIMIT), "max_age": 3600.0}
        limits["max_age"] = options.pop("max_age", 3600.0)
        spool = Spool(options.pop("folder", folder), **limits)
        options = {"delay": SOON, "first_pause": SOON, "ledger": Ledger("owned"), **options}
        shelf = spool.shelf(options.pop("service", "orders"), Script.endpoint, "traces")
        new: BatchProcessor[str] = BatchProcessor(
            "traces", encode=encode, transport=transport, shelf=shelf, **options
        )
        made.append((new, transport))
        return new

    yield processor
    for old, transport in made:
        transport.gate.set()
        old.shutdown(0)
        courier = old._courier._thread
        for thread in (old._thread, courier):
            if thread is not None:
                thread.join(5)
                assert not thread.is_alive()


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    made = Spool(folder, max_bytes=LIMIT, max_age=3600.0)
    yield made
    made.close()


def sent(script: Script) -> list[str]:
    return [name for names in script.sent for name in names]


class TestOutage:
    """The collector goes away and comes back."""

    def test_what_cannot_be_sent_waits_on_disk_and_arrives_once(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing is dropped, nothing arrives twice, and one line says where it waits."""
        script = Script(GONE)
        sender = make(script, max_queue=10, max_batch=4)
        for n in range(8):
            sender.add(str(n))
        wait_until(lambda: counts(sender) == {"produced": 8, "pending_disk": 8})
        del script.sent[:]
        script.outcomes = [DELIVERED]
        wait_until(lambda: counts(sender) == {"produced": 8, "delivered": 8})
        assert sorted(sent(script)) == sorted(set(sent(script)))
        assert capsys.readouterr().err.count("otel_pipeline:") == 1

    def test_far_more_than_the_queue_holds_is_kept(self, make: Any) -> None:
        """The queue is emptied to disk, so its length is no limit."""
        script = Script(GONE)
        sender = make(script, max_queue=50, max_batch=10)
        for n in range(500):
            sender.add(str(n))
            if n % 10 == 9:
                wait_until(lambda: counts(sender).get("pending_memory", 0) < 20)
        wait_until(lambda: counts(sender) == {"produced": 500, "pending_disk": 500})
        script.outcomes = [DELIVERED]
        assert sender.flush(20)
        assert counts(sender) == {"produced": 500, "delivered": 500}

    def test_a_burst_goes_through_the_disk_and_loses_nothing(self, make: Any) -> None:
        """More than the queue holds, all at once: it may be full four times over on its way."""
        sender = make(Script(DELIVERED), max_queue=50, max_batch=10)
        for n in range(200):
            sender.add(str(n))
        assert sender.flush(20)
        assert counts(sender) == {"produced": 200, "delivered": 200}

    def test_a_silent_collector_holds_nothing_in_memory(self, make: Any) -> None:
        """A batch whose answer takes long is on disk meanwhile, and so are those behind it."""
        script = Script(DELIVERED)
        script.gate.clear()
        sender = make(script)
        sender.add("a")
        script.seen.get(timeout=5)
        sender.add("b")
        wait_until(lambda: counts(sender) == {"produced": 2, "pending_disk": 2})
        script.gate.set()
        wait_until(lambda: counts(sender) == {"produced": 2, "delivered": 2})
        assert sent(script) == ["a", "b"]

    def test_the_oldest_goes_first(self, make: Any) -> None:
        """What waits on disk is sent in the order in which it was written."""
        script = Script(GONE)
        sender = make(script, max_batch=1, first_pause=3600)
        for name in "abc":
            sender.add(name)
        wait_until(lambda: counts(sender) == {"produced": 3, "pending_disk": 3})
        del script.sent[:]
        script.outcomes = [DELIVERED]
        assert sender.flush(5)
        assert sent(script) == ["a", "b", "c"]

    def test_retry_after_is_honoured(self, make: Any) -> None:
        """A receiver that asks for a pause is left alone, by a flush too."""
        script = Script(Outcome("retry", retry_after=0.5, reason="429"), DELIVERED)
        sender = make(script)
        sender.add("a")
        wait_until(lambda: counts(sender).get("pending_disk"))
        assert not sender.flush(0.1)
        wait_until(lambda: counts(sender) == {"produced": 1, "delivered": 1})
        assert script.times[1] - script.times[0] >= 0.5

    def test_a_poison_batch_is_set_aside(
        self, make: Any, spool: Spool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A batch that is refused for good is rejected once, kept, and holds nobody up."""
        script = Script(GONE, BAD, DELIVERED)
        sender = make(script, max_batch=1)
        sender.add("a")
        wait_until(lambda: counts(sender) == {"produced": 1, "rejected": 1})
        sender.add("b")
        wait_until(lambda: counts(sender) == {"produced": 2, "rejected": 1, "delivered": 1})
        (entry,) = spool.entries()
        assert (entry.state, entry.items, entry.reason) == ("set_aside", 1, "400 Bad Request")
        assert "rejected spans: 400 Bad Request" in capsys.readouterr().err

    def test_a_partial_success_counts_from_disk_too(self, make: Any) -> None:
        """What a receiver rejects in part is rejected, not delivered."""
        sender = make(Script(GONE, Outcome("delivered", rejected=1)))
        sender.add("a")
        sender.add("b")
        wait_until(lambda: counts(sender).get("delivered") == 1)
        assert counts(sender) == {"produced": 2, "delivered": 1, "rejected": 1}

    def test_a_batch_refused_at_once_is_set_aside_too(self, make: Any, spool: Spool) -> None:
        """Whether it was on disk before makes no difference."""
        sender = make(Script(BAD))
        sender.add("a")
        assert not sender.flush(5)
        wait_until(spool.entries)
        assert [entry.state for entry in spool.entries()] == ["set_aside"]


class TestNextProcess:
    """What one process leaves is the next one's."""

    def test_an_ended_process_leaves_its_batches(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """At the end nothing is dropped, a line says so, and the next one delivers it."""
        first = make(Script(GONE))
        first.add("a")
        with at_most(1):
            first.shutdown(5)
        assert counts(first) == {"produced": 1, "pending_disk": 1}
        assert "1 spans could not be delivered" in capsys.readouterr().err
        script = Script()
        second = make(script)
        second.recover()
        wait_until(lambda: counts(second) == {"recovered": 1, "delivered": 1}, timeout=1)
        assert script.sent == [["a"]]

    def test_another_service_is_left_alone(self, make: Any) -> None:
        """Batches go only to the service and endpoint that they are of."""
        first = make(Script(GONE))
        first.add("a")
        first.shutdown(5)
        script = Script()
        second = make(script, service="payments")
        second.add("b")
        assert second.flush(5)
        assert script.sent == [["b"]]

    def test_a_living_process_keeps_its_batches(self, make: Any) -> None:
        """Nobody takes what belongs to a process that runs."""
        first = make(Script(GONE), first_pause=3600)
        first.add("a")
        wait_until(lambda: counts(first).get("pending_disk"))
        second = make(Script())
        second.recover()
        second.add("b")
        assert second.flush(5)
        assert counts(second) == {"produced": 1, "delivered": 1}


class TestLimits:
    """The disk is not filled, and what gives way is counted."""

    def test_the_oldest_gives_way_to_the_newest(self, make: Any, spool: Spool) -> None:
        """Above the limit the oldest batch is dropped."""
        script = Script(GONE)
        sender = make(script, max_batch=1, first_pause=3600, max_bytes=150_000)
        names = [str(n) + "x" * 20_000 for n in range(10)]
        for name in names:
            sender.add(name)
        wait_until(lambda: counts(sender).get("pending_memory", 0) == 0)
        account = counts(sender)
        assert account["pending_disk"] + account["dropped"] == 10
        assert account["dropped"] >= 3
        assert sum(entry.bytes for entry in spool.entries()) <= 150_000
        del script.sent[:]
        script.outcomes = [DELIVERED]
        assert sender.flush(5)
        assert sent(script) == names[account["dropped"] :]

    def test_what_is_too_old_is_dropped(self, make: Any) -> None:
        """A batch older than the limit is not sent any more."""
        script = Script(GONE, DELIVERED)
        sender = make(script, max_age=0.2, first_pause=0.5)
        sender.add("a")
        wait_until(lambda: counts(sender) == {"produced": 1, "dropped": 1})
        assert script.sent == [["a"]]

    def test_a_batch_that_another_process_evicts_is_counted_by_its_owner(
        self, make: Any, spool: Spool
    ) -> None:
        """Who gives way to another process counts it itself."""
        sender = make(Script(GONE), first_pause=0.1)
        sender.add("a")
        wait_until(lambda: counts(sender).get("pending_disk"))
        assert spool.drop(service=None, signal=None, set_aside=False) == 1
        wait_until(lambda: counts(sender) == {"produced": 1, "dropped": 1})


class TestBrokenDisk:
    """A disk that does not work costs no more than no disk."""

    def test_an_unusable_folder_means_memory_and_is_said_once(
        self, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Items wait in memory, as without a spool."""
        (tmp_path / "file").write_text("")
        script = Script(GONE, GONE, GONE, DELIVERED)
        sender = make(script, folder=tmp_path / "file" / "spool")
        sender.add("a")
        wait_until(lambda: counts(sender) == {"produced": 1, "delivered": 1})
        assert capsys.readouterr().err.count("cannot be used") == 1

    def test_a_damaged_file_is_set_aside(
        self, make: Any, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One message, a new file, and the old one is kept beside it."""
        folder.mkdir(parents=True)
        (folder / "spool.db").write_bytes(b"no database" * 1000)
        sender = make(Script(GONE), first_pause=3600)
        sender.add("a")
        wait_until(
            lambda: counts(sender).get("delivered", 0) or (folder / "spool.db.damaged").exists()
        )
        sender.add("b")
        wait_until(lambda: counts(sender).get("pending_disk"))
        assert (folder / "spool.db.damaged").read_bytes().startswith(b"no database")
        assert capsys.readouterr().err.count("is damaged") == 1

    def test_a_file_that_is_removed_counts_as_dropped(self, make: Any, folder: Path) -> None:
        """Whoever deletes the spool loses what was in it, not in silence."""
        sender = make(Script(GONE), first_pause=0.1)
        sender.add("a")
        wait_until(lambda: counts(sender).get("pending_disk"))
        for path in folder.glob("spool.db*"):
            path.unlink()
        wait_until(lambda: counts(sender) == {"produced": 1, "dropped": 1})

    def test_files_are_for_their_user_alone(self, make: Any, folder: Path) -> None:
        """The folder is 0700, each file 0600, whatever the umask."""
        before = os.umask(0)
        try:
            sender = make(Script(GONE), first_pause=3600)
            sender.add("a")
            wait_until(lambda: counts(sender).get("pending_disk"))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        finally:
            os.umask(before)
        assert {"spool.db", "spool.lock"} <= modes.keys()
        assert set(modes.values()) == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


PROGRAM = """
import os, sys, time
from otel_pipeline import configure, get_logger
from opentelemetry import trace
telemetry = configure("outage", prometheus_port=0, environ=dict(os.environ))
tracer = trace.get_tracer("t")
start, seconds, stage = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
n = start
end = time.monotonic() + seconds
while time.monotonic() < end:
    with tracer.start_as_current_span(f"s{n}"):
        pass
    print(n, time.monotonic(), flush=True)
    n += 1
    time.sleep(0.002)
if stage == "wait":
    time.sleep(60)
"""


def environment(receiver: HttpReceiver, folder: Path, **more: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer t0psecret",
        "OTEL_PIPELINE_SPOOL_DIR": str(folder),
        "OTEL_PIPELINE_LOG_STREAM": "stderr",
        **more,
    }


def test_an_outage_and_a_kill_lose_nothing_that_is_a_second_old(folder: Path) -> None:
    """The receiver stops, the program is killed and started again: each span arrives once."""
    with otlp_receiver() as receiver:
        environ = environment(receiver, folder)
        first = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "0", "60", "wait"],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert first.stdout is not None
        produced: list[tuple[int, float]] = []

        def read_for(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                number, at = first.stdout.readline().split()  # type: ignore[union-attr]
                produced.append((int(number), float(at)))

        read_for(1.5)
        receiver.stop()
        read_for(2.5)
        os.kill(first.pid, signal.SIGKILL)
        killed = time.monotonic()
        first.communicate()
        receiver.start()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "1000000", "1", "end"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        names = [span.name for span in receiver.spans]
    assert len(names) == len(set(names))
    expected = {f"s{n}" for n, at in produced if at < killed - 1}
    expected |= {f"s{line.split()[0]}" for line in done.stdout.splitlines()}
    assert expected <= set(names)
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"t0psecret" not in everything


SHORT = """
import os, sys, time
from otel_pipeline import Pipeline, configure, get_logger
telemetry = configure("exit", prometheus_port=0)
with Pipeline("exit").run(flush=False):
    get_logger("exit").info("done")
start = time.monotonic()
telemetry.shutdown()
seconds = time.monotonic() - start
report = telemetry.report()
print(seconds, *(report[s]["dropped"] for s in ("traces", "logs")),
      *(report[s]["pending_disk"] + report[s]["delivered"] for s in ("traces", "logs")))
"""


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda r: r.stop(), id="refuses"),
        pytest.param(lambda r: r.hang(), id="never answers"),
        pytest.param(lambda r: r.answer(status=503), id="answers 503"),
        pytest.param(lambda r: r.trickle(), id="a byte a second"),
    ],
)
def test_the_end_comes_in_time_and_leaves_all_on_disk(
    misbehave: Callable[[HttpReceiver], None], folder: Path
) -> None:
    """A collector that misbehaves costs the shutdown timeout and half a second, no more."""
    with otlp_receiver() as receiver:
        misbehave(receiver)
        environ = environment(receiver, folder, OTEL_PIPELINE_SHUTDOWN_TIMEOUT="1")
        done = subprocess.run(
            [sys.executable, "-c", SHORT],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        seconds, *numbers = done.stdout.split()
        assert numbers == ["0", "0", "1", "1"]
        assert float(seconds) < 1.5
        assert "1 spans could not be delivered" in done.stderr
        assert "1 log records could not be delivered" in done.stderr
        assert "dropped" not in done.stderr
        receiver.accept()
        if receiver._server is None:
            receiver.start()
        before = len(receiver.spans)
        subprocess.run(
            [sys.executable, "-c", SHORT], env=environ, capture_output=True, check=True, timeout=60
        )
        assert (len(receiver.spans) - before, len(receiver.logs)) == (2, 2)


def test_two_processes_on_one_folder_send_each_batch_once(folder: Path) -> None:
    """Processes of one service share the spool, through an outage, a kill and a takeover."""
    with otlp_receiver() as receiver:
        environ = environment(receiver, folder)
        receiver.stop()
        command = [sys.executable, "-c", PROGRAM]
        options: dict[str, Any] = {"env": environ, "stdout": subprocess.PIPE, "text": True}
        victim = subprocess.Popen([*command, "0", "1", "wait"], **options)
        others = [
            subprocess.Popen([*command, str(n * 1_000_000), "4", "end"], **options) for n in (1, 2)
        ]
        assert victim.stdout is not None
        lines: list[str] = []
        while True:
            lines.append(victim.stdout.readline())
            if float(lines[-1].split()[1]) - float(lines[0].split()[1]) > 0.9:
                break
        time.sleep(1.2)
        victim.kill()
        lines += victim.communicate()[0].splitlines()
        receiver.start()
        for other in others:
            lines += other.communicate(timeout=60)[0].splitlines()
            assert other.returncode == 0
        last = subprocess.run([*command, "3000000", "1", "end"], **options, check=True, timeout=60)
        lines += last.stdout.splitlines()
        names = [span.name for span in receiver.spans]
    assert len(names) == len(set(names))
    assert {f"s{line.split()[0]}" for line in lines} == set(names)


class TestMishaps:
    """What should not happen does no harm."""

    def test_what_was_sent_but_not_deleted_is_not_sent_again(
        self, make: Any, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that fails just then delays the deletion, and doubles nothing."""
        script = Script(GONE, DELIVERED)
        sender = make(script)
        shelf = sender._courier._shelf
        delete = shelf.delete
        failures = [SpoolError("disk I/O error"), SpoolError("disk I/O error")]

        def fail_twice(number: int) -> Any:
            if failures:
                raise failures.pop()
            return delete(number)

        monkeypatch.setattr(shelf, "delete", fail_twice)
        sender.add("a")
        wait_until(lambda: counts(sender) == {"produced": 1, "delivered": 1})
        sender.add("b")
        wait_until(lambda: counts(sender) == {"produced": 2, "delivered": 2})
        sender.shutdown(5)
        assert script.sent == [["a"], ["a"], ["b"]]
        assert spool.entries() == []

    def test_a_transport_that_raises_costs_nothing(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The batch is on disk, and is sent later."""
        sender = make(Script(ValueError("odd"), DELIVERED))
        sender.add("a")
        wait_until(lambda: counts(sender) == {"produced": 1, "delivered": 1})
        assert "ValueError('odd')" in capsys.readouterr().err

    def test_without_a_thread_batches_go_to_disk(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the interpreter ends no thread starts: what is left is kept all the same."""

        def refuse(self: Any) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("threading.Thread.start", refuse)
        sender = make(Script())
        sender.add("a")
        sender.shutdown(5)
        assert counts(sender) == {"produced": 1, "pending_disk": 1}

    def test_a_batch_that_waits_behind_a_slow_one_is_sent_once(self, make: Any) -> None:
        """What goes to disk before its turn comes is sent from there alone."""
        script = Script(DELIVERED)
        first = make(script)
        script.gate.clear()
        first.add("a")
        script.seen.get(timeout=5)
        courier = first._courier
        courier._busy_since = None  # as if it had only just begun
        first.add("b")
        wait_until(lambda: counts(first) == {"produced": 2, "pending_disk": 2})
        script.gate.set()
        wait_until(lambda: counts(first) == {"produced": 2, "delivered": 2})
        assert sent(script) == ["a", "b"]


PUSHES = """
import json, sys
from otel_pipeline import Counter, configure
telemetry = configure("pushes", prometheus_port=0)
Counter("push_jobs", "Jobs").inc(int(sys.argv[1]))
telemetry.shutdown()
print(json.dumps(telemetry.report()["metrics"]))
"""


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_the_last_push_of_metrics_waits_on_disk(temporality: str, tmp_path: Path) -> None:
    """A short job's metrics reach a collector that was away, by the next run, exactly once."""

    def run(jobs: int) -> dict[str, int]:
        result = subprocess.run(
            [sys.executable, "-c", PUSHES, str(jobs)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": temporality,
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_PIPELINE_SPOOL_DIR": str(tmp_path),
                "OTEL_TRACES_EXPORTER": "none",
            },
        )
        report: dict[str, int] = json.loads(result.stdout)
        return report

    with otlp_receiver() as receiver:
        receiver.answer(status=503)
        first = run(5)
        assert first["pending_disk"] == first["produced"] > 0
        receiver.accept()
        second = run(7)
        values = [
            point.as_double or point.as_int
            for metric in receiver.metrics
            if metric.name == "push_jobs"
            for point in metric.sum.data_points
        ]
    assert second["recovered"] == first["pending_disk"]
    assert second["delivered"] == second["produced"] + second["recovered"]
    assert sorted(values) == [5, 7]
