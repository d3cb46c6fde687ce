"""Declarative configuration: a file becomes the text of the variables that say the same.

So one set of parsers checks both, and nothing behind `load()` knows that there are files. What a
file can say and no variable can is refused by name.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from otel_pipeline.config import _parse
from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["translate"]

_LOADER = "opentelemetry.configuration.file._loader"
_INSTALL = 'pip install "otel-pipeline[config-file]"'
_TLS = {
    "ca_file": "CERTIFICATE",
    "cert_file": "CLIENT_CERTIFICATE",
    "key_file": "CLIENT_KEY",
    "insecure": "INSECURE",
}
_LIMITS = {
    "attribute_count_limit": "{}ATTRIBUTE_COUNT_LIMIT",
    "attribute_value_length_limit": "{}ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "event_count_limit": "SPAN_EVENT_COUNT_LIMIT",
    "link_count_limit": "SPAN_LINK_COUNT_LIMIT",
    "event_attribute_count_limit": "EVENT_ATTRIBUTE_COUNT_LIMIT",
    "link_attribute_count_limit": "LINK_ATTRIBUTE_COUNT_LIMIT",
}
_BATCH = {
    "schedule_delay": "SCHEDULE_DELAY",
    "export_timeout": "EXPORT_TIMEOUT",
    "max_queue_size": "MAX_QUEUE_SIZE",
    "max_export_batch_size": "MAX_EXPORT_BATCH_SIZE",
}
_DETECTORS = {"service": "service_instance"}
# What a parent-based sampler does where the file says nothing, and all that it can do here.
_PARENT_DEFAULTS = {
    "remote_parent_sampled": "always_on",
    "remote_parent_not_sampled": "always_off",
    "local_parent_sampled": "always_on",
    "local_parent_not_sampled": "always_off",
}


def translate(path: str) -> dict[str, str]:
    """Return what a file of declarative configuration says, as texts of variables.

    Args:
        path: A YAML or JSON file. Its `${VARIABLE}` are taken from the environment of the process.

    Returns:
        The texts by variable. A signal without a provider in the file is `none`.

    Raises:
        ConfigurationError: It cannot be read, or says what no variable can; the message goes
            behind the name of the file.
    """
    translation = _Translation()
    translation.document(_read(path))
    if translation.problems:
        raise ConfigurationError(f"cannot be used here: {'; '.join(translation.problems)}")
    return translation.texts


def _read(path: str) -> Any:
    try:
        from opentelemetry.configuration import (  # noqa: PLC0415 - optional
            ConfigurationError as FileError,
        )
        from opentelemetry.configuration import load_config_file  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(f"needs a package that is missing ({error}): {_INSTALL}") from None
    try:
        with _silenced(_LOADER):
            return load_config_file(path)
    except (FileError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot be read: {_without_values(error)}") from error


def _without_values(error: Exception) -> str:
    """Return the message of the loader without what stands in the file, as it may be a secret."""
    invalid = getattr(error.__cause__, "instance", None)
    return str(error).replace(repr(invalid), "what is there")


@contextmanager
def _silenced(logger: str) -> Iterator[None]:
    """Keep a logger quiet: what the loader logs, it also raises."""
    loud = logging.getLogger(logger)
    was, loud.disabled = loud.disabled, True
    try:
        yield
    finally:
        loud.disabled = was


def _is(value: object, expected: object) -> bool:
    return (value.value if isinstance(value, Enum) else value) == expected


class _Translation:
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.problems: list[str] = []

    def document(self, file: Any) -> None:
        """Translate a whole file."""
        self._put("SDK_DISABLED", file.disabled)
        self._resource(file.resource)
        self._limits(file.attribute_limits, "attribute_limits", "")
        self._propagator(file.propagator)
        self._tracer_provider(file.tracer_provider)
        self._meter_provider(file.meter_provider)
        self._logger_provider(file.logger_provider)
        # The rest (log_level, instrumentation, distribution) speaks to others than us.
        self._refuse_unknown("", file)

    def _put(self, name: str, value: object) -> None:
        if value is None:
            return
        if isinstance(value, bool):
            value = "true" if value else "false"
        text = str(value.value if isinstance(value, Enum) else value)
        if self.texts.setdefault(f"OTEL_{name}", text) != text:
            self.problems.append(f"it has several values for OTEL_{name}, which can only be one")

    def _refuse(self, path: str, model: Any, *known: str, **accepted: object) -> None:
        """Complain about each part of a model that is neither known nor set as accepted."""
        for field in fields(model):
            value = getattr(model, field.name)
            if value is None or field.name in known:
                continue
            if field.name not in accepted or not _is(value, accepted[field.name]):
                name = field.name.replace("_development", "/development")
                self.problems.append(f"{path}.{name} is not supported")
        self._refuse_unknown(path, model)

    def _refuse_unknown(self, path: str, model: Any) -> None:
        for name in getattr(model, "additional_properties", ()):
            self.problems.append(f"{path}.{name}".lstrip(".") + " is not supported")

    def _pairs(self, path: str, text: str | None) -> dict[str, object]:
        try:
            return dict(_parse.pairs(text or ""))
        except ValueError as error:
            self.problems.append(f"{path} {error}")
            return {}

    def _resource(self, resource: Any) -> None:
        if resource is None:
            return
        self._refuse("resource", resource, "attributes", "attributes_list", "detection_development")
        attributes = self._pairs("resource.attributes_list", resource.attributes_list)
        for attribute in resource.attributes or ():
            if isinstance(attribute.value, list):
                self.problems.append(
                    f"resource.attributes {attribute.name}: a list is not supported"
                )
            elif attribute.value is not None:
                attributes[attribute.name] = attribute.value
        self._put("RESOURCE_ATTRIBUTES", _parse.encode_pairs(attributes) or None)
        detection = resource.detection_development
        if detection is not None:
            self._refuse("resource.detection/development", detection, "detectors")
            names = [name for detector in detection.detectors or () for name in _chosen(detector)]
            names = [_DETECTORS.get(name, name) for name in names]
            self._put("EXPERIMENTAL_RESOURCE_DETECTORS", ",".join(names) or None)

    def _limits(self, limits: Any, path: str, prefix: str) -> None:
        if limits is not None:
            self._refuse(path, limits, *_LIMITS)
            for field, name in _LIMITS.items():
                self._put(name.format(prefix), getattr(limits, field, None))

    def _propagator(self, propagator: Any) -> None:
        names: list[str] = []
        if propagator is not None:
            names += [name for entry in propagator.composite or () for name in _chosen(entry)]
            names += (propagator.composite_list or "").split(",")
        self._put("PROPAGATORS", ",".join(name for name in names if name) or "none")

    def _tracer_provider(self, provider: Any) -> None:
        if provider is None:
            self._put("TRACES_EXPORTER", "none")
            return
        path = "tracer_provider"
        self._refuse(path, provider, "processors", "limits", "sampler")
        self._limits(provider.limits, f"{path}.limits", "SPAN_")
        self._processors("traces", "BSP", path, provider.processors)
        if provider.sampler is not None:
            self._sampler(f"{path}.sampler", provider.sampler, "")

    def _logger_provider(self, provider: Any) -> None:
        if provider is None:
            self._put("LOGS_EXPORTER", "none")
            return
        path = "logger_provider"
        self._refuse(path, provider, "processors", "limits")
        self._limits(provider.limits, f"{path}.limits", "LOGRECORD_")
        self._processors("logs", "BLRP", path, provider.processors)

    def _processors(self, signal: str, prefix: str, path: str, processors: Any) -> None:
        exporters: list[str] = []
        for index, processor in enumerate(processors):
            here = f"{path}.processors[{index}]"
            self._refuse(here, processor, "batch", "simple")
            chosen = processor.batch or processor.simple
            if chosen is not None:
                self._refuse(here, chosen, "exporter", *_BATCH)
                exporters += self._exporter(signal, f"{here}.exporter", chosen.exporter)
            for field, name in _BATCH.items():
                self._put(f"{prefix}_{name}", getattr(processor.batch, field, None))
        if not any(processor.batch for processor in processors):
            # A simple processor sends each item by itself; here it does so in the background.
            self._put(f"{prefix}_MAX_EXPORT_BATCH_SIZE", "1")
        self._exporters(signal, path, exporters)

    def _sampler(self, path: str, sampler: Any, prefix: str) -> None:
        self._refuse(
            path, sampler, "always_on", "always_off", "trace_id_ratio_based", "parent_based"
        )
        if sampler.parent_based is not None:
            self._parent_based(f"{path}.parent_based", sampler.parent_based, prefix)
        elif sampler.trace_id_ratio_based is not None:
            self._put("TRACES_SAMPLER", f"{prefix}traceidratio")
            self._put("TRACES_SAMPLER_ARG", sampler.trace_id_ratio_based.ratio)
        else:
            for name in _chosen(sampler):
                self._put("TRACES_SAMPLER", f"{prefix}{name}")

    def _parent_based(self, path: str, sampler: Any, prefix: str) -> None:
        for field, default in _PARENT_DEFAULTS.items():
            child = getattr(sampler, field)
            if child is not None and _chosen(child) != [default]:
                self.problems.append(f"{path}.{field} can only be {default}")
        if prefix or sampler.root is None:
            self.problems.append(f"{path} needs a root that is not parent_based itself")
        else:
            self._sampler(f"{path}.root", sampler.root, "parentbased_")

    def _meter_provider(self, provider: Any) -> None:
        if provider is None:
            self._put("METRICS_EXPORTER", "none")
            return
        self._refuse("meter_provider", provider, "readers", "exemplar_filter")
        self._put("METRICS_EXEMPLAR_FILTER", provider.exemplar_filter)
        exporters: list[str] = []
        for index, reader in enumerate(provider.readers):
            path = f"meter_provider.readers[{index}]"
            if reader.pull is not None:
                exporters += self._pull(f"{path}.pull", reader.pull)
            if reader.periodic is not None:
                exporters += self._periodic(f"{path}.periodic", reader.periodic)
        self._exporters("metrics", "meter_provider", exporters)

    def _pull(self, path: str, reader: Any) -> list[str]:
        self._refuse(path, reader, "exporter")
        self._refuse(f"{path}.exporter", reader.exporter, "prometheus_development")
        prometheus = reader.exporter.prometheus_development
        if prometheus is None:
            return []
        self._refuse(
            f"{path}.exporter.prometheus/development",
            prometheus,
            "host",
            "port",
            scope_info_enabled=False,
            target_info_enabled_development=True,
            translation_strategy="underscore_escaping_with_suffixes",
        )
        self._put("EXPORTER_PROMETHEUS_HOST", prometheus.host)
        self._put("EXPORTER_PROMETHEUS_PORT", prometheus.port)
        return ["prometheus"]

    def _periodic(self, path: str, reader: Any) -> list[str]:
        self._refuse(path, reader, "exporter", "interval", "timeout")
        self._put("METRIC_EXPORT_INTERVAL", reader.interval)
        self._put("METRIC_EXPORT_TIMEOUT", reader.timeout)
        return self._exporter("metrics", f"{path}.exporter", reader.exporter)

    def _exporters(self, signal: str, path: str, exporters: list[str]) -> None:
        if len(set(exporters)) < len(exporters):
            self.problems.append(f"{path} can have one exporter of each kind")
        self._put(f"{signal.upper()}_EXPORTER", ",".join(exporters) or "none")

    def _exporter(self, signal: str, path: str, exporter: Any) -> list[str]:
        self._refuse(path, exporter, "otlp_http", "otlp_grpc", "console")
        if exporter.otlp_http is not None:
            self._otlp(signal, f"{path}.otlp_http", exporter.otlp_http, "http/protobuf")
            return ["otlp"]
        if exporter.otlp_grpc is not None:
            self._otlp(signal, f"{path}.otlp_grpc", exporter.otlp_grpc, "grpc")
            return ["otlp"]
        if exporter.console is None:
            return []
        if is_dataclass(exporter.console):  # only that of metrics has settings
            self._refuse(
                f"{path}.console",
                exporter.console,
                temporality_preference="cumulative",
                default_histogram_aggregation="explicit_bucket_histogram",
            )
        return ["console"]

    def _otlp(self, signal: str, path: str, exporter: Any, protocol: str) -> None:
        prefix = f"EXPORTER_OTLP_{signal.upper()}"
        self._refuse(
            path,
            exporter,
            "endpoint",
            "headers",
            "headers_list",
            "compression",
            "timeout",
            "tls",
            "temporality_preference",
            "default_histogram_aggregation",
            encoding="protobuf",
        )
        self._put(f"{prefix}_PROTOCOL", protocol)
        self._put(f"{prefix}_ENDPOINT", exporter.endpoint)
        self._put(f"{prefix}_COMPRESSION", exporter.compression)
        if exporter.timeout is not None:
            self._put(f"{prefix}_TIMEOUT", exporter.timeout / 1000)  # the file's is in ms
        headers = self._pairs(f"{path}.headers_list", exporter.headers_list)
        headers |= {header.name: header.value or "" for header in exporter.headers or ()}
        self._put(f"{prefix}_HEADERS", _parse.encode_pairs(headers) or None)
        for field, name in _TLS.items():
            self._put(f"{prefix}_{name}", getattr(exporter.tls, field, None))
        temporality = getattr(exporter, "temporality_preference", None)
        if temporality is not None:
            self._put(f"{prefix}_TEMPORALITY_PREFERENCE", temporality.value.replace("_", ""))
        histogram = getattr(exporter, "default_histogram_aggregation", None)
        self._put(f"{prefix}_DEFAULT_HISTOGRAM_AGGREGATION", histogram)


def _chosen(model: Any) -> list[str]:
    """Return the names of the components that a model selects."""
    known = [field.name for field in fields(model) if getattr(model, field.name) is not None]
    return [*known, *getattr(model, "additional_properties", ())]
