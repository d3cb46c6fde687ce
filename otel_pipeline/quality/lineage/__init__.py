"""Lineage: which datasets stages read and write, told to spans, OpenLineage and a local record."""

from __future__ import annotations

from otel_pipeline.quality.lineage.model import Assertion, DatasetUse, JobRun, ParentRun
from otel_pipeline.quality.lineage.names import DatasetName, JobName, identify, run_uuid
from otel_pipeline.quality.lineage.stages import observed

__all__ = [
    "Assertion",
    "DatasetName",
    "DatasetUse",
    "JobName",
    "JobRun",
    "ParentRun",
    "identify",
    "observed",
    "run_uuid",
]
