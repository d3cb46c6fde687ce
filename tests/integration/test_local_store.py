"""What every store of the local backend does: the same tests for each of them."""

from __future__ import annotations

import json
import sqlite3
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline.local.filters import FilterError
from otel_pipeline.local.otlp_json import from_json, to_json
from otel_pipeline.local.sqlite import SqliteStore
from otel_pipeline.local.store import Added, Question, StoreError
from otel_pipeline.local.wire import BadRequestError, TooLargeError
from tests.local_data import (
    SECOND,
    TIME,
    counter,
    histogram,
    log,
    logs,
    metrics,
    span,
    spans,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_pipeline.local.store import Store


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with SqliteStore(tmp_path / "local.db" if request.param == "file" else None) as opened:
        yield opened


def found(answer: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(answer)["items"]
    return items


def trace_id(number: int) -> str:
    return f"{number:032x}"


def ask(text: str = "", **more: Any) -> Question:
    return Question(text, **more)


def names(store: Store, text: str) -> list[str]:
    return [one["name"] for one in found(store.traces(ask(text)))]


RUN: dict[str, Any] = {"pipeline__name": "orders", "pipeline__run__id": "r1"}


def test_an_empty_store_answers_with_empty_lists(store: Store) -> None:
    """Every question to a store without data has an empty list for an answer."""
    answers = [ask_it(ask()) for ask_it in (store.runs, store.traces, store.logs, store.metrics)]
    answers += [store.trace(bytes(16)), store.span(bytes(16), bytes(8)), store.points(1, ask())]
    assert [found(answer) for answer in answers] == [[]] * 7
    assert [list(store.export(signal)) for signal in ("traces", "metrics", "logs")] == [[], [], []]


def test_a_trace_has_its_spans_whatever_order_they_came_in(store: Store) -> None:
    """Children that come before their parents, in other requests, belong to the same trace."""
    store.add("traces", spans(span(1, 2, parent=1, name="child", start=TIME + 5, duration=7)))
    store.add("traces", spans(span(1, 1, name="root", status=2), span(2, 3, name="other")))
    outline = json.loads(store.trace((1).to_bytes(16, "big")))
    rows = [dict(zip(outline["columns"], row, strict=True)) for row in outline["items"]]
    (service,) = outline["services"].items()
    assert service[1] == "orders"
    assert (outline["trace_id"], outline["start"], outline["duration_ns"]) == (
        trace_id(1),
        "2023-11-14T22:13:20.000000000Z",
        SECOND,
    )
    assert [
        (
            row["span_id"],
            row["parent_span_id"],
            row["name"],
            row["start_ns"],
            row["duration_ns"],
            row["status"],
        )
        for row in rows
    ] == [
        (f"{2:016x}", f"{1:016x}", "child", 5, 7, "unset"),
        (f"{1:016x}", "", "root", 0, SECOND, "error"),
    ]


def test_a_span_that_is_sent_twice_is_shown_once(store: Store) -> None:
    """A sender that did not get the answer sends again, and nothing is doubled."""
    body = spans(span(1, 1), span(1, 2, parent=1))
    assert [store.add("traces", body) for _ in range(2)] == [Added(2), Added(2)]
    assert len(found(store.trace((1).to_bytes(16, "big")))) == 2
    assert len(found(store.traces(ask()))) == 1
    assert len(found(store.traces(ask("service:orders")))) == 1


def test_a_span_has_all_that_was_sent(store: Store) -> None:
    """Attributes keep their types, and the resource and the scope are told."""
    store.add("traces", spans(span(1, 1, name="load", text="a", whole=2, real=0.5, yes=True)))
    (one,) = found(store.span((1).to_bytes(16, "big"), (1).to_bytes(8, "big")))
    assert one == {
        "trace_id": trace_id(1),
        "span_id": f"{1:016x}",
        "parent_span_id": None,
        "name": "load",
        "kind": "unspecified",
        "service": "orders",
        "start": "2023-11-14T22:13:20.000000000Z",
        "end": "2023-11-14T22:13:21.000000000Z",
        "duration_ns": SECOND,
        "status": "unset",
        "status_message": "",
        "attributes": {"text": "a", "whole": 2, "real": 0.5, "yes": True},
        "events": [],
        "links": [],
        "resource": {"service.name": "orders"},
        "scope": "tests",
    }


def test_a_run_is_running_until_its_own_span_comes(store: Store) -> None:
    """A run is known by its first span; its own span says how it ended and what it counted."""
    stage = span(1, 2, parent=1, start=TIME + 5, duration=5, pipeline__stage="load", **RUN)
    store.add("traces", spans(stage))
    (before,) = found(store.runs(ask()))
    own = span(
        1, 1, pipeline__mode="batch", pipeline__status="error", pipeline__records__success=7, **RUN
    )
    store.add("traces", spans(own))
    (after,) = found(store.runs(ask()))
    assert (before["status"], before["duration_ns"], before["mode"]) == ("running", 5, None)
    after.pop("cursor")
    assert after == {
        "run_id": "r1",
        "pipeline": "orders",
        "service": "orders",
        "trace_id": trace_id(1),
        "start": "2023-11-14T22:13:20.000000000Z",
        "duration_ns": SECOND,
        "status": "error",
        "mode": "batch",
        "records": {"success": 7, "error": None, "skipped": None},
    }


def test_runs_of_one_request_are_kept_apart(store: Store) -> None:
    """Spans of several runs in one request each count for their own."""
    items = [
        span(
            number,
            number,
            start=TIME + number,
            pipeline__mode="batch",
            **{**RUN, "pipeline__run__id": f"r{number}"},
        )
        for number in (1, 2, 3)
    ]
    store.add("traces", spans(*items))
    assert [(run["run_id"], run["trace_id"]) for run in found(store.runs(ask()))] == [
        (f"r{number}", trace_id(number)) for number in (3, 2, 1)
    ]


def test_log_lines_come_with_and_without_a_span(store: Store) -> None:
    """A log line keeps its trace if it has one, and is found by it."""
    store.add("logs", logs(log("late", trace=1, span=2, severity=17, time=TIME + 1, customer=7)))
    store.add("logs", logs(log("alone")))
    items = found(store.logs(ask()))
    for item in items:
        item.pop("cursor")
    assert items == [
        {
            "id": 1,
            "time": "2023-11-14T22:13:20.000000001Z",
            "level": "error",
            "service": "orders",
            "trace_id": trace_id(1),
            "span_id": f"{2:016x}",
            "body": "late",
            "attributes": {"customer": 7},
        },
        {
            "id": 2,
            "time": "2023-11-14T22:13:20.000000000Z",
            "level": "info",
            "service": "orders",
            "trace_id": None,
            "span_id": None,
            "body": "alone",
            "attributes": {},
        },
    ]
    assert [one["body"] for one in found(store.logs(ask(f"trace:{trace_id(1)}")))] == ["late"]


def test_new_log_lines_are_followed_as_they_come(store: Store) -> None:
    """`after` gives what came since, in the order in which it came, whatever its time."""
    store.add("logs", logs(log("one", time=TIME + 9)))
    first = json.loads(store.logs(ask(after=0)))
    store.add("logs", logs(log("two"), log("three", time=TIME + 1)))
    second = json.loads(store.logs(ask(after=first["last"])))
    third = json.loads(store.logs(ask(after=second["last"])))
    assert [[one["body"] for one in page["items"]] for page in (first, second, third)] == [
        ["one"],
        ["two", "three"],
        [],
    ]
    assert third["last"] == second["last"]


def test_a_series_has_its_points_and_exemplars(store: Store) -> None:
    """Points of one series come in time order, and an exemplar leads to its trace."""
    store.add("metrics", metrics(counter("done", 5, time=TIME + SECOND, trace=9, kind="a")))
    store.add("metrics", metrics(counter("done", 3, kind="a"), counter("done", 1, kind="b")))
    series = found(store.metrics(ask("name:done attr.kind=a")))
    assert [(one["name"], one["value"], one["attributes"]) for one in series] == [
        ("done", 5.0, {"kind": "a"})
    ]
    whole = json.loads(store.points(series[0]["series"], ask()))
    assert (whole["kind"], whole["monotonic"], whole["temporality"]) == ("sum", True, "cumulative")
    assert [one["value"] for one in whole["items"]] == [3.0, 5.0]
    assert whole["exemplars"] == [
        {
            "time": "2023-11-14T22:13:21.000000000Z",
            "trace_id": trace_id(9),
            "span_id": f"{1:016x}",
            "value": 5.0,
        }
    ]


def test_a_histogram_has_its_buckets(store: Store) -> None:
    """A histogram's point has bounds and counts."""
    store.add("metrics", metrics(histogram("took", [1, 0, 2])))
    whole = json.loads(store.points(1, ask()))
    assert whole["items"] == [
        {
            "time": "2023-11-14T22:13:20.000000000Z",
            "count": 3,
            "sum": 1.5,
            "bounds": [1.0, 2.0],
            "counts": [1, 0, 2],
        }
    ]


def test_a_value_that_is_no_number_is_text(store: Store) -> None:
    """Infinity and not-a-number, which JSON lacks, come as text."""
    store.add("metrics", metrics(counter("big", float("inf")), counter("none", float("nan"))))
    values = [found(store.points(number, ask()))[0]["value"] for number in (1, 2)]
    assert values == ["inf", "nan"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("service:orders", ["slow", "late order", "fine"]),
        ("service:other", []),
        ("status:error", ["late order"]),
        ("status!=error", ["slow", "fine"]),
        ("dur>1s", ["slow"]),
        ("dur<=1s", ["late order", "fine"]),
        ("name:fine", ["fine"]),
        ("attr.customer=42", ["late order"]),
        ("attr.customer=4", []),
        ("attr.customer>41.5", ["late order"]),
        ("attr.note='x'", []),
        ('attr.note="two words"', ["fine"]),
        ('"late order"', ["late order"]),
        ('"LATE"', ["late order"]),
        ('"order late"', []),
        ("words", ["fine"]),
        ("wor", []),
        ("pipeline:p stage:load run:r", ["slow"]),
        ("trace:" + trace_id(2), ["late order"]),
        (f"span:{3:016x}", ["fine"]),
        ("status:error attr.customer=42 late", ["late order"]),
        ("status:error name:fine", []),
        ("age>1d", ["slow", "late order", "fine"]),
        ("age<1h", []),
    ],
)
def test_spans_are_found_by_a_filter(store: Store, text: str, expected: list[str]) -> None:
    """A filter finds the spans that it describes, and no others."""
    slow: dict[str, Any] = {
        "pipeline__name": "p",
        "pipeline__stage": "load",
        "pipeline__run__id": "r",
    }
    store.add(
        "traces",
        spans(
            span(3, 3, name="fine", start=TIME, note="two words"),
            span(2, 2, name="late order", start=TIME + 1, status=2, customer=42),
            span(1, 1, name="slow", start=TIME + 2, duration=2 * SECOND, **slow),
        ),
    )
    assert names(store, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("level:error", ["bad"]),
        ("level>=warning", ["odd", "bad"]),
        ("level<warning", ["good"]),
        ("level>warning", ["bad"]),
        ("level<=warning", ["odd", "good"]),
        ("level!=error", ["odd", "good"]),
        ('"bad"', ["bad"]),
        ("attr.customer=7", ["bad"]),
        ("attr.customer!=7", ["odd", "good"]),
        ("pipeline:p", ["good"]),
        ("service!=orders", []),
    ],
)
def test_log_lines_are_found_by_a_filter(store: Store, text: str, expected: list[str]) -> None:
    """A filter finds the log lines that it describes, and no others."""
    store.add(
        "logs",
        logs(
            log("good", time=TIME, pipeline="p"),
            log("bad", time=TIME + 1, severity=18, customer=7),
            log("odd", time=TIME + 2, severity=13),
        ),
    )
    assert [one["body"] for one in found(store.logs(ask(text)))] == expected


