"""The detector behind the monitors: how far is a value from what its series lets expect?"""

from __future__ import annotations

import datetime as dt
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from otel_pipeline.quality.ages import Ages
from otel_pipeline.quality.forecast import Forecaster, Limits, median
from otel_pipeline.quality.months import MonthDays
from otel_pipeline.quality.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.quality.forecast import Forecast

__all__ = ["Detector", "Direction", "Judgement", "anomaly_scores"]

Direction = Literal["both", "up", "down"]

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
_HIGHEST: Final = 1000.0
_LARGEST: Final = 1e100  # values beyond are as good as infinite
#: During the cool-down, only what is so many times worse is said; a drift's cool-down is longer.
_WORSE: Final = 3.0
_DRIFT_COOLDOWN: Final = 5
#: Points that a series needs before it is judged, and days that one within days needs.
_LEARNING_POINTS: Final = 20
_LEARNING_DAYS: Final = 2.0
#: Weeks until a series within days has shown its weekends; limits are wider till then.
_WEEKS_LEARNING: Final = 2
_YOUNG: Final = 1.7
#: Change of a count that is worth saying, as a share of its usual value.
_LEAST_CHANGE: Final = 0.05
_LEAST_RATIO: Final = 0.004


class Judgement(NamedTuple):
    """What the detector thinks of a value.

    Attributes:
        score: Above 1 is anomalous and new; 0 while learning.
        severity: The same, whether or not it was said already.
        low: Lowest value that was expected; None while learning.
        high: Highest value that was expected.
        reason: What is wrong: `value`, `drift`, `unchanged` or `age`; `month` where only the same
            day of earlier months makes it normal; else empty.
    """

    score: float
    severity: float
    low: float | None
    high: float | None
    reason: str


_LEARNING: Final = Judgement(0.0, 0.0, None, None, "")


