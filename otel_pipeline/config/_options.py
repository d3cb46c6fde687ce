"""Every option of the library, declared once.

`Config`, its error messages, `otel-pipeline env` and the reference documentation are made from
`OPTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from otel_pipeline.config import _parse
from otel_pipeline.semconv import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPTIONS", "Option"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: a variable of the environment, which is also an argument of `configure()`.

    Attributes:
        variable: The variable of the environment.
        field: The name of the argument.
        default: The default as text; empty if there is none.
        parse: Turns text into the value; a `ValueError` says what is wrong with it.
        doc: What it means, in a sentence.
        topic: The group in which it is shown.
        allowed: The words that it (or each item of its list) may be; empty for any.
        unit: `ms`, `s`, `bytes`, or empty. An argument is in seconds where a variable is in `ms`.
        mask: Makes the text presentable; by default nothing is hidden.
    """

    variable: str
    field: str
    default: str
    parse: Callable[[str], object]
    doc: str
    topic: str
    allowed: tuple[str, ...] = ()
    unit: str = ""
    mask: Callable[[str], str] = str

    @property
    def secret(self) -> bool:
        """Whether parts of it are hidden when it is shown."""
        return self.mask is not str

    @property
    def own(self) -> bool:
        """Whether it is the library's own rather than OpenTelemetry's."""
        return self.variable.startswith("OTEL_PIPELINE_")

    def read(self, text: str) -> object:
        """Return the value that `text` stands for.

        Args:
            text: Stripped and not empty.

        Raises:
            ValueError: It cannot be used; the message goes behind the name and the value.
        """
        _parse.check_encoding(text)
        value = self.parse(text)
        if self.allowed and isinstance(value, str | tuple):
            _parse.check_words(value, self.allowed)
        return value


_COUNT = _parse.integer(0)
_POSITIVE = _parse.integer(1)

_SERVICE = (
    Option(
        "OTEL_CONFIG_FILE",
        "config_file",
        "",
        _parse.readable_file,
        "Declarative configuration (YAML or JSON) that replaces the other OTEL_* variables.",
        "Service",
    ),
    Option(
        "OTEL_SDK_DISABLED",
        "disabled",
        "false",
        _parse.boolean,
        "Turns all telemetry off.",
        "Service",
        ("true", "false"),
    ),
    Option(
        "OTEL_SERVICE_NAME",
        "service_name",
        "unknown_service",
        _parse.text,
        "Name of the service.",
        "Service",
    ),
    Option(
        "OTEL_RESOURCE_ATTRIBUTES",
        "resource_attributes",
        "",
        _parse.pairs,
        "Attributes of all signals: key=value,key2=value2; values percent-encoded.",
        "Service",
    ),
    Option(
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
        "resource_detectors",
        "otel",
        _parse.resource_detectors,
        "What finds out more attributes: otel, process, os, host; * for all installed.",
        "Service",
    ),
)

_EXPORTERS = (
    Option(
        "OTEL_TRACES_EXPORTER",
        "traces_exporter",
        "otlp",
        _parse.words_or_none,
        "Where spans go; a list sends to each.",
        "Exporters",
        ("otlp", "console", "none"),
    ),
    Option(
        "OTEL_METRICS_EXPORTER",
        "metrics_exporter",
        "prometheus",
        _parse.words_or_none,
        "Where metrics go; a list sends to each.",
        "Exporters",
        ("prometheus", "otlp", "console", "none"),
    ),
    Option(
        "OTEL_LOGS_EXPORTER",
        "logs_exporter",
        "otlp",
        _parse.words_or_none,
        "Where log records go besides the log stream; a list sends to each.",
        "Exporters",
        ("otlp", "console", "none"),
    ),
    Option(
        "OTEL_EXPORTER_PROMETHEUS_HOST",
        "prometheus_host",
        "localhost",
        _parse.text,
        "Address on which /metrics is served.",
        "Exporters",
    ),
    Option(
        "OTEL_EXPORTER_PROMETHEUS_PORT",
        "prometheus_port",
        "9464",
        _parse.port,
        "Port on which /metrics is served; 0 takes a free one.",
        "Exporters",
    ),
)

