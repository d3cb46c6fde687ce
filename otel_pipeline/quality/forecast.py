"""What a series lets expect next, and how far from that its values usually are.

A `Forecaster` knows one season: its values at the same hour of earlier days, say. What is normal
for a slot of the season is the median of its last values, times (or plus) a level that follows the
series slowly. What remains is told in units of its usual spread, which grows with the level as the
series shows (see `scale`); how much of the last remainder carries over to the next point is
learned, too.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_pipeline.quality.scale import LINEAR, Power, spread_power

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.quality.scale import Scale

__all__ = ["Forecast", "Forecaster", "Limits", "median"]

#: The median of the absolute deviations of a normal distribution, in standard deviations.
_MAD: Final = 0.6745
_REFRESHES: Final = 12  # times that the spread is told anew while the pool fills once
_YOUNG: Final = 10.0  # points of a pool with which limits are twice as wide
#: Share of the pool that means are held against: a drift that goes on is not in it.
_EARLIER: Final = 0.6
#: Spread of counts, in that of Poisson's, from which it grows with the level for all one knows.
_POISSON: Final = 1.5
_TINY: Final = 1e-200  # such values may as well be 0
_FEW: Final = 0.3  # the largest share that is one of few
#: Share of the way to half or twice the value that a limit lies at, if it is not to miss those.
_NEAR: Final = 0.75
_HOURS: Final = 24
_HOUR: Final = 3600.0
#: Points that an hour's spread is mixed with, all of them of the usual spread.
_SHRINK: Final = 8.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How far off a point may be, for a series with a certain step.

    Attributes:
        sigmas: A limit is at least this many robust standard deviations,
        least_sigmas: or as few as this where half or twice the value would be within them,
        tail: or this many times what the largest `tail_share` of all points have,
        tail_share: which is about how often a false alarm may be,
        most_sigmas: but at most this many standard deviations.
        mean_sigmas: The same as `sigmas`, for means over several points.
        means: Numbers of points over which the mean is watched.
        level_points: Points over which the level follows the series.
        pool: Points that tell the spread.
        bent: Whether half of a value is as far off as twice of it, where the noise grows so.
    """

    sigmas: float
    least_sigmas: float
    tail: float
    tail_share: float
    most_sigmas: float
    mean_sigmas: float
    means: tuple[int, ...]
    level_points: int
    pool: int
    bent: bool


class Forecast(NamedTuple):
    """What a forecaster expects of the next point.

    Attributes:
        center: The expected value.
        down: How far below that a value may be, in its unit.
        up: How far above.
        slow: The expected value without what the last points add to it.
    """

    center: float
    down: float
    up: float
    slow: float


def median(values: Sequence[float]) -> float:
    """Return the median of a sequence that is not empty."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


class Window:
    """The last values of a slot, and their median.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: deque[float] = deque()
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._values)

    def append(self, value: float) -> None:
        """Take a value in, and let go of the oldest."""
        if len(self._values) == self._size:
            del self._ordered[bisect.bisect_left(self._ordered, self._values.popleft())]
        self._values.append(value)
        bisect.insort(self._ordered, value)

    def median(self) -> float:
        """Return the median of the values."""
        half = len(self._ordered) // 2
        upper = self._ordered[half]
        return upper if len(self._ordered) % 2 else (self._ordered[half - 1] + upper) / 2

    def change(self, change: Callable[[float], float]) -> None:
        """Replace each value."""
        self._values = deque(map(change, self._values))
        self._ordered = sorted(self._values)


