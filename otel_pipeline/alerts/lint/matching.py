"""`ratio-without-sum`: an operator pairs series of equal labels, so both sides must have them.

`rate(x{status="error"}[5m]) / rate(x[5m])` divides each series by itself, as only the one with
`status="error"` has that label: https://prometheus.io/docs/prometheus/latest/querying/operators/
(vector matching).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.alerts.lint.shapes import shape
from otel_pipeline.alerts.promql.nodes import (
    ARITHMETIC,
    COMPARISONS,
    Binary,
    is_vector,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.alerts.lint.series import Series
    from otel_pipeline.alerts.lint.shapes import Shape
    from otel_pipeline.alerts.promql.nodes import (
        Matching,
    )
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["check"]

_REMEDY = (
    "add both sides up by the labels that they share: "
    "`sum by (pipeline) (rate(…)) / sum by (pipeline) (rate(…))`"
)


def check(rule: Rule, series: Series) -> Iterator[tuple[int, str]]:
    """Yield operators whose sides find no partner, or only themselves."""
    for node in walk(rule.expr):
        if (
            isinstance(node, Binary)
            and node.operator in ARITHMETIC | COMPARISONS
            and is_vector(node.left)
            and is_vector(node.right)
        ):
            left, right = shape(node.left, series), shape(node.right, series)
            if left is None or right is None:
                continue
            message = _wrong(left, right, node.matching, series)
            if message:
                yield node.start, f"`{node.operator}` {message}; {_REMEDY}"


def _wrong(left: Shape, right: Shape, matching: Matching, series: Series) -> str:
    label = _pairs_itself(left, right, matching)
    if label:
        return (
            f"pairs series of equal labels, so each {left.metric} meets itself or nothing: its "
            f"sides differ in `{label}`, which is not added up"
        )
    if matching.on is not None:
        label = _has_many(left, right, matching)
        return (
            f"finds several series of {left.metric} with other `{label}` for one" if label else ""
        )
    return _mismatch(left, right, series)


def _pairs_itself(left: Shape, right: Shape, matching: Matching) -> str:
    """Return a label by which two selections of one metric differ and are paired."""
    if not left.metric or left.metric != right.metric or left.modifiers != right.modifiers:
        return ""
    different = sorted({one.label for one in left.matchers ^ right.matchers})
    paired = [
        label
        for label in different
        if left.keeps(label)
        and right.keeps(label)
        and (matching.on is None or (label in matching.labels) == matching.on)
    ]
    for label in paired:
        if _values(left, label) and _values(right, label):
            return label
    # Where they differ in one that is added up, too, the other only chooses among the pairs.
    return paired[0] if paired and paired == different else ""


def _values(side: Shape, label: str) -> set[str]:
    """Return the value that a label of a selection must have."""
    return {one.value for one in side.matchers if one.label == label and one.operator == "="}


def _has_many(left: Shape, right: Shape, matching: Matching) -> str:
    """Return a label of which one side has one value and the other, meant to be one, has all."""
    if not left.metric or left.metric != right.metric:
        return ""
    for one, other, group in ((left, right, "right"), (right, left, "left")):
        chosen = {m.label for m in one.matchers if m.operator == "="}
        free = chosen - {m.label for m in other.matchers}
        for label in sorted(free):
            if other.keeps(label) and other.exact is None and matching.group != group:
                return label
    return ""


def _mismatch(left: Shape, right: Shape, series: Series) -> str:
    """Return why the labels of two sides can never be the same, where a rate is among them."""
    if left.exact is not None and right.exact is not None:
        if left.exact != right.exact and (left.rate or right.rate):
            return (
                f"pairs series of equal labels, and its sides have others: "
                f"{_labels(left.exact)} and {_labels(right.exact)}"
            )
        return ""
    if not (left.rate and right.rate):
        return ""
    if left.exact is None and right.exact is None:
        return _mismatch_of_series(left, right, series)
    exact, raw = (left, right) if left.exact is not None else (right, left)
    labels = exact.exact or frozenset[str]()
    same = left.metric == right.metric != ""
    # Series of different metrics may have the labels of the target alone, all named here.
    if raw.keeps("instance") == ("instance" in labels) and not (same and raw.bare):
        return ""
    return (
        f"pairs series of equal labels, and only one side is added up by {_labels(labels)}, so the "
        f"other keeps more labels"
    )


def _mismatch_of_series(left: Shape, right: Shape, series: Series) -> str:
    if left.metric == right.metric:
        if left.metric and left.removed != right.removed:
            return "pairs series of equal labels, and its sides are added up without different ones"
        return ""
    for label in sorted({one.label for one in left.matchers}):
        values = [_values(side, label) for side in (left, right)]
        if all(values) and values[0] != values[1] and left.keeps(label) and right.keeps(label):
            return f"pairs series of equal labels, and its sides have different values of `{label}`"
    known = [series.labels(side.metric) for side in (left, right)]
    if known[0] is None or known[1] is None:
        return ""
    kept = [known[0] - left.removed, known[1] - right.removed]
    if kept[0] != kept[1]:
        return (
            f"pairs series of equal labels, and {left.metric} has {_labels(kept[0])}, "
            f"{right.metric} has {_labels(kept[1])}"
        )
    return ""


def _labels(names: frozenset[str]) -> str:
    return f"({', '.join(sorted(names))})" if names else "no labels"
