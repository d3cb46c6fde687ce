"""The queue in front of a transport: items come in from any thread, batches go out from one.

Whoever adds an item never waits: `add` takes no lock and does no input or output. It only uses
operations that are atomic or re-entrant (`deque.append`, `SimpleQueue.put`), so that it is safe
in signal handlers and finalizers too, which may interrupt another `add`.

The worker thread is the only one that encodes and sends. It gets messages through its inbox:
"look at the queue", or a flush to answer. A batch in hand is first in line until it is settled;
whoever removes it from the hand, the worker or a shutdown whose time is over, accounts for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from otel_pipeline import diagnostics
from otel_pipeline.sdk.courier import Courier, Parcel
from otel_pipeline.sdk.transport import suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_pipeline.sdk.ledger import Ledger
    from otel_pipeline.sdk.spool import Shelf
    from otel_pipeline.sdk.transport import Outcome, Transport

__all__ = ["BatchProcessor"]

T = TypeVar("T")

_NEVER: Final = sys.maxsize
_PAUSE_GROWTH: Final = 1.5
_LONGEST_PAUSE: Final = 30.0
#: A receiver may ask for more patience than our own pauses, but not to be silent for good.
_LONGEST_RETRY_AFTER: Final = 300.0
#: Seconds for an attempt that somebody waits for although nothing answered the last time.
_QUICK: Final = 0.5
#: Seconds behind the end that writing to disk may take.
_WRITING: Final = 0.25

#: Where there is a disk, what does not fit into the queue is on its way there: so many times the
#: queue may wait for that, since to write takes a while in which other threads go on.
_OVERFLOW: Final = 4

_NOUNS: Final = {"traces": "spans", "metrics": "data points", "logs": "log records"}


@dataclass(slots=True, eq=False)
class _Batch(Generic[T]):
    """Items on their way out; once encoded, only the payload is kept."""

    items: Sequence[T]
    count: int
    payload: bytes | None = None


@dataclass(slots=True, eq=False)
class _Flush:
    """Somebody waits until the first `target` items produced are gone."""

    target: int
    lost: int
    deadline: float
    answer: SimpleQueue[bool] = field(default_factory=SimpleQueue)


class BatchProcessor(Generic[T]):
    """Queue items, send them in batches, and account for each of them in a ledger.

    A receiver that asks to come again, or is away, is tried again after growing pauses while the
    batch stays first in line; when the queue is full the oldest item is dropped. What is said
    about all this is said once, on stderr.

    Args:
        signal: `traces`, `metrics` or `logs`.
        encode: Makes one export request of some items.
        transport: Where requests go; closed by `shutdown`.
        ledger: Where items are counted.
        explicit: Whether someone asked for this endpoint. If not, and nothing answers there,
            items are dropped instead of kept.
        timeout: Seconds for one request.
        max_queue: Items that wait at most. With a shelf they go there when half of it is full, and
            are dropped when it is full four times over.
        max_batch: Items of one request at most.
        delay: Seconds that an item waits at most for its batch to fill.
        first_pause: Seconds before the second attempt; later pauses grow up to 30 s.
        count: How many items of the ledger one item is; default 1. A metric push, say, is as
            many as it has data points.
        shelf: Where batches wait on disk when they cannot be sent; None keeps them in memory.
    """

    def __init__(
        self,
        signal: str,
        *,
        encode: Callable[[Sequence[T]], bytes],
        transport: Transport,
        ledger: Ledger,
        explicit: bool = True,
        timeout: float = 10.0,
        max_queue: int = 2048,
        max_batch: int = 512,
        delay: float = 5.0,
        first_pause: float = 1.0,
        count: Callable[[T], int] | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._signal = signal
        self._encode = encode
        self._transport = transport
        self._ledger = ledger
        self._explicit = explicit
        self._timeout = timeout
        self._max_queue = max_queue
        self._most = max_queue if shelf is None else max_queue * _OVERFLOW
        self._max_batch = max_batch
        self._delay = delay
        self._first_pause = first_pause
        self._count = count
        self._courier = None
        if shelf is not None:
            self._courier = Courier(
                signal,
                transport=transport,
                shelf=shelf,
                ledger=ledger,
                timeout=timeout,
                first_pause=first_pause,
                say=self._say_outcome,
            )
        self._closed = False
        self._end_by = math.inf  # set by close(): when the last try must be over
        self._ended = False
        self._reset()
        _LIVE.add(self)

    def _reset(self) -> None:
        """Start empty, with nothing that another thread could hold; also after a fork."""
        self._queue: deque[T] = deque()
        self._hand: deque[_Batch[T]] = deque()  # the batch being sent: one or none
        self._inbox: SimpleQueue[_Flush | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake_at = _NEVER  # the length of the queue at which the worker wants a message
        self._flushes: list[_Flush] = []
        self._hurried = False  # a flush came in since the last attempt
        self._overflowed = False
        self._away = False
        self._pause = self._first_pause
        self._next_attempt = 0.0
        self._told_to_wait = False
        self._last_reason = ""
        if self._courier is not None:
            self._courier.reset()

    @property
    def away(self) -> bool:
        """Whether nothing answered the last attempt."""
        return self._away if self._courier is None else self._courier.away

    def recover(self) -> None:
        """Begin to send what earlier processes left on disk; returns at once."""
        if self._courier is not None:
            self._courier.start()

    def add(self, item: T) -> None:
        """Queue one item; never waits and never raises.

        Args:
            item: What `encode` understands.
        """
        count = 1 if self._count is None else self._count(item)
        self._ledger.produce(count)
        if self._closed:
            self._ledger.drop(count)
            return
        queue = self._queue
        queue.append(item)
        length = len(queue)
        if length >= self._wake_at:
            self._wake_at = _NEVER
            self._inbox.put(None)
        if length > self._most:
            self._drop_oldest()
        if self._thread is None:
            self._start()
        if self._ended:  # while this item was on its way in
            self._drop_rest()

    def flush(self, timeout: float) -> bool:
        """Send what has been added so far, and wait until it is gone.

        While the receiver is known to be away, one quick attempt is made. `flush(0)` asks and
        does not wait, so that several signals can be flushed at the same time.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            True if nothing added before the call is pending, in memory or on disk, and nothing was
            rejected or dropped meanwhile.
        """
        deadline = time.monotonic() + timeout
        sent = self._flush_memory(timeout)
        return (self._courier is None or self._courier.drain(deadline)) and sent

    def _flush_memory(self, timeout: float) -> bool:
        account = self._ledger.snapshot()
        if account["pending_memory"] == 0:
            return True
        if self._thread is None:
            self._start()
        request = _Flush(
            target=account["produced"],
            lost=account["rejected"] + account["dropped"],
            deadline=time.monotonic() + timeout,
        )
        self._inbox.put(request)
        if self._ended:
            self._dismiss()
        try:
            return request.answer.get(timeout=max(0.0, timeout))
        except Empty:
            return False

    def close(self, timeout: float) -> None:
        """Take no new items and begin the last try; returns at once.

        Later items count as produced and dropped. Closing several processors before each is shut
        down lets them share the time.

        Args:
            timeout: Seconds that the last try may take.
        """
        if not self._closed:
            self._end_by = time.monotonic() + timeout
            self._closed = True
            self._inbox.put(None)

    def shutdown(self, timeout: float) -> None:
        """Give what is queued one last try, drop the rest, and end; never takes longer.

        Args:
            timeout: Seconds that this may take, counted from an earlier `close` if there was one.
        """
        self.close(timeout)
        worker = self._thread
        if worker is not None and worker.is_alive():
            try:
                end_by = self._end_by + (0 if self._courier is None else _WRITING)
                self._done.get(timeout=max(0.0, end_by - time.monotonic()))
            except Empty:
                self._last_reason = "no answer in time"
        elif not self._ended:  # there was nothing to do, or no thread could be started
            with suppressed():
                self._guard(self._last_try)
        self._finish()
        self._transport.close()
        if self._courier is not None:
            self._courier.join(_WRITING / 2)

    # --- What happens in the threads that add -----------------------------------------------------

    def _start(self) -> None:
        """Start the worker, unless another thread is doing so."""
        if not self._starting.acquire(blocking=False):
            return
        thread = threading.Thread(
            target=self._run, name=f"otel-pipeline-{self._signal}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads: tried again later, and shutdown() sends by itself
            self._starting.release()
        else:
            self._thread = thread

    def _drop_oldest(self) -> None:
        self._overflowed = True  # the worker says so: writing to stderr may block
        with contextlib.suppress(IndexError):  # the worker was faster
            self._ledger.drop(self._weight([self._queue.popleft()]))

    def _weight(self, items: Sequence[T]) -> int:
        return len(items) if self._count is None else sum(map(self._count, items))

    # --- What happens in the worker ---------------------------------------------------------------

    def _run(self) -> None:
        with suppressed():
            while not self._ended:
                self._guard(self._step)
        self._drop_rest()  # what was neither in the queue nor in the hand when the time was over

    def _guard(self, action: Callable[[], None]) -> None:
        """Do something that must not fail; if it does, the batch in hand is not tried again."""
        try:
            action()
        except Exception as error:  # noqa: BLE001  the worker never dies
            for batch in tuple(self._hand):
                self._settle(batch, dropped=batch.count)
            self._say_once(
                "failure", "exporting %s failed, they are dropped: %r", self._noun, error
            )

    def _step(self) -> None:
        """Get a batch in hand, or wait until the one in hand may be tried again; then try it."""
        if self._hand:
            self._wait_out_pause()
        else:
            self._wait_for(1, None)
            self._wait_for(self._max_batch, self._delay)
        if self._closed:
            self._last_try()
        elif self._hand or self._take():
            self._attempt(_QUICK if self._away and self._flushes else self._timeout)
            self._answer(failed=self._away)

    def _wait_for(self, length: int, seconds: float | None) -> None:
        """Wait until the queue has `length` items, or somebody wants it sent as it is."""
        until = None if seconds is None else time.monotonic() + seconds
        while not self._closed and not (self._queue and self._flushes):
            self._wake_at = length
            if len(self._queue) >= length or not self._receive(until):
                break
            self._answer()
        self._wake_at = _NEVER

    def _wait_out_pause(self) -> None:
        """Wait until the receiver may be tried again; a flush cuts a pause of our own short."""
        while (
            not self._closed
            and time.monotonic() < self._next_attempt
            and (self._told_to_wait or not self._hurried)
            and self._receive(self._next_attempt)
        ):
            self._answer()

    def _receive(self, until: float | None) -> bool:
        """Take one message from the inbox; return False if none came in time."""
        timeout = None if until is None else max(0.0, until - time.monotonic())
        try:
            message = self._inbox.get(timeout=timeout)
        except Empty:
            return False
        if message is not None:
            self._flushes.append(message)
            self._hurried = True
        return True

    def _take(self) -> bool:
        """Move the oldest items from the queue into the hand; return False if there are none."""
        items: list[T] = []
        with contextlib.suppress(IndexError):
            while len(items) < self._max_batch:
                items.append(self._queue.popleft())
        if items:
            self._hand.append(_Batch(items, self._weight(items)))
        return bool(items)

    def _attempt(self, timeout: float) -> None:
        """Send the batch in hand once, and settle it or leave it in hand."""
        self._say_overflow()
        batch = self._encoded_batch()
        if batch is None or batch.payload is None:
            return
        self._hurried = False
        if self._courier is None:
            outcome = self._transport.send(batch.payload, timeout=timeout)
        else:
            answer = self._courier.deliver(self._parcel(batch, batch.payload), timeout)
            if answer is None:  # it is on disk, and accounted for
                self._away = False
                return
            outcome = answer
        self._away = outcome.kind == "away"
        self._last_reason = outcome.reason
        self._plan_next(outcome)
        if outcome.kind == "delivered":
            rejected = min(outcome.rejected, batch.count)
            self._settle(batch, delivered=batch.count - rejected, rejected=rejected)
        elif outcome.kind == "rejected":
            self._settle(batch, rejected=batch.count)
        elif outcome.kind == "away" and not self._explicit:
            self._settle(batch, dropped=batch.count)
        if self._courier is None:
            self._say_outcome(outcome)

    def _parcel(self, batch: _Batch[T], payload: bytes) -> Parcel:
        return Parcel(
            payload,
            batch.count,
            let_go=lambda: self._settle(batch),
            take_back=lambda: self._hand.append(batch),
            crowded=lambda: len(self._queue) > self._max_queue // 2,
        )

    def _encoded_batch(self) -> _Batch[T] | None:
        """Return the batch in hand with its payload, without items that cannot be encoded."""
        try:
            batch = self._hand[0]
        except IndexError:  # a shutdown whose time is over took it
            return None
        if self._is_muted():
            self._settle(batch, dropped=batch.count)
            return None
        if batch.payload is not None:
            return batch
        try:
            batch.payload = self._encode(batch.items)
        except Exception as error:  # noqa: BLE001  whatever an item makes the encoder raise
            self._say_once("encode", "%s that cannot be encoded are dropped: %r", self._noun, error)
            return self._without_bad_items(batch)
        batch.items = ()
        return batch

    def _without_bad_items(self, batch: _Batch[T]) -> _Batch[T] | None:
        good = [item for item in batch.items if self._can_encode(item)]
        rest = _Batch[T]((), self._weight(good), self._encode(good) if good else None)
        if not self._settle(batch, dropped=batch.count - rest.count) or not good:
            return None
        self._hand.append(rest)
        return rest

    def _can_encode(self, item: T) -> bool:
        try:
            self._encode([item])
        except Exception:  # noqa: BLE001  as above
            return False
        return True

    def _is_muted(self) -> bool:
        """Whether items are dropped unseen: nobody asked for this endpoint, and nothing is there.

        Now and then, for a flush, and at the end, a batch is tried all the same.
        """
        return (
            self._away
            and not self._explicit
            and not self._hurried
            and not self._closed
            and time.monotonic() < self._next_attempt
        )

    def _plan_next(self, outcome: Outcome) -> None:
        """Decide when the receiver may be tried again."""
        if outcome.kind not in {"retry", "away"}:
            self._pause = self._first_pause
            return
        self._told_to_wait = outcome.retry_after is not None
        if outcome.retry_after is not None:
            pause = min(outcome.retry_after, _LONGEST_RETRY_AFTER)
        else:
            pause = self._pause * random.uniform(0.8, 1.2)  # noqa: S311  no secret
            self._pause = min(self._pause * _PAUSE_GROWTH, _LONGEST_PAUSE)
        self._next_attempt = time.monotonic() + pause

    def _settle(
        self, batch: _Batch[T], *, delivered: int = 0, rejected: int = 0, dropped: int = 0
    ) -> bool:
        """Take a batch out of the hand and account for it, unless a shutdown has done so."""
        try:
            self._hand.remove(batch)
        except ValueError:
            return False
        self._ledger.deliver(delivered)
        self._ledger.reject(rejected)
        self._ledger.drop(dropped)
        return True

    def _answer(self, *, failed: bool = False) -> None:
        """Answer the flushes whose items are gone, and when an attempt failed, the others too.

        While a batch is stuck in the hand, those whose time is over are forgotten, too.
        """
        account = self._ledger.snapshot()
        gone = account["produced"] - account["pending_memory"]
        lost = account["rejected"] + account["dropped"]
        waiting = []
        for flush in self._flushes:
            is_out = gone >= flush.target
            is_late = bool(self._hand) and time.monotonic() >= flush.deadline
            if is_out or failed or is_late:
                flush.answer.put(is_out and lost == flush.lost)
            else:
                waiting.append(flush)
        self._flushes = waiting
        self._hurried = self._hurried and bool(waiting)

    # --- The end ----------------------------------------------------------------------------------

    def _last_try(self) -> None:
        """Send what is there until it is gone, the time is over, or an attempt fails."""
        patience = _QUICK if self._away and not self._explicit else self._timeout
        while not self._ended and (self._hand or self._take()):
            left = self._end_by - time.monotonic()
            if left <= 0 and self._courier is None:
                break
            self._attempt(max(0.0, min(left, patience)))
            if self._hand or self._away:
                break
        if self._courier is not None:
            self._courier.finish(self._end_by)
        self._finish()

    def _finish(self) -> None:
        """Drop what is left, say so, and let go of everyone who waits; may be called again."""
        if self._courier is not None and not self._ended:
            self._say_kept(self._courier)
        self._ended = True
        self._say_overflow()
        dropped = self._drop_rest()
        if dropped and not (self._away and not self._explicit):  # that has been said
            diagnostics.say(
                "%d %s could not be delivered to %s before the end and are dropped: %s",
                dropped,
                self._noun,
                self._transport.endpoint,
                self._last_reason or "no time was left",
            )
        self._dismiss()
        self._done.put(None)

    def _say_kept(self, courier: Courier) -> None:
        kept = courier.on_disk
        if kept:
            diagnostics.say(
                "%d %s could not be delivered to %s before the end: they wait in %s for the next "
                "run, or for `otel-pipeline spool replay`: %s",
                kept,
                self._noun,
                self._transport.endpoint,
                courier.folder,
                courier.reason or "no time was left",
            )

    def _drop_rest(self) -> int:
        dropped = 0
        with contextlib.suppress(IndexError):
            while True:
                dropped += self._hand.popleft().count
        with contextlib.suppress(IndexError):
            while True:
                dropped += self._weight([self._queue.popleft()])
        self._ledger.drop(dropped)
        return dropped

    def _dismiss(self) -> None:
        """Answer every flush, those in the inbox too."""
        with contextlib.suppress(Empty):
            while True:
                message = self._inbox.get_nowait()
                if message is not None:
                    self._flushes.append(message)
        self._answer(failed=True)
        self._inbox.put(None)  # the worker may still wait for the message that it is over

    # --- What is said -----------------------------------------------------------------------------

    @property
    def _noun(self) -> str:
        return _NOUNS[self._signal]

    def _say_once(self, about: str, message: str, *args: object) -> None:
        key = f"export:{self._signal}:{self._transport.endpoint}:{about}"
        with contextlib.suppress(Exception):  # someone may have put a log handler there
            diagnostics.warn_once(key, message, *args)

    def _say_overflow(self) -> None:
        if self._overflowed:
            self._overflowed = False
            self._say_once(
                "overflow",
                "the queue of %d %s is full: the oldest are dropped",
                self._most,
                self._noun,
            )

    def _say_outcome(self, outcome: Outcome) -> None:
        if self._ended:  # it has been said what became of it
            return
        endpoint = self._transport.endpoint
        reason = outcome.reason
        if outcome.kind == "rejected" or outcome.rejected:
            about = "rejected:" + reason.partition(":")[0]
            self._say_once(about, "%s rejected %s: %s", endpoint, self._noun, reason)
        elif outcome.kind == "delivered":
            if reason:
                self._say_once("remark", "%s took %s and says: %s", endpoint, self._noun, reason)
        elif outcome.kind == "away" and not self._explicit:
            parts = urlsplit(endpoint)
            where = f"{parts.scheme}://{parts.netloc}" if parts.netloc else endpoint
            with contextlib.suppress(Exception):
                diagnostics.warn_once(
                    f"export:away:{where}",  # once for all signals
                    "no OpenTelemetry collector answers at %s: what is sent there is dropped. "
                    "Start one, set OTEL_EXPORTER_OTLP_ENDPOINT, or set "
                    "OTEL_TRACES_EXPORTER=none and OTEL_LOGS_EXPORTER=none",
                    where,
                )
        elif self._closed:
            pass  # not tried again: `_finish` says what becomes of them
        elif outcome.kind == "retry":
            self._say_once(
                "retry", "%s cannot take %s now, tried again: %s", endpoint, self._noun, reason
            )
        elif self._courier is not None:
            self._say_once(
                "away",
                "%s does not answer: %s wait in %s and are sent later: %s",
                endpoint,
                self._noun,
                self._courier.folder,
                reason,
            )
        else:
            self._say_once(
                "away",
                "%s does not answer: %s wait in memory, at most %d, and are tried again: %s",
                endpoint,
                self._noun,
                self._max_queue,
                reason,
            )


_LIVE: weakref.WeakSet[BatchProcessor[Any]] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    """Start empty in a forked child: what the parent has queued is the parent's to send."""
    for processor in _LIVE:
        processor._reset()  # noqa: SLF001


os.register_at_fork(after_in_child=_reset_all_after_fork)
