"""Lineage leaves the process: as events of OpenLineage, and in the record."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest

from otel_pipeline import Pipeline, cli, configure, current_stage
from otel_pipeline.quality import Between, NotNull, lineage
from otel_pipeline.quality.lineage.openlineage import read_events
from otel_pipeline.quality.lineage.record import Record, RecordError
from tests.openlineage_receiver import PUBLISHED, problems, published_problems, receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_pipeline import Telemetry
    from tests.openlineage_receiver import Receiver

QUIET: dict[str, Any] = {f"{one}_exporter": "none" for one in ("traces", "metrics", "logs")}
LINES = lineage.DatasetName("orders-etl", "lines")
ORDERS = lineage.DatasetName("postgres://db:5432", "shop.public.orders")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as found:
        monkeypatch.delenv("OPENLINEAGE_DISABLED")
        # Each variable that the client sets for itself goes again with the fixture.
        config = {"type": "http", "url": found.url, "timeout": 30, "retry": {"total": 0}}
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(config))
        yield found


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setenv("OTEL_PIPELINE_LINEAGE", str(tmp_path / "state" / "lineage.db"))
    return Record(tmp_path / "state" / "lineage.db")


def telemetry(**options: Any) -> Telemetry:
    return configure("orders-etl", **{**QUIET, **options})


def work(*, fails: bool = False) -> None:
    """Run a pipeline of two stages, the second of which may fail."""
    pipeline = Pipeline("orders")

    @pipeline.stage
    def extract() -> Iterator[int]:
        current_stage().reads("s3://etl:pass@landing/2026/orders.csv?sig=secret")
        current_stage().writes("lines", schema={"id": "int64", "price": "float64"})
        yield from range(3)

    with pipeline.run(run_id="2026-11-23"):
        rows = list(extract())
        with pipeline.stage("load") as stage:
            stage.reads("lines")
            lineage.observed(
                stage,
                "lines",
                rows=len(rows),
                schema={"id": "int64", "price": "float64"},
                metrics={"price": {"nullCount": 1, "distinctCount": 2, "min": 0.5, "max": 2.0}},
                assertions=[lineage.Assertion("not_null", False, "price", "warn")],
            )
            stage.writes(
                "postgresql://etl:pass@db/shop/public/orders",
                columns={"total": [("lines", "price"), ("lines", "id")]},
                rows=3,
                size=120,
            )
            if fails:
                raise ValueError("password=hunter2 was refused")


def without_facets(dataset: dict[str, Any]) -> tuple[str, str]:
    return dataset["namespace"], dataset["name"]


def told(event: dict[str, Any]) -> tuple[Any, ...]:
    names = [[without_facets(one) for one in event[side]] for side in ("inputs", "outputs")]
    return (event["job"]["name"], event["eventType"], *names)


def facets(holder: dict[str, Any], key: str = "facets") -> dict[str, Any]:
    """Return facets without what tells only who made them."""
    return {
        name: {k: v for k, v in facet.items() if k not in {"_producer", "_schemaURL"}}
        for name, facet in holder[key].items()
    }


def test_a_run_and_its_stages_are_events_that_the_published_schemas_accept(
    server: Receiver,
) -> None:
    """An HTTP receiver gets START and COMPLETE of the run and each stage, all valid."""
    with telemetry() as running:
        work()
    csv = ("s3://landing", "2026/orders.csv")
    assert [told(event) for event in server.events] == [
        ("orders", "START", [], []),
        ("orders.extract", "START", [csv], []),
        ("orders.extract", "COMPLETE", [csv], [tuple(LINES)]),
        ("orders.load", "START", [tuple(LINES)], []),
        ("orders.load", "COMPLETE", [tuple(LINES)], [tuple(ORDERS)]),
        ("orders", "COMPLETE", [], []),
    ]
    assert [problems(event) for event in server.events] == [[]] * 6
    account = running.report()["lineage"]
    assert (account["produced"], account["delivered"], account["dropped"]) == (6, 6, 0)


@pytest.mark.skipif(not PUBLISHED, reason="SPEC_OF_OPENLINEAGE names no checkout's folder `spec`")
def test_events_satisfy_the_schemas_of_a_checkout(server: Receiver) -> None:
    """The JSON schemas of OpenLineage's own repository find nothing wrong."""
    with telemetry(), pytest.raises(ValueError, match="refused"):
        work(fails=True)
    assert [published_problems(event) for event in server.events] == [[]] * 6


