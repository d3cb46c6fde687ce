"""Plant faults into series, one at a time, and see what the detector finds."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from otel_pipeline.quality.detector import Detector
from tests.faults.faults import FAULTS, SIZES
from tests.faults.series import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.faults.series import Series

MONTH = 30 * DAY


@dataclass
class Tally:
    """What came of the faults of one kind and size."""

    planted: int = 0
    delays: list[float] = field(default_factory=list)  # days from the fault to its finding

    @property
    def recall(self) -> float:
        return len(self.delays) / self.planted if self.planted else 0.0


@dataclass
class Outcome:
    """What came of all."""

    tallies: dict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    by_series: dict[tuple[str, str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    false_alarms: dict[str, float] = field(default_factory=dict)  # a month, by series

    def recall(self, size: str) -> float:
        chosen = [tally for (_, one), tally in self.tallies.items() if one == size]
        return sum(len(t.delays) for t in chosen) / max(1, sum(t.planted for t in chosen))

    @property
    def false_alarms_a_month(self) -> float:
        return sum(self.false_alarms.values()) / max(1, len(self.false_alarms))

    def precision(self, kind: str, size: str) -> float:
        """The share of true alarms, where a fault of this kind and size comes every month."""
        recall = self.tallies[kind, size].recall
        return recall / (recall + self.false_alarms_a_month) if recall else 0.0


def run(series: Iterable[Series], *, places: int, seed: int = 0) -> Outcome:
    """Plant each fault at so many places of each series.

    Each fault begins in the state that the detector has come to by then; what it finds before the
    fault ends counts. The series without faults tells the false alarms.
    """
    outcome = Outcome()
    for one in series:
        chance = random.Random(f"{seed} {one.name}")
        first = round((60 * DAY if one.step >= DAY else 29 * DAY) / one.step)
        last = len(one.values) - round(18 * DAY / one.step)
        first = min(first, 2 * last // 3)
        chosen = set(chance.sample(range(first, last), places))
        detector = Detector()
        alarms = 0
        judged_from = None
        for place, (at, value) in enumerate(zip(one.times, one.values, strict=True)):
            if place in chosen:
                _plant(outcome, one, place, detector)
            if judged_from is None and not detector.learning:
                judged_from = at
            alarms += detector.score(at, value).score > 1
        months = (one.times[-1] - (judged_from or one.times[0])) / MONTH
        outcome.false_alarms[one.name] = alarms / months
    return outcome


def stands_still(series: Series, place: int) -> bool:
    """Return whether most of the last values are the ones before them anyway."""
    last = series.values[max(0, place - 20) : place]
    return 2 * sum(a == b for a, b in pairwise(last)) > len(last)


def _plant(outcome: Outcome, series: Series, place: int, detector: Detector) -> None:
    for kind, make in FAULTS[series.kind].items():
        for size in SIZES:
            values = make(series, place, size)
            if values == series.values[place : place + len(values)]:
                continue  # a drop in a quiet night, say
            if kind == "frozen" and stands_still(series, place):
                continue
            trial = copy.deepcopy(detector)
            trial._alarmed = trial._drifted = float("-inf")
            found = None
            for n, value in enumerate(values):
                if trial.score(series.times[place + n], value).score > 1:
                    found = n * series.step / DAY
                    break
            for tally in (
                outcome.tallies[kind, size], outcome.by_series[series.name, kind, size],
            ):  # fmt: skip
                tally.planted += 1
                if found is not None:
                    tally.delays.append(found)
