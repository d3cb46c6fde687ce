"""capture() and the fixture: in memory, isolated, and repeatable on request."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from otel_pipeline import Counter, Gauge, Histogram, Pipeline, configure, get_logger
from otel_pipeline.errors import CaptureError
from otel_pipeline.redaction import Redactor
from otel_pipeline.telemetry import current_telemetry
from otel_pipeline.testing import ManualClock, capture

if TYPE_CHECKING:
    from otel_pipeline.testing import Capture

JOBS = Counter("capture_jobs", "Jobs", ["kind"])
DEPTH = Gauge("capture_depth", "Depth")
TOOK = Histogram("capture_took", "Took", buckets=[1])


def test_metrics_begin_at_zero_and_come_back() -> None:
    """Inside a capture only its own counts are seen, and afterwards the others are there again."""
    JOBS.labels("a").inc(5)
    DEPTH.set(3)
    with capture() as captured:
        assert captured.metrics == {}
        JOBS.labels("a").inc()
        TOOK.observe(0.5)
        assert captured.metric("capture_jobs_total", kind="a") == 1
        assert captured.metric("capture_took_bucket", le="1.0") == 1
        assert captured.metric("capture_depth") is None
    assert captured.metric("capture_jobs_total", kind="a") == 1
    with capture() as again:
        JOBS.labels("a").inc(2)
    assert again.metric("capture_jobs_total", kind="a") == 2


def test_captures_nest() -> None:
    """The inner capture has what happens inside it, the outer one the rest."""
    pipeline = Pipeline("nested")
    with capture() as outer:
        with pipeline.stage("a"):
            pass
        with capture() as inner, pipeline.stage("b"):
            JOBS.labels("n").inc()
        with pipeline.stage("c"):
            pass
    assert [span.name for span in outer.spans] == ["nested a", "nested c"]
    assert [span.name for span in inner.spans] == ["nested b"]
    assert outer.metric("capture_jobs_total", kind="n") is None


def test_exports_can_be_repeated_to_the_letter() -> None:
    """With fixed ids and a manual clock two runs of one program give the same lines and spans."""

    def program() -> tuple[list[str], list[str]]:
        clock = ManualClock()
        pipeline = Pipeline("fixed")
        captured = stack.enter_context(capture(fixed_ids=True, clock=clock))
        with pipeline.run(run_id="r"), pipeline.stage("s"):
            clock.advance(1.5)
            get_logger("job").info("done", rows=3)
        return captured.lines, [span.to_json() for span in captured.spans]

    with contextlib.ExitStack() as stack:
        first = program()
    with contextlib.ExitStack() as stack:
        second = program()
    assert first == second
    (line,) = first[0]
    assert line == (
        '{"timestamp":"2026-01-01T00:00:01.500000Z","level":"info","logger":"job","event":"done",'
        '"service":"test","pipeline":"fixed","stage":"s","run_id":"r",'
        '"trace_id":"00000000000000000000000000000001","span_id":"0000000000000002",'
        '"trace_flags":"01","rows":3}'
    )


def test_a_clock_starts_where_it_is_told() -> None:
    """Naive times are UTC."""
    aware = dt.datetime(2026, 2, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    naive = dt.datetime(2026, 2, 1)  # noqa: DTZ001
    assert ManualClock(aware).now() == ManualClock(naive).now()


def test_a_span_is_found_by_its_name(otel_capture: Capture) -> None:
    """None, or several, of a name is an error that lists the names there are."""
    pipeline = Pipeline("names")
    for name in ("a", "b", "b"):
        with pipeline.stage(name):
            pass
    assert otel_capture.span("names a").name == "names a"
    with pytest.raises(CaptureError, match="2 spans are called 'names b'"):
        otel_capture.span("names b")
    with pytest.raises(CaptureError, match="ended spans: names a, names b"):
        otel_capture.span("names c")


def test_a_program_may_configure_itself_inside() -> None:
    """A test of a whole program captures it: configure() checks, and nothing leaves the process."""
    before = configure("outside", prometheus_port=0, traces_exporter="none", logs_exporter="none")
    try:
        with capture() as captured:
            with configure("inside") as telemetry, Pipeline("program").run():
                get_logger("job").info("up")
                assert telemetry.metrics_url is None
            left_running = configure("inside")
            with pytest.raises(ValueError, match="oltp"):
                configure(traces_exporter="oltp")
        assert "ended" in repr(left_running)
        assert current_telemetry() is before
    finally:
        before.shutdown()
    assert [span.name for span in captured.spans] == ["program"]
    assert [line["event"] for line in captured.logs] == ["up"]


def test_the_rules_for_secrets_can_be_given() -> None:
    """What is captured is masked as it would be exported."""
    with capture(redactor=Redactor(keys=["iban"])) as captured:
        get_logger("job").info("paid", iban="DE02", password="hunter2")
        with Pipeline("secrets").stage("s") as stage:
            stage.set_attribute("iban", "DE02")
    (line,) = captured.logs
    assert (line["iban"], line["password"]) == ("[redacted:iban]", "[redacted:password]")
    assert (captured.span("secrets s").attributes or {})["iban"] == "[redacted:iban]"
    (record,) = captured.log_records
    assert (record.log_record.attributes or {})["iban"] == "[redacted:iban]"
