"""`stage.observe`: what it says on all signals, what it returns, and when it stops a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import json
import pickle
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from opentelemetry import trace
from pyarrow import parquet

from otel_pipeline import Pipeline, current_stage, diagnostics
from otel_pipeline.errors import ConfigurationError, DataQualityError
from otel_pipeline.metrics import REGISTRY
from otel_pipeline.metrics.snapshots import Point
from otel_pipeline.quality import (
    Between,
    Dataset,
    Monitors,
    NotNull,
    SqliteHistory,
    Unique,
    Volume,
    register,
)
from otel_pipeline.testing import ManualClock, capture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from otel_pipeline.testing import Capture

ROWS = [{"id": 1, "amount": 5}, {"id": 2, "amount": -5}, {"id": None, "amount": 7}]

#: Each form in which data may come, made from rows, and the way back.
FRAMES: dict[str, tuple[Callable[[list[Any]], Any], Callable[[Any], list[Any]]]] = {
    "pyarrow": (pa.Table.from_pylist, lambda table: table.to_pylist()),
    "polars": (pl.DataFrame, lambda frame: frame.to_dicts()),
    "pandas": (
        lambda rows: pd.DataFrame(rows, dtype="Int64"),
        lambda frame: json.loads(frame.to_json(orient="records")),
    ),
    "duckdb": (
        lambda rows: duckdb.from_arrow(pa.Table.from_pylist(rows)),
        lambda relation: relation.to_arrow_table().to_pylist(),
    ),
    "rows": (list, list),
    "iterator": (iter, list),
    "chunks": (
        lambda rows: iter([rows[:2], rows[2:]]),
        lambda parts: [row for part in parts for row in part],
    ),
}


@pytest.fixture(autouse=True)
def _say_again() -> Iterator[None]:
    """What is said once may be said again in each test."""
    yield
    diagnostics.forget("observe:")


def events(capture: Capture, stage: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the events about data on the span of a stage."""
    found = capture.span(stage).events
    return [
        (one.name, dict(one.attributes or {})) for one in found if one.name.startswith("dataset.")
    ]


# --- What is told ---


def test_what_is_found_is_on_every_signal_with_one_trace_id(otel_capture: Capture) -> None:
    """Metric exemplar, span events and log lines of an observed frame name one trace."""
    pipeline = Pipeline("p")
    checks = [NotNull("id", severity="critical"), Between("amount", min=0, mostly=0.5)]
    with pipeline.run() as run, pipeline.stage("validate") as stage:
        frame = pd.DataFrame(ROWS)
        assert stage.observe(frame, "orders", checks=checks, updated_at="day") is frame
        assert stage.observe(frame, "plain", updated_at=dt.datetime(2026, 1, 2)) is frame  # noqa: DTZ001
    assert events(otel_capture, "p validate") == [
        (
            "dataset.observed",
            {
                "dataset.name": "orders",
                "dataset.rows": 3,
                "dataset.complete": True,
                "dataset.columns": 2,
                "dataset.checks.pass": 1,
                "dataset.checks.fail": 1,
                "dataset.checks.error": 0,
                "dataset.problems": ("updated_at: there is no column 'day'",),
            },
        ),
        (
            "dataset.check_failed",
            {
                "dataset.name": "orders",
                "dataset.check.name": "not_null_id",
                "dataset.check.kind": "not_null",
                "dataset.check.result": "fail",
                "dataset.check.severity": "critical",
                "dataset.check.message": "1 of 3 rows (33.33%) fail",
                "dataset.check.failing": 1,
            },
        ),
        (
            "dataset.observed",
            {
                "dataset.name": "plain",
                "dataset.rows": 3,
                "dataset.complete": True,
                "dataset.columns": 2,
            },
        ),
    ]
    lines = [line for line in otel_capture.logs if "dataset" in line]
    assert [(line["level"], line["event"], line["dataset"]) for line in lines] == [
        ("info", "dataset_observed", "orders"),
        ("error", "dataset_check_failed", "orders"),
        ("info", "dataset_observed", "plain"),
    ]
    assert {line["trace_id"] for line in lines} == {run.trace_id}
    assert {line["stage"] for line in lines} == {"validate"}
    span = otel_capture.span("p validate").context
    assert span is not None
    assert {line["span_id"] for line in lines} == {trace.format_span_id(span.span_id)}
    (found,) = [one for one in REGISTRY.collect() if one.name == "dataset_checks"]
    exemplars = [point.exemplar for point in found.points if isinstance(point, Point)]
    assert {one.trace_id for one in exemplars if one is not None} == {run.trace_id}