# `field` here is a field of OtlpConfig; the argument is otlp_<field>, or otlp_<signal>_<field>.
_OTLP = (
    Option(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "protocol",
        "http/protobuf",
        _parse.word,
        "How OTLP travels.",
        "OTLP",
        ("http/protobuf", "grpc"),
    ),
    Option(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "endpoint",
        "http://localhost:4318",
        _parse.endpoint,
        "Base URL of the collector; /v1/traces and so on are added for http/protobuf. "
        "The default for grpc is http://localhost:4317.",
        "OTLP",
        mask=_parse.mask_url,
    ),
    Option(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "headers",
        "",
        _parse.headers,
        "Headers of each request: key=value,key2=value2; values percent-encoded.",
        "OTLP",
        mask=_parse.mask_pairs,
    ),
    Option(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "timeout",
        "10",
        _parse.positive_seconds,
        "Seconds that one export may take (seconds, as in the Python SDK).",
        "OTLP",
        unit="s",
    ),
    Option(
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "compression",
        "none",
        _parse.word,
        "Compression of requests.",
        "OTLP",
        ("none", "gzip", "deflate"),
    ),
    Option(
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "certificate",
        "",
        _parse.readable_file,
        "PEM file of the authority that the collector's certificate is checked against.",
        "OTLP",
    ),
    Option(
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "client_certificate",
        "",
        _parse.readable_file,
        "PEM file of the client's certificate (mutual TLS); needs the key too.",
        "OTLP",
    ),
    Option(
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "client_key",
        "",
        _parse.readable_file,
        "PEM file of the client's private key (mutual TLS).",
        "OTLP",
    ),
    Option(
        "OTEL_EXPORTER_OTLP_INSECURE",
        "insecure",
        "false",
        _parse.boolean,
        "grpc without TLS, for an endpoint that has no scheme.",
        "OTLP",
        ("true", "false"),
    ),
)
OTLP_FIELDS: Final = tuple(option.field for option in _OTLP)


def _for_signal(option: Option, signal: str) -> Option:
    name = option.variable.removeprefix("OTEL_EXPORTER_OTLP_")
    doc = f"{option.variable} for {signal} alone"
    if option.field == "endpoint":
        doc += ": the whole URL, used as it is"
    return replace(
        option,
        variable=f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}",
        field=f"otlp_{signal}_{option.field}",
        default="",
        doc=f"{doc}.",
        topic=f"OTLP, {signal}",
    )


_SAMPLING = (
    Option(
        "OTEL_TRACES_SAMPLER",
        "sampler",
        "parentbased_always_on",
        _parse.word,
        "Which traces are kept.",
        "Traces",
        (
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ),
    ),
    Option(
        "OTEL_TRACES_SAMPLER_ARG",
        "sampler_arg",
        "1.0",
        _parse.ratio,
        "Share of traces, 0 to 1, that a traceidratio sampler keeps.",
        "Traces",
    ),
    Option(
        "OTEL_PROPAGATORS",
        "propagators",
        "tracecontext,baggage",
        _parse.propagators,
        "How context travels between processes; others when their package is installed.",
        "Traces",
    ),
)


def _batching(prefix: str, field: str, items: str, delay: str, topic: str) -> tuple[Option, ...]:
    return (
        Option(
            f"OTEL_{prefix}_SCHEDULE_DELAY",
            f"{field}_delay",
            delay,
            _parse.milliseconds,
            f"Longest that {items} wait before they are sent.",
            topic,
            unit="ms",
        ),
        Option(
            f"OTEL_{prefix}_EXPORT_TIMEOUT",
            f"{field}_export_timeout",
            "30000",
            _parse.milliseconds,
            "Checked but not used, as in the Python SDK; OTEL_EXPORTER_OTLP_TIMEOUT is the limit.",
            topic,
            unit="ms",
        ),
        Option(
            f"OTEL_{prefix}_MAX_QUEUE_SIZE",
            f"{field}_max_queue",
            "2048",
            _POSITIVE,
            f"Most {items} that wait in memory.",
            topic,
        ),
        Option(
            f"OTEL_{prefix}_MAX_EXPORT_BATCH_SIZE",
            f"{field}_max_batch",
            "512",
            _POSITIVE,
            f"Most {items} in one request; no more than wait in memory.",
            topic,
        ),
    )


