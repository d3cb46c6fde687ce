"""The store in a SQLite file.

One connection writes, under a lock, a transaction for each request. Each reader has a connection of
its own: in WAL mode neither waits for the other, in this process or another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.local import reading, traces
from otel_pipeline.local.decode import Decoder, Origin, Rejects, resource_of, service_of
from otel_pipeline.local.limits import MAX_QUERY
from otel_pipeline.local.retention import Retention
from otel_pipeline.local.schema import open_file, open_memory
from otel_pipeline.local.signature import SPANS
from otel_pipeline.local.store import DEFAULT_MAX_AGE, DEFAULT_MAX_BYTES, Added, StoreError
from otel_pipeline.local.wire import Group, scopes_of
from otel_pipeline.semconv import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from otel_pipeline.local.decode import Block, Run, Series
    from otel_pipeline.local.store import Question

__all__ = ["SqliteStore"]

_INSERT_BLOCK: Final = (
    "INSERT INTO blocks (resource, scope, spans, first, last, longest, "  # noqa: S608
    f"{', '.join(SPANS.columns)}) VALUES (?, ?, ?, ?, ?, ?{', ?' * SPANS.parts})"
)
_INSERT_ROOT: Final = (
    "INSERT OR IGNORE INTO roots (block, resource, trace_id, span_id, name, start, duration,"
    " status) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_LOG: Final = (
    "INSERT INTO logs (time, severity, trace_id, span_id, resource, scope, body, s0, s1, s2, raw)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_POINT: Final = (
    "INSERT OR IGNORE INTO points (series, time, start, value, count, raw)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_EXEMPLAR: Final = (
    "INSERT OR IGNORE INTO exemplars (series, time, trace_id, span_id, value)"
    " VALUES (?, ?, ?, ?, ?)"
)
# Spans of a run come in any order, and its own span says how it ended.
_UPSERT_RUN: Final = """
INSERT INTO runs (run_id, pipeline, service, trace_id, start, duration, mode, status,
    success, error, skipped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    duration = max(start + duration, excluded.start + excluded.duration)
        - min(start, excluded.start),
    start = min(start, excluded.start),
    trace_id = iif(excluded.mode IS NULL, trace_id, excluded.trace_id),
    mode = ifnull(excluded.mode, mode),
    status = ifnull(excluded.status, status),
    success = ifnull(excluded.success, success),
    error = ifnull(excluded.error, error),
    skipped = ifnull(excluded.skipped, skipped)
"""
_FRESH: Final = 60  # seconds after which the use of a resource is noted again
_READERS: Final = 4
_MOST_IDS: Final = 50_000


class SqliteStore:
    """Keeps telemetry in a SQLite file; see `Store`.

    Args:
        path: The file, made if it is not there; None keeps all in memory, until `close`.
        write: Whether anything is to be added.
        max_bytes: Size beyond which the oldest goes.
        max_age: Seconds after which it goes.

    Raises:
        StoreError: The file cannot be used.

    >>> with SqliteStore(None) as store:
    ...     store.add("traces", b"")
    Added(stored=0, rejected=0, reason='')
    """

    def __init__(
        self,
        path: Path | None,
        *,
        write: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_age: float = DEFAULT_MAX_AGE,
    ) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        if path is None:
            self._writer = open_memory()
            reading.add_functions(self._writer)
        else:
            self._writer = open_file(path, write=True) if write else None
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._slots = threading.Semaphore(_READERS)
        self._decoder = Decoder()
        self._retention = Retention(max_bytes, max_age)
        self._origins: dict[tuple[bytes, bytes], tuple[Origin, int]] = {}
        self._series: dict[bytes, tuple[int, int]] = {}
        self._version = -1  # SQLite's count of what others committed
        if path is not None:
            self._readers.put(self._open_reader())  # what is wrong with the file shows now

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            while True:
                try:
                    self._readers.get_nowait().close()
                except queue.Empty:
                    break
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    # --- Writing ----------------------------------------------------------------------------------

    def add(self, signal: str, body: bytes) -> Added:
        """Store an export request; see `Store`."""
        bad = Rejects()
        with self._transaction() as db:
            now = int(time.time())
            if signal == Signal.TRACES:
                count = self._add_spans(db, body, now, bad)
            elif signal == Signal.LOGS:
                count = self._add_logs(db, body, now, bad)
            else:
                count = self._add_points(db, body, now, bad)
            self._retention.added(db, count, now)
        return Added(count, bad.count, bad.reason)

    def _add_spans(self, db: sqlite3.Connection, body: bytes, now: int, bad: Rejects) -> int:
        runs: dict[tuple[str, ...], Run] = {}
        count = 0
        for resource, scope, items in scopes_of(body):
            origin = self._origin(db, resource, scope, now)
            for block in self._decoder.spans(items, origin, runs, bad):
                _insert_block(db, block, origin)
                count += len(block.spans)
        db.executemany(
            _UPSERT_RUN,
            (
                (
                    *key,
                    run.trace_id,
                    run.start,
                    run.end - run.start,
                    run.mode,
                    run.status,
                    *run.records,
                )
                for key, run in runs.items()
            ),
        )
        return count

    def _add_logs(self, db: sqlite3.Connection, body: bytes, now: int, bad: Rejects) -> int:
        count = 0
        for resource, scope, items in scopes_of(body):
            rows = self._decoder.logs(items, self._origin(db, resource, scope, now), bad)
            db.executemany(_INSERT_LOG, rows)
            count += len(rows)
        return count

    def _add_points(self, db: sqlite3.Connection, body: bytes, now: int, bad: Rejects) -> int:
        def series_id(series: Series, origin: Origin) -> int:
            return self._series_id(db, series, origin, now)

        count = 0
        for resource, scope, items in scopes_of(body):
            origin = self._origin(db, resource, scope, now)
            rows, exemplars = self._decoder.points(items, origin, series_id, bad)
            db.executemany(_INSERT_POINT, rows)
            db.executemany(_INSERT_EXEMPLAR, exemplars)
            count += len(rows)
        return count

    def _origin(self, db: sqlite3.Connection, resource: bytes, scope: bytes, now: int) -> Origin:
        found, used = self._origins.get((resource, scope), (None, 0))
        if found is not None and now - used < _FRESH:
            return found
        service = service_of(resource_of(resource))
        (resource_id,) = db.execute(
            "INSERT INTO resources (digest, raw, service, used) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET used = excluded.used RETURNING id",
            (_digest(resource), resource, service, now),
        ).fetchone()
        (scope_id,) = db.execute(
            "INSERT INTO scopes (digest, raw, used) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET used = excluded.used RETURNING id",
            (_digest(scope), scope, now),
        ).fetchone()
        origin = Origin(resource_id, scope_id, service)
        if len(resource) + len(scope) < _LONGEST_CACHED:
            _remember(self._origins, (resource, scope), (origin, now), _MOST_ORIGINS)
        return origin

    def _series_id(self, db: sqlite3.Connection, series: Series, origin: Origin, now: int) -> int:
        number, used = self._series.get(series.digest, (0, 0))
        if number and now - used < _FRESH:
            return number
        (number,) = db.execute(
            "INSERT INTO series (digest, resource, scope, name, kind, unit, attributes, metric,"
            " used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET used = excluded.used RETURNING id",
            (
                series.digest,
                origin.resource,
                origin.scope,
                series.name,
                series.kind,
                series.unit,
                json.dumps(dict(series.attributes), ensure_ascii=False),
                series.metric,
                now,
            ),
        ).fetchone()
        _remember(self._series, series.digest, (number, now), _MOST_IDS)
        return int(number)

    def maintain(self) -> None:
        """Drop what is too old or too much; see `Store`."""
        with self._transaction() as db:
            self._retention.maintain(db, int(time.time()))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection that writes; what is done on it is done as a whole or not at all."""
        with self._lock:
            db = self._writer
            if db is None:
                raise StoreError(f"the store {self.path} is closed, or was opened to be read only")
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    self._look_for_others(db)
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    self._forget()  # numbers that are not in the file after all
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StoreError(f"the store {self.path} cannot be written: {error}") from error
            if self._retention.dropped:
                self._retention.dropped = False
                self._forget()

    def _look_for_others(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._forget()

    def _forget(self) -> None:
        self._origins.clear()
        self._series.clear()

    # --- Reading ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that reads, for a limited time."""
        if self.path is None:
            with self._lock:
                if self._writer is None:
                    raise StoreError("the store is closed")
                yield self._writer
            return
        with self._slots:
            try:
                db = self._readers.get_nowait()
            except queue.Empty:
                db = self._open_reader()
            end = time.monotonic() + MAX_QUERY
            db.set_progress_handler(lambda: time.monotonic() > end, 100_000)
            try:
                yield db
            except sqlite3.OperationalError as error:
                if str(error) == "interrupted":
                    raise StoreError(
                        f"that takes longer than {MAX_QUERY:.0f} s: narrow it down, by age<1h or"
                        " service:NAME"
                    ) from error
                raise StoreError(f"the store {self.path} cannot be read: {error}") from error
            finally:
                db.set_progress_handler(None, 0)
                self._readers.put(db)

    def _open_reader(self) -> sqlite3.Connection:
        if self.path is None:
            raise StoreError("a store in memory has no readers of its own")
        db = open_file(self.path, write=False)
        reading.add_functions(db)
        return db

    def changes(self) -> tuple[int, ...]:
        """Return numbers that grow when something is stored; see `Store`."""
        with self._reader() as db:
            return reading.changes(db)

    def status(self) -> str:
        """Return where the data is and how much there is; see `Store`."""
        with self._reader() as db:
            return json.dumps({"path": str(self.path or ":memory:"), **reading.status(db)})

    def runs(self, question: Question) -> str:
        """Return a page of runs; see `Store`."""
        with self._reader() as db:
            return reading.runs(db, question)

    def traces(self, question: Question) -> str:
        """Return a page of traces; see `Store`."""
        with self._reader() as db:
            return traces.page(db, question)

    def trace(self, trace_id: bytes) -> str:
        """Return the outline of a trace; see `Store`."""
        with self._reader() as db:
            return traces.trace(db, trace_id)

    def span(self, trace_id: bytes, span_id: bytes) -> str:
        """Return everything about a span; see `Store`."""
        with self._reader() as db:
            return traces.span(db, trace_id, span_id)

    def logs(self, question: Question) -> str:
        """Return a page of log lines; see `Store`."""
        with self._reader() as db:
            return reading.logs(db, question)

    def metrics(self, question: Question) -> str:
        """Return a page of series; see `Store`."""
        with self._reader() as db:
            return reading.metrics(db, question)

    def points(self, series: int, question: Question) -> str:
        """Return a series with its points; see `Store`."""
        with self._reader() as db:
            return reading.points(db, series, question)

    def export(self, signal: str, filter_text: str = "") -> Iterator[bytes]:
        """Yield all that is stored of a signal; see `Store`."""
        after = 0
        while True:
            with self._reader() as db:
                requests, after = reading.export(db, signal, filter_text, after)
            yield from requests
            if not after:
                return


def _insert_block(db: sqlite3.Connection, block: Block, origin: Origin) -> None:
    number = db.execute(
        _INSERT_BLOCK,
        (
            origin.resource,
            origin.scope,
            len(block.spans),
            block.first,
            block.last,
            block.longest,
            *SPANS.integers(block.bits),
        ),
    ).lastrowid
    raw = Group(items=block.spans).SerializeToString()
    db.execute("INSERT INTO block_data VALUES (?, ?, ?)", (number, b"".join(block.traces), raw))
    db.executemany(
        "INSERT INTO block_traces VALUES (?, ?)", [(trace, number) for trace in block.traces]
    )
    db.executemany(_INSERT_ROOT, [(number, origin.resource, *root) for root in block.roots])


_LONGEST_CACHED: Final = 16_384
_MOST_ORIGINS: Final = 1_000


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=16).digest()


def _remember(known: dict[Any, Any], key: Any, value: Any, most: int) -> None:
    if len(known) >= most:
        known.clear()
    known[key] = value
