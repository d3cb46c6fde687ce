"""A parser for PromQL: by precedence, as the grammar of Prometheus has it."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.checks import (
    check_args,
    check_binary,
    constant,
    matches_nothing,
)
from otel_pipeline.alerts.promql.functions import AGGREGATIONS, FUNCTIONS
from otel_pipeline.alerts.promql.lexer import PromQLError, tokens
from otel_pipeline.alerts.promql.nodes import (
    COMPARISONS,
    Aggregate,
    Binary,
    Call,
    Matcher,
    Matching,
    Number,
    Paren,
    Range,
    Selector,
    String,
    Subquery,
    Unary,
    kind,
)

if TYPE_CHECKING:
    from otel_pipeline.alerts.promql.lexer import Token
    from otel_pipeline.alerts.promql.nodes import (
        Node,
    )

__all__ = ["parse"]

#: How tightly an operator binds.
_PRECEDENCE: Final = {
    "or": 1,
    **dict.fromkeys(("and", "unless"), 2),
    **dict.fromkeys(COMPARISONS, 3),
    **dict.fromkeys("+-", 4),
    **dict.fromkeys(("*", "/", "%", "atan2"), 5),
    "^": 6,
}
_POWER: Final = _PRECEDENCE["^"]
_MATCHERS: Final = ("=", "!=", "=~", "!~")
#: The deepest nesting that is read; Python's own stack ends not far beyond.
_DEEPEST: Final = 100
_MOST_OPERATORS: Final = 500  # in a row; each is a level, too
#: Words that are never the name of a metric.
_RESERVED: Final = frozenset({"atan2", "bool", "group_left", "group_right", "ignoring", "on"})
_GROUPS: Final = ("group_left", "group_right")
_FILLS: Final = ("fill", "fill_left", "fill_right")


def parse(text: str) -> Node:
    """Parse an expression.

    Args:
        text: PromQL, with comments and line ends as they stand in a rule.

    Returns:
        The outermost node.

    Raises:
        PromQLError: Prometheus would refuse it; the error says where and why.

    Example:
        >>> from otel_pipeline.alerts.promql import parse
        >>> parse("rate(x_total[5m])").name
        'rate'
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression(0)
        if self._next.kind != "end":
            raise self._unexpected("an operator or the end")
        return node

    # The words.

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self, kind_: str, what: str = "") -> Token:
        token = self._next
        if token.kind != kind_:
            raise self._unexpected(what or f"`{kind_}`")
        self._at += 1
        return token

    def _took(self, kind_: str) -> bool:
        if self._next.kind != kind_:
            return False
        self._at += 1
        return True

    def _keyword(self, *words: str) -> str:
        """Take one of some words, however it is written; return it, or nothing."""
        token = self._next
        if token.kind == "word" and token.text.lower() in words:
            self._at += 1
            return token.text.lower()
        return ""

    def _unexpected(self, wanted: str) -> PromQLError:
        token = self._next
        found = "the end" if token.kind == "end" else repr(self._text[token.start : token.end])
        return PromQLError(f"{wanted} expected, not {found}", token.start)

    # Operators.

    def _expression(self, lowest: int) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise PromQLError(f"it is nested deeper than {_DEEPEST} levels", self._next.start)
        left = self._operand()
        count = 0
        while (operator := self._operator()) and _PRECEDENCE[operator] >= lowest:
            self._at += 1
            count += 1
            if count > _MOST_OPERATORS:
                raise PromQLError(
                    f"more than {_MOST_OPERATORS} operators stand in a row: record parts of it",
                    left.start,
                )
            bool_, matching = bool(self._keyword("bool")), self._matching()
            # Only powers are read from right to left.
            right = self._expression(_PRECEDENCE[operator] + (operator != "^"))
            node = Binary(left.start, right.end, operator, left, right, bool_, matching)
            check_binary(node)
            left = node
        self._depth -= 1
        return left

    def _operator(self) -> str:
        token = self._next
        text = token.text.lower() if token.kind == "word" else token.kind
        return text if text in _PRECEDENCE else ""

    def _operand(self) -> Node:
        token = self._next
        if token.kind in ("+", "-"):
            self._at += 1
            expr = self._expression(_POWER)
            if kind(expr) not in ("scalar", "vector"):
                raise PromQLError(f"a sign stands before a {kind(expr)}", token.start)
            return Unary(token.start, expr.end, token.kind, expr)
        return self._modified(self._primary())

    def _matching(self) -> Matching:
        word = self._keyword("on", "ignoring")
        matching = Matching(word == "on", self._labels()) if word else Matching()
        if word and (group := self._keyword(*_GROUPS)):
            include = self._labels() if self._next.kind == "(" else frozenset[str]()
            if both := sorted(include & matching.labels if matching.on else ()):
                raise PromQLError(
                    f"label {both[0]!r} stands in both on() and {group}()", self._next.start
                )
            matching = replace(matching, group=group.removeprefix("group_"), include=include)
        while self._keyword(*_FILLS):
            self._take("(")
            self._expression(0)
            self._take(")")
        return matching

    def _labels(self) -> frozenset[str]:
        self._take("(")
        names = set()
        while not self._took(")"):
            names.add(self._label())
            if self._next.kind != ")":
                self._take(",", "`,` or `)`")
        return frozenset(names)

    def _label(self) -> str:
        token = self._next
        if token.kind == "number" and re.fullmatch("[A-Za-z]+", token.text):  # inf, nan
            self._at += 1
            return token.text
        if token.kind == "string":
            self._at += 1
            return token.text
        if ":" in token.text:
            raise self._unexpected("a label name")
        return self._take("word", "a label name").text

    # What stands between operators.

    def _primary(self) -> Node:  # noqa: PLR0911 - one for each kind
        token = self._next
        if token.kind == "number":
            self._at += 1
            return Number(token.start, token.end, token.value)
        if token.kind == "string":
            self._at += 1
            return String(token.start, token.end, token.text)
        if token.kind == "(":
            self._at += 1
            expr = self._expression(0)
            return Paren(token.start, self._take(")").end, expr)
        if token.kind == "{":
            return self._selector(token.start, "")
        if token.kind != "word":
            raise self._unexpected("an expression")
        following = self._tokens[self._at + 1]
        if token.text.lower() in AGGREGATIONS and (
            following.kind == "("
            or (following.kind == "word" and following.text.lower() in ("by", "without"))
        ):
            return self._aggregate()
        if following.kind == "(":
            return self._call()
        if token.text.lower() in _RESERVED:
            raise self._unexpected("an expression")
        self._at += 1
        return self._selector(token.start, token.text)

    def _aggregate(self) -> Node:
        name = self._take("word")
        operator = name.text.lower()
        word, labels = self._grouping()
        args = self._args()
        end = self._tokens[self._at - 1].end
        if not word:
            word, labels = self._grouping()
            end = self._tokens[self._at - 1].end
        wanted = AGGREGATIONS[operator]
        check_args(name, args, wanted + "v")
        parameter = args[0] if wanted else None
        return Aggregate(
            name.start, end, operator, args[-1], parameter, labels, without=word == "without"
        )

    def _grouping(self) -> tuple[str, frozenset[str]]:
        word = self._keyword("by", "without")
        return word, self._labels() if word else frozenset()

    def _call(self) -> Node:
        name = self._take("word")
        if name.text not in FUNCTIONS:
            near = difflib.get_close_matches(name.text, [*FUNCTIONS, *AGGREGATIONS], 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise PromQLError(f"there is no function `{name.text}`{hint}", name.start)
        args = self._args()
        check_args(name, args, FUNCTIONS[name.text])
        return Call(name.start, self._tokens[self._at - 1].end, name.text, args)

    def _args(self) -> tuple[Node, ...]:
        self._take("(")
        args: list[Node] = []
        if self._took(")"):
            return ()
        while True:
            args.append(self._expression(0))
            if self._took(")"):
                return tuple(args)
            self._take(",", "`,` or `)`")

    # Selectors, windows and what modifies them.

    def _selector(self, start: int, name: str) -> Selector:
        matchers: list[Matcher] = []
        end = self._tokens[self._at - 1].end
        if self._took("{"):
            while self._next.kind != "}":
                matchers.append(self._matcher())
                if self._next.kind != "}":
                    self._take(",", "`,` or `}`")
            end = self._take("}").end
        names = [one.value for one in matchers if one.label == "__name__" and one.operator == "="]
        if name and any(one.label == "__name__" for one in matchers):
            raise PromQLError("the metric's name is given twice", start)
        if not name and all(matches_nothing(one) for one in matchers):
            raise PromQLError("a selector needs a name, or a matcher that is not empty", start)
        return Selector(start, end, name or (names[0] if names else ""), tuple(matchers))

    def _matcher(self) -> Matcher:
        quoted = self._next.kind == "string"
        label = self._label()
        if quoted and self._next.kind in (",", "}"):
            return Matcher("__name__", "=", label)
        operator = self._next.kind
        if operator not in _MATCHERS:
            raise self._unexpected("one of = != =~ !~")
        self._at += 1
        value = self._take("string", "a string").text
        return Matcher(label, operator, value)

    def _modified(self, node: Node) -> Node:
        """Read what stands behind an operand: windows, `offset`, `@`."""
        modified = False
        while True:
            if self._next.kind == "[":
                if modified and not isinstance(node, (Subquery, Selector, Call, Aggregate, Paren)):
                    raise self._unexpected("an operator or the end")
                node = self._window(node, modified=modified)
                modified = False
            elif self._next.kind == "@" or self._is_word("offset", "anchored", "smoothed"):
                node = self._modifier(node)
                modified = True
            else:
                return node

    def _is_word(self, *words: str) -> bool:
        return self._next.kind == "word" and self._next.text.lower() in words

    def _modifier(self, node: Node) -> Node:
        token = self._next
        if not isinstance(node, (Selector, Range, Subquery)):
            raise self._unexpected("an operator or the end")
        self._at += 1
        modifiers = node.modifiers
        if token.kind == "@":
            modifiers = replace(modifiers, at=self._time())
        elif token.text.lower() == "offset":
            modifiers = replace(modifiers, offset=self._offset())
        return replace(node, end=self._tokens[self._at - 1].end, modifiers=modifiers)

    def _time(self) -> str:
        start = self._next.start
        if self._keyword("start", "end"):
            self._take("(")
            self._take(")")
        else:
            _ = self._took("-") or self._took("+")
            self._take("number", "a time stamp, start() or end()")
        return self._text[start : self._tokens[self._at - 1].end]

    def _offset(self) -> float | None:
        sign = -1 if self._took("-") else 1
        _ = sign == 1 and self._took("+")
        if self._next.kind not in ("number", "(", "word"):
            raise self._unexpected("a duration")
        # More than a number or call needs parentheses.
        start = self._next.start
        expr = self._primary()
        if kind(expr) != "scalar":
            raise PromQLError("a duration such as 5m is expected", start)
        seconds = constant(expr)
        return None if seconds is None else sign * seconds

    def _window(self, node: Node, *, modified: bool) -> Node:
        opening = self._take("[")
        seconds = self._seconds()
        if self._took(":"):
            step = None if self._next.kind == "]" else self._seconds()
            if kind(node) != "vector":
                raise PromQLError(
                    f"a subquery is for a vector, not for a {kind(node)}", opening.start
                )
            return Subquery(node.start, self._take("]").end, node, seconds, step)
        end = self._take("]", "`:` or `]`").end
        if not isinstance(node, Selector):
            raise PromQLError(
                "a range needs the name of a metric before it; for an expression write `[5m:]`",
                opening.start,
            )
        if modified:
            raise PromQLError("`offset` and `@` stand behind the range", opening.start)
        return Range(node.start, end, node, seconds)

    def _seconds(self) -> float | None:
        start = self._next.start
        expr = self._expression(0)
        if kind(expr) != "scalar":
            raise PromQLError("a duration such as 5m is expected", start)
        seconds = constant(expr)
        if seconds is not None and not seconds > 0:
            raise PromQLError("a duration must be greater than 0", start)
        return seconds
