"""Log lines that are kept back: by a rate limit, by sampling, by the trace's decision."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import trace

from otel_pipeline import Pipeline, clock, configure, diagnostics
from otel_pipeline.logs import Volume, get_logger, set_up, tell_rest
from otel_pipeline.metrics import REGISTRY
from otel_pipeline.redaction import Redactor
from otel_pipeline.testing import ManualClock
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

METRIC = "otel_pipeline_logs_suppressed"


@pytest.fixture(autouse=True)
def _counted_from_zero() -> Iterator[None]:
    undo = REGISTRY.stash()
    yield
    undo()


class Lines:
    """A set-up with a volume, and what it has printed."""

    def __init__(self, volume: Volume, **options: Any) -> None:
        self.volume = volume
        self.stream = io.StringIO()
        self.undo = set_up(
            service="orders-etl",
            redactor=Redactor(),
            export=False,
            stream=self.stream,
            volume=volume,
            **options,
        )

    def taken(self, *fields: str) -> list[Any]:
        """Return some fields of the lines since the last time."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        lines = map(json.loads, text.splitlines())
        return [tuple(line.get(field) for field in fields) for line in lines]


@contextlib.contextmanager
def limited(
    *, rate: float | None = None, sample: float = 1.0, follow_trace: bool = False, **options: Any
) -> Iterator[Lines]:
    """Set logging up with a volume."""
    volume = Volume(rate=rate, sample=sample, follow_trace=follow_trace, redactor=Redactor())
    lines = Lines(volume, **options)
    try:
        yield lines
    finally:
        lines.undo()


@contextlib.contextmanager
def manual_clock() -> Iterator[ManualClock]:
    """Let time stand still."""
    manual = ManualClock()
    undo = clock.install(clock.Clock(manual.time_ns, manual.perf_counter))
    try:
        yield manual
    finally:
        undo()


def suppressed() -> dict[str, float]:
    """Return the metric by event."""
    points: Any = next(family.points for family in REGISTRY.collect() if family.name == METRIC)
    return {point.labels[0]: point.value for point in points if point.value}


def test_a_rate_limit_holds_for_each_event() -> None:
    """A second's worth passes at once, then as many a second; the next line tells the number."""
    log = get_logger("etl")
    with manual_clock() as now, limited(rate=2) as lines:
        for _ in range(5):
            log.info("row skipped", row=1)
        log.info("another")
        assert lines.taken("event", "suppressed") == [
            ("row skipped", None),
            ("row skipped", None),
            ("another", None),
        ]
        assert suppressed() == {"row skipped": 3}
        now.advance(0.5)
        for _ in range(2):
            log.info("row skipped", row=2)
        now.advance(0.5)
        log.info("row skipped", row=3)
        assert lines.taken("row", "suppressed") == [(2, 3), (3, 1)]
        assert suppressed() == {"row skipped": 4}


def test_a_limit_below_one_lets_the_first_line_through() -> None:
    """One line in ten seconds is a limit, too."""
    with manual_clock() as now, limited(rate=0.1) as lines:
        for _ in range(21):
            get_logger().info("tick")
            now.advance(1)
        assert lines.taken("suppressed") == [(None,), (9,), (9,)]


def test_the_share_of_a_sample_is_kept_evenly() -> None:
    """The first line is kept, then every n-th, and shares that are no fraction come out right."""
    with limited(sample=0.25) as lines:
        for row in range(9):
            get_logger().info("row", row=row)
        assert lines.taken("row", "suppressed") == [(0, None), (4, 3), (8, 3)]
    with limited(sample=0.7) as lines:
        for _ in range(1000):
            get_logger().info("row")
        assert len(lines.taken("row")) == 700
    with limited(sample=0.0) as lines:
        get_logger().info("row")
        get_logger().error("row")
        assert lines.taken("level", "suppressed") == [("error", 1)]