def test_the_metrics_of_a_dataset() -> None:
    """Rows, checks, columns, the newest time and its limit are metrics."""
    dataset = Dataset(
        "orders", checks=[Volume(min=1)], freshness="26h", updated_at="at", level="standard"
    )
    at = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    now = ManualClock(at + dt.timedelta(hours=27))
    with capture(clock=now) as captured, Pipeline("p").stage("s") as stage:
        stage.observe([{"n": 1, "at": at}, {"n": 3, "at": None}], dataset)
    found = {key: value for key, value in captured.metrics.items() if key.startswith("dataset")}
    assert found == {
        'dataset_rows_total{dataset="orders"}': 2,
        'dataset_checks_total{check="volume",dataset="orders",result="pass"}': 1,
        'dataset_checks_total{check="freshness_at",dataset="orders",result="fail"}': 1,
        'dataset_last_rows{dataset="orders"}': 2,
        'dataset_last_update_timestamp_seconds{dataset="orders"}': at.timestamp(),
        'dataset_freshness_limit_seconds{dataset="orders"}': 93_600,
        'dataset_column_null_ratio{column="n",dataset="orders"}': 0,
        'dataset_column_null_ratio{column="at",dataset="orders"}': 0.5,
        'dataset_column_distinct_ratio{column="n",dataset="orders"}': 1,
        'dataset_column_distinct_ratio{column="at",dataset="orders"}': 1,
        'dataset_column_value{column="n",dataset="orders",stat="min"}': 1,
        'dataset_column_value{column="n",dataset="orders",stat="max"}': 3,
        'dataset_column_value{column="n",dataset="orders",stat="mean"}': 2,
        'dataset_column_value{column="n",dataset="orders",stat="std"}': pytest.approx(2**0.5),
        'dataset_column_value{column="n",dataset="orders",stat="p50"}': 1,
    }


def test_of_many_columns_fifty_are_labels(otel_capture: Capture) -> None:
    """Columns that checks name come first; `__other__` shows the worst null ratio of the rest."""
    wide = pa.table({f"c{number}": [number, None][:2] for number in range(5000)})
    with Pipeline("p").stage("s") as stage:
        stage.observe(wide, "wide", checks=[NotNull("c4999")])
    labels = {
        key.partition('column="')[2].partition('"')[0]
        for key in otel_capture.metrics
        if key.startswith("dataset_column_null_ratio")
    }
    assert labels == {"c4999", "__other__", *(f"c{number}" for number in range(49))}
    worst = otel_capture.metric("dataset_column_null_ratio", dataset="wide", column="__other__")
    assert worst == 0.5


def test_the_series_of_a_column_that_is_gone_go_too(otel_capture: Capture) -> None:
    """A column that the dataset has no longer leaves no stale ratio behind."""
    for row in ({"a": 1, "b": 1}, {"a": 1}):
        with Pipeline("p").stage("s") as stage:
            stage.observe([row], "shrinking")
    assert otel_capture.metric("dataset_column_null_ratio", dataset="shrinking", column="a") == 0
    assert not any('column="b"' in key for key in otel_capture.metrics)


