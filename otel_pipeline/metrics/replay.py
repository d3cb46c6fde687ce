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
    if math.isfinite(total):
        rest = total - math.fsum(counts[index] * values[index] for index in filled)
        # The open ends take what they can; what is between the bounds is moved within them.
        for index in reversed(filled):
            low, high = _limits(index, bounds)
            wanted = values[index] + rest / counts[index]
            moved = min(max(wanted, low), high)
            rest -= (moved - values[index]) * counts[index]
            values[index] = moved
    elif filled:
        yield from ((values[index], counts[index]) for index in filled[:-1])
        yield values[filled[-1]], counts[filled[-1]] - 1
        yield total, 1
        return
    for index in filled:
        yield values[index], counts[index]


def _limits(index: int, bounds: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest value that falls into a bucket."""
    low = math.nextafter(bounds[index - 1], math.inf) if index else -math.inf
    high = bounds[index] if index < len(bounds) else math.inf
    return low, high


def _middle(index: int, bounds: Sequence[float]) -> float:
    """Return a value well inside a bucket."""
    if not bounds:
        return 0.0
    if index == len(bounds):
        return math.nextafter(bounds[-1], math.inf)
    low = bounds[index - 1] if index else min(0.0, bounds[0])
    return (low + bounds[index]) / 2
