"""Setting up, undoing, and loggers that outlive both."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from otel_pipeline import redaction
from otel_pipeline.logs import PipelineHandler, add_service, add_trace_context, get_logger, set_up
from otel_pipeline.logs.logger import BoundLogger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def _nothing_set_up() -> Iterator[None]:
    """Each test begins and ends with structlog's and the stdlib's defaults."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def set_up_to(stream: Any, **options: Any) -> Callable[[], None]:
    """Set up with what most tests want."""
    arguments: dict[str, Any] = {"service": "s", "redactor": redaction.OFF, "export": False}
    return set_up(**{**arguments, "stream": stream, **options})


def events(out: io.StringIO) -> list[str]:
    """Return the events printed so far."""
    return [json.loads(line)["event"] for line in out.getvalue().splitlines()]


def state() -> tuple[Any, ...]:
    """Return all that a set-up changes."""
    root = logging.getLogger()
    config = structlog.get_config()
    return structlog.is_configured(), {**config, "processors": None}, root.level, root.handlers[:]


def test_undo_restores_an_unconfigured_process() -> None:
    """After the undo structlog is not configured, and the root logger is as it was."""
    before = state()
    undo = set_up_to(io.StringIO())
    assert state() != before
    undo()
    assert state() == before


def test_undo_restores_an_own_configuration() -> None:
    """After the undo structlog has the configuration that it had."""
    processors: list[Any] = [structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    logging.getLogger().setLevel(logging.ERROR)
    before = state()
    set_up_to(io.StringIO())()
    assert state() == before
    assert structlog.get_config()["processors"] is processors


def test_undo_twice_is_undo_once() -> None:
    """A second call leaves alone what came after the first."""
    undo = set_up_to(io.StringIO())
    undo()
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    after = state()
    undo()
    assert state() == after


def test_a_repeated_inner_undo_brings_no_outer_handler_back() -> None:
    """Once the outer set-up is undone nothing puts its handler on the root logger again."""
    before = state()
    undo_outer = set_up_to(io.StringIO())
    undo_inner = set_up_to(io.StringIO())
    undo_inner()
    undo_outer()
    undo_inner()
    assert state() == before


def test_undo_leaves_what_others_changed_since() -> None:
    """A later configuration of structlog, a level and a handler of others stay."""
    undo = set_up_to(io.StringIO())
    processors: list[Any] = [structlog.processors.JSONRenderer()]
    structlog.configure(processors=processors)
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    logging.getLogger().setLevel(logging.CRITICAL)
    undo()
    assert structlog.get_config()["processors"] is processors
    assert other in logging.getLogger().handlers
    assert logging.getLogger().level == logging.CRITICAL


@pytest.mark.parametrize(
    ("before", "configured", "after"),
    [
        (logging.WARNING, logging.INFO, logging.INFO),
        (logging.DEBUG, logging.INFO, logging.DEBUG),
        (logging.NOTSET, logging.INFO, logging.NOTSET),
    ],
)
def test_the_root_level_is_lowered_only_where_needed(
    before: int, configured: int, after: int
) -> None:
    """A root logger that lets enough through keeps its level."""
    root = logging.getLogger()
    root.setLevel(before)
    undo = set_up_to(io.StringIO(), level=configured)
    assert root.level == after
    undo()
    assert root.level == before


def test_an_inner_set_up_takes_the_records() -> None:
    """Of two set-ups, one within the other, each record goes to the inner one, once."""
    outer, inner = io.StringIO(), io.StringIO()
    undo_outer = set_up_to(outer)
    undo_inner = set_up_to(inner)
    get_logger().info("1")
    logging.getLogger("x").info("2")
    undo_inner()
    get_logger().info("3")
    logging.getLogger("x").info("4")
    undo_outer()
    assert events(inner) == ["1", "2"]
    assert events(outer) == ["3", "4"]


def test_one_logger_follows_every_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """A logger made and bound at import time has the configuration of each moment."""
    log = get_logger("early").bind(a=1)
    log.info("unseen")
    first, second = io.StringIO(), io.StringIO()
    undo = set_up_to(first)
    log.info("1")
    undo()
    log.info("unseen")
    undo = set_up_to(second, service="other")
    log.info("2")
    undo()
    assert events(first) == ["1"]
    line = json.loads(second.getvalue())
    assert (line["event"], line["service"], line["logger"], line["a"]) == ("2", "other", "early", 1)
    assert capsys.readouterr() == ("", "")


def test_without_a_set_up_only_warnings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Before `configure()` a logger does as the stdlib does: warnings, on stderr."""
    log = get_logger("etl", table="orders")
    log.info("unseen")
    log.warning("%s seen", "this", rows=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "[warning  ] this seen" in captured.err
    assert "[etl] table=orders rows=3\n" in captured.err
    assert not structlog.is_configured()


def test_an_own_configuration_of_structlog_is_used() -> None:
    """`get_logger` follows an application that configures structlog itself."""
    out = io.StringIO()
    structlog.configure(
        processors=[add_trace_context, add_service("own"), structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(out),
    )
    get_logger("etl", a=1).info("mine", b=2)
    get_logger().info("nameless")
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"a": 1, "b": 2, "event": "mine", "service": "own"},
        {"event": "nameless", "service": "own"},
    ]


def test_a_later_configuration_of_structlog_wins() -> None:
    """An application may configure structlog after the set-up, with what it finds there."""
    out = io.StringIO()
    undo = set_up_to(out)

    def shout(_logger: Any, _method: str, event_dict: Any) -> Any:
        event_dict["event"] = event_dict["event"].upper()
        return event_dict

    log = get_logger()
    log.info("low")
    structlog.configure(processors=[shout, *structlog.get_config()["processors"]])
    log.info("loud")
    undo()
    assert events(out) == ["low", "LOUD"]


def test_each_part_of_a_later_configuration_is_noticed() -> None:
    """A change of the factory, the wrapper class or nothing but "configured" is followed."""
    log: Any = get_logger()
    log.info("quiet")
    structlog.configure()
    assert not isinstance(log.bind()._bound(), BoundLogger)
    for change in (
        {"logger_factory": structlog.ReturnLoggerFactory()},
        {"processors": [structlog.processors.JSONRenderer()]},
    ):
        structlog.configure(**change)
    assert log.info("returned") == '{"event": "returned"}'
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    assert log.info("below") is None


def test_structlogs_own_loggers_take_the_same_way() -> None:
    """What `structlog.get_logger` returns prints the same line, with its name."""
    out = io.StringIO()
    undo = set_up_to(out)
    structlog.get_logger("etl").bind(a=1).info("x")
    get_logger("etl").bind(a=1).info("x")
    structlog.get_logger(7).info("no name")
    undo()
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert {**first, "timestamp": ""} == {**second, "timestamp": ""}
    assert "logger" not in third


def test_structlogs_test_helper_captures() -> None:
    """`structlog.testing.capture_logs` sees what `get_logger`'s loggers log."""
    out = io.StringIO()
    undo = set_up_to(out)
    log = get_logger()
    log.info("printed")
    with structlog.testing.capture_logs() as captured:
        log.info("captured", rows=3)
    log.info("printed")
    undo()
    assert captured == [{"event": "captured", "rows": 3, "log_level": "info"}]
    assert events(out) == ["printed", "printed"]


def test_fields_are_bound_and_unbound() -> None:
    """`bind`, `new`, `unbind` and `try_unbind` return loggers, and leave theirs as it was."""
    out = io.StringIO()
    undo = set_up_to(out)
    log = get_logger("etl", a=1)
    log.bind(b=2).info("x")
    log.new(c=3).info("x")
    log.bind(b=2).unbind("a").info("x")
    log.try_unbind("a", "z").info("x")
    log.info("x")
    with pytest.raises(KeyError):
        log.unbind("z")
    undo()
    own = [
        {name: value for name, value in json.loads(line).items() if name in "abc"}
        for line in out.getvalue().splitlines()
    ]
    assert own == [{"a": 1, "b": 2}, {"c": 3}, {"b": 2}, {}, {"a": 1}]


def test_a_logger_is_copied_and_pickled() -> None:
    """A logger goes with an object to another process; what it has found does not."""
    out = io.StringIO()
    undo = set_up_to(out)
    log = get_logger("etl", a=1)
    log.info("x")
    pickle.loads(pickle.dumps(log)).info("x")
    copy.deepcopy(log).info("x")
    undo()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["logger"], line["a"]) for line in lines] == [("etl", 1)] * 3
    assert repr(log) == "get_logger('etl', **{'a': 1})"


