"""Dashboards as values, and the JSON that Grafana reads.

It is Grafana's classic model, with the fields of schema version 39: 10.3 reads it, and newer ones
migrate it. Ids and places of panels follow from their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = [
    "COLUMNS",
    "LOKI",
    "PROMETHEUS",
    "SCHEMA_VERSION",
    "TEMPO",
    "Choice",
    "Dashboard",
    "Link",
    "Override",
    "Panel",
    "PanelType",
    "Query",
    "Row",
    "Source",
    "Text",
    "Threshold",
    "Variable",
]

SCHEMA_VERSION: Final = 39
COLUMNS: Final = 24
#: A tag of every dashboard, by which they find each other.
TAG: Final = "otel-pipeline"

Json = Mapping[str, Any]
PanelType = Literal[
    "bargauge", "gauge", "heatmap", "logs", "stat", "state-timeline", "table", "timeseries"
]


@dataclass(frozen=True, slots=True)
class Source:
    """A variable that holds a data source.

    Attributes:
        name: The variable.
        label: What stands before it.
        type: The kind of data source.
    """

    name: str
    label: str
    type: str

    @property
    def reference(self) -> Json:
        """What a panel or a variable says of where its data is."""
        return {"type": self.type, "uid": f"${{{self.name}}}"}

    def to_json(self) -> Json:
        """Return what Grafana reads."""
        return {
            "current": {},
            "hide": 0,
            "includeAll": False,
            "label": self.label,
            "multi": False,
            "name": self.name,
            "options": [],
            "query": self.type,
            "refresh": 1,
            "regex": "",
            "skipUrlSync": False,
            "type": "datasource",
        }


PROMETHEUS: Final = Source("datasource", "Data source", "prometheus")
LOKI: Final = Source("loki", "Loki data source", "loki")
TEMPO: Final = Source("tempo", "Tempo data source", "tempo")


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable that holds some of the values that a query finds.

    Attributes:
        name: The variable.
        label: What stands before it.
        query: Such as `label_values(pipeline_info, pipeline)`.
        doc: What it is for.
        all_value: What *All* stands for; by default the values, one by one.
    """

    name: str
    label: str
    query: str
    doc: str
    all_value: str = ""

    def to_json(self) -> Json:
        """Return what Grafana reads."""
        return {
            "allValue": self.all_value or None,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "datasource": PROMETHEUS.reference,
            "definition": self.query,
            "description": self.doc,
            "hide": 0,
            "includeAll": True,
            "label": self.label,
            "multi": True,
            "name": self.name,
            "options": [],
            "query": {"query": self.query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "regex": "",
            "skipUrlSync": False,
            "sort": 1,
            "type": "query",
        }


@dataclass(frozen=True, slots=True)
class Text:
    """A variable that holds what somebody types.

    Attributes:
        name: The variable.
        label: What stands before it.
        doc: What to type.
    """

    name: str
    label: str
    doc: str

    def to_json(self) -> Json:
        """Return what Grafana reads."""
        return {
            "current": {"selected": True, "text": "", "value": ""},
            "description": self.doc,
            "hide": 0,
            "label": self.label,
            "name": self.name,
            "options": [{"selected": True, "text": "", "value": ""}],
            "query": "",
            "skipUrlSync": False,
            "type": "textbox",
        }


Variable = Source | Choice | Text


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: In PromQL or LogQL.
        legend: The name of each series, such as `{{pipeline}}`.
        source: Where to ask.
        instant: Only for the last moment.
        format: How Grafana takes the answer.
        exemplars: Ask for exemplars, too.
    """

    expr: str
    legend: str = ""
    source: Source = PROMETHEUS
    instant: bool = False
    format: Literal["time_series", "table", "heatmap"] = "time_series"
    exemplars: bool = False

    def to_json(self, ref_id: str) -> Json:
        """Return what Grafana reads."""
        common = {
            "datasource": self.source.reference,
            "editorMode": "code",
            "expr": self.expr,
            "legendFormat": self.legend,
            "refId": ref_id,
        }
        if self.source.type == "loki":
            return {**common, "queryType": "instant" if self.instant else "range"}
        return {
            **common,
            "exemplar": self.exemplars,
            "format": self.format,
            "instant": self.instant,
            "range": not self.instant,
        }


@dataclass(frozen=True, slots=True)
class Threshold:
    """From this value on, this colour."""

    value: float
    colour: str


@dataclass(frozen=True, slots=True)
class Link:
    """Where a click leads to.

    Attributes:
        title: What the menu says.
        url: The address, with variables of Grafana in it.
    """

    title: str
    url: str

    def to_json(self) -> Json:
        """Return what Grafana reads."""
        return {"targetBlank": False, "title": self.title, "url": self.url}


@dataclass(frozen=True, slots=True)
class Override:
    """How one field or series differs from the others.

    Attributes:
        of: The name of the field or series.
        properties: The properties, such as `unit`, with their values.
        regex: `of` is a regular expression, such as `/.*error/`.
    """

    of: str
    properties: Json
    regex: bool = False

    def to_json(self) -> Json:
        """Return what Grafana reads."""
        return {
            "matcher": {"id": "byRegexp" if self.regex else "byName", "options": self.of},
            "properties": [{"id": id_, "value": value} for id_, value in self.properties.items()],
        }


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        type: How it looks.
        title: What stands above it.
        description: What it shows, and what to do about it.
        queries: What it shows.
        unit: Grafana's name of the unit.
        width: Of 24 columns.
        height: In rows of 30 pixels.
        thresholds: From which values on there are which colours.
        base: The colour below the first threshold.
        minimum: The least value of the axis or gauge.
        maximum: The largest value of the axis or gauge.
        decimals: How many; by default as many as make sense.
        no_value: What stands there without data.
        links: Where a click on a value leads to.
        mappings: Words for values.
        overrides: How single series differ.
        options: Options of the type.
        custom: Options of the type's fields.
        transformations: What is done with the answers before they are shown.
    """

    type: PanelType
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 12
    height: int = 8
    thresholds: tuple[Threshold, ...] = ()
    base: str = "green"
    minimum: float | None = None
    maximum: float | None = None
    decimals: int | None = None
    no_value: str = ""
    links: tuple[Link, ...] = ()
    mappings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    transformations: tuple[Json, ...] = ()

    def to_json(self, id_: int, x: int, y: int) -> Json:
        """Return what Grafana reads.

        Args:
            id_: The panel's id.
            x: The column of its left edge.
            y: The row of its upper edge.
        """
        return {
            "datasource": self.queries[0].source.reference,
            "description": self.description,
            "fieldConfig": {
                "defaults": self._defaults(),
                "overrides": [override.to_json() for override in self.overrides],
            },
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "id": id_,
            "options": dict(self.options),
            "targets": [
                query.to_json(chr(ord("A") + place)) for place, query in enumerate(self.queries)
            ],
            "title": self.title,
            "transformations": list(self.transformations),
            "type": self.type,
        }

    def _defaults(self) -> Json:
        by_series = self.type == "timeseries"
        defaults: dict[str, Any] = {
            "color": {"mode": "palette-classic" if by_series else "thresholds"},
            "custom": dict(self.custom),
            "links": [link.to_json() for link in self.links],
            "mappings": self._mappings(),
            "thresholds": {
                "mode": "absolute",
                "steps": [
                    {"color": self.base, "value": None},
                    *({"color": step.colour, "value": step.value} for step in self.thresholds),
                ],
            },
            "unit": self.unit,
        }
        optional = {
            "decimals": self.decimals,
            "max": self.maximum,
            "min": self.minimum,
            "noValue": self.no_value or None,
        }
        return defaults | {name: value for name, value in optional.items() if value is not None}

    def _mappings(self) -> list[Json]:
        if not self.mappings:
            return []
        options = {
            value: {"color": colour, "index": place, "text": text}
            for place, (value, (text, colour)) in enumerate(self.mappings.items())
        }
        return [{"options": options, "type": "value"}]


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, laid from left to right, line by line.

    Attributes:
        title: The heading.
        panels: In their order.
        repeat: A variable: the row is there once for each of its values.
        collapsed: It is shut until somebody opens it.
    """

    title: str
    panels: tuple[Panel, ...]
    repeat: str = ""
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard.

    Attributes:
        uid: Its name in addresses.
        title: What people see.
        description: What it is for.
        variables: What can be chosen, data sources first.
        rows: What it shows.
        start: How far back it looks at first.
        refresh: How often it asks anew.
    """

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    start: str = "now-1h"
    refresh: str = "30s"

    def panels(self) -> tuple[Panel, ...]:
        """Return all panels, in their order."""
        return tuple(panel for row in self.rows for panel in row.panels)

    def to_json(self) -> Json:
        """Return what Grafana reads."""
        return {
            "annotations": {"list": []},
            "description": self.description,
            "editable": False,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": [
                {
                    "asDropdown": True,
                    "icon": "external link",
                    "includeVars": True,
                    "keepTime": True,
                    "tags": [TAG],
                    "targetBlank": False,
                    "title": "Pipelines",
                    "tooltip": "",
                    "type": "dashboards",
                    "url": "",
                }
            ],
            "liveNow": False,
            "panels": self._laid_out(),
            "refresh": self.refresh,
            "schemaVersion": SCHEMA_VERSION,
            "tags": [TAG],
            "templating": {"list": [variable.to_json() for variable in self.variables]},
            "time": {"from": self.start, "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
            "weekStart": "",
        }

    def _laid_out(self) -> list[Json]:
        laid: list[Json] = []
        id_, y = 1, 0
        for row in self.rows:
            heading: dict[str, Any] = {
                "collapsed": row.collapsed,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
                "id": id_,
                "panels": [],
                "title": row.title,
                "type": "row",
            }
            if row.repeat:
                heading["repeat"] = row.repeat
            id_, y = id_ + 1, y + 1
            panels, end = _flow(row.panels, id_, y)
            id_ += len(panels)
            if row.collapsed:  # the row holds them, and takes no room for them
                laid.append({**heading, "panels": panels})
            else:
                laid += [heading, *panels]
                y = end
        return laid


def _flow(panels: tuple[Panel, ...], first_id: int, top: int) -> tuple[list[Json], int]:
    """Lay panels from left to right, line by line; return them and the row below."""
    laid: list[Json] = []
    x, y, height = 0, top, 0
    for id_, panel in enumerate(panels, first_id):
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        laid.append(panel.to_json(id_, x, y))
        x, height = x + panel.width, max(height, panel.height)
    return laid, y + height
