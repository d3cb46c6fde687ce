"""What the grammar of PromQL leaves open, and Prometheus checks all the same."""

from __future__ import annotations

import math
import operator
import re
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.functions import KINDS
from otel_pipeline.alerts.promql.lexer import PromQLError
from otel_pipeline.alerts.promql.nodes import (
    COMPARISONS,
    SET_OPERATORS,
    Binary,
    Number,
    Unary,
    bare,
    kind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.alerts.promql.lexer import Token
    from otel_pipeline.alerts.promql.nodes import Matcher, Node

__all__ = ["check_args", "check_binary", "constant", "matches_nothing"]

_CALCULATE: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
    "^": math.pow,
}
_WANTED: Final = {"matrix": "a range such as `x[5m]`", "vector": "a vector"}


def check_args(name: Token, args: tuple[Node, ...], signature: str) -> None:
    """Refuse arguments that a function does not take.

    Raises:
        PromQLError: They are too many, too few, or of another kind.
    """
    letters = signature.rstrip("?*")
    most = math.inf if signature.endswith("*") else len(letters)
    least = len(letters) - (letters != signature)
    if not least <= len(args) <= most:
        count = least if least == most else f"at least {least}"
        raise PromQLError(f"`{name.text}` takes {count} arguments, not {len(args)}", name.start)
    for number, arg in enumerate(args):
        wanted = KINDS[letters[min(number, len(letters) - 1)]]
        if kind(arg) != wanted:
            what = _WANTED.get(wanted, f"a {wanted}")
            raise PromQLError(f"`{name.text}` takes {what} here, not a {kind(arg)}", arg.start)


def check_binary(node: Binary) -> None:
    """Refuse operators between what they do not connect.

    Raises:
        PromQLError: A side, or what stands behind the operator, does not go with it.
    """
    sides = (kind(node.left), kind(node.right))
    for side, expr in zip(sides, (node.left, node.right), strict=True):
        if side not in ("scalar", "vector"):
            raise PromQLError(
                f"`{node.operator}` is for numbers and vectors, not a {side}", expr.start
            )
    message = _objection(node, sides)
    if message:
        raise PromQLError(message, node.start)


def _objection(node: Binary, sides: tuple[str, str]) -> str:
    if node.bool_ and node.operator not in COMPARISONS:
        return "`bool` stands behind comparisons only"
    if node.operator in COMPARISONS and sides == ("scalar", "scalar") and not node.bool_:
        return "two numbers are compared with `bool`"
    if node.operator in SET_OPERATORS and sides != ("vector", "vector"):
        return f"`{node.operator}` is for two vectors; `vector()` makes one of a number"
    if node.operator in SET_OPERATORS and node.matching.group:
        return f"no grouping is allowed with `{node.operator}`"
    if node.matching.labels and "scalar" in sides:
        return "`on` and `ignoring` are for two vectors"
    return ""


def matches_nothing(matcher: Matcher) -> bool:
    """Return whether a matcher also takes series without its label."""
    if matcher.operator in ("=", "!="):
        return (matcher.value == "") == (matcher.operator == "=")
    try:
        empty = re.fullmatch(matcher.value, "") is not None
    except re.error:  # RE2 has what `re` lacks; Prometheus will say if it is wrong
        return False
    return empty == (matcher.operator == "=~")


def constant(node: Node) -> float | None:
    """Return the number that an expression is, if that is known before it is asked for."""
    node = bare(node)
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Unary):
        value = constant(node.expr)
        return -value if value is not None and node.operator == "-" else value
    if isinstance(node, Binary) and node.operator in _CALCULATE:
        left, right = constant(node.left), constant(node.right)
        if left is not None and right is not None:
            try:
                return _CALCULATE[node.operator](left, right)
            except (ArithmeticError, ValueError):
                return None
    return None
