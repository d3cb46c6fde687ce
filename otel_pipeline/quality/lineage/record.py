"""The record: what stages last read and wrote, in a small SQLite file that processes share.

It answers two questions after the processes are gone: which span wrote a dataset last, and which
jobs made what of what. Of each job the last runs are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.config import state_folder
from otel_pipeline.quality.lineage.model import Assertion, DatasetUse, JobRun, ParentRun
from otel_pipeline.quality.lineage.names import DatasetName, JobName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Record", "RecordError", "keeps", "path_of"]

#: Seconds that a write may wait for those of other processes, and that a look-up may.
_PATIENCE: Final = 1.0
_HASTE: Final = 0.05
_VERSION: Final = 1
_RUNS_OF_A_JOB: Final = 20

_SCHEMA: Final = """
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS runs (
    namespace TEXT NOT NULL,
    job TEXT NOT NULL,
    run TEXT NOT NULL,
    at INTEGER NOT NULL,     -- nanoseconds since 1970
    document TEXT NOT NULL,  -- the rest as JSON
    PRIMARY KEY (namespace, job, run)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writers (
    namespace TEXT NOT NULL,
    dataset TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    PRIMARY KEY (namespace, dataset)
) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""

# Held during each operation, and by a fork: no child inherits SQLite in the middle of something.
_gate = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_gate.acquire, after_in_parent=_gate.release, after_in_child=_gate.release
    )


class RecordError(Exception):
    """The record cannot be used; the message says why."""


def path_of(setting: str) -> Path | None:
    """Return the file of the record that a configuration asks for, or None where it is off.

    Args:
        setting: `auto`, `off`, or a path.
    """
    if setting == "off":
        return None
    if setting != "auto":
        return Path(setting)
    folder = state_folder()
    return None if folder is None else folder / "quality" / "lineage.db"


def keeps(run: JobRun) -> bool:
    """Return whether the record keeps a run: it has ended, and used datasets."""
    return run.state != "START" and bool(run.inputs or run.outputs)


class Record:
    """What stages last read and wrote.

    Every method opens the file and closes it again; nothing is touched before something is added.

    Args:
        path: The file; it and its folder are made for this user alone if need be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, runs: Iterable[JobRun]) -> None:
        """Add runs that have ended; those without datasets tell nothing and are left out.

        Raises:
            RecordError: The file cannot be written.
        """
        with self._opened(write=True) as db:
            for run in runs:
                if not keeps(run):
                    continue
                key = (run.job.namespace, run.job.name)
                db.execute(
                    "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)",
                    (*key, run.run, run.at, json.dumps(_as_dict(run), separators=(",", ":"))),
                )
                db.execute(
                    "DELETE FROM runs WHERE namespace = ?1 AND job = ?2 AND run NOT IN (SELECT run"
                    " FROM runs WHERE namespace = ?1 AND job = ?2 ORDER BY at DESC LIMIT ?3)",
                    (*key, _RUNS_OF_A_JOB),
                )
                if run.span_id and run.state == "COMPLETE":
                    db.executemany(
                        "INSERT OR REPLACE INTO writers VALUES (?, ?, ?, ?)",
                        [(*use.name, run.trace_id, run.span_id) for use in run.outputs],
                    )

    def runs(self) -> list[JobRun]:
        """Return what is kept, oldest first.

        Raises:
            RecordError: The file cannot be read.
        """
        if not self.path.exists():
            return []
        with self._opened(write=False) as db:
            rows = db.execute("SELECT document FROM runs ORDER BY at, namespace, job").fetchall()
        try:
            return [_from_dict(json.loads(document)) for (document,) in rows]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            message = f"it holds something else than lineage ({type(error).__name__})"
            raise RecordError(message) from error

    def last_writer(self, name: DatasetName) -> tuple[str, str] | None:
        """Return trace and span id (hex digits) of a dataset's last writer, or None.

        Raises:
            RecordError: The file cannot be read at once.
        """
        if not self.path.exists():
            return None
        with self._opened(write=False, patience=_HASTE) as db:
            found = db.execute(
                "SELECT trace_id, span_id FROM writers WHERE namespace = ? AND dataset = ?", name
            ).fetchone()
        return None if found is None else (found[0], found[1])

    @contextlib.contextmanager
    def _opened(self, *, write: bool, patience: float = _PATIENCE) -> Iterator[sqlite3.Connection]:
        """Yield a connection; what is done on it is done at once, or not at all."""
        try:
            if write:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                os.close(os.open(self.path, flags, 0o600))
            with (
                _gate,
                closing(sqlite3.connect(self.path, timeout=patience, isolation_level=None)) as db,
            ):
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version > _VERSION:
                    message = f"a newer otel_pipeline has written it (version {version})"
                    raise RecordError(message)
                if version == 0:
                    db.executescript(_SCHEMA)
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                yield db
                db.execute("COMMIT")
        except sqlite3.Error as error:
            raise RecordError(str(error)) from error
        except OSError as error:
            raise RecordError(error.strerror or str(error)) from error


def _as_dict(run: JobRun) -> dict[str, Any]:
    """Return what JSON can hold; what is at its default is left out."""
    found = {key: value for key, value in asdict(run).items() if value or key == "at"}
    for side in ("inputs", "outputs"):
        if side in found:
            found[side] = [_without_defaults(use) for use in found[side]]
    return found


def _without_defaults(use: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in use.items() if value not in (None, {}, ())}


def _from_dict(found: Mapping[str, Any]) -> JobRun:
    told = dict(found)
    told["job"] = JobName(**told["job"])
    for side in ("inputs", "outputs"):
        told[side] = tuple(_use(use) for use in told.get(side, ()))
    for above in ("parent", "root"):
        if one := told.get(above):
            told[above] = ParentRun(JobName(**one["job"]), one["run"])
    return JobRun(**told)


def _use(found: Mapping[str, Any]) -> DatasetUse:
    told = dict(found)
    told["name"] = DatasetName(*told["name"])
    told["columns"] = {
        column: tuple((DatasetName(*name), source) for name, source in sources)
        for column, sources in told.get("columns", {}).items()
    }
    told["assertions"] = tuple(Assertion(**one) for one in told.get("assertions", ()))
    return DatasetUse(**told)