def test_errors_are_never_suppressed() -> None:
    """Whatever the limits, lines of level error and above come out, by whatever method."""
    with manual_clock(), limited(rate=1, sample=0.001) as lines:
        for _ in range(3):
            get_logger().error("broken")
            get_logger().critical("broken")
            get_logger().log(45, "broken")
            get_logger().exception("broken")
            logging.getLogger("library").error("broken")
            logging.getLogger("library").log(45, "broken")
        assert len(lines.taken()) == 18
        assert suppressed() == {}


def test_stdlib_lines_are_limited_by_their_template() -> None:
    """What is put into a message does not make it another event, in either kind of logger."""
    library = logging.getLogger("library")
    with manual_clock(), limited(rate=1) as lines:
        for row in range(3):
            library.warning("row %d skipped", row)
            get_logger().info("file %d read", row)
        library.error("row %d skipped", 9)
        assert lines.taken("event", "suppressed") == [
            ("row 0 skipped", None),
            ("file 0 read", None),
            ("row 9 skipped", 2),
        ]
        assert suppressed() == {"row %d skipped": 2, "file %d read": 2}


def test_a_field_of_the_callers_of_that_name_is_kept() -> None:
    """`suppressed` of the caller's moves aside where the library has something to say."""
    log = get_logger()
    with limited(sample=0.5) as lines:
        for _ in range(3):
            log.info("x", suppressed="mine")
            logging.getLogger("x").info("y", extra={"suppressed": "mine"})
        assert lines.taken("suppressed", "fields.suppressed") == [
            ("mine", None),
            ("mine", None),
            (1, "mine"),
            (1, "mine"),
        ]


def test_lines_below_the_level_are_not_counted() -> None:
    """What would not have been printed anyway is not suppressed."""
    with limited(sample=0.0, level=logging.WARNING):
        get_logger().info("quiet")
        logging.getLogger("library").info("quiet")
        assert suppressed() == {}


def test_lines_follow_the_decision_of_their_trace() -> None:
    """In a trace that is not sampled only errors are printed; outside of traces all are."""
    log = get_logger()

    def in_trace(*, sampled: bool) -> Any:
        flags = trace.TraceFlags(int(sampled))
        return trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, False, flags)))

    with limited(follow_trace=True) as lines:
        log.info("row")
        with in_trace(sampled=False):
            log.info("row")
            log.error("broken")
        with in_trace(sampled=True):
            log.info("row")
        assert lines.taken("event", "suppressed") == [("row", None), ("broken", None), ("row", 1)]
        assert suppressed() == {"row": 1}


def test_batch_lines_are_not_counted_twice() -> None:
    """Lines that a batch held back itself are told on, and counted by the batch alone."""
    with limited(sample=0.5) as lines:
        for already in (0, 0, 20, 5, 0):
            get_logger().info("batch_processed", **({"suppressed": already} if already else {}))
        assert lines.taken("suppressed") == [(None,), (21,), (6,)]
        assert suppressed() == {"batch_processed": 2}
        get_logger().info("batch_processed", suppressed="many")
        assert lines.volume.close() == [("batch_processed", 1)]


def test_the_end_tells_what_no_line_has_told() -> None:
    """One line for each event, and from then on nothing is suppressed."""
    with limited(sample=0.1, level=logging.WARNING) as lines:
        for _ in range(3):
            get_logger().warning("a")
            get_logger().warning("b\udc80" + "x" * 300)
        get_logger().warning("a")
        lines.taken()
        tell_rest(lines.volume)
        assert lines.taken("event", "level", "suppressed_event", "suppressed") == [
            ("log_lines_suppressed", "warning", "a", 3),
            ("log_lines_suppressed", "warning", "b\\udc80" + "x" * 249, 2),
        ]
        tell_rest(lines.volume)
        get_logger().warning("a")
        assert lines.taken("event") == [("a",)]


def test_a_broken_configuration_of_structlog_does_not_stop_the_end() -> None:
    """What the program's own processors raise is said on stderr, and the end goes on."""

    def fail(*_: Any) -> Any:
        raise LookupError

    with limited(sample=0.0) as lines:
        get_logger().info("a")
        before = structlog.get_config()
        structlog.configure(processors=[fail], wrapper_class=structlog.stdlib.BoundLogger)
        try:
            tell_rest(lines.volume)
        finally:
            structlog.configure(**before)
            diagnostics.forget("logs:rest")


