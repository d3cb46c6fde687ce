"""Builds what a configuration asks for, and ends it again."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import metrics as otel_metrics
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk._logs import LogRecordLimits
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from otel_pipeline import logs, semconv
from otel_pipeline.diagnostics import say, warn_once
from otel_pipeline.metrics import REGISTRY
from otel_pipeline.metrics.cells import filter_exemplars
from otel_pipeline.metrics.registry import vocabulary_shape
from otel_pipeline.metrics.snapshots import Point
from otel_pipeline.redaction import OFF, Redactor
from otel_pipeline.sdk import group as groups
from otel_pipeline.sdk import last_values, lineage, providers
from otel_pipeline.sdk.batch import BatchProcessor
from otel_pipeline.sdk.console import ConsoleTransport
from otel_pipeline.sdk.group import Group
from otel_pipeline.sdk.ledger import Ledger, Ledgers
from otel_pipeline.sdk.log_records import LineProvider, log_encoder
from otel_pipeline.sdk.metrics_server import MetricsServer, default_exposition
from otel_pipeline.sdk.resource import make_resource, of_forked_child
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
    from otel_pipeline.sdk.lineage import LineageExporter
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


@dataclass(slots=True, eq=False, weakref_slot=True)
class Runtime:
    """What is running: exporters, the metrics endpoint, and how to undo the rest.

    Attributes:
        ledgers: Where the items of each signal are.
        exporters: Those that take items out of the process.
        group: The processes that share one `/metrics`, or None where it is not served.
        spool: Where batches wait on disk, or None.
        redact_adopted_spans: Masks secrets in span attributes where the exporter is not ours.
        log_volume: What keeps log lines back, or None.
        line_sink: The owned logger provider, or None.
        lineage: Takes what stages read and write; None where all is off.
    """

    ledgers: Ledgers
    exporters: list[_Exporter] = field(default_factory=list)
    group: Group | None = None
    spool: Spool | None = None
    redact_adopted_spans: Callable[[str, Any], Any] | None = None
    log_volume: logs.Volume | None = None
    line_sink: LineProvider | None = None
    lineage: LineageExporter | None = None
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    resource: Resource | None = None
    renewals: list[Callable[[Resource], None]] = field(default_factory=list)
    ended: bool = False

    @property
    def metrics_url(self) -> str | None:
        """The whole URL of `/metrics`, or None."""
        return None if self.group is None else self.group.url

    def forked(self) -> None:
        """Go on in a forked child, as a process of its own."""
        if self.resource is not None:
            self.resource = of_forked_child(self.resource)
            for renew in self.renewals:
                renew(self.resource)

    def flush(self, timeout: float) -> bool:
        """Flush every exporter at the same time; True if all was delivered.

        The other processes of the service see at once what this one has counted.
        """
        deadline = time.monotonic() + timeout
        if self.group is not None:
            self.group.publish()
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
        self.ended = True
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


def build(config: Config, group: str | None = None) -> Runtime:
    """Build what `config` asks for.

    Args:
        config: The configuration; nothing else is read.
        group: Key of the group of processes to join, if not that which the configuration implies.

    Returns:
        The runtime. If anything fails on the way, what was built is undone.
    """
    with contextlib.ExitStack() as undo:
        redactor = _redactor(config)
        runtime = idle()
        runtime.undo = undo
        if not config.disabled:
            resource = runtime.resource = make_resource(config, redactor)
            _build_traces(runtime, config, resource, redactor)
            _build_metrics(runtime, config, resource, group)
            _build_logs(runtime, config, resource, redactor)
            _build_lineage(runtime, config, redactor)
            if group is None:  # else the process that leads the group does it
                # Behind the others, whose last count they show.
                runtime.exporters.extend(last_values.exporters(config))
        runtime.log_volume = _log_volume(config, redactor)
        undo.callback(
            logs.set_up(
                service=config.service_name,
                environment=config.environment,
                version=config.version,
                format=config.log_format,
                level=config.log_level,
                stream=config.log_stream,
                redactor=redactor,
                export=runtime.ledgers.logs.state != "off",
                volume=runtime.log_volume,
                sink=runtime.line_sink,
                datadog=config.log_datadog,
            )
        )
        runtime.undo = undo.pop_all()
        _go_on_in_children(runtime)
        return runtime


def _go_on_in_children(runtime: Runtime) -> None:
    """Let forked children have a runtime of their own.

    The hook comes after those of everything that the runtime is made of.
    """
    reference = weakref.ref(runtime)

    def in_child() -> None:
        found = reference()
        if found is not None and not found.ended:
            found.forked()

    os.register_at_fork(after_in_child=in_child)


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
    runtime.renewals.append(partial(providers.rename, provider))


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
    runtime.renewals.append(partial(providers.rename, provider))


def _build_lineage(runtime: Runtime, config: Config, redactor: Redactor) -> None:
    exporter = runtime.lineage = lineage.exporter(config, redactor, runtime.ledgers.lineage)
    if exporter.works:
        runtime.exporters.append(exporter)
        runtime.renewals.append(lambda _: exporter.forked())


def _build_metrics(runtime: Runtime, config: Config, resource: Resource, group: str | None) -> None:
    previous = REGISTRY.limit
    REGISTRY.limit = config.cardinality_limit
    runtime.undo.callback(setattr, REGISTRY, "limit", previous)
    runtime.undo.callback(filter_exemplars(config.exemplar_filter))
    if providers.is_foreign(Signal.METRICS):
        runtime.ledgers.metrics.state = "adopted"
        # Never undone: the provider's owner may collect a last time after our end.
        REGISTRY.bridge(otel_metrics.get_meter("otel_pipeline", __version__))
        return
    if not config.metrics.exporters and not config.keeps_last_values:
        return
    runtime.ledgers.metrics.state = "owned"
    since = time.time_ns()
    runtime.undo.callback(REGISTRY.add_source(lambda: _ledger_families(runtime.ledgers, since)))
    serves = "prometheus" in config.metrics.exporters
    if serves or config.keeps_last_values:
        _show(runtime, config, resource, group, serves=serves)
    for name in config.metrics.exporters:
        if name != "prometheus":
            _push(runtime, config, resource, console=name == "console")


def _show(
    runtime: Runtime, config: Config, resource: Resource, group: str | None, *, serves: bool
) -> None:
    """Make the page: what all processes of the service have, and what this process is."""
    reader = SnapshotReader()
    runtime.undo.callback(providers.add_reader(reader, resource))
    exposition = default_exposition()
    shown = contextlib.ExitStack()
    runtime.undo.callback(shown.close)

    def show(resource: Resource) -> None:
        shown.close()
        shown.callback(exposition.attach(reader, resource))

    show(resource)
    host, port = config.prometheus_host, config.prometheus_port if serves else 0
    processes = Group(
        group or groups.key_of(config.service_name, host, port),
        collect=exposition.own_families,
        serve=_Listener(config, exposition.render).listen if serves else lambda _: None,
        limits_of=REGISTRY.limits_of,
    )
    processes.join()
    if not port:
        runtime.undo.callback(groups.tell_programs(processes.key, config.service_name))
    runtime.undo.callback(exposition.combine(processes.families))
    runtime.undo.callback(processes.leave)
    runtime.group = processes
    runtime.renewals += [show, lambda _: processes.forked()]


class _Listener:
    """Serves `/metrics` for the group, where the configuration says or where a free port is."""

    def __init__(self, config: Config, render: Renderer) -> None:
        self._config = config
        self._render = render

    def listen(self, last_port: int | None) -> MetricsServer | None:
        """Return a server, or None if there can be none.

        Args:
            last_port: Where the group has been served before.
        """
        config = self._config
        host, port = config.prometheus_host, last_port or config.prometheus_port
        try:
            return self._server(port)
        except OSError as error:
            reason = error.strerror or error
        if last_port is not None:
            return None  # it is tried again soon
        if config.prometheus_port_explicit:
            warn_once(
                f"metrics port:{port}",
                "/metrics cannot be served on %s:%d (%s): this process has no metrics endpoint. "
                "Free the port, set OTEL_EXPORTER_PROMETHEUS_PORT to another one (0 takes any free "
                "one), or take 'prometheus' out of OTEL_METRICS_EXPORTER.",
                host,
                port,
                reason,
            )
            return None
        try:
            server = self._server(0)
        except OSError as error:
            warn_once(
                f"metrics host:{host}",
                "/metrics cannot be served on %s: %s",
                host,
                error.strerror or error,
            )
            return None
        say(
            "/metrics is served at %s, since port %d cannot be used (%s). "
            "Set OTEL_EXPORTER_PROMETHEUS_PORT to choose a port.",
            server.url,
            port,
            reason,
        )
        return server

    def _server(self, port: int) -> MetricsServer:
        status = {"service": self._config.service_name}
        return MetricsServer(self._config.prometheus_host, port, self._render, lambda: status)


def _push(runtime: Runtime, config: Config, resource: Resource, *, console: bool) -> None:
    from otel_pipeline.sdk.metrics import MetricPush  # noqa: PLC0415

    reader = SnapshotReader(exponential=config.histogram_aggregation.startswith("base2"))
    runtime.undo.callback(providers.add_reader(reader, resource))
    otlp = config.metrics.otlp
    transport = ConsoleTransport(Signal.METRICS) if console else transport_for(Signal.METRICS, otlp)
    shelf = None if console else _shelf(runtime, config, Signal.METRICS, transport.endpoint)
    push = MetricPush(
        collect=REGISTRY.collect,
        sdk_reader=reader,
        transport=transport,
        ledger=Ledger("owned") if console else runtime.ledgers.metrics,
        explicit=console or otlp.explicit,
        interval=config.metric_export_interval,
        timeout=config.metric_export_timeout,
        resource=resource,
        delta=config.temporality != "cumulative",
        shelf=shelf,
    )
    if shelf is not None and shelf.spool.exists():
        push.recover()
    push.start()
    runtime.exporters.append(push)
    runtime.renewals.append(push.restart)


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
