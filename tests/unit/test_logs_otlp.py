"""Log lines as OTLP log records."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)

from otel_pipeline import clock, diagnostics, redaction
from otel_pipeline.logs import emit_otlp, get_logger, set_up
from otel_pipeline.sdk.providers import switch_loggers
from otel_pipeline.sdk.transport import suppressed
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOON = 1_764_072_000_000_001_000


class Redactor:
    """Masks one word."""

    def mapping(self, mapping: Any) -> Any:
        return {key: self._masked(value) for key, value in mapping.items()}

    def _masked(self, value: Any) -> Any:
        return value.replace("hunter2", "***") if isinstance(value, str) else value


def in_memory() -> InMemoryLogRecordExporter:
    """Return an exporter that keeps what it gets."""
    return InMemoryLogRecordExporter()


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """A set-up that sends; its lines."""
    stream = io.StringIO()
    undo = set_up(
        service="orders-etl",
        environment="test",
        level=logging.DEBUG,
        redactor=Redactor(),  # type: ignore[arg-type]
        export=True,
        stream=stream,
    )
    undo_clock = clock.install(clock.Clock(time_ns=lambda: NOON))
    yield stream
    undo_clock()
    undo()


@pytest.fixture
def provide() -> Iterator[Callable[[LogRecordProcessor], LoggerProvider]]:
    """Make a provider with a processor the process's own."""
    undone: list[Callable[[], None]] = []

    def provide(processor: LogRecordProcessor) -> LoggerProvider:
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(processor)
        undone.extend((provider.shutdown, switch_loggers(provider)))
        return provider

    yield provide
    for undo in reversed(undone):
        undo()


@pytest.fixture
def records(
    provide: Callable[[LogRecordProcessor], LoggerProvider], out: io.StringIO
) -> Callable[[], list[Any]]:
    """Return what was sent so far."""
    exporter = in_memory()
    provide(SimpleLogRecordProcessor(exporter))
    return lambda: list(exporter.get_finished_logs())


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    diagnostics.forget("logs:")
    yield
    diagnostics.forget("logs:")


def in_span() -> Any:
    """Run in a span with known ids."""
    context = trace.SpanContext(0xABCD, 0xEF, False, trace.TraceFlags(1))
    return trace.use_span(trace.NonRecordingSpan(context))


def test_a_line_is_sent_as_a_record(out: io.StringIO, records: Callable[[], list[Any]]) -> None:
    """Body, time, level and ids are the record's own, the other fields attributes."""
    with in_span():
        get_logger("etl.load").warning("loaded", rows=3, tags=["a"], when=None)
    [sent] = records()
    record = sent.log_record
    assert record.body == "loaded"
    assert record.timestamp == NOON
    assert record.severity_number is SeverityNumber.WARN
    assert record.severity_text == "WARN"
    assert (record.trace_id, record.span_id, int(record.trace_flags)) == (0xABCD, 0xEF, 1)
    assert record.event_name is None
    assert dict(record.attributes) == {
        "level": "warning",
        "logger": "etl.load",
        "service": "orders-etl",
        "environment": "test",
        "rows": 3,
        "tags": ("a",),
        "when": None,
    }
    assert sent.instrumentation_scope.name == "etl.load"
    assert json.loads(out.getvalue())["event"] == "loaded"


def test_a_stdlib_record_is_sent_alike(records: Callable[[], list[Any]]) -> None:
    """A record of the stdlib `logging` goes out as structlog's line does."""
    with in_span():
        get_logger("lib").info("took %d", 3, rows=1)
        logging.getLogger("lib").info("took %d", 3, extra={"rows": 1})
    first, second = (sent.log_record for sent in records())
    assert first.body == second.body == "took 3"
    assert dict(first.attributes) == dict(second.attributes)
    assert first.trace_id == second.trace_id == 0xABCD
    assert first.severity_number is second.severity_number


def test_an_exception_is_sent_by_the_conventions(records: Callable[[], list[Any]]) -> None:
    """Type, message and stack trace go out under OpenTelemetry's names, masked."""
    error = ValueError("no hunter2")
    get_logger().error("failed", exc_info=error)
    attributes = records()[0].log_record.attributes
    assert attributes["exception.type"] == "ValueError"
    assert attributes["exception.message"] == "no ***"
    assert attributes["exception.stacktrace"] == "ValueError: no ***"
    assert "exception" not in attributes
    assert str(error) == "no hunter2"


def test_a_line_without_a_logger_has_the_librarys_scope(records: Callable[[], list[Any]]) -> None:
    """The scope of a nameless logger is the library."""
    get_logger().info("x")
    assert records()[0].instrumentation_scope.name == "otel_pipeline.logs"


