"""The number in an alert's condition, and the same condition with another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.alerts.promql import parse
from otel_pipeline.alerts.promql.checks import constant
from otel_pipeline.alerts.promql.nodes import (
    COMPARISONS,
    SET_OPERATORS,
    Binary,
    Unary,
    bare,
    is_vector,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_pipeline.alerts.promql.nodes import Node

__all__ = ["replace_thresholds", "thresholds"]


def thresholds(text: str) -> list[tuple[float, int, int]]:
    """Return the numbers that an alert compares with, and where they stand, from left to right.

    Conditions within an operand, such as `x / (y > 0)`, are none of the alert's own.

    Args:
        text: The alert's expression.

    Returns:
        For each its value, its start and its end in the text.

    Example:
        >>> thresholds("a / (b > 0) > 0.05 and c < 10")
        [(0.05, 14, 18), (10.0, 27, 29)]
    """
    return list(_thresholds(parse(text)))


def _thresholds(node: Node) -> Iterator[tuple[float, int, int]]:
    node = bare(node)
    if isinstance(node, Unary):
        yield from _thresholds(node.expr)
    elif isinstance(node, Binary) and node.operator in SET_OPERATORS:
        yield from _thresholds(node.left)
        yield from _thresholds(node.right)
    elif isinstance(node, Binary) and node.operator in COMPARISONS:
        # In `1 < x < 5` the left one is the operand of the right one.
        for side in (node.left, node.right):
            value = None if is_vector(side) else constant(side)
            if value is not None:
                yield value, side.start, side.end
            elif isinstance(inner := bare(side), Binary) and inner.operator in COMPARISONS:
                yield from _thresholds(inner)


def replace_thresholds(text: str, numbers: Iterable[int], value: float) -> str:
    """Return an expression with another value for some of its thresholds.

    Args:
        text: The expression.
        numbers: Which ones, counted from 0.
        value: What they become.

    Example:
        >>> replace_thresholds("a > 0.05 and c < 10", [0], 0.1)
        'a > 0.1 and c < 10'
    """
    found = thresholds(text)
    for number in sorted(numbers, reverse=True):
        _, start, end = found[number]
        text = f"{text[:start]}{value!r}{text[end:]}"
    return text