def test_no_value_of_the_data_is_told(otel_capture: Capture) -> None:
    """Labels, events and log lines hold names and numbers, never a text of the data."""
    rows = [{"email": "ada@secret.example"}, {"email": "ada@secret.example"}, {"email": 7}]
    with Pipeline("p").stage("s") as stage:
        stage.observe(rows[:2], "people", checks=[Unique("email"), Between("email", max="a")])
        stage.observe(rows, "mixed", checks=[Unique("email")])
    told = json.dumps(otel_capture.logs) + otel_capture.exposition()
    told += repr([dict(event.attributes or {}) for event in otel_capture.span("p s").events])
    assert "secret" not in told


def test_several_calls_in_a_stage_are_one_look(otel_capture: Capture) -> None:
    """Batches of one dataset are judged together, when the stage ends."""
    with Pipeline("p").stage("s") as stage:
        for number in range(10):
            stage.observe([{"id": number % 9}], "ids", checks=[Unique("id"), Volume(min=10)])
    ((name, told), (_, failed)) = events(otel_capture, "p s")
    assert (name, told["dataset.rows"]) == ("dataset.observed", 10)
    assert failed["dataset.check.message"] == "1 of 10 rows (10.00%) fail"


def test_threads_of_a_stage_share_one_look(otel_capture: Capture) -> None:
    """Parts that threads observe add up, and are told on the span of the stage."""
    with Pipeline("p").stage("s") as stage, ThreadPoolExecutor(4) as pool:
        parts = [[{"id": number}] * 5 for number in range(40)]
        assert list(pool.map(lambda part: stage.observe(part, "ids"), parts)) == parts
    ((_, told),) = events(otel_capture, "p s")
    assert told["dataset.rows"] == 200


def test_lines_of_many_short_stages_are_few() -> None:
    """Of a dataset and event twenty lines come at once, then one in three seconds."""
    pipeline = Pipeline("p")
    clock = ManualClock()
    with capture(clock=clock) as captured:
        for _ in range(180):
            with pipeline.stage("s") as stage:
                stage.observe(ROWS, "stream", checks=[NotNull("id", severity="critical")])
            clock.advance(0.5)
        with pipeline.stage("s") as stage:
            stage.observe(ROWS, "other")
        for event in ("dataset_observed", "dataset_check_failed"):
            told = [
                line.get("suppressed", 0)
                for line in captured.logs
                if (line["event"], line["dataset"]) == (event, "stream")
            ]
            suppressed = captured.metric("otel_pipeline_logs_suppressed_total", event=event)
            assert suppressed == 180 - len(told)
            assert 46 <= len(told) <= 47
            assert (told[:20], set(told[21:])) == ([0] * 20, {5})
        assert captured.logs[-1]["dataset"] == "other"
        assert sum(len(span.events) for span in captured.spans) == 361
        assert captured.metric("dataset_rows_total", dataset="stream") == 540


# --- What is returned ---


@pytest.mark.parametrize("form", FRAMES)
def test_bad_rows_go_into_quarantine_and_good_ones_go_on(
    form: str, otel_capture: Capture, tmp_path: Path
) -> None:
    """Each bad row is in the file once, with the checks that it failed, and is counted."""
    make, back = FRAMES[form]
    path = tmp_path / "rejected" / "orders.jsonl"
    sink: dict[str, Any] = {"on_fail": "quarantine", "quarantine": path}
    bad = [*ROWS, {"id": None, "amount": -1}]
    with Pipeline("p").stage("s") as stage:
        checks = [NotNull("id", **sink), Between("amount", min=0, **sink)]
        stays = back(stage.observe(make(bad), "orders", checks=checks))
    assert stays == ROWS[:1]
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["amount"], row["failed_checks"]) for row in kept] == [
        (-5, "between_amount"),
        (7, "not_null_id"),
        (-1, "not_null_id, between_amount"),
    ]
    assert path.stat().st_mode & 0o077 == 0
    rejected = {"pipeline": "p", "stage": "s", "reason": "quarantined"}
    assert otel_capture.metric("pipeline_records_rejected_total", **rejected) == 3
    (_, told), *_ = events(otel_capture, "p s")
    assert (told["dataset.rows"], told["dataset.rows.quarantined"]) == (4, 3)


