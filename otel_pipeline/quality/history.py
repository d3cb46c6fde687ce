"""The history of datasets: what was measured, what was expected, and what people said about it.

Monitors read a history and write to it through the protocol `History`. The default one is a SQLite
file that all runs of a user share. A `Point` is one value of one metric; a `Note` is a document
that belongs to a moment, such as a schema; `Finding` numbers are those of their points.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

from otel_pipeline import config as configuration
from otel_pipeline.config import state_folder
from otel_pipeline.errors import ConfigurationError, OtelPipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "History",
    "HistoryError",
    "Maintenance",
    "Note",
    "Point",
    "Ruling",
    "SqliteHistory",
    "default_history",
]

#: What a person said about a finding; empty: nothing yet.
Ruling = Literal["", "accepted", "confirmed"]

_FILE: Final = "history.db"
_VERSION: Final = 1
#: Seconds that an operation may wait for those of other processes.
_PATIENCE: Final = 5.0

_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS points (
    id INTEGER PRIMARY KEY,
    dataset TEXT NOT NULL,
    segment TEXT NOT NULL,      -- empty: the whole dataset
    metric TEXT NOT NULL,
    at REAL NOT NULL,           -- seconds since 1970, as all times here
    value REAL NOT NULL,
    low REAL,                   -- what was expected; NULL while learning
    high REAL,
    score REAL NOT NULL,
    explanation TEXT NOT NULL,  -- empty: no finding
    ruling TEXT NOT NULL        -- empty, accepted or confirmed
);
CREATE INDEX IF NOT EXISTS series ON points (dataset, segment, metric, at);
CREATE INDEX IF NOT EXISTS findings ON points (dataset, at) WHERE explanation != '';
CREATE TABLE IF NOT EXISTS notes (
    id INTEGER PRIMARY KEY,
    dataset TEXT NOT NULL,
    segment TEXT NOT NULL,
    name TEXT NOT NULL,
    at REAL NOT NULL,
    document TEXT NOT NULL      -- JSON
);
CREATE INDEX IF NOT EXISTS named ON notes (dataset, segment, name, at);
CREATE TABLE IF NOT EXISTS maintenance (
    dataset TEXT NOT NULL,      -- empty: every dataset
    start REAL NOT NULL,
    stop REAL NOT NULL,
    reason TEXT NOT NULL
);
PRAGMA user_version = 1;
COMMIT;
"""


class HistoryError(OtelPipelineError):
    """A history cannot be read or written; says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric of a dataset, and what a monitor thought of it.

    Attributes:
        dataset: Name of the dataset.
        metric: What was measured, such as `rows` or `null_ratio:amount`.
        at: When, in seconds since 1970.
        value: The value.
        segment: The part of the dataset, such as `carrier=AA`; empty for all of it.
        low: Lowest value that was expected; None while the monitor learned.
        high: Highest value that was expected.
        score: How far the value was from that; above 1 is anomalous.
        explanation: What was found, in words; empty where nothing was.
        ruling: What a person said about the finding.
        id: Number of the point; 0 before it was recorded.
    """

    dataset: str
    metric: str
    at: float
    value: float
    segment: str = ""
    low: float | None = None
    high: float | None = None
    score: float = 0.0
    explanation: str = ""
    ruling: Ruling = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """A document about a dataset at a moment, such as its schema.

    Attributes:
        dataset: Name of the dataset.
        name: What it is, such as `schema` or `categories:carrier`.
        at: When, in seconds since 1970.
        document: JSON.
        segment: The part of the dataset; empty for all of it.
    """

    dataset: str
    name: str
    at: float
    document: str
    segment: str = ""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A time in which a dataset need not look as usual.

    Attributes:
        dataset: Name of the dataset; empty for every one.
        start: First moment, in seconds since 1970.
        stop: Last moment.
        reason: Why, in words.
    """

    dataset: str
    start: float
    stop: float
    reason: str = ""


@runtime_checkable
class History(Protocol):
    """Where monitors keep what they learn from. Every method may raise `HistoryError`."""

    def session(self) -> AbstractContextManager[None]:
        """Return a context in which this thread's calls cost less than each on its own."""
        ...

    def points(
        self, dataset: str, metric: str, *, segment: str = "", before: float, limit: int
    ) -> list[Point]:
        """Return the last `limit` points at or before a time, the oldest first."""
        ...

    def notes(
        self, dataset: str, name: str, *, segment: str = "", before: float, limit: int
    ) -> list[Note]:
        """Return the last `limit` notes at or before a time, the oldest first."""
        ...

    def findings(self, dataset: str | None = None, *, limit: int = 100) -> list[Point]:
        """Return the last `limit` points with a finding, the oldest first."""
        ...

    def series(self, dataset: str | None = None) -> list[tuple[str, str, str]]:
        """Return each dataset, segment and metric that has points, sorted."""
        ...

    def maintenance(self, dataset: str) -> list[Maintenance]:
        """Return the maintenance windows of a dataset and of all, by their start."""
        ...

    def record(self, points: Sequence[Point], notes: Sequence[Note] = ()) -> None:
        """Keep points and notes: all of them, or none."""
        ...

    def rule(self, numbers: Sequence[int], ruling: Ruling) -> list[int]:
        """Set what a person says about findings; return the numbers that are findings."""
        ...

    def plan(self, window: Maintenance) -> None:
        """Keep a maintenance window."""
        ...


