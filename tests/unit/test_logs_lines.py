"""What stands on a printed line, from structlog and from the stdlib `logging`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import pty
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_pipeline import clock, diagnostics, redaction
from otel_pipeline.context import with_scope
from otel_pipeline.logs import PipelineHandler, get_logger, set_up
from otel_pipeline.logs.output import LineLogger
from otel_pipeline.logs.rendering import wants_colors

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = 1_764_072_000_000_001_999
STAMP = "2025-11-25T12:00:00.000001Z"
IDS = {
    "trace_id": "0000000000000000000000000000abcd",
    "span_id": "00000000000000ef",
    "trace_flags": "01",
}


@dataclass
class Scope:
    """Stands for a run, stage or batch."""

    pipeline_name: str = "orders"
    stage_name: str | None = "load"
    run_id: str | None = "run-1"


@contextlib.contextmanager
def inside(scope: Scope | None = None) -> Iterator[None]:
    """Run in a span with known ids, and in a scope."""
    span = trace.NonRecordingSpan(trace.SpanContext(0xABCD, 0xEF, False, trace.TraceFlags(1)))
    token = otel_context.attach(with_scope(scope, trace.set_span_in_context(span)))
    try:
        yield
    finally:
        otel_context.detach(token)


@contextlib.contextmanager
def logging_to(stream: Any = None, **options: Any) -> Iterator[Any]:
    """Set up, and undo afterwards whatever happens."""
    stream = io.StringIO() if stream is None else stream
    arguments: dict[str, Any] = {
        "service": "orders-etl",
        "redactor": redaction.OFF,
        "export": False,
        "stream": stream,
    }
    undo_clock = clock.install(clock.Clock(time_ns=lambda: NOON))
    undo = set_up(**{**arguments, **options})
    try:
        yield stream
    finally:
        undo()
        undo_clock()


def stdlib_record(**fields: Any) -> None:
    """Hand a record to our handler alone: pytest's own raises where a message is broken."""
    [handler] = [one for one in logging.getLogger().handlers if isinstance(one, PipelineHandler)]
    handler.handle(logging.makeLogRecord({"levelno": 40, "levelname": "ERROR", **fields}))


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines printed so far, parsed."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """A set-up with fixed time; its lines."""
    with logging_to() as stream:
        yield stream


def test_a_structlog_line_has_all_fields_in_their_order() -> None:
    """Inside a stage the line has every field of the library, then the caller's, in order."""
    with logging_to(environment="production") as out, inside(Scope()):
        get_logger("etl.load").info("loaded", rows=3, table="orders")
    assert out.getvalue() == (
        f'{{"timestamp":"{STAMP}","level":"info","logger":"etl.load","event":"loaded",'
        '"service":"orders-etl","environment":"production","pipeline":"orders","stage":"load",'
        '"run_id":"run-1","trace_id":"0000000000000000000000000000abcd",'
        '"span_id":"00000000000000ef","trace_flags":"01","rows":3,"table":"orders"}\n'
    )


def test_a_stdlib_record_has_the_same_form() -> None:
    """A record of the stdlib `logging` differs from structlog's line in nothing but its time."""
    with logging_to(environment="production") as out, inside(Scope()):
        get_logger("etl.load").warning("took %d s", 3, rows=3)
        logging.getLogger("etl.load").warning("took %d s", 3, extra={"rows": 3})
    ours, theirs = (list(line.items()) for line in lines(out))
    assert theirs[0][0] == "timestamp"
    assert theirs[1:] == ours[1:]


def test_a_stdlib_record_keeps_the_time_at_which_it_was_made(out: io.StringIO) -> None:
    """A record that waited in a queue is stamped with the time of its making."""
    record = logging.makeLogRecord({"name": "queued", "msg": "late", "levelno": 20, "created": 1.5})
    logging.getLogger().handle(record)
    assert lines(out)[0]["timestamp"] == "1970-01-01T00:00:01.500000Z"


def test_fields_that_do_not_apply_are_left_out(out: io.StringIO) -> None:
    """Outside a run and a span neither pipeline nor ids stand on the line."""
    get_logger().info("up")
    assert lines(out) == [
        {"timestamp": STAMP, "level": "info", "event": "up", "service": "orders-etl"}
    ]


def test_a_stage_outside_a_run_has_no_run_id(out: io.StringIO) -> None:
    """What the scope does not know is left out."""
    with inside(Scope(stage_name=None, run_id=None)):
        get_logger().info("up")
    line = lines(out)[0]
    assert line["pipeline"] == "orders"
    assert not {"stage", "run_id"} & set(line)