def test_a_parquet_quarantine_is_a_folder_of_parts(tmp_path: Path) -> None:
    """Each part is a file more, and all are one dataset."""
    path = tmp_path / "rejected.parquet"
    checks = [NotNull("id", on_fail="quarantine", quarantine=path)]
    with Pipeline("p").stage("s") as stage:
        for amount in (1, 2):
            assert stage.observe([{"id": None, "amount": amount}], "orders", checks=checks) == []
    table = parquet.read_table(path)
    assert sorted(table["amount"].to_pylist()) == [1, 2]
    assert table["failed_checks"].to_pylist() == ["not_null_id"] * 2


def test_a_key_that_was_there_before_goes_into_quarantine() -> None:
    """Of rows with one key the first goes on, in a stream too."""
    bad: list[Any] = []
    checks = [Unique("id", on_fail="quarantine", quarantine=bad.extend)]
    with Pipeline("p").stage("s") as stage:
        rows = ({"id": number % 7, "n": number} for number in range(9))
        kept = list(stage.observe(rows, "ids", checks=checks, batch_rows=4))
    assert [row["n"] for row in kept] == [0, 1, 2, 3, 4, 5, 6]
    assert [row["n"] for row in bad] == [7, 8]


@pytest.mark.parametrize(("on_error", "stops"), [("open", False), ("closed", True)])
def test_rows_that_no_quarantine_takes_stay(on_error: Any, stops: bool) -> None:
    """Where the sink fails no row is lost; the check is an error, and fails open or closed."""

    def full(rows: Any) -> None:
        raise OSError(28, "No space left on device")

    check = Between("amount", min=0, on_fail="quarantine", quarantine=full, on_error=on_error)
    full_disk = pytest.raises(DataQualityError, match="No space left")
    with full_disk if stops else contextlib.nullcontext(), Pipeline("p").stage("s") as stage:
        assert stage.observe(ROWS, "orders", checks=[check]) is ROWS


def test_an_iterator_is_observed_as_it_is_consumed(otel_capture: Capture) -> None:
    """Each row goes on at once, memory holds one micro-batch, and who changes a row may."""
    taken = 0

    def source() -> Iterator[dict[str, int]]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield {"n": number}

    pipeline = Pipeline("p")

    @pipeline.stage
    def extract() -> Iterator[dict[str, int]]:
        for row in current_stage().observe(source(), "rows", checks=[Between("n", max=99_998)]):
            yield row
            row["n"] = -1

    rows = extract()
    assert next(rows) == {"n": 0}
    assert taken == 1
    assert sum(1 for _ in rows) == 99_999
    (_, told), (_, failed) = events(otel_capture, "p extract")
    assert told["dataset.rows"] == 100_000
    assert failed["dataset.check.failing"] == 1
    least = otel_capture.metric("dataset_column_value", dataset="rows", column="n", stat="min")
    assert least == 0
    labels = {"pipeline": "p", "stage": "extract", "status": "success"}
    assert otel_capture.metric("pipeline_stage_records_total", **labels) == 100_000


def test_an_asynchronous_iterator_is_observed_as_it_is_consumed(otel_capture: Capture) -> None:
    """It may be in an asynchronous stage, or a generator of one, and loses bad rows."""
    pipeline = Pipeline("p")
    bad: list[Any] = []
    checks = [Between("n", max=7, on_fail="quarantine", quarantine=bad.extend)]

    async def source() -> AsyncIterator[dict[str, int]]:
        for number in range(10):
            yield {"n": number}

    @pipeline.stage
    async def extract() -> AsyncIterator[dict[str, int]]:
        async for row in current_stage().observe(source(), "rows", checks=checks, batch_rows=3):
            yield row

    async def collect() -> list[int]:
        return [row["n"] async for row in extract()]

    assert asyncio.run(collect()) == list(range(8))
    assert bad == [{"n": 8}, {"n": 9}]
    (_, told), _ = events(otel_capture, "p extract")
    assert told["dataset.rows"] == 10


