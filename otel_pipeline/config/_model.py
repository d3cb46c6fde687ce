"""What the rest of the library gets to see: frozen, typed and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BatchConfig", "Config", "OtlpConfig", "PushgatewayConfig", "Setting", "SignalConfig"]


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """How one signal is sent by OTLP.

    Attributes:
        protocol: How it travels.
        endpoint: The whole URL for `http/protobuf`; a URL or `host:port` for `grpc`. It holds no
            credentials: those of a URL have become the header `authorization`.
        explicit: Whether somebody set the endpoint; else it is the default.
        headers: Headers of each request, names in lower case.
        timeout: Seconds that one export may take.
        compression: How requests are compressed.
        certificate: PEM file of the authority to check the collector against, or None.
        client_certificate: PEM file of the client's certificate, or None.
        client_key: PEM file of the client's key, or None.
        insecure: Whether it travels without TLS.
    """

    protocol: Literal["http/protobuf", "grpc"]
    endpoint: str
    explicit: bool
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    compression: Literal["none", "gzip", "deflate"]
    certificate: str | None
    client_certificate: str | None
    client_key: str | None
    insecure: bool


@dataclass(frozen=True, slots=True)
class SignalConfig:
    """Where one signal goes.

    Attributes:
        exporters: Names such as `otlp`, `console`, `prometheus`; empty for `none`.
        otlp: How it is sent by OTLP, if that is among them.
    """

    exporters: tuple[str, ...]
    otlp: OtlpConfig


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How spans or log records are put together before they are sent.

    Attributes:
        delay: Longest that they wait, in seconds.
        max_queue: Most that wait in memory.
        max_batch: Most in one request, at most `max_queue`.
    """

    delay: float
    max_queue: int
    max_batch: int


@dataclass(frozen=True, slots=True)
class PushgatewayConfig:
    """Where the last values of metrics are pushed.

    Attributes:
        url: The base URL, without credentials.
        grouping: The labels of the grouping key, `job` among them.
        headers: Credentials of the URL as a header, or empty.
    """

    url: str
    grouping: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable as it came out.

    Attributes:
        value: The effective text, secrets masked; empty if there is none.
        source: `argument`, `environment`, `file` or `default`; or the name of another variable
            that the value follows from.
    """

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be configured.

    Two are equal when they configure the same, wherever the values came from. They can be
    pickled, so a child process can be given one.

    Attributes:
        service_name: Name of the service.
        environment: Where it runs (`production`), or None.
        version: Version of the service, or None.
        resource_attributes: All attributes of the resource; name, environment and version among
            them.
        resource_detectors: What finds out more attributes; `*` stands for all. The detector
            `otel` is left out: `resource_attributes` has what it would find.
        disabled: Whether all telemetry is off.
        traces: Where spans go.
        metrics: Where metrics go.
        logs: Where log records go.
        prometheus_host: Address on which `/metrics` is served.
        prometheus_port: Port on which `/metrics` is served; 0 takes a free one.
        prometheus_port_explicit: Whether somebody set the port.
        sampler: Which traces are kept.
        sampler_arg: Share of traces that a `traceidratio` sampler keeps, 0 to 1.
        propagators: How context travels; empty for `none`.
        span_limits: Limits that were set, as `SpanLimits` takes them.
        log_limits: Limits that were set, as `LogRecordLimits` takes them.
        span_batch: How spans are put together.
        log_batch: How log records are put together.
        metric_export_interval: Seconds between two exports of metrics.
        metric_export_timeout: Seconds that one of them may take.
        temporality: Whether metrics are sent as totals or as changes.
        histogram_aggregation: How OpenTelemetry's own histograms are sent.
        exemplar_filter: Which measurements may become exemplars.
        cardinality_limit: Most label sets of one metric.
        textfile: File for the last values of metrics, or None.
        pushgateway: Where the last values of metrics are pushed, or None.
        log_format: How log lines are printed; None for what suits the stream.
        log_level: Lowest level printed and sent, as a number of stdlib `logging`.
        log_stream: Where log lines are printed.
        log_rate_limit: Most lines a second of one event; None for no limit.
        log_sample: Share of the lines of each event that are kept, 0 to 1.
        log_follow_trace: Whether lines in a trace that is not sampled are suppressed.
        log_datadog: Whether printed lines have the fields by which Datadog finds their trace.
        redact: Whether secrets are kept out.
        redact_keys: More keys whose values are secrets.
        redact_allow: Keys and rules that are exempt.
        shutdown_timeout: Seconds that the end of the program may wait.
        lineage: `auto`, `off`, or the path of the file for what stages read and write.
        spool_dir: `auto`, `off`, or the path of a folder.
        spool_max_bytes: Most bytes that the spool holds.
        spool_max_age: Age in seconds of the oldest batch that the spool keeps.
        local: Whether what is sent is for the local backend, and so is sent soon.
        local_token: What the local backend is shown, or None.
        quality_history: `auto`, `off`, or the path of a file.
        config_file: The file of declarative configuration, or None.
        settings: Every variable with its text and where it came from.
        warnings: What should be told to the user once.
    """

    service_name: str
    environment: str | None
    version: str | None
    resource_attributes: Mapping[str, str]
    resource_detectors: tuple[str, ...]
    disabled: bool
    traces: SignalConfig
    metrics: SignalConfig
    logs: SignalConfig
    prometheus_host: str
    prometheus_port: int
    prometheus_port_explicit: bool
    sampler: str
    sampler_arg: float
    propagators: tuple[str, ...]
    span_limits: Mapping[str, int]
    log_limits: Mapping[str, int]
    span_batch: BatchConfig
    log_batch: BatchConfig
    metric_export_interval: float
    metric_export_timeout: float
    temporality: Literal["cumulative", "delta", "lowmemory"]
    histogram_aggregation: Literal[
        "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ]
    exemplar_filter: Literal["trace_based", "always_on", "always_off"]
    cardinality_limit: int
    textfile: str | None
    pushgateway: PushgatewayConfig | None
    log_format: Literal["json", "console"] | None
    log_level: int
    log_stream: Literal["stdout", "stderr"]
    log_rate_limit: float | None
    log_sample: float
    log_follow_trace: bool
    log_datadog: bool
    redact: bool
    redact_keys: tuple[str, ...]
    redact_allow: tuple[str, ...]
    shutdown_timeout: float
    lineage: str
    spool_dir: str
    spool_max_bytes: int
    spool_max_age: float
    local: bool
    local_token: str | None = field(repr=False)
    quality_history: str
    config_file: str | None
    settings: Mapping[str, Setting] = field(compare=False, repr=False)
    warnings: tuple[str, ...] = field(compare=False)

    @property
    def keeps_last_values(self) -> bool:
        """Whether the page of metrics is to outlive the program."""
        return self.textfile is not None or self.pushgateway is not None

    @property
    def sources(self) -> Mapping[str, str]:
        """Where the value of each variable came from."""
        return {variable: setting.source for variable, setting in self.settings.items()}
