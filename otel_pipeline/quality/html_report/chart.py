"""A series with its band and findings, as a drawing in SVG."""

from __future__ import annotations

import datetime as dt
import math
from html import escape
from typing import TYPE_CHECKING

from otel_pipeline.quality.lineage.drawing import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.quality.history import Point
    from otel_pipeline.quality.html_report.contents import Series

__all__ = ["chart", "number", "time"]

# The drawing's own units; the page scales it.
_WIDTH, _HEIGHT = 480, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 10, 10, 26
#: Lines across it: how many are wished for, and the most there are.
_TICKS, _MOST_TICKS = 3, 10
#: Between these, numbers are written out.
_LARGE, _SMALL = 1e6, 1e-3


def chart(series: Series) -> str:
    """Return the drawing of a series.

    The values are a line, what was expected is a band behind it, and each finding is a dot that
    says what was found when one points at it.

    Args:
        series: What to draw; it has at least one point.
    """
    points = [point for point in series.points if math.isfinite(point.value)]
    if not points:
        return '<p class="quiet">No finite value yet.</p>'
    x, y, low, high = _scales(points)
    label = f"{series.metric}: {len(points)} values, {len(series.findings)} findings"
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg {size} role="img" aria-label="{escape(printable(label))}">',
        *_axes(points, low, high, y),
        *_bands(points, x, y),
        f'<path class="line" d="{_path([(x(p.at), y(p.value)) for p in points])}"/>',
    ]
    if len(points) == 1:
        place = f'cx="{x(points[0].at)}" cy="{y(points[0].value)}"'
        parts.append(f'<circle class="one" {place} r="3"/>')
    for point in points:
        if point.explanation:
            said = f"{time(point.at)}: {number(point.value)}. {point.explanation}"
            kind = "accepted" if point.ruling == "accepted" else "finding"
            parts.append(
                f'<circle class="{kind}" cx="{x(point.at)}" cy="{y(point.value)}" r="5">'
                f"<title>{escape(printable(said))}</title></circle>"
            )
    return "".join([*parts, "</svg>"])


def _scales(
    points: Sequence[Point],
) -> tuple[Callable[[float], float], Callable[[float], float], float, float]:
    """Return how times and values become places, and the range of the values that are shown.

    A band may be many times as high as the values; it is shown as far as it says something.
    """
    values = [point.value for point in points]
    low, high = min(values), max(values)
    room = (high - low) or abs(high) or 1.0
    edges = [edge for p in points for edge in (p.low, p.high) if edge is not None]
    low = min([low, *(edge for edge in edges if edge >= low - room)])
    high = max([high, *(edge for edge in edges if edge <= high + room)])
    if low == high:
        low, high = low - room / 2, high + room / 2
    if min(values) >= 0:
        low = max(low, 0.0)  # what is counted is not negative, whatever a band says
    first, last = points[0].at, points[-1].at

    def x(at: float) -> float:
        share = (at - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    return x, y, low, high


def _axes(
    points: Sequence[Point], low: float, high: float, y: Callable[[float], float]
) -> list[str]:
    parts = []
    for value in _ticks(low, high):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(value)}H{_WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{number(value)}</text>'
        )
    bottom = _HEIGHT - 6
    if points[0].at == points[-1].at:
        middle = f'x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{bottom}" text-anchor="middle"'
        return [*parts, f"<text {middle}>{time(points[0].at)}</text>"]
    parts.append(f'<text x="{_LEFT}" y="{bottom}">{time(points[0].at)}</text>')
    end = f'x="{_WIDTH - _RIGHT}" y="{bottom}" text-anchor="end"'
    return [*parts, f"<text {end}>{time(points[-1].at)}</text>"]


def _ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers between two."""
    rough = (high - low) / _TICKS
    size = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 0.0
    step = next((size * n for n in (1, 2, 5, 10) if size * n >= rough), 0.0)
    if not step or not math.isfinite(high / step) or not math.isfinite(low / step):
        return [low, high]
    first, last = math.ceil(low / step), math.floor(high / step)
    # Of numbers that are large beside their distance, rounding leaves none.
    return [n * step for n in range(first, last + 1)] if 0 <= last - first <= _MOST_TICKS else [low]


def _bands(
    points: Sequence[Point], x: Callable[[float], float], y: Callable[[float], float]
) -> list[str]:
    """Return the band, in as many pieces as there are times in which something was expected."""
    pieces: list[list[tuple[float, float, float]]] = [[]]
    for point in points:
        if point.low is None or point.high is None:
            pieces.append([])
        elif not (math.isnan(point.low) or math.isnan(point.high)):
            pieces[-1].append((x(point.at), y(point.low), y(point.high)))
    return [
        f'<path class="band" d="{_path([(at, top) for at, _, top in piece])}'
        f'{_path([(at, bottom) for at, bottom, _ in reversed(piece)]).replace("M", "L", 1)}Z"/>'
        for piece in pieces
        if piece
    ]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{at} {height}" for at, height in places)


def number(value: float) -> str:
    """Return a number as people read it: `12,345`, `0.25`, `1.2e+09`."""
    if value and (abs(value) >= _LARGE or abs(value) < _SMALL):
        whole = float(value).is_integer() and abs(value) < _LARGE**2
        return f"{value:,.0f}" if whole else f"{value:.3g}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def time(at: float) -> str:
    """Return a time, in seconds since 1970, as people read it, in UTC."""
    try:
        return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, OSError, ValueError):
        return "?"
