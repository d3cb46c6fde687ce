"""Builds what a configuration asks for, and ends it again."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import metrics as otel_metrics
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from otel_pipeline import logs, semconv
from otel_pipeline.diagnostics import say
from otel_pipeline.metrics import REGISTRY
from otel_pipeline.metrics.cells import filter_exemplars
from otel_pipeline.metrics.registry import vocabulary_shape
from otel_pipeline.metrics.snapshots import Point
from otel_pipeline.redaction import OFF, Redactor
from otel_pipeline.sdk import providers
from otel_pipeline.sdk.batch import BatchProcessor
from otel_pipeline.sdk.console import ConsoleTransport
from otel_pipeline.sdk.ledger import Ledger, Ledgers
from otel_pipeline.sdk.log_records import LineProvider, log_encoder
from otel_pipeline.sdk.metrics_server import MetricsServer, default_exposition
from otel_pipeline.sdk.resource import make_resource
from otel_pipeline.sdk.sampling import make_sampler
from otel_pipeline.sdk.sdk_reader import SnapshotReader
from otel_pipeline.sdk.spans import SpanCollector, span_encoder
from otel_pipeline.sdk.spool import Spool, folder_of
from otel_pipeline.sdk.transport import transport_for
from otel_pipeline.semconv import Signal
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.resources import Resource

    from otel_pipeline.config import Config, SignalConfig
    from otel_pipeline.metrics.snapshots import Family
    from otel_pipeline.sdk.prometheus import Renderer
    from otel_pipeline.sdk.spool import Shelf

__all__ = ["Runtime", "build", "idle"]

#: Seconds that an item for the console waits for others.
_CONSOLE_DELAY = 0.1
#: The same where there is a spool: what has waited for longer survives the death of the process.
_SPOOL_DELAY = 0.4


_DELAYS = {Signal.TRACES: "OTEL_BSP_SCHEDULE_DELAY", Signal.LOGS: "OTEL_BLRP_SCHEDULE_DELAY"}


class _Exporter(Protocol):
    """What takes items of a signal out of the process."""

    @property
    def away(self) -> bool:
        """Whether nothing answered the last attempt."""

    def flush(self, timeout: float) -> bool:
        """Send what waits, within so many seconds; with 0, only begin to."""

    def close(self, timeout: float) -> None:
        """Begin to end, and return at once."""

    def shutdown(self, timeout: float) -> None:
        """Send what waits and end, within so many seconds."""


@dataclass(slots=True)
class Runtime:
    """What is running: exporters, the metrics endpoint, and how to undo the rest.

    Attributes:
        ledgers: Where the items of each signal are.
        exporters: Those that take items out of the process.
        metrics_url: The whole URL of `/metrics`, or None.
        spool: Where batches wait on disk, or None.
        redact_adopted_spans: Masks secrets in span attributes where the exporter is not ours.
        log_volume: What keeps log lines back, or None.
        line_sink: The owned logger provider, or None.
    """

    ledgers: Ledgers
    exporters: list[_Exporter] = field(default_factory=list)
    metrics_url: str | None = None
    spool: Spool | None = None
    redact_adopted_spans: Callable[[str, Any], Any] | None = None
    log_volume: logs.Volume | None = None
    line_sink: LineProvider | None = None
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def flush(self, timeout: float) -> bool:
        """Flush every exporter at the same time; True if all was delivered."""
        deadline = time.monotonic() + timeout
        for exporter in self.exporters:
            exporter.flush(0)
        delivered = [
            exporter.flush(max(deadline - time.monotonic(), 0)) and not exporter.away
            for exporter in self.exporters
        ]
        return all(delivered)

    def flush_adopted(self, timeout: float) -> bool:
        """Ask the providers that someone else installed to flush; True if all say they have.

        A provider of OpenTelemetry's SDK may take much longer than it is told to, so each is asked
        from a thread that is left behind when the time is over.
        """
        answers: SimpleQueue[bool] = SimpleQueue()
        adopted = [
            signal
            for signal, account in self.ledgers.snapshot().items()
            if account["state"] == "adopted"
        ]
        for signal in adopted:
            threading.Thread(
                target=lambda signal: answers.put(providers.force_flush(signal, timeout)),
                args=(signal,),
                name="otel-pipeline-flush",
                daemon=True,
            ).start()
        deadline = time.monotonic() + timeout
        try:
            found = [answers.get(timeout=max(deadline - time.monotonic(), 0)) for _ in adopted]
        except Empty:
            return False
        return all(found)

    def shutdown(self, timeout: float) -> None:
        """End every exporter at the same time, then the metrics endpoint, then undo the set-up."""
        if self.log_volume is not None:
            logs.tell_rest(self.log_volume)
        try:
            for exporter in self.exporters:
                exporter.close(timeout)
            for exporter in self.exporters:
                exporter.shutdown(timeout)
        finally:
            self.undo.close()

    def report(self) -> dict[str, dict[str, Any]]:
        """Return the ledgers' accounts by signal."""
        return {signal: dict(account) for signal, account in self.ledgers.snapshot().items()}