def test_values_that_the_protocol_lacks_are_text(
    out: io.StringIO, records: Callable[[], list[Any]]
) -> None:
    """Integers beyond 64 bits and empty keys would lose a whole batch; neither goes out."""
    large = 2**63
    get_logger().info("x", n=large, low=-large, deep={"": [large, 1], "f": 0.5}, **{"": 1})
    attributes = records()[0].log_record.attributes
    assert attributes["n"] == str(large)
    assert attributes["low"] == str(-large)
    assert attributes["deep"] == {"_": (str(large), 1), "f": 0.5}
    assert attributes["_"] == 1
    assert json.loads(out.getvalue())["n"] == large


def test_more_than_128_fields_are_all_sent(records: Callable[[], list[Any]]) -> None:
    """What is beyond the specification's limit goes into one attribute, instead of nowhere."""
    get_logger("x").info("wide", **{f"f{index:03}": index for index in range(200)})
    attributes = dict(records()[0].log_record.attributes)
    rest = attributes.pop("fields")
    assert len(attributes) == 127
    fields = {name: value for name, value in {**attributes, **rest}.items() if name[0] == "f"}
    assert fields == {f"f{index:03}": index for index in range(200)}


@pytest.mark.parametrize(
    ("level", "number", "text"),
    [
        ("debug", SeverityNumber.DEBUG, "DEBUG"),
        ("info", SeverityNumber.INFO, "INFO"),
        ("warning", SeverityNumber.WARN, "WARN"),
        ("error", SeverityNumber.ERROR, "ERROR"),
        ("critical", SeverityNumber.FATAL, "FATAL"),
        ("level 5", SeverityNumber.TRACE4, "LEVEL 5"),
        ("level 25", SeverityNumber.INFO4, "LEVEL 25"),
        ("level 99", SeverityNumber.FATAL4, "LEVEL 99"),
        ("odd", SeverityNumber.UNSPECIFIED, "ODD"),
    ],
)
def test_levels_become_severities(
    level: str, number: SeverityNumber, text: str, records: Callable[[], list[Any]]
) -> None:
    """The program's own levels lie between the named ones."""
    emit_otlp(None, "info", {"event": "x", "level": level})
    record = records()[0].log_record
    assert (record.severity_number, record.severity_text) == (number, text)


@pytest.mark.parametrize("timestamp", [None, "yesterday", "2026-01-02 03:04:05"])
def test_another_time_stamp_is_replaced(
    timestamp: object, records: Callable[[], list[Any]]
) -> None:
    """An application's own form of `timestamp` does not keep the line from being sent."""
    emit_otlp(None, "info", {"event": "x", "timestamp": timestamp})
    assert records()[0].log_record.timestamp == NOON


def test_nothing_is_sent_where_that_is_off(
    provide: Callable[[LogRecordProcessor], LoggerProvider],
) -> None:
    """With `export=False` lines are only printed."""
    exporter = in_memory()
    provide(SimpleLogRecordProcessor(exporter))
    out = io.StringIO()
    undo = set_up(service="s", redactor=redaction.OFF, export=False, stream=out)
    get_logger().info("x")
    logging.getLogger("x").info("x")
    undo()
    assert len(out.getvalue().splitlines()) == 2
    assert not exporter.get_finished_logs()


def test_another_provider_is_followed(
    provide: Callable[[LogRecordProcessor], LoggerProvider], out: io.StringIO
) -> None:
    """After a change of providers lines go to the new one, from the same logger."""
    first, second = in_memory(), in_memory()
    log = get_logger("x")
    provide(SimpleLogRecordProcessor(first))
    log.info("1")
    provide(SimpleLogRecordProcessor(second))
    log.info("2")
    assert [sent.log_record.body for sent in first.get_finished_logs()] == ["1"]
    assert [sent.log_record.body for sent in second.get_finished_logs()] == ["2"]


