"""Every exception that the library raises.

```text
OtelPipelineError
├── ConfigurationError          a setting that cannot be used (also a ValueError)
├── MetricError                 a metric used or declared wrongly (also a ValueError)
│   ├── MetricNameError         a metric or label name that Prometheus cannot carry
│   ├── DuplicateMetricError    one name declared twice with different shapes
│   └── LabelError              wrong label names or a wrong number of label values
├── DataQualityError            data failed a check that is declared to stop the pipeline
├── ProfileError                data that cannot be profiled (also a ValueError)
├── CommandError                a command of `otel-pipeline` that cannot go on
└── CaptureError                a misuse of `otel_pipeline.testing`
```

Only programming and configuration errors are raised, and what a check of data asks for. A failure
of telemetry itself never is: it is said once on stderr and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_pipeline.quality.checks import CheckResult

__all__ = [
    "CaptureError",
    "CommandError",
    "ConfigurationError",
    "DataQualityError",
    "DuplicateMetricError",
    "LabelError",
    "MetricError",
    "MetricNameError",
    "OtelPipelineError",
    "ProfileError",
]


class OtelPipelineError(Exception):
    """Base of every exception of the library."""


class ConfigurationError(OtelPipelineError, ValueError):
    """A setting cannot be used: says which, its value, what is allowed and what to do."""


class MetricError(OtelPipelineError, ValueError):
    """A metric was declared or used wrongly; a `ValueError`, as prometheus_client raises."""


class MetricNameError(MetricError):
    """A metric or label name that Prometheus cannot carry."""


class DuplicateMetricError(MetricError):
    """One metric name was declared twice with a different type, labels, unit or buckets."""


class LabelError(MetricError):
    """Wrong label names, or a wrong number of label values."""


class DataQualityError(OtelPipelineError):
    """Data failed a check with `on_fail="break"`, so the pipeline stops before the next stage.

    Args:
        dataset: Name of the dataset.
        results: The checks that stop the pipeline, as they ended.

    Attributes:
        dataset: Name of the dataset.
        results: The checks that stop the pipeline.
    """

    def __init__(self, dataset: str, results: Sequence[CheckResult]) -> None:
        super().__init__(dataset, results)
        self.dataset = dataset
        self.results = tuple(results)

    def __str__(self) -> str:
        told = "; ".join(f"{one.check}: {one.message}" for one in self.results)
        return f"dataset {self.dataset!r} stops the pipeline: {told}"


class ProfileError(OtelPipelineError, ValueError):
    """Data cannot be profiled; the message names the column, and never a value."""


class CommandError(OtelPipelineError):
    """A command cannot go on; the message says why and what to do."""


class CaptureError(OtelPipelineError):
    """`otel_pipeline.testing` was used in a way that cannot work."""
