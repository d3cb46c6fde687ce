"""A summary of an item in a few bits, by which a search skips nearly all that cannot match.

Each attribute `key=value` and each word of an item sets three of 189 bits (a Bloom filter; B. H.
Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970). They are kept as three
integers beside the time in an index. Who searches asks for the rows that have all the bits of what
is wanted, and looks closer only at those. A row that matches always has the bits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EVERYTHING", "element", "integers", "pair", "phrase", "words"]

_WIDTH: Final = 189
_PART: Final = 63  # SQLite's integers have 64 bits with their sign
_MASK: Final = (1 << _PART) - 1
_LONGEST: Final = 8_192  # characters of a text whose words are looked at

#: What an item has that says too much to be summarised: it may match anything.
EVERYTHING: Final = (1 << _WIDTH) - 1

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case.

    >>> words("Order #12 was LATE")
    ['order', '12', 'was', 'late']
    """
    return _WORD.findall(text.lower())


def element(text: str) -> int:
    """Return the bits of one thing that an item has."""
    number = crc32(text.encode())
    return (
        1 << number % _WIDTH
        | 1 << number // _WIDTH % _WIDTH
        | 1 << number // (_WIDTH * _WIDTH) % _WIDTH
    )


def pair(key: str, value: str) -> int:
    """Return the bits of an attribute."""
    return element(f"{key}={value}")


def phrase(text: str) -> int:
    """Return the bits of all words of a text."""
    if len(text) > _LONGEST:
        return EVERYTHING
    return union(map(element, words(text)))


def union(parts: Iterable[int]) -> int:
    """Return the bits that any of the parts has."""
    bits = 0
    for part in parts:
        bits |= part
    return bits


def integers(bits: int) -> tuple[int, int, int]:
    """Return the bits as the three integers that are stored."""
    return bits & _MASK, bits >> _PART & _MASK, bits >> 2 * _PART