def idle() -> Runtime:
    """Return a runtime in which everything is off."""
    return Runtime(Ledgers())


def build(config: Config) -> Runtime:
    """Build what `config` asks for.

    Args:
        config: The configuration; nothing else is read.

    Returns:
        The runtime. If anything fails on the way, what was built is undone.
    """
    with contextlib.ExitStack() as undo:
        redactor = _redactor(config)
        runtime = idle()
        runtime.undo = undo
        if not config.disabled:
            resource = make_resource(config, redactor)
            _build_traces(runtime, config, resource, redactor)
            _build_metrics(runtime, config, resource)
            _build_logs(runtime, config, resource, redactor)
        runtime.log_volume = _log_volume(config, redactor)
        undo.callback(
            logs.set_up(
                service=config.service_name,
                environment=config.environment,
                format=config.log_format,
                level=config.log_level,
                stream=config.log_stream,
                redactor=redactor,
                export=runtime.ledgers.logs.state != "off",
                volume=runtime.log_volume,
                sink=runtime.line_sink,
            )
        )
        runtime.undo = undo.pop_all()
        return runtime


def _redactor(config: Config) -> Redactor:
    if not config.redact:
        return OFF
    return Redactor(keys=config.redact_keys, allow=config.redact_allow)


def _log_volume(config: Config, redactor: Redactor) -> logs.Volume | None:
    """Return what keeps log lines back, or None where all are kept."""
    if config.log_rate_limit is None and config.log_sample == 1 and not config.log_follow_trace:
        return None
    return logs.Volume(
        rate=config.log_rate_limit,
        sample=config.log_sample,
        follow_trace=config.log_follow_trace,
        redactor=redactor,
    )


def _queues(
    runtime: Runtime, config: Config, signal: str, encode: Callable[[Any], bytes]
) -> Iterator[Callable[[Any], None]]:
    """Make a queue for each exporter of spans or log records and yield the ways into them.

    The ledger speaks of OTLP; what goes to the console besides is not counted.
    """
    settings: SignalConfig = getattr(config, signal)
    ledger: Ledger = getattr(runtime.ledgers, signal)
    batching = config.span_batch if signal == Signal.TRACES else config.log_batch
    for name in settings.exporters:
        console = name == "console"
        aside = console and len(settings.exporters) > 1
        transport = ConsoleTransport(signal) if console else transport_for(signal, settings.otlp)
        shelf = None if console else _shelf(runtime, config, signal, transport.endpoint)
        delay = batching.delay
        if shelf is not None and config.settings[_DELAYS[signal]].source == "default":
            delay = min(delay, _SPOOL_DELAY)
        queue: BatchProcessor[Any] = BatchProcessor(
            signal,
            encode=encode,
            transport=transport,
            ledger=Ledger("owned") if aside else ledger,
            explicit=console or settings.otlp.explicit,
            timeout=settings.otlp.timeout,
            max_queue=batching.max_queue,
            max_batch=batching.max_batch,
            delay=_CONSOLE_DELAY if console else delay,
            shelf=shelf,
        )
        if shelf is not None and shelf.spool.exists():
            queue.recover()
        runtime.exporters.append(queue)
        yield queue.add


def _shelf(runtime: Runtime, config: Config, signal: str, endpoint: str) -> Shelf | None:
    """Return where batches wait on disk, or None if they do not."""
    settings: SignalConfig = getattr(config, signal)
    folder = folder_of(config, explicit=settings.otlp.explicit)
    if folder is None:
        return None
    if runtime.spool is None:
        runtime.spool = Spool(
            folder, max_bytes=config.spool_max_bytes, max_age=config.spool_max_age
        )
    return runtime.spool.shelf(config.service_name, endpoint, signal)


def _build_traces(runtime: Runtime, config: Config, resource: Resource, redactor: Redactor) -> None:
    if providers.is_foreign(Signal.TRACES):
        runtime.ledgers.traces.state = "adopted"
        runtime.redact_adopted_spans = redactor.value
        return
    from opentelemetry import propagate  # noqa: PLC0415  it reads a variable that is checked first

    previous = propagate.get_global_textmap()
    propagate.set_global_textmap(_propagator(config))
    runtime.undo.callback(propagate.set_global_textmap, previous)
    # Without an exporter there are spans all the same: log lines carry their ids.
    runtime.ledgers.traces.state = "owned" if config.traces.exporters else "off"
    provider = TracerProvider(
        sampler=make_sampler(config),
        resource=resource,
        shutdown_on_exit=False,
        span_limits=SpanLimits(**config.span_limits),
    )
    for add in _queues(runtime, config, Signal.TRACES, span_encoder(redactor)):
        provider.add_span_processor(SpanCollector(add))
    runtime.undo.callback(providers.switch_tracers(provider))