def test_pages_of_every_list_join(store: Store) -> None:
    """`next` of a page leads to the one behind it until all has been seen once."""
    for number in range(1, 8):
        run = {**RUN, "pipeline__run__id": f"r{number}", "pipeline__mode": "batch"}
        store.add("traces", spans(span(number, number, start=TIME + number % 3, **run)))
        store.add("logs", logs(log(f"line {number}", time=TIME + number % 3)))
        store.add("metrics", metrics(counter("c", 1.0, number=number)))
    for list_all, key in (
        (store.runs, "run_id"),
        (store.traces, "trace_id"),
        (store.logs, "id"),
        (store.metrics, "series"),
    ):
        for text in ("", "service:orders"):
            seen: list[Any] = []
            before = ""
            while before is not None:
                page = json.loads(list_all(ask(text, limit=2, before=before)))
                seen += [one[key] for one in page["items"]]
                before = page["next"]
            assert len(seen) == len(set(seen)) == 7


def test_all_that_is_stored_goes_out_as_it_came(store: Store) -> None:
    """What is exported, as OTLP and as its JSON, fills another store that exports the same."""
    store.add("traces", spans(span(1, 1, text="a"), span(1, 2, parent=1, whole=2)))
    store.add("logs", logs(log("line", trace=1, span=1)))
    store.add("metrics", metrics(counter("c", 2.0, trace=1, a="b"), histogram("h", [1, 2])))
    with SqliteStore(None) as other:
        for signal in ("traces", "metrics", "logs"):
            for request in store.export(signal):
                text = json.dumps(to_json(signal, request)).encode()
                assert other.add(signal, from_json(signal, text)).rejected == 0
        for signal in ("traces", "metrics", "logs"):
            first, second = list(store.export(signal)), list(other.export(signal))
            assert first == second
            assert first