def test_each_span_has_its_own_ids(out: io.StringIO) -> None:
    """The ids follow the current span in and out."""
    log = get_logger()
    with inside():
        log.info("in")
    log.info("out")
    with inside():
        log.info("in again")
    assert [line.get("trace_id") for line in lines(out)] == [IDS["trace_id"], None, IDS["trace_id"]]


def test_reserved_names_are_renamed_and_lost_by_nobody(out: io.StringIO) -> None:
    """A caller's field with a stamped name is kept as `fields.<name>`."""
    mine = dict.fromkeys(
        ("timestamp", "level", "service", "environment", "trace_id", "span_id", "trace_flags"), "me"
    )
    with inside():
        get_logger().info("up", **mine)
        logging.getLogger("x").info("up", extra=mine)
    for line in lines(out):
        assert line["level"] == "info"
        assert line["service"] == "orders-etl"
        assert {name: line[name] for name in IDS} == IDS
        assert "environment" not in line
        assert {name: line[f"fields.{name}"] for name in mine} == mine


def test_the_place_of_a_line_is_true_and_the_callers_own_is_kept(out: io.StringIO) -> None:
    """Inside a run its names win; a caller's stay beside them, and alone outside. A logger wins."""
    mine = {"pipeline": "p", "stage": "s", "run_id": "r"}
    for log in (
        get_logger("mine").info,
        lambda event, **kw: logging.getLogger().info(event, extra=kw),
    ):
        with inside(scope := Scope()):
            log("in", logger="l", **mine)
        log("out", logger="l", **mine)
        within, outside = lines(out)[-2:]
        assert within["pipeline"] == scope.pipeline_name
        assert within["stage"] == scope.stage_name
        assert within["run_id"] == scope.run_id
        assert {name: within[f"fields.{name}"] for name in mine} == mine
        assert {name: outside[name] for name in mine} == mine
        assert within["logger"] == outside["logger"] == "l"


def test_a_secret_in_the_name_of_a_run_is_masked() -> None:
    """What the program calls its run, stage or logger is looked at like any field."""
    named = inside(Scope(run_id="run password=hunter2"))
    with logging_to(redactor=redaction.Redactor()) as out, named:
        get_logger("token=hunter2").info("up")
    (line,) = lines(out)
    assert line["run_id"] == "run password=[redacted:password]"
    assert line["logger"] == "token=[redacted:token]"


def test_a_field_called_event_does_not_replace_the_event(out: io.StringIO) -> None:
    """The event is the first argument; a field of that name is kept beside it."""
    log: Any = get_logger()
    log.info("first", event="second")
    log.info(event="named")
    log.bind(event="bound").info("first")
    logging.getLogger("x").info("first", extra={"event": "second"})
    assert [(line["event"], line.get("fields.event")) for line in lines(out)] == [
        ("first", "second"),
        ("named", None),
        ("first", None),
        ("first", "second"),
    ]


def test_context_variables_are_merged(out: io.StringIO) -> None:
    """What was bound with structlog's contextvars stands on lines of both kinds."""
    with structlog.contextvars.bound_contextvars(batch=7):
        get_logger().info("a")
        logging.getLogger("x").info("b")
    assert [line["batch"] for line in lines(out)] == [7, 7]


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", "debug"),
        ("info", "info"),
        ("msg", "info"),
        ("warning", "warning"),
        ("warn", "warning"),
        ("error", "error"),
        ("err", "error"),
        ("exception", "error"),
        ("critical", "critical"),
        ("fatal", "critical"),
    ],
)
def test_each_method_has_its_level(method: str, level: str) -> None:
    """The methods of structlog's filtering logger exist, and so do their async forms."""
    with logging_to(level=logging.DEBUG) as out:
        log: Any = get_logger()
        getattr(log, method)("sync")
        if method != "err":
            asyncio.run(getattr(log, f"a{method}")("async"))
    assert {line["level"] for line in lines(out) if line["event"] in {"sync", "async"}} == {level}


def test_log_takes_any_level(out: io.StringIO) -> None:
    """`log` takes numbers, the program's own and names; what is no level counts as info."""
    log: Any = get_logger()
    for level in (logging.DEBUG, logging.INFO, 25, "warning", object()):
        log.log(level, "x")
    assert [line["level"] for line in lines(out)] == ["info", "level 25", "warning", "info"]


def test_lines_below_the_level_are_not_printed() -> None:
    """The level holds for both kinds of lines."""
    with logging_to(level=logging.WARNING) as out:
        log = get_logger()
        log.info("no")
        logging.getLogger("x").info("no")
        log.warning("yes")
        logging.getLogger("x").warning("yes")
        assert not log.is_enabled_for(logging.INFO)
        assert log.get_effective_level() == logging.WARNING
    assert [line["event"] for line in lines(out)] == ["yes", "yes"]