def test_what_is_wrong_in_an_event_is_found(server: Receiver) -> None:
    """The check of the schemas is one that an event can fail."""
    with telemetry():
        work()
    event = server.events[4]
    event["eventTime"] = "yesterday"
    event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] = "three"
    del event["run"]["facets"]["parent"]["job"]
    assert len(problems(event)) == 3


def test_the_facets_tell_what_was_declared_and_seen(server: Receiver) -> None:
    """Schema, quality, columns, statistics and the parent stand in OpenLineage's facets."""
    with telemetry():
        work()
    event = server.events[4]
    (lines,), (orders,) = event["inputs"], event["outputs"]
    schema = [
        {"fields": [], "name": "id", "type": "int64"},
        {"fields": [], "name": "price", "type": "float64"},
    ]
    assert facets(lines) == {"schema": {"fields": schema}}
    assert facets(lines, "inputFacets") == {
        "dataQualityMetrics": {
            "columnMetrics": {
                "price": {
                    "distinctCount": 2,
                    "max": 2.0,
                    "min": 0.5,
                    "nullCount": 1,
                    "quantiles": {},
                }
            },
            "rowCount": 3,
        },
        "dataQualityAssertions": {
            "assertions": [
                {
                    "assertion": "not_null",
                    "column": "price",
                    "params": {},
                    "severity": "warn",
                    "success": False,
                }
            ]
        },
    }
    sources: list[dict[str, Any]] = [
        {"field": field, "name": "lines", "namespace": "orders-etl", "transformations": []}
        for field in ("price", "id")
    ]
    assert facets(orders) == {
        "columnLineage": {"dataset": [], "fields": {"total": {"inputFields": sources}}}
    }
    assert facets(orders, "outputFacets") == {"outputStatistics": {"rowCount": 3, "size": 120}}
    run = lineage.run_uuid(lineage.JobName("orders-etl", "orders"), "2026-11-23")
    assert facets(event["run"])["parent"]["run"]["runId"] == run
    assert [one["run"]["runId"] for one in (server.events[0], server.events[5])] == [run, run]
    assert event["job"]["facets"]["jobType"]["jobType"] == "STAGE"


def test_events_of_checks_on_what_is_written_are_valid_and_read_back(
    server: Receiver, tmp_path: Path
) -> None:
    """Metrics and checks of an output are in its facets, and a file of the events tells them."""
    checks = (lineage.Assertion("unique", True, "id", "error", "unique_id", "no value twice"),)
    metrics = {"id": {"nullCount": 0, "min": 1.0, "max": 3.0}}
    with telemetry(), Pipeline("orders").stage("load") as stage:
        stage.writes("orders", columns={"id": [("lines", "id")]}, size=12)
        lineage.observed(
            stage, "orders", rows=3, schema={"id": "int64"}, metrics=metrics, assertions=checks
        )
    assert [problems(event) for event in server.events] == [[], []]
    path = tmp_path / "events.json"
    path.write_text(json.dumps(server.events))
    end = read_events(path)[-1]
    (use,) = end.outputs
    told = {key: use.metrics["id"][key] for key in metrics["id"]}
    assert (end.state, len(end.trace_id), len(end.span_id)) == ("COMPLETE", 32, 16)
    assert (use.rows, use.size, use.schema, use.assertions) == (3, 12, {"id": "int64"}, checks)
    assert (told, use.columns) == (metrics["id"], {"id": ((LINES, "id"),)})


def test_a_failure_is_told_without_secrets(server: Receiver) -> None:
    """A stage that fails is a FAIL with its error, in which the password is masked."""
    with telemetry(), pytest.raises(ValueError, match="refused"):
        work(fails=True)
    failed = [told(event)[:2] for event in server.events if event["eventType"] == "FAIL"]
    assert failed == [("orders.load", "FAIL"), ("orders", "FAIL")]
    assert facets(server.events[4]["run"])["errorMessage"] == {
        "message": "ValueError: password=[redacted:password] was refused",
        "programmingLanguage": "PYTHON",
    }
    whole = json.dumps(server.events)
    assert [word for word in ("hunter2", "pass@", "sig=secret") if word in whole] == []


