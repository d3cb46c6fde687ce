"""The cardinality guard: how many label sets a metric may have, and what becomes of the rest.

Beyond the limit the label with the most distinct values becomes `__other__`, then the next.
`pipeline`, `stage` and labels with 20 values or fewer are kept, so that totals and error ratios
stay right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.semconv import OTHER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["DEFAULT_LIMIT", "VOCABULARY_LIMIT", "Guard"]

#: Label sets of a user's metric, unless configured, and of one of the library's vocabulary.
DEFAULT_LIMIT: Final = 1000
VOCABULARY_LIMIT: Final = 10_000

_KEPT_LABELS: Final = frozenset({"pipeline", "stage"})
_KEPT_VALUES: Final = 20
#: A metric with so many label sets folds every label, so that memory is bounded.
_CEILING: Final = 50_000

LabelSet = tuple[str, ...]


class Guard:
    """Decides under which label set a new one is counted.

    Args:
        labelnames: The metric's label names.
        label_limits: The most values that a label may take, by its name.
    """

    __slots__ = ("_label_limits", "_labelnames", "_values")

    def __init__(self, labelnames: LabelSet, label_limits: Mapping[str, int]) -> None:
        self._labelnames = labelnames
        self._label_limits = {
            index: label_limits[name]
            for index, name in enumerate(labelnames)
            if name in label_limits
        }
        self._values: list[set[str]] | None = None

    def place(self, new: LabelSet, existing: Collection[LabelSet], limit: int) -> LabelSet:
        """Return the label set that stands for `new`: itself, or one with folded labels.

        Args:
            new: A label set that the metric does not have.
            existing: Those that it has.
            limit: How many it may have before labels are folded.

        Returns:
            An existing label set, or one that may be created.
        """
        if len(existing) >= limit:
            return self._folded(self._within_label_limits(new, existing), existing)
        if self._label_limits:
            return self._within_label_limits(new, existing)
        return new

    def widest(
        self, new: LabelSet, placed: LabelSet, existing: Collection[LabelSet]
    ) -> tuple[str, int]:
        """Return the widest label that `placed` folds of `new`, and how many values it has."""
        values = self._distinct(existing)
        counts = {
            name: _real(seen)
            for name, seen, old, now in zip(self._labelnames, values, new, placed, strict=True)
            if old != now
        }
        name = max(counts, key=counts.__getitem__)
        return name, counts[name]

    def created(self, label_set: LabelSet) -> None:
        """Take note of a label set that the metric has now."""
        if self._values is not None:
            for seen, value in zip(self._values, label_set, strict=True):
                seen.add(value)

    def forget(self) -> None:
        """Count anew at the next need: label sets went away."""
        self._values = None

    def _distinct(self, existing: Collection[LabelSet]) -> list[set[str]]:
        if self._values is None:
            columns = zip(*existing, strict=True) if existing else [()] * len(self._labelnames)
            self._values = [set(column) for column in columns]
        return self._values

    def _within_label_limits(self, new: LabelSet, existing: Collection[LabelSet]) -> LabelSet:
        if not self._label_limits:
            return new
        distinct = self._distinct(existing)
        placed = list(new)
        for index, most in self._label_limits.items():
            seen = distinct[index]
            if new[index] not in seen and _real(seen) >= most:
                placed[index] = OTHER
        return tuple(placed)

    def _folded(self, new: LabelSet, existing: Collection[LabelSet]) -> LabelSet:
        if new in existing:
            return new
        if len(existing) >= _CEILING:
            return (OTHER,) * len(new)
        folded = list(new)
        for index in self._foldable(new, existing):
            folded[index] = OTHER
            if tuple(folded) in existing:
                break
        return tuple(folded)

    def _foldable(self, new: LabelSet, existing: Collection[LabelSet]) -> list[int]:
        """Return the indexes of the labels that may be folded, most distinct values first."""
        counts = {
            index: _real(seen) + (new[index] not in seen)
            for index, seen in enumerate(self._distinct(existing))
            if self._labelnames[index] not in _KEPT_LABELS
        }
        wide = [index for index, count in counts.items() if count > _KEPT_VALUES]
        return sorted(wide, key=lambda index: -counts[index])


def _real(seen: set[str]) -> int:
    """Return how many values a label has, the mark of folded ones aside."""
    return len(seen) - (OTHER in seen)
