"""`otel-pipeline quality history`: what was measured of a dataset, and what monitors expected."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import json
import math
import time
from typing import TYPE_CHECKING

from otel_pipeline.errors import CommandError
from otel_pipeline.quality.history import HistoryError, SqliteHistory, default_history
from otel_pipeline.quality.words import in_words, number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from otel_pipeline.quality.history import Point

__all__ = ["add_arguments", "chosen_history", "draw", "in_json", "run"]

_HEIGHT = 8
_POINT, _FOUND, _BAND, _EMPTY = "●", "✗", "░", " "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline quality history`."""
    parser.add_argument("dataset", help="name of the dataset")
    parser.add_argument("--metric", help="only this one, such as rows or null_ratio:amount")
    parser.add_argument("--segment", default="", help="a part of it, such as carrier=AA")
    parser.add_argument("--last", type=int, default=60, metavar="N", help="points to show (60)")
    parser.add_argument("--history", metavar="FILE", help="instead of the configured history")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Draw the series of a dataset with what was expected and found.

    Args:
        args: `dataset`, `metric`, `segment`, `last`, `history`, `json`.

    Returns:
        0.

    Raises:
        CommandError: There is no such dataset or metric, or the history cannot be used.
    """
    if args.last < 1:
        raise CommandError(f"--last {args.last}: there is no such number of points; give 1 or more")
    history = chosen_history(args.history)
    try:
        metrics = _metrics(history, args.dataset, args.segment, args.metric)
        series = {
            metric: history.points(
                args.dataset, metric, segment=args.segment, before=time.time(), limit=args.last
            )
            for metric in metrics
        }
    except HistoryError as error:
        raise CommandError(str(error)) from error
    if args.json:
        documents = {metric: list(map(in_json, points)) for metric, points in series.items()}
        print(json.dumps({"dataset": args.dataset, "metrics": documents}, indent=2))
        return 0
    for metric, points in series.items():
        if points:
            print(draw(metric, points), end="\n\n")
    return 0


def chosen_history(path: str | None) -> SqliteHistory:
    """Return the history that an argument or the configuration names.

    Args:
        path: The argument, if it was given.

    Returns:
        The history.

    Raises:
        CommandError: There is none.
    """
    history = SqliteHistory(path) if path else default_history()
    if history is None:
        raise CommandError("OTEL_PIPELINE_QUALITY_HISTORY is off: name a file with --history")
    if not history.path.exists():
        raise CommandError(
            f"there is no history at {history.path}: monitors begin one when they first judge a "
            "dataset"
        )
    return history


def in_json(point: Point) -> dict[str, object]:
    """Return a point as JSON takes it: with its time in ISO 8601, without infinite numbers."""
    document = dataclasses.asdict(point)
    document["at"] = dt.datetime.fromtimestamp(point.at, dt.UTC).isoformat()
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in document.items()
    }


def draw(metric: str, points: Sequence[Point]) -> str:
    """Return a chart of a series: values, where they were expected, and findings.

    Args:
        metric: What was measured.
        points: The values, at least one, the oldest first.

    Returns:
        Lines of text.
    """
    known = [
        value
        for point in points
        for value in (point.value, point.low, point.high)
        if value is not None and math.isfinite(value)
    ]
    bottom, top = min(known), max(known)
    reach = (top - bottom) or abs(top) or 1.0

    def row(value: float) -> int:
        share = (value - bottom) / reach
        return min(max(round(share * (_HEIGHT - 1)), 0), _HEIGHT - 1)

    columns = []
    for point in points:
        column = [_EMPTY] * _HEIGHT
        if point.low is not None and point.high is not None:
            column[row(point.low) : row(point.high) + 1] = _BAND * (
                row(point.high) - row(point.low) + 1
            )
        column[row(point.value)] = _FOUND if point.explanation else _POINT
        columns.append(column)
    labels = {_HEIGHT - 1: number(metric, top), 0: number(metric, bottom)}
    width = max(map(len, labels.values()))
    lines = [f"{metric}: {in_words(metric)}"]
    lines += [
        f"{labels.get(level, ''):>{width}} ┤{''.join(column[level] for column in columns)}".rstrip()
        for level in reversed(range(_HEIGHT))
    ]
    lines.append(f"{'':>{width}}  {_day(points[0].at)} to {_day(points[-1].at)}")
    lines.append(f"{'':>{width}}  {_POINT} value  {_BAND} expected  {_FOUND} finding")
    lines += [
        f"  {point.id}  {_day(point.at)}  {point.ruling or 'open'}: {point.explanation}"
        for point in points
        if point.explanation
    ]
    return "\n".join(lines)


def _metrics(history: SqliteHistory, dataset: str, segment: str, metric: str | None) -> list[str]:
    series = history.series()
    datasets = sorted({name for name, _, _ in series})
    if dataset not in datasets:
        raise CommandError(f"the history has no dataset {dataset!r}; {_choices(dataset, datasets)}")
    segments = sorted({part for name, part, _ in series if name == dataset})
    if segment not in segments:
        raise CommandError(
            f"the history of {dataset} has no segment {segment!r}; "
            + _choices(segment, [part for part in segments if part])
        )
    metrics = [one for name, part, one in series if (name, part) == (dataset, segment)]
    if metric is None:
        return metrics
    if metric not in metrics:
        raise CommandError(
            f"the history of {dataset} has no metric {metric!r}; {_choices(metric, metrics)}"
        )
    return [metric]


def _choices(given: str, names: list[str]) -> str:
    if not names:
        return "there is none"
    near = difflib.get_close_matches(given, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(names[:20])}"


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M")