_METRICS = (
    Option(
        "OTEL_METRIC_EXPORT_INTERVAL",
        "metric_export_interval",
        "60000",
        _parse.milliseconds,
        "Time between two exports by OTLP or to the console.",
        "Metrics",
        unit="ms",
    ),
    Option(
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "metric_export_timeout",
        "30000",
        _parse.milliseconds,
        "Longest that one such export may take.",
        "Metrics",
        unit="ms",
    ),
    Option(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "temporality",
        "cumulative",
        _parse.word,
        "Totals since the start (cumulative) or since the last export (delta), by OTLP.",
        "Metrics",
        ("cumulative", "delta", "lowmemory"),
    ),
    Option(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "histogram_aggregation",
        "explicit_bucket_histogram",
        _parse.word,
        "How OpenTelemetry's own histograms are sent by OTLP.",
        "Metrics",
        ("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
    ),
    Option(
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "exemplar_filter",
        "trace_based",
        _parse.word,
        "Which measurements may become exemplars.",
        "Metrics",
        ("trace_based", "always_on", "always_off"),
    ),
    Option(
        "OTEL_PIPELINE_CARDINALITY_LIMIT",
        "cardinality_limit",
        "1000",
        _POSITIVE,
        "Most label sets of one metric; beyond it label values become __other__.",
        "Metrics",
    ),
)

_LAST_VALUES = (
    Option(
        "OTEL_PIPELINE_TEXTFILE",
        "textfile",
        "",
        _parse.textfile,
        "File ending in .prom to which the page of metrics is written when a run or the program "
        "ends, for node_exporter's textfile collector.",
        "Last values",
    ),
    Option(
        "OTEL_PIPELINE_PUSHGATEWAY",
        "pushgateway",
        "",
        _parse.gateway,
        "URL of a Pushgateway to which the page of metrics is pushed when the program ends; "
        "credentials before the host are sent as basic authentication.",
        "Last values",
        mask=_parse.mask_url,
    ),
    Option(
        "OTEL_PIPELINE_PUSHGATEWAY_GROUPING",
        "pushgateway_grouping",
        "",
        _parse.grouping,
        "Grouping key of that push: job=orders,instance=a; values percent-encoded. "
        "job is the service's name unless given.",
        "Last values",
    ),
)

_LOGS = (
    Option(
        "OTEL_PIPELINE_LOG_FORMAT",
        "log_format",
        "auto",
        _parse.log_format,
        "How log lines are printed; auto is console on a terminal, else json.",
        "Logs",
        ("auto", "json", "console"),
    ),
    Option(
        "OTEL_PIPELINE_LOG_LEVEL",
        "log_level",
        "info",
        _parse.log_level,
        "Lowest level that is printed and sent, by name or number.",
        "Logs",
    ),
    Option(
        "OTEL_PIPELINE_LOG_STREAM",
        "log_stream",
        "stdout",
        _parse.word,
        "Where log lines are printed.",
        "Logs",
        ("stdout", "stderr"),
    ),
    Option(
        "OTEL_PIPELINE_LOG_RATE_LIMIT",
        "log_rate_limit",
        "off",
        _parse.log_rate,
        "Most lines a second of each event below level error; off.",
        "Logs",
    ),
    Option(
        "OTEL_PIPELINE_LOG_SAMPLE",
        "log_sample",
        "1",
        _parse.ratio,
        "Share of the lines of each event below level error that are kept, 0 to 1.",
        "Logs",
    ),
    Option(
        "OTEL_PIPELINE_LOG_FOLLOW_TRACE",
        "log_follow_trace",
        "off",
        _parse.switch,
        "Whether lines below level error in a trace that is not sampled are suppressed.",
        "Logs",
        ("on", "off"),
    ),
    Option(
        "OTEL_PIPELINE_LOG_DATADOG",
        "log_datadog",
        "off",
        _parse.switch,
        "Whether printed lines have the fields dd.service, dd.env, dd.version, dd.trace_id and "
        "dd.span_id, by which Datadog finds the trace of a line.",
        "Logs",
        ("on", "off"),
    ),
)

_DELIVERY = (
    Option(
        "OTEL_PIPELINE_SHUTDOWN_TIMEOUT",
        "shutdown_timeout",
        "5",
        _parse.seconds,
        "Seconds that the end of the program may wait, all signals together.",
        "Delivery",
        unit="s",
    ),
    Option(
        "OTEL_PIPELINE_SPOOL_DIR",
        "spool_dir",
        "auto",
        _parse.path_or_word,
        "Folder for what cannot be sent now; auto is one under the user's state directory when "
        "an OTLP endpoint was set; off.",
        "Delivery",
    ),
    Option(
        "OTEL_PIPELINE_SPOOL_MAX_BYTES",
        "spool_max_bytes",
        "268435456",
        _POSITIVE,
        "Most that the spool holds; the oldest batch goes first, and is counted.",
        "Delivery",
        unit="bytes",
    ),
    Option(
        "OTEL_PIPELINE_SPOOL_MAX_AGE",
        "spool_max_age",
        "24h",
        _parse.positive_seconds,
        "Oldest batch that the spool keeps: 90s, 15m, 24h, 1d.",
        "Delivery",
        unit="s",
    ),
    Option(
        "OTEL_PIPELINE_QUALITY_HISTORY",
        "quality_history",
        "auto",
        _parse.path_or_word,
        "File with the history that the monitors of datasets learn from; auto is one under the "
        "user's state directory; off.",
        "Data quality",
    ),
    Option(
        "OTEL_PIPELINE_LINEAGE",
        "lineage",
        "auto",
        _parse.path_or_word,
        "File with what stages last read and wrote; auto is one under the user's state directory; "
        "off.",
        "Data quality",
    ),
)

_REDACTION = (
    Option(
        "OTEL_PIPELINE_REDACT",
        "redact",
        "on",
        _parse.switch,
        "Keeps secrets out of log fields, span attributes and exceptions.",
        "Redaction",
        ("on", "off"),
    ),
    Option(
        "OTEL_PIPELINE_REDACT_KEYS",
        "redact_keys",
        "",
        _parse.names,
        "More keys whose values are secrets.",
        "Redaction",
    ),
    Option(
        "OTEL_PIPELINE_REDACT_ALLOW",
        "redact_allow",
        "",
        _parse.names,
        "Keys and rules that are exempt.",
        "Redaction",
    ),
)

_LOCAL = (
    Option(
        "OTEL_PIPELINE_LOCAL",
        "local",
        "off",
        _parse.switch,
        "Sends metrics by OTLP, too, and all signals soon, so that `otel-pipeline ui` shows what "
        "happens now. What is set besides still holds.",
        "Local backend",
        ("on", "off"),
    ),
    Option(
        "OTEL_PIPELINE_LOCAL_TOKEN",
        "local_token",
        "",
        _parse.text,
        "Token of `otel-pipeline ui`, and of what is sent to it under OTEL_PIPELINE_LOCAL; it is "
        "needed where the backend can be reached from other machines.",
        "Local backend",
        mask=_parse.mask_all,
    ),
)

#: What OTEL_PIPELINE_LOCAL sets, by variable; what is set besides goes before it.
LOCAL_DEFAULTS: Final = {
    "OTEL_METRICS_EXPORTER": "prometheus,otlp",
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
}


def _limit(name: str, field: str, default: str, doc: str) -> Option:
    return Option(f"OTEL_{name}_LIMIT", field, default, _COUNT, doc, "Limits")


_LIMITS = (
    _limit("ATTRIBUTE_COUNT", "attribute_count_limit", "128", "Most attributes of anything."),
    _limit(
        "ATTRIBUTE_VALUE_LENGTH",
        "attribute_value_length_limit",
        "",
        "Longest value of an attribute; unset for no limit.",
    ),
    _limit("SPAN_ATTRIBUTE_COUNT", "span_attribute_count_limit", "", "Most attributes of a span."),
    _limit(
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
        "span_attribute_value_length_limit",
        "",
        "Longest value of a span's attribute.",
    ),
    _limit("SPAN_EVENT_COUNT", "span_event_count_limit", "128", "Most events of a span."),
    _limit("SPAN_LINK_COUNT", "span_link_count_limit", "128", "Most links of a span."),
    _limit(
        "EVENT_ATTRIBUTE_COUNT",
        "event_attribute_count_limit",
        "128",
        "Most attributes of an event.",
    ),
    _limit(
        "LINK_ATTRIBUTE_COUNT", "link_attribute_count_limit", "128", "Most attributes of a link."
    ),
    _limit(
        "LOGRECORD_ATTRIBUTE_COUNT",
        "logrecord_attribute_count_limit",
        "",
        "Most attributes of a log record.",
    ),
    _limit(
        "LOGRECORD_ATTRIBUTE_VALUE_LENGTH",
        "logrecord_attribute_value_length_limit",
        "",
        "Longest value of a log record's attribute.",
    ),
)

#: Every option, in the order in which they are shown.
OPTIONS: Final[tuple[Option, ...]] = (
    *_SERVICE,
    *_EXPORTERS,
    *(replace(option, field=f"otlp_{option.field}") for option in _OTLP),
    *(_for_signal(option, signal) for signal in SIGNALS for option in _OTLP),
    *_SAMPLING,
    *_batching("BSP", "span_batch", "spans", "5000", "Traces"),
    *_METRICS,
    *_LAST_VALUES,
    *_LOGS,
    *_batching("BLRP", "log_batch", "log records", "1000", "Logs"),
    *_REDACTION,
    *_LOCAL,
    *_DELIVERY,
    *_LIMITS,
)
BY_FIELD: Final = {option.field: option for option in OPTIONS}
