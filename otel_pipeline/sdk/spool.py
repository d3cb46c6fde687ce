"""The spool: encoded batches that wait on disk until their receiver takes them.

One SQLite file in a folder of the user holds the batches of all services, endpoints and signals; a
`Shelf` is the part of one of them as one process sees it. A batch belongs to the process that
wrote it, or took it over, for as long as that process lives; nobody else sends it. Who lives is
told by the kernel: each shelf holds a lock on one byte of a lock file, and locks end with their
process, however it ends.

What a write has returned for survives `kill -9`. Requests' headers are never seen here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from otel_pipeline import diagnostics
from otel_pipeline.config import state_folder
from otel_pipeline.sdk.locks import locks_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.config import Config
    from otel_pipeline.sdk.locks import ByteLocks

__all__ = ["Change", "Entry", "Shelf", "Spool", "SpoolError", "StoredBatch", "folder_of"]

_FILE: Final = "spool.db"
_LOCKS: Final = "spool.lock"
#: Seconds that a write may wait for the writes of other processes.
_PATIENCE: Final = 1.0
#: Set-aside batches may have this share of the bytes, so that they never push out good ones.
_SET_ASIDE_SHARE: Final = 0.1

_SCHEMA: Final = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    signal TEXT NOT NULL,
    created REAL NOT NULL,  -- seconds since 1970
    items INTEGER NOT NULL,
    size INTEGER NOT NULL,
    owner INTEGER,          -- byte of the lock file that its process holds; NULL: nobody's
    state TEXT NOT NULL,    -- waiting, set_aside (refused for good) or evicted (payload is gone)
    reason TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS places ON batches
    (state, service, endpoint, signal, owner, id, created, items, size);
COMMIT;
"""

#: Held during each operation on a file. A fork waits for it, so that no child inherits SQLite in
#: the middle of something.
_gate = threading.Lock()
_usable = True  # False in a child that was forked in the middle of something all the same
#: Connections of a parent process: not to be used, and not to be closed either.
_inherited: list[sqlite3.Connection] = []


class SpoolError(Exception):
    """The spool cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation has moved besides what it was asked to, in items.

    Attributes:
        recovered: Left on disk by other processes, and now this one's.
        dropped: This one's, given up for being too old or too much.
    """

    recovered: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """One batch on disk.

    Attributes:
        id: Its number.
        items: How many spans or log records it has.
        payload: The encoded request.
    """

    id: int
    items: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """What is on disk of one service, endpoint, signal and state.

    Attributes:
        service: Name of the service.
        endpoint: Where it is to be sent.
        signal: `traces` or `logs`.
        state: `waiting`, or `set_aside`: the receiver refused it for good.
        batches: How many requests.
        items: How many spans or log records.
        bytes: How many bytes their requests have.
        oldest: When the oldest was written, in seconds since 1970.
        reason: Why the newest was set aside, or empty.
    """

    service: str
    endpoint: str
    signal: str
    state: Literal["waiting", "set_aside"]
    batches: int
    items: int
    bytes: int
    oldest: float
    reason: str


def folder_of(config: Config, *, explicit: bool) -> Path | None:
    """Return the folder of the spool that a configuration asks for.

    Args:
        config: The configuration.
        explicit: Whether somebody set the endpoint; else nothing is kept for it.

    Returns:
        The folder, which need not exist; None where the spool is off.
    """
    if config.spool_dir == "off" or not explicit:
        return None
    if config.spool_dir == "auto":
        state = state_folder()
        return state / "spool" if state else None
    folder = Path(config.spool_dir)
    with contextlib.suppress(OSError):
        if folder.stat().st_uid != os.getuid():  # shared, such as the volume of a container
            return folder / f"user-{os.getuid()}"
    return folder


