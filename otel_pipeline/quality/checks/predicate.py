"""The small language of row predicates: `paid_at is None or paid_at >= ordered_at`.

It is a part of Python's own syntax: names are columns, and there are comparisons, `and`, `or`,
`not`, `in`, `is None`, arithmetic, texts, numbers and `date("2026-01-31")`. Nothing is run: the
text is turned into expressions of the library that holds the data.

A comparison with a missing value is neither true nor false, as in SQL. Libraries differ in how they
keep that, so each part is two expressions, where it is true and where it is false.
"""

from __future__ import annotations

import ast
import datetime as dt
import operator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import narwhals as nw

    from otel_pipeline.quality.checks.table import Table

__all__ = ["Predicate"]

_LONGEST: Final = 2000

_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_TIMES: Final[dict[str, Callable[[str], object]]] = {
    "date": dt.date.fromisoformat,
    "datetime": dt.datetime.fromisoformat,
}
_ALLOWED: Final = (
    "allowed are columns, texts, numbers, comparisons, and, or, not, in, is None, + - * / %, "
    'col("a name"), date("2026-01-31") and datetime("2026-01-31T12:00")'
)


class _Truth(NamedTuple):
    """Where something is true, and where it is false; neither where a value is missing."""

    true: nw.Expr
    false: nw.Expr


class _Value(NamedTuple):
    """A value in each row, and where it is missing."""

    value: Any
    missing: nw.Expr | None  # never, where that is None
    is_empty: bool = False  # missing in each row, so that it has no type to compare by


