"""What alerting rules would have done over the history in a Prometheus.

The states of an alert follow Prometheus' own evaluation (`rules/alerting.go`): it fires when its
expression had a value at every evaluation for as long as `for` says, and goes on without one for as
long as `keep_firing_for` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.expansion import expand
from otel_pipeline.alerts.promql import parse
from otel_pipeline.alerts.promql.nodes import Call, Selector, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_pipeline.alerts.prometheus_api import Labels, Prometheus
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["Backtest", "Period", "Replay", "Span", "firing_periods"]

_DEFAULT_STEP: Final = 60.0
#: The share of the range within which a recorded series must have begun to be taken as it is.
_EARLY: Final = 0.1


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is looked at, in Unix seconds; `step` is that between evaluations, if set."""

    start: float
    end: float
    step: float | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which an alert fired, in Unix seconds; `ongoing` when it still does at the end."""

    start: float
    end: float
    ongoing: bool = False

    @property
    def seconds(self) -> float:
        """How long it fired."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Replay:
    """What one alert would have done.

    Attributes:
        rule: The alert.
        expression: What was asked for, without recorded series that the history lacks.
        step: Seconds between evaluations.
        periods: When it fired, by the labels of its series.
        missing: Metrics that have no samples in the time.
        expanded: Recorded series that gave way to their expressions.
    """

    rule: Rule
    expression: str
    step: float
    periods: dict[Labels, list[Period]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    expanded: tuple[str, ...] = ()

    @property
    def firings(self) -> int:
        """How often it would have begun to fire, over all series."""
        return sum(map(len, self.periods.values()))

    @property
    def seconds(self) -> float:
        """How long it would have fired, over all series."""
        return sum(period.seconds for periods in self.periods.values() for period in periods)

    @property
    def longest(self) -> float:
        """How long it would have fired at most at a time, in seconds."""
        return max((one.seconds for all_ in self.periods.values() for one in all_), default=0.0)

    @property
    def unseen(self) -> bool:
        """Whether none of its metrics is in the history."""
        return _metrics(self.expression) <= set(self.missing)

    @property
    def no_data(self) -> bool:
        """Whether it says nothing, as none of its metrics is in the history."""
        answers = any(
            isinstance(node, Call) and node.name.startswith(("absent", "vector"))
            for node in walk(parse(self.expression))
        )
        return self.unseen and not answers


class Backtest:
    """Replays rules over the history of a server.

    Args:
        server: Where the history is.
        rules: Alerting rules, and the recording rules that they need.
        span: The time to look at.
    """

    def __init__(self, server: Prometheus, rules: Iterable[Rule], span: Span) -> None:
        self._server = server
        self._span = span
        self._recording: dict[str, list[Rule]] = {}
        for rule in rules:
            if not rule.alerting:
                self._recording.setdefault(rule.name, []).append(rule)
        self._present: dict[tuple[str, float], bool] = {}

    def replay(self, rule: Rule, text: str = "") -> Replay:
        """Return what an alert would have done.

        Args:
            rule: The alert.
            text: An expression to take instead of its own.

        Raises:
            CommandError: The server cannot be reached, or refuses.
        """
        needed = {name: rules for name, rules in self._recording.items() if not self._early(name)}
        expression, expanded = expand(text or rule.text, needed)
        step = self._span.step or rule.interval or _DEFAULT_STEP
        # An alert may have been on its way, or on, before the time begins.
        lead = math.ceil((rule.hold + rule.keep_firing) / step) + 1
        start = math.ceil(self._span.start / step) * step
        end = math.floor(self._span.end / step) * step
        series = self._server.query_range(expression, start - lead * step, end, step)
        found = Replay(
            rule, expression, step, {}, self._missing(expression), tuple(sorted(expanded))
        )
        for one in series:
            periods = firing_periods(one.times, end, step, rule.hold, rule.keep_firing)
            inside = [
                replace(period, start=max(period.start, start))
                for period in periods
                if period.end > start or (period.ongoing and period.end == start)
            ]
            if inside:
                found.periods[one.labels] = inside
        return found

    def _missing(self, expression: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in _metrics(expression) if not self._has(name, 1)))

    def _early(self, name: str) -> bool:
        """Return whether a series was recorded early enough to be taken as it is."""
        return self._has(name, _EARLY)

    def _has(self, name: str, share: float) -> bool:
        key = (name, share)
        if key not in self._present:
            start, end = self._span.start, self._span.end
            self._present[key] = self._server.has(name, start, start + (end - start) * share)
        return self._present[key]


def _metrics(expression: str) -> set[str]:
    nodes = walk(parse(expression))
    return {node.name for node in nodes if isinstance(node, Selector) and node.name}


def firing_periods(
    times: Sequence[float], end: float, step: float, hold: float, keep_firing: float
) -> list[Period]:
    """Return when an alert fires whose expression has a value at some times.

    Args:
        times: Unix times at which it has one, each a step from the next or more.
        end: Unix time of the last evaluation.
        step: Seconds between two evaluations.
        hold: `for`, in seconds.
        keep_firing: `keep_firing_for`, in seconds.

    Returns:
        The periods in their order.

    Example:
        >>> firing_periods([60, 120, 180, 240], 600, 60, 120, 0)
        [Period(start=180, end=300, ongoing=False)]
    """
    periods: list[Period] = []
    for first, last in _stretches(times, step):
        fires = first + _whole_steps(hold, step)
        # The first evaluation without a value is the one from which it is kept firing.
        resolved = last + step + _whole_steps(keep_firing, step)
        if periods and periods[-1].end >= first:
            periods[-1] = Period(periods[-1].start, resolved)  # it was kept until here
        elif fires <= last:
            periods.append(Period(fires, resolved))
    return [Period(one.start, min(one.end, end), ongoing=one.end > end) for one in periods]


def _stretches(times: Sequence[float], step: float) -> list[tuple[float, float]]:
    """Return the first and last time of each stretch without a gap."""
    found: list[tuple[float, float]] = []
    for time in times:
        if found and time - found[-1][1] < 1.5 * step:
            found[-1] = (found[-1][0], time)
        else:
            found.append((time, time))
    return found


def _whole_steps(seconds: float, step: float) -> float:
    return math.ceil(seconds / step - 1e-9) * step
