"""Samplers by their names in `OTEL_TRACES_SAMPLER`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    TraceIdRatioBased,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import (
        Sampler,
    )

    from otel_pipeline.config import Config

__all__ = ["make_sampler"]


def make_sampler(config: Config) -> Sampler:
    """Return the sampler that `config` names."""
    name = config.sampler.removeprefix("parentbased_")
    root: Sampler
    if name == "always_off":
        root = ALWAYS_OFF
    elif name == "traceidratio":
        root = TraceIdRatioBased(config.sampler_arg)
    else:
        root = ALWAYS_ON
    return ParentBased(root) if config.sampler.startswith("parentbased_") else root
