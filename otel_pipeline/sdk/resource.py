"""The resource: which service, process and host telemetry comes from."""

from __future__ import annotations

import os
import platform
import socket
import sys
import uuid
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, cast

from opentelemetry.sdk.resources import Resource, get_aggregated_resources

from otel_pipeline.diagnostics import warn_once

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import ResourceDetector
    from opentelemetry.util.types import AttributeValue

    from otel_pipeline.config import Config
    from otel_pipeline.redaction import Redactor

__all__ = ["make_resource", "of_forked_child"]

#: The detector of what `Config.resource_attributes` already holds.
_BUILT_IN = "otel"


def make_resource(config: Config, redactor: Redactor) -> Resource:
    """Return the resource of this process, without secrets.

    What was configured wins over what is detected. The command line is left out unless the detector
    `process` is asked for: it may hold secrets.
    """
    basics: dict[str, AttributeValue] = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": version("opentelemetry-sdk"),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
        "service.instance.id": str(uuid.uuid4()),
    }
    detected = get_aggregated_resources(_detectors(config), Resource(basics))
    merged = detected.merge(Resource(dict(config.resource_attributes)))
    return Resource(
        cast("dict[str, AttributeValue]", redactor.mapping(merged.attributes)), merged.schema_url
    )


def of_forked_child(parent: Resource) -> Resource:
    """Return the resource of a child that was forked from the process with the resource `parent`.

    Its instance id is another one, as two processes that send values under one id would contradict
    each other; one that was configured is the beginning of the new one.
    """
    known = str(parent.attributes.get("service.instance.id", ""))
    instance = str(uuid.uuid4())
    try:
        uuid.UUID(known)
    except ValueError:
        instance = f"{known}-{instance[:8]}" if known else instance
    own: dict[str, AttributeValue] = {"service.instance.id": instance, "process.pid": os.getpid()}
    return parent.merge(Resource(own))


def _detectors(config: Config) -> list[ResourceDetector]:
    found = []
    for entry in entry_points(group="opentelemetry_resource_detector"):
        wanted = {entry.name, "*"} & set(config.resource_detectors)
        if not wanted or entry.name == _BUILT_IN:
            continue
        try:
            found.append(entry.load()())
        except Exception as error:  # noqa: BLE001  somebody else's plugin
            warn_once(
                f"detector:{entry.name}",
                "the resource detector %r of OTEL_EXPERIMENTAL_RESOURCE_DETECTORS failed: %r",
                entry.name,
                error,
            )
    return found
