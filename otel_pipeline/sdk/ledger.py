"""The ledger: where every span, data point and log record of this process has ended.

An item is produced, waits in memory or on disk, and ends in exactly one of three ways: delivered,
rejected by the receiver, or dropped here. So at every moment

    produced + recovered == delivered + rejected + dropped + pending_memory + pending_disk
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Literal, TypedDict

from otel_pipeline.semconv import Signal

__all__ = ["Account", "Ledger", "Ledgers", "State"]

#: Who exports a signal: this library, a provider that someone else installed, or nobody.
State = Literal["owned", "adopted", "off"]


class Account(TypedDict):
    """What one signal's ledger says at one moment; counts are items of this process."""

    state: State
    produced: int
    recovered: int
    delivered: int
    rejected: int
    dropped: int
    pending_memory: int
    pending_disk: int


class Ledger:
    """Count the items of one signal; each method moves `n` items from one place to the next.

    All methods are thread-safe. A forked child starts at zero, because what the parent holds is
    the parent's to export.

    Args:
        state: Who exports this signal; may be set again later.

    Attributes:
        start: When counting began, in nanoseconds since 1970.

    Example:
        >>> ledger = Ledger("owned")
        >>> ledger.produce(3)
        >>> ledger.deliver(2)
        >>> account = ledger.snapshot()
        >>> account["produced"], account["delivered"], account["pending_memory"]
        (3, 2, 1)
    """

    # Each locked block is one statement without a call: there a signal handler or a finalizer,
    # which may itself produce items, cannot run while the lock is held.

    def __init__(self, state: State = "off") -> None:
        self.state: State = state
        self.reset_after_fork()
        _LIVE.add(self)

    def reset_after_fork(self) -> None:
        """Start at zero with a new lock: the inherited one may be held by a thread that is gone."""
        self._lock = threading.Lock()
        self.start = time.time_ns()
        self._produced = self._recovered = 0
        self._delivered = self._rejected = self._dropped = 0
        self._on_disk = 0

    def produce(self, n: int = 1) -> None:
        """Count `n` new items, which now wait in memory."""
        with self._lock:
            self._produced += n

    def deliver(self, n: int) -> None:
        """Move `n` items from memory to the receiver, which took them."""
        with self._lock:
            self._delivered += n

    def reject(self, n: int) -> None:
        """Move `n` items from memory to those that the receiver refused for good."""
        with self._lock:
            self._rejected += n

    def drop(self, n: int) -> None:
        """Move `n` items from memory to those that were given up here."""
        with self._lock:
            self._dropped += n

    def recover(self, n: int) -> None:
        """Count `n` items that an earlier process left on disk and this one took over."""
        with self._lock:
            self._recovered += n
            self._on_disk += n

    def to_disk(self, n: int) -> None:
        """Move `n` items from memory to disk."""
        with self._lock:
            self._on_disk += n

    def from_disk(self, n: int) -> None:
        """Move `n` items from disk to memory, from where they are delivered."""
        with self._lock:
            self._on_disk -= n

    def snapshot(self) -> Account:
        """Return the counts of one moment."""
        with self._lock:
            produced = self._produced
            recovered = self._recovered
            delivered = self._delivered
            rejected = self._rejected
            dropped = self._dropped
            on_disk = self._on_disk
        return {
            "state": self.state,
            "produced": produced,
            "recovered": recovered,
            "delivered": delivered,
            "rejected": rejected,
            "dropped": dropped,
            "pending_memory": produced + recovered - delivered - rejected - dropped - on_disk,
            "pending_disk": on_disk,
        }


class Ledgers:
    """The ledgers of the three signals, and of the events of lineage where they are sent.

    Example:
        >>> ledgers = Ledgers()
        >>> ledgers.traces.produce()
        >>> ledgers.snapshot()["traces"]["pending_memory"]
        1
    """

    def __init__(self) -> None:
        self.traces = Ledger()
        self.metrics = Ledger()
        self.logs = Ledger()
        self.lineage = Ledger()

    @property
    def start(self) -> int:
        """When counting began in this process, in nanoseconds since 1970."""
        return self.traces.start

    def snapshot(self) -> dict[str, Account]:
        """Return what each ledger says, by signal, as `Telemetry.report()` gives it."""
        found = {
            Signal.TRACES: self.traces.snapshot(),
            Signal.METRICS: self.metrics.snapshot(),
            Signal.LOGS: self.logs.snapshot(),
        }
        if self.lineage.state != "off":
            found[Signal.LINEAGE] = self.lineage.snapshot()
        return found


_LIVE: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for ledger in _LIVE:
        ledger.reset_after_fork()


os.register_at_fork(after_in_child=_reset_all_after_fork)
