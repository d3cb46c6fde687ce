"""From arguments, environment and file to one checked `Config`."""

from __future__ import annotations

import os
from collections import ChainMap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlunsplit

from otel_pipeline.config import _parse
from otel_pipeline.config._layers import (
    ATTRIBUTE_ARGUMENTS,
    argument_layer,
    default_layer,
    text_layer,
)
from otel_pipeline.config._model import (
    BatchConfig,
    Config,
    OtlpConfig,
    PushgatewayConfig,
    Setting,
    SignalConfig,
)
from otel_pipeline.config._options import LOCAL_DEFAULTS, OPTIONS, OTLP_FIELDS
from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_pipeline.config._layers import (
        Found,
        Layer,
        Problems,
    )

__all__ = ["Examined", "examine", "load"]

_PREFIX = "OTEL_PIPELINE_"
#: Variables of the programs that the library is tested with, not of the library.
_TEST_STACK = "OTEL_PIPELINE_STACK_"
_CONFIG_FILE = "OTEL_CONFIG_FILE"
_LOCAL = "OTEL_PIPELINE_LOCAL"
_MERGED = {"resource_attributes"}  # what is given as an argument is added to the variable's
_SERVICE_NAME = "service.name"
_SERVICE_VERSION = ATTRIBUTE_ARGUMENTS["version"]
_ENVIRONMENT = ATTRIBUTE_ARGUMENTS["environment"]
_OLD_ENVIRONMENT = "deployment.environment"
_DEFAULT_ENDPOINTS = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}

# Arguments of the SDK's SpanLimits and LogRecordLimits, and the options that they come from; of
# several the first that was set.
_SPAN_LIMITS = {
    "max_attributes": ("attribute_count_limit",),
    "max_attribute_length": ("attribute_value_length_limit",),
    "max_span_attributes": ("span_attribute_count_limit",),
    "max_span_attribute_length": ("span_attribute_value_length_limit",),
    "max_events": ("span_event_count_limit",),
    "max_links": ("span_link_count_limit",),
    "max_event_attributes": ("event_attribute_count_limit",),
    "max_link_attributes": ("link_attribute_count_limit",),
}
_LOG_LIMITS = {
    "max_attributes": ("logrecord_attribute_count_limit", "attribute_count_limit"),
    "max_attribute_length": (
        "logrecord_attribute_value_length_limit",
        "attribute_value_length_limit",
    ),
}


def load(environ: Mapping[str, str] | None = None, **arguments: object) -> Config:
    """Return the configuration.

    An argument goes before a variable `OTEL_*` or `OTEL_PIPELINE_*`, and that before the default.
    An empty variable counts as unset, and so does an argument that is None.

    Args:
        environ: The variables; by default those of the process.
        arguments: Values by the names that `OPTIONS` gives in `field` (`log_level="debug"`), and
            `environment` and `version` of the service. Lengths of time are in seconds, or text
            such as `"24h"`.

    Returns:
        The configuration, checked as a whole.

    Raises:
        ConfigurationError: Something cannot be used; the message has a line for each.

    Example:
        >>> from otel_pipeline.config import load
        >>> config = load({"OTEL_TRACES_EXPORTER": "otlp,console"}, service_name="orders")
        >>> config.service_name, config.traces.exporters
        ('orders', ('otlp', 'console'))
    """
    examined = examine(environ, **arguments)
    problems = list(examined.problems.values())
    if problems:
        lead = f"{len(problems)} settings cannot be used:\n  " if len(problems) > 1 else ""
        raise ConfigurationError(lead + "\n  ".join(problems))
    return examined.config


@dataclass(frozen=True, slots=True)
class Examined:
    """A configuration and what is wrong with it.

    Attributes:
        config: The configuration, with defaults in place of what cannot be used.
        problems: A message for each variable, or argument without one, that cannot be used.
    """

    config: Config
    problems: Mapping[str, str]


