"""What goes when a store is full or its data old: always what came first, of all signals alike.

Now and then the store notes which numbers it had reached (a mark). To make room, all up to the
oldest mark goes. So what comes with odd times of its own, or is imported years later, is kept as
long as anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Retention"]

_ITEMS_PER_MARK: Final = 20_000
_SECONDS_PER_MARK: Final = 60
_TRACE_ID: Final = 16
_MOST_DROPS: Final = 4  # at a time, so that a request does not wait for long
#: Seconds by which the noted use of a resource may lag.
_LAG: Final = 120

_NEWEST: Final = (
    "SELECT ifnull((SELECT max(id) FROM blocks), 0), ifnull((SELECT max(id) FROM roots), 0),"
    " ifnull((SELECT max(id) FROM logs), 0),"
    " ifnull((SELECT max(id) FROM points), 0), ifnull((SELECT max(id) FROM exemplars), 0)"
)
#: What the newest items need, however old they are.
_KEPT: Final = {
    "series": "SELECT series FROM points WHERE id = (SELECT max(id) FROM points)",
    **{
        table: f"SELECT {column} FROM series"  # noqa: S608
        f" UNION SELECT {column} FROM blocks WHERE id = (SELECT max(id) FROM blocks)"
        f" UNION SELECT {column} FROM logs WHERE id = (SELECT max(id) FROM logs)"
        for table, column in (("resources", "resource"), ("scopes", "scope"))
    },
}


@dataclass(slots=True)
class Retention:
    """Keeps a store within a size and an age.

    Attributes:
        max_bytes: The size beyond which the oldest goes.
        max_age: The seconds after which it goes.
        dropped: Whether something went, so that its number may be given anew.
    """

    max_bytes: int
    max_age: float
    dropped: bool = False
    _items: int = 0
    _marked: int = 0

    def added(self, db: sqlite3.Connection, count: int, now: int) -> None:
        """Take note of new items, and make room if it is time to."""
        self._items += count
        if self._items >= _ITEMS_PER_MARK or (
            self._items and now - self._marked >= _SECONDS_PER_MARK
        ):
            self.maintain(db, now)

    def maintain(self, db: sqlite3.Connection, now: int) -> None:
        """Make a mark and drop what is too old or too much."""
        newest = db.execute(_NEWEST).fetchone()
        last = db.execute(
            "SELECT block, root, log, point, exemplar FROM marks ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        if newest != (last or (0, 0, 0, 0, 0)):
            db.execute("INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?)", (now, *newest))
        self._items, self._marked = 0, now
        for _ in range(_MOST_DROPS):
            oldest = db.execute(
                "SELECT rowid, time, block, root, log, point, exemplar FROM marks"
                " ORDER BY rowid LIMIT 1"
            ).fetchone()
            if oldest is None:
                break
            too_old = oldest[1] < now - self.max_age
            if not too_old and _size(db) <= self.max_bytes:
                break
            _drop(db, oldest)
            self.dropped = True


def _size(db: sqlite3.Connection) -> int:
    """Return the bytes in use; what a file has free inside is used before it grows."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def _drop(db: sqlite3.Connection, oldest: tuple[int, ...]) -> None:
    mark, time, block, root, log, point, exemplar = oldest
    newest = "(SELECT max(id) FROM blocks)"
    dropped = db.execute(
        "SELECT block, traces FROM block_data"  # noqa: S608
        f" WHERE block <= ? AND block < {newest}",
        (block,),
    ).fetchall()
    pairs = [
        (traces[at : at + _TRACE_ID], number)
        for number, traces in dropped
        for at in range(0, len(traces), _TRACE_ID)
    ]
    db.executemany("DELETE FROM block_traces WHERE trace_id = ? AND block = ?", pairs)
    db.executemany(
        "DELETE FROM runs WHERE trace_id = ?1"
        " AND NOT EXISTS (SELECT 1 FROM block_traces WHERE block_traces.trace_id = ?1)",
        [(trace,) for trace in {trace for trace, _ in pairs}],
    )
    db.execute(
        f"DELETE FROM block_data WHERE block <= ? AND block < {newest}",  # noqa: S608
        (block,),
    )
    for table, last in (
        ("blocks", block),
        ("roots", root),
        ("logs", log),
        ("points", point),
        ("exemplars", exemplar),
    ):
        # The newest stays, or SQLite would give its number again.
        db.execute(
            f"DELETE FROM {table} WHERE id <= ? AND id < (SELECT max(id) FROM {table})",  # noqa: S608
            (last,),
        )
    for table, kept in _KEPT.items():
        db.execute(
            f"DELETE FROM {table} WHERE used < ? AND id NOT IN ({kept})",  # noqa: S608
            (time - _LAG,),
        )
    db.execute("DELETE FROM marks WHERE rowid = ?", (mark,))