@pytest.mark.parametrize("name", ["stdout", "stderr", "__stdout__"])
def test_what_another_handler_prints_is_not_printed_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that a handler of others writes to the terminal is left to it."""
    theirs, ours = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, name, theirs)
    other = logging.StreamHandler(theirs)
    logging.getLogger().addHandler(other)
    undo = set_up_to(ours)
    logging.getLogger("x").info("once")
    get_logger().info("ours")
    undo()
    assert theirs.getvalue() == "once\n"
    assert events(ours) == ["ours"]
    assert other in logging.getLogger().handlers


def test_a_handler_that_comes_later_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who prints is looked for with each record, on the record's own loggers as well."""
    theirs, ours = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", theirs)
    undo = set_up_to(ours)
    library = logging.getLogger("test_logs_setup.library")
    library.info("before")
    other = logging.StreamHandler(theirs)
    library.addHandler(other)
    library.info("after")
    library.removeHandler(other)
    undo()
    assert events(ours) == ["before"]
    assert theirs.getvalue() == "after\n"


def test_what_another_handler_does_not_print_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A handler for errors only, or into a file, takes nothing away."""
    theirs, ours = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", theirs)
    errors = logging.StreamHandler(theirs)
    errors.setLevel(logging.ERROR)
    file = logging.FileHandler(tmp_path / "log")
    undo = set_up_to(ours)
    with contextlib.closing(file):
        for handler in (errors, file):
            logging.getLogger().addHandler(handler)
        logging.getLogger("x").info("info")
        logging.getLogger("x").error("error")
    undo()
    assert events(ours) == ["info"]
    assert theirs.getvalue() == "error\n"


def test_a_handler_with_a_console_counts_as_printing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's handler has no stream, but a console with a file."""

    class Console:
        file = io.StringIO()

    class Rich(logging.NullHandler):
        console = Console()

    monkeypatch.setattr(sys, "stderr", Console.file)
    logging.getLogger().addHandler(Rich())
    ours = io.StringIO()
    undo = set_up_to(ours)
    logging.getLogger("x").info("theirs")
    undo()
    assert events(ours) == []


