"""A history whose values come from a Prometheus that scrapes the pipelines."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline import semconv
from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality.history import HistoryError, Point

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from otel_pipeline.quality.history import History, Maintenance, Note, Ruling

__all__ = ["PrometheusHistory"]

_TIMEOUT: Final = 10.0
_MOST_POINTS: Final = 10_000  # of one query; Prometheus allows 11,000


class PrometheusHistory:
    """A history that reads values from a Prometheus, and keeps the rest somewhere else.

    The values are those of the `dataset_*` metrics, sampled at a step: what any process anywhere
    has exported counts. Schemas, categories, findings and what people say about them are kept in
    `local`, and so are the values of segments, which no metric has.

    Args:
        url: The Prometheus, such as `http://prometheus:9090`.
        step: Seconds between two values: the interval at which the datasets are loaded.
        local: Where the rest is kept.

    Raises:
        ConfigurationError: The URL or the step cannot be used.

    Example:
        >>> import tempfile, pathlib
        >>> from otel_pipeline.quality import PrometheusHistory, SqliteHistory
        >>> local = SqliteHistory(pathlib.Path(tempfile.gettempdir()) / "history.db")
        >>> PrometheusHistory("http://127.0.0.1:9090", step=86400, local=local).step
        86400
    """

    def __init__(self, url: str, *, step: float, local: History) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"PrometheusHistory: {url!r} is no URL of a Prometheus, such as "
                "http://prometheus:9090"
            )
        if not step > 0:
            raise ConfigurationError(f"PrometheusHistory: step={step!r} is not above 0 seconds")
        self.url = url.rstrip("/")
        self.step = step
        self.local = local

    def session(self) -> AbstractContextManager[None]:
        """Return a session of what is kept elsewhere."""
        return self.local.session()

    def points(
        self, dataset: str, metric: str, *, segment: str = "", before: float, limit: int
    ) -> list[Point]:
        """Return the last `limit` points at or before a time, the oldest first."""
        query = _query(dataset, metric)
        if segment or query is None:
            return self.local.points(dataset, metric, segment=segment, before=before, limit=limit)
        stop = before // self.step * self.step
        limit = min(limit, _MOST_POINTS)
        result = self._get(
            "query_range",
            query=query,
            start=str(stop - (limit - 1) * self.step),
            end=str(stop),
            step=str(self.step),
        )["result"]
        findings = [
            point
            for point in self.local.points(dataset, metric, before=before, limit=limit)
            if point.explanation
        ]
        values = result[0]["values"] if result else []
        found = [Point(dataset, metric, float(at), float(value)) for at, value in values]
        return _with_findings(found, findings, self.step)

    def notes(
        self, dataset: str, name: str, *, segment: str = "", before: float, limit: int
    ) -> list[Note]:
        """Return the last `limit` notes at or before a time, the oldest first."""
        return self.local.notes(dataset, name, segment=segment, before=before, limit=limit)

    def findings(self, dataset: str | None = None, *, limit: int = 100) -> list[Point]:
        """Return the last `limit` points with a finding, the oldest first."""
        return self.local.findings(dataset, limit=limit)

    def series(self, dataset: str | None = None) -> list[tuple[str, str, str]]:
        """Return each dataset, segment and metric that has points, sorted."""
        found = set(self.local.series(dataset))
        for metric in _METRICS.values():
            selector = metric if dataset is None else f"{metric}{{dataset={_quoted(dataset)}}}"
            for labels in self._get("series", **{"match[]": selector}):
                found.add((labels["dataset"], "", _name(labels)))
        return sorted(found)

    def maintenance(self, dataset: str) -> list[Maintenance]:
        """Return the maintenance windows of a dataset and of all, by their start."""
        return self.local.maintenance(dataset)

    def record(self, points: Sequence[Point], notes: Sequence[Note] = ()) -> None:
        """Keep points and notes; the values are exported as metrics by whoever measured them."""
        self.local.record(points, notes)

    def rule(self, numbers: Sequence[int], ruling: Ruling) -> list[int]:
        """Set what a person says about findings; return the numbers that are findings."""
        return self.local.rule(numbers, ruling)

    def plan(self, window: Maintenance) -> None:
        """Keep a maintenance window."""
        self.local.plan(window)

    def _get(self, path: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:  # noqa: S310 - http(s), checked
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            why = error.read(300).decode(errors="replace")
            raise HistoryError(f"Prometheus at {self.url} refused {path}: {why}") from error
        except (OSError, ValueError, KeyError) as error:
            raise HistoryError(f"Prometheus at {self.url} did not answer: {error}") from error


_METRICS: Final = {
    "rows": semconv.DATASET_LAST_ROWS.name,
    "null_ratio": semconv.DATASET_COLUMN_NULL_RATIO.name,
    "distinct_ratio": semconv.DATASET_COLUMN_DISTINCT_RATIO.name,
    "": semconv.DATASET_COLUMN_VALUE.name,
}


def _query(dataset: str, metric: str) -> str | None:
    """Return the query for a metric of monitors; None for one that Prometheus does not have."""
    kind, _, column = metric.partition(":")
    labels = {"dataset": dataset}
    if kind == "freshness":
        name = semconv.DATASET_LAST_UPDATE.name
        return f"time() - max({_selector(name, labels)})"
    if not column:
        return f"max({_selector(_METRICS['rows'], labels)})" if kind == "rows" else None
    if kind == "category_drift":
        return None
    labels["column"] = column
    if kind not in _METRICS:
        labels["stat"] = kind
    return f"max({_selector(_METRICS.get(kind, _METRICS['']), labels)})"


def _selector(name: str, labels: dict[str, str]) -> str:
    pairs = ",".join(f"{label}={_quoted(value)}" for label, value in labels.items())
    return f"{name}{{{pairs}}}"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _name(labels: dict[str, str]) -> str:
    name = next(kind for kind, metric in _METRICS.items() if metric == labels["__name__"])
    kind = name or labels.get("stat", "")
    return f"{kind}:{labels['column']}" if "column" in labels else kind


def _with_findings(values: list[Point], findings: list[Point], step: float) -> list[Point]:
    """Return the values, each with the finding that belongs to its step."""
    by_step = {finding.at // step: finding for finding in findings}
    return [by_step.get(value.at // step, value) for value in values]
