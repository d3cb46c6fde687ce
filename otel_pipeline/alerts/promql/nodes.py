"""The nodes of a parsed PromQL expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ARITHMETIC",
    "COMPARISONS",
    "SET_OPERATORS",
    "Aggregate",
    "Binary",
    "Call",
    "Matcher",
    "Matching",
    "Modifiers",
    "Node",
    "Number",
    "Paren",
    "Range",
    "Selector",
    "String",
    "Subquery",
    "Unary",
    "bare",
    "children",
    "is_vector",
    "kind",
    "walk",
]

COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})
ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%", "^", "atan2"})
SET_OPERATORS: Final = frozenset({"and", "or", "unless"})

#: Functions that return a number; all others return a vector.
_SCALAR_FUNCTIONS: Final = frozenset(
    {"end", "max_of", "min_of", "pi", "range", "scalar", "start", "step", "time"}
)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A part of an expression, from `start` up to `end` in its text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Number(_Placed):
    """A number; a duration such as `5m` is its seconds."""

    value: float


@dataclass(frozen=True, slots=True)
class String(_Placed):
    """A string."""

    value: str


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition of a selector: `status!="error"`."""

    label: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Modifiers:
    """What stands behind a selector or subquery: `offset`, in seconds if known, and `@`."""

    offset: float | None = 0.0
    at: str = ""


@dataclass(frozen=True, slots=True)
class Selector(_Placed):
    """Series by name and labels; the name is among the matchers, too, where it stood there."""

    name: str
    matchers: tuple[Matcher, ...]
    modifiers: Modifiers = Modifiers()


@dataclass(frozen=True, slots=True)
class Range(_Placed):
    """A selector over a window: `x[5m]`; `seconds` is None where only a query knows it."""

    selector: Selector
    seconds: float | None
    modifiers: Modifiers = Modifiers()


@dataclass(frozen=True, slots=True)
class Subquery(_Placed):
    """An expression over a window: `x[5m:1m]`; without a step it is None."""

    expr: Node
    seconds: float | None
    step: float | None
    modifiers: Modifiers = Modifiers()


@dataclass(frozen=True, slots=True)
class Call(_Placed):
    """A function with its arguments."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Aggregate(_Placed):
    """`sum by (a) (x)`; `labels` are those of `by`, or of `without`."""

    operator: str
    expr: Node
    parameter: Node | None
    labels: frozenset[str]
    without: bool


@dataclass(frozen=True, slots=True)
class Matching:
    """How the sides of an operator find each other: `on` or `ignoring`, `group_left`."""

    on: bool | None = None  # None: neither was written
    labels: frozenset[str] = frozenset()
    group: str = ""  # `left` or `right`
    include: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Binary(_Placed):
    """Two expressions and the operator between them."""

    operator: str
    left: Node
    right: Node
    bool_: bool = False
    matching: Matching = Matching()


@dataclass(frozen=True, slots=True)
class Unary(_Placed):
    """A sign before an expression."""

    operator: str
    expr: Node


@dataclass(frozen=True, slots=True)
class Paren(_Placed):
    """An expression in parentheses."""

    expr: Node


Node: TypeAlias = (
    Number | String | Selector | Range | Subquery | Call | Aggregate | Binary | Unary | Paren
)


def children(node: Node) -> tuple[Node, ...]:
    """Return the expressions directly within a node, as they stand in the text."""
    match node:
        case Range():
            return (node.selector,)
        case Call():
            return node.args
        case Aggregate():
            return (node.expr,) if node.parameter is None else (node.parameter, node.expr)
        case Binary():
            return (node.left, node.right)
        case Subquery() | Unary() | Paren():
            return (node.expr,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all nodes within it."""
    yield node
    for child in children(node):
        yield from walk(child)


def bare(node: Node) -> Node:
    """Return a node without the parentheses around it."""
    while isinstance(node, Paren):
        node = node.expr
    return node


def kind(node: Node) -> str:  # noqa: PLR0911 - one for each kind of node
    """Return what an expression gives: `scalar`, `string`, `vector` or `matrix`."""
    node = bare(node)
    match node:
        case Number():
            return "scalar"
        case String():
            return "string"
        case Range() | Subquery():
            return "matrix"
        case Call():
            return "scalar" if node.name in _SCALAR_FUNCTIONS else "vector"
        case Unary():
            return kind(node.expr)
        case Binary() if node.operator in SET_OPERATORS:
            return "vector"
        case Binary():
            both = (kind(node.left), kind(node.right))
            return "scalar" if both == ("scalar", "scalar") else "vector"
        case _:
            return "vector"


def is_vector(node: Node) -> bool:
    """Return whether an expression gives a vector."""
    return kind(node) == "vector"