def test_a_cancelled_run_is_aborted(server: Receiver) -> None:
    """What ends by KeyboardInterrupt is an ABORT, without an error."""
    pipeline = Pipeline("orders")

    @pipeline.run()
    def load() -> None:
        with pipeline.stage("load") as stage:
            stage.reads("lines")
            raise KeyboardInterrupt

    with telemetry(), pytest.raises(KeyboardInterrupt):
        load()
    ends = [(*told(event)[:2], "errorMessage" in event["run"]["facets"]) for event in server.events]
    assert ends[2:] == [("orders.load", "ABORT", False), ("orders", "ABORT", False)]


def test_the_schedulers_run_is_the_parent(
    server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPENLINEAGE_PARENT_ID makes the run a part of the scheduler's, and that the root of all."""
    above = "0190b7a4-7f1e-7cc2-8e31-3c5a0b6a1f10"
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/shop.orders/{above}")
    with telemetry():
        work()
    parents = [event["run"]["facets"]["parent"] for event in server.events]
    run = lineage.run_uuid(lineage.JobName("orders-etl", "orders"), "2026-11-23")
    assert [one["run"]["runId"] for one in parents] == [above, run, run, run, run, above]
    assert {one["root"]["run"]["runId"] for one in parents} == {above}
    assert parents[0]["job"] == {"facets": {}, "name": "shop.orders", "namespace": "airflow"}


def test_the_client_may_write_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file transport of `openlineage.yml` gets one event on each line."""
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openlineage.yml").write_text(
        "transport:\n  type: file\n  log_file_path: events.jsonl\n  append: true\n"
    )
    with telemetry():
        work()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [problems(json.loads(line)) for line in lines] == [[]] * 6


@pytest.mark.parametrize("status", [500, 404])
def test_a_receiver_that_refuses_harms_nothing(
    server: Receiver, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """The work goes on; the loss is said once, and each event is counted."""
    server.status = status
    with telemetry() as running:
        work()
        work()
    account = running.report()["lineage"]
    assert (account["produced"], account["dropped"], account["pending_memory"]) == (12, 12, 0)
    assert capfd.readouterr().err.count("OpenLineage events are lost") == 1


def test_a_receiver_that_hangs_holds_up_nobody(
    server: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    """Runs and the end take no longer than their timeouts; what was not sent is counted."""
    server.hang = True
    running = telemetry(shutdown_timeout=0.5)
    began = time.monotonic()
    work()
    assert server.asked.wait(10)
    running.shutdown()
    assert time.monotonic() - began < 5
    account = running.report()["lineage"]
    assert (account["produced"], account["dropped"], account["pending_memory"]) == (6, 6, 0)
    assert "the time at the end was too short" in capfd.readouterr().err


def test_settings_that_name_no_transport_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is printed on stdout then, as the client alone would do."""
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openlineage.yml").write_text("tags:\n  job:\n    team: orders\n")
    with telemetry() as running:
        work()
    out, err = capfd.readouterr()
    assert '"eventType"' not in out
    assert "the settings name no transport" in err
    assert running.report()["lineage"]["dropped"] == 6


def test_nothing_is_loaded_or_counted_where_nobody_configured_it() -> None:
    """Without settings of OpenLineage its client is not imported, and the report is as ever."""
    program = (
        "import sys\n"
        "from otel_pipeline import Pipeline, configure\n"
        f"with configure('orders-etl', **{QUIET!r}) as running:\n"
        "    with Pipeline('orders').run(), Pipeline('orders').stage('load') as stage:\n"
        "        stage.writes('orders')\n"
        "print('openlineage' in sys.modules, sorted(running.report()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False ['logs', 'metrics', 'traces']\n"


def test_the_metrics_count_the_events(server: Receiver) -> None:
    """Each event is in `otel_pipeline_items_total{signal="lineage"}` by how it ended."""
    with telemetry(metrics_exporter="prometheus", prometheus_port=0) as running:
        work()
        running.flush(10)
        assert running.metrics_url is not None
        with urllib.request.urlopen(running.metrics_url) as page:
            lines = page.read().decode().splitlines()
    name = "otel_pipeline_items_total"
    assert sorted(line for line in lines if line.startswith(name) and "lineage" in line) == [
        f'{name}{{outcome="delivered",signal="lineage"}} 6.0',
        f'{name}{{outcome="dropped",signal="lineage"}} 0.0',
        f'{name}{{outcome="rejected",signal="lineage"}} 0.0',
    ]


def test_a_bare_name_belongs_to_the_service() -> None:
    """Also where lineage is neither kept nor sent, a span names the dataset as everywhere."""
    with telemetry(), Pipeline("orders").stage("load") as stage:
        stage.writes("lines")
    attributes = stage.span.attributes  # type: ignore[attr-defined]
    assert attributes["dataset.outputs"] == ("orders-etl/lines",)


# --- The record -----------------------------------------------------------------------------------


def test_the_record_keeps_what_stages_read_and_wrote(record: Record) -> None:
    """After the end the file tells each stage's datasets, and which span wrote them."""
    with telemetry():
        work()
    runs = record.runs()
    assert [(run.job.name, run.state, len(run.trace_id)) for run in runs] == [
        ("orders.extract", "COMPLETE", 32),
        ("orders.load", "COMPLETE", 32),
    ]
    assert [use.name for use in runs[1].inputs] == [LINES]
    assert runs[1].outputs == (
        lineage.DatasetUse(
            ORDERS, columns={"total": ((LINES, "price"), (LINES, "id"))}, rows=3, size=120
        ),
    )
    assert record.last_writer(ORDERS) == (runs[1].trace_id, runs[1].span_id)
    assert record.path.stat().st_mode & 0o777 == 0o600


def test_what_a_stage_observes_is_in_the_record_and_in_the_report(
    record: Record,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`observe` alone tells rows, schema, statistics and checks; texts of the data stay out."""
    rows = [{"id": number, "name": "Ann" if number else None} for number in range(4)]
    checks = [NotNull("name", severity="critical"), Between("id", max=9)]
    with telemetry():
        pipeline = Pipeline("people")
        with pipeline.stage("load") as stage:
            stage.writes("kept")
            list(stage.observe(iter(rows), "kept", checks=checks))
            stage.observe(rows[:1], "only looked at")
    (run,) = record.runs()
    (read,), (written,) = run.inputs, run.outputs
    assert (read.name.name, read.rows) == ("only looked at", 1)
    assert (written.name.name, written.rows) == ("kept", 4)
    assert written.schema == {"id": "int64", "name": "string"}
    assert written.metrics == {
        "id": {"nullCount": 0, "count": 4, "min": 0, "max": 3, "mean": 1.5, "std": ANY},
        "name": {"nullCount": 1, "count": 3},
    }
    assert [(one.name, one.success, one.description) for one in written.assertions] == [
        ("not_null_name", False, "1 of 4 rows (25.00%) fail"),
        ("between_id", True, ANY),
    ]
    page = tmp_path / "report.html"
    monkeypatch.setenv("OTEL_PIPELINE_QUALITY_HISTORY", "off")
    assert cli.main(["quality", "report", "--output", str(page)]) == 0
    assert capsys.readouterr().out.endswith(f"Wrote {page}: 2 datasets.\n")
    text = page.read_text()
    assert all(one in text for one in ("not_null_name", "1 of 4 rows (25.00%) fail", "only looked"))
    assert "Ann" not in text + repr(run)


def test_runs_without_datasets_start_no_thread_and_no_record(record: Record) -> None:
    """Most pipelines declare nothing: for them there is no thread, and no file."""
    with telemetry():
        with Pipeline("orders").run(), Pipeline("orders").stage("load") as stage:
            stage.records(3)
        assert "otel-pipeline-lineage" not in {one.name for one in threading.enumerate()}
    assert not record.path.exists()


def test_a_failed_stage_is_no_writer(record: Record) -> None:
    """What a stage that failed has said to write leads nobody to its span."""
    with telemetry(), pytest.raises(ValueError, match="refused"):
        work(fails=True)
    assert record.last_writer(ORDERS) is None
    assert [run.error for run in record.runs()][1] == (
        "ValueError: password=[redacted:password] was refused"
    )


def test_a_reader_in_a_later_process_is_linked_to_the_writer(record: Record) -> None:
    """The link of the reading stage's span leads to the span that wrote the dataset earlier."""
    program = (
        "from otel_pipeline import Pipeline, configure\n"
        f"with configure('orders-etl', **{QUIET!r}):\n"
        "    with Pipeline('orders').run(), Pipeline('orders').stage('load') as stage:\n"
        "        stage.writes('s3://lake/orders')\n"
        "        print(stage.trace_id)\n"
    )
    wrote = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    with telemetry(), Pipeline("report").stage("read") as stage:
        stage.reads("s3://lake/orders")
        (link,) = stage.span.links  # type: ignore[attr-defined]
    assert f"{link.context.trace_id:032x}" == wrote.stdout.strip()
    assert dict(link.attributes) == {"dataset.name": "s3://lake/orders"}


def test_the_record_keeps_the_last_runs_of_each_job(record: Record) -> None:
    """A job that runs for ever does not fill the disk."""
    record.add(
        lineage.JobRun(
            lineage.JobName("n", job), f"run-{at}", "COMPLETE", at, (lineage.DatasetUse(LINES),)
        )
        for at in range(50)
        for job in ("a", "b")
    )
    kept = [(run.job.name, run.at) for run in record.runs()]
    assert kept == [(job, at) for at in range(30, 50) for job in ("a", "b")]


def test_processes_share_the_record(record: Record) -> None:
    """Several writers at once lose nothing."""

    def add(job: str) -> None:
        for at in range(10):
            record.add(
                [
                    lineage.JobRun(
                        lineage.JobName("n", job),
                        str(at),
                        "COMPLETE",
                        at,
                        (lineage.DatasetUse(LINES),),
                    )
                ]
            )

    threads = [threading.Thread(target=add, args=(f"job-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(record.runs()) == 40


def of_the_future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 9")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b"no database" * 100), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
        (of_the_future, "a newer otel_pipeline has written it (version 9)"),
    ],
    ids=["damaged", "a folder", "newer"],
)
def test_a_record_that_cannot_be_used_harms_nothing(
    record: Record, damage: Any, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The pipeline works; what is wrong with the file, and what to do, is said once."""
    from otel_pipeline import diagnostics

    diagnostics.forget("lineage")
    record.path.parent.mkdir()
    damage(record.path)
    with telemetry():
        work()
        work()
    err = capfd.readouterr().err
    assert err.count("the record of lineage") == 1
    assert reason in err
    assert "OTEL_PIPELINE_LINEAGE" in err
    with pytest.raises(RecordError):
        record.add([])


def test_a_forked_child_tells_its_own_stages(server: Receiver, record: Record) -> None:
    """What the parent has waiting is not sent twice, and the child's stages arrive."""
    with telemetry():
        with Pipeline("orders").stage("parent") as stage:
            stage.writes("parents")
        child = os.fork()
        if child == 0:
            with (
                configure("orders-etl", **QUIET) as mine,
                Pipeline("orders").stage("child") as inner,
            ):
                inner.writes("children")
            mine.shutdown()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    names = sorted(told(event)[:2] for event in server.events)
    assert names == [
        ("orders.child", "COMPLETE"),
        ("orders.child", "START"),
        ("orders.parent", "COMPLETE"),
        ("orders.parent", "START"),
    ]
    assert sorted(run.job.name for run in record.runs()) == ["orders.child", "orders.parent"]


def test_a_killed_run_is_told_as_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends the run and its stage as ABORT, which still leave the process."""
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    config = {"type": "file", "log_file_path": str(tmp_path / "events.jsonl"), "append": True}
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(config))
    program = (
        "import signal\n"
        "from otel_pipeline import Pipeline, configure\n"
        f"configure('orders-etl', **{QUIET!r})\n"
        "with Pipeline('orders').run(), Pipeline('orders').stage('load') as stage:\n"
        "    stage.reads('lines')\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.terminate()
    assert running.returncode == -signal.SIGTERM
    events = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert [told(event)[:2] for event in events] == [
        ("orders", "START"),
        ("orders.load", "START"),
        ("orders.load", "ABORT"),
        ("orders", "ABORT"),
    ]