def examine(environ: Mapping[str, str] | None = None, **arguments: object) -> Examined:
    """Return the configuration together with everything that is wrong with it.

    For those who want to show the problems rather than fail. Telemetry that is switched off must
    not stop a program: with `OTEL_SDK_DISABLED=true` problems are only warnings.

    Args:
        environ: The variables; by default those of the process.
        arguments: As for `load`.

    Returns:
        The configuration with defaults in place of what cannot be used, and the problems.

    Example:
        >>> from otel_pipeline.config import examine
        >>> examined = examine({"OTEL_TRACES_EXPORTER": "oltp"})
        >>> print(examined.problems["OTEL_TRACES_EXPORTER"])
        OTEL_TRACES_EXPORTER='oltp' is not one of otlp, console, none; did you mean 'otlp'?
        >>> examined.config.traces.exporters
        ('otlp',)
    """
    environ = os.environ if environ is None else environ
    problems: Problems = {}
    given = argument_layer(arguments, problems)
    outer = _outer_layer(environ, given, problems)
    config = _Builder(outer, given, problems).build(_unknown_variables(environ))
    messages = {name: problem.message for name, problem in problems.items()}
    if not config.disabled:
        return Examined(config, messages)
    return Examined(replace(config, warnings=(*config.warnings, *messages.values())), {})


def _outer_layer(environ: Mapping[str, str], given: Layer, problems: Problems) -> Layer:
    """Return what the environment says, or what a configuration file says in its place.

    What an argument hides is not looked at, so that it cannot be wrong either.
    """
    hidden = {found.option.variable for field, found in given.items() if field not in _MERGED}
    texts = {variable: text for variable, text in environ.items() if variable not in hidden}
    file_text = {_CONFIG_FILE: texts.pop(_CONFIG_FILE, "")}
    file_layer = text_layer(file_text, "environment", problems)
    file = given.get("config_file") or file_layer.get("config_file")
    if file is None:
        return text_layer(texts, "environment", problems)
    # A file replaces the standard variables, as the specification has it; ours still hold.
    own = {variable: text for variable, text in texts.items() if variable.startswith(_PREFIX)}
    return {
        **file_layer,
        **text_layer(_file_texts(file, problems), "file", problems),
        **text_layer(own, "environment", problems),
    }


def _file_texts(file: Found, problems: Problems) -> Mapping[str, str]:
    # Needs optional packages, and those are not cheap to import.
    from otel_pipeline.config._file import translate  # noqa: PLC0415

    try:
        return translate(file.value)
    except ConfigurationError as error:
        problems[_CONFIG_FILE] = file.problem(str(error))
        return {}


