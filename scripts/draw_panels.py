"""Draw one panel as Grafana does, from what its queries found."""

from __future__ import annotations

import datetime as dt
import math
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import dates, patches

from tests.stack.grafana import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes

    from tests.stack.grafana import View

PAGE, PANEL, TEXT, DIM, GRID = "#f4f5f5", "#ffffff", "#24292e", "#6e7075", "#e3e4e6"
COLOURS = {"green": "#2e9e44", "orange": "#e8850c", "red": "#d93040"}
PALETTE = ("#3274d9", "#e8850c", "#2e9e44", "#8f3bb8", "#d93040", "#0f8f8f", "#b0862a", "#555a60")

# --- Values -----------------------------------------------------------------------------------


def seconds(value: float) -> str:
    for size, unit in (
        (86400, "d"),
        (3600, "h"),
        (60, "min"),
        (1, "s"),
        (1e-3, "ms"),
        (1e-6, "µs"),
    ):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} s"


def scaled(value: float, steps: tuple[str, ...], base: int) -> str:
    for step in steps:
        if abs(value) < base or step == steps[-1]:
            return f"{value:.3g}{step}"
        value /= base
    return ""


def text_of(value: float, unit: str, decimals: int | None = None) -> str:  # noqa: PLR0911
    """Return a value as Grafana writes it in a unit."""
    if math.isnan(value):
        return "NaN"
    if unit == "s":
        return seconds(value)
    if unit == "percentunit" and decimals is not None:
        return f"{value * 100:.{decimals}f} %"
    if unit == "percentunit":
        return f"{value * 100:,.0f} %" if abs(value) >= 10 else f"{value * 100:.3g} %"
    if unit in {"bytes", "Bps"}:
        return scaled(value, (" B", " KiB", " MiB", " GiB"), 1024) + ("/s" if unit == "Bps" else "")
    if unit == "dateTimeFromNow":
        return f"{seconds(time.time() - value / 1000)} ago"
    ends = {"recps": " rec/s", "rowsps": " rows/s", "cps": " c/s", "ops": " ops/s"}
    return scaled(value, ("", " K", " Mil"), 1000) + ends.get(unit, "")


def colour_of(value: float, defaults: dict[str, Any]) -> str:
    """Return the colour of the threshold that a value has reached."""
    reached = "green"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            reached = step["color"]
    return COLOURS[reached]


def mapped(value: float, mappings: list[dict[str, Any]]) -> tuple[str, str] | None:
    """Return the word and colour for a value, if it has one."""
    for mapping in mappings:
        found = mapping["options"].get(f"{value:g}")
        if found:
            return found["text"], COLOURS[found["color"]]
    return None


def name_of(series: dict[str, Any], legend: str) -> str:
    labels = series.get("metric") or {}
    name = legend
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return name or ", ".join(labels.values()) or "value"


