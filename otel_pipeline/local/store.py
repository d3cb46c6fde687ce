"""What a store of the local backend does; `otel_pipeline.local.sqlite` is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Added", "Question", "Store", "StoreError"]

#: The most that a store keeps unless told otherwise.
DEFAULT_MAX_BYTES: Final = 2 * 1024**3
DEFAULT_MAX_AGE: Final = 7 * 86_400.0
#: Items of an answer unless told otherwise.
DEFAULT_LIMIT: Final = 100


class StoreError(CommandError):
    """A store that cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a request.

    Attributes:
        stored: Items that are stored now, those included that were there before.
        rejected: Items that were left out.
        reason: Why the first of them was.
    """

    stored: int
    rejected: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """Which part of something is asked for.

    Attributes:
        filter: In the language of `otel_pipeline.local.filters`.
        limit: The most items to return.
        before: Only what is older: the `next` of the answer before.
        after: Only what came in later, oldest first: the `last` of the answer before.
    """

    filter: str = ""
    limit: int = DEFAULT_LIMIT
    before: str = ""
    after: int | None = None


class Store(Protocol):
    """Keeps telemetry and answers questions about it; usable from many threads.

    Answers are JSON documents as text, made where the data is. Ids are hexadecimal in lower case,
    times ISO 8601 in UTC with nanoseconds, lengths of time nanoseconds. An unknown id or name gives
    an empty list. A page has `items` and `next`, which is what to send as `before` for the next
    page, or null.
    """

    def add(self, signal: str, body: bytes) -> Added:
        """Store an OTLP export request (protobuf); what it returns for is committed.

        Raises:
            BadRequestError: It is no such request; nothing of it is stored.
            TooLargeError: It is beyond a limit; nothing of it is stored.
            StoreError: It cannot be stored.
        """

    def changes(self) -> tuple[int, ...]:
        """Return numbers that grow when something is stored: of spans, logs, points."""

    def status(self) -> str:
        """Return where the data is, its size, and how much of what there is."""

    def runs(self, question: Question) -> str:
        """Return a page of runs, the newest first."""

    def traces(self, question: Question) -> str:
        """Return a page of traces, the newest first.

        Without a filter each trace is shown by its root span, with one by its newest matching
        span.
        """

    def trace(self, trace_id: bytes) -> str:
        """Return the outline of a trace: all its spans with what a waterfall needs."""

    def span(self, trace_id: bytes, span_id: bytes) -> str:
        """Return everything about a span, as a list of one or none."""

    def logs(self, question: Question) -> str:
        """Return a page of log lines, the newest first, or with `after` as they came in."""

    def metrics(self, question: Question) -> str:
        """Return a page of series with their newest value, by name."""

    def points(self, series: int, question: Question) -> str:
        """Return a series with its newest points, the newest last, and their exemplars."""

    def export(self, signal: str, filter_text: str = "") -> Iterator[bytes]:
        """Yield all that is stored of a signal as OTLP export requests, as it came in."""

    def maintain(self) -> None:
        """Drop what is too old or too much."""

    def close(self) -> None:
        """Let go of the data."""
