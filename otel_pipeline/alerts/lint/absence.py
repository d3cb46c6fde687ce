"""`may-be-absent`: what compares a series with 0 is silent when the series has gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.nodes import (
    Aggregate,
    Binary,
    Call,
    Number,
    Paren,
    Range,
    Selector,
    Subquery,
    Unary,
    bare,
    children,
    is_vector,
    kind,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.alerts.lint.series import Series
    from otel_pipeline.alerts.promql.nodes import (
        Node,
    )
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["check"]

_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
#: What there is of a counter within a window: nothing, once its process has gone.
_FLOWS: Final = frozenset({"count_over_time", "increase", "irate", "rate"})
#: Functions that answer where series are missing, or that look back far enough.
_GUARDS: Final = frozenset(
    {"absent", "absent_over_time", "last_over_time", "present_over_time", "vector"}
)

_FLOW, _COUNT, _RATIO, _OTHER = "flow", "count", "ratio", ""


def check(rule: Rule, series: Series) -> Iterator[tuple[int, str]]:
    """Yield comparisons that a vanished series would not fulfil."""
    for node, what in _unguarded(rule.expr, series):
        text = " ".join(rule.text[node.start : node.end].split())
        if what == _COUNT:
            yield (
                node.start,
                (
                    f"`{text}` is silent when none is left, as count() of nothing is nothing and "
                    "never 0: write `(count(…) or vector(0))`, or add `or absent(…)`"
                ),
            )
        else:
            yield (
                node.start,
                (
                    f"`{text}` is silent when the series has gone, as after a crash or between two "
                    "runs: add `or absent(…)`, or alert on the time since the last success"
                ),
            )


def _unguarded(node: Node, series: Series) -> Iterator[tuple[Binary, str]]:
    match node:
        case Binary() if node.operator == "unless":
            return
        case Binary() if node.operator == "or":
            left = list(_unguarded(node.left, series))
            right = list(_unguarded(node.right, series))
            if not (left and _guards(node.right, node.left, found=bool(right))):
                yield from left
            if not (right and _guards(node.left, node.right, found=bool(left))):
                yield from right
        case Call() if node.name in _GUARDS:
            return
        case _:
            if isinstance(node, Binary) and (what := _silent(node, series)):
                yield node, what
            for child in children(node):
                for found, what in _unguarded(child, series):
                    # Beside another condition a number of series chooses what that one means.
                    if what == _COUNT and isinstance(node, Binary) and node.operator == "and":
                        continue
                    yield found, what


def _guards(other: Node, node: Node, *, found: bool) -> bool:
    """Return whether the other side of an `or` speaks up when this one's series are missing."""
    if any(isinstance(one, Call) and one.name in _GUARDS for one in walk(other)):
        return True
    return not found and not _metrics(other) <= _metrics(node)


def _metrics(node: Node) -> set[str]:
    return {one.name for one in walk(node) if isinstance(one, Selector)}


def _silent(node: Binary, series: Series) -> str:
    """Return what a comparison with a number looks at, if nothing of it fulfils it silently."""
    if node.operator not in _MIRRORED or is_vector(node.left) == is_vector(node.right):
        return ""
    vector, number, operator = node.left, node.right, node.operator
    if kind(vector) == "scalar":
        vector, number, operator = number, vector, _MIRRORED[operator]
    zero = _is_zero(number)
    if operator not in ("<", "<=") and not (operator == "==" and zero):
        return ""
    what = _looks_at(vector, series)
    if what == _RATIO and not (zero and operator != "<"):
        return ""
    return what


def _is_zero(node: Node) -> bool:
    node = bare(node)
    while isinstance(node, Unary):
        node = bare(node.expr)
    return isinstance(node, Number) and node.value == 0


def _looks_at(node: Node, series: Series) -> str:  # noqa: PLR0911 - a case each
    """Return whether a value is an amount per time, a number of series, or a ratio of amounts."""
    match node:
        case Paren() | Unary() | Subquery():
            return _looks_at(node.expr, series)
        case Range():
            return _looks_at(node.selector, series)
        case Selector():
            flow = series.is_counter(node.name) or series.is_recorded_rate(node.name)
            return _FLOW if flow else _OTHER
        case Call() if node.name in _GUARDS:
            return _OTHER
        case Call() if node.name in _FLOWS:
            return _FLOW
        case Call():
            inner = next((_looks_at(a, series) for a in node.args if kind(a) != "scalar"), _OTHER)
            return _RATIO if inner and node.name.startswith("histogram_") else inner
        case Aggregate():
            return _COUNT if node.operator == "count" else _looks_at(node.expr, series)
        case Binary():
            return _of_binary(node, series)
    return _OTHER


def _of_binary(node: Binary, series: Series) -> str:
    left, right = _looks_at(node.left, series), _looks_at(node.right, series)
    if node.operator == "or":
        return _OTHER  # what is missing on one side comes from the other
    if node.operator == "%":
        return _OTHER
    if node.operator in ("and", "unless") or not is_vector(node.right):
        return left
    if not is_vector(node.left):
        return right if node.operator not in ("-", "/") else right and _RATIO
    if node.operator == "+" and left == right == _FLOW:
        return _FLOW
    return _RATIO if left or right else _OTHER
