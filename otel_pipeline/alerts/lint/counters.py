"""`counter-without-rate`: a counter's value says how long its process has lived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.nodes import (
    COMPARISONS,
    SET_OPERATORS,
    Aggregate,
    Binary,
    Call,
    Number,
    Range,
    Selector,
    Subquery,
    bare,
    children,
    is_vector,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.alerts.lint.series import Series
    from otel_pipeline.alerts.promql.nodes import (
        Node,
    )
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["RATES", "check"]

#: Functions that make a counter a rate, or an amount within a window.
RATES: Final = frozenset({"increase", "irate", "rate"})
#: What these say of a counter does not depend on its value.
_SAFE: Final = RATES | frozenset(
    """
    absent absent_over_time changes count_over_time histogram_avg histogram_count
    histogram_fraction histogram_quantile histogram_quantiles histogram_stddev histogram_stdvar
    histogram_sum present_over_time resets timestamp ts_of_first_over_time ts_of_last_over_time
    ts_of_max_over_time ts_of_min_over_time
    """.split()
)
_SAFE_AGGREGATIONS: Final = frozenset({"count", "count_values", "group"})
_ADD_UP: Final = frozenset({"avg", "quantile", "stddev", "stdvar", "sum"})
_OF_GAUGES: Final = frozenset(
    """
    avg_over_time delta deriv double_exponential_smoothing holt_winters idelta predict_linear
    quantile_over_time stddev_over_time stdvar_over_time sum_over_time
    """.split()
)


def check(rule: Rule, series: Series) -> Iterator[tuple[int, str]]:
    """Yield counters that are compared or added up as they are, and rates of gauges."""
    found: dict[int, str] = {}
    for node in _valued(rule.expr):
        for what, operands in _judged(node):
            for operand in operands:
                for counter in _reaching(operand, series):
                    found.setdefault(counter.start, _message(counter, what))
    yield from found.items()
    for node in walk(rule.expr):
        if isinstance(node, Call) and node.name in RATES and (of := _gauge(node.args[0], series)):
            instead = "delta() or deriv()" if of != "a rate" else "avg_over_time()"
            yield (
                node.start,
                (
                    f"{node.name}() is for counters, and {of} goes up and down, which would count "
                    f"as restarts: use {instead}, or the value itself"
                ),
            )


def _valued(node: Node) -> Iterator[Node]:
    """Yield all nodes but aggregations of which only the number of their series is asked for."""
    yield node
    counted = (isinstance(node, Aggregate) and node.operator in _SAFE_AGGREGATIONS) or (
        isinstance(node, Call) and node.name == "absent"
    )
    for child in children(node):
        inner = bare(child)
        while counted and isinstance(inner, Aggregate):
            inner = bare(inner.expr)
        if isinstance(node, Binary) and node.operator in ("and", "unless") and _has_begun(inner):
            continue
        yield from _valued(inner)


def _has_begun(node: Node) -> bool:
    """Return whether a condition only asks if there was anything yet: `x_total > 0`."""
    return (
        isinstance(node, Binary)
        and node.operator in (">", "!=")
        and isinstance(bare(node.left), Selector)
        and isinstance(number := bare(node.right), Number)
        and number.value == 0
    )


def _judged(node: Node) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """Yield what an expression does to its operands where that needs no counters."""
    match node:
        case Binary() if node.operator in COMPARISONS:
            yield "compared", (node.left, node.right)
        case Binary() if node.operator in "+-" and is_vector(node.left) and is_vector(node.right):
            yield "added up" if node.operator == "+" else "subtracted", (node.left, node.right)
        case Aggregate() if node.operator in _ADD_UP:
            yield "added up", (node.expr,)
        case Call() if node.name in _OF_GAUGES:
            yield f"put into {node.name}()", node.args


def _message(counter: Selector, what: str) -> str:
    name = counter.name
    return (
        f"{name} is a counter, and {what} as it is: it grows as long as its process lives and "
        f"starts again at 0 with it. Take `rate({name}[5m])` or `increase({name}[1h])` first"
    )


def _reaching(node: Node, series: Series) -> Iterator[Selector]:
    """Yield the counters whose values are in the value of an expression."""
    match node:
        case Selector():
            if series.is_counter(node.name):
                yield node
        case Call() if node.name in _SAFE:
            return
        case Aggregate() if node.operator in _SAFE_AGGREGATIONS:
            return
        case Binary() if node.bool_:
            return
        case Binary() if node.operator == "unless" and _is_new(node):
            return
        case Binary() if node.operator in COMPARISONS or node.operator in SET_OPERATORS - {"or"}:
            yield from _reaching(node.left if is_vector(node.left) else node.right, series)
        case _:
            for child in children(node):
                yield from _reaching(child, series)


def _is_new(node: Binary) -> bool:
    """Return whether only series are left that were not there before: they grew by what they have.

    So it is in `x_total unless x_total offset 5m`.
    """
    now = {one.name for one in walk(node.left) if isinstance(one, Selector)}
    before = {
        one.selector.name if isinstance(one, Range) else one.name
        for one in walk(node.right)
        if isinstance(one, (Range, Selector)) and one.modifiers.offset
    }
    return now <= before


def _gauge(node: Node, series: Series) -> str:
    """Return what of a rate's argument goes up and down, or nothing."""
    match node:
        case Range():
            return node.selector.name if series.is_gauge(node.selector.name) else ""
        case Subquery():
            names = [one for one in walk(node.expr) if isinstance(one, Call)]
            if any(one.name in RATES for one in names):
                return "a rate"
            inner = [one for one in walk(node.expr) if isinstance(one, Selector)]
            if len(inner) == 1 and series.is_gauge(inner[0].name) and not names:
                return inner[0].name
    return ""
