"""The batch processor: nothing is lost in silence, nobody waits, and the end comes in time."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_pipeline import diagnostics
from otel_pipeline.config import OtlpConfig
from otel_pipeline.sdk import batch as batch_module
from otel_pipeline.sdk.batch import BatchProcessor
from otel_pipeline.sdk.ledger import Ledger
from otel_pipeline.sdk.transport import Outcome, exporting, transport_for
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from otel_pipeline.sdk.ledger import Account
    from tests.otlp_receiver import HttpReceiver

SLACK = 0.5  # seconds that a busy machine may add to the 0.1 s that are promised
SOON = 0.01  # a delay after which items leave by themselves
NEVER = 3600.0  # a delay or pause that no test sees the end of

DELIVERED = Outcome("delivered")
BUSY = Outcome("retry", reason="503 Service Unavailable")
GONE = Outcome("away", reason="Connection refused")

Processor = BatchProcessor[str]


def encode(items: Sequence[str]) -> bytes:
    """Encode names as spans; some cannot be encoded."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for item in items:
        if item.startswith("bad"):
            raise ValueError(f"cannot encode {item}")
        scope.spans.add().name = item
    return bytes(request.SerializeToString())


def decode(payload: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(payload)
    return [span.name for span in request.resource_spans[0].scope_spans[0].spans]


class Script:
    """A transport that answers as told: the outcomes in turn, the last one for ever."""

    endpoint = "http://collector:4318/v1/traces"

    def __init__(self, *outcomes: Outcome | Exception) -> None:
        self.outcomes = list(outcomes or [DELIVERED])
        self.sent: list[list[str]] = []
        self.timeouts: list[float] = []
        self.times: list[float] = []
        self.seen: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False
        self.in_thread: list[str] = []
        self.marked: list[bool] = []

    def send(self, payload: bytes, *, timeout: float) -> Outcome:
        names = decode(payload)
        self.in_thread.append(threading.current_thread().name)
        self.marked.append(exporting())
        self.times.append(time.monotonic())
        self.timeouts.append(timeout)
        self.sent.append(names)
        self.seen.put(names)
        self.gate.wait(30)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _say_everything_again() -> Iterator[None]:
    diagnostics.forget("export:")
    yield
    diagnostics.forget("export:")


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Make processors, and end them."""
    made: list[tuple[Processor, Any]] = []

    def processor(transport: Any, **options: Any) -> Any:
        options = {"delay": NEVER, "first_pause": SOON, "ledger": Ledger("owned"), **options}
        new: Processor = BatchProcessor("traces", encode=encode, transport=transport, **options)
        made.append((new, transport))
        return new

    yield processor
    for old, transport in made:
        if isinstance(transport, Script):
            transport.gate.set()
        old.shutdown(0)
        if old._thread is not None:
            old._thread.join(5)
            assert not old._thread.is_alive()


def counts(processor: Any) -> dict[str, int]:
    """What the ledger says, without zeros."""
    account: dict[str, Any] = dict(processor._ledger.snapshot())
    return {name: n for name, n in account.items() if name != "state" and n}


def worker_of(processor: Any) -> threading.Thread | None:
    thread: threading.Thread | None = processor._thread
    return thread


def wait_until(predicate: Callable[[], object], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.002)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


class TestBatches:
    """When items leave, and with whom."""

    def test_nothing_runs_before_the_first_item(self, make: Any) -> None:
        """The worker is a daemon thread with a telling name, started by the first item."""
        sender = make(Script())
        assert worker_of(sender) is None
        sender.add("a")
        worker = worker_of(sender)
        assert worker is not None
        assert (worker.name, worker.daemon) == ("otel-pipeline-traces", True)

    def test_items_leave_in_order_after_the_delay(self, make: Any) -> None:
        """What came within the delay is one request."""
        script = Script()
        sender = make(script, delay=0.2)
        sender.add("a")
        sender.add("b")
        assert script.seen.get(timeout=5) == ["a", "b"]
        wait_until(lambda: counts(sender) == {"produced": 2, "delivered": 2})

    def test_a_full_batch_leaves_at_once(self, make: Any) -> None:
        """No request has more than `max_batch` items, and the rest waits for its delay."""
        script = Script()
        sender = make(script, max_batch=3)
        for name in "abcdefg":
            sender.add(name)
        assert script.seen.get(timeout=5) == ["a", "b", "c"]
        assert script.seen.get(timeout=5) == ["d", "e", "f"]
        assert script.seen.empty()
        assert sender.flush(5)
        assert script.sent[-1] == ["g"]

    def test_every_item_leaves_without_anybody_asking(self, make: Any) -> None:
        """Bursts of any size from many threads all leave by themselves."""
        script = Script()
        sender = make(script, delay=SOON, max_batch=7, max_queue=100_000)

        def burst() -> None:
            for n in range(500):
                sender.add(str(n))

        threads = [threading.Thread(target=burst) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: counts(sender) == {"produced": 2000, "delivered": 2000})
        assert max(map(len, script.sent)) <= 7

    def test_an_idle_worker_sleeps(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """With nothing to do, the worker waits without a timeout."""
        sender = make(Script(), delay=SOON)
        sender.add("a")
        assert sender.flush(5)
        waits: list[Any] = []
        receive = sender._receive

        def look(until: Any) -> bool:
            waits.append(until)
            return bool(receive(until))

        monkeypatch.setattr(sender, "_receive", look)
        sender.add("b")
        assert sender.flush(5)
        wait_until(lambda: waits and waits[-1] is None)
        before = len(waits)
        time.sleep(0.1)  # many times the delay
        assert len(waits) == before

    def test_the_worker_is_marked_as_exporting(self, make: Any) -> None:
        """Encoding and sending both run with instrumentation suppressed."""
        script = Script()
        sender = make(script)
        marked = []

        def look(items: Sequence[str]) -> bytes:
            marked.append(exporting())
            return encode(items)

        sender._encode = look
        sender.add("a")
        assert sender.flush(5)
        assert (marked, script.marked) == ([True], [True])

    def test_one_item_may_count_for_many(self, make: Any) -> None:
        """A push of data points is one item, and its points are what the ledger counts."""
        sender = make(Script(Outcome("delivered", rejected=1)), count=int)
        sender.add("3")
        sender.add("4")
        assert not sender.flush(5)
        assert counts(sender) == {"produced": 7, "delivered": 6, "rejected": 1}

    def test_adding_never_waits_for_the_receiver(self, make: Any) -> None:
        """While a request is under way, adding is as quick as ever."""
        script = Script()
        script.gate.clear()
        sender = make(script, delay=SOON, max_queue=10_000)
        sender.add("a")
        script.seen.get(timeout=5)
        with at_most(1):
            for _ in range(10_000):
                sender.add("b")


class TestFull:
    """A queue that is full."""

    def test_the_oldest_items_are_dropped_and_counted(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What is newest is kept; it is said once."""
        script = Script()
        script.gate.clear()
        sender = make(script, delay=SOON, max_queue=3)
        sender.add("first")
        script.seen.get(timeout=5)
        for name in "abcdefg":
            sender.add(name)
        assert counts(sender) == {"produced": 8, "dropped": 4, "pending_memory": 4}
        script.gate.set()
        assert sender.flush(5)
        assert script.sent == [["first"], ["e", "f", "g"]]
        assert counts(sender) == {"produced": 8, "dropped": 4, "delivered": 4}
        assert capsys.readouterr().err == (
            "otel_pipeline: the queue of 3 spans is full: the oldest are dropped\n"
        )

    def test_the_account_balances_at_every_moment(self, make: Any) -> None:
        """Under load, overflow, retries and rejections, no snapshot shows an item twice or none."""
        outcomes = [
            DELIVERED,
            Outcome("retry", retry_after=0.0),
            Outcome("delivered", rejected=2),
            Outcome("rejected", reason="400"),
            GONE,
        ]
        sender = make(Script(*outcomes * 40, DELIVERED), max_queue=20, max_batch=5, delay=SOON)
        done = threading.Event()
        wrong: list[Account] = []

        def look() -> None:
            while not done.is_set():
                account = sender._ledger.snapshot()
                ended = account["delivered"] + account["rejected"] + account["dropped"]
                if not (
                    account["produced"] == ended + account["pending_memory"]
                    and 0 <= account["pending_memory"] <= 20 + 5 + 4  # queue, hand, on the way in
                ):
                    wrong.append(account)

        def work() -> None:
            for n in range(1000):
                sender.add("bad" if n % 97 == 0 else "good")

        looker = threading.Thread(target=look)
        workers = [threading.Thread(target=work) for _ in range(4)]
        for thread in [looker, *workers]:
            thread.start()
        for thread in workers:
            thread.join()
        sender.flush(5)
        sender.shutdown(5)
        done.set()
        looker.join()
        assert wrong == []
        account = sender._ledger.snapshot()
        assert account["produced"] == 4000
        assert account["pending_memory"] == 0
        assert account["delivered"] + account["rejected"] + account["dropped"] == 4000


class TestFaults:
    """Items that cannot be encoded, and code that fails."""

    def test_only_the_bad_items_of_a_batch_are_dropped(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The good ones around them are delivered; the reason is said once."""
        script = Script()
        sender = make(script)
        for name in ("a", "bad1", "b", "bad2"):
            sender.add(name)
        assert not sender.flush(5)
        sender.add("bad3")
        assert not sender.flush(5)
        assert script.sent == [["a", "b"]]
        assert counts(sender) == {"produced": 5, "delivered": 2, "dropped": 3}
        assert capsys.readouterr().err == (
            "otel_pipeline: spans that cannot be encoded are dropped: "
            "ValueError('cannot encode bad1')\n"
        )

    def test_a_transport_that_raises_does_not_end_the_worker(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """That batch is dropped, said and counted, and the next one goes out."""
        sender = make(Script(RuntimeError("a bug"), DELIVERED), delay=SOON)
        sender.add("a")
        wait_until(lambda: counts(sender) == {"produced": 1, "dropped": 1})
        sender.add("b")
        assert sender.flush(5)
        assert counts(sender) == {"produced": 2, "delivered": 1, "dropped": 1}
        assert capsys.readouterr().err == (
            "otel_pipeline: exporting spans failed, they are dropped: RuntimeError('a bug')\n"
        )

    def test_a_log_handler_that_raises_does_not_end_the_worker(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the operator's own handler does cannot stop the export."""

        class Broken(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise RuntimeError("a bug")

        monkeypatch.setattr(diagnostics.LOGGER, "handlers", [Broken()])
        sender = make(Script(Outcome("rejected", reason="400"), DELIVERED))
        sender.add("a")
        assert not sender.flush(5)
        sender.add("b")
        assert sender.flush(5)

    def test_without_threads_the_shutdown_sends(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the interpreter allows no new thread, what is queued still goes out."""
        script = Script()
        sender = make(script)

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            sender.add("a")
            assert not sender.flush(0)
            sender.shutdown(5)
        assert script.sent == [["a"]]
        assert script.in_thread == [threading.current_thread().name]
        assert script.marked == [True]
        assert counts(sender) == {"produced": 1, "delivered": 1}

    def test_a_thread_that_could_not_be_started_is_tried_again(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that is short of threads for a moment exports as soon as it can."""
        sender = make(Script(), delay=SOON)

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            sender.add("a")
        sender.add("b")
        wait_until(lambda: counts(sender) == {"produced": 2, "delivered": 2})

    def test_a_failure_in_that_last_try_stays_inside(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No exception comes out of a shutdown."""
        sender = make(Script(RuntimeError("a bug")), max_batch=1)
        with monkeypatch.context() as patch:
            patch.setattr(sender, "_start", lambda: None)
            sender.add("a")
            sender.add("b")
            sender.shutdown(5)
        assert counts(sender) == {"produced": 2, "dropped": 2}


class TestAnswers:
    """What becomes of items after each answer of the receiver."""

    def test_rejected_items_are_not_sent_again(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """They are counted, and said once for each kind of reason."""
        sender = make(
            Script(
                Outcome("rejected", reason="400 Bad Request: id 1"),
                Outcome("rejected", reason="400 Bad Request: id 2"),
                Outcome("rejected", reason="401 Unauthorized"),
            )
        )
        for name in "abc":
            sender.add(name)
            assert not sender.flush(5)
        assert counts(sender) == {"produced": 3, "rejected": 3}
        assert capsys.readouterr().err.splitlines() == [
            "otel_pipeline: http://collector:4318/v1/traces rejected spans: 400 Bad Request: id 1",
            "otel_pipeline: http://collector:4318/v1/traces rejected spans: 401 Unauthorized",
        ]

    def test_a_partial_rejection_is_counted(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Rejected items are not delivered ones, and are never more than were sent."""
        sender = make(
            Script(
                Outcome("delivered", rejected=2, reason="too old"),
                Outcome("delivered", rejected=9, reason="too old"),
            ),
            delay=NEVER,
        )
        for name in "abc":
            sender.add(name)
        assert not sender.flush(5)
        assert counts(sender) == {"produced": 3, "delivered": 1, "rejected": 2}
        sender.add("d")
        assert not sender.flush(5)
        assert counts(sender) == {"produced": 4, "delivered": 1, "rejected": 3}
        assert capsys.readouterr().err == (
            "otel_pipeline: http://collector:4318/v1/traces rejected spans: too old\n"
        )

    def test_a_remark_is_passed_on(self, make: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """A receiver may warn without rejecting anything."""
        sender = make(Script(Outcome("delivered", reason="use v2")))
        for _ in range(2):
            sender.add("a")
            assert sender.flush(5)
        assert capsys.readouterr().err == (
            "otel_pipeline: http://collector:4318/v1/traces took spans and says: use v2\n"
        )

    def test_a_busy_receiver_gets_the_same_batch_again(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The batch stays first in line and pending, and newer items wait behind it."""
        script = Script(BUSY, BUSY, DELIVERED)
        sender = make(script, delay=SOON, max_batch=1)
        sender.add("a")
        script.seen.get(timeout=5)
        sender.add("b")
        assert sender.flush(5)
        assert script.sent == [["a"], ["a"], ["a"], ["b"]]
        assert counts(sender) == {"produced": 2, "delivered": 2}
        assert not sender.away
        assert capsys.readouterr().err == (
            "otel_pipeline: http://collector:4318/v1/traces cannot take spans now, tried again: "
            "503 Service Unavailable\n"
        )

    def test_pauses_grow_and_begin_anew_after_a_success(
        self, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """1 s, 1.5 s, 2.25 s, up to 30 s; jitter keeps many processes apart."""
        sender = make(Script(), first_pause=1.0)
        monkeypatch.setattr(random, "uniform", lambda low, high: high)
        monkeypatch.setattr(time, "monotonic", lambda: 0.0)
        pauses = []
        for outcome in [BUSY, BUSY, GONE, BUSY, *[BUSY] * 20, DELIVERED, BUSY]:
            sender._plan_next(outcome)
            pauses.append(round(sender._next_attempt / 1.2, 4))
        assert pauses[:4] == [1.0, 1.5, 2.25, 3.375]
        assert pauses[20:24] == [30.0] * 4
        assert pauses[-1] == 1.0

    def test_retry_after_is_obeyed_within_reason(self, make: Any) -> None:
        """The receiver's own pause counts, in place of ours, up to five minutes."""
        script = Script(Outcome("retry", retry_after=0.3), DELIVERED)
        sender = make(script, delay=SOON)
        sender.add("a")
        script.seen.get(timeout=5)
        assert sender.flush(5)
        first, second = script.times
        assert second - first >= 0.3
        start = time.monotonic()
        sender._plan_next(Outcome("retry", retry_after=86400.0))
        assert 299 < sender._next_attempt - start < 302


class TestAway:
    """When nothing answers."""

    def test_an_endpoint_that_was_asked_for_is_waited_for(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Items stay pending until it is back, and `away` tells."""
        script = Script(GONE, GONE, DELIVERED)
        script.gate.clear()
        sender = make(script, delay=SOON)
        sender.add("a")
        script.seen.get(timeout=5)
        assert not sender.away
        script.gate.set()
        wait_until(lambda: counts(sender) == {"produced": 1, "delivered": 1})
        assert script.sent == [["a"]] * 3
        assert not sender.away
        assert capsys.readouterr().err == (
            "otel_pipeline: http://collector:4318/v1/traces does not answer: spans wait in "
            "memory, at most 2048, and are tried again: Connection refused\n"
        )

    def test_a_default_endpoint_that_nobody_set_is_not_waited_for(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Items are dropped and counted, with one line that says what to do."""
        script = Script(GONE)
        sender = make(script, explicit=False, delay=SOON, first_pause=NEVER)
        for _ in range(3):
            sender.add("a")
            wait_until(lambda: counts(sender).get("pending_memory", 0) == 0)
        assert script.sent == [["a"]]  # the others were not even tried
        assert sender.away
        sender.shutdown(1)
        assert counts(sender) == {"produced": 3, "dropped": 3}
        assert capsys.readouterr().err == (
            "otel_pipeline: no OpenTelemetry collector answers at http://collector:4318: what is "
            "sent there is dropped. Start one, set OTEL_EXPORTER_OTLP_ENDPOINT, or set "
            "OTEL_TRACES_EXPORTER=none and OTEL_LOGS_EXPORTER=none\n"
        )

    def test_a_grpc_target_is_named_as_it_is(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An endpoint need not be a URL."""
        script = Script(GONE)
        script.endpoint = "localhost:4317"
        sender = make(script, explicit=False)
        sender.add("a")
        assert not sender.flush(5)
        assert "collector answers at localhost:4317: what is sent" in capsys.readouterr().err

    def test_a_default_endpoint_is_probed_again_later(self, make: Any) -> None:
        """A collector that is started afterwards gets what comes then."""
        script = Script(GONE, DELIVERED)
        sender = make(script, explicit=False, delay=SOON, first_pause=0.05)
        sender.add("lost")
        wait_until(lambda: sender.away)
        wait_until(lambda: time.monotonic() > sender._next_attempt)
        sender.add("found")
        wait_until(lambda: counts(sender) == {"produced": 2, "delivered": 1, "dropped": 1})
        assert not sender.away


class TestFlush:
    """Waiting until everything is gone."""

    def test_an_empty_queue_is_flushed(self, make: Any) -> None:
        """Nothing was lost, and no thread is needed to say so."""
        sender = make(Script())
        assert sender.flush(5)
        assert sender._thread is None

    def test_it_does_not_wait_for_the_delay(self, make: Any) -> None:
        """All that was added before is sent at once, in batches."""
        script = Script()
        sender = make(script, max_batch=2)
        for name in "abcde":
            sender.add(name)
        with at_most(5):
            assert sender.flush(60)
        assert script.sent == [["a", "b"], ["c", "d"], ["e"]]

    def test_it_waits_for_what_is_under_way(self, make: Any) -> None:
        """An item that is being sent is not gone yet."""
        script = Script()
        script.gate.clear()
        sender = make(script, delay=SOON)
        sender.add("a")
        script.seen.get(timeout=5)
        assert not sender.flush(0.05)
        script.gate.set()
        assert sender.flush(5)

    def test_many_threads_flush_at_once(self, make: Any) -> None:
        """Each is answered as soon as its own items are gone."""
        sender = make(Script())
        answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

        def work() -> None:
            for _ in range(20):
                sender.add("a")
                answers.put(sender.flush(10))

        threads = [threading.Thread(target=work) for _ in range(8)]
        with at_most(20):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert {answers.get() for _ in range(160)} == {True}
        assert counts(sender) == {"produced": 160, "delivered": 160}

    def test_while_away_it_is_quickly_told_so(self, make: Any) -> None:
        """One quick attempt, then False, though its time is not over and the pause is long."""
        script = Script(GONE)
        sender = make(script, delay=SOON, first_pause=NEVER)
        sender.add("a")
        wait_until(lambda: sender.away)
        with at_most(5):
            assert not sender.flush(60)
        assert len(script.sent) == 2
        assert script.timeouts[1] <= 0.5
        assert counts(sender) == {"produced": 1, "pending_memory": 1}

    def test_a_default_endpoint_gets_one_attempt_for_a_flush(self, make: Any) -> None:
        """Even while items are dropped unseen, a flush looks whether somebody is there now."""
        script = Script(GONE, GONE, DELIVERED)
        sender = make(script, explicit=False, first_pause=NEVER)
        answers = []
        for name in "abc":
            sender.add(name)
            answers.append(sender.flush(5))
        assert answers == [False, False, True]
        assert script.sent == [["a"], ["b"], ["c"]]

    def test_it_does_not_shorten_a_pause_that_the_receiver_asked_for(self, make: Any) -> None:
        """Retry-After holds, so the flush ends in vain."""
        script = Script(Outcome("retry", retry_after=60.0))
        sender = make(script, delay=SOON)
        sender.add("a")
        script.seen.get(timeout=5)
        assert not sender.flush(0.1)
        assert len(script.sent) == 1

    def test_it_tries_a_busy_receiver_once_and_then_at_its_pace(self, make: Any) -> None:
        """A flush cuts our own pause short, but does not hammer."""
        script = Script(BUSY)
        sender = make(script, delay=SOON, first_pause=NEVER)
        sender.add("a")
        script.seen.get(timeout=5)
        assert not sender.flush(0.2)
        assert len(script.sent) == 2

    def test_zero_asks_without_waiting(self, make: Any) -> None:
        """Several signals can be asked first and waited for together."""
        script = Script()
        sender = make(script)
        sender.add("a")
        sender.flush(0)
        assert script.seen.get(timeout=5) == ["a"]

    def test_a_flush_whose_time_is_over_hurries_nobody(self, make: Any) -> None:
        """Later items wait for their delay again."""
        script = Script(BUSY, DELIVERED)
        sender = make(script, first_pause=0.1)
        sender.add("a")
        assert not sender.flush(0.01)
        wait_until(lambda: counts(sender) == {"produced": 1, "delivered": 1})
        assert sender._flushes == []

    def test_after_the_end_it_answers_at_once(self, make: Any) -> None:
        """Nothing is pending then, so there is nothing to wait for."""
        sender = make(Script())
        sender.add("a")
        sender.shutdown(5)
        with at_most(1):
            assert sender.flush(60)

    def test_after_the_end_an_item_on_its_way_in_holds_nobody(self, make: Any) -> None:
        """Produced, but not yet queued: a flush does not wait for it when all is over."""
        sender = make(Script())
        sender.shutdown(5)
        sender._ledger.produce()
        with at_most(1):
            assert not sender.flush(60)
        sender._ledger.drop(1)


class TestShutdown:
    """The end: one last try, in time."""

    def test_what_is_queued_is_sent(self, make: Any) -> None:
        """All batches leave without their delay, and the transport and the thread are gone."""
        script = Script()
        sender = make(script, max_batch=2)
        for name in "abcde":
            sender.add(name)
        with at_most(5):
            sender.shutdown(60)
        assert script.sent == [["a", "b"], ["c", "d"], ["e"]]
        assert counts(sender) == {"produced": 5, "delivered": 5}
        assert script.closed
        sender._thread.join(5)
        assert not sender._thread.is_alive()

    def test_later_items_are_dropped_and_counted(self, make: Any) -> None:
        """Adding after the end is no error."""
        sender = make(Script())
        sender.shutdown(1)
        sender.add("late")
        assert counts(sender) == {"produced": 1, "dropped": 1}
        assert sender._thread is None

    def test_an_item_that_comes_in_meanwhile_is_dropped_and_counted(self, make: Any) -> None:
        """No item is left in a queue that nobody looks at."""
        sender = make(Script())
        sender.add("a")
        assert sender.flush(5)
        worker: Any = worker_of(sender)

        class EndingNow(deque[str]):
            def append(self, item: str) -> None:
                sender.shutdown(5)
                worker.join(5)
                super().append(item)

        sender._queue = EndingNow()
        sender.add("late")
        assert counts(sender) == {"produced": 2, "delivered": 1, "dropped": 1}

    def test_items_between_queue_and_hand_are_not_forgotten(self, make: Any) -> None:
        """What the worker holds when the time is over is dropped and counted by the worker."""
        reached, proceed = threading.Event(), threading.Event()

        def count(item: str) -> int:
            if threading.current_thread().name.startswith("otel-pipeline"):
                reached.set()
                proceed.wait(30)
            return 1

        sender = make(Script(BUSY), count=count, delay=SOON)
        sender.add("a")
        assert reached.wait(5)
        sender.shutdown(0)
        proceed.set()
        sender._thread.join(5)
        assert counts(sender) == {"produced": 1, "dropped": 1}

    def test_a_pause_is_cut_short_for_the_last_try(self, make: Any) -> None:
        """Back-off does not delay the end."""
        script = Script(BUSY, DELIVERED)
        sender = make(script, delay=SOON, first_pause=NEVER)
        sender.add("a")
        script.seen.get(timeout=5)
        with at_most(5):
            sender.shutdown(60)
        assert counts(sender) == {"produced": 1, "delivered": 1}

    @pytest.mark.parametrize("outcome", [BUSY, GONE], ids=["busy", "away"])
    def test_the_last_try_is_one(
        self, make: Any, capsys: pytest.CaptureFixture[str], outcome: Outcome
    ) -> None:
        """When it fails, the rest is dropped at once, and one line says how much, where and why."""
        script = Script(outcome)
        sender = make(script, max_batch=2)
        for name in "abcde":
            sender.add(name)
        script.seen.get(timeout=5)
        with at_most(5):
            sender.shutdown(60)
        assert counts(sender) == {"produced": 5, "dropped": 5}
        last = (
            f"otel_pipeline: 5 spans could not be delivered to {script.endpoint} before the end "
            f"and are dropped: {outcome.reason}"
        )
        assert capsys.readouterr().err.splitlines()[-1:] == [last]

    def test_a_send_under_way_is_abandoned(
        self, make: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its items count as dropped, once, whatever becomes of it later."""
        script = Script()
        script.gate.clear()
        sender = make(script, delay=SOON)
        sender.add("a")
        script.seen.get(timeout=5)
        sender.add("b")
        with at_most(0.3 + SLACK):
            sender.shutdown(0.3)
        assert counts(sender) == {"produced": 2, "dropped": 2}
        script.gate.set()
        sender._thread.join(5)
        assert counts(sender) == {"produced": 2, "dropped": 2}
        assert "2 spans could not be delivered" in capsys.readouterr().err

    def test_it_may_be_called_again_and_by_many(self, make: Any) -> None:
        """Only the first call does something; nobody waits longer for it than allowed."""
        sender = make(Script())
        sender.add("a")
        threads = [threading.Thread(target=sender.shutdown, args=(60,)) for _ in range(4)]
        with at_most(5):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            sender.shutdown(60)
        assert counts(sender) == {"produced": 1, "delivered": 1}

    def test_several_can_be_closed_before_they_are_waited_for(self, make: Any) -> None:
        """`close` begins the last try at once, so several signals share the time."""
        scripts = [Script(), Script()]
        senders = [make(script) for script in scripts]
        for sender in senders:
            sender.add("a")
            sender.close(60)
        for script in scripts:
            assert script.seen.get(timeout=5) == ["a"]
        for sender in senders:
            sender.shutdown(60)
            assert counts(sender) == {"produced": 1, "delivered": 1}

    def test_a_flush_during_the_end_is_answered(self, make: Any) -> None:
        """Who waits for a flush is not forgotten."""
        script = Script(BUSY)
        script.gate.clear()
        sender = make(script)
        sender.add("a")
        sender.close(60)
        script.seen.get(timeout=5)
        answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: answers.put(sender.flush(60)))
        thread.start()
        wait_until(lambda: not sender._inbox.empty())
        script.gate.set()
        assert answers.get(timeout=5) is False
        thread.join()

    def test_the_exit_does_not_wait_for_a_default_endpoint(self, make: Any) -> None:
        """One quick attempt, where nobody answered before and nobody asked for it."""
        script = Script(GONE)
        sender = make(script, explicit=False, first_pause=NEVER, max_batch=4)
        sender.add("a")
        assert not sender.flush(5)
        for name in "bcdefg":
            sender._queue.append(name)
            sender._ledger.produce()
        sender.shutdown(60)
        assert script.sent == [["a"], ["b", "c", "d", "e"]]
        assert counts(sender) == {"produced": 7, "dropped": 7}
        assert script.timeouts[-1] <= 0.5


def config(endpoint: str) -> OtlpConfig:
    return OtlpConfig(
        protocol="http/protobuf",
        endpoint=f"{endpoint}/v1/traces",
        explicit=True,
        headers={},
        timeout=10.0,
        compression="gzip",
        certificate=None,
        client_certificate=None,
        client_key=None,
        insecure=False,
    )


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with otlp_receiver() as running:
        yield running


class TestRealReceiver:
    """The same over the wire."""

    def test_everything_arrives_once(self, receiver: HttpReceiver, make: Any) -> None:
        """Items of many threads arrive, each once."""
        sender = make(transport_for("traces", config(receiver.endpoint)), max_queue=100_000)

        def work(name: str) -> None:
            for n in range(250):
                sender.add(f"{name}{n}")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sender.flush(10)
        names = [span.name for span in receiver.spans]
        assert len(names) == len(set(names)) == 1000

    def test_an_outage_loses_nothing(self, receiver: HttpReceiver, make: Any) -> None:
        """What was produced while the receiver was away arrives when it is back."""
        sender = make(
            transport_for("traces", config(receiver.endpoint)), delay=SOON, first_pause=0.05
        )
        sender.add("before")
        assert sender.flush(5)
        receiver.stop()
        sender.add("meanwhile")
        wait_until(lambda: sender.away)
        assert not sender.flush(5)
        receiver.start()
        receiver.wait_for(lambda: len(receiver.spans) == 2)
        assert sender.flush(5)
        assert counts(sender) == {"produced": 2, "delivered": 2}

    @pytest.mark.parametrize("fault", ["stop", "answer", "hang", "trickle", "break_off"])
    @pytest.mark.parametrize("under_way", [False, True], ids=["queued", "under way"])
    def test_the_end_comes_in_time_whatever_the_receiver_does(
        self,
        receiver: HttpReceiver,
        make: Any,
        capsys: pytest.CaptureFixture[str],
        fault: str,
        under_way: bool,
    ) -> None:
        """3,000 pending spans end within the timeout: refused, answered 503, mute, byte by byte."""
        getattr(receiver, fault)()
        sender = make(
            transport_for("traces", config(receiver.endpoint)),
            delay=SOON if under_way else NEVER,
            max_queue=5000,
            max_batch=5000 if not under_way else 512,
            first_pause=NEVER,
        )
        for n in range(3000):
            sender.add(f"span {n}")
        if under_way and fault != "stop":
            receiver.wait_for(lambda: receiver.requests)
        with at_most(0.5 + SLACK):
            sender.shutdown(0.5)
        account = counts(sender)
        assert account == {"produced": 3000, "dropped": 3000}
        assert "3000 spans could not be delivered to" in capsys.readouterr().err
        sender._thread.join(5)  # closing the transport lets the worker go
        assert not sender._thread.is_alive()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
class TestFork:
    """A forked child has a queue of its own."""

    def test_parent_and_child_each_send_what_they_added(
        self, receiver: HttpReceiver, make: Any
    ) -> None:
        """The parent's queue is the parent's; the child starts a worker when it adds."""
        sender = make(transport_for("traces", config(receiver.endpoint)))
        sender.add("warm")
        assert sender.flush(5)
        sender.add("parent")
        pid = os.fork()
        if pid == 0:
            fine = sender._thread is None and counts(sender) == {}
            sender.add("child")
            fine = fine and sender.flush(5) and counts(sender) == {"produced": 1, "delivered": 1}
            sender.shutdown(1)
            os._exit(0 if fine else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert sender.flush(5)
        assert [span.name for span in receiver.spans] == ["warm", "child", "parent"]

    def test_forks_under_load_neither_hang_nor_double(
        self, receiver: HttpReceiver, make: Any
    ) -> None:
        """Children that fork while other threads add and send all deliver exactly their own."""
        sender = make(transport_for("traces", config(receiver.endpoint)), max_queue=1_000_000)
        done = threading.Event()

        def load() -> None:
            while not done.wait(0.0005):
                sender.add("parent")

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                sender.add("child")
                os._exit(0 if sender.flush(10) else 1)
            statuses.append(os.waitpid(pid, 0)[1])
        done.set()
        for thread in threads:
            thread.join()
        assert sender.flush(10)
        assert statuses == [0] * 10
        names = [span.name for span in receiver.spans]
        assert names.count("child") == 10
        assert names.count("parent") == sender._ledger.snapshot()["produced"]

    def test_a_processor_that_is_gone_is_not_kept_for_forks(self) -> None:
        """The hook for forks holds no references."""
        before = len(batch_module._LIVE)
        sender: Processor = BatchProcessor(
            "traces", encode=encode, transport=Script(), ledger=Ledger()
        )
        assert len(batch_module._LIVE) == before + 1
        del sender
        gc.collect()
        assert len(batch_module._LIVE) == before


class TestSignalHandlers:
    """Handlers interrupt any line of the main thread, also one inside `add`."""

    def test_a_handler_may_add_and_wait_for_a_flush(self) -> None:
        """Under a storm of signals nothing hangs and every item is accounted for."""
        # Coverage has a lock of its own, which a signal handler may find taken.
        environ = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
        ended = subprocess.run(
            [sys.executable, "-c", STORM],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environ,
        )
        assert ended.returncode == 0, ended.stderr
        produced, handled, delivered, pending = map(int, ended.stdout.split())
        assert handled > 100
        assert (produced, pending) == (20_000 + handled, 0)
        assert delivered == produced


#: The handler does what the library does at SIGTERM: a helper thread flushes while it waits.
STORM = """
import signal, threading
from otel_pipeline.sdk.batch import BatchProcessor
from otel_pipeline.sdk.ledger import Ledger
from otel_pipeline.sdk.transport import Outcome

class Transport:
    endpoint = "nowhere"
    def send(self, payload, *, timeout):
        return Outcome("delivered")
    def close(self):
        pass

ledger = Ledger("owned")
sender = BatchProcessor("traces", encode=lambda items: b"", transport=Transport(), ledger=ledger,
                        max_queue=1_000_000, max_batch=64, delay=0.001)
handled = 0
over = False
stuck = []

def handler(signum, frame):
    global handled
    handled += 1
    sender.add("from the handler")
    if handled % 20 == 0:
        helper = threading.Thread(target=lambda: sender.flush(5), daemon=True)
        helper.start()
        helper.join(8)
        stuck.extend([helper] if helper.is_alive() else [])
    if not over:  # armed anew only now: handlers must not pile up on a slow machine
        signal.setitimer(signal.ITIMER_REAL, 0.0005)

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005)
added = 0
while added < 20_000 or handled <= 150:
    if added < 20_000:
        sender.add("x")
        added += 1
over = True
signal.setitimer(signal.ITIMER_REAL, 0)
assert not stuck
assert sender.flush(20)
account = ledger.snapshot()
print(account["produced"], handled, account["delivered"], account["pending_memory"])
"""


def test_the_end_of_a_program_that_shuts_down_at_exit_is_in_time() -> None:
    """One span against a port that accepts and never answers does not hold the exit."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}/v1/traces"
        program = (
            "import atexit\n"
            "from otel_pipeline.config import OtlpConfig\n"
            "from otel_pipeline.sdk.batch import BatchProcessor\n"
            "from otel_pipeline.sdk.ledger import Ledger\n"
            "from otel_pipeline.sdk.transport import transport_for\n"
            f"otlp = OtlpConfig('http/protobuf', {endpoint!r},\n"
            "    True, {}, 10.0, 'none', None, None, None, False)\n"
            "sender = BatchProcessor('traces', encode=lambda items: b'',\n"
            "    transport=transport_for('traces', otlp), ledger=Ledger('owned'))\n"
            "atexit.register(sender.shutdown, 0.5)\n"
            "sender.add('a')\n"
            "import time; print(time.monotonic(), flush=True)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        took = time.monotonic() - float(ended.stdout)
    assert 0.4 < took < 0.5 + 2 * SLACK
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        f"otel_pipeline: 1 spans could not be delivered to {endpoint} before the end and are "
        "dropped: no answer "
    )
