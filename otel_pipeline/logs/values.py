"""Any Python object as what JSON and OTLP can carry: str, bool, int, float, None, list, dict.

What is too long, too deep, circular or cannot be printed is replaced by a mark, so that the line
still comes out.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import uuid
from collections import deque
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from structlog.typing import EventDict, WrappedLogger

__all__ = ["MOST_CHARS", "MOST_DEPTH", "MOST_ITEMS", "plain", "plain_values"]

#: Limits of one field: characters of all its strings, items of all its containers, and nesting.
MOST_CHARS = 65_536
MOST_ITEMS = 1_000
MOST_DEPTH = 8

_MOST_KEY_CHARS = 256
_MOST_INTEGER_BITS = 8_192  # Python refuses to print integers of more than 4,300 digits
_WORD = 256
_SMALL, _LARGE = -(2**63), 2**63

_T = TypeVar("_T")

_PRINTED = (
    dt.timedelta,
    decimal.Decimal,
    uuid.UUID,
    pathlib.PurePath,
    complex,
)
_NESTED = (
    Mapping, BaseException, list, tuple, set, frozenset, deque, KeysView, ValuesView, ItemsView,
)  # fmt: skip


def plain_values(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Replace values that JSON or OTLP cannot carry, and cut those that are too long.

    A processor. Bytes, dates, decimals, paths, enums, sets, NumPy values and exceptions become
    text, numbers or lists; NaN and infinities the strings `NaN`, `Infinity`, `-Infinity`; other
    objects their `repr`. A field is cut at 65,536 characters, 1,000 items and 8 levels, and what
    was cut is marked. `event` becomes a string. Nothing raises.

    Args:
        event_dict: The fields of the line.

    Returns:
        The same mapping if nothing had to be replaced, else a new one.

    Example:
        >>> plain_values(None, "info", {"event": "done", "rate": float("nan"), "ids": {7}})
        {'event': 'done', 'rate': 'NaN', 'ids': [7]}
    """
    if type(event_dict.get("event")) is not str:
        return _all_plain(event_dict)
    for key, value in event_dict.items():
        kind = type(value)
        if kind is str:
            is_plain = value.isascii() and len(value) <= MOST_CHARS
        elif kind is int:
            is_plain = _SMALL < value < _LARGE
        elif kind is float:
            is_plain = value - value == 0.0  # not so for NaN and infinities; faster than to ask
        else:
            is_plain = value is None or kind is bool
        if not (is_plain and key.isascii()):
            return _all_plain(event_dict)
    return event_dict


def plain(value: object) -> object:
    """Return `value` as str, bool, int, float, None, list or dict, cut and marked as needed.

    Args:
        value: Anything.

    Returns:
        A value that strict JSON and UTF-8 can carry.

    Example:
        >>> plain({"when": dt.date(2026, 1, 2), 7: b"abc"})
        {'when': '2026-01-02', '7': 'abc'}
    """
    if type(value) is str and value.isascii() and len(value) <= MOST_CHARS:
        return value
    return _Converter().convert(value, ())


def _all_plain(event_dict: EventDict) -> EventDict:
    result = {_key(key): plain(value) for key, value in event_dict.items()}
    result["event"] = _one_text(result.get("event", ""))
    return result


def _one_text(event: object) -> str:
    if isinstance(event, dict | list):
        return json.dumps(event, ensure_ascii=False)  # a form in which redaction knows keys
    return str(event)


class _Converter:
    """Converts one field; knows how much of it may still be printed."""

    __slots__ = ("chars", "items")

    def __init__(self) -> None:
        self.chars = MOST_CHARS
        self.items = MOST_ITEMS

    def convert(self, value: object, parents: tuple[int, ...]) -> object:
        try:
            return self._convert(value, parents)
        except Exception as error:  # noqa: BLE001 - the value's own code may raise anything
            return f"[unprintable {type(value).__name__}: {type(error).__name__}]"

    def _convert(self, value: object, parents: tuple[int, ...]) -> object:  # noqa: PLR0911
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):  # before str and int, which it may be as well
            return self.convert(value.value, parents)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            return _integer(int.__index__(value))
        if isinstance(value, float):
            return _float(float.__pos__(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self._text(bytes(value).decode("utf-8", "backslashreplace"))
        if isinstance(value, _NESTED):
            return self._nested(value, parents)
        return self._other(value, parents)

    def _other(self, value: object, parents: tuple[int, ...]) -> object:
        if isinstance(value, dt.date | dt.time):
            return value.isoformat()
        if isinstance(value, _PRINTED):
            return self._text(str(value))
        if type(value).__module__.partition(".")[0] == "numpy":
            size = getattr(value, "size", 0)
            if size <= MOST_ITEMS and hasattr(value, "tolist"):
                return self.convert(value.tolist(), parents)
        return self._text(repr(value))

    def _nested(self, value: object, parents: tuple[int, ...]) -> object:
        if isinstance(value, BaseException):
            return self._text(f"{type(value).__name__}: {value}")
        if id(value) in parents:
            return "[circular]"
        if len(parents) >= MOST_DEPTH:
            return "[nested too deeply]"
        parents = (*parents, id(value))
        if isinstance(value, Mapping):
            return self._dict(value, parents)
        return self._list(value, parents)  # type: ignore[arg-type]

    def _dict(self, value: Mapping[object, object], parents: tuple[int, ...]) -> dict[str, object]:
        pairs = value.items()
        result = {
            self._text(_key(key)): self.convert(item, parents) for key, item in self._taken(pairs)
        }
        if len(value) > len(result):
            result["…"] = f"[truncated {len(value)} items]"
        return result

    def _list(self, value: set[object] | list[object], parents: tuple[int, ...]) -> list[object]:
        result = [self.convert(item, parents) for item in self._taken(value)]
        if isinstance(value, set | frozenset):
            result.sort(key=str)  # the order of a set differs from run to run
        if len(value) > len(result):
            result.append(f"…[truncated {len(value)} items]")
        return result

    def _taken(self, items: Iterable[_T]) -> Iterator[_T]:
        """Yield items while the field has room for them."""
        for item in items:
            if self.items <= 0 or self.chars <= 0:
                return
            self.items -= 1
            yield item

    def _text(self, text: str) -> str:
        cut = _cut(text, self.chars) if len(text) > self.chars else text
        self.chars -= min(len(text), self.chars)
        return cut if cut.isascii() else _encodable(cut)


def _key(key: object) -> str:
    if type(key) is str and key.isascii() and len(key) <= _MOST_KEY_CHARS:
        return key
    if not isinstance(key, str):
        key = plain(key)
    return _encodable(str(key)[:_MOST_KEY_CHARS])


def _integer(number: int) -> int | str:
    bits = number.bit_length()
    return number if bits <= _MOST_INTEGER_BITS else f"[integer of {bits} bits]"


def _float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _cut(text: str, at: int) -> str:
    # Cut between words where there are any: redaction comes later and would not know half a secret.
    end = text.rfind(" ", max(at - _WORD, 0), at)
    return f"{text[: at if end < 0 else end]}…[truncated {len(text)} chars]"


def _encodable(text: str) -> str:
    """Replace lone surrogates, which neither UTF-8 nor strict JSON parsers take."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
