"""Passes on what was received to another OTLP endpoint."""

from __future__ import annotations

import collections
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otel_pipeline import config as configuration
from otel_pipeline import diagnostics
from otel_pipeline.errors import CommandError
from otel_pipeline.sdk.transport import transport_for
from otel_pipeline.semconv import SIGNALS

if TYPE_CHECKING:
    from otel_pipeline.sdk.transport import Transport

__all__ = ["Forwarder"]

_MOST_BYTES: Final = 32 * 1024 * 1024
_SECONDS: Final = 10.0
_LONGEST_PAUSE: Final = 30.0


class Forwarder:
    """Sends requests on, in their order, from a thread of its own.

    While the other side is away up to 32 MiB wait in memory; beyond that the oldest go, which is
    said once and counted in `dropped`. The store has all of it in any case.

    Args:
        url: The other endpoint's base address; `/v1/traces` and so on are added.
        headers: Headers of each request, as `OTEL_EXPORTER_OTLP_HEADERS` has them.

    Raises:
        CommandError: The address is none.
    """

    def __init__(self, url: str, headers: str = "") -> None:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise CommandError(f"--forward {url!r} is no address: write http://HOST:PORT")
        config = configuration.load(
            {}, service_name="otel-pipeline-ui", otlp_endpoint=url, otlp_headers=headers or None
        )
        self._transports: dict[str, Transport] = {
            signal: transport_for(signal, getattr(config, signal).otlp) for signal in SIGNALS
        }
        self._waiting: collections.deque[tuple[str, bytes]] = collections.deque()
        self._bytes = 0
        self.dropped = 0
        self._url = url
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)
        self._thread.start()

    def add(self, signal: str, body: bytes) -> None:
        """Send a request on, later."""
        with self._changed:
            self._waiting.append((signal, body))
            self._bytes += len(body)
            while self._bytes > _MOST_BYTES and self._waiting:
                self._bytes -= len(self._waiting.popleft()[1])
                self.dropped += 1
                diagnostics.warn_once(
                    "forward:full", "%s does not keep up: what waited longest is dropped", self._url
                )
            self._changed.notify_all()

    def stop(self, timeout: float = 2.0) -> None:
        """Send what waits, within the time given, and stop."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)
        for transport in self._transports.values():
            transport.close()

    def _run(self) -> None:
        pause = 1.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return
                signal, body = first = self._waiting[0]
            outcome = self._transports[signal].send(body, timeout=_SECONDS)
            again = outcome.kind in {"retry", "away"}
            if outcome.reason:
                diagnostics.warn_once(f"forward:{outcome.kind}", "forwarding: %s", outcome.reason)
            with self._changed:
                if again and self._stopping:
                    return
                if again:
                    self._changed.wait_for(lambda: self._stopping, outcome.retry_after or pause)
                elif self._waiting and self._waiting[0] is first:
                    self._waiting.popleft()
                    self._bytes -= len(body)
            pause = min(pause * 2, _LONGEST_PAUSE) if again else 1.0
