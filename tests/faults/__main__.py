"""`python -m tests.faults`: how many planted faults the monitors' detector finds, and how soon."""

from __future__ import annotations

import argparse
from statistics import median
from typing import TYPE_CHECKING

from tests.faults.faults import SIZES
from tests.faults.series import flights, synthetic, weather
from tests.faults.suite import run

if TYPE_CHECKING:
    from tests.faults.suite import Outcome

#: Seeds of the synthetic series that the detector was tuned with, and of those kept back.
TUNED = (1, 2, 3)
KEPT_BACK = (101, 102, 103)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--places", type=int, default=6, help="places of each fault in a series")
    parser.add_argument("--series", choices=("real", "tuned", "kept-back"), action="append")
    parser.add_argument("--details", action="store_true", help="each series on a line")
    arguments = parser.parse_args()
    groups = {
        "real": lambda: [*flights(), *weather()],
        "tuned": lambda: [one for seed in TUNED for one in synthetic(seed)],
        "kept-back": lambda: [one for seed in KEPT_BACK for one in synthetic(seed)],
    }
    for name in arguments.series or groups:
        series = groups[name]()
        outcome = run(series, places=arguments.places)
        print(f"\n{name}: {len(series)} series")
        show(outcome, details=arguments.details)


def show(outcome: Outcome, *, details: bool) -> None:
    print(f"{'fault':<12} {'size':<7} {'planted':>7} {'recall':>7} {'precision':>9} {'delay':>8}")
    for (kind, size), tally in sorted(
        outcome.tallies.items(), key=lambda item: (item[0][0], SIZES.index(item[0][1]))
    ):
        delay = f"{median(tally.delays):.2f} d" if tally.delays else ""
        precision = outcome.precision(kind, size)
        print(
            f"{kind:<12} {size:<7} {tally.planted:>7} {tally.recall:>7.2f} {precision:>9.2f}"
            f" {delay:>8}"
        )
    for size in SIZES:
        print(f"{'all':<12} {size:<7} {'':>7} {outcome.recall(size):>7.3f}")
    worst = max(outcome.false_alarms.values())
    print(
        f"false alarms a month and series: {outcome.false_alarms_a_month:.2f}, at most {worst:.2f}"
    )
    if details:
        for name, rate in outcome.false_alarms.items():
            found = ", ".join(
                f"{kind} {size[0]} {tally.recall:.2f}"
                for (one, kind, size), tally in outcome.by_series.items()
                if one == name
            )
            print(f"  {name:<40} {rate:5.2f} a month; {found}")


if __name__ == "__main__":
    main()
