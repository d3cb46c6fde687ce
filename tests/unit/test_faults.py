"""The fault suite in its quick form: faults of series by day are found, with few false alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.series import DAY, flights, synthetic
from tests.faults.suite import run

if TYPE_CHECKING:
    from tests.faults.series import Series


def by_day(series: list[Series]) -> list[Series]:
    return [one for one in series if one.step == DAY]


def test_medium_faults_of_synthetic_series_are_found() -> None:
    """Of medium faults nine in ten are found, at one false alarm a month or less."""
    outcome = run(by_day([one for seed in (21, 22) for one in synthetic(seed)]), places=3)
    assert outcome.recall("medium") >= 0.9
    assert outcome.recall("large") >= 0.98
    assert outcome.false_alarms_a_month <= 1


@pytest.mark.parametrize("name", ["flights a day, all", "flights a day, JFK"])
def test_lost_and_doubled_loads_of_real_flights_are_found(name) -> None:
    """Each medium drop and duplicate among a year of flights is found on its day."""
    series = [one for one in flights() if one.name == name]
    outcome = run(series, places=5)
    for kind in ("drop", "duplicate"):
        tally = outcome.tallies[kind, "medium"]
        assert (tally.planted, tally.delays) == (5, [0.0] * 5)
