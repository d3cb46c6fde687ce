"""What is known of series by their names: the vocabulary, recorded series, and conventions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.nodes import Selector, walk
from otel_pipeline.alerts.recorded import ALL_RECORDED
from otel_pipeline.semconv import ALL_METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["Series"]

_HISTOGRAM_PARTS: Final = ("_bucket", "_count", "_sum")
_UNITS: Final = ("_seconds", "_milliseconds", "_bytes", "_duration", "_latency", "_size", "_ratio")
_VOCABULARY: Final = {metric.name: metric for metric in ALL_METRICS}
#: Series that everybody has or names alike, and that go up and down.
_GAUGE: Final = re.compile(r"up|ALERTS(_FOR_STATE)?|.*(_timestamp_seconds|_info|_ratio|_percent)")
#: The operation is part of a recorded series' name, by convention: `job:requests:rate5m`.
_RECORDED_RATE: Final = re.compile(r".*:[a-z0-9_]*?(?<![a-z])i?(?:rate|increase)(?![a-z]).*")
_RECORDED_RATIO: Final = re.compile(r".*:.*(ratio|percent|quantile|p\d\d).*")


def _known() -> set[str]:
    found = {series.name for series in ALL_RECORDED}
    for metric in ALL_METRICS:
        found.add(metric.name)
        if metric.kind in ("histogram", "summary"):
            found |= {metric.name + part for part in _HISTOGRAM_PARTS}
    return found


class Series:
    """The series that rules name.

    Args:
        rules: All rules that are checked together.
        scrape_interval: Seconds between two scrapes.
    """

    def __init__(self, rules: Sequence[Rule], scrape_interval: float) -> None:
        self.scrape_interval = scrape_interval
        self.recorded = {rule.name for rule in rules if not rule.alerting}
        self.vocabulary = _known()
        self._named = {
            node.name for rule in rules for node in walk(rule.expr) if isinstance(node, Selector)
        }

    def is_counter(self, name: str) -> bool:
        """Return whether a series only ever grows, until its process ends."""
        if ":" in name or "uptime" in name or name in self.recorded or self.is_gauge(name):
            return False
        if name.endswith(("_total", "_bucket")):
            return True
        base = next((name.removesuffix(p) for p in ("_count", "_sum") if name.endswith(p)), "")
        return bool(base) and (
            base.endswith(_UNITS)
            or base in _VOCABULARY
            or any(base + part in self._named for part in _HISTOGRAM_PARTS if base + part != name)
        )

    def is_gauge(self, name: str) -> bool:
        """Return whether a series is known to go up and down."""
        if name in _VOCABULARY:
            return _VOCABULARY[name].kind in ("gauge", "info", "enum")
        return bool(_GAUGE.fullmatch(name)) or self.is_recorded_rate(name)

    @staticmethod
    def is_recorded_rate(name: str) -> bool:
        """Return whether the name of a recorded series says that it is a rate or an increase."""
        return bool(_RECORDED_RATE.fullmatch(name)) and not _RECORDED_RATIO.fullmatch(name)

    @staticmethod
    def labels(name: str) -> frozenset[str] | None:
        """Return the labels of a metric of the vocabulary."""
        for part in ("", *_HISTOGRAM_PARTS):
            metric = _VOCABULARY.get(name.removesuffix(part))
            if metric is not None:
                return frozenset(metric.labels) | ({"le"} if part == "_bucket" else set())
        return None
