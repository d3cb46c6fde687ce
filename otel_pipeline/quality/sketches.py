"""Sketches: quantiles, distinct counts and frequent values of many rows, in constant memory.

They are NumPy all through, since a sketch that takes one value at a time from Python is a hundred
times too slow, and they use no random state of their own: equal values in equal order give equal
sketches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    import numpy.typing as npt

__all__ = ["Distinct", "Frequent", "Quantiles", "mixed"]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_S_30: Final = np.uint64(30)
_S_27: Final = np.uint64(27)
_S_31: Final = np.uint64(31)
_HASHES: Final = 2.0**64
_SPARE: Final = 1.1
#: Of a normal distribution, 99 % lie within so many standard deviations.
_Z_99: Final = 2.576


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a hash of each value, as a new array: the finalizer of SplitMix64.

    Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators (OOPSLA 2014).
    """
    z = values + _GOLDEN
    shifted = np.empty_like(z)
    z ^= np.right_shift(z, _S_30, out=shifted)
    z *= _MIX_1
    z ^= np.right_shift(z, _S_27, out=shifted)
    z *= _MIX_2
    z ^= np.right_shift(z, _S_31, out=shifted)
    return z


@dataclass(slots=True)
class Quantiles:
    """Values at any rank, from levels of samples where one value stands for 1, 2, 4, … rows.

    A full level is sorted and every second value goes up, from the first or the second by a
    pseudo-random bit. Rows that were sampled on the way in start at the level of their weight, so
    one sketch takes any mix of sampling rates.

    Source: Agarwal, Cormode, Huang, Phillips, Wei, Yi: Mergeable summaries (PODS 2012), section 3;
    Karnin, Lang, Liberty: Optimal quantile approximation in streams (FOCS 2016) for the sampling.

    Attributes:
        levels: The values of each level, each of which stands for `2 ** level` rows.
        variance: Upper bound of the variance of a rank, in rows squared.
        compactions: How often a level was halved.
    """

    SIZE = 512  # half of a full level
    SHORT = 256  # of the rows that NumPy sorts by a network, without branches

    levels: list[npt.NDArray[Any]] = field(default_factory=list)
    variance: float = 0.0
    compactions: int = 0

    def add(self, values: npt.NDArray[Any], level: int = 0) -> None:
        """Take values, each of which stands for `2 ** level` rows."""
        if level:
            self.variance += len(values) * 4.0**level / 4
        self._take(values, level, short=2)

    def _take(self, values: npt.NDArray[Any], level: int, short: int) -> None:
        """Take values that are halved in short rows so many times, which sort much faster.

        Of the many that come from outside this costs little: the error comes from the few above.
        """
        while len(values):
            while len(self.levels) <= level:
                self.levels.append(values[:0].copy())
            held = self.levels[level]
            held = np.concatenate([held, values]) if len(held) else values
            width = self.SHORT if short > 0 else 2 * self.SIZE
            full = len(held) // (2 * self.SIZE) * 2 * self.SIZE
            self.levels[level] = held[full:].copy()
            values = self._halved(held[:full].reshape(-1, width), level)
            level, short = level + 1, short - 1

    def _halved(self, rows: npt.NDArray[Any], level: int) -> npt.NDArray[Any]:
        if not len(rows):
            return rows.ravel()
        rows = np.sort(rows, axis=1)
        turns = np.arange(self.compactions, self.compactions + len(rows), dtype=np.uint64)
        bits = (mixed(turns) >> np.uint64(63)).astype(bool)
        self.compactions += len(rows)
        self.variance += len(rows) * 4.0**level
        return np.where(bits[:, None], rows[:, 1::2], rows[:, ::2]).ravel()

    def merge(self, other: Quantiles) -> None:
        """Take all that another sketch holds."""
        for level, values in enumerate(other.levels):
            self._take(values, level, short=0)
        self.variance += other.variance

    def copy(self) -> Quantiles:
        """Return another sketch of the same values; arrays of values are never changed."""
        return Quantiles(self.levels.copy(), self.variance, self.compactions)

    def as_type(self, dtype: type[np.generic]) -> None:
        """Hold the values as another type from here on."""
        self.levels = [values.astype(dtype) for values in self.levels]

    def values(self, ranks: list[float]) -> list[Any]:
        """Return the value at each rank from 0 to 1, or None where there are no values."""
        held = [values for values in self.levels if len(values)]
        if not held:
            return [None] * len(ranks)
        weights = [
            np.full(len(values), 2**level, np.float64)
            for level, values in enumerate(self.levels)
            if len(values)
        ]
        values = np.concatenate(held)
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(np.concatenate(weights)[order])
        places = np.searchsorted(reached, np.asarray(ranks) * reached[-1], side="left")
        return [values[order[place]].item() for place in np.minimum(places, len(values) - 1)]

    def error(self) -> float:
        """Return how far a rank is off at most, in 99 of 100 cases, as a share of the rows."""
        rows = sum(len(values) * 2.0**level for level, values in enumerate(self.levels))
        return min(_Z_99 * math.sqrt(self.variance) / rows, 1.0) if rows else 0.0


