"""What the demo finds in its data: what is there, and what was planted."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pytest

from otel_pipeline.cli import _flights as flights
from otel_pipeline.cli import _plant, main
from otel_pipeline.pipeline import _QUEUE_SIZE
from otel_pipeline.quality import Monitors, SqliteHistory
from otel_pipeline.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from otel_pipeline.testing import Capture

#: What fails in the real files, and in how many rows; each can be counted with other means below.
REAL = {
    ("planes", "between_seats"): 17,
    ("weather", "between_wind_speed"): 1,
    ("flights", "possible_speed"): 2,
    ("flights", "aircraft_booked_once"): 31,
}


@pytest.fixture(autouse=True)
def no_queue_of_the_demo_is_left() -> Iterator[None]:
    yield
    _QUEUE_SIZE.clear()  # it is watched as long as the process lives


def inspect(archive: Path) -> tuple[Capture, pa.Table]:
    """Inspect the files as the demo does, and return what came of it."""
    weather, planes = map(flights.data_file, ("weather.csv", "planes.csv"))
    with capture() as captured:
        return captured, flights.inspect(archive, weather, planes, None)


def failures(captured: Capture) -> dict[tuple[str, str], int]:
    return {
        (line["dataset"], line["check_name"]): line["check_failing"]
        for line in captured.logs
        if line["event"] == "dataset_check_failed"
    }


def test_what_it_finds_in_the_real_data_is_there() -> None:
    """A recount with Arrow alone comes to the same numbers."""
    captured, table = inspect(flights.data_file("flights.csv.zip"))
    assert failures(captured) == REAL
    fast = pc.greater(table["distance"], pc.divide(pc.multiply(table["air_time"], 650), 60.0))
    assert pc.sum(fast).as_py() == 2
    known = table.filter(pc.is_valid(table["tailnum"]))
    keys = known.group_by(["tailnum", "time_hour", "minute"]).aggregate([])
    assert known.num_rows - keys.num_rows == 31
    weather = flights.read_table(flights.data_file("weather.csv"))
    assert pc.sum(pc.greater(weather["wind_speed"], 100)).as_py() == 1
    planes = flights.read_table(flights.data_file("planes.csv"))
    assert (
        pc.sum(pc.or_(pc.less(planes["seats"], 4), pc.greater(planes["seats"], 400))).as_py() == 17
    )


def test_a_burst_of_nulls_is_caught_by_a_check(tmp_path: Path) -> None:
    """A week without tail numbers is more than one row in a hundred."""
    planted = _plant.planted(flights.data_file("flights.csv.zip"), "null-burst", tmp_path)
    captured, table = inspect(planted)
    assert table.num_rows == 336_776
    assert failures(captured)["flights", "not_null_tailnum"] == table["tailnum"].null_count == 9018


def test_a_dropped_day_is_caught_by_a_check_and_a_monitor(tmp_path: Path) -> None:
    """The day without flights has too few rows, and its score is above 1."""
    planted = _plant.planted(flights.data_file("flights.csv.zip"), "dropped-day", tmp_path)
    table = inspect(planted)[1]
    with capture() as captured:
        flights.watch(table, Monitors(SqliteHistory(tmp_path / "history.db")))
    found = [
        (line["anomaly_at"][:10], line["anomaly_metric"])
        for line in captured.logs
        if line["event"] == "dataset_anomaly"
    ]
    assert ("2013-10-16", "rows") in found
    assert ("2013-02-08", "null_ratio:dep_time") in found  # the blizzard of that day is real
    (failed,) = [line for line in captured.logs if line["event"] == "dataset_check_failed"]
    assert failed["check_message"] == "0 rows are fewer than 500"
    labels = {"dataset": "flights-of-a-day", "check": "volume"}
    assert captured.metric("dataset_checks_total", **labels, result="pass") == 364
    assert captured.metric("dataset_checks_total", **labels, result="fail") == 1


def test_the_report_tells_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Text has a part for the data, and JSON an entry for each dataset."""
    assert main(["demo", "--limit=500", "--no-ui"]) == 0
    report = capsys.readouterr().out
    assert "\nData quality\n  planes: 3,322 rows\n    between_seats: 17 of 3,322 rows" in report
    failed = "39 of 500 rows (7.80%) fail; 5 may"
    assert f"\n  flights: 500 rows\n    weather_is_known: {failed}\n" in report
    assert main(["demo", "--limit=500", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["data_quality"]
    assert found["flights"] == {
        "passes": 1,
        "rows": 500,
        "failed": [{"check": "weather_is_known", "message": failed}],
        "anomalies": [],
    }


def test_it_goes_on_without_the_libraries_for_data_quality(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flights are loaded all the same, and it says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    install = 'pip install "otel-pipeline[demo,quality]"'
    assert main(["demo", "--limit=500", "--no-ui"]) == 0
    out = capsys.readouterr().out
    assert f"\nData quality\n  The data were not inspected; for that: {install}\n" in out
    assert main(["demo", "--plant=dropped-day"]) == 2
    assert install in capsys.readouterr().err
