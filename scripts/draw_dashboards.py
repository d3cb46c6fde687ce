"""Draw each dashboard as one picture, in Grafana's layout, from what real servers answer.

`python -m scripts.draw_dashboards` runs the servers and programs of `tests/stack/showcase.py` for
some minutes, and writes docs/assets/dashboard-NAME.png. It needs the programs of `python -m
tests.stack build` and the extra `docs`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import patches
from matplotlib import pyplot as plt

from otel_pipeline.dashboards import DASHBOARDS
from scripts.draw_panels import DIM, DRAWN, GRID, MARGINS, PAGE, PANEL, TEXT, Answered
from tests.stack.grafana import View, fill
from tests.stack.showcase import showcase

if TYPE_CHECKING:
    from collections.abc import Iterator

ASSETS = Path(__file__).parents[1] / "docs" / "assets"

UNIT_INCHES = 0.62  # a column
ROW_INCHES = 0.38  # a row of the grid


def placed(view: View) -> Iterator[tuple[dict[str, Any], dict[str, Any], int]]:
    """Give each row and panel with its variables and place; a repeated row for two values."""
    values = view.values()
    shift = 0
    repeated: list[tuple[dict[str, Any], dict[str, Any]]] = []
    rows = [*view.dashboard["panels"], {"type": "row", "gridPos": {"y": 10**6}, "panels": []}]
    variable, top = "", 0
    for panel in rows:
        if panel["type"] == "row" and variable:
            height = panel["gridPos"]["y"] - top
            if panel["gridPos"]["y"] == 10**6:
                height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one, _ in repeated) - top
            for place, stage in enumerate(("load", "validate")):
                chosen = View(view.dashboard, view.backends, view.seconds, {variable: (stage,)})
                own = chosen.values()
                yield from ((one, own, shift + place * height) for one, _ in repeated)
            shift += height
            repeated, variable = [], ""
        if panel["gridPos"]["y"] == 10**6:
            return
        if panel["type"] == "row" and panel.get("repeat"):
            variable, top = panel["repeat"], panel["gridPos"]["y"]
        if variable:
            repeated.append((panel, {}))
        else:
            yield panel, values, shift


def draw(view: View, path: Path) -> None:
    """Draw one dashboard."""
    found = list(placed(view))
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] + shift for panel, _, shift in found)
    head = 0.55
    width, height = 24 * UNIT_INCHES, rows * ROW_INCHES + head
    figure = plt.figure(figsize=(width, height), facecolor=PAGE)
    figure.text(
        0.12 / width,
        1 - 0.33 / height,
        view.dashboard["title"],
        fontsize=15,
        color=TEXT,
        weight="bold",
        va="center",
    )
    named = [
        one["label"] + ": All"
        for one in view.dashboard["templating"]["list"]
        if one["type"] == "query"
    ]
    figure.text(
        1 - 0.12 / width,
        1 - 0.33 / height,
        "   ".join([*named, f"last {round(view.seconds / 60)} minutes"]),
        fontsize=9,
        color=DIM,
        ha="right",
        va="center",
    )
    for panel, values, shift in found:
        place = panel["gridPos"]
        left, top = place["x"] * UNIT_INCHES, height - head - (place["y"] + shift) * ROW_INCHES
        if panel["type"] == "row":
            title = fill(panel["title"].replace("$stage", "${stage}"), values)
            figure.text(
                (left + 0.12) / width,
                (top - 0.2) / height,
                f"▾ {title}",
                fontsize=10.5,
                color=TEXT,
                va="center",
                weight="bold",
            )
            continue
        across, down = place["w"] * UNIT_INCHES, place["h"] * ROW_INCHES
        gap = 0.05
        figure.patches.append(
            patches.Rectangle(
                ((left + gap) / width, (top - down + gap) / height),
                (across - 2 * gap) / width,
                (down - 2 * gap) / height,
                transform=figure.transFigure,
                facecolor=PANEL,
                edgecolor=GRID,
                lw=0.8,
                zorder=-1,
            )
        )
        one = Answered(panel, view, values)
        figure.text(
            (left + 0.16) / width,
            (top - 0.22) / height,
            one.title,
            fontsize=8.5,
            color=TEXT,
            va="center",
            weight="bold",
        )
        west, east, north, south = MARGINS.get(panel["type"], (0.16, 0.16, 0.4, 0.14))
        axes = figure.add_axes(
            (
                (left + west) / width,
                (top - down + south) / height,
                (across - west - east) / width,
                (down - north - south) / height,
            )
        )
        axes.set_facecolor(PANEL)
        DRAWN[panel["type"]](axes, one)
    figure.savefig(path, dpi=72, pil_kwargs={"optimize": True})
    plt.close(figure)


def quantized(path: Path) -> None:
    """Make a picture small: 128 colours are enough for it."""
    from PIL import Image  # comes with matplotlib

    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


def main() -> None:
    """Run the servers and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=420, help="how long the programs run before")
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with showcase() as running:
        time.sleep(args.seconds)  # there is nothing to wait for but time
        for dashboard in DASHBOARDS:
            tree = json.loads(json.dumps(dashboard.to_json()))
            path = args.out / f"{dashboard.uid.replace('otel-pipeline-', 'dashboard-')}.png"
            draw(View(tree, running.backends, args.seconds + 60, {}), path)
            quantized(path)
            print(f"{path} {path.stat().st_size // 1024} KiB", flush=True)


if __name__ == "__main__":
    main()