class Place(NamedTuple):
    """A row that is a named tuple."""

    x: int
    y: int | None


def test_rows_may_be_named_tuples(otel_capture: Capture) -> None:
    """They come back as what they are."""
    points = [Place(1, 2), Place(3, None)]
    bad: list[Place] = []
    checks = [NotNull("y", on_fail="quarantine", quarantine=bad.extend)]
    with Pipeline("p").stage("s") as stage:
        assert stage.observe(points, "points", checks=checks) == points[:1]
    assert bad == points[1:]


# --- What stops a pipeline ---


def test_a_break_stops_the_pipeline_before_the_next_stage(
    otel_capture: Capture, tmp_path: Path
) -> None:
    """Nothing of a dataset that fails is in the database, and the run says why."""
    pipeline = Pipeline("p")
    with contextlib.closing(sqlite3.connect(tmp_path / "orders.db")) as database:
        database.execute("CREATE TABLE orders (id INTEGER NOT NULL, amount INTEGER)")

        @pipeline.stage
        def validate(rows: list[Any]) -> list[Any]:
            checks = [NotNull("id", on_fail="break"), NotNull("amount")]
            return current_stage().observe(rows, "orders", checks=checks)

        @pipeline.stage
        def load(rows: list[Any]) -> None:
            with database:
                database.executemany("INSERT INTO orders VALUES (:id, :amount)", rows)

        with pipeline.run():
            load(validate(ROWS[:2]))
        with pytest.raises(DataQualityError) as error, pipeline.run():
            load(validate(ROWS))
        assert database.execute("SELECT id FROM orders").fetchall() == [(1,), (2,)]
    assert str(error.value) == (
        "dataset 'orders' stops the pipeline: not_null_id: 1 of 3 rows (33.33%) fail"
    )
    assert [one.check for one in error.value.results] == ["not_null_id"]
    assert pickle.loads(pickle.dumps(error.value)).results == error.value.results
    assert otel_capture.metric("pipeline_runs_total", pipeline="p", status="error") == 1
    failed = [line for line in otel_capture.logs if line["event"] == "stage_failed"]
    assert [line["stage"] for line in failed] == ["validate"]
    spans = [span for span in otel_capture.spans if span.name == "p validate"]
    assert [span.status.is_ok for span in spans] == [True, False]
    recorded = [
        span.name
        for span in otel_capture.spans
        for event in span.events
        if event.name == "exception"
    ]
    assert recorded == ["p validate"]


def test_a_generator_stage_breaks_at_its_end(otel_capture: Capture) -> None:
    """The consumer gets the error in place of the end, and one span has the exception."""
    pipeline = Pipeline("p")

    @pipeline.stage
    def extract() -> Iterator[Any]:
        checks = [Volume(max=2, on_fail="break")]
        yield from current_stage().observe(iter(ROWS), "rows", checks=checks)

    loaded = None
    with pytest.raises(DataQualityError), pipeline.stage("load"):
        loaded = list(extract())
    assert loaded is None
    assert [span.status.is_ok for span in otel_capture.spans] == [False, False]
    assert [[e.name for e in span.events][-1:] for span in otel_capture.spans] == [
        ["exception"],
        [],
    ]


def test_an_iterator_that_outlives_its_stage_is_judged_at_its_end(otel_capture: Capture) -> None:
    """What a stage returns is looked at when it is consumed, under the trace of the stage."""
    pipeline = Pipeline("p")

    @pipeline.stage
    def extract() -> Iterator[Any]:
        return current_stage().observe(iter(ROWS), "rows", checks=[NotNull("id", on_fail="break")])

    rows = extract()
    with pytest.raises(DataQualityError):
        list(rows)
    (line,) = [one for one in otel_capture.logs if one["event"] == "dataset_observed"]
    span = otel_capture.span("p extract").context
    assert span is not None
    assert (line["rows"], line["stage"]) == (3, "extract")
    assert line["trace_id"] == trace.format_trace_id(span.trace_id)