def test_an_export_takes_a_filter(store: Store) -> None:
    """Only what matches goes out."""
    store.add("traces", spans(span(1, 1, a="b"), span(2, 2, a="c")))
    (request,) = store.export("traces", "attr.a=c")
    assert request == spans(span(2, 2, a="c"))


def test_bad_items_are_left_out_and_the_others_kept(store: Store) -> None:
    """A span without ids, with ids of a wrong length or an impossible time is rejected alone."""
    bad: list[dict[str, Any]] = [
        {**span(1, 1), "trace_id": b""},
        {**span(1, 1), "trace_id": bytes(16)},
        {**span(1, 1), "span_id": b"12"},
        {**span(1, 1), "parent_span_id": b"12"},
        span(1, 1, start=2**63 + 5),
    ]
    added = store.add("traces", spans(*bad, span(1, 9)))
    assert (added.stored, added.rejected, added.reason) == (
        1,
        5,
        "a trace id of 0 bytes; it has 16",
    )
    assert [row[0] for row in json.loads(store.trace((1).to_bytes(16, "big")))["items"]] == [
        f"{9:016x}"
    ]


def test_an_item_beyond_the_limits_is_left_out(store: Store) -> None:
    """Too many attributes, or one that is too large, reject their item alone."""
    attributes: dict[str, Any] = {f"a{number}": 1 for number in range(1_025)}
    many = span(1, 1, **attributes)
    large = span(1, 2, text="x" * 300_000)
    added = store.add("traces", spans(many, large, span(1, 3)))
    assert (added.stored, added.rejected, added.reason) == (1, 2, "1025 attributes; at most 1024")


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_what_is_no_request_leaves_the_store_as_it_was(store: Store, signal: str) -> None:
    """A body that is not OTLP is refused, and nothing that is stored is touched."""
    store.add("traces", spans(span(1, 1)))
    before = store.changes()
    good = {
        "traces": spans(span(2, 2)),
        "metrics": metrics(counter("c", 1)),
        "logs": logs(log("x")),
    }
    for body in (b"\x00", b"not protobuf", good[signal][:-3]):
        with pytest.raises(BadRequestError, match="not an OTLP request"):
            store.add(signal, body)
    assert store.changes() == before


