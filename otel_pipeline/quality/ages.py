"""Ages: values that grow with the time until something new sets them back."""

from __future__ import annotations

from collections import deque
from typing import Final

from otel_pipeline.quality.forecast import median

__all__ = ["Ages"]

_LOOKED_AT: Final = 60
_SHARE: Final = 0.7
_HOUR: Final = 3600.0
_WEEK: Final = 168  # hours
_WEEKS: Final = 6
_WEEKS_NEEDED: Final = 2
#: How late the next data may be, as a share of the usual peak.
_LATE: Final = 0.3
_MARGIN: Final = 0.2


class Ages:
    """What an age may reach: what it had at this hour of the week before, and some more."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None
        self._slopes: deque[float] = deque(maxlen=_LOOKED_AT)
        self._peaks: deque[float] = deque(maxlen=60)
        self._slots: dict[int, deque[tuple[int, float]]] = {}
        self._slope = 0.0
        self.shown = False

    def judge(self, at: float, value: float) -> tuple[float, float, float]:
        """Return the lowest and highest age that is normal, and how anomalous this one is."""
        usual = median(self._peaks)
        highest = sorted(self._peaks)[int(0.95 * (len(self._peaks) - 1))]
        limit = max(1.3 * highest, 1.5 * usual)
        hour = int(at // _HOUR)
        late = int(_LATE * usual / (self._slope * _HOUR))
        weeks: dict[int, float] = {}  # by how many weeks ago: the age that would have been normal
        for n in range(late + 1):
            for then, seen in self._slots.get((hour - n) % _WEEK, ()):
                ago = (hour - n - then) // _WEEK
                if ago:
                    weeks[ago] = max(weeks.get(ago, 0.0), seen + n * _HOUR * self._slope)
        if len(weeks) >= _WEEKS_NEEDED:
            reached = sorted(weeks.values())  # one week may have been a bad one
            usual_now = reached[-2] if len(reached) > _WEEKS_NEEDED else reached[-1]
            limit = min(limit, usual_now + _MARGIN * usual)
        return 0.0, limit, value / limit if limit > 0 else 0.0

    def learn(self, at: float, value: float) -> None:
        """Take in the next value."""
        if self._before is not None and at > self._before[0]:
            slope = (value - self._before[1]) / (at - self._before[0])
            self._slopes.append(slope)
            if value < 0.5 * self._before[1]:
                self._peaks.append(self._before[1])
                self._decide()
        self._before = at, value
        hour = int(at // _HOUR)
        values = self._slots.setdefault(hour % _WEEK, deque(maxlen=_WEEKS))
        if values and values[-1][0] == hour:
            values[-1] = (hour, max(values[-1][1], value))
        else:
            values.append((hour, value))

    def _decide(self) -> None:
        rising = [slope for slope in self._slopes if slope > 0]
        if len(self._slopes) < 20 or len(rising) < _SHARE * len(self._slopes):  # noqa: PLR2004
            self.shown = False
            return
        usual = self._slope = median(rising)
        alike = sum(abs(slope - usual) <= 0.02 * usual for slope in rising)
        self.shown = alike >= _SHARE * len(self._slopes) and len(self._peaks) >= 3  # noqa: PLR2004
