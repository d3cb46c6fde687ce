"""Attributes of OTLP as text, and as bits of a signature."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_pipeline.local.limits import MAX_ATTRIBUTE
from otel_pipeline.local.signature import words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from otel_pipeline.local.signature import Signature

__all__ = [
    "Dictionary",
    "Known",
    "attribute_of",
    "number_of",
    "plain",
    "plain_attributes",
    "says",
    "text_of",
]

_MOST_KNOWN: Final = 20_000
_LONGEST_KNOWN: Final = 256
_DEEPEST: Final = 32


class Known(NamedTuple):
    """What is known of an attribute, given as the bytes of its `KeyValue`.

    Attributes:
        bits: Those of its pair and of the words of its value.
        key: Its key if it is one of those that are asked for, else empty.
        text: Its value as text.
    """

    bits: int
    key: str
    text: str


class Dictionary:
    """Remembers what is known of attributes: most come again and again.

    Args:
        signature: What the bits are for.
        keys: The keys whose values are asked for.
    """

    def __init__(self, signature: Signature, keys: Collection[str] = ()) -> None:
        self._signature = signature
        self._keys = frozenset(keys)
        #: What is known so far; a loop looks here first, and calls `learn` for the rest.
        self.known: dict[bytes, Known] = {}

    def learn(self, raw: bytes) -> Known:
        """Find out about an attribute.

        Raises:
            ValueError: It is too large.
            DecodeError: It is no `KeyValue`.
        """
        if len(raw) > MAX_ATTRIBUTE:
            raise ValueError(f"an attribute of {len(raw)} bytes; at most {MAX_ATTRIBUTE}")
        both = KeyValue.FromString(raw)
        key, text = both.key, text_of(both.value)
        bits = self._signature.pair(key, text) | self._signature.phrase(text)
        known = Known(bits, key if key in self._keys else "", text)
        if len(raw) <= _LONGEST_KNOWN:
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[raw] = known
        return known


def plain(value: Any, depth: int = 0) -> Any:
    """Return an `AnyValue` as what JSON knows; bytes as hexadecimal text.

    Args:
        value: The value.
        depth: How deep it is in another one; 32 levels are looked at.
    """
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found = getattr(value, kind)
    if kind == "bytes_value":
        return found.hex()
    if kind == "array_value":
        return [plain(one, depth + 1) for one in found.values] if depth < _DEEPEST else "..."
    if kind == "kvlist_value":
        return plain_attributes(found.values, depth + 1) if depth < _DEEPEST else "..."
    if kind == "double_value" and not -_HUGE < found < _HUGE:
        return str(found)  # inf and nan, which JSON lacks
    return found


_HUGE: Final = float("inf")


def plain_attributes(pairs: Iterable[Any], depth: int = 0) -> dict[str, Any]:
    """Return attributes as a dictionary; see `plain`."""
    return {pair.key: plain(pair.value, depth) for pair in pairs}


def text_of(value: Any) -> str:
    """Return an `AnyValue` as text, by which it is searched.

    >>> from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    >>> [text_of(AnyValue(bool_value=True)), text_of(AnyValue(double_value=2.0))]
    ['true', '2']
    """
    text: str = value.string_value
    if text:
        return text
    found = plain(value)
    if isinstance(found, float) and found.is_integer() and abs(found) < 1e15:  # noqa: PLR2004
        found = int(found)
    if found is None:
        return ""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def attribute_of(pairs: Iterable[Any], key: str) -> str | None:
    """Return the value of an attribute as text; None if it is not there."""
    for pair in pairs:
        if pair.key == key:
            return text_of(pair.value)
    return None


def number_of(pairs: Iterable[Any], key: str) -> float | None:
    """Return the value of an attribute as a number; None if it is none or not there."""
    try:
        return float(attribute_of(pairs, key) or "")
    except ValueError:
        return None


def says(wanted: str, text: str, pairs: Iterable[Any]) -> bool:
    """Tell whether a text or an attribute has some words one after the other.

    Args:
        wanted: The words in lower case, with single spaces.
        text: The text.
        pairs: The attributes.
    """
    first, inside = wanted.partition(" ")[0], f" {wanted} "
    return any(
        first in one.lower() and inside in f" {' '.join(words(one))} "
        for one in itertools.chain([text], (text_of(pair.value) for pair in pairs))
    )
