"""`configure()` and the handle that it returns: what is on, where it goes, and how it ends."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from otel_pipeline import config as configuration
from otel_pipeline import lifecycle, propagation
from otel_pipeline.diagnostics import say
from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from otel_pipeline.children import Handed
    from otel_pipeline.config import Config
    from otel_pipeline.sdk.runtime import Runtime

__all__ = ["Telemetry", "configure", "current_telemetry", "set_aside"]

_lock = threading.RLock()
_current: Telemetry | None = None


def _renew_lock() -> None:
    """Give a forked child a lock that no lost thread holds."""
    global _lock  # noqa: PLW0603  a lock cannot be renewed in place
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Telemetry:
    """The running telemetry of the process; made by `configure`.

    A context manager: leaving it shuts telemetry down.

    Attributes:
        config: What was configured.
    """

    def __init__(
        self, config: Config, runtime: Runtime, *, signals: bool, inherited: bool = False
    ) -> None:
        self.config = config
        self._process = os.getpid()
        self._inherited = inherited  # from the parent process: nobody asked for it in this one
        self._runtime = runtime
        self._signals = signals
        self._ended = False
        self._rules = False  # whether runs of this process use it
        self._undo = contextlib.ExitStack()

    def _take_over(self) -> None:
        """Let runs use this telemetry, and end with the program."""
        hooks = lifecycle.Hooks(
            flush=self._runtime.flush,
            finish=self.shutdown,
            shutdown_timeout=self.config.shutdown_timeout,
            signals=self._signals,
            parent=_inherited_parent(),
            redact=self._runtime.redact_adopted_spans,
            lineage=self._runtime.lineage,
        )
        self._rules = True
        self._undo.callback(lifecycle.install(hooks))
        atexit.register(self.shutdown)
        self._undo.callback(atexit.unregister, self.shutdown)
        from otel_pipeline import children  # noqa: PLC0415  multiprocessing takes long to load

        self._undo.callback(children.follow(self, self._hand_over))

    def _hand_over(self) -> Handed | None:
        """Return what a child process needs to have the same telemetry."""
        if self._ended:
            return None
        group = self._runtime.group
        begin = functools.partial(
            inherit, self.config, signals=self._signals, group=None if group is None else group.key
        )
        return begin, propagation.Place.here()

    def __repr__(self) -> str:
        state = "ended" if self._ended else "running"
        return (
            f"<Telemetry of {self.config.service_name!r}: {state}, metrics at {self.metrics_url}>"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self.shutdown()

    @property
    def metrics_url(self) -> str | None:
        """The whole URL of `/metrics`, or None where it is not served, or not any more."""
        return None if self._ended else self._runtime.metrics_url

    def flush(self, timeout: float | None = None) -> bool:
        """Send what waits in memory now.

        Args:
            timeout: Seconds to wait at most, all signals together; the shutdown timeout by default.

        Returns:
            True if all of it was delivered; False at once while the collector is known to be away.
            For an adopted signal, whether its provider says that it has flushed.

        Example:
            >>> from otel_pipeline import configure
            >>> with configure("docs-flush", prometheus_port=0) as telemetry:
            ...     telemetry.flush(timeout=1)
            True
        """
        seconds = self.config.shutdown_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        delivered = self._runtime.flush(seconds)
        return self._runtime.flush_adopted(max(deadline - time.monotonic(), 0)) and delivered

    def shutdown(self, timeout: float | None = None) -> None:
        """End telemetry: close what is open, send what is left, stop `/metrics`, undo the set-up.

        Called again, or by the interpreter's exit afterwards, it does nothing. `configure()` works
        again afterwards, and `report()` still answers.

        Args:
            timeout: Seconds to wait at most, all signals together; the shutdown timeout by default.
        """
        global _current  # noqa: PLW0603  one telemetry per process, by design
        with lifecycle.ending():
            with _lock:
                if self._ended:
                    return
                self._ended = True
            try:
                if self._rules:
                    lifecycle.close_all()
                self._runtime.shutdown(self.config.shutdown_timeout if timeout is None else timeout)
            finally:
                self._undo.close()
                with _lock:
                    if _current is self:
                        _current = None

    def _differences(self, config: Config, *, signals: bool) -> list[tuple[str, bool]]:
        """Return what differs from another configuration, and whether somebody asked for it.

        A setting that is at its default there was not asked for: a bare `configure()` in a module
        means what is running.
        """
        found = [
            (
                f"{name}: {self.config.settings[name].value!r} runs, {there.value!r} was asked for",
                there.source != "default",
            )
            for name, there in config.settings.items()
            if self.config.settings[name].value != there.value
        ]
        if self._signals != signals:
            text = f"signals: {self._signals!r} runs, {signals!r} was asked for"
            found.append((text, not signals))
        return found

    def report(self) -> dict[str, dict[str, Any]]:
        """Return the ledger: where the items of each signal are or how they ended.

        Returns:
            For `traces`, `metrics` and `logs` a mapping with `state` (`owned`, `adopted`, `off`),
            `produced`, `recovered`, `delivered`, `rejected`, `dropped`, `pending_memory` and
            `pending_disk`. Items are spans, data points sent by OTLP, and log records. Where
            OpenLineage is configured, `lineage` counts its events the same way.

        Example:
            >>> from otel_pipeline import configure
            >>> with configure("docs-report", prometheus_port=0) as telemetry:
            ...     telemetry.report()["traces"]["state"]
            'owned'
        """
        return self._runtime.report()


def configure(
    service_name: str | None = None,
    *,
    environment: str | None = None,
    version: str | None = None,
    signals: bool = True,
    replace: bool = False,
    environ: Mapping[str, str] | None = None,
    **options: Any,
) -> Telemetry:
    """Set telemetry up, once, at the entry point of a program.

    An argument wins over an `OTEL_*` variable, that over an `OTEL_PIPELINE_*` variable, and that
    over the default. A provider that someone else has installed is adopted, not replaced.

    Args:
        service_name: Name of the service.
        environment: Where it runs, such as `production`.
        version: Version of the service.
        signals: Let SIGTERM end a run cleanly, if nobody else handles it.
        replace: End the running telemetry if it is configured otherwise, instead of raising.
        environ: The variables to read, instead of the process's environment.
        options: Any other option by its field name in the reference of configuration, such as
            `prometheus_port=0` or `log_level="debug"`.

    Returns:
        The handle. Called again, it returns the same one, unless something else is asked for.

    Raises:
        ConfigurationError: A value cannot be used, or telemetry runs with another configuration.

    Example:
        >>> from otel_pipeline import configure
        >>> telemetry = configure("docs-configure", prometheus_port=0, traces_exporter="none",
        ...                       logs_exporter="none")
        >>> telemetry.metrics_url.endswith("/metrics")
        True
        >>> telemetry.shutdown()
    """
    global _current  # noqa: PLW0603  one telemetry per process, by design
    config = configuration.load(
        environ, service_name=service_name, environment=environment, version=version, **options
    )
    if not isinstance(signals, bool):
        message = f"argument signals={signals!r} is not True or False"
        raise ConfigurationError(message)
    with _lock:
        running = _current
        if running is not None:
            differences = running._differences(config, signals=signals)  # noqa: SLF001  same module
            if not differences or not (replace or any(asked for _, asked in differences)):
                return running
            inherited = running._inherited or running._process != os.getpid()  # noqa: SLF001
            if not replace and not inherited:
                raise ConfigurationError(_conflict([said for said, asked in differences if asked]))
            running.shutdown()
        for warning in config.warnings:
            say("%s", warning)
        from otel_pipeline.sdk import runtime  # noqa: PLC0415  the SDK is loaded when used

        hooks = lifecycle.hooks()
        if hooks is not None and hooks.captures:
            # A test captures what this program does: nothing is to leave the process.
            _current = Telemetry(config, runtime.idle(), signals=False)
        else:
            _current = Telemetry(config, runtime.build(config), signals=signals)
            _current._take_over()  # noqa: SLF001  same module
        return _current


def inherit(config: Config, *, signals: bool, group: str | None) -> None:
    """Set telemetry up as it was in the process that started this one, unless it runs already.

    Args:
        config: The parent's configuration.
        signals: As in `configure`.
        group: Key of the parent's group of processes.
    """
    global _current  # noqa: PLW0603  one telemetry per process, by design
    with _lock:
        if _current is None:
            from otel_pipeline.sdk import runtime  # noqa: PLC0415  the SDK is loaded when used

            built = runtime.build(config, group)
            _current = Telemetry(config, built, signals=signals, inherited=True)
            _current._take_over()  # noqa: SLF001  same module


@contextlib.contextmanager
def set_aside() -> Iterator[None]:
    """Set the running telemetry aside, and end the one that was configured meanwhile."""
    global _current  # noqa: PLW0603  one telemetry per process, by design
    with _lock:
        aside, _current = _current, None
    try:
        yield
    finally:
        if _current is not None:
            _current.shutdown()
        with _lock:
            _current = aside


def current_telemetry() -> Telemetry | None:
    """Return the running telemetry of the process, or None."""
    return _current


def _conflict(differences: list[str]) -> str:
    listed = "\n  ".join(differences)
    return (
        f"telemetry is already configured, otherwise:\n  {listed}\n"
        f"Call configure() once, at the entry point; or shut the running one down first, or pass "
        f"replace=True."
    )


def _inherited_parent() -> Any:
    """Return the context that the parent process handed over in the environment, or None."""
    from opentelemetry import trace  # noqa: PLC0415

    context = propagation.extract(os.environ)
    return context if trace.get_current_span(context).get_span_context().is_valid else None
