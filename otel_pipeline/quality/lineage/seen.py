"""What stages observe of datasets, as a part of their lineage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from otel_pipeline.quality.lineage.model import Assertion
from otel_pipeline.quality.lineage.stages import observed

if TYPE_CHECKING:
    from otel_pipeline.pipeline import Stage
    from otel_pipeline.quality import ColumnProfile
    from otel_pipeline.quality.report import Observed

__all__ = ["seen"]

#: OpenLineage's words for how much a check matters.
_SEVERITIES = {"critical": "error", "warning": "warn"}


def seen(stage: Stage, what: Observed) -> None:
    """Add what a stage observed of a dataset to its lineage; never raises.

    Args:
        stage: The stage, which is open.
        what: What was observed. Of data that were not seen to the end only the rows are told.
    """
    profile = what.profile if what.complete else None
    columns = {check.name: list(check.about()) for check in what.dataset.checks}
    observed(
        stage,
        what.dataset.name,
        rows=what.rows,
        schema=None if profile is None else profile.schema,
        metrics=None
        if profile is None
        else {name: _metrics(column) for name, column in profile.columns.items()},
        assertions=[
            Assertion(
                one.kind,
                one.result == "pass",
                about[0] if len(about := columns.get(one.check, [])) == 1 else None,
                _SEVERITIES.get(one.severity),
                one.check,
                one.message,
            )
            for one in what.results
        ],
    )


def _metrics(column: ColumnProfile) -> dict[str, float]:
    """Return the numbers of a column; its texts and dates are values of the data."""
    found: dict[str, Any] = {
        "nullCount": column.null_count,
        "distinctCount": column.distinct,
        "count": column.rows - column.null_count,
        "min": column.min,
        "max": column.max,
        "mean": column.mean,
        "std": column.std,
        "median": column.quantile(0.5),
    }
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