class Predicate:
    """A condition that each row must meet.

    Args:
        text: The condition.

    Raises:
        ValueError: It is not in the language; the message ends the sentence "TEXT ...".

    Example:
        >>> from otel_pipeline.quality.checks.predicate import Predicate
        >>> Predicate("0 <= amount and (status != 'paid' or paid_at is not None)").columns
        ('amount', 'status', 'paid_at')
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = _parse(text)
        self.columns = tuple(dict.fromkeys(_check(self._tree)))

    def __repr__(self) -> str:
        return repr(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Predicate) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def broken(self, table: Table) -> nw.Expr:
        """Return the expression that is true where a row breaks the condition."""
        return _truth(self._tree, table).false


def _parse(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else "too deeply nested"
        raise ValueError(f"is not a condition ({what}); {_ALLOWED}") from None


def _check(node: ast.AST, *, truth: bool = True) -> Iterator[str]:
    """Yield the columns of a tree, having made sure that it can be turned into expressions."""
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from _check(part)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            yield from _check(part)
        case ast.Compare():
            yield from _check_comparison(node)
        case ast.Name(id=name):
            yield name
        case ast.Call(func=ast.Name(id="col"), args=[ast.Constant(value=str(name))], keywords=[]):
            yield name
        case _ if truth:
            raise ValueError(f"has {ast.unparse(node)!r}, which is not a condition; {_ALLOWED}")
        case ast.BinOp(left=left, right=right, op=op) if type(op) in _ARITHMETIC:
            yield from _check(left, truth=False)
            yield from _check(right, truth=False)
        case ast.UnaryOp(op=ast.USub(), operand=part):
            yield from _check(part, truth=False)
        case _:
            _constant(node)


def _check_comparison(node: ast.Compare) -> Iterator[str]:
    yield from _check(node.left, truth=False)
    for op, right in zip(node.ops, node.comparators, strict=True):
        match op, right:
            case ((ast.Is() | ast.IsNot()), ast.Constant(value=None)):
                pass
            case ((ast.In() | ast.NotIn()), (ast.List(elts=items) | ast.Tuple(elts=items))) if (
                items
            ):
                for item in items:
                    _constant(item)
            case _ if type(op) in _COMPARISONS:
                yield from _check(right, truth=False)
            case _:
                raise ValueError(f"has {ast.unparse(node)!r}, which is not known; {_ALLOWED}")


def _constant(node: ast.AST) -> Any:
    match node:
        case ast.Constant(value=value) if isinstance(value, (str, int, float)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Call(
            func=ast.Name(id=("date" | "datetime") as kind),
            args=[ast.Constant(value=str(text))],
            keywords=[],
        ):
            try:
                return _TIMES[kind](text)
            except ValueError:
                raise ValueError(f"has {ast.unparse(node)!r}, which is no {kind}") from None
    raise ValueError(f"has {ast.unparse(node)!r}, which is not known; {_ALLOWED}")


def _truth(node: ast.expr, table: Table) -> _Truth:
    match node:
        case ast.BoolOp(op=op, values=parts):
            first, *others = (_truth(part, table) for part in parts)
            for other in others:
                if isinstance(op, ast.And):
                    first = _Truth(first.true & other.true, first.false | other.false)
                else:
                    first = _Truth(first.true | other.true, first.false & other.false)
            return first
        case ast.UnaryOp(op=ast.Not(), operand=part):
            true, false = _truth(part, table)
            return _Truth(false, true)
        case ast.Compare():
            return _comparison(node, table)
    return _of(lambda: _value(node, table).value, table, _value(node, table))


def _comparison(node: ast.Compare, table: Table) -> _Truth:
    found: _Truth | None = None
    left = node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        one = _compare(left, op, right, table)
        found = one if found is None else _Truth(found.true & one.true, found.false | one.false)
        left = right
    assert found is not None  # noqa: S101  a comparison has a right side
    return found


def _compare(left: ast.expr, op: ast.cmpop, right: ast.expr, table: Table) -> _Truth:
    one = _value(left, table)
    if isinstance(op, (ast.Is, ast.IsNot)):
        nothing = table.never() if one.missing is None else one.missing
        return _Truth(nothing, ~nothing) if isinstance(op, ast.Is) else _Truth(~nothing, nothing)
    if isinstance(op, (ast.In, ast.NotIn)):
        items = [_constant(item) for item in right.elts]  # type: ignore[attr-defined]
        true, false = _of(lambda: one.value.is_in(items), table, one)
        return _Truth(true, false) if isinstance(op, ast.In) else _Truth(false, true)
    two = _value(right, table)
    return _of(lambda: _COMPARISONS[type(op)](one.value, two.value), table, one, two)


def _value(node: ast.expr, table: Table) -> _Value:
    match node:
        case (
            ast.Name(id=name)
            | ast.Call(func=ast.Name(id="col"), args=[ast.Constant(value=str(name))])
        ):
            return _Value(table.column(name), table.missing(name), table.is_empty(name))
        case ast.BinOp(left=left, op=op, right=right):
            one, two = _value(left, table), _value(right, table)
            missing = _either(one.missing, two.missing)
            if one.is_empty or two.is_empty:
                return _Value(None, missing, is_empty=True)
            return _Value(_ARITHMETIC[type(op)](one.value, two.value), missing)
        case ast.UnaryOp(op=ast.USub(), operand=part) if not isinstance(part, ast.Constant):
            one = _value(part, table)
            return one if one.is_empty else _Value(0 - one.value, one.missing)
    return _Value(table.literal(_constant(node)), None)


def _either(one: nw.Expr | None, two: nw.Expr | None) -> nw.Expr | None:
    if one is None or two is None:
        return two if one is None else one
    return one | two


def _of(condition: Callable[[], nw.Expr], table: Table, *values: _Value) -> _Truth:
    """Return where a condition on some values is true, and where it is false."""
    if any(one.is_empty for one in values):
        return _Truth(table.never(), table.never())
    holds = condition()
    missing: nw.Expr | None = None
    for one in values:
        missing = _either(missing, one.missing)
    if missing is None:
        return _Truth(holds, ~holds)
    return _Truth(~missing & holds, ~missing & ~holds)
