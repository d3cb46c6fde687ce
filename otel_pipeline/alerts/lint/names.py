"""`unknown-metric`: a name that is nearly one of the vocabulary, and so never has a value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.nodes import Selector, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_pipeline.alerts.lint.series import Series
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["check", "suggestion"]

#: Words that say a unit or a type, and are forgotten first.
_SUFFIXES: Final = frozenset({"total", "seconds"})
#: Where a name begins like this, nobody else's metric is meant.
_OWN: Final = ("pipeline_", "dataset_", "otel_pipeline_")
_WORDS: Final = re.compile(r"[_:]")
_LONG_WORD, _SHORTEST = 7, 3


def check(rule: Rule, series: Series) -> Iterator[tuple[int, str]]:
    """Yield names that are close to one of the vocabulary and are none."""
    known = series.vocabulary | series.recorded
    for node in walk(rule.expr):
        if isinstance(node, Selector) and node.name and node.name not in known:
            meant = suggestion(node.name, series.vocabulary)
            if meant:
                yield (
                    node.start,
                    f"there is no metric {node.name}, so this never fires; did you mean {meant}?",
                )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that was meant by one that is not among them.

    Names are compared word by word: a slip of a letter in a word, or a missing unit or `_total`,
    is taken for a mistake; another word makes it a name of its own.

    Args:
        name: A name of a metric.
        known: All names that are right.

    Returns:
        One of `known`, or nothing where the name is somebody's own.

    Example:
        >>> suggestion("records_procesed_total", ["records_processed_total"])
        'records_processed_total'
        >>> suggestion("orders_processed_total", ["records_processed_total"])
        ''
    """
    ranked = [(_slips(name, other), other) for other in known]
    best = min(((slips, other) for slips, other in ranked if slips is not None), default=None)
    return "" if best is None else best[1]


def _slips(name: str, known: str) -> int | None:
    """Return how many slips lead from a known name to this one, or None if it is another."""
    if ("_" + name).count(":") != ("_" + known).count(":"):
        return None
    words, right = _WORDS.split(name.lower()), _WORDS.split(known)
    if "".join(words) == "".join(right):
        return abs(len(words) - len(right))
    if len(words) == len(right):
        return _misspelt(words, right)
    if len(words) > len(right) and not name.lower().startswith(_OWN):
        return None
    short = [word for word in words if word not in _SUFFIXES]
    short_right = [word for word in right if word not in _SUFFIXES]
    if len(short) != len(short_right) or abs(len(words) - len(right)) > 1:
        return None
    slips = _misspelt(short, short_right)
    return None if slips is None else slips + 1


def _misspelt(words: list[str], right: list[str]) -> int | None:
    total = 0
    for word, other in zip(words, right, strict=True):
        if word == other:
            continue
        most = 2 if len(other) >= _LONG_WORD else 1 if len(other) >= _SHORTEST else 0
        if re.search(r"\d", word + other):
            most = 0  # another window or quantile is meant
        slips = distance(word, other)
        if slips > most:
            return None
        total += slips
    return total


def distance(one: str, other: str) -> int:
    """Return how many letters are to be added, left out, changed or swapped with the next.

    Source: the optimal string alignment distance, https://en.wikipedia.org/wiki/
    Damerau-Levenshtein_distance.
    """
    before: list[int] = []
    previous = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        current = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, previous = previous, current
    return previous[-1]