def test_a_level_between_the_named_ones_works() -> None:
    """Any number can be the level."""
    with logging_to(level=25) as out:
        get_logger().info("no")
        get_logger().log(25, "yes")
    assert [line["event"] for line in lines(out)] == ["yes"]


def test_positional_arguments_are_put_in(out: io.StringIO) -> None:
    """Arguments go into the event as with the stdlib, a single mapping by name."""
    get_logger().info("%s of %d", "one", 2)
    get_logger().info("%(a)s", {"a": 1})
    logging.getLogger("x").info("%(a)s", {"a": 1})
    assert [line["event"] for line in lines(out)] == ["one of 2", "1", "1"]


def test_arguments_that_do_not_fit_still_make_a_line(out: io.StringIO) -> None:
    """The event stays as it is, and arguments and mistake stand beside it."""
    get_logger().info("%s and %s", 1)
    stdlib_record(msg="%s and %s", args=(1,))
    get_logger().info({"no": "text"}, 1)  # type: ignore[arg-type]
    first, second, third = lines(out)
    assert first["event"] == second["event"] == "%s and %s"
    assert first["positional_args"] == second["positional_args"] == [1]
    assert first["logging_error"] == "TypeError: not enough arguments for format string"
    assert third["positional_args"] == [1]


def test_an_exception_is_rendered_and_left_alone(out: io.StringIO) -> None:
    """Type, message and stack trace stand on the line; the exception keeps what it had."""
    try:
        raise ValueError("no such row")
    except ValueError as error:
        caught = error
        before = (error.args, error.__traceback__, vars(error).copy())
        get_logger().exception("failed")
        logging.getLogger("x").exception("failed")
        get_logger().info("passed", exc_info=error)
        get_logger().info("passed", exc_info=sys.exc_info())
    assert (caught.args, caught.__traceback__, vars(caught).copy()) == before
    for line in lines(out):
        assert line["exception.type"] == "ValueError"
        assert line["exception.message"] == "no such row"
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("\nValueError: no such row")
        assert "exc_info" not in line


def test_an_exception_group_is_rendered_whole(out: io.StringIO) -> None:
    """Each exception of a group stands in the stack trace."""
    get_logger().error("failed", exc_info=ExceptionGroup("both", [ValueError("a"), KeyError("b")]))
    assert "ValueError: a" in lines(out)[0]["exception"]
    assert "KeyError: 'b'" in lines(out)[0]["exception"]


@pytest.mark.parametrize("exc_info", [True, None, False, (None, None, None)])
def test_without_an_exception_nothing_is_rendered(exc_info: object, out: io.StringIO) -> None:
    """`exception` outside an `except` block is an ordinary error line."""
    get_logger().exception("odd", exc_info=exc_info)
    assert not any(name.startswith("exc") for name in lines(out)[0])


def test_a_class_of_a_module_is_named_with_it(out: io.StringIO) -> None:
    """An exception type that is not built in has its module's name before it."""
    get_logger().error("bad", exc_info=json.JSONDecodeError("odd", "", 0))
    assert lines(out)[0]["exception.type"] == "json.decoder.JSONDecodeError"


def test_a_very_long_stack_trace_loses_its_middle(out: io.StringIO) -> None:
    """Beginning and end of a stack trace stay, within 65,536 characters."""
    get_logger().error("big", exc_info=ValueError("x" * 10_000_000 + "END"))
    line = lines(out)[0]
    assert line["exception"].startswith("ValueError: xxx")
    assert line["exception"].endswith("xxxEND")
    assert "\n…[truncated 10000015 chars]\n" in line["exception"]
    assert len(line["exception"]) < 65_536
    assert line["exception.message"].endswith("…[truncated 10000003 chars]")


