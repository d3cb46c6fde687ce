"""Values that stay the same although they usually do not: a source that stands still."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Runs"]

#: A run is anomalous if it had a chance of less than e to the minus this.
_SURPRISE: Final = 11.5
_LONGER: Final = 1.6  # and is so many times longer than any before
_SHORTEST: Final = 3


class Runs:
    """How often a value repeats the one before it; the value 0 is told apart from others."""

    def __init__(self) -> None:
        self._value = math.nan
        self._length = 0
        self._seen = [0, 0]
        self._repeats = [0, 0]
        self._longest = [1, 1]

    def judge(self, value: float) -> float:
        """Return how anomalous it is that a value repeats so long; above 1 it is."""
        if value != self._value:
            return 0.0
        zero = int(value == 0)
        length = self._length + 1
        if length < _SHORTEST or not self._seen[zero]:
            return 0.0
        chance = (self._repeats[zero] + 1) / (self._seen[zero] + 2)
        surprise = -(length - 1) * math.log(chance) / _SURPRISE
        return min(surprise, length / (_LONGER * self._longest[zero] + 1))

    def learn(self, value: float) -> None:
        """Take in the next value."""
        if value == self._value:
            self._length += 1
        else:
            if self._length:
                zero = int(self._value == 0)
                self._seen[zero] += self._length
                self._repeats[zero] += self._length - 1
                self._longest[zero] = max(self._longest[zero], self._length)
            self._value, self._length = value, 1
