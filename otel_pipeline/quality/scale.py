"""Scales on which the noise of a series is as wide at one level as at another.

Counts of single events have a noise that grows with the root of the level; sums and large counts
have one that grows with the level itself. There a load that is halved is as unlikely as one that is
doubled, though it is off by half as much. So remainders are told on the scale that evens them
out: from linear by way of roots to logarithms (Box and Cox, *An Analysis of Transformations*,
1964).
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LINEAR", "Power", "Scale", "spread_power"]

_FLOOR: Final = 0.1  # of the typical value: below, the scale is almost linear
_FARTHEST: Final = 230.0  # logarithm of the largest factor
#: How far apart high and low levels are that show with which power the spread grows.
_APART: Final = 1.5


class Scale(Protocol):
    """Tells values so that their noise is even."""

    def tell(self, value: float) -> float:
        """Return a value on the scale."""

    def value(self, told: float) -> float:
        """Return the value that is told so."""

    def unit(self, value: float) -> float:
        """Return how much a value changes while what is told of it changes by 1."""


class _Linear:
    """Values as they are."""

    def tell(self, value: float) -> float:
        return value

    def value(self, told: float) -> float:
        return told

    def unit(self, value: float) -> float:  # noqa: ARG002 - the same everywhere
        return 1.0


class Power:
    """Values from 0 on, whose noise grows with a power of the level.

    Args:
        power: The power: 0 is linear, 0.5 tells roots, 1 logarithms.
        typical: A typical value, above 0; there a unit of the scale is a unit of the values.
    """

    def __init__(self, power: float, typical: float) -> None:
        self._power = power
        self._floor = _FLOOR * typical
        self._one = typical + self._floor

    def tell(self, value: float) -> float:
        """Return a value on the scale."""
        power, logarithm = 1 - self._power, self._logarithm(value)
        return self._one * (math.expm1(power * logarithm) / power if power else logarithm)

    def value(self, told: float) -> float:
        """Return the value that is told so."""
        power, told = 1 - self._power, told / self._one
        if not power:
            logarithm = told
        elif power * told <= -1:
            return -self._floor
        else:
            logarithm = math.log1p(power * told) / power
        return self._one * math.exp(min(logarithm, _FARTHEST)) - self._floor

    def unit(self, value: float) -> float:
        """Return how much a value changes while what is told of it changes by 1."""
        return math.exp(self._power * self._logarithm(value))

    def _logarithm(self, value: float) -> float:
        return min(math.log((max(value, 0.0) + self._floor) / self._one), _FARTHEST)


LINEAR: Final[Scale] = _Linear()


def spread_power(pairs: Iterable[tuple[float, float]], unknown: float) -> float:
    """Return with which power of the level the noise grows, as high and low levels show.

    Args:
        pairs: Levels, and the values that were there.
        unknown: What to return if the levels are too close together to show it.

    Returns:
        The power, from 0 to 1.
    """
    ordered = sorted((abs(level), abs(value - level)) for level, value in pairs)
    half = len(ordered) // 2
    low, high = ordered[:half], ordered[half:]
    if half < 4:  # noqa: PLR2004 - too few for halves
        return unknown
    level = median([a for a, _ in low]), median([a for a, _ in high])
    spread = median([d for _, d in low]), median([d for _, d in high])
    floor = 0.1 * median([a for a, _ in ordered])
    if level[1] + floor <= _APART * (level[0] + floor) or floor <= 0 or spread[1] <= 0:
        return unknown
    if spread[0] <= 0:
        return 1.0
    power = math.log(spread[1] / spread[0]) / math.log((level[1] + floor) / (level[0] + floor))
    return min(max(power, 0.0), 1.0)
