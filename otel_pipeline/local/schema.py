"""The SQLite file of the local backend: its tables, its version, and how it is opened."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from otel_pipeline.local.signature import SPANS
from otel_pipeline.local.store import StoreError

__all__ = ["VERSION", "default_path", "open_file", "open_memory"]

#: Grows with each change that an older version of this program could not read.
VERSION: Final = 1
#: Marks the file as one of ours.
_APPLICATION: Final = 0x6F74_706C  # "otpl"

_TABLES: Final = """
CREATE TABLE resources (
    id INTEGER PRIMARY KEY, digest BLOB UNIQUE, raw BLOB, service TEXT, used INTEGER
);
CREATE TABLE scopes (
    id INTEGER PRIMARY KEY, digest BLOB UNIQUE, raw BLOB, used INTEGER
);
CREATE TABLE blocks (           -- of spans that came together, see decode.py
    id INTEGER PRIMARY KEY,     -- the order in which they came
    resource INTEGER, scope INTEGER, spans INTEGER,
    first INTEGER, last INTEGER, longest INTEGER,                   -- nanoseconds
    {columns}                                                       -- see signature.py
);
CREATE TABLE block_data (       -- beside it, so that a search reads little
    block INTEGER PRIMARY KEY, traces BLOB, raw BLOB
);
CREATE TABLE block_traces (
    trace_id BLOB, block INTEGER, PRIMARY KEY (trace_id, block)
) WITHOUT ROWID;
CREATE TABLE roots (            -- spans without a parent
    id INTEGER PRIMARY KEY,
    block INTEGER, resource INTEGER, trace_id BLOB, span_id BLOB, name TEXT, start INTEGER,
    duration INTEGER, status INTEGER, UNIQUE (trace_id, span_id)
);
CREATE INDEX roots_by_start ON roots (start);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    run_id TEXT, pipeline TEXT, service TEXT, trace_id BLOB, start INTEGER, duration INTEGER,
    mode TEXT, status TEXT, success INTEGER, error INTEGER, skipped INTEGER,
    UNIQUE (run_id, pipeline, service)
);
CREATE INDEX runs_by_start ON runs (start);
CREATE INDEX runs_by_trace ON runs (trace_id);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    time INTEGER, severity INTEGER, trace_id BLOB, span_id BLOB, resource INTEGER, scope INTEGER,
    body TEXT, s0 INTEGER, s1 INTEGER, s2 INTEGER, raw BLOB
);
CREATE INDEX logs_by_time ON logs (time, severity, s0, s1, s2);
CREATE INDEX logs_by_trace ON logs (trace_id, span_id) WHERE trace_id IS NOT NULL;
CREATE TABLE series (
    id INTEGER PRIMARY KEY, digest BLOB UNIQUE, resource INTEGER, scope INTEGER, name TEXT,
    kind TEXT, unit TEXT, attributes TEXT, metric BLOB, used INTEGER
);
CREATE INDEX series_by_name ON series (name);
CREATE TABLE points (
    id INTEGER PRIMARY KEY,
    series INTEGER, time INTEGER, start INTEGER, value REAL, count INTEGER, raw BLOB
);
CREATE UNIQUE INDEX points_by_series ON points (series, time);
CREATE TABLE exemplars (
    id INTEGER PRIMARY KEY, series INTEGER, time INTEGER, trace_id BLOB, span_id BLOB, value REAL
);
CREATE UNIQUE INDEX exemplars_by_series ON exemplars (series, time, trace_id, span_id);
CREATE INDEX exemplars_by_trace ON exemplars (trace_id);
CREATE TABLE marks (            -- what had come when, so that the oldest can go
    time INTEGER, block INTEGER, root INTEGER, log INTEGER, point INTEGER, exemplar INTEGER
);
""".replace("{columns}", ", ".join(f"{name} INTEGER" for name in SPANS.columns))


def default_path() -> Path:
    """Return where the store is unless told otherwise: under the user's state directory.

    Raises:
        StoreError: The user has no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if os.path.isabs(state) else Path("~/.local/state").expanduser()  # noqa: PTH117
    except RuntimeError as error:
        raise StoreError("there is no home directory to keep data in: give --store PATH") from error
    return base / "otel-pipeline" / "local.db"


def open_file(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open the file, and with `write` make it where there is none.

    Files are readable by the user alone (0600), and so is a folder that is made for them (0700).

    Raises:
        StoreError: It cannot be opened, is something else, or is of a newer version.
    """
    try:
        if write:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        elif not path.exists():
            raise StoreError(
                f"there is no store at {path}: start `otel-pipeline ui`, or name another with"
                " --store PATH"
            )
        uri = f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
        db = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0
        )
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"the store {path} cannot be opened: {error}") from error
    try:
        _prepare(db, str(path), write=write)
    except sqlite3.Error as error:
        db.close()
        raise StoreError(
            f"the store {path} cannot be read: {error}; name another with --store PATH, or move"
            " the file away to begin a new one"
        ) from error
    except BaseException:
        db.close()
        raise
    return db


def open_memory() -> sqlite3.Connection:
    """Open a store that is gone when it is closed."""
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _prepare(db, ":memory:", write=True)
    return db


def _prepare(db: sqlite3.Connection, path: str, *, write: bool) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if version > VERSION and application == _APPLICATION:
        raise StoreError(
            f"the store {path} was written by a newer otel-pipeline (its version is {version},"
            f" this program knows {VERSION}): upgrade otel-pipeline, or name another store with"
            " --store PATH"
        )
    if tables and application != _APPLICATION:
        raise StoreError(
            f"{path} is a database of another program: name another file with --store PATH"
        )
    if write:
        if path != ":memory:":
            # Committed is safe from the end of this process; a power failure may take the last
            # moments, but never damages the file.
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        db.execute("PRAGMA cache_size = -24000")
        _create(db)
    else:
        db.execute("PRAGMA query_only = ON")
        db.execute("PRAGMA cache_size = -4000")


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")  # two programs may begin at once
    with contextlib.ExitStack() as undo:
        undo.callback(db.execute, "ROLLBACK")
        if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            for statement in _TABLES.split(";\n"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA application_id = {_APPLICATION}")
            db.execute(f"PRAGMA user_version = {VERSION}")
        undo.pop_all()
        db.execute("COMMIT")
