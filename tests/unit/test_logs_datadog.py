"""The fields for Datadog: on each printed line when asked for, and nowhere else."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import trace

from otel_pipeline import redaction
from otel_pipeline.logs import add_datadog, get_logger, set_up
from otel_pipeline.logs.json_line import JsonLine
from otel_pipeline.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

IDS = {"dd.trace_id": "4095", "dd.span_id": "239"}
TAGS = {"dd.service": "orders-etl", "dd.env": "production", "dd.version": "1.4.2"}


@contextlib.contextmanager
def logging_to(**options: Any) -> Iterator[io.StringIO]:
    """Set up with the option on, and undo afterwards."""
    stream = io.StringIO()
    arguments: dict[str, Any] = {
        "service": "orders-etl",
        "environment": "production",
        "version": "1.4.2",
        "redactor": redaction.OFF,
        "export": False,
        "stream": stream,
        "datadog": True,
    }
    undo = set_up(**{**arguments, **options})
    try:
        yield stream
    finally:
        undo()


def span() -> Any:
    """Be in a span whose trace id is longer than Datadog's."""
    context = trace.SpanContext(0xABC << 64 | 0xFFF, 0xEF, is_remote=False)
    return trace.use_span(trace.NonRecordingSpan(context))


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def log_by(way: str, **fields: Any) -> None:
    """Log one line: in the fast path, through the chain, or by the stdlib `logging`."""
    log = get_logger("etl")
    if way == "stdlib":
        logging.getLogger("etl").warning("loaded", extra=fields)
    elif way == "chain":  # a stack trace has a place of its own
        log.warning("loaded", exc_info=ValueError("x"), **fields)
    else:
        log.warning("loaded", **fields)


@pytest.mark.parametrize("way", ["fast", "chain", "stdlib"])
def test_each_line_has_the_fields_after_those_of_the_trace(way: str) -> None:
    """They stand behind the library's fields and before the caller's."""
    with logging_to() as stream, span():
        log_by(way, rows=3)
    [line] = lines(stream)
    names = list(line)
    start = names.index("trace_flags") + 1
    assert {name: line[name] for name in names[start : start + 5]} == {**TAGS, **IDS}
    assert names.index("rows") >= start + 5
    assert line["trace_id"] == "0000000000000abc0000000000000fff"
    assert line["span_id"] == "00000000000000ef"


@pytest.mark.parametrize("way", ["fast", "chain", "stdlib"])
def test_outside_a_span_there_are_no_ids(way: str) -> None:
    """The service is told all the same, before a span and after it."""
    with logging_to() as stream:
        log_by(way)
        with span():
            log_by(way)
        log_by(way)
    found = [{key: line[key] for key in line if key[:3] == "dd."} for line in lines(stream)]
    assert found == [TAGS, {**TAGS, **IDS}, TAGS]


@pytest.mark.parametrize("way", ["fast", "chain", "stdlib"])
def test_console_lines_have_them_too(way: str) -> None:
    """A console line shows them as its other fields."""
    with logging_to(format="console") as stream, span():
        log_by(way)
    for name, value in {**TAGS, **IDS}.items():
        assert f"{name}={value}" in stream.getvalue()


@pytest.mark.parametrize("way", ["fast", "chain", "stdlib"])
def test_a_field_of_the_caller_of_that_name_is_kept_under_another(way: str) -> None:
    """Neither is lost."""
    with logging_to() as stream, span():
        log_by(way, **{"dd.trace_id": "mine"})
    [line] = lines(stream)
    assert line["dd.trace_id"] == IDS["dd.trace_id"]
    assert line["fields.dd.trace_id"] == "mine"


def test_environment_and_version_are_left_out_where_there_are_none() -> None:
    """As the library's own fields are."""
    with logging_to(environment=None, version=None) as stream:
        get_logger().info("up")
    [line] = lines(stream)
    assert {key for key in line if key.startswith("dd.")} == {"dd.service"}


def test_secrets_are_masked_in_them() -> None:
    """A version that is a secret is none on the line."""
    token = "Bearer abcdefghijklmnopqrstuvwx"
    with logging_to(version=token, redactor=Redactor()) as stream:
        get_logger().info("up")
    assert token not in stream.getvalue()
    assert "[redacted" in lines(stream)[0]["dd.version"]


@pytest.mark.parametrize("way", ["fast", "chain", "stdlib"])
def test_off_nothing_is_added_and_nothing_is_run(way: str) -> None:
    """Off, the lines are as before, and a caller's field of such a name is the caller's."""
    with logging_to(datadog=False) as stream, span():
        log_by(way, **{"dd.trace_id": "mine"})
        [processor] = structlog.get_config()["processors"]
    [line] = lines(stream)
    assert {key: line[key] for key in line if "dd." in key} == {"dd.trace_id": "mine"}
    assert isinstance(processor, JsonLine)
    assert not [one for one in processor._chain if "add_datadog" in repr(one)]


def test_an_own_configuration_of_structlog_can_take_the_processor() -> None:
    """It works among structlog's own."""
    stamp = add_datadog("orders-etl", "production", "1.4.2")
    with span():
        assert stamp(None, "info", {"event": "up"}) == {**TAGS, **IDS, "event": "up"}
