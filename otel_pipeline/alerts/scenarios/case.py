"""One test of promtool: what series say, and which alerts fire when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from otel_pipeline.alerts.settings import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.alerts.settings import Alert, Settings

__all__ = ["Case", "Values", "series", "subjects"]


class Values:
    """The samples of one series, in promtool's notation, one for each step from 0 on.

    Example:
        >>> str(Values(5).grow(2, 3).flat(2).gone(4).at(0))
        '5 7+2x2 11x1 _x4 0'
    """

    def __init__(self, start: float | None = 0) -> None:
        self._parts: list[str] = []
        self._value = 0.0
        self.steps = -1  # the number of the last sample
        if start is not None:
            self.at(start)

    def __str__(self) -> str:
        return " ".join(self._parts)

    def at(self, value: float) -> Self:
        """Go to a value."""
        return self._add(f"{value:.12g}", 1, value)

    def grow(self, rate: float, steps: int) -> Self:
        """Grow by as much with each step."""
        if steps < 1:
            return self
        first = self._value + rate
        sign = "-" if rate < 0 else "+"
        return self._add(
            f"{first:.12g}{sign}{abs(rate):.12g}x{steps - 1}", steps, self._value + rate * steps
        )

    def flat(self, steps: int) -> Self:
        """Stay as it is."""
        return self._add(f"{self._value:.12g}x{steps - 1}", steps, self._value) if steps else self

    def gone(self, steps: int) -> Self:
        """Have no samples."""
        return self._add(f"_x{steps}", steps, self._value)

    def ended(self, steps: int) -> Self:
        """Have none, and Prometheus knows that the series has ended."""
        return self._add("stale", 1, self._value).gone(steps - 1)

    def _add(self, part: str, steps: int, value: float) -> Self:
        self._parts.append(part)
        self._value = value
        self.steps += steps
        return self


def series(name: str, **labels: str) -> str:
    """Return a series as promtool names it."""
    inner = ",".join(f'{label}="{quoted(value)}"' for label, value in labels.items())
    return f"{name}{{{inner}}}"


@dataclass
class Case:
    """One test.

    Attributes:
        name: The fact that it shows.
        alert: The alert that it is about.
        step: Seconds between two samples, and two evaluations.
        about: The labels by which the alert is found.
        labels: All its labels besides the name, when it fires.
        own: Whether it is about settings that one pipeline has for itself.
    """

    name: str
    alert: str
    step: int
    about: Mapping[str, str]
    labels: Mapping[str, str]
    own: bool = False
    _series: dict[str, Values] = field(default_factory=dict)
    _checks: dict[int, bool] = field(default_factory=dict)

    def given(self, values: Values, name: str, **labels: str) -> Self:
        """Add a series."""
        self._series[series(name, **labels)] = values
        return self

    def quiet(self, *seconds: float) -> Self:
        """Say that the alert does not fire at these times."""
        return self._check(seconds, fires=False)

    def fires(self, *seconds: float) -> Self:
        """Say that the alert fires at these times."""
        return self._check(seconds, fires=True)

    def _check(self, seconds: tuple[float, ...], *, fires: bool) -> Self:
        for one in seconds:
            at = int(one) // self.step * self.step
            if at >= 0:
                self._checks[at] = fires
        return self

    def as_yaml(self) -> dict[str, Any]:
        """Return the test as it stands in a file."""
        firing = {"alertname": self.alert, "alertstate": "firing"}
        whole = series("ALERTS", **dict(sorted({**firing, **self.labels}.items())))
        return {
            "name": f"{self.alert}: {self.name}",
            "interval": f"{self.step}s",
            "input_series": [
                {"series": name, "values": str(values)} for name, values in self._series.items()
            ],
            "promql_expr_test": [
                {
                    "expr": series("ALERTS", **firing, **self.about),
                    "eval_time": f"{at}s",
                    "exp_samples": [{"labels": whole, "value": 1}] if fires else [],
                }
                for at, fires in sorted(self._checks.items())
            ],
        }


def subjects(settings: Settings, alert: str) -> list[tuple[str, Alert, bool]]:
    """Return a pipeline without settings of its own, and each that has some, with them.

    The name of the first is one that the settings do not have. The last item says whether the
    pipeline has settings of its own.
    """
    name = "orders"
    while name in settings.pipelines:
        name += "-1"
    found = [(name, settings.alerts[alert], False)]
    found += [
        (other, pipeline.alerts[alert], True)
        for other, pipeline in settings.pipelines.items()
        if alert in pipeline.alerts
    ]
    return [one for one in found if one[1].enabled]
