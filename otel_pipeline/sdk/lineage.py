"""What stages read and write on its way out: into the local record, and to OpenLineage.

A thread of its own does both, so that a receiver that hangs holds up nobody. It starts with the
first thing that there is to tell.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from otel_pipeline.diagnostics import say, warn_once
from otel_pipeline.quality.lineage import openlineage
from otel_pipeline.quality.lineage.model import redacted
from otel_pipeline.quality.lineage.record import Record, RecordError, keeps, path_of
from otel_pipeline.sdk.transport import suppressed

if TYPE_CHECKING:
    from otel_pipeline.config import Config
    from otel_pipeline.quality.lineage.model import JobRun
    from otel_pipeline.quality.lineage.names import DatasetName
    from otel_pipeline.quality.lineage.openlineage import Sender
    from otel_pipeline.redaction import Redactor
    from otel_pipeline.sdk.ledger import Ledger

__all__ = ["LineageExporter", "exporter"]

_MOST_WAITING: Final = 1000
_EXTRA: Final = "otel-pipeline[openlineage]"


def exporter(config: Config, redactor: Redactor, ledger: Ledger) -> LineageExporter:
    """Return what takes lineage out of the process.

    Args:
        config: The configuration.
        redactor: Masks secrets.
        ledger: Counts the events of OpenLineage.
    """
    path = path_of(config.lineage)
    sends = openlineage.is_configured()
    if sends:
        ledger.state = "owned"
    namespace = os.environ.get("OPENLINEAGE_NAMESPACE", "").strip() or config.service_name
    return LineageExporter(
        namespace, None if path is None else Record(path), redactor, ledger, sends=sends
    )


class LineageExporter:
    """Takes job runs, and puts them into the record and out as events of OpenLineage.

    Args:
        namespace: Where the pipelines, and datasets of a bare name, belong.
        record: Where they are kept, or None.
        redactor: Masks secrets before anything leaves the process.
        ledger: Counts the events.
        sends: Whether they go out as events.

    Attributes:
        away: Whether the last event could not be sent.
    """

    def __init__(
        self,
        namespace: str,
        record: Record | None,
        redactor: Redactor,
        ledger: Ledger,
        *,
        sends: bool,
    ) -> None:
        self.namespace = namespace
        self.away = False
        self._record = record
        self._redactor = redactor
        self._ledger = ledger
        self._sends = sends
        self._sender: Sender | None = None
        self._complained = False
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[JobRun] = deque()
        self._busy = False
        self._deadline: float | None = None  # of the end
        self._thread: threading.Thread | None = None

    def forked(self) -> None:
        """Go on in a forked child: what waits is the parent's, and so are its connections."""
        self._sender = None
        self._forget()

    # For stages, by way of `lifecycle.Hooks`.

    def put(self, run: JobRun) -> None:
        """Take what a run or stage has to tell."""
        if not self._sends and (self._record is None or not keeps(run)):
            return  # most runs have no datasets: no thread for them
        if self._sends:
            self._ledger.produce()
        with self._changed:
            room = len(self._waiting) < _MOST_WAITING and self._deadline is None
            if room:
                self._waiting.append(run)
                self._start()
                self._changed.notify_all()
        if not room:
            self._lose(1, "more wait than the receiver takes")

    def last_writer(self, name: DatasetName) -> tuple[str, str] | None:
        """Return trace and span id (hex digits) of a dataset's last writer, if it is known."""
        if self._record is None:
            return None
        try:
            return self._record.last_writer(name)
        except RecordError as error:
            self._complain_of_record(error)
            return None

    # For the runtime.

    @property
    def works(self) -> bool:
        """Whether anybody wants what it takes; else it only knows where names belong."""
        return self._sends or self._record is not None

    def flush(self, timeout: float) -> bool:
        """Send what waits, within so many seconds; with 0, only begin to."""
        deadline = time.monotonic() + (0 if self.away else timeout)
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._busy,
                max(deadline - time.monotonic(), 0),
            )

    def close(self, timeout: float) -> None:
        """Begin to end, and return at once."""
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
                self._changed.notify_all()

    def shutdown(self, timeout: float) -> None:
        """Send what waits and end, within so many seconds."""
        self.close(timeout)
        thread, deadline = self._thread, self._deadline or 0.0
        if thread is not None and self._process == os.getpid():
            thread.join(max(deadline - time.monotonic(), 0))
        with self._changed:
            # What is being sent just now may still arrive, but nobody will know.
            left = len(self._waiting) + self._busy
            self._waiting.clear()
            self._busy = False
        if left:
            self._lose(left, "the time at the end was too short")

    # The thread.

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="otel-pipeline-lineage", daemon=True
            )
            self._thread.start()

    def _work(self) -> None:
        with suppressed():
            while (run := self._next()) is not None:
                sent = self._handle(run)
                with self._changed:
                    mine, self._busy = self._busy, False
                    self._changed.notify_all()
                if mine and self._sends:  # else the end has counted it already
                    (self._ledger.deliver if sent else self._ledger.drop)(1)
            self._end()

    def _handle(self, run: JobRun) -> bool:
        """Keep and send what a run has to tell; whether it has gone."""
        try:
            safe = redacted(run, self._redactor.text)
            self._keep(safe)
            return not self._sends or self._send(safe)
        except Exception as error:  # noqa: BLE001  the thread never dies
            self._complain(f"{type(error).__name__} in the lineage of {run.job.name}")
            return False

    def _next(self) -> JobRun | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._deadline is not None)
            too_late = self._deadline is not None and self._deadline < time.monotonic()
            if not self._waiting or too_late:
                return None
            self._busy = True
            return self._waiting.popleft()

    def _keep(self, run: JobRun) -> None:
        if self._record is None or not keeps(run):
            return
        try:
            self._record.add([run])
        except RecordError as error:
            self._complain_of_record(error)

    def _complain_of_record(self, error: RecordError) -> None:
        warn_once(
            "lineage.record",
            "the record of lineage %s cannot be used (%s): what stages read and wrote is not "
            "kept there. Make it writable, name another file by OTEL_PIPELINE_LINEAGE, or set "
            "that to off.",
            self._record.path if self._record is not None else "",
            error,
        )

    def _send(self, run: JobRun) -> bool:
        """Send one event; whether it has gone."""
        try:
            if self._sender is None:
                self._sender = openlineage.sender()
            self._sender.emit(openlineage.to_event(run))
        except ImportError:
            self._complain(f"the client is not installed: pip install '{_EXTRA}'")
            return False
        except Exception as error:  # noqa: BLE001  the thread never dies
            self.away = True
            self._complain(self._redactor.text(f"{type(error).__name__}: {error}"))
            return False
        self.away = False
        return True

    def _end(self) -> None:
        sender, deadline = self._sender, self._deadline
        if sender is not None and deadline is not None:
            try:
                sender.close(max(deadline - time.monotonic(), 0.0))
            except Exception as error:  # noqa: BLE001  the thread never dies
                self._complain(self._redactor.text(f"{type(error).__name__}: {error}"))

    def _lose(self, number: int, reason: str) -> None:
        if self._sends:
            self._ledger.drop(number)
            self._complain(reason)
        else:
            warn_once("lineage.lost", "lineage of %d runs is not kept: %s", number, reason)

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            say(
                "OpenLineage events are lost (%s); further ones are only counted, as "
                'otel_pipeline_items_total{signal="lineage",outcome="dropped"}. Correct the '
                "OPENLINEAGE_* variables or openlineage.yml, or set OPENLINEAGE_DISABLED=true.",
                reason,
            )
