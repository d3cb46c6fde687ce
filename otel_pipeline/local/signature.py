"""A summary of items in a few bits, by which a search skips nearly all that cannot match.

Each attribute `key=value` and each word of an item sets three bits (a Bloom filter; B. H. Bloom,
"Space/time trade-offs in hash coding with allowable errors", 1970). They are kept as integers in
columns of their own. Who searches asks for the rows that have all the bits of what is wanted, and
looks closer only at those. A row that matches always has the bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["LOGS", "SPANS", "Signature", "union", "words"]

_PART: Final = 63  # SQLite's integers have 64 bits with their sign
_MASK: Final = (1 << _PART) - 1
_MIX: Final = 0x9E3779B97F4A7C15  # of the golden ratio, as in Fibonacci hashing
_LONGEST: Final = 8_192  # characters of a text whose words are looked at

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case.

    >>> words("Order #12 was LATE")
    ['order', '12', 'was', 'late']
    """
    lower = text.lower()
    return [lower] if lower.isalnum() else _WORD.findall(lower)  # most are one word


def union(parts: Iterable[int]) -> int:
    """Return the bits that any of the parts has."""
    bits = 0
    for part in parts:
        bits |= part
    return bits


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of so many integers.

    Attributes:
        parts: How many integers it has.

    >>> one = Signature(3)
    >>> one.phrase("late order") == one.element("late") | one.element("order")
    True
    """

    parts: int
    _width: int = field(init=False, repr=False)
    _bits: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_width", self.parts * _PART)
        object.__setattr__(self, "_bits", tuple(1 << number for number in range(self._width)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(f"s{number}" for number in range(self.parts))

    @property
    def everything(self) -> int:
        """What has all bits: it says too much to be summarised, and may match anything."""
        return (1 << self._width) - 1

    def element(self, text: str) -> int:
        """Return the bits of one thing that an item has."""
        # CRC keeps likeness, and the product does not: numbers of customers are much alike.
        number, width, bits = crc32(text.encode()) * _MIX >> 16, self._width, self._bits
        rest = number // width
        return bits[number % width] | bits[rest % width] | bits[rest // width % width]

    def pair(self, key: str, value: str) -> int:
        """Return the bits of an attribute."""
        return self.element(f"{key}={value}")

    def phrase(self, text: str) -> int:
        """Return the bits of all words of a text."""
        if len(text) > _LONGEST:
            return self.everything
        return union(map(self.element, words(text)))

    def integers(self, bits: int) -> tuple[int, ...]:
        """Return the bits as the integers that are stored."""
        return tuple(bits >> _PART * number & _MASK for number in range(self.parts))

    def conditions(self, bits: int) -> Iterator[tuple[str, int]]:
        """Yield SQL conditions that a row has the bits; the parameter stands in each twice."""
        for column, part in zip(self.columns, self.integers(bits), strict=True):
            if part:
                yield f"{column} & ? = ?", part


#: Of some spans together.
SPANS: Final = Signature(16)
#: Of one log record.
LOGS: Final = Signature(3)
