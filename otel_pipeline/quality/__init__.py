"""Data quality: what a data set looks like, so that tomorrow's can be compared with it.

The module itself needs no data library; the names in it are loaded when they are first used, and
need the extra `otel-pipeline[quality]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from otel_pipeline.quality.detector import anomaly_scores
    from otel_pipeline.quality.history import History, SqliteHistory
    from otel_pipeline.quality.monitors import Finding, Monitor, Monitors, Verdict
    from otel_pipeline.quality.profiles import ColumnProfile, Profile, Profiler, profile

__all__ = [
    "ColumnProfile",
    "Finding",
    "History",
    "Monitor",
    "Monitors",
    "Profile",
    "Profiler",
    "SqliteHistory",
    "Verdict",
    "anomaly_scores",
    "profile",
]

#: Where each name is, and what it is loaded from when it is first used.
_LAZY = {
    "anomaly_scores": "otel_pipeline.quality.detector",
    "History": "otel_pipeline.quality.history",
    "SqliteHistory": "otel_pipeline.quality.history",
    "Finding": "otel_pipeline.quality.monitors",
    "Monitor": "otel_pipeline.quality.monitors",
    "Monitors": "otel_pipeline.quality.monitors",
    "Verdict": "otel_pipeline.quality.monitors",
    "ColumnProfile": "otel_pipeline.quality.profiles",
    "Profile": "otel_pipeline.quality.profiles",
    "Profiler": "otel_pipeline.quality.profiles",
    "profile": "otel_pipeline.quality.profiles",
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
