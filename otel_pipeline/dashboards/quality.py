"""Data quality: is the data there, is it new, and does it look as it always did?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.dashboards.model import PROMETHEUS, Choice, Dashboard, Query, Row
from otel_pipeline.dashboards.panels import bars, lines, number
from otel_pipeline.dashboards.parts import bad_from, values_of
from otel_pipeline.dashboards.promql import (
    ANY,
    RANGE,
    increase,
    largest,
    one_of,
    or_zero,
    rate,
    ratio,
    selector,
    sum_by,
    variable,
)
from otel_pipeline.semconv import (
    DATASET_ANOMALY_SCORE,
    DATASET_CHECKS,
    DATASET_COLUMN_DISTINCT_RATIO,
    DATASET_COLUMN_NULL_RATIO,
    DATASET_COLUMN_VALUE,
    DATASET_FRESHNESS_LIMIT,
    DATASET_LAST_ROWS,
    DATASET_LAST_UPDATE,
    DATASET_ROWS,
    DATASET_SCHEMA_CHANGES,
)

if TYPE_CHECKING:
    from otel_pipeline.semconv import MetricSpec

__all__ = ["QUALITY"]

_DATASET = Choice(
    "dataset",
    "Dataset",
    values_of(DATASET_LAST_ROWS, "dataset"),
    "Datasets that were seen in this time.",
    ANY,
)
_CHOSEN = variable("dataset")
_BY = ("dataset",)
_COLUMN = ("dataset", "column")
_FAILED = one_of("result", ["fail", "error"])


def _known(metric: MetricSpec) -> str:
    """Return what was seen last, also by a job that has ended."""
    return f"last_over_time({selector(metric, _CHOSEN)}[{RANGE}])"


_AGE = f"time() - {largest(_BY, _known(DATASET_LAST_UPDATE))}"
_STALE = ratio(f"({_AGE})", largest(_BY, _known(DATASET_FRESHNESS_LIMIT)))
_SCORE = largest(("dataset", "metric"), _known(DATASET_ANOMALY_SCORE))

_NOW = Row(
    "Now",
    (
        number(
            "Datasets",
            "Datasets that were seen in the time shown.",
            Query(or_zero(f"count({largest(_BY, _known(DATASET_LAST_ROWS))})"), instant=True),
            width=6,
        ),
        number(
            "Datasets with failed checks",
            "Datasets of which a check failed, or could not be made, in the time shown.",
            Query(
                or_zero(
                    "count("
                    + sum_by(_BY, increase(selector(DATASET_CHECKS, _FAILED, _CHOSEN)))
                    + " > 0)"
                ),
                instant=True,
            ),
            thresholds=bad_from(1),
            width=6,
        ),
        number(
            "Stale datasets",
            "Datasets whose newest data is older than their limit.",
            Query(or_zero(f"count({_STALE} > 1)"), instant=True),
            thresholds=bad_from(1),
            width=6,
        ),
        number(
            "Anomalous datasets",
            "Datasets with a score above 1: unlike what their history lets expect.",
            Query(or_zero(f"count(max by (dataset) ({_SCORE}) > 1)"), instant=True),
            thresholds=bad_from(1),
            width=6,
        ),
    ),
)

_FRESH = Row(
    "Freshness and volume",
    (
        bars(
            "Age of the newest data, of the limit",
            "Above 100 % a dataset is stale. Only datasets with a limit.",
            Query(_STALE, "{{dataset}}", instant=True),
            unit="percentunit",
            minimum=0,
            maximum=1.5,
            thresholds=bad_from(1, warn=0.8),
            width=8,
            no_value="no dataset has a limit",
        ),
        lines(
            "Age of the newest data",
            "It falls when new data comes.",
            Query(_AGE, "{{dataset}}"),
            unit="s",
            width=8,
        ),
        lines(
            "Rows when last seen",
            "A dataset that suddenly has far fewer rows has lost a part.",
            Query(largest(_BY, _known(DATASET_LAST_ROWS)), "{{dataset}}"),
            width=8,
        ),
        lines(
            "Rows per second",
            "Rows that each dataset was seen with.",
            Query(sum_by(_BY, rate(selector(DATASET_ROWS, _CHOSEN))), "{{dataset}}"),
            unit="rowsps",
        ),
        lines(
            "Anomaly scores",
            "Above 1 a dataset is unlike its history, in its rows, freshness, schema or a column.",
            Query(_SCORE, "{{dataset}}: {{metric}}"),
            thresholds=bad_from(1),
        ),
    ),
)

_CHECKS = Row(
    "Checks and schema",
    (
        lines(
            "Checks per second by result",
            "Checks that passed, failed, or could not be made.",
            Query(
                sum_by(("dataset", "result"), rate(selector(DATASET_CHECKS, _CHOSEN))),
                "{{dataset}}: {{result}}",
            ),
            unit="ops",
            stacked=True,
            width=8,
        ),
        bars(
            "Failed checks",
            "The ten checks that failed most in the time shown.",
            Query(
                "topk(10, "
                + sum_by(
                    ("dataset", "check"),
                    increase(selector(DATASET_CHECKS, _FAILED, _CHOSEN)),
                )
                + " > 0)",
                "{{dataset}}: {{check}}",
                instant=True,
            ),
            minimum=0,
            thresholds=bad_from(1),
            width=8,
            no_value="none failed",
        ),
        bars(
            "Changes of schemas",
            "Columns that came, went, changed their type or their place, in the time shown.",
            Query(
                sum_by(("dataset", "kind"), increase(selector(DATASET_SCHEMA_CHANGES, _CHOSEN)))
                + " > 0",
                "{{dataset}}: {{kind}}",
                instant=True,
            ),
            minimum=0,
            thresholds=bad_from(1),
            width=8,
            no_value="none",
        ),
    ),
)

_COLUMNS = Row(
    "Columns",
    (
        lines(
            "Nulls",
            "The share of a column's values that are null.",
            Query(largest(_COLUMN, _known(DATASET_COLUMN_NULL_RATIO)), "{{dataset}}.{{column}}"),
            unit="percentunit",
            maximum=1,
            width=8,
        ),
        lines(
            "Distinct values",
            "Distinct values for each value that is not null. A key has 100 %.",
            Query(
                largest(_COLUMN, _known(DATASET_COLUMN_DISTINCT_RATIO)), "{{dataset}}.{{column}}"
            ),
            unit="percentunit",
            maximum=1,
            width=8,
        ),
        lines(
            "Statistics",
            "Mean, quantiles and bounds of numeric columns.",
            Query(
                largest((*_COLUMN, "stat"), _known(DATASET_COLUMN_VALUE)),
                "{{dataset}}.{{column}} {{stat}}",
            ),
            minimum=None,
            width=8,
        ),
    ),
)

QUALITY = Dashboard(
    "otel-pipeline-quality",
    "Pipelines: data quality",
    "Freshness, volume, checks, schema and columns of the datasets that stages observed.",
    (PROMETHEUS, _DATASET),
    (_NOW, _FRESH, _CHECKS, _COLUMNS),
    start="now-2d",
    refresh="1m",
)