class Forecaster:
    """Forecasts from one season of a series.

    Args:
        slot: Gives the slot of the season that a time in seconds lies in.
        memory: Values of a slot that are remembered.
        needed: Values that a slot needs before it forecasts.
        limits: How far off a point may be.
        lasting: Whether anomalous values are remembered, too: a median of few values stands some
            of them, and so a change of a single slot is learned.
    """

    def __init__(
        self,
        slot: Callable[[float], int],
        *,
        memory: int,
        needed: int,
        limits: Limits,
        lasting: bool,
    ) -> None:
        self.slot = slot
        self.needed = needed
        self.multiplicative = True
        self.counts = False
        self.shares = False
        self.cost = math.inf
        self._memory = memory
        self._lasting = lasting
        self._limits = limits
        self._slots: dict[int, Window] = {}
        self._level = 1.0
        self._pool: deque[tuple[float, float, int]] = deque(maxlen=limits.pool)
        self._hours = [1.0] * _HOURS
        self._due = 8
        self._last = 0.0  # the last remainder, in units
        self._gap = 1  # points since then
        self._recent: deque[float] = deque(maxlen=max(limits.means))
        self._carry = 0.0
        self._scale: Scale = LINEAR
        self._typical = 0.0
        self._sigma = 0.0
        self._wander = 0.0
        self._down = 0.0
        self._up = 0.0
        self._dispersion = 1.0
        self._mean_limits: dict[int, tuple[float, float]] = {}

    def use(self, *, multiplicative: bool, counts: bool, shares: bool) -> None:
        """Say how the series behaves; a change of that begins the level anew."""
        self.counts = counts
        self.shares = shares
        if multiplicative != self.multiplicative:
            self.multiplicative = multiplicative
            self._level = 1.0 if multiplicative else 0.0
            self._pool.clear()
            self.cost = math.inf

    def slow(self, at: float) -> float | None:
        """Return what the season and the level let expect; None while that is not known."""
        values = self._slots.get(self.slot(at))
        if values is None or len(values) < self.needed:
            return None
        base = values.median()
        return base * self._level if self.multiplicative else base + self._level

    def forecast(self, at: float) -> Forecast | None:
        """Return what is expected at a time; None while that is not known."""
        slow = self.slow(at)
        if slow is None or self.cost == math.inf:
            return None
        carry = self._carry**self._gap
        spread = math.sqrt((1 - self._carry ** (2 * self._gap)) / (1 - self._carry**2))
        center = self._at(slow, carry * self._last)
        if self.multiplicative:
            center = max(center, 0.0)
        spread *= (1 + _YOUNG / len(self._pool)) * self._hours[int(at // _HOUR) % _HOURS]
        least = self._limits.least_sigmas * self._poisson(center) if self.counts else 0.0
        return Forecast(
            center,
            max(center - self._at(slow, carry * self._last - self._down * spread), least),
            max(self._at(slow, carry * self._last + self._up * spread) - center, least),
            slow,
        )

    def mean_scores(self, forecast: Forecast, value: float) -> list[float]:
        """Return how far the means over the last points are from what they were, with signs."""
        remainder = self._clipped(forecast, value)
        recent = [*self._recent, remainder]
        scores = []
        for points, (center, limit) in self._mean_limits.items():
            if len(recent) >= points and limit > 0:
                mean = sum(recent[-points:]) / points
                scores.append((mean - center) / limit)
        return scores

    def learn(self, at: float, value: float, *, clip: bool = False) -> None:
        """Take a point in; `clip` one that is only to widen the limits."""
        slow = self.slow(at)
        if slow is not None:
            hour = int(at // _HOUR) % _HOURS
            if clip:
                forecast = self.forecast(at)
                if forecast is not None:
                    bounded = min(
                        max(value, forecast.center - 1.5 * forecast.down),
                        forecast.center + 1.5 * forecast.up,
                    )
                    self._pool.append((slow, bounded, hour))
            else:
                self._pool.append((slow, value, hour))
                self._follow(slow, value)
                remainder = self._remainder(slow, value)
                bound = 4 * self._wander if self._wander else math.inf
                self._last = min(max(remainder, -bound), bound)
                self._gap = 1
                self._recent.append(remainder)
            self._due -= 1
            if self._due <= 0:
                self._refresh()
        if not clip:
            self._remember(at, value)

    def skip(self, at: float, value: float | None) -> None:
        """Let a point pass that tells nothing of the next; None for one to forget altogether."""
        self._gap += 1
        if self._lasting and value is not None:
            self._remember(at, value)

    def shift(self, points: Sequence[tuple[float, float]]) -> None:
        """Take it that the level has changed to that of these points."""
        known = [(slow, value) for at, value in points if (slow := self.slow(at)) is not None]
        if not known:
            return
        if self.multiplicative:
            base = sum(slow for slow, _ in known)
            factor = sum(value for _, value in known) / base if base > 0 else 1.0
            change: Callable[[float], float] = lambda value: value * factor  # noqa: E731
        else:
            offset = median([value - slow for slow, value in known])
            change = lambda value: value + offset  # noqa: E731
        for values in self._slots.values():
            values.change(change)
        pool = [(change(slow), change(value), hour) for slow, value, hour in self._pool]
        self._pool = deque(pool, maxlen=self._pool.maxlen)
        if pool:
            self._refresh()
        self._last, self._gap = 0.0, 1
        self._recent.clear()

    # --- Inside -----------------------------------------------------------------------------------

    def _remember(self, at: float, value: float) -> None:
        slot = self.slot(at)
        values = self._slots.get(slot)
        if values is None:
            values = self._slots[slot] = Window(self._memory)
        values.append(value)

    def _remainder(self, slow: float, value: float) -> float:
        if not self._limits.bent:
            return (value - slow) / self._scale.unit(slow)
        return self._scale.tell(value) - self._scale.tell(slow)

    def _at(self, slow: float, remainder: float) -> float:
        if not self._limits.bent:
            return slow + remainder * self._scale.unit(slow)
        return self._scale.value(self._scale.tell(slow) + remainder)

    def _least(self, factor: float) -> float:
        """Return the smallest limit, as seen from a value that is so many times the usual one."""
        limits = self._limits
        if self._scale is LINEAR:
            return limits.sigmas * self._sigma
        off = abs(self._remainder(self._typical, factor * self._typical))
        return max(limits.least_sigmas * self._sigma, min(limits.sigmas * self._sigma, _NEAR * off))

    def _poisson(self, center: float) -> float:
        return min(1.0, self._dispersion) * math.sqrt(max(center, 0.0) + 1)

    def _clipped(self, forecast: Forecast, value: float) -> float:
        bounded = min(max(value, forecast.center - forecast.down), forecast.center + forecast.up)
        return self._remainder(forecast.slow, bounded)

    def _follow(self, slow: float, value: float) -> None:
        bound = 3 * self._sigma * self._scale.unit(slow) if self._sigma else math.inf
        step = min(max(value - slow, -bound), bound) / self._limits.level_points
        if not self.multiplicative:
            self._level += step
        elif slow > 0.1 * self._typical:
            self._level *= 1 + max(step / slow, -0.5) if slow > 0 else 1.0

    def _found_scale(self) -> Scale:
        if self._typical < _TINY:
            return LINEAR
        if self.shares and self._limits.bent:  # few of many are as counts; others are not
            return Power(0.5, self._typical) if self._typical < _FEW else LINEAR
        if not self.multiplicative:
            return LINEAR
        of_counts = 0.5 if self._dispersion < _POISSON else 1.0
        unknown = of_counts if self.counts else 0.0
        if not self._limits.bent:
            unknown = 0.5
        power = spread_power([(slow, value) for slow, value, _ in self._pool], unknown)
        return Power(power, self._typical) if power else LINEAR

    def _refresh(self) -> None:
        """Tell the spread anew from the pool."""
        pool = self._pool
        self._due = max(4, len(pool) // _REFRESHES)
        self._typical = median([abs(slow) for slow, _, _ in pool])
        self._scale = self._found_scale()
        remainders = [self._remainder(slow, value) for slow, value, _ in pool]
        self._carry = _carry(remainders)
        self._wander = median([abs(one) for one in remainders]) / _MAD
        steps = [
            now - self._carry * before
            for before, now in zip([0.0, *remainders], remainders, strict=False)
        ]
        kept = sorted(
            abs(step) * self._scale.unit(slow)
            for step, (slow, _, _) in zip(steps, pool, strict=True)
        )
        kept = kept[: max(1, int(0.97 * len(kept)))]
        self.cost = sum(kept) / len(kept)
        self._hours = _by_hour(steps, [hour for _, _, hour in pool])
        even = sorted(
            step / self._hours[hour] for step, (_, _, hour) in zip(steps, pool, strict=True)
        )
        limits = self._limits
        self._sigma = median([abs(step) for step in even]) / _MAD
        tail = min(int(limits.tail_share * len(even)), len(even) - 1)
        most = limits.most_sigmas * self._sigma or math.inf
        self._down = max(self._least(0.5), min(-limits.tail * even[tail], most))
        self._up = max(self._least(2.0), min(limits.tail * even[-1 - tail], most))
        if self.counts:
            self._dispersion = (
                median([abs(v - s) / math.sqrt(max(s, 0.0) + 1) for s, v, _ in pool]) / _MAD
            )
        earlier = remainders[: math.ceil(_EARLIER * len(remainders))]
        self._mean_limits = {
            points: found
            for points in limits.means
            if len(earlier) >= 4 * points
            and (found := _mean_limits(earlier, points, limits.mean_sigmas))
        }


def _carry(remainders: Sequence[float]) -> float:
    """Return how much of a remainder carries over to the next: from 0 to almost 1."""
    if len(remainders) < 12:  # noqa: PLR2004 - too few to tell
        return 0.0
    bound = 4 * median([abs(value) for value in remainders])
    clipped = [min(max(value, -bound), bound) for value in remainders]
    squares = sum(value * value for value in clipped)
    if squares <= 0:
        return 0.0
    products = sum(a * b for a, b in itertools.pairwise(clipped))
    return min(max(products / squares, 0.0), 0.98)


def _by_hour(steps: Sequence[float], hours: Sequence[int]) -> list[float]:
    """Return how much wider than usual the spread is, for each hour of the day."""
    usual = sum(map(abs, steps)) / len(steps)
    if usual <= 0:
        return [1.0] * _HOURS
    sums, counts = [0.0] * _HOURS, [0] * _HOURS
    for step, hour in zip(steps, hours, strict=True):
        sums[hour] += min(abs(step), 5 * usual)
        counts[hour] += 1
    return [
        min(max((total + _SHRINK * usual) / ((count + _SHRINK) * usual), 0.4), 4.0)
        for total, count in zip(sums, counts, strict=True)
    ]


def _mean_limits(
    remainders: Sequence[float], points: int, sigmas: float
) -> tuple[float, float] | None:
    """Return the usual mean over so many points, and how far from it one may be."""
    total = sum(remainders[:points])
    means = [total / points]
    for before, now in zip(remainders, remainders[points:], strict=False):
        total += now - before
        means.append(total / points)
    center = median(means)
    sizes = sorted(abs(mean - center) for mean in means)
    sigma = sizes[len(sizes) // 2] / _MAD
    limit = max(sigmas * sigma, 1.25 * sizes[-1 - int(0.005 * len(sizes))])
    return (center, limit) if limit > 0 else None