def test_an_exception_with_a_broken_message_still_makes_a_line(out: io.StringIO) -> None:
    """What `str()` raises is named in place of the message."""

    class Broken(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("no text")

    get_logger().error("bad", exc_info=Broken())
    error = Broken()
    stdlib_record(msg="bad", exc_info=(Broken, error, None))
    assert [line["exception.message"] for line in lines(out)] == [
        "[unprintable Broken: RuntimeError]"
    ] * 2


def test_the_text_of_a_past_exception_is_kept(out: io.StringIO) -> None:
    """A record that came through a queue has only the text of its exception."""
    stdlib_record(exc_text="Traceback")
    assert lines(out)[0]["exception"] == "Traceback"


def test_the_stack_is_rendered_where_asked(out: io.StringIO) -> None:
    """`stack_info=True` gives the caller's stack, not that of the logging."""
    get_logger().info("here", stack_info=True)
    logging.getLogger("x").info("here", stack_info=True)
    for line in lines(out):
        assert line["stack"].startswith("Stack (most recent call last):\n")
        assert "stack_info=True" in line["stack"].splitlines()[-1]
        assert "stack_info" not in line


def test_secrets_are_masked_in_events_fields_and_exceptions() -> None:
    """The redactor sees the event, the fields, and the rendered exception; ids stay."""

    class Stars:
        def mapping(self, mapping: Any) -> Any:
            return {key: str(value).replace("hunter2", "***") for key, value in mapping.items()}

    error = ValueError("pw hunter2")
    with logging_to(redactor=Stars()) as out, inside():
        get_logger().error("hunter2 %s", "hunter2", deep={"a": ["hunter2"]}, exc_info=error)
        logging.getLogger("x").error("hunter2", exc_info=error)
    assert "hunter2" not in out.getvalue()
    assert [line["event"] for line in lines(out)] == ["*** ***", "***"]
    assert all(line["trace_id"] == IDS["trace_id"] for line in lines(out))
    assert str(error) == "pw hunter2"


def test_a_line_goes_to_what_stdout_is_at_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Redirections made after the set-up are followed, on both standard streams."""
    inner = io.StringIO()
    with logging_to("stdout"):
        get_logger().info("captured")
        with contextlib.redirect_stdout(inner):
            get_logger().info("redirected")
    with logging_to("stderr"):
        get_logger().info("to stderr")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["event"] == "captured"
    assert json.loads(inner.getvalue())["event"] == "redirected"
    assert json.loads(captured.err)["event"] == "to stderr"


def test_each_line_is_one_write_and_a_flush() -> None:
    """A line and its end go out together, at once."""

    class Recorder:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def write(self, text: str) -> None:
            self.calls.append(text)

        def flush(self) -> None:
            self.calls.append("flush")

    recorder = Recorder()
    with logging_to(recorder):
        get_logger().info("a")
        logging.getLogger("x").info("b")
    assert [call == "flush" for call in recorder.calls] == [False, True, False, True]
    assert all(call.endswith("}\n") for call in recorder.calls[::2])


def test_the_line_logger_tells_what_it_is() -> None:
    """Its repr names the stream and the logger."""
    assert repr(LineLogger("stdout", "etl")) == "LineLogger('stdout', 'etl')"


def test_lines_of_threads_do_not_mix(tmp_path: Any) -> None:
    """Each line of many threads, short and long, is whole."""
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for index in range(50):
            get_logger().info("x", thread=number, index=index, pad="p" * (index * 400))

    with (tmp_path / "log").open("w") as file, logging_to(file):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    parsed = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted((line["thread"], line["index"]) for line in parsed) == [
        (number, index) for number in range(4) for index in range(50)
    ]


@pytest.mark.parametrize("stream", [None, "closed", "broken", "full"])
def test_a_stream_that_fails_does_not_reach_the_caller(
    stream: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No stream, a closed one, a broken pipe and a full disk raise nothing, and are said once."""

    class Failing(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError if stream == "broken" else OSError("no space left")

    diagnostics.forget("logs:")
    file: io.StringIO | None = None if stream is None else Failing()
    if stream == "closed":
        file = io.StringIO()
        file.close()
    monkeypatch.setattr(sys, "stdout", file)
    with logging_to("stdout"):
        for _ in range(2):
            get_logger().info("lost")
            logging.getLogger("x").info("lost")
    said = capsys.readouterr().err
    expected = 0 if stream == "broken" else 1
    assert said.count("otel_pipeline: log lines cannot be written to stdout") == expected
    diagnostics.forget("logs:")


def test_windows_without_colorama_gets_no_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    """There structlog would refuse to write colours."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert not wants_colors(Terminal())
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    assert wants_colors(Terminal())


def test_any_name_of_a_logger_is_printed(out: io.StringIO) -> None:
    """A name may be what JSON cannot carry."""
    get_logger("lone \ud83d").info("x")
    stdlib_record(name="lone \ud83d", msg="x")  # pytest cannot report such a name
    assert [line["logger"] for line in lines(out)] == ["lone \\ud83d"] * 2


def test_a_stream_that_logs_gets_no_endless_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `sys.stdout` was replaced by a logger the line comes out once, on the real stream."""

    class IntoLogging(io.StringIO):
        def write(self, text: str) -> int:
            logging.getLogger("stdout").info(text.rstrip())
            return len(text)

    real = io.StringIO()
    monkeypatch.setattr(sys, "stdout", IntoLogging())
    monkeypatch.setattr(sys, "__stdout__", real)
    with logging_to("stdout", format="json"):
        get_logger().info("round")
    assert [line["logger"] for line in lines(real)] == ["stdout"]
    assert json.loads(lines(real)[0]["event"])["event"] == "round"
    assert capsys.readouterr().err == ""


def test_a_failing_processor_loses_the_fields_but_not_the_event(out: io.StringIO) -> None:
    """A processor of the program that raises leaves event and mistake on the line."""

    def fail(*_args: object) -> Any:
        raise KeyError("mine")

    structlog.configure(processors=[fail, *structlog.get_config()["processors"]])
    get_logger().info("survives")
    assert lines(out) == [
        {"level": "info", "event": "survives", "logging_error": "KeyError: 'mine'"}
    ]


def test_a_failing_logger_of_the_program_is_said_once(
    out: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where even that fails the call does not raise."""
    diagnostics.forget("logs:")
    structlog.configure(logger_factory=lambda *_: object())
    structlog.get_logger().info("lost")
    structlog.get_logger().info("lost")
    assert out.getvalue() == ""
    assert capsys.readouterr().err.count("a log line was lost") == 1
    diagnostics.forget("logs:")


def test_a_processor_may_drop_the_line(out: io.StringIO) -> None:
    """structlog's `DropEvent` works as it does there."""

    def drop(*_args: object) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    get_logger().info("gone")
    assert out.getvalue() == ""


def test_a_failing_record_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in handling a stdlib record does not reach the caller."""
    diagnostics.forget("logs:")

    class Failing:
        def mapping(self, _mapping: Any) -> Any:
            raise RuntimeError("rules")

    with logging_to(redactor=Failing()):
        logging.getLogger("x").info("lost")
        logging.getLogger("x").info("lost")
    assert capsys.readouterr().err == "otel_pipeline: a log record was lost: RuntimeError: rules\n"
    diagnostics.forget("logs:")


def test_the_console_form_is_readable_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal the console form has no colours, and ids that can be copied."""
    with logging_to(format="console") as out, inside(Scope()):
        get_logger("etl").info("loaded", rows=3)
    assert out.getvalue() == (
        f"{STAMP} [info     ] loaded                         [etl] service=orders-etl "
        "pipeline=orders stage=load run_id=run-1 trace_id=0000000000000000000000000000abcd "
        "span_id=00000000000000ef trace_flags=01 rows=3\n"
    )


def test_the_console_form_shows_the_stack_trace_below(recwarn: Any) -> None:
    """The stack trace follows the line, as lines; type and message are not said twice."""
    with logging_to(format="console") as out:
        get_logger().error("failed", exc_info=ValueError("no such row"))
    first, *rest = out.getvalue().splitlines()
    assert "exception" not in first
    assert rest == ["ValueError: no such row"]
    assert not recwarn


def test_the_console_form_sends_no_control_characters() -> None:
    """A value cannot clear the screen or change colours."""
    with logging_to(format="console") as out:
        get_logger().info("a\x1b[2Jb", field="c\x9bd", **{"k\x07": 1})
    assert "a\\x1b[2Jb" in out.getvalue()
    assert "c\\x9bd" in out.getvalue()
    assert "k\\x07" in out.getvalue()


def test_what_an_encoding_lacks_is_escaped() -> None:
    """A stream in ASCII gets the line, with escapes."""
    raw = io.BytesIO()
    with logging_to(io.TextIOWrapper(raw, encoding="ascii"), format="console"):
        get_logger().info("Zürich")
        assert b"Z\\xfcrich" in raw.getvalue()


@pytest.mark.parametrize(
    ("no_color", "chosen", "colors", "json_line"),
    [("", None, True, False), ("1", None, False, False), ("", "json", False, True)],
)
def test_a_terminal_gets_the_console_form(
    no_color: str,
    chosen: Any,
    colors: bool,
    json_line: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a terminal lines are for people, in colour unless `NO_COLOR` is set, unless told else."""
    monkeypatch.setenv("NO_COLOR", no_color)
    master, slave = pty.openpty()
    try:
        with open(slave, "w", closefd=False) as terminal, logging_to(terminal, format=chosen):
            get_logger().info("seen")
        text = os.read(master, 10_000).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert "seen" in text
    assert ("\x1b[" in text) == colors
    assert text.startswith("{") == json_line