def _unknown_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return a warning for each variable of our own that nobody reads."""
    own = [option.variable for option in OPTIONS if option.own]
    unknown = sorted(
        name
        for name in environ
        if name.startswith(_PREFIX) and not name.startswith(_TEST_STACK) and name not in own
    )
    return tuple(
        f"{name} is no variable of otel_pipeline{_parse.did_you_mean(name, own, _PREFIX)}"
        for name in unknown
    )


class _Builder:
    """Puts the layers together, and checks what depends on several settings."""

    def __init__(self, outer: Layer, given: Layer, problems: Problems) -> None:
        self._outer = outer
        self._given = given
        self._problems = problems
        self._defaults = default_layer()
        local: Layer = {}
        if ChainMap(given, outer, self._defaults)["local"].value:
            local = text_layer(LOCAL_DEFAULTS, _LOCAL, problems)
        self._all: Mapping[str, Found] = ChainMap(given, outer, local, self._defaults)
        self._settings = {found.option.variable: found.setting for found in self._all.values()}

    def build(self, warnings: tuple[str, ...]) -> Config:
        """Return the configuration; what cannot be used becomes a problem."""
        value = self._value
        attributes = self._resource_attributes()
        return Config(
            service_name=attributes[_SERVICE_NAME],
            environment=attributes.get(_ENVIRONMENT) or attributes.get(_OLD_ENVIRONMENT) or None,
            version=attributes.get(_SERVICE_VERSION) or None,
            resource_attributes=attributes,
            resource_detectors=_without("otel", value("resource_detectors")),
            disabled=value("disabled"),
            traces=self._signal("traces"),
            metrics=self._signal("metrics"),
            logs=self._signal("logs"),
            prometheus_host=value("prometheus_host"),
            prometheus_port=value("prometheus_port"),
            prometheus_port_explicit=self._all["prometheus_port"].is_set,
            sampler=value("sampler"),
            sampler_arg=value("sampler_arg"),
            propagators=_without("none", value("propagators")),
            span_limits=self._limits(_SPAN_LIMITS),
            log_limits=self._limits(_LOG_LIMITS),
            span_batch=self._batch("span_batch"),
            log_batch=self._batch("log_batch"),
            metric_export_interval=value("metric_export_interval"),
            metric_export_timeout=value("metric_export_timeout"),
            temporality=value("temporality"),
            histogram_aggregation=value("histogram_aggregation"),
            exemplar_filter=value("exemplar_filter"),
            cardinality_limit=value("cardinality_limit"),
            textfile=value("textfile"),
            pushgateway=self._pushgateway(attributes[_SERVICE_NAME]),
            log_format=value("log_format"),
            log_level=value("log_level"),
            log_stream=value("log_stream"),
            log_rate_limit=value("log_rate_limit"),
            log_sample=value("log_sample"),
            log_follow_trace=value("log_follow_trace"),
            log_datadog=value("log_datadog"),
            redact=value("redact"),
            redact_keys=value("redact_keys") or (),
            redact_allow=value("redact_allow") or (),
            shutdown_timeout=value("shutdown_timeout"),
            lineage=value("lineage"),
            spool_dir=value("spool_dir"),
            spool_max_bytes=value("spool_max_bytes"),
            spool_max_age=value("spool_max_age"),
            local=value("local"),
            local_token=value("local_token"),
            quality_history=value("quality_history"),
            config_file=value("config_file"),
            settings=self._shown_settings(),  # last, as each of the above may add to it
            warnings=warnings,
        )

    def _shown_settings(self) -> dict[str, Setting]:
        """Return how each variable is shown; one that cannot be used as it was given."""
        unusable = {name: problem.setting for name, problem in self._problems.items()}
        return {
            variable: unusable.get(variable, setting)
            for variable, setting in self._settings.items()
        }

    def _value(self, field: str) -> Any:
        return self._all[field].value

    def _resource_attributes(self) -> dict[str, str]:
        attributes: dict[str, str] = {}
        for layer in (self._outer, self._given):
            if "resource_attributes" in layer:
                attributes.update(layer["resource_attributes"].value)
            if "service_name" in layer:
                attributes[_SERVICE_NAME] = layer["service_name"].value
        self._show_attributes(attributes)
        attributes[_SERVICE_NAME] = attributes.get(_SERVICE_NAME) or self._value("service_name")
        return attributes

    def _show_attributes(self, attributes: dict[str, str]) -> None:
        name = attributes.get(_SERVICE_NAME)
        if name and name != self._value("service_name"):
            self._settings["OTEL_SERVICE_NAME"] = Setting(name, "OTEL_RESOURCE_ATTRIBUTES")
        shown = {key: value for key, value in attributes.items() if key != _SERVICE_NAME}
        source = self._all["resource_attributes"].source
        self._settings["OTEL_RESOURCE_ATTRIBUTES"] = Setting(_parse.encode_pairs(shown), source)

    def _signal(self, signal: str) -> SignalConfig:
        exporters = _without("none", self._value(f"{signal}_exporter"))
        return SignalConfig(exporters, self._otlp(signal, used="otlp" in exporters))

    def _otlp(self, signal: str, *, used: bool) -> OtlpConfig:
        picked = {field: self._pick(signal, field) for field in OTLP_FIELDS}
        endpoint, authorization = _parse.take_credentials(self._endpoint(signal, picked, used=used))
        self._show_otlp(signal, picked, endpoint)
        has_pair = self._client_pair(picked)
        scheme = _parse.split_endpoint(endpoint).scheme
        return OtlpConfig(
            protocol=picked["protocol"].value,
            endpoint=endpoint,
            explicit=picked["endpoint"].is_set,
            headers={**self._token(), **authorization, **(picked["headers"].value or {})},
            timeout=picked["timeout"].value,
            compression=picked["compression"].value,
            certificate=picked["certificate"].value,
            client_certificate=picked["client_certificate"].value if has_pair else None,
            client_key=picked["client_key"].value if has_pair else None,
            insecure=scheme == "http" if scheme else picked["insecure"].value,
        )

    def _token(self) -> dict[str, str]:
        token = self._value("local_token")
        return {"authorization": f"Bearer {token}"} if token and self._value("local") else {}

    def _pick(self, signal: str, field: str) -> Found:
        """Return the setting of one signal: of each layer its own before the general one."""
        for layer in (self._given, self._outer):
            for name in (f"otlp_{signal}_{field}", f"otlp_{field}"):
                if name in layer:
                    return layer[name]
        return self._defaults[f"otlp_{field}"]

    def _endpoint(self, signal: str, picked: Mapping[str, Found], *, used: bool) -> str:
        found, protocol = picked["endpoint"], picked["protocol"].value
        endpoint: str = found.value if found.is_set else _DEFAULT_ENDPOINTS[protocol]
        if protocol == "grpc":
            return endpoint
        if "://" not in endpoint:
            if used:
                self._problem(found, f"needs http:// or https:// in front for {protocol}")
            endpoint = _DEFAULT_ENDPOINTS[protocol]
        if found.option.field == f"otlp_{signal}_endpoint":
            return endpoint
        parts = _parse.split_endpoint(endpoint)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/v1/{signal}"))

    def _show_otlp(self, signal: str, picked: Mapping[str, Found], endpoint: str) -> None:
        """Show for each variable of one signal the value that the signal really gets."""
        if not self._all["otlp_endpoint"].is_set:
            shown = _DEFAULT_ENDPOINTS[self._value("otlp_protocol")]
            self._settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = Setting(shown, "default")
        for field, found in picked.items():
            variable = self._defaults[f"otlp_{signal}_{field}"].option.variable
            value, source = found.setting.value, found.source
            if field == "endpoint":
                value = found.option.mask(endpoint)
            if found.is_set and found.option.variable != variable:
                source = found.option.variable
            self._settings[variable] = Setting(value, source)

    def _client_pair(self, picked: Mapping[str, Found]) -> bool:
        certificate, key = picked["client_certificate"], picked["client_key"]
        for one, other in ((certificate, key), (key, certificate)):
            if one.is_set and not other.is_set and other.option.variable not in self._problems:
                self._problem(one, f"needs {other.option.variable} too")
        return certificate.is_set and key.is_set

    def _pushgateway(self, service_name: str) -> PushgatewayConfig | None:
        url = self._value("pushgateway")
        if url is None:
            return None
        bare, authorization = _parse.take_credentials(url)
        labels = self._value("pushgateway_grouping") or {}
        return PushgatewayConfig(bare, {"job": service_name, **labels}, authorization)

    def _batch(self, name: str) -> BatchConfig:
        queue, batch = self._all[f"{name}_max_queue"], self._all[f"{name}_max_batch"]
        size = min(queue.value, batch.value)
        if size < batch.value:
            if batch.is_set:
                self._problem(batch, f"is more than {queue.option.variable}={queue.text}")
            self._settings[batch.option.variable] = Setting(str(size), batch.source)
        return BatchConfig(self._value(f"{name}_delay"), queue.value, size)

    def _limits(self, names: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
        found = {
            argument: [self._all[field].value for field in fields if self._all[field].is_set]
            for argument, fields in names.items()
        }
        return {argument: values[0] for argument, values in found.items() if values}

    def _problem(self, found: Found, reason: str) -> None:
        self._problems.setdefault(found.option.variable, found.problem(reason))


def _without(left_out: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name != left_out)
