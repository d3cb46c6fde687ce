"""Mean and spread of numbers, and the lengths of texts, that add up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Lengths", "Moments"]

_DOT: Final = 8_192
#: How much larger than the squared distances from the mean those from a number near may be: each
#: factor of ten costs one of some fifteen digits.
_NEAR: Final = 64
_FAR: Final = 1 / 16  # of the mean's square is the variance, and below it is small


def _squares(values: npt.NDArray[np.float64]) -> float:
    """Return the sum of the squares, by parts for which BLAS starts no threads."""
    even = len(values) // _DOT * _DOT
    rows = values[:even].reshape(-1, _DOT)
    rest = values[even:]
    return float(np.add.reduce(np.vecdot(rows, rows))) + float(np.dot(rest, rest))


@dataclass(slots=True)
class Moments:
    """Number, mean and squared distance from the mean.

    Source: Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
    variances (1979), which keeps its precision where the mean is large beside the spread.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: npt.NDArray[np.float64], scratch: npt.NDArray[np.float64]) -> None:
        """Take finite values, at least one; `scratch` has room for as many."""
        n = len(values)
        # Where the mean is small beside the spread, the values are as good as their distances from
        # it and spare a pass; else distances from a number near it keep their precision.
        near = self.mean if self.squares < self.n * self.mean * self.mean * _FAR else 0.0
        distances = np.subtract(values, near, out=scratch[:n]) if near else values
        off = float(np.add.reduce(distances)) / n
        squares = _squares(distances)
        made = Moments(n, near + off, squares - n * off * off)
        whole = self.copy()
        whole.merge(made)
        if not squares <= whole.squares * _NEAR:  # also where one of them is no number
            mean = float(np.add.reduce(values)) / n
            if not math.isfinite(mean):  # the sum of very large values
                mean = float((values / n).sum())
            distances = np.subtract(values, mean, out=scratch[:n])
            whole = self.copy()
            whole.merge(Moments(n, mean, _squares(distances)))
        self.n, self.mean, self.squares = whole.n, whole.mean, whole.squares

    def merge(self, other: Moments) -> None:
        """Take the values that others describe."""
        n = self.n + other.n
        if not other.n:
            return
        gap = other.mean - self.mean
        self.mean = self.mean * (self.n / n) + other.mean * (other.n / n)
        self.squares += other.squares + gap * gap * (self.n / n) * other.n
        self.n = n

    def copy(self) -> Moments:
        """Return others with the same numbers."""
        return Moments(self.n, self.mean, self.squares)

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

    def copy(self) -> Lengths:
        """Return others with the same numbers."""
        return Lengths(self.n, self.total, self.least, self.greatest)
