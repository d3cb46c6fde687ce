"""The courier: sends batches, and keeps on disk those that cannot be sent now.

The worker of a `BatchProcessor` hands each batch over and gets an answer soon, whatever the
receiver does: it was delivered or refused, or it is on disk. The courier's own thread is the only
one that waits for the receiver. In turns it sends a fresh batch and the oldest from the disk; while
the receiver is away it tries the oldest after growing pauses, and fresh ones go to disk at once.

A batch whose answer takes long is written to disk while it is under way, so that nothing waits in
memory alone for longer than `_PATIENCE`.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from otel_pipeline import diagnostics
from otel_pipeline.sdk.spool import Change, SpoolError
from otel_pipeline.sdk.transport import Outcome, suppressed

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.sdk.ledger import Ledger
    from otel_pipeline.sdk.spool import Shelf
    from otel_pipeline.sdk.transport import Transport

__all__ = ["Courier", "Parcel"]

#: Seconds that a batch waits for its answer before it is written to disk as well.
_PATIENCE: Final = 0.4
#: Seconds between two looks at that wait, and at a drain.
_LOOK: Final = 0.01
#: Seconds for an attempt that somebody waits for although the last one failed.
_QUICK: Final = 0.5
#: Seconds between two looks for what processes have left that ended meanwhile.
_ADOPTION: Final = 5.0
_PAUSE_GROWTH: Final = 1.5
_LONGEST_PAUSE: Final = 30.0
_LONGEST_RETRY_AFTER: Final = 300.0


@dataclass(slots=True, eq=False)
class Parcel:
    """A batch that somebody hands over.

    Attributes:
        payload: The encoded request.
        items: How many items it has.
        let_go: Called before it is written to disk: takes it out of memory. False if somebody
            else has done so, and accounted for it.
        take_back: Called if it could not be written after all.
        crowded: Whether more items wait behind it than may.
    """

    payload: bytes
    items: int
    let_go: Callable[[], bool]
    take_back: Callable[[], None]
    crowded: Callable[[], bool]
    row: int | None = None
    generation: int = 0
    outcome: Outcome | None = None
    answered: threading.Event = field(default_factory=threading.Event)


class Courier:
    """Sends the batches of one signal, by way of the disk where need be.

    Args:
        signal: `traces` or `logs`.
        transport: Where requests go; its owner closes it.
        shelf: Where they wait.
        ledger: Where items are counted; what is on disk is counted here, the rest by the caller.
        timeout: Seconds for one request.
        first_pause: Seconds before the second attempt; later pauses grow up to 30 s.
        say: Told each outcome of a request.
    """

    def __init__(
        self,
        signal: str,
        *,
        transport: Transport,
        shelf: Shelf,
        ledger: Ledger,
        timeout: float,
        first_pause: float,
        say: Callable[[Outcome], None],
    ) -> None:
        self._signal = signal
        self._transport = transport
        self._shelf = shelf
        self._ledger = ledger
        self._timeout = timeout
        self._first_pause = first_pause
        self._say = say
        self.reset()

    def reset(self) -> None:
        """Start anew, with nothing that another thread could hold; also after a fork."""
        self._inbox: SimpleQueue[Parcel | None] = SimpleQueue()
        self._lock = threading.Lock()  # held while something moves between memory and disk
        self._thread: threading.Thread | None = None
        self._released = threading.Event()
        self._generation = self._shelf.spool.generation
        self._done: set[int] = set()  # settled, but not yet deleted
        self._busy_since: float | None = None
        self._hurried = False
        self._told_to_wait = False
        self._pause = self._first_pause
        self._next_attempt = 0.0
        self._next_adoption = 0.0
        self._end_by = math.inf
        self._ended = False
        self.failing = False
        self.away = False
        self.reason = ""

    @property
    def folder(self) -> str:
        """Where batches wait."""
        return str(self._shelf.spool.folder)

    @property
    def on_disk(self) -> int:
        """How many of this process's items wait there."""
        return self._ledger.snapshot()["pending_disk"]

    def start(self) -> bool:
        """Start the thread, which looks for what earlier processes left; False if it cannot."""
        if self._thread is None:
            thread = threading.Thread(
                target=self._run, name=f"otel-pipeline-{self._signal}-courier", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no new threads, while the interpreter ends
                return False
            self._thread = thread
        return True

    def deliver(self, parcel: Parcel, patience: float = _PATIENCE) -> Outcome | None:
        """Send a batch, or write it to disk to be sent later.

        Args:
            parcel: The batch.
            patience: Seconds to wait for the answer at most.

        Returns:
            None if it is on disk now. Else what became of it; a receiver that is away or asks to
            come again means that the disk cannot be used either.
        """
        sending = not self._is_stuck() and not parcel.crowded() and self.start()
        if sending:
            self._inbox.put(parcel)
            self._wait(parcel, min(patience, _PATIENCE))
        with self._lock:
            outcome = parcel.outcome
            if (outcome is None or outcome.kind in {"retry", "away"}) and self._store(parcel):
                return None
        if outcome is None and self.start():
            if not sending:
                self._inbox.put(parcel)
            parcel.answered.wait(self._timeout + _PATIENCE)
            outcome = parcel.outcome
        if outcome is not None and outcome.kind == "rejected":
            with contextlib.suppress(SpoolError):
                self._shelf.put_aside(parcel.payload, parcel.items, outcome.reason)
        return outcome

    def drain(self, deadline: float) -> bool:
        """Wait until nothing is on disk, the receiver turns out to be away, or time is over."""
        if self.on_disk and self.start():
            self._hurried = True
            self._inbox.put(None)
            while self.on_disk and time.monotonic() < deadline:
                if self.failing and not self._hurried and self._busy_since is None:
                    break
                time.sleep(_LOOK)
        return not self.on_disk

    def finish(self, deadline: float) -> None:
        """Send what can be sent in time; the rest stays on disk, for the next process."""
        self._end_by = deadline
        if self._thread is not None:
            self.drain(deadline)
        self._ended = True
        self._inbox.put(None)

    def join(self, timeout: float) -> None:
        """Wait until the batches are nobody's; the transport must be closed."""
        self._ended = True
        self._inbox.put(None)
        if self._thread is not None:
            self._released.wait(timeout)

    # --- Called by the worker ---------------------------------------------------------------------

    def _is_stuck(self) -> bool:
        """Whether a fresh batch would wait for nothing."""
        since = self._busy_since
        return self.failing or (since is not None and time.monotonic() - since > _PATIENCE)

    def _wait(self, parcel: Parcel, patience: float) -> None:
        until = time.monotonic() + patience
        while not parcel.answered.wait(max(0.0, min(_LOOK, until - time.monotonic()))):
            if time.monotonic() >= until or parcel.crowded():
                return

    def _store(self, parcel: Parcel) -> bool:
        """Move a batch from memory to disk; False if that cannot be done. The lock is held."""
        if not parcel.let_go():
            return True
        try:
            row, change = self._shelf.put(parcel.payload, parcel.items)
        except SpoolError as error:
            parcel.take_back()
            self._say_unusable(error)
            return False
        self._apply(Change())
        parcel.row, parcel.generation = row, self._generation
        self._ledger.to_disk(parcel.items)
        self._apply(change)
        self._inbox.put(None)
        return True

    # --- Called by the courier's thread -----------------------------------------------------------

    def _run(self) -> None:
        with suppressed():
            while not self._ended:
                try:
                    self._turn()
                except SpoolError as error:
                    self._say_unusable(error)
                    self._next_adoption = time.monotonic() + _ADOPTION
                    self._back_off()
                except Exception as error:  # noqa: BLE001  the thread never dies
                    self._back_off()
                    diagnostics.warn_once(
                        f"spool:failure:{self._signal}", "sending from the spool failed: %r", error
                    )
            with contextlib.suppress(SpoolError):
                self._delete_done()
            with contextlib.suppress(SpoolError), self._lock:
                self._apply(self._shelf.release())
        self._shelf.spool.close()
        self._released.set()

    def _turn(self) -> None:
        """Send one fresh batch, if there is one, and one from the disk, if it is time to."""
        if time.monotonic() >= self._next_adoption and self._shelf.spool.exists():
            with self._lock:
                self._apply(self._shelf.adopt())
        if time.monotonic() >= self._next_adoption:
            self._next_adoption = time.monotonic() + _ADOPTION
        try:
            parcel = self._inbox.get(timeout=max(0.0, self._due() - time.monotonic()))
        except Empty:
            parcel = None
        if self._ended:
            return
        if parcel is not None:
            self._send(parcel)
        self._delete_done()
        if self.on_disk and (self._hurried or time.monotonic() >= self._next_attempt):
            self._replay()
        self._hurried = False

    def _delete_done(self) -> None:
        """Delete what the receiver has, where the disk failed to do so at once."""
        for row in tuple(self._done):
            self._shelf.delete(row)
            self._done.discard(row)

    def _due(self) -> float:
        """Return when there is something to do, if nobody brings anything."""
        if not self.on_disk:
            return self._next_adoption
        return 0.0 if self._hurried else min(self._next_attempt, self._next_adoption)

    def _send(self, parcel: Parcel) -> None:
        with self._lock:
            if parcel.row is not None:  # written meanwhile: its turn comes with the others on disk
                return
        outcome = self._exchange(parcel.payload)
        with self._lock:
            parcel.outcome = outcome
            if parcel.row is not None:
                self._settle(parcel.row, parcel.generation, parcel.items, outcome)
        self._say(outcome)
        parcel.answered.set()

    def _replay(self) -> None:
        """Send the oldest batch on disk."""
        if self.failing and self._told_to_wait and time.monotonic() < self._next_attempt:
            return
        with self._lock:
            batch, change = self._shelf.oldest()
            self._apply(change)
            generation = self._generation
        if batch is None:
            return
        outcome = self._exchange(batch.payload)
        with self._lock:
            self._settle(batch.id, generation, batch.items, outcome)
        self._say(outcome)

    def _exchange(self, payload: bytes) -> Outcome:
        timeout = _QUICK if self.failing and self._hurried else self._timeout
        timeout = min(timeout, max(self._end_by - time.monotonic(), _LOOK))
        self._busy_since = time.monotonic()
        try:
            outcome = self._transport.send(payload, timeout=timeout)
            if self._ended and outcome.kind == "rejected":  # half an answer: we broke it off
                outcome = Outcome("away", reason="no answer in time")
            self._note(outcome)
        finally:
            self._busy_since = None
        return outcome

    def _note(self, outcome: Outcome) -> None:
        """Decide when the receiver may be tried again."""
        self.away = outcome.kind == "away"
        self.failing = outcome.kind in {"retry", "away"}
        self.reason = outcome.reason
        self._told_to_wait = self.failing and outcome.retry_after is not None
        if not self.failing:
            self._pause = self._first_pause
            self._next_attempt = 0.0
        elif outcome.retry_after is not None:
            pause = min(outcome.retry_after, _LONGEST_RETRY_AFTER)
            self._next_attempt = time.monotonic() + pause
        else:
            self._back_off()

    def _back_off(self) -> None:
        self._next_attempt = time.monotonic() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311  no secret
        self._pause = min(self._pause * _PAUSE_GROWTH, _LONGEST_PAUSE)
        self._hurried = False

    def _settle(self, row: int, generation: int, items: int, outcome: Outcome) -> None:
        """Account for a batch on disk that was sent. The lock is held."""
        if outcome.kind in {"retry", "away"}:
            return
        rejected = items if outcome.kind == "rejected" else min(outcome.rejected, items)
        is_ours = True
        try:
            if outcome.kind == "rejected":
                is_ours = self._shelf.set_aside(row, outcome.reason)
            else:
                is_ours = self._shelf.delete(row)
        except SpoolError as error:
            self._done.add(row)
            self._say_unusable(error)
        self._apply(Change())
        if is_ours and generation == self._generation:  # else it was given up meanwhile
            self._ledger.from_disk(items)
            self._ledger.deliver(items - rejected)
            self._ledger.reject(rejected)

    def _apply(self, change: Change) -> None:
        """Count what an operation on the disk has moved; all of it, if the file is gone."""
        if self._generation != self._shelf.spool.generation:
            self._generation = self._shelf.spool.generation
            self._done.clear()
            self._drop(self.on_disk, "the file of the spool is gone or damaged")
        self._ledger.recover(change.recovered)
        self._drop(change.dropped, "the spool's limit of bytes or age is reached")

    def _drop(self, items: int, why: str) -> None:
        if items:
            self._ledger.from_disk(items)
            self._ledger.drop(items)
            diagnostics.warn_once(
                f"spool:dropped:{self._signal}:{why}", "%s are dropped: %s", self._signal, why
            )

    def _say_unusable(self, error: SpoolError) -> None:
        diagnostics.warn_once(
            f"spool:unusable:{self.folder}",
            "the spool %s cannot be used, what cannot be sent waits in memory alone: %s",
            self.folder,
            error,
        )
