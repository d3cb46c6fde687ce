"""The labels that the series of an expression have, as far as the expression tells."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.lint.counters import RATES
from otel_pipeline.alerts.promql.nodes import (
    ARITHMETIC,
    COMPARISONS,
    Aggregate,
    Binary,
    Call,
    Modifiers,
    Paren,
    Range,
    Selector,
    Subquery,
    Unary,
    is_vector,
)

if TYPE_CHECKING:
    from otel_pipeline.alerts.lint.series import Series
    from otel_pipeline.alerts.promql.nodes import (
        Matcher,
        Node,
    )

__all__ = ["Shape", "shape"]

_KEEP_LABELS: Final = frozenset({"bottomk", "limit_ratio", "limitk", "topk"})
#: Functions whose series have other labels than what they are given.
_OTHER_LABELS: Final = frozenset(
    {"absent", "absent_over_time", "info", "label_join", "label_replace"}
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The labels of a vector.

    Attributes:
        exact: The labels that `by` leaves; None where those of the series are kept.
        removed: Of those kept, the ones that `without` took away.
        metric: The metric, where the vector comes from one alone.
        matchers: The conditions on it.
        modifiers: Which time it is of.
        rate: Whether it is the rate or increase of a counter, or comes from one.
    """

    exact: frozenset[str] | None = None
    removed: frozenset[str] = frozenset()
    metric: str = ""
    matchers: frozenset[Matcher] = frozenset()
    modifiers: Modifiers = field(default_factory=Modifiers)
    rate: bool = False

    @property
    def bare(self) -> bool:
        """Whether nothing has aggregated it."""
        return self.exact is None and not self.removed

    def keeps(self, label: str) -> bool:
        """Return whether series may still have a label."""
        return label not in self.removed if self.exact is None else label in self.exact

    def by(self, labels: frozenset[str]) -> Shape:
        """Return the shape after an aggregation by labels."""
        return replace(self, exact=labels, removed=frozenset())

    def without(self, labels: frozenset[str]) -> Shape:
        """Return the shape after an aggregation without labels."""
        if self.exact is not None:
            return replace(self, exact=self.exact - labels)
        return replace(self, removed=self.removed | labels)


def shape(node: Node, series: Series) -> Shape | None:  # noqa: PLR0911 - a case each
    """Return the labels of an expression, or None where they cannot be known."""
    match node:
        case Paren() | Unary() | Subquery():
            return shape(node.expr, series)
        case Selector():
            return _of_selector(node, node.modifiers, series)
        case Range():
            return _of_selector(node.selector, node.modifiers, series)
        case Call():
            return _of_call(node, series)
        case Aggregate():
            return _of_aggregate(node, series)
        case Binary():
            return _of_binary(node, series)
    return None


def _of_selector(node: Selector, modifiers: Modifiers, series: Series) -> Shape | None:
    if not node.name:
        return None
    matchers = frozenset(one for one in node.matchers if one.label != "__name__")
    rate = series.is_counter(node.name)
    return Shape(metric=node.name, matchers=matchers, modifiers=modifiers, rate=rate)


def _of_call(node: Call, series: Series) -> Shape | None:
    if node.name == "vector":
        return Shape(exact=frozenset())
    if node.name in _OTHER_LABELS:
        return None
    inner = next(
        (shape(arg, series) for arg in node.args if is_vector(arg) or _is_window(arg)), None
    )
    if inner is None:
        return None
    if node.name.startswith("histogram_"):
        return replace(inner.without(frozenset({"le"})), rate=inner.rate)
    if node.name in RATES and ":" not in inner.metric:
        return replace(inner, rate=True)
    return inner


def _is_window(node: Node) -> bool:
    return isinstance(node, (Range, Subquery))


def _of_aggregate(node: Aggregate, series: Series) -> Shape | None:
    inner = shape(node.expr, series)
    if node.operator in _KEEP_LABELS:
        return inner
    if node.operator == "count_values":
        return None
    if node.without:
        return None if inner is None else inner.without(node.labels)
    return (inner or Shape()).by(node.labels)


def _of_binary(node: Binary, series: Series) -> Shape | None:  # noqa: PLR0911 - a case each
    left, right = shape(node.left, series), shape(node.right, series)
    if not is_vector(node.left):
        return right
    if not is_vector(node.right):
        return left
    if node.operator in ("and", "unless"):
        return left
    if left is None or right is None:
        return None
    rate = left.rate or right.rate
    if node.operator == "or":
        same = left.exact == right.exact and left.removed == right.removed
        kept = left if left == right else replace(left, metric="", matchers=frozenset())
        return replace(kept, rate=rate) if same else None
    assert node.operator in ARITHMETIC | COMPARISONS  # noqa: S101 - for the reader
    matching = node.matching
    kept = right if matching.group == "right" else left
    kept = (
        replace(kept, rate=rate)
        if left == right
        else replace(kept, metric="", matchers=frozenset(), rate=rate)
    )
    if matching.group:
        return kept.by(kept.exact | matching.include) if kept.exact is not None else kept
    if matching.on is not None:
        return kept.by(matching.labels) if matching.on else kept.without(matching.labels)
    if kept.exact is None and right.exact is not None:
        return kept.by(right.exact)
    return kept