class SqliteHistory:
    """A history in a SQLite file, which many processes may use at the same time.

    The file is opened for each operation or session, so it may be deleted at any time.

    Args:
        path: The file; it and its folder are made, for this user alone, by the first record.

    Example:
        >>> import tempfile, pathlib
        >>> from otel_pipeline.quality import SqliteHistory
        >>> from otel_pipeline.quality.history import Point
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     history = SqliteHistory(pathlib.Path(folder) / "history.db")
        ...     history.record([Point("flights", "rows", at=1.0, value=842)])
        ...     [point.value for point in history.points("flights", "rows", before=2, limit=10)]
        [842.0]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._session = threading.local()

    def __repr__(self) -> str:
        return f"SqliteHistory({str(self.path)!r})"

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Return a context in which this thread keeps the file open."""
        with self._open() as db:
            self._session.db = db
            try:
                yield
            finally:
                self._session.db = None

    def points(
        self, dataset: str, metric: str, *, segment: str = "", before: float, limit: int
    ) -> list[Point]:
        """Return the last `limit` points at or before a time, the oldest first."""
        return self._points(
            "dataset = ? AND segment = ? AND metric = ? AND at <= ?",
            (dataset, segment, metric, before, limit),
        )

    def notes(
        self, dataset: str, name: str, *, segment: str = "", before: float, limit: int
    ) -> list[Note]:
        """Return the last `limit` notes at or before a time, the oldest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT dataset, name, at, document, segment FROM notes"
                " WHERE dataset = ? AND segment = ? AND name = ? AND at <= ?"
                " ORDER BY at DESC, id DESC LIMIT ?",
                (dataset, segment, name, before, limit),
            ).fetchall()
        return [Note(*row) for row in reversed(rows)]

    def findings(self, dataset: str | None = None, *, limit: int = 100) -> list[Point]:
        """Return the last `limit` points with a finding, the oldest first."""
        return self._points("explanation != '' AND dataset = ifnull(?, dataset)", (dataset, limit))

    def series(self, dataset: str | None = None) -> list[tuple[str, str, str]]:
        """Return each dataset, segment and metric that has points, sorted."""
        with self._reading() as db:
            return db.execute(
                "SELECT DISTINCT dataset, segment, metric FROM points"
                " WHERE dataset = ifnull(?, dataset) ORDER BY 1, 2, 3",
                (dataset,),
            ).fetchall()

    def maintenance(self, dataset: str) -> list[Maintenance]:
        """Return the maintenance windows of a dataset and of all, by their start."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT dataset, start, stop, reason FROM maintenance"
                " WHERE dataset IN ('', ?) ORDER BY start, stop",
                (dataset,),
            ).fetchall()
        return [Maintenance(*row) for row in rows]

    def record(self, points: Sequence[Point], notes: Sequence[Note] = ()) -> None:
        """Keep points and notes: all of them, or none."""
        with self._writing() as db:
            db.executemany(
                "INSERT INTO points"
                " (dataset, segment, metric, at, value, low, high, score, explanation, ruling)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (p.dataset, p.segment, p.metric, p.at, p.value, p.low, p.high, p.score,
                     p.explanation, p.ruling)
                    for p in points
                ],
            )  # fmt: skip
            db.executemany(
                "INSERT INTO notes (dataset, segment, name, at, document) VALUES (?, ?, ?, ?, ?)",
                [(n.dataset, n.segment, n.name, n.at, n.document) for n in notes],
            )

    def rule(self, numbers: Sequence[int], ruling: Ruling) -> list[int]:
        """Set what a person says about findings; return the numbers that are findings."""
        with self._writing() as db:
            return [
                number
                for number in numbers
                if db.execute(
                    "UPDATE points SET ruling = ? WHERE id = ? AND explanation != ''",
                    (ruling, number),
                ).rowcount
            ]

    def plan(self, window: Maintenance) -> None:
        """Keep a maintenance window."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO maintenance VALUES (?, ?, ?, ?)",
                (window.dataset, window.start, window.stop, window.reason),
            )

    # --- The file ---------------------------------------------------------------------------------

    def _points(self, condition: str, values: tuple[object, ...]) -> list[Point]:
        with self._reading() as db:
            rows = db.execute(
                "SELECT dataset, metric, at, value, segment, low, high, score, explanation,"  # noqa: S608 - the conditions are texts of this module
                f" ruling, id FROM points WHERE {condition} ORDER BY at DESC, id DESC LIMIT ?",
                values,
            ).fetchall()
        return [Point(*row) for row in reversed(rows)]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._current() is None and not self.path.exists():  # nothing was recorded yet
            with contextlib.closing(sqlite3.connect(":memory:")) as empty:
                empty.executescript(_SCHEMA)
                yield empty
            return
        with self._open() as db:
            yield db

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    def _current(self) -> sqlite3.Connection | None:
        return getattr(self._session, "db", None)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            current = self._current()
            if current is not None:
                yield current
                return
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(self.path, flags, 0o600))
            with contextlib.closing(
                sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            ) as db:
                self._prepare(db)
                yield db
        except sqlite3.Error as error:
            raise HistoryError(f"the history {self.path}: {_why(error)}") from error
        except OSError as error:
            why = error.strerror or str(error)
            raise HistoryError(
                f"the history {self.path} cannot be opened: {why}; "
                "OTEL_PIPELINE_QUALITY_HISTORY says where it is"
            ) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise HistoryError(
                f"the history {self.path} was written by a newer version of otel-pipeline "
                f"(format {version}, this one knows {_VERSION}): upgrade, or choose another file "
                "with OTEL_PIPELINE_QUALITY_HISTORY"
            )
        db.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)


def _why(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return f"is damaged ({error}): move it away, and a new one is begun"
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return f"was locked by another process for {_PATIENCE:g} s ({error})"
    return f"cannot be used ({error})"


def default_history() -> SqliteHistory | None:
    """Return the history that the configuration names.

    Returns:
        The history in the file of `OTEL_PIPELINE_QUALITY_HISTORY`, by default `history.db` under
        the user's state directory; None where it is `off`.

    Raises:
        ConfigurationError: There is no such directory, as the user has no home.
    """
    given = configuration.load().quality_history
    if given == "off":
        return None
    if given != "auto":
        return SqliteHistory(given)
    folder = state_folder()
    if folder is None:
        raise ConfigurationError(
            "OTEL_PIPELINE_QUALITY_HISTORY is auto, but the user has no home: "
            "set it to the path of a file, or to off"
        )
    return SqliteHistory(folder / "quality" / _FILE)
