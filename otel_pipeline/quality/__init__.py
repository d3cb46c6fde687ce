"""Data quality: what a data set looks like, and whether it is as one wants it.

The module itself needs no data library; the names in it are loaded when they are first used, and
need the extra `otel-pipeline[quality]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_pipeline.quality.checks import (
        Between,
        Check,
        CheckResult,
        Freshness,
        InSet,
        Matches,
        NotNull,
        References,
        Row,
        SameAs,
        Schema,
        Sql,
        Unique,
        Volume,
    )
    from otel_pipeline.quality.checks.evaluation import check
    from otel_pipeline.quality.datasets import Dataset, register
    from otel_pipeline.quality.declarations import load
    from otel_pipeline.quality.detector import anomaly_scores
    from otel_pipeline.quality.history import History, SqliteHistory
    from otel_pipeline.quality.monitors import Finding, Monitor, Monitors, Verdict
    from otel_pipeline.quality.profiles import ColumnProfile, Profile, Profiler, profile
    from otel_pipeline.quality.prometheus_history import PrometheusHistory

__all__ = [
    "Between",
    "Check",
    "CheckResult",
    "ColumnProfile",
    "Dataset",
    "Finding",
    "Freshness",
    "History",
    "InSet",
    "Matches",
    "Monitor",
    "Monitors",
    "NotNull",
    "Profile",
    "Profiler",
    "PrometheusHistory",
    "References",
    "Row",
    "SameAs",
    "Schema",
    "Sql",
    "SqliteHistory",
    "Unique",
    "Verdict",
    "Volume",
    "anomaly_scores",
    "check",
    "load",
    "profile",
    "register",
]

#: Where each name is, and what it is loaded from when it is first used.
_LAZY = {
    "Between": "otel_pipeline.quality.checks",
    "Check": "otel_pipeline.quality.checks",
    "CheckResult": "otel_pipeline.quality.checks",
    "ColumnProfile": "otel_pipeline.quality.profiles",
    "Dataset": "otel_pipeline.quality.datasets",
    "Finding": "otel_pipeline.quality.monitors",
    "Freshness": "otel_pipeline.quality.checks",
    "History": "otel_pipeline.quality.history",
    "InSet": "otel_pipeline.quality.checks",
    "Matches": "otel_pipeline.quality.checks",
    "Monitor": "otel_pipeline.quality.monitors",
    "Monitors": "otel_pipeline.quality.monitors",
    "NotNull": "otel_pipeline.quality.checks",
    "Profile": "otel_pipeline.quality.profiles",
    "Profiler": "otel_pipeline.quality.profiles",
    "PrometheusHistory": "otel_pipeline.quality.prometheus_history",
    "References": "otel_pipeline.quality.checks",
    "Row": "otel_pipeline.quality.checks",
    "SameAs": "otel_pipeline.quality.checks",
    "Schema": "otel_pipeline.quality.checks",
    "Sql": "otel_pipeline.quality.checks",
    "SqliteHistory": "otel_pipeline.quality.history",
    "Unique": "otel_pipeline.quality.checks",
    "Verdict": "otel_pipeline.quality.monitors",
    "Volume": "otel_pipeline.quality.checks",
    "anomaly_scores": "otel_pipeline.quality.detector",
    "check": "otel_pipeline.quality.checks.evaluation",
    "load": "otel_pipeline.quality.declarations",
    "profile": "otel_pipeline.quality.profiles",
    "register": "otel_pipeline.quality.datasets",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        message = f"module 'otel_pipeline.quality' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib  # noqa: PLC0415

    try:
        value = getattr(importlib.import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("otel_pipeline"):
            raise
        raise ConfigurationError(
            f"otel_pipeline.quality.{name} needs {error.name}, which is not installed: "
            "pip install 'otel-pipeline[quality]'"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