class Detector:
    """Judges the values of one series, each by those before it.

    Args:
        sensitivity: 1 is usual; 2 halves what a value may be off, 0.5 doubles it.
        direction: Whether values that are too high, too low or both are anomalous.
        min_change: Smallest difference from the expected value that is worth saying, in the unit
            of the values; by default 5 % of the usual value for counts and 0.004 for ratios.
        cooldown: Seconds after a finding in which only a much worse one is new; by default 48
            steps of a series within days, but a day at least, and half a week for one by day.
    """

    def __init__(
        self,
        *,
        sensitivity: float = 1.0,
        direction: Direction = "both",
        min_change: float | None = None,
        cooldown: float | None = None,
    ) -> None:
        self._sensitivity = sensitivity
        self._direction = direction
        self._min_change = min_change
        self._cooldown = cooldown
        self._count = 0
        self._start = 0.0
        self._before: tuple[float, float] | None = None
        self._steps: deque[float] = deque(maxlen=31)
        self._step = 0.0
        self._whole = True  # all values are whole numbers
        self._negative = False
        self._largest = 0.0
        self._recent: deque[float] = deque(maxlen=200)
        self._typical = 0.0
        self._forecasters: list[Forecaster] = []
        self._runs = Runs()
        self._month_days = MonthDays()
        self._ages = Ages()
        self._quarantine: deque[tuple[float, float]] = deque(maxlen=2000)
        self._seen_since = 0
        self._calm = 0
        self._peak = 0.0
        self._said = ""
        self._alarmed = -math.inf
        self._drifted = -math.inf

    @property
    def learning(self) -> bool:
        """Whether there are too few values yet to judge one."""
        if self._count < _LEARNING_POINTS or self._before is None:
            return True
        return self._within_days and self._before[0] - self._start < _LEARNING_DAYS * _DAY

    def judge(self, at: float, value: float) -> Judgement:
        """Judge a value, without learning from it.

        Args:
            at: Its time, in seconds since 1970.
            value: The value.

        Returns:
            The judgement.
        """
        if self.learning or math.isnan(value):
            return _LEARNING
        if abs(value) > _LARGEST:
            return self._judgement(at, _HIGHEST, None, None, "value")
        if self._ages.shown:
            low, high, severity = self._ages.judge(at, value)
            severity *= self._sharpness(at) if self._direction != "down" else 0.0
            return self._judgement(at, severity, low, high, "age")
        usable = [(one, it) for one in self._forecasters if (it := one.forecast(at)) is not None]
        if not usable:
            return _LEARNING
        forecaster, forecast = min(usable, key=lambda pair: pair[0].cost)
        judgement = self._by_value(at, value, self._with_least_change(forecast, at))
        others = {
            "drift": self._by_means(forecaster, forecast, at, value),
            "unchanged": self._runs.judge(value) * self._sensitivity,
        }
        reason = max(others, key=others.__getitem__)
        if others[reason] <= judgement.severity or judgement.reason == "month":
            return judgement
        return self._judgement(at, others[reason], judgement.low, judgement.high, reason)

    def learn(self, at: float, value: float, judgement: Judgement | None = None) -> None:
        """Learn from a value.

        Args:
            at: Its time, in seconds since 1970.
            value: The value; one that is not finite, or as good as that, teaches nothing.
            judgement: What `judge` said; without it, the value is taken as a normal one.
        """
        if judgement is not None:
            self._remember_alarm(at, judgement)
        if not abs(value) <= _LARGEST:
            return
        self._look(at, value)
        odd = judgement is not None and judgement.severity > 1 and judgement.reason == "value"
        of_the_month = judgement is not None and judgement.reason == "month"
        if self._daily and self._forecasters:
            slow = self._forecasters[-1].slow(at)
            if slow is not None and slow > 0:
                self._month_days.learn(at, value / slow, odd=odd or of_the_month)
        for forecaster in self._forecasters:
            if of_the_month:
                forecaster.skip(at, None)
            elif not odd:
                forecaster.learn(at, value)
            elif not self._quarantine:
                forecaster.learn(at, value, clip=True)
                forecaster.skip(at, value)
            else:
                forecaster.skip(at, value)
        self._runs.learn(value)
        self._ages.learn(at, value)
        self._keep_apart(at, value, odd=odd)

    def accept(self, at: float, value: float) -> None:
        """Learn a value that is off and right: from now on the series is at its level."""
        for forecaster in self._forecasters:
            forecaster.shift([(at, value)])
        self._quarantine.clear()
        self.learn(at, value)

    def score(self, at: float, value: float) -> Judgement:
        """Judge a value, and then learn from it."""
        judgement = self.judge(at, value)
        self.learn(at, value, judgement)
        return judgement

    # --- Judging ----------------------------------------------------------------------------------

    def _allowed(self, off: float) -> bool:
        return self._direction == "both" or (off > 0) == (self._direction == "up")

    @property
    def _within_days(self) -> bool:
        return self._step < 0.5 * _DAY

    def _sharpness(self, at: float) -> float:
        young = self._within_days and at - self._start < _WEEKS_LEARNING * 7 * _DAY
        return self._sensitivity / (_YOUNG if young else 1.0)

    def _with_least_change(self, forecast: Forecast, at: float) -> Forecast:
        sharpness, least = self._sharpness(at), self._least_change()
        return forecast._replace(
            down=max(forecast.down / sharpness, least), up=max(forecast.up / sharpness, least)
        )

    def _by_value(self, at: float, value: float, forecast: Forecast) -> Judgement:
        """Judge a value by the forecast, or by the same day of earlier months."""
        severity = self._severity(value, forecast)
        reason = "value"
        share = self._month_days.share(at) if severity > 1 and self._daily else None
        if share is not None:
            wider = max(share, 1.0)
            forecast = forecast._replace(
                center=forecast.center * share, down=forecast.down * wider, up=forecast.up * wider
            )
            severity = self._severity(value, forecast)
            reason = "value" if severity > 1 else "month"
        low, high = forecast.center - forecast.down, forecast.center + forecast.up
        if not self._negative:
            low = max(low, 0.0)
        if self._ratio:
            high = min(high, 1.0)
        judgement = self._judgement(at, severity, low, high, reason)
        return judgement._replace(reason=reason) if reason == "month" else judgement

    def _by_means(
        self, forecaster: Forecaster, forecast: Forecast, at: float, value: float
    ) -> float:
        """Return how far the last values together are from what they were."""
        if abs(value - forecast.slow) <= self._least_change():
            return 0.0
        scores = forecaster.mean_scores(forecast, value)
        return max((abs(one) for one in scores if self._allowed(one)), default=0.0) * (
            self._sharpness(at)
        )

    @property
    def _daily(self) -> bool:
        return not self._negative and 0.5 * _DAY < self._step < 1.5 * _DAY

    def _severity(self, value: float, forecast: Forecast) -> float:
        off = value - forecast.center
        if off == 0 or not self._allowed(off):
            return 0.0
        limit = forecast.up if off > 0 else forecast.down
        return abs(off) / limit if limit > 0 else _HIGHEST

    def _judgement(
        self, at: float, severity: float, low: float | None, high: float | None, reason: str
    ) -> Judgement:
        severity = min(max(severity, 0.0), _HIGHEST)
        score = severity
        if severity > 1:
            since = at - (self._drifted if reason == "drift" else self._alarmed)
            cooldown = self._cooldown_seconds() * (_DRIFT_COOLDOWN if reason == "drift" else 1)
            if since < cooldown and severity <= _WORSE * self._peak:
                score = 1.0
        return Judgement(score, severity, low, high, reason if severity > 1 else "")

    def _cooldown_seconds(self) -> float:
        if self._cooldown is not None:
            return self._cooldown
        return max(_DAY, (48 if self._within_days else 3.5) * self._step)

    def _least_change(self) -> float:
        if self._min_change is not None:
            return self._min_change
        if self._ratio:
            return _LEAST_RATIO
        if self._whole:
            return max(1.5, _LEAST_CHANGE * self._typical)
        return 1e-6 * self._typical

    @property
    def _ratio(self) -> bool:
        return not self._negative and self._largest <= 1 and not (self._whole and self._largest)

    # --- Learning ---------------------------------------------------------------------------------

    def _look(self, at: float, value: float) -> None:
        """See what kind of series this is."""
        if self._before is None:
            self._start = at
        elif at > self._before[0]:
            self._steps.append(at - self._before[0])
            if self._count < 32 or self._count % 16 == 0:  # noqa: PLR2004 - often, then seldom
                self._step = median(self._steps)
        self._before = at, value
        self._count += 1
        self._whole = self._whole and value == int(value)
        self._negative = self._negative or value < 0
        self._largest = max(self._largest, abs(value))
        self._recent.append(abs(value))
        if self._count < 32 or self._count % 16 == 0:  # noqa: PLR2004
            self._typical = median(self._recent)
        if not self._forecasters and self._count == 10:  # noqa: PLR2004 - the step is known
            self._forecasters = _forecasters(self._step)
        for forecaster in self._forecasters:
            forecaster.use(
                multiplicative=not self._negative and not self._ratio,
                counts=self._whole and not self._negative,
                shares=self._ratio,
            )

    def _remember_alarm(self, at: float, judgement: Judgement) -> None:
        """Begin the cool-down with a finding; by day, it lasts while the same thing goes on."""
        if judgement.score > 1:
            self._peak, self._said = judgement.severity, judgement.reason
        elif self._within_days or judgement.severity <= 1 or judgement.reason != self._said:
            return
        self._alarmed = at
        if judgement.reason == "drift":
            self._drifted = at

    def _keep_apart(self, at: float, value: float, *, odd: bool) -> None:
        """Keep anomalous points from the forecasters, until they are what is normal now."""
        if odd:
            self._quarantine.append((at, value))
            self._calm = 0
        elif self._quarantine:
            self._calm += 1
        if not self._quarantine:
            self._seen_since = 0
            return
        self._seen_since += 1
        patience = 3 * _DAY if self._within_days else 6 * self._step
        lasted = at - self._quarantine[0][0]
        many = len(self._quarantine) >= max(6, 0.35 * self._seen_since)
        if odd and lasted >= patience and many:
            points = list(self._quarantine)
            for forecaster in self._forecasters:
                forecaster.shift(points)
            self._quarantine.clear()
        elif self._calm * self._step > 0.5 * patience:
            self._quarantine.clear()