def _sorted(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Sort a new array and drop what is there twice."""
    values.sort()
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values.compress(first)


@dataclass(slots=True)
class Distinct:
    """The number of distinct values, from the smallest hashes; exact below `SIZE` values.

    Source: Beyer, Haas, Reinwald, Sismanis, Gemulla: On synopses for distinct-value estimation
    under multiset operations (SIGMOD 2007): the estimate and its error, `1 / sqrt(SIZE - 2)`.

    Attributes:
        smallest: The smallest hashes, sorted, each once.
        limit: Hashes from here on are not among them.
    """

    SIZE = 16_384

    smallest: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    limit: int = 2**64 - 1
    _waiting: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    _waits: int = 0
    _seen: npt.NDArray[np.uint64] | None = None

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Take the hashes of values."""
        if self.limit < 2**64 - 1:
            hashes = hashes.compress(hashes < np.uint64(self.limit))
        if self._seen is None:  # as large as the first values need, for there may be many columns
            size = min(self.SIZE, 1 << max(len(hashes) - 1, 1).bit_length())
            self._seen = np.zeros(size, np.uint64)
        # Where values repeat, most were seen lately, and cost one look-up.
        places = (hashes & np.uint64(len(self._seen) - 1)).astype(np.intp)
        new = hashes != self._seen.take(places)
        if not new.all():
            hashes, places = hashes.compress(new), places.compress(new)
        if len(hashes):
            self._seen[places] = hashes
            self._waiting.append(hashes)
            self._waits += len(hashes)
            if self._waits > 2 * self.SIZE:
                self.settle()

    def settle(self) -> None:
        """Sort in what waits."""
        if not self._waiting:
            return
        held = np.concatenate([self.smallest, *self._waiting])
        self._waiting, self._waits = [], 0
        if not len(held):
            return
        # If few of them are equal, the smallest are below here, and the others need no sorting.
        share = self.SIZE * _SPARE / len(held)
        kept = held[:0]
        if share < 1:
            kept = _sorted(held.compress(held < np.uint64(int(self.limit * share))))
        if len(kept) <= self.SIZE:
            kept = _sorted(held)
        if len(kept) > self.SIZE:
            kept = kept[: self.SIZE].copy()
            self.limit = int(kept[-1]) + 1
        self.smallest = kept

    def merge(self, other: Distinct) -> None:
        """Take all that another sketch holds."""
        self.settle()
        other.settle()
        self._waiting = [other.smallest]
        self.limit = min(self.limit, other.limit)
        self.settle()
        self.smallest = self.smallest[self.smallest < np.uint64(self.limit)]

    def copy(self) -> Distinct:
        """Return another sketch of the same values."""
        self.settle()
        return Distinct(self.smallest, self.limit)

    @property
    def exact(self) -> bool:
        """Whether the count is exact."""
        self.settle()
        return self.limit == 2**64 - 1

    def count(self) -> int:
        """Return the number of distinct values, an estimate where there are many."""
        if self.exact:
            return len(self.smallest)
        return round((len(self.smallest) - 1) / (int(self.smallest[-1]) / _HASHES))

    def error(self) -> float:
        """Return how far the count is off at most, in 99 of 100 cases, as a share of it."""
        return 0.0 if self.exact else _Z_99 / math.sqrt(len(self.smallest) - 2)


@dataclass(slots=True)
class Frequent:
    """The most frequent values with their counts; exact while there are few.

    Source: Misra, Gries: Finding repeated elements (1982); Agarwal and others: Mergeable summaries
    (PODS 2012), section 2, for many at once.

    Attributes:
        counts: Each value that is held, and how often it came at least.
        lost: How often a value may have come besides.
    """

    SIZE = 4_096

    counts: dict[Hashable, int] = field(default_factory=dict)
    lost: int = 0

    def add(self, counts: Mapping[Hashable, int]) -> None:
        """Take values with their counts."""
        held = self.counts
        for value, count in counts.items():
            held[value] = held.get(value, 0) + count
        if len(held) > self.SIZE:
            least = sorted(held.values(), reverse=True)[self.SIZE]
            self.counts = {value: n - least for value, n in held.items() if n > least}
            self.lost += least

    def merge(self, other: Frequent) -> None:
        """Take all that another sketch holds."""
        self.add(other.counts)
        self.lost += other.lost

    def copy(self) -> Frequent:
        """Return another sketch of the same values."""
        return Frequent(self.counts.copy(), self.lost)

    def top(self, number: int) -> list[tuple[Hashable, int]]:
        """Return the most frequent values with their least counts, the most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
        return ordered[:number]