class Spool:
    """The batches in one folder. Nothing is touched before something is written or looked for.

    Thread-safe. Every method raises `SpoolError` if the folder or file cannot be used. A forked
    child opens the file anew.

    Args:
        folder: Where the file is; made for this user alone if need be.
        max_bytes: Most bytes that the file has; batches that are set aside go first, then the
            oldest.
        max_age: Seconds that a batch is kept.
    """

    def __init__(self, folder: Path, *, max_bytes: int, max_age: float) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_age = max_age
        self.generation = 0  # goes up when the file, and all that was in it, is another one
        self._path = folder / _FILE
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._locks: ByteLocks | None = None
        _LIVE.add(self)

    def exists(self) -> bool:
        """Return whether anything was ever written here."""
        return self._path.exists()

    def shelf(self, service: str, endpoint: str, signal: str) -> Shelf:
        """Return the part of one service, endpoint and signal."""
        return Shelf(self, service, endpoint, signal)

    def close(self) -> None:
        """Close the file; the next operation opens it again."""
        with _gate:
            self._disconnect()

    def entries(self) -> list[Entry]:
        """Return what is on disk, by service, endpoint, signal and state."""
        if not self.exists():
            return []
        with self.transaction() as db:
            rows = db.execute(
                "SELECT service, endpoint, signal, state, count(*), sum(items), sum(size),"
                " min(created), max(id) FROM batches WHERE state != 'evicted'"
                " GROUP BY service, endpoint, signal, state ORDER BY 1, 2, 3, 4 DESC"
            ).fetchall()
            reason = "SELECT reason FROM batches WHERE id = ?"
            return [
                Entry(*(*values, db.execute(reason, (newest,)).fetchone()[0]))
                for *values, newest in rows
            ]

    def drop(self, *, service: str | None, signal: str | None, set_aside: bool) -> int:
        """Delete batches; what belongs to a running process is counted there.

        Args:
            service: Only of this service.
            signal: Only of this signal.
            set_aside: Only what was set aside.

        Returns:
            How many batches.
        """
        if not self.exists():
            return 0
        with self.transaction() as db:
            victims = db.execute(
                "SELECT id, owner, state FROM batches WHERE state != 'evicted'"
                " AND service = ifnull(?, service) AND signal = ifnull(?, signal)"
                " AND (state = 'set_aside' OR NOT ?)",
                (service, signal, set_aside),
            ).fetchall()
            for number, owner, state in victims:
                self.evict(db, number, owner, state)
            return len(victims)

    # --- For shelves ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection on which all that is done is done at once, or not at all."""
        with _gate:
            try:
                db = self._connect()
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                if _is_damaged(error):
                    self._set_file_aside(error)
                raise SpoolError(str(error)) from error
            except OSError as error:
                raise SpoolError(error.strerror or str(error)) from error

    @property
    def locks(self) -> ByteLocks:
        """Who is alive; only inside of a transaction."""
        if self._locks is None:
            self._locks = locks_in(self.folder / _LOCKS)
        return self._locks

    def evict(self, db: sqlite3.Connection, number: int, owner: int | None, state: str) -> None:
        """Delete a batch of somebody else; a live owner is left a note, so that it can count it."""
        if state == "waiting" and owner is not None and self.locks.is_taken(owner):
            db.execute(
                "UPDATE batches SET state = 'evicted', size = 0, payload = x'' WHERE id = ?",
                (number,),
            )
        else:
            db.execute("DELETE FROM batches WHERE id = ?", (number,))

    # --- The file ---------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        if not _usable:
            raise OSError("the process was forked while a batch was being written")
        if self._connection is not None:
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    return self._connection
            self._disconnect()  # another file, or none: what was in this one is gone
            self.generation += 1
        _make_folder(self.folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(self._path, flags, 0o600))
        self._inode = self._path.stat().st_ino
        self._locks = locks_in(self.folder / _LOCKS)
        self._connection = db = sqlite3.connect(
            self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        try:
            # With WAL, NORMAL keeps every commit through the death of the process; only the
            # machine's death may lose the last ones.
            db.execute("PRAGMA synchronous = NORMAL")
            if db.execute("PRAGMA user_version").fetchone() == (0,):
                db.executescript(_SCHEMA + "PRAGMA user_version = 1;")
        except BaseException as error:
            if not (isinstance(error, sqlite3.DatabaseError) and _is_damaged(error)):
                self._disconnect()
            raise
        return db

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _set_file_aside(self, error: sqlite3.Error) -> None:
        """Move a damaged file out of the way, unless another process has done so."""
        self._disconnect()
        self.generation += 1
        aside = self._path.with_name(f"{_FILE}.damaged")
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(_FILE + suffix).unlink(missing_ok=True)
                self._path.replace(aside)
        diagnostics.warn_once(
            f"spool:damaged:{self.folder}",
            "the spool file %s is damaged (%s): it is now %s, and a new one is used",
            self._path,
            error,
            aside,
        )

    def before_fork(self) -> None:
        """Let go of the file: SQLite must not be carried into a child."""
        self._disconnect()

    def after_fork_in_child(self) -> None:
        """Forget what is the parent's."""
        if self._connection is not None:
            _inherited.append(self._connection)
        self._connection = None
        self._locks = None


class Shelf:
    """The batches of one service, endpoint and signal, as far as they are this process's.

    Every method raises `SpoolError` if the spool cannot be used.
    """

    def __init__(self, spool: Spool, service: str, endpoint: str, signal: str) -> None:
        self.spool = spool
        self._key = (service, endpoint, signal)
        self._owner: int | None = None
        self._owner_locks: ByteLocks | None = None

    def put(self, payload: bytes, items: int) -> tuple[int, Change]:
        """Write one batch.

        Returns:
            Its number, and what had to give way to it: perhaps itself.
        """
        with self._transaction() as (db, owner):
            number = self._insert(db, payload, items, owner)
            return number, self._make_room(db, owner)

    def put_aside(self, payload: bytes, items: int, reason: str) -> None:
        """Write a batch that the receiver refused for good, to be looked at or sent by hand."""
        with self._transaction() as (db, _):
            self._insert(db, payload, items, None, reason or "refused")
            self._make_room_aside(db)

    def set_aside(self, number: int, reason: str) -> bool:
        """Keep a batch, which the receiver refused for good, unsent; False if it is gone."""
        with self._transaction() as (db, _):
            cursor = db.execute(
                "UPDATE batches SET state = 'set_aside', reason = ?, owner = NULL WHERE id = ?",
                (reason, number),
            )
            self._make_room_aside(db)
            return cursor.rowcount > 0

    def take_back(self) -> None:
        """Let what was set aside be sent once more, by this process."""
        with self._transaction() as (db, owner):
            db.execute(
                "UPDATE batches SET state = 'waiting', owner = ? WHERE state = 'set_aside'"
                " AND service = ? AND endpoint = ? AND signal = ?",
                (owner, *self._key),
            )

    def adopt(self) -> Change:
        """Take over the batches of processes that have ended; give up those that are too old."""
        with self._transaction() as (db, owner):
            recovered = 0
            for other in self._dead_owners(db, owner):
                for (items,) in db.execute(
                    "UPDATE batches SET owner = ? WHERE service = ? AND endpoint = ?"
                    " AND signal = ? AND state = 'waiting' AND owner IS ? RETURNING items",
                    (owner, *self._key, other),
                ).fetchall():
                    recovered += items
            return Change(recovered=recovered, dropped=self._expire(db, owner))

    def oldest(self) -> tuple[StoredBatch | None, Change]:
        """Return the oldest of this process's batches, and what was given up meanwhile."""
        with self._transaction() as (db, owner):
            dropped = self._expire(db, owner)
            row = db.execute(
                "SELECT id, items, payload FROM batches WHERE id = (SELECT min(id) FROM batches"
                " WHERE state = 'waiting' AND service = ? AND endpoint = ? AND signal = ?"
                " AND owner = ?)",
                (*self._key, owner),
            ).fetchone()
            return (None if row is None else StoredBatch(*row)), Change(dropped=dropped)

    def delete(self, number: int) -> bool:
        """Delete a batch, now that its receiver has it; False if it is gone."""
        with self._transaction() as (db, _):
            was_here = db.execute("DELETE FROM batches WHERE id = ?", (number,)).rowcount > 0
            if db.execute("SELECT NOT EXISTS (SELECT 1 FROM batches)").fetchone()[0]:
                db.execute("PRAGMA incremental_vacuum").fetchall()
            return was_here

    def release(self) -> Change:
        """Leave this process's batches to whoever comes next."""
        if self._owner is None:
            return Change()
        with self._transaction() as (db, owner):
            dropped = self._expire(db, owner)
            db.execute("UPDATE batches SET owner = NULL WHERE owner = ?", (owner,))
            self.spool.locks.release(owner)
            self._owner = None
            return Change(dropped=dropped)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        with self.spool.transaction() as db:
            locks = self.spool.locks
            if self._owner is None or self._owner_locks is not locks:
                self._owner_locks = locks
                self._owner = secrets.randbits(62)
                locks.take(self._owner)
            yield db, self._owner

    def _insert(
        self,
        db: sqlite3.Connection,
        payload: bytes,
        items: int,
        owner: int | None,
        reason: str = "",
    ) -> int:
        state = "set_aside" if reason else "waiting"
        cursor = db.execute(
            "INSERT INTO batches (service, endpoint, signal, created, items, size, owner, state,"
            " reason, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*self._key, time.time(), items, len(payload), owner, state, reason, payload),
        )
        return cursor.lastrowid or 0

    def _make_room(self, db: sqlite3.Connection, owner: int) -> Change:
        """Give up set-aside batches, then the oldest, whoever's, until there are not too many."""
        recovered = dropped = 0
        while _used(db) > self.spool.max_bytes:
            victim = db.execute(
                "SELECT id, owner, state, items, service, endpoint, signal FROM batches"
                " WHERE state != 'evicted' ORDER BY state = 'waiting', id LIMIT 1"
            ).fetchone()
            if victim is None:
                break
            number, other, state, items, *key = victim
            if other == owner:
                db.execute("DELETE FROM batches WHERE id = ?", (number,))
                dropped += items
                continue
            self.spool.evict(db, number, other, state)
            is_here = db.execute("SELECT 1 FROM batches WHERE id = ?", (number,)).fetchone()
            if state == "waiting" and not is_here and tuple(key) == self._key:
                recovered += items  # of a process that has ended: counted here, by nobody else
                dropped += items
        return Change(recovered, dropped)

    def _make_room_aside(self, db: sqlite3.Connection) -> None:
        most = self.spool.max_bytes * _SET_ASIDE_SHARE
        while True:
            first, size = db.execute(
                "SELECT min(id), ifnull(sum(size), 0) FROM batches WHERE state = 'set_aside'"
            ).fetchone()
            if size <= most:
                return
            db.execute("DELETE FROM batches WHERE id = ?", (first,))

    def _expire(self, db: sqlite3.Connection, owner: int) -> int:
        """Delete what is too old and what others have evicted; return the items that it had."""
        too_old = time.time() - self.spool.max_age
        rows = db.execute(
            "DELETE FROM batches WHERE owner = ? AND service = ? AND endpoint = ? AND signal = ?"
            " AND (state = 'evicted' OR created < ?) RETURNING items",
            (owner, *self._key, too_old),
        ).fetchall()
        stale = db.execute(
            "SELECT id, owner FROM batches WHERE created < ? AND owner IS NOT ?", (too_old, owner)
        ).fetchall()
        for number, other in stale:  # nobody's any more, or evicted from one who has ended
            if other is None or not self.spool.locks.is_taken(other):
                db.execute("DELETE FROM batches WHERE id = ?", (number,))
        return sum(items for (items,) in rows)

    def _dead_owners(self, db: sqlite3.Connection, owner: int) -> list[int | None]:
        owners = db.execute(
            "SELECT DISTINCT owner FROM batches WHERE state = 'waiting' AND service = ?"
            " AND endpoint = ? AND signal = ? AND owner IS NOT ?",
            (*self._key, owner),
        ).fetchall()
        return [o for (o,) in owners if o is None or not self.spool.locks.is_taken(o)]


def _used(db: sqlite3.Connection) -> int:
    """Return the bytes of the file that hold something."""

    def pragma(name: str) -> int:
        value: int = db.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    return (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")


def _is_damaged(error: sqlite3.Error) -> bool:
    code: Any = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _make_folder(folder: Path) -> None:
    """Make the folder for this user alone; refuse one that belongs to another user."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise OSError(f"{folder} belongs to another user")
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{folder} is not a folder")


# --- Forks ----------------------------------------------------------------------------------------

_LIVE: weakref.WeakSet[Spool] = weakref.WeakSet()
_held = False


def _before_fork() -> None:
    global _held  # noqa: PLW0603  one gate for the process
    _held = _gate.acquire(timeout=_PATIENCE)
    if _held:
        for spool in tuple(_LIVE):
            spool.before_fork()


def _after_in_parent() -> None:
    if _held:
        _gate.release()


def _after_in_child() -> None:
    global _gate, _usable  # noqa: PLW0603
    _usable = _usable and _held
    _gate = threading.Lock()
    for spool in tuple(_LIVE):
        spool.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