def test_memory_is_bounded_and_nothing_forgotten_is_lost() -> None:
    """Of many events the oldest are no longer told apart; their number is told together."""
    volume = Volume(rate=None, sample=0, follow_trace=False, redactor=Redactor())
    for number in range(1_500):
        volume.ask(f"event {number}", error=False)
    assert len(volume._events) == 1_000
    told = volume.close()
    assert len(told) == 21
    assert sum(number for _, number in told) == 1_500
    assert told[-1] == ("__other__", 1_480)
    counts = suppressed()
    assert len(counts) == 101
    assert sum(counts.values()) == 1_500


def test_names_of_events_hold_no_secret() -> None:
    """An event is free text: what the metric and the last lines show of it is masked."""
    with limited(sample=0.0) as lines:
        get_logger().info("login with password=hunter2")
        not_text: Any = {"password": "hunter2"}
        get_logger().info(not_text)
        assert lines.volume.close() == [
            ("login with password=[redacted:password]", 1),
            ("{'password': '[redacted:password]'}", 1),
        ]
        assert "hunter2" not in str(suppressed())


def test_a_call_never_raises() -> None:
    """Whatever is given for an event is counted under some name."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    broken: Any = Broken()
    with limited(sample=0.0) as lines:
        get_logger().info(broken)
        get_logger().info(event=broken)
        assert lines.volume.close() == [("[unprintable Broken: ValueError]", 2)]


def test_threads_share_the_count() -> None:
    """From many threads, what is printed and what is told adds up."""
    with limited(sample=0.3) as lines:

        def work() -> None:
            for _ in range(500):
                get_logger("etl").info("row")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = [number or 0 for (number,) in lines.taken("suppressed")]
        rest = sum(number for _, number in lines.volume.close())
        assert len(told) == 600
        assert len(told) + sum(told) + rest == 2000
        assert suppressed() == {"row": 1400}


def test_a_forked_child_tells_only_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """A fork while another thread is in the middle of a line leaves the child a usable lock."""
    with limited(sample=0.5) as lines:
        get_logger().info("row")
        get_logger().info("row")
        with lines.volume._lock:
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                thread = threading.Thread(target=lambda: get_logger().info("row"))
                thread.start()
                thread.join()
                os._exit(len(lines.volume.close()))
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert lines.volume.close() == [("row", 1)]


def test_configure_limits_what_is_printed_and_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """The options reach both ways out, and the end of telemetry tells the rest on both."""
    with otlp_receiver() as receiver:
        with configure(
            "orders",
            environ={},
            otlp_endpoint=receiver.endpoint,
            spool_dir="off",
            prometheus_port=0,
            log_format="json",
            log_rate_limit=1,
            log_sample=0.5,
            sampler="always_off",
            log_follow_trace="on",
        ):
            for _ in range(4):
                get_logger().info("row")
            with Pipeline("volume").run():
                get_logger().info("in a trace")
        sent = [
            (record.body.string_value, record.attributes.get("suppressed"))
            for record in receiver.logs
        ]
    printed = [
        (line["event"], line.get("suppressed"), line.get("suppressed_event"))
        for line in map(json.loads, capsys.readouterr().out.splitlines())
    ]
    assert printed == [
        ("row", None, None),
        ("log_lines_suppressed", 3, "row"),
        ("log_lines_suppressed", 1, "in a trace"),
    ]
    assert sent == [event[:2] for event in printed]


def test_without_options_nothing_is_asked() -> None:
    """Off by default: the logger is the plain one."""
    with configure("orders", environ={}, prometheus_port=0, traces_exporter="none",
                   logs_exporter="none", spool_dir="off"):  # fmt: skip
        bound: Any = get_logger().bind()
        assert not hasattr(bound, "volume")
