"""Comments in a rule file that allow what the linter finds: `# otel-pipeline: allow ID reason`."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["allowances"]

_COMMENT: Final = re.compile(
    r"#[ \t]*otel-pipeline:[ \t]*allow[ \t]+([\w-]+(?:[ \t]*,[ \t]*[\w-]+)*)"
)
_BLOCKS: Final = ("|", ">")


def allowances(text: str, starts: Sequence[int]) -> list[frozenset[str]]:
    """Return what comments allow for each rule.

    A comment belongs to the rule in which it stands, in its expression too, or to the rule before
    which it stands alone.

    Args:
        text: The YAML.
        starts: The line of each rule's first key, from 0, in their order.

    Returns:
        For each rule the ids that its comments name.
    """
    found: list[set[str]] = [set() for _ in starts]
    lines = text.splitlines()
    for line, column, ids in _comments(text) if _COMMENT.search(text) else ():
        index = _rule_of(line, column, lines, starts)
        if index is not None:
            found[index] |= ids
    return [frozenset(ids) for ids in found]


def _comments(text: str) -> Iterator[tuple[int, int, set[str]]]:
    """Yield line, column and ids of each comment that is one, and no part of a text."""
    texts: list[tuple[int, int]] = []
    key = ""
    after_key = False
    for token in yaml.scan(text, yaml.SafeLoader):
        if isinstance(token, yaml.KeyToken):
            after_key = True
        elif isinstance(token, yaml.ScalarToken):
            if after_key:
                key, after_key = token.value, False
            elif key != "expr":
                start, end = token.start_mark.index, token.end_mark.index
                if token.style in _BLOCKS:  # a comment may stand behind the `|`
                    start = text.find("\n", start)
                    end = start + len(_block(text[start:end]))
                texts.append((start, end))
    begins = [start for start, _ in texts]
    for match in _COMMENT.finditer(text):
        place = bisect_right(begins, match.start()) - 1
        if place >= 0 and match.start() < texts[place][1]:
            continue
        before = text.rfind("\n", 0, match.start()) + 1
        yield (
            text.count("\n", 0, match.start()),
            match.start() - before,
            {one.strip() for one in match[1].split(",")},
        )


def _block(text: str) -> str:
    """Return a block scalar's lines without what follows them at less indentation."""
    lines = text.split("\n")
    filled = [line for line in lines if line.strip()]
    if not filled:
        return ""
    indentation = len(filled[0]) - len(filled[0].lstrip())
    while lines and (not lines[-1].strip() or not lines[-1].startswith(" " * indentation)):
        lines.pop()
    return "\n".join(lines)


def _rule_of(line: int, column: int, lines: Sequence[str], starts: Sequence[int]) -> int | None:
    index = bisect_right(starts, line) - 1
    alone = not lines[line][:column].strip()
    following = index + 1
    if alone and following < len(starts):
        between = lines[line + 1 : starts[following]]
        # Directly above the next rule, at its indentation: it is about that one.
        dash = lines[starts[following]]
        if all(
            not one.strip() or one.lstrip().startswith("#") for one in between
        ) and column <= len(dash) - len(dash.lstrip()):
            return following
    return index if index >= 0 else None