def _forecasters(step: float) -> list[Forecaster]:
    """Return the forecasters for a series with so many seconds between two points."""
    if step > 0.5 * _DAY:
        limits = Limits(
            sigmas=3.3, least_sigmas=2.5, tail=1.15, tail_share=0.025, most_sigmas=8.0,
            mean_sigmas=4.5, means=(4, 10), level_points=30, pool=180, bent=True,
        )  # fmt: skip
        return [
            Forecaster(_always, memory=28, needed=5, limits=limits, lasting=False),
            Forecaster(_weekday, memory=6, needed=2, limits=limits, lasting=True),
        ]
    a_day = max(2, round(_DAY / max(step, 60.0)))
    an_hour = max(1, round(_HOUR / max(step, 60.0)))
    limits = Limits(
        sigmas=4.8, least_sigmas=4.8, tail=1.4, tail_share=0.002, most_sigmas=math.inf,
        mean_sigmas=5.0, means=(max(3, a_day // 4), a_day), level_points=40 * a_day,
        pool=min(max(30 * a_day, 180), 3000), bent=False,
    )  # fmt: skip
    return [
        Forecaster(_always, memory=14 * a_day, needed=12, limits=limits, lasting=False),
        Forecaster(_hour, memory=10 * an_hour, needed=2 * an_hour, limits=limits, lasting=True),
        Forecaster(
            _hour_of_week, memory=6 * an_hour, needed=2 * an_hour, limits=limits, lasting=True
        ),
    ]


def _always(_at: float) -> int:
    return 0


def _hour(at: float) -> int:
    return int(at // _HOUR) % 24


def _hour_of_week(at: float) -> int:
    return int(at // _HOUR) % 168


def _weekday(at: float) -> int:
    return int(at // _DAY) % 7


def anomaly_scores(
    timestamps: Iterable[dt.date | float], values: Iterable[float | None]
) -> list[float]:
    """Score each value of a series by the values before it.

    It is what monitors do, with their defaults: see `Monitors`. A row's score uses that row and
    those before it only.

    Args:
        timestamps: When the values were measured: datetimes (naive ones are in UTC), dates, or
            seconds since 1970, in the order in which the values came.
        values: The values, such as rows of a dataset by hour; None and NaN teach nothing.

    Returns:
        A score for each row: 0 while learning, above 1 if the row is anomalous. For a
        while after an anomaly (half a week for a series by day) only much worse ones are above 1.

    Raises:
        ValueError: There are not as many timestamps as values.

    Example:
        >>> import datetime as dt
        >>> from otel_pipeline.quality import anomaly_scores
        >>> days = [dt.datetime(2026, 1, 1) + dt.timedelta(days=n) for n in range(60)]
        >>> rows = [1000 + 7 * n % 31 for n in range(59)] + [400]
        >>> scores = anomaly_scores(days, rows)
        >>> max(scores[:-1]) < 1, scores[-1] > 1
        (True, True)
    """
    detector = Detector()
    return [
        detector.score(_seconds(at), math.nan if value is None else float(value)).score
        for at, value in zip(timestamps, values, strict=True)
    ]


def _seconds(at: dt.date | float) -> float:
    if type(at).__name__ == "datetime64":  # numpy's; its own float() would depend on its unit
        at = cast("Any", at).astype("datetime64[us]").item()
    if isinstance(at, dt.datetime):
        return (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()
    if isinstance(at, dt.date):
        return dt.datetime(at.year, at.month, at.day, tzinfo=dt.UTC).timestamp()
    return float(at)
