"""The history in a SQLite file: shared, private, and clear about what is wrong with it."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from contextlib import closing

import pytest

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality import SqliteHistory
from otel_pipeline.quality.history import HistoryError, Point, default_history
from tests.history_contract import FILLED, HistoryContract


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "history.db"


class TestSqliteHistory(HistoryContract):
    """The contract of all histories."""

    @pytest.fixture
    def filled(self, path):
        history = SqliteHistory(path)
        history.record(FILLED)
        return history


def test_reading_makes_no_file(path) -> None:
    """A history that was never written to is empty, and stays without a file."""
    history = SqliteHistory(path)
    assert (history.findings(), history.series(), history.maintenance("flights")) == ([], [], [])
    assert not path.parent.exists()


def test_only_the_user_can_read_it(path) -> None:
    """The file has the mode 0600, and its folder 0700."""
    SqliteHistory(path).record(FILLED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def write(path: str, number: int) -> None:
    history = SqliteHistory(path)
    for place in range(20):
        history.record([Point("flights", "rows", at=float(place), value=float(number))])


def test_several_processes_write_at_once(path) -> None:
    """Four processes that write at the same time lose nothing."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(str(path), n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    points = SqliteHistory(path).points("flights", "rows", before=100.0, limit=1000)
    assert sorted(point.value for point in points) == [n // 20 for n in range(80)]


def test_a_file_of_a_newer_version_is_left_alone(path) -> None:
    """It says that the file is newer and what to do, and does not touch it."""
    SqliteHistory(path).record(FILLED)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(HistoryError, match=r"newer version .*format 99.*: upgrade"):
        SqliteHistory(path).record(FILLED)
    assert path.read_bytes() == before


def test_a_damaged_file_is_named(path) -> None:
    """What is no database is said to be damaged, with its path."""
    path.parent.mkdir()
    path.write_bytes(b"not a database, although it is long enough" * 100)
    with pytest.raises(HistoryError, match=rf"{path}: is damaged .* move it away"):
        SqliteHistory(path).findings()


def test_a_locked_file_is_named(path, monkeypatch) -> None:
    """A file that stays locked is said to be, and nothing is kept of what was to be written."""
    monkeypatch.setattr("otel_pipeline.quality.history._PATIENCE", 0.01)
    SqliteHistory(path).record(FILLED)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(HistoryError, match="was locked by another process"):
            SqliteHistory(path).record(FILLED)
    assert len(SqliteHistory(path).points("flights", "rows", before=9e9, limit=99)) == 10


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    """Where the folder cannot be made, the message names the variable that moves it."""
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="OTEL_PIPELINE_QUALITY_HISTORY says where it is"):
        SqliteHistory(tmp_path / "file" / "history.db").record(FILLED)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("/data/history.db", "/data/history.db"), ("", "/state/otel-pipeline/quality/history.db")],
)
def test_the_configuration_names_the_file(given, expected, monkeypatch) -> None:
    """The file is the configured one, or one under the user's state directory."""
    monkeypatch.setenv("OTEL_PIPELINE_QUALITY_HISTORY", given)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    history = default_history()
    assert history is not None
    assert str(history.path) == expected


def test_it_can_be_off(monkeypatch) -> None:
    """There is no history where it is off."""
    monkeypatch.setenv("OTEL_PIPELINE_QUALITY_HISTORY", "off")
    assert default_history() is None


def test_a_user_without_a_home_must_name_the_file(monkeypatch) -> None:
    """Without a home there is no default, and the message says what to set."""
    monkeypatch.setattr("otel_pipeline.quality.history.state_folder", lambda: None)
    with pytest.raises(ConfigurationError, match="the user has no home"):
        default_history()