def test_what_another_handler_sends_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenTelemetry's own handler is installed the record is only printed."""
    sent = []

    def emit(_logger: Any, _method: str, event_dict: Any) -> Any:
        sent.append(event_dict["event"])
        return event_dict

    monkeypatch.setattr("otel_pipeline.logs.chain.emit_otlp", emit)
    theirs = type("LoggingHandler", (logging.NullHandler,), {"__module__": "opentelemetry.x"})()
    ours = io.StringIO()
    undo = set_up_to(ours, export=True)
    logging.getLogger("x").info("both")
    logging.getLogger().addHandler(theirs)
    logging.getLogger("x").info("printed")
    undo()
    assert sent == ["both"]
    assert events(ours) == ["both", "printed"]


def test_a_printed_record_is_still_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another handler prints, ours only sends."""
    sent = []

    def emit(_logger: Any, _method: str, event_dict: Any) -> Any:
        sent.append(event_dict["event"])
        return event_dict

    monkeypatch.setattr("otel_pipeline.logs.chain.emit_otlp", emit)
    theirs, ours = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", theirs)
    logging.getLogger().addHandler(logging.StreamHandler(theirs))
    undo = set_up_to(ours, export=True)
    logging.getLogger("x").info("sent")
    undo()
    assert (sent, events(ours), theirs.getvalue()) == (["sent"], [], "sent\n")


def test_the_handler_has_no_lock() -> None:
    """A lock could be held by another thread at the moment of a fork."""
    undo = set_up_to(io.StringIO())
    [handler] = [one for one in logging.getLogger().handlers if isinstance(one, PipelineHandler)]
    undo()
    assert isinstance(handler.lock, contextlib.nullcontext)
    handler.acquire()
    handler.release()


def test_the_librarys_own_messages_are_no_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """What telemetry has to say goes to stderr as it is."""
    out = io.StringIO()
    undo = set_up_to(out)
    logging.getLogger("otel_pipeline").warning("clear")
    undo()
    assert out.getvalue() == ""
    assert capsys.readouterr().err == "otel_pipeline: clear\n"


def test_importing_brings_no_sdk() -> None:
    """The logging part needs the API and structlog only."""
    code = "import otel_pipeline.logs, sys; print('opentelemetry.sdk' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"False"
