"""What tests of dashboards look up in them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from otel_pipeline.alerts.promql import parse
from otel_pipeline.alerts.promql.nodes import Selector, walk
from otel_pipeline.dashboards import DASHBOARDS, instruments_of, own_dashboard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.dashboards import Dashboard

__all__ = [
    "ALL",
    "OWN",
    "PAGE",
    "data_panels",
    "filled",
    "metrics_of",
    "panels",
    "promql",
    "targets",
    "tree",
]

#: Kinds of metrics, as the page of a program shows them.
PAGE = """\
# HELP orders_total Orders taken.
# TYPE orders_total counter
orders_total{shop="north"} 3
# HELP basket_bytes Size of a basket.
# TYPE basket_bytes gauge
basket_bytes 7
# HELP wait_seconds Time in the queue.
# TYPE wait_seconds histogram
wait_seconds_bucket{shop="north",le="1"} 1
wait_seconds_bucket{shop="north",le="+Inf"} 1
wait_seconds_sum{shop="north"} 0.5
wait_seconds_count{shop="north"} 1
# HELP size_bytes Size of an order.
# TYPE size_bytes summary
size_bytes_sum 8
size_bytes_count 2
# HELP build_info The build.
# TYPE build_info gauge
build_info{version="1"} 1
# HELP door The door.
# TYPE door gauge
door{door="open"} 1
door{door="shut"} 0
# HELP records_processed_total Records.
# TYPE records_processed_total counter
records_processed_total{pipeline="orders",status="success"} 1
# HELP target_info Target metadata
# TYPE target_info gauge
target_info{service_name="orders"} 1
"""
OWN = own_dashboard(instruments_of(PAGE))
ALL = (*DASHBOARDS, OWN)

#: What Grafana's variables may stand for.
_VALUES = {"$__rate_interval": "1m", "$__range": "1h", "$__auto": "15s"}


def filled(expr: str) -> str:
    """Return a query with values for its variables."""
    for name, value in _VALUES.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$\{\w+:regex\}", "x", expr)


def metrics_of(expr: str) -> set[str]:
    """Return the names of the metrics in a query of PromQL."""
    return {
        node.name for node in walk(parse(filled(expr))) if isinstance(node, Selector) and node.name
    }


def tree(dashboard: Dashboard) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    return json.loads(json.dumps(dashboard.to_json()))


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def data_panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    return [panel for panel in panels(tree(dashboard)) if panel["type"] != "row"]


def targets(dashboard: Dashboard) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in data_panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target


def promql(dashboard: Dashboard) -> list[tuple[str, str]]:
    """Return the title of the panel and the query, and the queries of variables."""
    variables = [
        ("variable", re.sub(r"label_values\((.+), \w+\)", r"\1", variable["definition"]))
        for variable in tree(dashboard)["templating"]["list"]
        if variable["type"] == "query"
    ]
    return variables + [
        (title, target["expr"])
        for title, target in targets(dashboard)
        if target["datasource"]["type"] == "prometheus"
    ]
