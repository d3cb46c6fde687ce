"""Days of the month on which a series by day is not as on others: the first, the last, payday."""

from __future__ import annotations

import calendar
import datetime as dt
from collections import deque
from typing import Final

from otel_pipeline.quality.forecast import median

__all__ = ["MonthDays"]

_REMEMBERED: Final = 3
_NEEDED: Final = 2
_LONGEST_MONTH: Final = 31


class MonthDays:
    """What values were, as a share of the expected ones, on each day of the month.

    Days are counted from the start of the month and from its end.
    """

    def __init__(self) -> None:
        self._shares: dict[int, deque[tuple[float, bool]]] = {}

    def share(self, at: float) -> float | None:
        """Return the share that is usual on this day of the month; None if none stands out."""
        for key in _keys(at):
            shares = [share for share, odd in self._shares.get(key, ()) if odd]
            if len(shares) >= _NEEDED and (min(shares) > 1 or max(shares) < 1):
                return median(shares)
        return None

    def learn(self, at: float, share: float, *, odd: bool) -> None:
        """Take in how a value was, and whether it stood out."""
        for key in _keys(at):
            self._shares.setdefault(key, deque(maxlen=_REMEMBERED)).append((share, odd))


def _keys(at: float) -> tuple[int, int]:
    day = dt.datetime.fromtimestamp(at, dt.UTC)
    last = calendar.monthrange(day.year, day.month)[1]
    return day.day, day.day - last - 1