def test_a_stage_that_fails_judges_nothing(otel_capture: Capture) -> None:
    """The rows are counted, the user's error is the one that is raised, and no gauge is set."""
    with pytest.raises(ZeroDivisionError), Pipeline("p").stage("s") as stage:
        len(stage.observe(ROWS, "orders", checks=[NotNull("id", on_fail="break")])) / 0
    ((_, told),) = events(otel_capture, "p s")
    assert (told["dataset.rows"], told["dataset.complete"]) == (3, False)
    assert otel_capture.metric("dataset_rows_total", dataset="orders") == 3
    assert otel_capture.metric("dataset_last_rows", dataset="orders") is None
    failed = {"dataset": "orders", "check": "not_null_id", "result": "fail"}
    assert not otel_capture.metric("dataset_checks_total", **failed)


def test_an_iterator_that_is_left_early_judges_nothing(otel_capture: Capture) -> None:
    """A part of a dataset is no dataset."""
    with Pipeline("p").stage("s") as stage:
        rows = stage.observe(iter(ROWS), "orders", checks=[Volume(min=3, on_fail="break")])
        assert len(list(islice(rows, 2))) == 2
    del rows
    gc.collect()
    (line,) = [one for one in otel_capture.logs if one["event"] == "dataset_observed"]
    assert (line["rows"], line["complete"]) == (2, False)