def _build_logs(runtime: Runtime, config: Config, resource: Resource, redactor: Redactor) -> None:
    if providers.is_foreign(Signal.LOGS):
        runtime.ledgers.logs.state = "adopted"
        return
    if not config.logs.exporters:
        return
    runtime.ledgers.logs.state = "owned"
    provider = runtime.line_sink = LineProvider(resource, LogRecordLimits(**config.log_limits))
    for add in _queues(runtime, config, Signal.LOGS, log_encoder(redactor, provider)):
        provider.add_queue(add)
    runtime.undo.callback(providers.switch_loggers(provider))


def _build_metrics(runtime: Runtime, config: Config, resource: Resource) -> None:
    previous = REGISTRY.limit
    REGISTRY.limit = config.cardinality_limit
    runtime.undo.callback(setattr, REGISTRY, "limit", previous)
    runtime.undo.callback(filter_exemplars(config.exemplar_filter))
    if providers.is_foreign(Signal.METRICS):
        runtime.ledgers.metrics.state = "adopted"
        # Never undone: the provider's owner may collect a last time after our end.
        REGISTRY.bridge(otel_metrics.get_meter("otel_pipeline", __version__))
        return
    if not config.metrics.exporters:
        return
    runtime.ledgers.metrics.state = "owned"
    since = time.time_ns()
    runtime.undo.callback(REGISTRY.add_source(lambda: _ledger_families(runtime.ledgers, since)))
    for name in config.metrics.exporters:
        if name == "prometheus":
            _serve(runtime, config, resource)
        else:
            _push(runtime, config, resource, console=name == "console")


def _serve(runtime: Runtime, config: Config, resource: Resource) -> None:
    reader = SnapshotReader()
    runtime.undo.callback(providers.add_reader(reader, resource))
    exposition = default_exposition()
    runtime.undo.callback(exposition.attach(reader, resource))
    server = _listen(config, exposition.render)
    if server is not None:
        runtime.undo.callback(server.stop)
        runtime.metrics_url = server.url


def _listen(config: Config, render: Renderer) -> MetricsServer | None:
    status = {"service": config.service_name}
    host, port = config.prometheus_host, config.prometheus_port
    try:
        return MetricsServer(host, port, render, lambda: status)
    except OSError as error:
        if config.prometheus_port_explicit:
            say(
                "/metrics cannot be served on %s:%d (%s): this process has no metrics endpoint. "
                "Free the port, set OTEL_EXPORTER_PROMETHEUS_PORT to another one (0 takes any free "
                "one), or take 'prometheus' out of OTEL_METRICS_EXPORTER.",
                host,
                port,
                error.strerror or error,
            )
            return None
        reason = error
    try:
        server = MetricsServer(host, 0, render, lambda: status)
    except OSError as error:
        say("/metrics cannot be served on %s: %s", host, error.strerror or error)
        return None
    say(
        "/metrics is served at %s, since port %d cannot be used (%s). "
        "Set OTEL_EXPORTER_PROMETHEUS_PORT to choose a port.",
        server.url,
        port,
        reason.strerror or reason,
    )
    return server


def _push(runtime: Runtime, config: Config, resource: Resource, *, console: bool) -> None:
    from otel_pipeline.sdk.metrics import MetricPush  # noqa: PLC0415

    reader = SnapshotReader(exponential=config.histogram_aggregation.startswith("base2"))
    runtime.undo.callback(providers.add_reader(reader, resource))
    otlp = config.metrics.otlp
    push = MetricPush(
        collect=REGISTRY.collect,
        sdk_reader=reader,
        transport=ConsoleTransport(Signal.METRICS)
        if console
        else transport_for(Signal.METRICS, otlp),
        ledger=Ledger("owned") if console else runtime.ledgers.metrics,
        explicit=console or otlp.explicit,
        interval=config.metric_export_interval,
        timeout=config.metric_export_timeout,
        resource=resource,
        delta=config.temporality != "cumulative",
    )
    push.start()
    runtime.exporters.append(push)


def _ledger_families(ledgers: Ledgers, since: int) -> Iterator[Family]:
    accounts = [
        (signal, dict[str, Any](account))
        for signal, account in ledgers.snapshot().items()
        if account["state"] == "owned"
    ]

    def family(spec: semconv.MetricSpec, values: list[tuple[tuple[str, ...], int]]) -> Family:
        return vocabulary_shape(spec).family(Point(labels, n, since) for labels, n in values)

    yield family(semconv.ITEMS_PRODUCED, [((s,), a["produced"]) for s, a in accounts])
    yield family(semconv.ITEMS_RECOVERED, [((s,), a["recovered"]) for s, a in accounts])
    yield family(
        semconv.ITEMS,
        [
            ((s, outcome), a[outcome])
            for s, a in accounts
            for outcome in ("delivered", "rejected", "dropped")
        ],
    )
    yield family(
        semconv.ITEMS_PENDING,
        [((s, where), a[f"pending_{where}"]) for s, a in accounts for where in ("memory", "disk")],
    )


def _propagator(config: Config) -> Any:
    from importlib.metadata import entry_points  # noqa: PLC0415

    found = []
    for name in config.propagators:
        for entry in entry_points(group="opentelemetry_propagator", name=name):
            found.append(entry.load()())
            break
    return CompositePropagator(found)