def test_too_many_items_are_refused(store: Store) -> None:
    """A request with more items than the limit is refused as a whole."""
    with pytest.raises(TooLargeError, match="more than 100000 items"):
        store.add("traces", spans(*[span(1, 1)] * 100_001))
    assert store.changes() == (0, 0, 0)


def test_a_filter_that_cannot_be_understood_is_refused(store: Store) -> None:
    """The store raises what the filter language says."""
    with pytest.raises(FilterError, match="did you mean 'status'"):
        store.traces(ask("statos:error"))
    with pytest.raises(FilterError, match="no place in a list"):
        store.runs(ask(before="1; DROP TABLE runs"))


# --- The file -------------------------------------------------------------------------------------


def test_what_was_stored_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    """A store is read by another program, also while the first one has it open."""
    path = tmp_path / "state" / "local.db"
    with SqliteStore(path) as writer, SqliteStore(path, write=False) as reader:
        writer.add("traces", spans(span(1, 1)))
        during = reader.traces(ask())
    with SqliteStore(path, write=False) as later:
        assert later.traces(ask()) == during
    assert len(found(during)) == 1


def test_two_programs_may_write(tmp_path: Path) -> None:
    """Each finds the resources and series that the other has stored."""
    path = tmp_path / "local.db"
    with SqliteStore(path) as one, SqliteStore(path) as other:
        for store in (one, other, one):
            store.add("traces", spans(span(1, 1)))
            store.add("metrics", metrics(counter("c", 1.0)))
        assert len(found(one.metrics(ask()))) == 1
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM resources").fetchone() == (1,)
    db.close()