# --- Where it cannot look ---


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        [(1, 2)],
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]]),
        {"a": [1]},
    ],
)
def test_data_that_cannot_be_observed_go_on(
    data: Any, otel_capture: Capture, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once, counted, and never raised; the data are what they were."""
    with Pipeline("p").stage("s") as stage:
        for _ in range(2):
            assert stage.observe(data, "odd", checks=[NotNull("a", on_fail="break")]) is data
    assert capsys.readouterr().err.count("observing dataset 'odd': data failed") == 1
    labels = {"dataset": "odd", "result": "error"}
    assert otel_capture.metric("dataset_checks_total", check="observe", **labels) == 1
    assert otel_capture.metric("dataset_checks_total", check="not_null_a", **labels) == 1


def test_data_that_cannot_be_observed_fail_closed_where_that_is_declared() -> None:
    """Then what cannot be looked at does not go on to the next stage."""
    check = NotNull("a", on_fail="break", on_error="closed")
    with pytest.raises(DataQualityError), Pipeline("p").stage("s") as stage:
        stage.observe(7, "odd", checks=[check])


def test_a_profile_that_fails_leaves_the_checks(otel_capture: Capture) -> None:
    """A column that changes its type in a stream spoils its profile, and nothing else."""
    rows = [{"id": number if number < 9 else "x", "n": number} for number in range(12)]
    with Pipeline("p").stage("s") as stage:
        for row in rows:
            stage.observe([row], "odd", checks=[Between("n", max=10)])
    (_, told), (_, failed) = events(otel_capture, "p s")
    assert told["dataset.rows"] == 12
    assert "changed its type" in told["dataset.problems"][0]
    assert failed["dataset.check.failing"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dataset": 7}, "neither a name nor a Dataset"),
        ({"dataset": " "}, "neither a name nor a Dataset"),
        ({"dataset": "d", "level": "basis"}, "did you mean 'basic'"),
        ({"dataset": "d", "checks": ["x"]}, "'x' is no check"),
        ({"dataset": "d", "checks": 7}, "checks are a list"),
    ],
)
def test_an_argument_that_cannot_be_meant_raises(arguments: Any, words: str) -> None:
    """A mistake in the program is an error at once."""
    with pytest.raises(ConfigurationError, match=words), Pipeline("p").stage("s") as stage:
        stage.observe(ROWS, **arguments)


def test_a_dataset_has_one_set_of_checks_in_a_stage() -> None:
    """Other checks for the same name are a mistake, which is told."""
    with Pipeline("p").stage("s") as stage:
        stage.observe(ROWS, "d", checks=[NotNull("id")])
        with pytest.raises(ConfigurationError, match="other checks"):
            stage.observe(ROWS, "d", checks=[NotNull("amount")])


def test_a_declared_dataset_is_found_by_its_name(otel_capture: Capture) -> None:
    """Its checks are used wherever the name is observed, until it is taken back."""
    undo = register(Dataset("declared", checks=[Volume(min=9)]))
    for _ in range(2):
        with Pipeline("p").stage("s") as stage:
            stage.observe(ROWS, "declared")
        undo()
    failed = {"dataset": "declared", "check": "volume", "result": "fail"}
    assert otel_capture.metric("dataset_checks_total", **failed) == 1


def test_it_works_without_configuration() -> None:
    """Outside a run, with nothing configured, checks still quarantine and stop."""
    bad: list[Any] = []
    checks = [
        NotNull("id", on_fail="quarantine", quarantine=bad.extend),
        Volume(max=2, on_fail="break"),
    ]
    with pytest.raises(DataQualityError), Pipeline("p").stage("s") as stage:
        assert stage.observe(ROWS, "orders", checks=checks) == ROWS[:2]
    assert bad == ROWS[2:]


def test_a_stage_may_be_left_by_another_thread(otel_capture: Capture) -> None:
    """What is told belongs to the span of the stage, wherever it ends."""
    opened = Pipeline("p").stage("s")
    stage = opened.__enter__()
    stage.observe(ROWS, "orders")
    thread = threading.Thread(target=opened.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    (line,) = [one for one in otel_capture.logs if one["event"] == "dataset_observed"]
    assert line["stage"] == "s"


def test_a_stage_that_has_ended_can_still_observe(otel_capture: Capture) -> None:
    """What comes late is judged at once, under the trace of the stage."""
    with Pipeline("p").stage("s") as stage:
        pass
    with pytest.raises(DataQualityError):
        stage.observe(ROWS, "late", checks=[NotNull("id", on_fail="break")])
    events_of_it = [line["event"] for line in otel_capture.logs if "dataset" in line]
    assert events_of_it == ["dataset_observed", "dataset_check_failed"]
    assert {line["stage"] for line in otel_capture.logs} == {"s"}


# --- Monitors ---


def test_monitors_judge_what_is_observed(otel_capture: Capture, tmp_path: Path) -> None:
    """A day with half of the rows is an anomaly, and a new column a change of the schema."""
    monitors = Monitors(SqliteHistory(tmp_path / "history.db"))
    first = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for day in range(40):
        rows = [{"id": number} for number in range(800 + 9 * day % 20)]
        if day == 39:
            rows = [{"id": number, "new": 1} for number in range(300)]
        with Pipeline("p").stage("s") as stage:
            at = first + dt.timedelta(days=day)
            stage.observe(rows, "orders", monitors=monitors, at=at)
    score = otel_capture.metric("dataset_anomaly_score", dataset="orders", metric="rows")
    assert score is not None
    assert score > 1
    added = {"dataset": "orders", "kind": "column_added"}
    assert otel_capture.metric("dataset_schema_changes_total", **added) == 1
    last = [span for span in otel_capture.spans if span.name == "p s"][-1]
    told = {event.name: event.attributes for event in last.events}
    assert set(told) == {"dataset.observed", "dataset.schema_changed", "dataset.anomaly"}
    (line,) = [
        one
        for one in otel_capture.logs
        if one["event"] == "dataset_anomaly" and one["anomaly_metric"] == "rows"
    ]
    assert line["anomaly_at"] == "2026-02-09T00:00:00+00:00"
    assert last.context is not None
    assert line["trace_id"] == trace.format_trace_id(last.context.trace_id)
