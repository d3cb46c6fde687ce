"""The process's OpenTelemetry providers, and who owns them.

OpenTelemetry lets the global providers be set once. What is set here are switches that pass every
call on to the providers of the running telemetry, so that a process can be configured, shut down
and configured again, and a tracer that a library took long ago goes on working.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opentelemetry import _logs as otel_logs
from opentelemetry import metrics as otel_metrics
from opentelemetry import trace
from opentelemetry._logs._internal import ProxyLoggerProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider

from otel_pipeline.diagnostics import warn_once
from otel_pipeline.sdk.sdk_reader import SnapshotReader
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

__all__ = [
    "add_reader",
    "force_flush",
    "is_foreign",
    "rename",
    "switch_loggers",
    "switch_tracers",
]

ProviderT = TypeVar("ProviderT")


class _Switch(Generic[ProviderT]):
    """Holds the provider that calls are passed on to."""

    def __init__(self, off: ProviderT) -> None:
        self._off = off
        self.target = off

    def to(self, provider: ProviderT) -> Callable[[], None]:
        """Pass calls on to `provider` from now on and return the undo."""
        previous, self.target = self.target, provider

        def undo() -> None:
            if self.target is provider:
                self.target = previous

        return undo


class _SwitchedTracer(trace.Tracer):
    def __init__(self, switch: _Switch[trace.TracerProvider], identity: tuple[Any, ...]) -> None:
        self._switch = switch
        self._identity = identity
        self._real: tuple[trace.TracerProvider, trace.Tracer] | None = None

    @property
    def switched_to(self) -> trace.Tracer:
        """The tracer of the running telemetry; stages ask for it to be spared the detour."""
        target = self._switch.target
        if self._real is None or self._real[0] is not target:
            self._real = (target, target.get_tracer(*self._identity))
        return self._real[1]

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        return self.switched_to.start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        return self.switched_to.start_as_current_span(*args, **kwargs)


class _SwitchedTracerProvider(trace.TracerProvider):
    def __init__(self, switch: _Switch[trace.TracerProvider]) -> None:
        self._switch = switch

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        names = ("instrumenting_module_name", "instrumenting_library_version", "schema_url")
        identity = (*args, *(kwargs.get(name) for name in (*names, "attributes")[len(args) :]))
        return _SwitchedTracer(self._switch, identity)

    def __getattr__(self, name: str) -> Any:
        # What the SDK's provider has beyond the API, such as add_span_processor.
        return getattr(self._switch.target, name)


class _SwitchedLogger(otel_logs.Logger):
    def __init__(
        self, switch: _Switch[otel_logs.LoggerProvider], identity: tuple[Any, ...]
    ) -> None:
        super().__init__(*identity)
        self._switch = switch
        self._identity = identity
        self._real: tuple[otel_logs.LoggerProvider, otel_logs.Logger] | None = None

    @property
    def _logger(self) -> otel_logs.Logger:
        target = self._switch.target
        if self._real is None or self._real[0] is not target:
            self._real = (target, target.get_logger(*self._identity))
        return self._real[1]

    def emit(self, *args: Any, **kwargs: Any) -> None:
        self._logger.emit(*args, **kwargs)

    def enabled(self, *args: Any, **kwargs: Any) -> bool:
        return self._logger.enabled(*args, **kwargs)


class _SwitchedLoggerProvider(otel_logs.LoggerProvider):
    def __init__(self, switch: _Switch[otel_logs.LoggerProvider]) -> None:
        self._switch = switch

    def get_logger(self, *args: Any, **kwargs: Any) -> otel_logs.Logger:
        names = ("name", "version", "schema_url", "attributes")
        identity = (*args, *(kwargs.get(name) for name in names[len(args) :]))
        return _SwitchedLogger(self._switch, identity)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._switch.target, name)


_tracers: _Switch[trace.TracerProvider] = _Switch(trace.NoOpTracerProvider())
_loggers: _Switch[otel_logs.LoggerProvider] = _Switch(otel_logs.NoOpLoggerProvider())
_meters: MeterProvider | None = None
_lock = threading.Lock()


def _in_child() -> None:
    """Give a forked child locks that no lost thread holds, and let its meters begin at 0."""
    global _lock  # noqa: PLW0603  a lock cannot be renewed in place
    _lock = threading.Lock()
    if _meters is not None:
        # The SDK gives a child neither: it would wait for a lock that a thread of the parent held,
        # or count what the parent had counted once more. Adding a reader makes its storage anew.
        consumer = _meters._measurement_consumer  # noqa: SLF001  there is no other way
        consumer._lock = threading.Lock()  # noqa: SLF001
        for reader in consumer._reader_storages:  # noqa: SLF001
            if isinstance(reader, SnapshotReader):
                reader.forked()
            consumer.add_metric_reader(reader)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def is_foreign(signal: str) -> bool:
    """Tell whether someone else has installed the provider of `signal`."""
    if signal == Signal.TRACES:
        return not isinstance(
            trace.get_tracer_provider(), (trace.ProxyTracerProvider, _SwitchedTracerProvider)
        )
    if signal == Signal.LOGS:
        return not isinstance(
            otel_logs.get_logger_provider(),
            (ProxyLoggerProvider, _SwitchedLoggerProvider),
        )
    provider = otel_metrics.get_meter_provider()
    return not isinstance(provider, _ProxyMeterProvider) and provider is not _meters


def force_flush(signal: str, timeout: float) -> bool:
    """Let the installed provider of `signal` flush, if it can.

    Returns:
        False if it says that it has not, or fails.
    """
    getters: dict[str, Callable[[], Any]] = {
        Signal.TRACES: trace.get_tracer_provider,
        Signal.METRICS: otel_metrics.get_meter_provider,
        Signal.LOGS: otel_logs.get_logger_provider,
    }
    flush = getattr(getters[signal](), "force_flush", None)
    try:
        return flush is None or bool(flush(int(timeout * 1000)))
    except Exception as error:  # noqa: BLE001  someone else's provider
        warn_once(f"flush:{signal}", "flushing the installed provider failed: %r", error)
        return False


def switch_tracers(provider: trace.TracerProvider) -> Callable[[], None]:
    """Make `provider` the process's tracer provider and return the undo."""
    with _lock:
        if not isinstance(trace.get_tracer_provider(), _SwitchedTracerProvider):
            trace.set_tracer_provider(_SwitchedTracerProvider(_tracers))
        return _tracers.to(provider)


def switch_loggers(provider: otel_logs.LoggerProvider) -> Callable[[], None]:
    """Make `provider` the process's logger provider and return the undo."""
    with _lock:
        if not isinstance(otel_logs.get_logger_provider(), _SwitchedLoggerProvider):
            otel_logs.set_logger_provider(_SwitchedLoggerProvider(_loggers))
        return _loggers.to(provider)


def rename(provider: TracerProvider | LoggerProvider, resource: Resource) -> None:
    """Let what a provider makes from now on be of another resource, in a forked child."""
    # The SDK does the same there, but makes up an instance id for each provider.
    provider._update_resource(resource)  # noqa: SLF001


def add_reader(reader: MetricReader, resource: Resource) -> Callable[[], None]:
    """Add `reader` to the process's meter provider and return the undo.

    One meter provider lives as long as the process, since instruments belong to it; readers come
    and go. It has the resource of the first; what readers give out names its own.
    """
    global _meters  # noqa: PLW0603  one per process, by design
    with _lock:
        if _meters is None:
            _meters = MeterProvider(resource=resource, shutdown_on_exit=False)
            otel_metrics.set_meter_provider(_meters)
    provider = _meters
    provider.add_metric_reader(reader)
    return lambda: provider.remove_metric_reader(reader)
