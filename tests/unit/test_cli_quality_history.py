"""`otel-pipeline quality history` and `baseline`: the past in the terminal, and rulings on it."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from otel_pipeline.cli import main
from otel_pipeline.quality import Monitors, SqliteHistory
from otel_pipeline.quality.history import Point

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def path(tmp_path, monkeypatch) -> str:
    """Give a history of thirty days of orders, the last with half of the rows."""
    path = str(tmp_path / "history.db")
    monkeypatch.setenv("OTEL_PIPELINE_QUALITY_HISTORY", path)
    monitors = Monitors()
    for number in range(30):
        at = START + dt.timedelta(days=number)
        rows = 500 if number == 29 else 1000 + number * 37 % 20
        monitors.judge("orders", {"rows": rows, "freshness": 60.0 + number % 3}, at=at)
    return path


def test_a_series_is_drawn_with_its_bands_and_findings(tmp_path, capsys) -> None:
    """The chart has the values, what was expected of each, and the finding in words."""
    path = str(tmp_path / "drawn.db")
    values = [1000.0, 1020.0, 990.0, 1080.0, 1000.0, 400.0, 1010.0]
    SqliteHistory(path).record(
        [
            Point(
                "orders",
                "rows",
                (START + dt.timedelta(days=day)).timestamp(),
                value,
                low=800.0 if day > 1 else None,
                high=1100.0 if day > 1 else None,
                explanation="too few" if value == 400 else "",
            )
            for day, value in enumerate(values)
        ]
    )
    assert main(["quality", "history", "orders", "--history", path, "--last", "6"]) == 0
    assert capsys.readouterr().out == CHART


CHART = """\
rows: the number of rows
1,100 ┤ ░●░░░
      ┤●●░●░●
      ┤ ░░░░░
      ┤ ░░░░░
      ┤
      ┤
      ┤
  400 ┤    ✗
       2026-01-02 00:00 to 2026-01-07 00:00
       ● value  ░ expected  ✗ finding
  6  2026-01-06 00:00  open: too few

"""


def test_the_series_come_as_json(path, capsys) -> None:
    """One document has each metric's points, with times in ISO 8601."""
    assert main(["quality", "history", "orders", "--json", "--last", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dataset"] == "orders"
    assert sorted(document["metrics"]) == ["freshness", "rows"]
    (point,) = document["metrics"]["rows"]
    assert (point["at"], point["value"]) == ("2026-01-30T00:00:00+00:00", 500.0)
    assert point["score"] > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ordres"], "the history has no dataset 'ordres'; did you mean orders?"),
        (["orders", "--metric", "row"], "no metric 'row'; did you mean rows?"),
        (["orders", "--segment", "a=b"], "no segment 'a=b'; there is none"),
        (["orders", "--last", "0"], "--last 0: there is no such number of points"),
        (["orders", "--history", "/nowhere/x.db"], "there is no history at /nowhere/x.db"),
    ],
)
def test_wrong_names_get_the_right_ones(path, arguments, message, capsys) -> None:
    """What is not in the history is an error with the nearest that is."""
    assert main(["quality", "history", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_finding_is_listed_and_ruled_on(path, capsys) -> None:
    """A finding is open, then accepted, then open again."""
    (finding,) = SqliteHistory(path).findings()
    for action, expected in (("accept", "accepted"), ("reject", "confirmed"), ("reset", "")):
        assert main(["quality", "baseline", action, str(finding.id)]) == 0
        assert main(["quality", "baseline", "--list", "--json"]) == 0
        output = capsys.readouterr().out
        said, _, listed = output.partition("[")
        assert said == f"{expected or 'open again'}: {finding.id}\n"
        assert [one["ruling"] for one in json.loads("[" + listed)] == [expected]
    assert main(["quality", "baseline", "--list"]) == 0
    assert f"{finding.id}  2026-01-30 00:00  open" in capsys.readouterr().out


def test_a_number_without_a_finding_is_said(path, capsys) -> None:
    """Ruling on what is no finding changes nothing, and exits with 1."""
    assert main(["quality", "baseline", "confirm", "1"]) == 1
    assert capsys.readouterr().out == "no finding has the number 1: --list shows those there are\n"


def test_maintenance_is_planned(path, capsys) -> None:
    """A window for one dataset, or for all, is kept."""
    window = ["--start", "2026-02-01", "--stop", "2026-02-02T12:00+02:00", "--reason", "move"]
    assert main(["quality", "baseline", "maintenance", "orders", *window]) == 0
    assert main(["quality", "baseline", "maintenance", "*", *window]) == 0
    assert capsys.readouterr().out == (
        "maintenance of orders is planned\nmaintenance of all datasets is planned\n"
    )
    start = dt.datetime(2026, 2, 1, tzinfo=dt.UTC).timestamp()
    stop = dt.datetime(2026, 2, 2, 10, tzinfo=dt.UTC).timestamp()
    windows = SqliteHistory(path).maintenance("orders")
    assert {(one.dataset, one.start, one.stop, one.reason) for one in windows} == {
        ("orders", start, stop, "move"),
        ("", start, stop, "move"),
    }


def test_a_window_must_end_after_it_starts(path, capsys) -> None:
    """Exchanged times are an error that says so."""
    window = ["--start", "2026-02-02", "--stop", "2026-02-01"]
    assert main(["quality", "baseline", "maintenance", "orders", *window]) == 2
    assert "the window stops before it starts" in capsys.readouterr().err


def test_doing_nothing_is_an_error(path, capsys) -> None:
    """Without an action the command says which there are."""
    assert main(["quality", "baseline"]) == 2
    assert "nothing to do: give --list, accept, confirm" in capsys.readouterr().err


def test_without_a_history_there_is_nothing_to_show(monkeypatch, capsys) -> None:
    """Where the history is off, the commands say how to name a file."""
    monkeypatch.setenv("OTEL_PIPELINE_QUALITY_HISTORY", "off")
    assert main(["quality", "history", "orders"]) == 2
    assert "name a file with --history" in capsys.readouterr().err
