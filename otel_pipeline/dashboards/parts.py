"""What several dashboards share: variables, links, thresholds, queries of log lines."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from otel_pipeline.dashboards.model import LOKI, PROMETHEUS, TEMPO, Choice, Link, Threshold
from otel_pipeline.dashboards.promql import ANY, label, selector, variable
from otel_pipeline.semconv import PIPELINE_INFO, STAGE_RECORDS, Attr, LogField

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.dashboards.model import Source
    from otel_pipeline.semconv import MetricSpec

__all__ = [
    "DETAIL",
    "ERROR_LINES",
    "JOB",
    "OF_PIPELINE",
    "OF_STAGE",
    "PIPELINE",
    "RATIO",
    "ROW_LINKS",
    "STAGE",
    "TO_DETAIL",
    "TO_LINES",
    "TO_TRACES",
    "bad_from",
    "lines_of",
    "values_of",
    "warn_from",
]

DETAIL: Final = "otel-pipeline-detail"


def values_of(metric: MetricSpec | str, name: str, *matchers: str) -> str:
    """Return the query of a variable that holds the values of a label."""
    return f"label_values({selector(metric, *matchers)}, {label(name)})"


PIPELINE: Final = Choice(
    "pipeline",
    "Pipeline",
    values_of(PIPELINE_INFO, "pipeline"),
    "Pipelines that have started in this time.",
    ANY,
)
#: The matcher for the chosen pipelines.
OF_PIPELINE: Final = variable("pipeline")

STAGE: Final = Choice(
    "stage",
    "Stage",
    values_of(STAGE_RECORDS, "stage", OF_PIPELINE),
    "Stages of the chosen pipelines; each has a row of its own.",
)
OF_STAGE: Final = variable("stage")

JOB: Final = Choice(
    "job",
    "Job",
    values_of(PIPELINE_INFO, "job"),
    "Jobs of Prometheus in which pipelines are: a scrape job, or the service that pushes.",
)


def warn_from(value: float) -> tuple[Threshold, ...]:
    """Return a threshold that asks for attention."""
    return (Threshold(value, "orange"),)


def bad_from(value: float, *, warn: float | None = None) -> tuple[Threshold, ...]:
    """Return a threshold that says something is wrong, and one before it."""
    return (*(warn_from(warn) if warn is not None else ()), Threshold(value, "red"))


#: Settings of a panel that shows a share, from 0 to 100 %.
RATIO: Final[dict[str, Any]] = {"unit": "percentunit", "minimum": 0, "maximum": 1}

# --- Links ------------------------------------------------------------------------------------

_TIME: Final = {"from": "${__from}", "to": "${__to}"}


def _explore(source: Source, query: Mapping[str, str]) -> str:
    """Return the address of Grafana's *Explore* with a query; variables in it stay variables."""
    reference = source.reference
    pane = {
        "datasource": reference["uid"],
        "queries": [{"datasource": reference, "refId": "A", **query}],
        "range": _TIME,
    }
    panes = quote(json.dumps({"a": pane}, separators=(",", ":")), safe="${}:_.")
    # Braces that are JSON's, and not around a variable.
    panes = re.sub(r"(\$\{[\w.:]+\})|([{}:])", _encoded, panes)
    return f"/explore?schemaVersion=1&orgId=1&panes={panes}"


def _encoded(found: re.Match[str]) -> str:
    return found[1] or quote(found[2], safe="")


def _links(clicked: str) -> tuple[Link, Link, Link]:
    """Return links to the stages, traces and log lines of a pipeline.

    Args:
        clicked: What Grafana calls the name of the pipeline that was clicked.
    """
    shown, name = f"${{{clicked}}}", f"${{{clicked}:percentencode}}"
    traces = {"queryType": "traceql", "query": f"{{ span.{Attr.PIPELINE_NAME} = `{name}` }}"}
    lines = {"expr": f"{{service_name=~`.+`}} | {LogField.PIPELINE}=`{name}`"}
    sources = "".join(
        f"&var-{source.name}=${{{source.name}}}" for source in (PROMETHEUS, LOKI, TEMPO)
    )
    return (
        Link(
            f"Stages of {shown}",
            f"/d/{DETAIL}?var-pipeline={name}&from=${{__from}}&to=${{__to}}{sources}",
        ),
        Link(f"Traces of {shown}", _explore(TEMPO, traces)),
        Link(f"Log lines of {shown}", _explore(LOKI, lines)),
    )


#: From a series of a pipeline to what its stages do, its traces and its log lines.
TO_DETAIL, TO_TRACES, TO_LINES = _links("__field.labels.pipeline")
#: The same from a row of a table, whose column *Pipeline* has the name.
ROW_LINKS: Final = _links("__data.fields.Pipeline")

# --- Log lines --------------------------------------------------------------------------------

_ALL_LINES: Final = "{service_name=~`.+`}"
#: An OTLP record has its level in its severity; a line that an agent sent has it as a label.
ERROR_LINES: Final = f"severity_text=~`ERROR|FATAL` or {LogField.LEVEL}=~`error|critical`"


def lines_of(*filters: str) -> str:
    """Return the log lines of the chosen pipelines, in LogQL.

    Args:
        filters: What holds for them, besides.
    """
    return " | ".join([_ALL_LINES, OF_PIPELINE, *filters])
