"""Expressions without recorded series: each gives way to the expression that records it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql import parse
from otel_pipeline.alerts.promql.nodes import Range, Selector, children, kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_pipeline.alerts.promql.nodes import Matcher, Node
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["expand"]

_DEFAULT_STEP: Final = 60.0
_MARK: Final = "__match__"


def expand(text: str, recording: Mapping[str, Sequence[Rule]]) -> tuple[str, frozenset[str]]:
    """Put the expressions of recording rules in the place of what they record.

    A series that looks back at itself keeps that look, which then finds nothing.

    Args:
        text: An expression.
        recording: The rules by the name that they record; several make one series together.

    Returns:
        The expression, and the names that were replaced.

    Example:
        >>> expand("rate(x_total[5m]) > 1", {})
        ('rate(x_total[5m]) > 1', frozenset())
    """
    used: set[str] = set()
    return _expand(text, recording, frozenset(), used), frozenset(used)


def _expand(
    text: str, recording: Mapping[str, Sequence[Rule]], within: frozenset[str], used: set[str]
) -> str:
    replaced: list[tuple[int, int, str]] = []

    def visit(node: Node) -> None:
        selector = node.selector if isinstance(node, Range) else node
        if not isinstance(selector, Selector):
            for child in children(node):
                visit(child)
            return
        if selector.name in within or selector.name not in recording:
            return
        used.add(selector.name)
        rules = recording[selector.name]
        inner = within | {selector.name}
        parts = [_labelled(_expand(rule.text, recording, inner, used), rule) for rule in rules]
        whole = _selected(" or ".join(f"({part}\n)" for part in parts), selector.matchers)
        step = min(rule.interval or _DEFAULT_STEP for rule in rules)
        replaced.append((node.start, node.end, _timed(node, whole, step, text)))

    visit(parse(text))
    for start, end, new in sorted(replaced, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _labelled(text: str, rule: Rule) -> str:
    if kind(rule.expr) == "scalar":
        text = f"vector({text}\n)"
    for name, value in rule.labels.items():
        replacement = _quoted(value.replace("$", "$$"))
        text = f'label_replace({text}\n, {_quoted(name)}, {replacement}, "", "")'
    return text


def _selected(text: str, matchers: Iterable[Matcher]) -> str:
    """Return an expression with those of its series that fulfil the matchers."""
    for one in matchers:
        if one.label == "__name__":
            continue
        pattern = one.value if "~" in one.operator else re.escape(one.value)
        wanted = "unless" if one.operator.startswith("!") else "and"
        marked = f'label_replace({text}, "{_MARK}", "1", {_quoted(one.label)}, {_quoted(pattern)})'
        chosen = f'({marked} and on ({_MARK}) label_replace(vector(1), "{_MARK}", "1", "", ""))'
        text = f"({text} {wanted} ignoring ({_MARK}) {chosen})"
    return f"({text})"


def _timed(node: Node, text: str, step: float, source: str) -> str:
    """Return an expression at the time, and over the window, at which a series was asked for."""
    selector = node.selector if isinstance(node, Range) else node
    assert isinstance(selector, Selector)  # noqa: S101 - for the type checker
    tail = source[selector.end : node.end]  # of a range: the window and what modifies it
    if isinstance(node, Range):
        window, _, after = tail.partition("]")
        return f"{text}{window}:{step:g}s]{after}"
    if selector.modifiers.offset == 0 and not selector.modifiers.at:
        return text
    at = f"@ {selector.modifiers.at} " if selector.modifiers.at else ""
    offset = f"offset {selector.modifiers.offset or 0:g}s"
    # The last evaluation of the rule before that time: what it no longer gives is stale at once.
    return f"last_over_time({text}[{step:g}s:{step:g}s] {at}{offset})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