def test_ever_new_logger_names_fill_no_memory(
    records: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the names seen only so many are kept."""
    monkeypatch.setattr("otel_pipeline.logs.otlp._MOST_SCOPES", 3)
    from otel_pipeline.logs import otlp

    for index in range(10):
        get_logger(f"job-{index}").info("x")
        assert len(otlp._scopes[1]) <= 3
    assert len(records()) == 10


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("opentelemetry.sdk.trace.export", False),
        ("opentelemetry", False),
        ("urllib3.connectionpool", False),
        ("requests.sessions", False),
        ("grpc._channel", False),
        ("http.client", False),
        ("charset_normalizer", False),
        ("requests_importer", True),
        ("httpx", True),
        ("otel_pipeline", True),
        ("etl.urllib3", True),
    ],
)
def test_loggers_of_exporters_are_printed_and_not_sent(
    name: str, sent: bool, out: io.StringIO, records: Callable[[], list[Any]]
) -> None:
    """What the exporters' own stack logs would make the next export, without end."""
    get_logger(name).error("x")
    if name != "otel_pipeline":  # that one does not propagate
        logging.getLogger(name).error("x")
        assert len(out.getvalue().splitlines()) == 2
    assert bool(records()) == sent


def test_what_is_logged_while_exporting_is_not_sent(
    out: io.StringIO, records: Callable[[], list[Any]]
) -> None:
    """Whoever logs in a context that suppresses instrumentation is only printed."""
    with suppressed():
        get_logger("mine").info("x")
        logging.getLogger("mine").info("x")
    assert len(out.getvalue().splitlines()) == 2
    assert not records()


def test_one_line_at_debug_makes_one_record(
    provide: Callable[[LogRecordProcessor], LoggerProvider], out: io.StringIO
) -> None:
    """With everything at DEBUG the real HTTP stack of a real exporter feeds nothing back."""
    with otlp_receiver() as receiver:
        exporter = OTLPLogExporter(endpoint=f"{receiver.endpoint}/v1/logs")
        provider = provide(BatchLogRecordProcessor(exporter))
        get_logger("etl").info("once")
        for _ in range(5):
            provider.force_flush()
        assert [log.body.string_value for log in receiver.logs] == ["once"]
        assert len(receiver.requests) == 1
    loggers = [json.loads(line)["logger"] for line in out.getvalue().splitlines()]
    assert loggers[0] == "etl"
    assert "urllib3.connectionpool" in loggers  # so there was something to feed back


def test_a_processor_that_logs_makes_no_endless_line(
    provide: Callable[[LogRecordProcessor], LoggerProvider], out: io.StringIO
) -> None:
    """What is logged while a record is handed over is printed, and not handed over itself."""
    seen = []

    class Chatty(LogRecordProcessor):
        def on_emit(self, log_record: Any) -> None:
            seen.append(log_record.log_record.body)
            get_logger("chatty").info("from structlog")
            logging.getLogger("chatty").info("from stdlib")

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    provide(Chatty())
    get_logger("etl").info("once")
    assert seen == ["once"]
    events = {json.loads(line)["event"] for line in out.getvalue().splitlines()}
    assert events == {"once", "from structlog", "from stdlib"}


def test_what_a_stream_logs_while_it_is_written_to_is_not_sent(
    records: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `sys.stdout` was replaced by a logger, a line is not sent a second time as text."""

    class IntoLogging(io.StringIO):
        def write(self, text: str) -> int:
            get_logger("stdout").info(text.rstrip())
            return len(text)

    monkeypatch.setattr("sys.stdout", IntoLogging())
    monkeypatch.setattr("sys.__stdout__", io.StringIO())
    undo = set_up(service="s", redactor=redaction.OFF, export=True, format="json")
    get_logger("etl").info("once")
    undo()
    assert [sent.log_record.body for sent in records()] == ["once"]


def test_a_replaced_provider_is_noticed(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loggers of a provider are forgotten with it, also where someone else replaces it."""
    bodies = []
    for body in ("1", "2"):
        exporter = in_memory()
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        monkeypatch.setattr("otel_pipeline.logs.otlp.get_logger_provider", lambda p=provider: p)
        get_logger("x").info(body)
        bodies.append([sent.log_record.body for sent in exporter.get_finished_logs()])
        provider.shutdown()
    assert bodies == [["1"], ["2"]]


def test_a_failing_provider_is_said_once(
    provide: Callable[[LogRecordProcessor], LoggerProvider],
    out: io.StringIO,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever a provider does, the line is printed and the call does not raise."""

    class Failing(LogRecordProcessor):
        def on_emit(self, log_record: Any) -> None:
            raise RuntimeError("full")

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    provide(Failing())
    get_logger("etl").info("a")
    get_logger("etl").info("b")
    assert len(out.getvalue().splitlines()) == 2
    assert capsys.readouterr().err == (
        "otel_pipeline: a log record could not be handed to OpenTelemetry: RuntimeError: full\n"
    )


def test_an_own_structlog_configuration_can_send(
    provide: Callable[[LogRecordProcessor], LoggerProvider],
) -> None:
    """`emit_otlp` works in a chain of structlog's own processors."""
    exporter = in_memory()
    provide(SimpleLogRecordProcessor(exporter))
    stamper = structlog.processors.TimeStamper(fmt="iso", utc=True)
    log = structlog.wrap_logger(
        structlog.PrintLogger(io.StringIO()),
        processors=[
            structlog.processors.add_log_level,
            stamper,
            emit_otlp,
            structlog.processors.JSONRenderer(),
        ],
    )
    with in_span():
        log.error("own", rows=3)
    [sent] = exporter.get_finished_logs()
    assert sent.log_record.body == "own"
    assert sent.log_record.severity_number is SeverityNumber.ERROR
    assert dict(sent.log_record.attributes or {}) == {"level": "error", "rows": 3}
    assert sent.log_record.trace_id == 0xABCD
    assert otel_context.get_current() == {}