def cut(text: str, room: int) -> str:
    """Return a text that fits, with dots where it does not."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


def moment(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


# --- Panels -----------------------------------------------------------------------------------


class Answered:
    """A panel with what its queries found."""

    def __init__(self, panel: dict[str, Any], view: View, values: dict[str, Any]) -> None:
        self.panel = panel
        self.defaults = panel["fieldConfig"]["defaults"]
        self.unit = self.defaults["unit"]
        self.title = fill(panel["title"], values)
        self.found = [view.answer(target, values) for target in panel["targets"]]
        self.legends = [target["legendFormat"] for target in panel["targets"]]
        self.exemplars = [
            exemplar
            for target in panel["targets"]
            if target.get("exemplar")
            for exemplar in view.exemplars(target, values)
        ]

    def series(self) -> Iterator[tuple[str, list[tuple[float, float]]]]:
        """Give each series with its name and points."""
        for found, legend in zip(self.found, self.legends, strict=True):
            for one in found:
                points = one.get("values") or [one["value"]]
                yield name_of(one, legend), [(float(at), float(value)) for at, value in points]

    def newest(self) -> list[tuple[str, float]]:
        found = [(name, points[-1][1]) for name, points in self.series()]
        return sorted(found, key=lambda pair: -pair[1])


def times(points: list[tuple[float, float]]) -> list[dt.datetime]:
    return [moment(at) for at, _ in points]


def clock(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.tick_params(colors=DIM, labelsize=7, length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def draw_lines(axes: Axes, one: Answered) -> None:
    found = sorted(one.series(), key=lambda pair: -pair[1][-1][1])
    columns = 1 if one.panel["gridPos"]["w"] <= 8 else 2
    named = 5 * columns
    custom = one.defaults["custom"]
    stacked = custom["stacking"]["mode"] == "normal"
    below: dict[float, float] = {}
    for place, (name, points) in enumerate(found):
        colour = PALETTE[place % len(PALETTE)]
        lower = [below.get(at, 0.0) if stacked else 0.0 for at, _ in points]
        upper = [base + value for base, (_, value) in zip(lower, points, strict=True)]
        below |= {at: top for (at, _), top in zip(points, upper, strict=True)} if stacked else {}
        label = f"{name}  {text_of(points[-1][1], one.unit)}" if place < named else None
        marker = "o" if len(points) < 3 else None
        axes.plot(times(points), upper, color=colour, lw=1.1, label=label, marker=marker, ms=3)
        axes.fill_between(times(points), lower, upper, color=colour, alpha=0.3 if stacked else 0.06)
    top = axes.get_ylim()[1]
    for step in (
        one.defaults["thresholds"]["steps"] if custom["thresholdsStyle"]["mode"] != "off" else ()
    ):
        if step["value"] is not None and step["value"] <= top * 1.5:
            axes.axhline(step["value"], color=COLOURS[step["color"]], lw=0.8, ls="--")
    draw_exemplars(axes, one, axes.get_ylim()[1])
    if one.defaults.get("min") == 0:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: text_of(value, one.unit))
    axes.grid(color=GRID, lw=0.6)
    clock(axes)
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.12),
        ncols=columns,
        fontsize=6.5,
        frameon=False,
        labelcolor=TEXT,
        handlelength=1,
        columnspacing=1,
        labelspacing=0.25,
    )
    for text in legend.get_texts():
        text.set_text(cut(text.get_text(), 92 // columns))


def draw_exemplars(axes: Axes, one: Answered, top: float) -> None:
    points = [
        (float(exemplar["timestamp"]), float(exemplar["value"])) for exemplar in one.exemplars
    ]
    points = [(at, value) for at, value in points if value <= top]
    if points:
        axes.scatter(
            times(points),
            [value for _, value in points],
            s=9,
            marker="D",
            color="#3274d9",
            alpha=0.7,
            linewidths=0,
            zorder=3,
        )


def draw_heatmap(axes: Axes, one: Answered) -> None:
    rows = sorted(
        ((float(name), dict(points)) for name, points in one.series()), key=lambda pair: pair[0]
    )
    moments = sorted({at for _, row in rows for at in row})
    cells = [[row.get(at, 0.0) for at in moments] for _, row in rows]
    # Buckets hold what is in those below them, too.
    single = [
        [max(high - low, 0.0) for low, high in zip(lower, upper, strict=True)]
        for lower, upper in pairwise([[0.0] * len(moments), *cells])
    ]
    used = [place for place, row in enumerate(single) if any(row)]
    first, last = max(used[0] - 1, 0), min(used[-1] + 1, len(rows) - 1)
    shown = [[value or math.nan for value in row] for row in single[first : last + 1]]
    ends = [dates.date2num(moment(at)) for at in (moments[0], moments[-1])]
    axes.imshow(
        shown,
        aspect="auto",
        origin="lower",
        cmap="YlOrRd",
        interpolation="nearest",
        extent=(*ends, first - 0.5, last + 0.5),
    )
    bounds = [bound for bound, _ in rows]
    points = []
    for exemplar in one.exemplars:
        value, at = float(exemplar["value"]), float(exemplar["timestamp"])
        place = next(index for index, bound in enumerate(bounds) if value <= bound)
        if moments[0] <= at <= moments[-1]:
            points.append((moment(at), place))
    if points:
        axes.scatter(*zip(*points, strict=True), s=11, marker="D", color="#a020c0", linewidths=0)
    every = (last - first) // 12 + 1
    axes.set_yticks(range(first, last + 1, every))
    named = bounds[first : last + 1 : every]
    axes.set_yticklabels([text_of(bound, "s") if bound < math.inf else "more" for bound in named])
    axes.xaxis_date()
    clock(axes)


def draw_number(axes: Axes, one: Answered) -> None:
    axes.axis("off")
    newest = one.newest()
    empty = one.defaults.get("noValue", "no data")
    word = text_of(newest[0][1], one.unit) if newest else empty
    if one.defaults.get("decimals") == 0 and newest:
        word = f"{newest[0][1]:.0f}"
    colour = colour_of(newest[0][1], one.defaults) if newest else DIM
    if one.panel["options"]["graphMode"] == "area" and newest:
        _, points = next(one.series())
        back = axes.inset_axes((0, 0, 1, 0.45))
        back.fill_between(times(points), [value for _, value in points], color=colour, alpha=0.15)
        back.plot(times(points), [value for _, value in points], color=colour, lw=0.8)
        back.axis("off")
    axes.text(
        0.5,
        0.6,
        word,
        ha="center",
        va="center",
        fontsize=19,
        color=colour,
        weight="bold",
        transform=axes.transAxes,
    )


def draw_gauge(axes: Axes, one: Answered) -> None:
    axes.axis("off")
    axes.set_aspect("equal")
    axes.set_xlim(-1.1, 1.1)
    axes.set_ylim(-0.25, 1.1)
    newest = one.newest()
    top = one.defaults["max"]
    value = newest[0][1] if newest else 0.0
    colour = colour_of(value, one.defaults)
    share = min(max(value / top, 0), 1)
    axes.add_patch(patches.Wedge((0, 0), 0.9, 0, 180, width=0.22, color=GRID))
    axes.add_patch(patches.Wedge((0, 0), 0.9, 180 - 180 * share, 180, width=0.22, color=colour))
    steps = [step for step in one.defaults["thresholds"]["steps"] if step["value"] is not None]
    edges = [*(180 - 180 * step["value"] / top for step in steps), 0]
    for step, start, end in zip(steps, edges, edges[1:], strict=False):
        axes.add_patch(
            patches.Wedge((0, 0), 1.02, end, start, width=0.07, color=COLOURS[step["color"]])
        )
    axes.text(
        0,
        0.1,
        text_of(value, one.unit, one.defaults.get("decimals")) if newest else "no data",
        ha="center",
        fontsize=15,
        color=colour,
        weight="bold",
    )


def draw_bars(axes: Axes, one: Answered) -> None:
    axes.axis("off")
    rows = one.newest()[:12]
    top = one.defaults.get("max") or max((value for _, value in rows), default=1) or 1
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) or 1, 0)
    if not rows:
        axes.text(0.5, 0.5, one.defaults.get("noValue", "no data"), ha="center", color=DIM)
    for place, (name, value) in enumerate(rows):
        colour = colour_of(value, one.defaults)
        share = min(max(value / top, 0), 1)
        axes.text(
            0.41,
            place + 0.5,
            cut(name, 34),
            ha="right",
            va="center",
            fontsize=7,
            color=TEXT,
        )
        axes.barh(place + 0.5, 0.42, left=0.43, height=0.62, color=GRID)
        axes.barh(place + 0.5, 0.42 * share, left=0.43, height=0.62, color=colour)
        word = f"{value:.0f}" if one.defaults.get("decimals") == 0 else text_of(value, one.unit)
        axes.text(0.865, place + 0.5, word, va="center", fontsize=7.5, color=colour, weight="bold")


def draw_states(axes: Axes, one: Answered) -> None:
    rows = sorted(one.series(), reverse=True)
    for place, (_, points) in enumerate(rows):
        moments = [dates.date2num(start) for start in times(points)]
        width = min((b - a for a, b in pairwise(moments)), default=0.0002)
        for start, (_, value) in zip(moments, points, strict=True):
            _, colour = mapped(value, one.defaults["mappings"]) or ("", PALETTE[0])
            axes.barh(place, width, left=start, height=0.7, color=colour, alpha=0.8)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([cut(name, 26) for name, _ in rows])
    axes.xaxis_date()
    clock(axes)


def table_rows(one: Answered) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """Return the titles of the columns, and the cells with their colours."""
    organize = one.panel["transformations"][-1]["options"]
    columns: dict[str, str] = organize["renameByName"]
    single = len(one.found) == 1
    merged: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    keys = [key for key in columns if not key.startswith("Value")]
    shared = [
        key
        for key in keys
        if single or all(key in row["metric"] for found in one.found for row in found)
    ]
    for place, found in enumerate(one.found):
        for row in found:
            key = tuple((name, row["metric"].get(name, "")) for name in shared)
            fields = merged.setdefault(key, {})
            fields |= {name: row["metric"][name] for name in keys if name in row["metric"]}
            value = "Value" if single else f"Value #{'ABCDEFGHIJ'[place]}"
            fields[value] = float(row["value"][1])
    overrides = {
        override["matcher"]["options"]: {one["id"]: one["value"] for one in override["properties"]}
        for override in one.panel["fieldConfig"]["overrides"]
    }
    cells = []
    for fields in merged.values():
        line = []
        for field, title in columns.items():
            own = overrides.get(title, {})
            value = fields.get(field, "")
            colour = TEXT
            if isinstance(value, float):
                word = mapped(value, own.get("mappings", []))
                if "thresholds" in own:
                    colour = colour_of(value, own)
                value, colour = word or (text_of(value, own.get("unit", one.unit)), colour)
            line.append((value, colour))
        cells.append(line)
    return list(columns.values()), cells


def draw_table(axes: Axes, one: Answered) -> None:
    axes.axis("off")
    heads, rows = table_rows(one)
    axes.set_xlim(0, len(heads))
    height = max(one.panel["gridPos"]["h"] - 2, len(rows) + 1)
    axes.set_ylim(height, 0)
    room = one.panel["gridPos"]["w"] * 7 // len(heads)
    for column, head in enumerate(heads):
        axes.text(column, 0.4, head, fontsize=7.5, color="#3274d9", weight="bold", va="center")
    for line, cells in enumerate(sorted(rows, key=lambda cells: cells[0][0]), 1):
        axes.axhline(line - 0.1, color=GRID, lw=0.6)
        for column, (word, colour) in enumerate(cells):
            shown = cut(word, room)
            axes.text(column, line + 0.4, shown, fontsize=7.5, color=colour, va="center")


def draw_logs(axes: Axes, one: Answered) -> None:
    axes.axis("off")
    lines = sorted(
        (
            (int(at), stream["stream"], text)
            for stream in one.found[0]
            for at, text in stream["values"]
        ),
        key=lambda line: -line[0],
    )
    room = int((one.panel["gridPos"]["h"] - 1.5) * 1.55)
    axes.set_ylim(room, 0)
    axes.set_xlim(0, 1)
    levels = {"ERROR": COLOURS["red"], "WARN": COLOURS["orange"]}
    for place, (at, labels, text) in enumerate(lines[:room]):
        when = moment(at / 1e9).strftime("%H:%M:%S.%f")[:-3]
        level = labels.get("severity_text", "")
        axes.add_patch(
            patches.Rectangle(
                (0, place + 0.1), 0.003, 0.8, color=levels.get(level, COLOURS["green"])
            )
        )
        own = [labels.get(name, "") for name in ("pipeline", "stage", "trace_id")]
        told = "   ".join([when, text, *filter(None, own)])
        axes.text(
            0.008,
            place + 0.5,
            cut(told, one.panel["gridPos"]["w"] * 9),
            fontsize=7,
            color=TEXT,
            va="center",
            family="monospace",
        )


DRAWN: dict[str, Callable[[Axes, Answered], None]] = {
    "bargauge": draw_bars,
    "gauge": draw_gauge,
    "heatmap": draw_heatmap,
    "logs": draw_logs,
    "stat": draw_number,
    "state-timeline": draw_states,
    "table": draw_table,
    "timeseries": draw_lines,
}
#: Inches of a panel that are not its drawing: left, right, above, below.
MARGINS = {
    "timeseries": (0.62, 0.15, 0.36, 0.95),
    "heatmap": (0.62, 0.15, 0.36, 0.3),
    "state-timeline": (1.5, 0.15, 0.36, 0.3),
}
