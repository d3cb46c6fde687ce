"""Findings in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_pipeline.quality.detector import Judgement

__all__ = ["explain", "in_words", "number"]

_NAMES: Final = {
    "rows": "the number of rows",
    "freshness": "the age of the newest data",
    "null_ratio": "the share of nulls",
    "distinct_ratio": "the share of distinct values",
    "mean": "the mean",
    "category_drift": "the shift of categories",
}
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400


def in_words(metric: str) -> str:
    """Return what a metric is: `the share of nulls in amount`."""
    kind, _, column = metric.partition(":")
    name = _NAMES.get(kind, kind)
    return f"{name} in {column}" if column else name


def number(metric: str, value: float) -> str:
    """Return a value as a person writes it: ages as times, ratios in percent."""
    kind = metric.partition(":")[0]
    if math.isinf(value):
        return "any" if value > 0 else "any below"
    if kind == "freshness":
        return _age(value)
    if kind.endswith("_ratio"):
        return f"{100 * value:.3g} %"
    if kind == "rows" or abs(value) >= 10000 or value == int(value):  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.4g}"


def explain(name: str, metric: str, value: float, judgement: Judgement, history: str) -> str:
    """Return a finding in one sentence.

    Args:
        name: The dataset, and its segment.
        metric: What was measured.
        value: The value.
        judgement: What the detector said.
        history: What the expectation comes from.

    Returns:
        The sentence, with the value, what was expected and why.
    """
    what = f"{in_words(metric)} of {name}"
    seen = number(metric, value)
    low = None if judgement.low is None else number(metric, judgement.low)
    high = None if judgement.high is None else number(metric, judgement.high)
    match judgement.reason:
        case "limit":
            return (
                f"{what} is {seen}, and its declared limits are {low or 'none'} to {high or 'none'}"
            )
        case "drift":
            return (
                f"{what} has drifted: it is {seen}, and its last values together are further from "
                f"what is usual than they ever were, by {history}"
            )
        case "unchanged":
            return (
                f"{what} stands still: it is {seen} again, longer than it ever stayed the same, "
                f"by {history}"
            )
        case "age":
            return f"{what} is {seen}, and by now at most {high} was expected, by {history}"
        case "categories":
            return (
                f"{what} is {seen} (population stability index), and at most {high} is "
                f"usual, by {history}"
            )
        case _:
            side = "below" if judgement.low is not None and value < judgement.low else "above"
            return f"{what} is {seen}, {side} what was expected now: {low} to {high}, by {history}"


def _age(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if abs(seconds) >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
