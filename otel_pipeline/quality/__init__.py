"""Data quality: monitors that learn what is normal for a dataset."""

from __future__ import annotations

from otel_pipeline.quality.detector import anomaly_scores
from otel_pipeline.quality.history import History, SqliteHistory
from otel_pipeline.quality.monitors import Finding, Monitor, Monitors, Verdict

__all__ = [
    "Finding",
    "History",
    "Monitor",
    "Monitors",
    "SqliteHistory",
    "Verdict",
    "anomaly_scores",
]
