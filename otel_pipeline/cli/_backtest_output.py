"""What `otel-pipeline alerts backtest` prints."""

from __future__ import annotations

import datetime as dt
import json
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_pipeline.alerts.thresholds import thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.alerts.backtest import Replay, Span
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["Trial", "comparison", "document", "instant", "length", "note", "overview", "title"]


@dataclass(frozen=True, slots=True)
class Trial:
    """Other values for a number in an alert's condition; without one, the first and its equals."""

    alert: str
    number: int | None  # counted from 1
    values: tuple[float, ...]

    def replaced(self, rule: Rule) -> list[int]:
        """Return which numbers of a condition are replaced, counted from 0."""
        if self.number is not None:
            return [self.number - 1]
        found = [value for value, _, _ in thresholds(rule.text)]
        # A condition over two windows says its threshold twice.
        return [number for number, value in enumerate(found) if value == found[0]]


def overview(replays: Sequence[Replay], top: int) -> str:
    """Return a table of the alerts, with the label sets for which each fired longest."""
    rows = [("ALERT", "FIRINGS", "TOTAL", "LONGEST")]
    for replay in replays:
        rows.append((replay.rule.name, *_figures(replay)))
        series = sorted(
            replay.periods.items(), key=lambda one: -sum(period.seconds for period in one[1])
        )
        for labels, periods in series[:top]:
            text = ", ".join(
                f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels
            )
            total = sum(period.seconds for period in periods)
            longest = max(period.seconds for period in periods)
            still = " now" if periods[-1].ongoing else ""
            rows.append((f"  {{{text}}}{still}", str(len(periods)), length(total), length(longest)))
        if len(series) > top:
            rows.append((f"  … {len(series) - top} more label sets", "", "", ""))
    return _table(rows)


def _figures(replay: Replay) -> tuple[str, str, str]:
    if replay.no_data:
        return "no data", "", ""
    return str(replay.firings), length(replay.seconds), length(replay.longest)


def title(trial: Trial, rule: Rule) -> str:
    """Return what stands above the values that were tried."""
    numbers = trial.replaced(rule)
    which = ""
    if len(thresholds(rule.text)) > 1:
        which = f", {' and '.join(f'#{number + 1}' for number in numbers)} of its condition"
    return f"{rule.name}{which} (now marked *)"


def comparison(rule: Rule, trial: Trial, values: Sequence[tuple[float, Replay]]) -> str:
    """Return a table of the values that were tried, with what the alert does at each."""
    now = thresholds(rule.text)[trial.replaced(rule)[0]][0]
    rows = [("THRESHOLD", "FIRINGS", "TOTAL", "LONGEST", "LABEL SETS")]
    for value, found in values:
        mark = " *" if value == now else ""
        rows.append((f"{value:g}{mark}", *_figures(found), str(len(found.periods))))
    return _table(rows)


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def note(replays: Sequence[Replay]) -> None:
    """Say on stderr what the figures rest on."""
    expanded = {name for replay in replays for name in replay.expanded}
    missing = {name for replay in replays for name in replay.missing} - expanded
    for what, names in {
        "Not in the history": missing,
        "Not recorded from the beginning, so computed anew": expanded,
    }.items():
        if names:
            text = f"{what}: {', '.join(sorted(names))}"
            print("\n" + textwrap.fill(text, 100, break_on_hyphens=False), file=sys.stderr)


def document(
    url: str,
    span: Span,
    replays: Sequence[Replay],
    tried: Sequence[tuple[Trial, Rule, Sequence[tuple[float, Replay]]]],
) -> dict[str, Any]:
    """Return all that is known, for `--json`."""
    alerts = []
    for replay in replays:
        rule = replay.rule
        alerts.append(
            {
                "alert": rule.name,
                "file": rule.file,
                "line": rule.line(),
                "expression": rule.text,
                "for": rule.hold,
                "keep_firing_for": rule.keep_firing,
                "step": replay.step,
                **_summary(replay),
                "series": [
                    {
                        "labels": dict(labels),
                        "periods": [
                            {"start": one.start, "end": one.end, "ongoing": one.ongoing}
                            for one in periods
                        ],
                    }
                    for labels, periods in replay.periods.items()
                ],
                "missing": list(replay.missing),
                "expanded": list(replay.expanded),
                "thresholds": [
                    {
                        "numbers": [number + 1 for number in trial.replaced(rule)],
                        "value": value,
                        **_summary(found),
                    }
                    for trial, of, values in tried
                    if of is rule
                    for value, found in values
                ],
            }
        )
    return {"url": url, "start": span.start, "end": span.end, "alerts": alerts}


def _summary(replay: Replay) -> dict[str, Any]:
    return {
        "no_data": replay.no_data,
        "firings": replay.firings,
        "seconds": replay.seconds,
        "longest_seconds": replay.longest,
        "label_sets": len(replay.periods),
    }


def instant(seconds: float) -> str:
    """Return a Unix time for people."""
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M} UTC"


def length(seconds: float) -> str:
    """Return a duration with its two largest units: `3d4h`, `20m`, `15s`."""
    rest, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
