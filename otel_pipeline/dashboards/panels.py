"""How the panels look: one function for each kind, with what all panels of a kind share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.dashboards.model import LOKI, Panel, Query

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["bars", "gauge", "heatmap", "lines", "logs", "number", "states", "table"]

_NEWEST: Final = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def number(title: str, description: str, *queries: Query, **settings: Any) -> Panel:
    """Return one large number, over the line of its past."""
    words = {"width": 4, "height": 4, **settings}
    return Panel(
        "stat",
        title,
        description,
        queries,
        options={
            "colorMode": "value",
            "graphMode": "none" if queries[0].instant else "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": _NEWEST,
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        },
        **words,
    )


def gauge(title: str, description: str, *queries: Query, **settings: Any) -> Panel:
    """Return a gauge with its thresholds around it."""
    words = {"width": 4, "height": 4, **settings}
    return Panel(
        "gauge",
        title,
        description,
        queries,
        options={
            "minVizHeight": 75,
            "minVizWidth": 75,
            "orientation": "auto",
            "reduceOptions": _NEWEST,
            "showThresholdLabels": False,
            "showThresholdMarkers": True,
            "sizing": "auto",
        },
        **words,
    )


def bars(title: str, description: str, *queries: Query, **settings: Any) -> Panel:
    """Return a bar for each series, with its newest value."""
    return Panel(
        "bargauge",
        title,
        description,
        queries,
        options={
            "displayMode": "basic",
            "maxVizHeight": 300,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "auto",
            "orientation": "horizontal",
            "reduceOptions": _NEWEST,
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        },
        **settings,
    )


def lines(
    title: str, description: str, *queries: Query, stacked: bool = False, **settings: Any
) -> Panel:
    """Return lines over time; a threshold is a dashed line."""
    custom: dict[str, Any] = {
        "axisPlacement": "auto",
        "drawStyle": "line",
        "fillOpacity": 30 if stacked else 8,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "pointSize": 5,
        "scaleDistribution": {"type": "linear"},
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if settings.get("thresholds") else "off"},
    }
    return Panel(
        "timeseries",
        title,
        description,
        queries,
        options={
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "sortBy": "Last *",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        custom=custom,
        **{"minimum": 0, **settings},
    )


def heatmap(title: str, description: str, query: Query, unit: str, **settings: Any) -> Panel:
    """Return how often each bucket was met over time, with exemplars as points.

    Args:
        title: What stands above it.
        description: What it shows.
        query: Buckets, by `le`.
        unit: Of the buckets' bounds.
        settings: Further fields of the panel.
    """
    return Panel(
        "heatmap",
        title,
        description,
        (query,),
        options={
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": "short"},
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": False,
                "scale": "exponential",
                "scheme": "Spectral",
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
        },
        custom={"hideFrom": {"legend": False, "tooltip": False, "viz": False}},
        **settings,
    )


def states(title: str, description: str, *queries: Query, **settings: Any) -> Panel:
    """Return a band for each series, in the colour of its value at each time."""
    return Panel(
        "state-timeline",
        title,
        description,
        queries,
        options={
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        },
        custom={"fillOpacity": 70, "lineWidth": 0},
        **settings,
    )


def table(
    title: str,
    description: str,
    *queries: Query,
    columns: Mapping[str, str],
    merge: bool = False,
    sort: str = "",
    **settings: Any,
) -> Panel:
    """Return a table.

    Args:
        title: What stands above it.
        description: What it shows.
        queries: Each instant and in the format `table`.
        columns: The titles of the columns by the names of the fields, in their order; other fields
            are left out. The value of query A is the field `Value #A`, of the only query `Value`.
        merge: Put rows of several queries with equal labels together.
        sort: The title of the column to sort by, largest first.
        settings: Further fields of the panel.
    """
    organize = {
        "id": "organize",
        "options": {
            "excludeByName": {},
            "includeByName": {},
            "indexByName": {name: place for place, name in enumerate(columns)},
            "renameByName": dict(columns),
        },
    }
    only = {
        "id": "filterFieldsByName",
        "options": {"include": {"names": list(columns)}},
    }
    steps = [*([{"id": "merge", "options": {}}] if merge else []), only, organize]
    return Panel(
        "table",
        title,
        description,
        queries,
        options={
            "cellHeight": "sm",
            "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False},
            "showHeader": True,
            "sortBy": [{"desc": True, "displayName": sort}] if sort else [],
        },
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
        transformations=tuple(steps),
        **settings,
    )


def logs(title: str, description: str, expr: str, **settings: Any) -> Panel:
    """Return log lines, the newest first."""
    words = {"width": 24, "height": 10, **settings}
    return Panel(
        "logs",
        title,
        description,
        (Query(expr, source=LOKI),),
        options={
            "dedupStrategy": "none",
            "enableLogDetails": True,
            "prettifyLogMessage": False,
            "showCommonLabels": False,
            "showLabels": False,
            "showTime": True,
            "sortOrder": "Descending",
            "wrapLogMessage": True,
        },
        **words,
    )
