"""Grafana's dashboards as code, made from the vocabulary.

`otel-pipeline dashboards` writes them. A dashboard is a frozen value; `to_json()` is what Grafana
reads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from otel_pipeline.dashboards.cost import COST
from otel_pipeline.dashboards.detail import STAGES
from otel_pipeline.dashboards.health import HEALTH
from otel_pipeline.dashboards.model import Dashboard, Panel, Query, Row
from otel_pipeline.dashboards.overview import OVERVIEW
from otel_pipeline.dashboards.own import Instrument, instruments_of, own_dashboard
from otel_pipeline.dashboards.quality import QUALITY
from otel_pipeline.dashboards.runs import RUNS_AND_FRESHNESS
from otel_pipeline.dashboards.slo import OBJECTIVES

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DASHBOARDS",
    "PROVISIONING",
    "Dashboard",
    "Instrument",
    "Panel",
    "Query",
    "Row",
    "files",
    "instruments_of",
    "own_dashboard",
]

#: Every dashboard of the library, in the order in which one reads them.
DASHBOARDS: Final = (OVERVIEW, STAGES, RUNS_AND_FRESHNESS, QUALITY, OBJECTIVES, HEALTH, COST)

#: Where the provisioning file goes, and where Grafana finds the dashboards by default.
PROVISIONING: Final = "provisioning/dashboards/otel-pipeline.yaml"
FOLDER: Final = "/etc/grafana/dashboards"

_PROVISIONING_FILE: Final = """\
# Dashboards are the files in {folder}. Grafana shows them in one folder and sees
# changes of the files; changes that are made in Grafana are not kept, as the files are the truth.
apiVersion: 1
providers:
  - name: otel-pipeline
    folder: Pipelines
    folderUid: otel-pipeline
    type: file
    allowUiUpdates: false
    disableDeletion: true
    updateIntervalSeconds: 30
    options:
      path: {folder}
      foldersFromFilesStructure: false
"""


def files(dashboards: Iterable[Dashboard] = DASHBOARDS, *, folder: str = FOLDER) -> dict[str, str]:
    """Return the files of dashboards and of their provisioning.

    Args:
        dashboards: Which ones.
        folder: Where Grafana will find the folder `dashboards`.

    Returns:
        Their texts by their paths, which are relative to Grafana's folder.

    Example:
        >>> from otel_pipeline.dashboards import files
        >>> sorted(files())[0]
        'dashboards/otel-pipeline-cost.json'
    """
    texts = {
        f"dashboards/{dashboard.uid}.json": json.dumps(dashboard.to_json(), indent=2) + "\n"
        for dashboard in dashboards
    }
    # JSON's strings are YAML's, whatever is in them.
    quoted = folder if folder == FOLDER else json.dumps(folder)
    return {**texts, PROVISIONING: _PROVISIONING_FILE.format(folder=quoted)}
