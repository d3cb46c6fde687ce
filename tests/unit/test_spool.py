"""The shelves of a spool: whose batches are whose, and which give way."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from otel_pipeline.sdk.spool import Change, Spool, SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 150_000
LARGE = b"x" * 40_000


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", max_bytes=LIMIT, max_age=3600)
    yield made
    made.close()


def test_nothing_is_made_before_it_is_needed(spool: Spool) -> None:
    """Looking at a spool that is not there makes none."""
    assert spool.entries() == []
    assert spool.shelf("a", "b", "traces").release() == Change()
    assert not spool.folder.exists()


def test_a_batch_larger_than_the_limit_gives_way_itself(spool: Spool) -> None:
    """The limit holds for one batch, too."""
    shelf = spool.shelf("a", "b", "traces")
    _, change = shelf.put(b"x" * 2 * LIMIT, 7)
    assert change == Change(dropped=7)
    assert shelf.oldest() == (None, Change())


def test_set_aside_batches_go_first_and_have_a_tenth(spool: Spool) -> None:
    """They never push out good ones, and count nowhere a second time."""
    shelf = spool.shelf("a", "b", "traces")
    shelf.put(b"good", 1)
    for _ in range(4):
        shelf.put_aside(b"x" * 7_000, 1, "400")
    good, aside = spool.entries()
    assert (good.state, aside.state, aside.batches) == ("waiting", "set_aside", 2)
    number, _ = shelf.put(LARGE, 2)
    assert shelf.set_aside(number, "400")
    assert [entry.state for entry in spool.entries()] == ["waiting"]
    assert not shelf.set_aside(number, "400")
    shelf.put_aside(b"x" * 10_000, 1, "400")
    changes = [shelf.put(LARGE, 2)[1] for _ in range(3)]
    assert changes == [Change(), Change(), Change()]
    assert [entry.state for entry in spool.entries()] == ["waiting"]
    assert spool.entries()[0].items == 7


def test_the_oldest_gives_way_whoever_it_is_of(spool: Spool) -> None:
    """A living owner counts its loss itself; of one who has ended, the next of its kind does."""
    other, mine = (spool.shelf("a", "b", "traces") for _ in range(2))
    other.put(LARGE, 3)
    changes = [mine.put(LARGE, 2)[1] for _ in range(3)]
    assert changes == [Change(), Change(), Change()]
    assert other.oldest() == (None, Change(dropped=3))
    mine.release()
    assert other.put(LARGE, 5)[1] == Change(recovered=2, dropped=2)
    stranger = spool.shelf("z", "b", "traces")
    assert stranger.put(LARGE, 1)[1] == Change()
    assert [entry.items for entry in spool.entries()] == [7, 1]


def test_what_was_evicted_is_counted_at_the_end_at_the_latest(spool: Spool) -> None:
    """Who leaves counts what others have evicted."""
    shelf = spool.shelf("a", "b", "traces")
    shelf.put(b"x", 4)
    assert spool.drop(service="a", signal="traces", set_aside=False) == 1
    assert shelf.release() == Change(dropped=4)


def test_what_is_too_old_goes_whoever_it_is_of(tmp_path: Path) -> None:
    """Batches of services that never come again are deleted, those of the living are not."""
    spool = Spool(tmp_path, max_bytes=LIMIT, max_age=0.05)
    gone, alive, mine = (spool.shelf(name, "b", "traces") for name in ("gone", "alive", "mine"))
    gone.put(b"x", 1)
    gone.release()
    alive.put(b"x", 1)
    time.sleep(0.06)
    mine.adopt()
    assert [entry.service for entry in spool.entries()] == ["alive"]
    spool.close()


def test_a_transaction_that_fails_changes_nothing(spool: Spool) -> None:
    """All of it is done, or none; and SQLite's own failures have one name."""
    shelf = spool.shelf("a", "b", "traces")
    shelf.put(b"x", 1)

    def fail() -> None:
        with spool.transaction() as db:
            db.execute("DELETE FROM batches")
            db.execute("SELECT * FROM absent")

    with pytest.raises(SpoolError, match="no such table"):
        fail()
    assert [entry.items for entry in spool.entries()] == [1]


def test_a_writer_that_never_ends_holds_nobody_for_long(spool: Spool) -> None:
    """The wait for another process's write has an end, after which the batch stays in memory."""
    shelf = spool.shelf("a", "b", "traces")
    shelf.put(b"x", 1)
    other = sqlite3.connect(spool.folder / "spool.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    with pytest.raises(SpoolError, match="locked"):
        shelf.put(b"y", 1)
    assert time.monotonic() - start < 3
    other.close()


def test_a_folder_that_is_a_file_cannot_be_used(tmp_path: Path) -> None:
    """It is an error with a message, not a crash."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolError, match="File exists"):
        Spool(tmp_path / "spool", max_bytes=LIMIT, max_age=1).shelf("a", "b", "traces").adopt()
