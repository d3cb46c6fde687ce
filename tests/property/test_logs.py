"""Whatever is logged, the line is one line of strict JSON with the right ids."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from otel_pipeline import redaction
from otel_pipeline.logs import PipelineHandler, get_logger, set_up
from otel_pipeline.logs.values import plain

OURS = ("timestamp", "level", "logger", "event", "service", "trace_id", "span_id", "trace_flags")
IDS = {"trace_id": f"{1:032x}", "span_id": f"{2:016x}", "trace_flags": "01"}

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    any_text,
    st.binary(max_size=30),
    st.decimals(),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.timedeltas(),
    st.uuids(),
    st.complex_numbers(),
    st.builds(object),
    st.builds(ValueError, any_text),
)
hashable = st.one_of(st.none(), st.integers(), any_text, st.binary(max_size=5))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.frozensets(hashable, max_size=4),
        st.dictionaries(hashable, inner, max_size=4),
    ),
    max_leaves=12,
)
fields = st.dictionaries(any_text, values, max_size=5)


def strict(text: str) -> dict[str, Any]:
    """Parse one line as a strict parser does: no NaN, no repeated key, no lone surrogate."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    assert text.isascii()
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    assert len(text.splitlines()) == 1
    line: dict[str, Any] = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    json.dumps(line, ensure_ascii=False).encode("utf-8")
    return line


def logged(call: Any) -> dict[str, Any]:
    """Return the line that `call` logs in a span."""
    out = io.StringIO()
    undo = set_up(service="s", redactor=redaction.Redactor(), export=True, stream=out)
    context = trace.SpanContext(1, 2, False, trace.TraceFlags(1))
    try:
        with trace.use_span(trace.NonRecordingSpan(context)):
            call()
    finally:
        undo()
    line = strict(out.getvalue())
    assert {name: line[name] for name in IDS} == IDS
    assert isinstance(line["event"], str)
    assert [name for name in line if name in OURS] == [name for name in OURS if name in line]
    return line


@given(st.one_of(any_text, values), fields)
def test_any_event_and_fields_make_one_strict_line(event: Any, own: dict[str, Any]) -> None:
    """No call raises, and every line parses and carries the ids."""
    log: Any = get_logger("x")
    line = logged(lambda: log.info(event, **own))
    assert len(line) >= len({name for name in own if name not in {"exc_info", "stack_info"}})


@given(any_text, st.lists(values, max_size=3))
def test_any_arguments_make_one_strict_line(event: str, args: list[Any]) -> None:
    """Arguments that do not fit the event do no harm."""
    logged(lambda: get_logger("x").info(event, *args))


@given(st.one_of(any_text, values), st.lists(values, max_size=2), fields)
def test_any_stdlib_record_makes_one_strict_line(msg: Any, args: list[Any], extra: Any) -> None:
    """The same holds for the stdlib `logging`."""
    standard = set(vars(logging.makeLogRecord({})))
    own = {name: value for name, value in extra.items() if name not in standard}
    record = logging.LogRecord("x", logging.INFO, "path", 1, msg, tuple(args), None)
    vars(record).update(own)

    def handle() -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, PipelineHandler):
                handler.handle(record)

    logged(handle)


@given(values)
def test_plain_values_stay_as_they_are(value: Any) -> None:
    """What was made plain is plain: doing it again changes nothing."""
    once = plain(value)
    assert plain(once) == once
    json.dumps(once, allow_nan=False)
