"""The resource: which service, process and host telemetry comes from."""

from __future__ import annotations

import os
import platform
import socket
import sys
import uuid
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from otel_pipeline.config import Config

__all__ = ["make_resource"]


def make_resource(config: Config) -> Resource:
    """Return the resource of this process.

    What was configured wins over what is detected. The command line is left out: it may hold
    secrets.
    """
    detected: dict[str, AttributeValue] = {
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
        "service.instance.id": str(uuid.uuid4()),
    }
    # Resource.create adds the SDK's own attributes and runs OTEL_EXPERIMENTAL_RESOURCE_DETECTORS.
    return Resource.create({**detected, **config.resource_attributes})
