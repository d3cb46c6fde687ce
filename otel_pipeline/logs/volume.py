"""How many lines of one event are let through: a rate limit, sampling, and the trace's decision."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import get_current_span

from otel_pipeline import clock, semconv
from otel_pipeline.logs.values import plain
from otel_pipeline.metrics import Counter
from otel_pipeline.semconv import OTHER

if TYPE_CHECKING:
    from otel_pipeline.redaction import Redactor

__all__ = ["Volume"]

_LOGS_SUPPRESSED = Counter.from_spec(semconv.LOGS_SUPPRESSED)

#: Events that are told apart, and how much of their names.
_MOST_EVENTS: Final = 1_000
_LONGEST_NAME: Final = 256
#: Events that are named when the suppressed lines are told at the end.
_MOST_TOLD: Final = 20


class _Event:
    """What is known of one event.

    Attributes:
        label: Its name as the metric shows it, without secrets.
        seen: Lines so far.
        tokens: Lines that the rate limit would let through now.
        since: When `tokens` was right.
        pending: Lines that were suppressed since the last that was let through.
    """

    __slots__ = ("label", "pending", "seen", "since", "tokens")

    def __init__(self, label: str, tokens: float, since: float) -> None:
        self.label = label
        self.seen = 0
        self.tokens = tokens
        self.since = since
        self.pending = 0


class Volume:
    """Decides which lines are kept, and counts the others.

    Lines of level error and above are always kept. What is suppressed is counted in the metric
    `otel_pipeline_logs_suppressed_total`, and told by the next line of its event or by `close`.

    Args:
        rate: Lines a second and event; None for no limit. As many may come at once, at least one.
        sample: Share of the lines of an event that are kept, 0 to 1: the first of every n.
        follow_trace: Whether lines in a trace that is not sampled are suppressed.
        redactor: What masks secrets in the names of events.

    Example:
        >>> from otel_pipeline.redaction import Redactor
        >>> volume = Volume(rate=None, sample=0.5, follow_trace=False, redactor=Redactor())
        >>> [volume.ask("row_skipped", error=False) for _ in range(5)]
        [0, None, 1, None, 1]
    """

    def __init__(
        self, *, rate: float | None, sample: float, follow_trace: bool, redactor: Redactor
    ) -> None:
        self._rate = rate
        self._burst = max(1.0, rate or 0.0)
        self._sample = sample
        self._follow_trace = follow_trace
        self._redactor = redactor
        self.reset_after_fork()
        _LIVE.add(self)

    def reset_after_fork(self) -> None:
        """Know nothing: what the parent suppressed is the parent's to tell."""
        # A signal handler may log while its own thread is in `ask`. The lock is renewed here, as
        # the inherited one may be held by a thread that is gone.
        self._lock = threading.RLock()
        self._events: OrderedDict[str, _Event] = OrderedDict()  # the latest is the last
        self._forgotten = 0  # suppressed lines of events that are no longer told apart
        self._closed = False

    def ask(self, event: object, *, error: bool, already: int = 0) -> int | None:
        """Decide about one line.

        Args:
            event: The event, before any arguments are put into it.
            error: Whether the line is of level error or above.
            already: How many suppressed lines the line itself tells of.

        Returns:
            How many lines were suppressed before this one, or None if this one is to be, too.
        """
        text = _text(event)
        name = text[:_LONGEST_NAME]
        now = clock.perf_counter()
        sampled_out = self._follow_trace and _is_sampled_out()
        with self._lock:
            known = self._events.get(name)
            if known is None:
                known = self._begin(text, name, now)
            else:
                self._events.move_to_end(name)
            if error or self._closed or (not sampled_out and self._passes(known, now)):
                pending, known.pending = known.pending, 0
                return pending + already
            known.pending += 1 + already
        _LOGS_SUPPRESSED.labels(known.label).inc()
        return None

    def close(self) -> list[tuple[str, int]]:
        """Let everything through from now on, and return what no line has told of.

        Returns:
            Names of events and how many of their lines were suppressed, most first; beyond 20 the
            rest as `__other__`.
        """
        with self._lock:
            self._closed = True
            left = [
                (known.label, known.pending) for known in self._events.values() if known.pending
            ]
            rest, self._forgotten = self._forgotten, 0
            for known in self._events.values():
                known.pending = 0
        left.sort(key=lambda item: -item[1])
        rest += sum(number for _, number in left[_MOST_TOLD:])
        return [*left[:_MOST_TOLD], *([(OTHER, rest)] if rest else [])]

    def _begin(self, text: str, name: str, now: float) -> _Event:
        if len(self._events) >= _MOST_EVENTS:
            _, oldest = self._events.popitem(last=False)
            self._forgotten += oldest.pending
        # Masked before it is cut: half a secret is not known as one.
        label = self._redactor.text(text)[:_LONGEST_NAME]
        event = self._events[name] = _Event(label, self._burst, now)
        return event

    def _passes(self, event: _Event, now: float) -> bool:
        seen, event.seen = event.seen, event.seen + 1
        if self._sample < 1 and not _is_one_of(self._sample, seen):
            return False
        if self._rate is None:
            return True
        passed = max(0.0, now - event.since)  # a test may set the clock back
        tokens = min(self._burst, event.tokens + passed * self._rate)
        if tokens < 1:
            return False
        event.tokens, event.since = tokens - 1, now
        return True


def _text(event: object) -> str:
    return event if type(event) is str and event.isascii() else str(plain(event))


def _is_one_of(share: float, index: int) -> bool:
    """Say whether the line of this index is kept: spread evenly, and the first among them."""
    return math.ceil(share * (index + 1)) > math.ceil(share * index)


def _is_sampled_out() -> bool:
    context = get_current_span().get_span_context()
    return context.is_valid and not context.trace_flags.sampled


_LIVE: weakref.WeakSet[Volume] = weakref.WeakSet()


def _reset_all_after_fork() -> None:
    for volume in _LIVE:
        volume.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all_after_fork)
