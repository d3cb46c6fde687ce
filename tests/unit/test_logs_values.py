"""Values that JSON and OTLP cannot carry: the line still comes out, marked."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import io
import json
import logging
import math
import pathlib
import types
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import redaction
from otel_pipeline.logs import PipelineHandler, get_logger, set_up
from otel_pipeline.logs.values import plain, plain_values

if TYPE_CHECKING:
    from collections.abc import Iterator


class Color(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class BrokenMapping(collections.UserDict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no items")


@dataclasses.dataclass
class Point:
    x: int = 1


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """A set-up; its lines."""
    stream = io.StringIO()
    undo = set_up(service="s", redactor=redaction.OFF, export=False, stream=stream)
    yield stream
    undo()


def stdlib_record(msg: Any, *args: object) -> None:
    """Hand a record to our handler alone: pytest's own raises where a message is broken."""
    [handler] = [one for one in logging.getLogger().handlers if isinstance(one, PipelineHandler)]
    fields = {"name": "x", "msg": msg, "args": args, "levelno": 20, "levelname": "INFO"}
    handler.handle(logging.makeLogRecord(fields))


def strict(text: str) -> Any:
    """Parse as a strict parser does: no NaN, no lone surrogate."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    value = json.loads(text, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


PRINTED: dict[str, tuple[object, object]] = {
    "none": (None, None),
    "bool": (True, True),
    "largest int64": (2**63 - 1, 2**63 - 1),
    "larger integer": (10**30, 10**30),
    "huge integer": (1 << 20_000, "[integer of 20001 bits]"),
    "float": (-0.5, -0.5),
    "nan": (math.nan, "NaN"),
    "infinity": (math.inf, "Infinity"),
    "minus infinity": (-math.inf, "-Infinity"),
    "beyond ASCII": ("Zürich 🚀", "Zürich 🚀"),
    "lone surrogate": ("lone \ud83d", "lone \\ud83d"),
    "string subclass": (Text("text"), "text"),
    "bytes": (b"bytes", "bytes"),
    "binary": (b"\xff", "\\xff"),
    "bytearray": (bytearray(b"b"), "b"),
    "memoryview": (memoryview(b"b"), "b"),
    "datetime": (dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC), "2026-01-02T03:00:00+00:00"),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "time": (dt.time(3, 4), "03:04:00"),
    "timedelta": (dt.timedelta(seconds=90), "0:01:30"),
    "decimal": (decimal.Decimal("1.10"), "1.10"),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "path": (pathlib.PurePosixPath("/a/b"), "/a/b"),
    "complex": (1 + 2j, "(1+2j)"),
    "enum": (Color.RED, "red"),
    "int enum": (Number.ONE, 1),
    "exception": (ValueError("bad"), "ValueError: bad"),
    "group": (ExceptionGroup("g", [ValueError()]), "ExceptionGroup: g (1 sub-exception)"),
    "dataclass": (Point(), "Point(x=1)"),
    "tuple": ((1, [2]), [1, [2]]),
    "set": ({3, 1, 2}, [1, 2, 3]),
    "frozenset": (frozenset({"a"}), ["a"]),
    "deque": (collections.deque([1]), [1]),
    "keys": ({"a": 1}.keys(), ["a"]),
    "dict": ({"a": math.nan}, {"a": "NaN"}),
    "odd keys": ({1: 1, None: 2, b"b": 3, (4,): 4}, {"1": 1, "None": 2, "b": 3, "[4]": 4}),
    "surrogate key": ({"\ud800": 1}, {"\\ud800": 1}),
    "mapping proxy": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "range": (range(3), "range(0, 3)"),
    "broken repr": (Broken(), "[unprintable Broken: RuntimeError]"),
    "broken item": ([1, Broken()], [1, "[unprintable Broken: RuntimeError]"]),
    "broken mapping": (BrokenMapping(), "[unprintable BrokenMapping: RuntimeError]"),
}


@pytest.mark.parametrize(("value", "printed"), PRINTED.values(), ids=PRINTED)
def test_a_value_is_printed_as(value: object, printed: object, out: io.StringIO) -> None:
    """Each kind of value has one form, for structlog and for the stdlib `logging`."""
    get_logger().info("x", value=value)
    logging.getLogger("x").info("x", extra={"value": value})
    for line in out.getvalue().splitlines():
        result = strict(line)["value"]
        assert result == printed
        assert type(result) is type(printed)


EVENTS: dict[str, tuple[object, str]] = {
    "none": (None, "None"),
    "int": (7, "7"),
    "nan": (math.nan, "NaN"),
    "dict": ({"a": {1}}, '{"a": [1]}'),
    "exception": (ValueError("bad"), "ValueError: bad"),
    "bytes": (b"bytes", "bytes"),
    "broken": (Broken(), "[unprintable Broken: RuntimeError]"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("event", "printed"), EVENTS.values(), ids=EVENTS)
def test_an_event_is_always_a_string(event: Any, printed: str, out: io.StringIO) -> None:
    """Whatever is logged, `event` is text."""
    get_logger().info(event)
    stdlib_record(event)
    assert [strict(line)["event"] for line in out.getvalue().splitlines()] == [printed, printed]


def test_a_log_call_without_an_event_makes_a_line(out: io.StringIO) -> None:
    """The event is then empty."""
    log: Any = get_logger()
    log.info(rows=3)
    line = strict(out.getvalue())
    assert (line["event"], line["rows"]) == ("", 3)


def test_keys_of_extra_may_be_anything(out: io.StringIO) -> None:
    """The stdlib does not check the keys of `extra`."""
    logging.getLogger("x").info("x", extra={7: "seven", "new\nline": 1})  # type: ignore[dict-item]
    line = strict(out.getvalue())
    assert (line["7"], line["new\nline"]) == ("seven", 1)
    assert len(out.getvalue().splitlines()) == 1


def test_a_key_is_cut_at_256_characters() -> None:
    """A key of a megabyte does not make a line of a megabyte."""
    assert list(plain_values(None, "info", {"event": "x", "é" * 1000: 1})) == ["event", "é" * 256]
    assert plain({"k" * 1000: 1}) == {"k" * 256: 1}


def test_a_long_string_is_cut_and_marked(out: io.StringIO) -> None:
    """A field keeps 65,536 characters, and says how many there were."""
    text = "x" * 10_485_760
    get_logger().info(text, field=text, raw=text.encode(), deep=[text, "after"])
    line = strict(out.getvalue())
    cut = "x" * 65_536 + "…[truncated 10485760 chars]"
    assert line["event"] == line["field"] == line["raw"] == cut
    assert line["deep"] == [cut, "…[truncated 2 items]"]


def test_a_string_is_cut_between_words() -> None:
    """No word is left in part, as redaction would not know half a secret."""
    text = "x" * 65_400 + " password=" + "y" * 1000
    assert plain(text) == "x" * 65_400 + f"…[truncated {len(text)} chars]"


def test_a_string_at_the_limit_is_whole() -> None:
    """65,536 characters are not cut."""
    assert plain("x" * 65_536) == "x" * 65_536
    assert plain("é" * 65_536) == "é" * 65_536


def test_large_containers_are_cut_and_marked() -> None:
    """A field keeps 1,000 items, of all its containers together."""
    assert plain(list(range(5000))) == [*range(1000), "…[truncated 5000 items]"]
    assert plain({str(key): 0 for key in range(5000)}) == {
        **{str(key): 0 for key in range(1000)},
        "…": "[truncated 5000 items]",
    }
    nested = plain([[0] * 600, [0] * 600])
    assert nested == [[0] * 600, [*[0] * 398, "…[truncated 600 items]"]]


def test_numpy_values_are_python_values() -> None:
    """Scalars and arrays become what they hold; a large array its own short form."""
    np = pytest.importorskip("numpy")
    assert plain([np.int64(3), np.float32(0.5), np.bool_(True), np.str_("s")]) == [
        3,
        0.5,
        True,
        "s",
    ]
    assert plain(np.float64("nan")) == "NaN"
    assert plain(np.datetime64("2026-01-02")) == "2026-01-02"
    assert plain(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert str(plain(np.arange(5000))).startswith("array([   0,    1,    2, ..., 4997, 4998, 4999]")


def test_circular_and_deep_values_end() -> None:
    """A value that contains itself, or is nested without end, is marked where it is left off."""
    circular: list[Any] = [1]
    circular.append(circular)
    shared = [7]
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    assert plain(circular) == [1, "[circular]"]
    assert plain([shared, shared]) == [[7], [7]]
    assert json.dumps(plain(deep)) == "[" * 8 + '"[nested too deeply]"' + "]" * 8


def test_plain_fields_are_passed_on_untouched() -> None:
    """The common line costs no copy."""
    event_dict: Any = {"event": "x", "a": "b", "n": 1, "f": 0.5, "t": True, "z": None}
    assert plain_values(None, "info", event_dict) is event_dict