def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    """The folder that is made has mode 0700, and the files in it 0600."""
    path = tmp_path / "state" / "local.db"
    with SqliteStore(path) as store:
        store.add("traces", spans(span(1, 1)))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"local.db": 0o600, "local.db-shm": 0o600, "local.db-wal": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """It is not touched, and the error says what to do."""
    path = tmp_path / "local.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for write in (True, False):
        with pytest.raises(StoreError, match=r"newer otel-pipeline .its version is 99.*upgrade"):
            SqliteStore(path, write=write)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """Neither another program's database nor another file is written to."""
    other, text = tmp_path / "other.db", tmp_path / "text.txt"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    text.write_text("not a database at all " * 100, encoding="utf-8")
    before = [file.read_bytes() for file in (other, text)]
    with pytest.raises(StoreError, match="database of another program"):
        SqliteStore(other)
    with pytest.raises(StoreError, match="cannot be read"):
        SqliteStore(text)
    assert [file.read_bytes() for file in (other, text)] == before


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path: Path) -> None:
    """The error says how to get one."""
    with pytest.raises(StoreError, match="otel-pipeline ui"):
        SqliteStore(tmp_path / "none.db", write=False)
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_goes_when_the_store_is_full(tmp_path: Path) -> None:
    """All signals give way alike, the newest stays, and the file keeps its size."""
    limit = 16 * 1024**2
    path = tmp_path / "local.db"
    with SqliteStore(path, max_bytes=limit) as store:
        number = 1
        sizes = []
        for _ in range(8):
            for _ in range(10):
                items = [
                    span(
                        number + offset // 50, number * 1000 + offset, text=f"{number} " + "x" * 100
                    )
                    for offset in range(2_000)
                ]
                store.add("traces", spans(*items, span(number, number * 1000 + 5_000, **RUN)))
                store.add("logs", logs(*[log("y" * 100, time=TIME + number)] * 100))
                number += 40
            sizes.append(path.stat().st_size)
        status = json.loads(store.status())
        newest = found(store.trace((number - 40).to_bytes(16, "big")))
        oldest = found(store.trace((1).to_bytes(16, "big")))
    assert max(sizes) < 2 * limit
    assert sizes[-1] == sizes[-2]
    assert (len(newest), oldest) == (51, [])
    assert 0 < status["spans"] < 160_000
    assert 0 < status["logs"] < 8_000
    with sqlite3.connect(path) as db:
        left = [
            db.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0]
            for table, condition in (
                ("block_data", "block NOT IN (SELECT id FROM blocks)"),
                ("block_traces", "block NOT IN (SELECT id FROM blocks)"),
                ("runs", "trace_id NOT IN (SELECT trace_id FROM block_traces)"),
            )
        ]
    db.close()
    assert left == [0, 0, 0]


def test_what_is_too_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age counts from when it came, whatever time it has itself."""
    now = time.time()
    with SqliteStore(tmp_path / "local.db", max_age=3600) as store:
        store.add("traces", spans(span(1, 1), span(2, 2)))
        store.maintain()
        monkeypatch.setattr(time, "time", lambda: now + 3000)
        store.add("traces", spans(span(3, 3)))
        store.add("metrics", metrics(counter("c", 1.0)))
        store.maintain()
        kept = names(store, "service:orders")
        monkeypatch.setattr(time, "time", lambda: now + 4000)
        store.maintain()
        left = [one["trace_id"] for one in found(store.traces(ask()))]
        series = found(store.metrics(ask()))
        store.add("traces", spans(span(4, 4)))
        after = [one["service"] for one in found(store.traces(ask()))]
    assert len(kept) == 3
    assert left == [trace_id(3)]
    assert len(series) == 1
    assert after == ["orders", "orders"]
