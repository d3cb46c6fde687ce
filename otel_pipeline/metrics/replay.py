"""Observations that give the counts and the sum of a histogram."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["representatives"]


def representatives(
    counts: Sequence[int], bounds: Sequence[float], total: float
) -> Iterator[tuple[float, int]]:
    """Yield values, each with how often it is to be observed, that rebuild a histogram.

    The count of each bucket comes out exact, and the sum up to the rounding of floats.

    Args:
        counts: Observations in each bucket, not cumulative; the last is above all bounds.
        bounds: Upper bounds of the buckets but the last, rising.
        total: The sum of the observations.

    >>> list(representatives([1, 1], [10.0], 25.0))
    [(5.0, 1), (20.0, 1)]
    """
    values = [_middle(index, bounds) for index in range(len(counts))]
    filled = [index for index, count in enumerate(counts) if count]
    rest = total - math.fsum(counts[index] * values[index] for index in filled)
    if math.isfinite(rest):
        # Each bucket takes as much of what lacks as it can, the open one at the end all of it.
        for index in reversed(filled):
            low, high = _limits(index, bounds, least=0.0 if total >= 0 else -math.inf)
            moved = min(max(values[index] + rest / counts[index], low), high)
            rest -= (moved - values[index]) * counts[index]
            values[index] = moved
    for index in filled:
        yield values[index], counts[index]


def _limits(index: int, bounds: Sequence[float], least: float) -> tuple[float, float]:
    """Return the least and the greatest value that falls into a bucket."""
    high = bounds[index] if index < len(bounds) else math.inf
    low = math.nextafter(bounds[index - 1], math.inf) if index else min(least, high)
    return low, high


def _middle(index: int, bounds: Sequence[float]) -> float:
    """Return a value well inside a bucket."""
    if not bounds:
        return 0.0
    if index == len(bounds):
        return math.nextafter(bounds[-1], math.inf)
    low = bounds[index - 1] if index else min(0.0, bounds[0])
    return (low + bounds[index]) / 2
