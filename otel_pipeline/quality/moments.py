"""Mean and spread of numbers, and the lengths of texts, that add up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Lengths", "Moments"]

_DOT: Final = 8_192
_NEAR: Final = 0.9  # of the squares may come from the distance between the two means


@dataclass(slots=True)
class Moments:
    """Number, mean and squared distance from the mean.

    Source: Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
    variances (1979), which keeps its precision where the mean is large beside the spread.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: npt.NDArray[Any], scratch: npt.NDArray[np.float64]) -> None:
        """Take finite values, at least one; `scratch` has room for as many."""
        n = len(values)
        # Distances from a number near the mean keep their precision, and take one pass less.
        near = self.mean if self.n else float(values[0])
        distances = np.subtract(values, near, out=scratch[:n])
        off = float(distances.sum()) / n
        squares = sum(
            float(np.dot(part, part))  # by parts, for which BLAS starts no threads
            for part in (distances[start : start + _DOT] for start in range(0, n, _DOT))
        )
        if math.isfinite(off) and n * off * off <= squares * _NEAR:
            self.merge(Moments(n, near + off, squares - n * off * off))
            return
        mean = float(values.sum(dtype=np.float64)) / n
        if not math.isfinite(mean):  # the sum of very large values
            mean = float((values / n).sum())
        np.subtract(values, mean, out=distances)
        self.merge(Moments(n, mean, float(np.multiply(distances, distances, out=distances).sum())))

    def merge(self, other: Moments) -> None:
        """Take the values that others describe."""
        n = self.n + other.n
        if not other.n:
            return
        gap = other.mean - self.mean
        self.mean = self.mean * (self.n / n) + other.mean * (other.n / n)
        self.squares += other.squares + gap * gap * (self.n / n) * other.n
        self.n = n

    @property
    def std(self) -> float | None:
        """The sample standard deviation; None below two values, or where it is beyond a float."""
        if self.n < 2 or not math.isfinite(self.squares):  # noqa: PLR2004
            return None
        return math.sqrt(self.squares / (self.n - 1))


@dataclass(slots=True)
class Lengths:
    """The lengths of texts in characters, of binary values in bytes."""

    n: int = 0
    total: int = 0
    least: int = 0
    greatest: int = 0

    def add(self, lengths: npt.NDArray[np.int64]) -> None:
        """Take the lengths of values, at least one."""
        self.merge(
            Lengths(len(lengths), int(lengths.sum()), int(lengths.min()), int(lengths.max()))
        )

    def merge(self, other: Lengths) -> None:
        """Take the values that others describe."""
        if not other.n:
            return
        self.least = min(self.least, other.least) if self.n else other.least
        self.greatest = max(self.greatest, other.greatest)
        self.total += other.total
        self.n += other.n
