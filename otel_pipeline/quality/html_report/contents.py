"""What stands in the report, gathered from where it is kept."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from otel_pipeline.quality.history import History, Point
    from otel_pipeline.quality.lineage.graph import Graph
    from otel_pipeline.quality.lineage.model import DatasetUse
    from otel_pipeline.quality.lineage.names import DatasetName

__all__ = ["Checked", "Column", "Contents", "DatasetPart", "Series", "gather"]

#: Series of one dataset that are drawn, and points of one.
MOST_SERIES: Final = 24
_MOST_POINTS: Final = 500
_MOST_FINDINGS: Final = 1000
#: Metrics that everybody wants to see; then come those with findings, then the others.
_FIRST: Final = ("rows", "freshness")
#: Statistics of a column, from what they are called in a profile and in the record of lineage.
_STATS: Final = {
    "null_count": "nullCount",
    "distinct": "distinctCount",
    "min": "min",
    "median": "median",
    "max": "max",
    "mean": "mean",
    "std": "std",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it was last seen: its type, and its statistics by name."""

    name: str
    type: str
    stats: Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class Checked:
    """How a check ended: `pass`, `fail` or `error`, and what was found."""

    name: str
    result: str
    severity: str
    message: str


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over time; `segment` is empty for the whole dataset."""

    metric: str
    segment: str
    points: Sequence[Point]

    @property
    def findings(self) -> list[Point]:
        """The points in which a monitor found something."""
        return [point for point in self.points if point.explanation]


@dataclass(slots=True)
class DatasetPart:
    """What is known of one dataset.

    Attributes:
        name: Its name.
        at: When it was last seen, in seconds since 1970, or None.
        rows: Rows when it was last seen, or None.
        columns: Its columns.
        checks: How its checks ended.
        series: What monitors keep of it, the most interesting first.
        left_out: How many series there are besides.
    """

    name: str
    at: float | None = None
    rows: int | None = None
    columns: list[Column] = field(default_factory=list)
    checks: list[Checked] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    left_out: int = 0

    @property
    def failing(self) -> list[Checked]:
        """The checks that did not pass."""
        return [check for check in self.checks if check.result != "pass"]

    @property
    def findings(self) -> list[Point]:
        """What the monitors found and nobody has accepted, the newest first."""
        found = [point for series in self.series for point in series.findings]
        return sorted(
            (point for point in found if point.ruling != "accepted"), key=lambda one: -one.at
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """What stands in the report.

    Attributes:
        datasets: Those with something wrong first, then by name.
        graph: The lineage.
        at: When it was gathered, in seconds since 1970.
    """

    datasets: Sequence[DatasetPart]
    graph: Graph
    at: float


def gather(
    *,
    history: History | None,
    graph: Graph,
    profiles: Iterable[tuple[str, Path]] = (),
    checks: Iterable[Path] = (),
    at: float,
) -> Contents:
    """Gather what is known of datasets.

    Args:
        history: What monitors keep, or None.
        graph: The lineage.
        profiles: Names of datasets, each with a file that `quality profile --json` has written.
        checks: Files that `quality check --json` has written.
        at: Now, in seconds since 1970.

    Raises:
        CommandError: A file cannot be read, or holds something else.
        HistoryError: The history cannot be read.
    """
    parts: dict[str, DatasetPart] = {}

    def part(name: str) -> DatasetPart:
        return parts.setdefault(name, DatasetPart(name))

    for name, known in _names(graph).items():
        one = part(name)
        one.at = max(run.at for run in graph.jobs.values() if _speaks_of(run, known)) / 1e9
        _add_use(one, graph.datasets[known])
    if history is not None:
        _add_history(part, history, at)
    for name, path in profiles:
        _add_profile(part(name), path)
    for path in checks:
        _add_checks(part, path)
    order = sorted(parts.values(), key=lambda one: (_calm(one), one.name))
    return Contents(order, graph, at)


def _calm(part: DatasetPart) -> bool:
    return not part.failing and not part.findings


def _speaks_of(run: Any, name: DatasetName) -> bool:
    return any(use.name == name for use in (*run.inputs, *run.outputs))


def _names(graph: Graph) -> dict[str, DatasetName]:
    """Return the datasets by the names that they have in the report.

    Where a bare name says which it is, it does: checks and monitors know datasets by it.
    """
    bare = Counter(name.name for name in graph.datasets if _is_bare(name))
    return {
        name.name if _is_bare(name) and bare[name.name] == 1 else str(name): name
        for name in graph.datasets
    }


def _is_bare(name: DatasetName) -> bool:
    return "://" not in name.namespace and name.namespace != "file"


def _add_use(part: DatasetPart, use: DatasetUse) -> None:
    part.rows = use.rows
    names = list(dict.fromkeys([*(use.schema or {}), *use.metrics]))
    part.columns = [
        Column(
            name,
            (use.schema or {}).get(name, ""),
            {
                stat: use.metrics[name][key]
                for stat, key in _STATS.items()
                if key in use.metrics.get(name, {})
            },
        )
        for name in names
    ]
    part.checks = [
        Checked(
            one.name or one.assertion + (f" {one.column}" if one.column else ""),
            "pass" if one.success else "fail",
            {"error": "critical", "warn": "warning"}.get(one.severity or "", ""),
            one.description or "",
        )
        for one in use.assertions
    ]


def _add_history(part: Any, history: History, at: float) -> None:
    kept: dict[str, list[Series]] = {}
    for dataset, segment, metric in history.series():
        points = history.points(dataset, metric, segment=segment, before=at, limit=_MOST_POINTS)
        if points:
            kept.setdefault(dataset, []).append(Series(metric, segment, points))
    for dataset, every in kept.items():
        one = part(dataset)
        every.sort(key=_interest)
        one.series = every[:MOST_SERIES]
        one.left_out = len(every) - len(one.series)
        last = max(series.points[-1].at for series in every)
        one.at = last if one.at is None else max(last, one.at)
        rows = next((one for one in every if (one.metric, one.segment) == ("rows", "")), None)
        if rows is not None and one.rows is None:
            one.rows = int(rows.points[-1].value)


def _interest(series: Series) -> tuple[Any, ...]:
    found = series.findings
    first = _FIRST.index(series.metric) if series.metric in _FIRST else len(_FIRST)
    return (bool(series.segment) and not found, first, -(found[-1].at if found else 0.0),
            series.metric, series.segment)  # fmt: skip


def _add_profile(part: DatasetPart, path: Path) -> None:
    document = _read(path)
    try:
        part.rows = int(document["rows"])
        part.columns = [
            Column(
                str(name),
                str(document["schema"].get(name, "")),
                {stat: found for stat in _STATS if _is_told(found := _stat(told, stat))},
            )
            for name, told in document["columns"].items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CommandError(f"{path}: not what `quality profile --json` writes") from error


def _stat(told: Mapping[str, Any], stat: str) -> Any:
    if stat == "median":
        return (told.get("quantiles") or {}).get("0.5")
    return told.get(stat)


def _is_told(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    )


def _add_checks(part: Any, path: Path) -> None:
    document = _read(path)
    try:
        one = part(str(document["dataset"]))
        one.rows = int(document["rows"])
        one.checks = [
            Checked(*(str(told[key]) for key in ("check", "result", "severity", "message")))
            for told in document["checks"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CommandError(f"{path}: not what `quality check --json` writes") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CommandError(f"{path} is no JSON") from error
