"""Categories and segments of a dataset: what is counted of them, and what monitors say."""

from __future__ import annotations

import datetime as dt
import json
import random
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_pipeline import Pipeline
from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality import Dataset, Monitors, SqliteHistory, load
from otel_pipeline.quality.segments import segment_name, values_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from otel_pipeline.testing import Capture

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "pyarrow": pa.Table.from_pylist,
    "polars": lambda rows: pl.DataFrame(rows, infer_schema_length=None),
    "lazy": lambda rows: pl.LazyFrame(rows, infer_schema_length=None),
    "categorical": lambda rows: pd.DataFrame(rows).astype({"origin": "category"}),
    "pandas": pd.DataFrame,
    "duckdb": lambda rows: duckdb.from_arrow(pa.Table.from_pylist(rows)),
    "rows": list,
    "iterator": iter,
    "chunks": lambda rows: iter([rows[:3], rows[3:]]),
}


@pytest.fixture
def history(tmp_path: Path) -> SqliteHistory:
    return SqliteHistory(tmp_path / "history.db")


def observe(dataset: Dataset, data: Any, day: int = 0, **options: Any) -> None:
    """Let one pass of a stage look at data, and consume them."""
    with Pipeline("p").stage("s") as stage:
        seen = stage.observe(data, dataset, at=START + dt.timedelta(days=day), **options)
        if hasattr(seen, "__next__"):
            for _ in seen:
                pass


def counted(history: SqliteHistory, day: int = 0) -> dict[str, dict[str, float]]:
    """Return what was judged at a day: the values of each segment's metrics."""
    at = (START + dt.timedelta(days=day)).timestamp()
    found: dict[str, dict[str, float]] = {}
    for dataset, segment, metric in history.series():
        last = history.points(dataset, metric, segment=segment, before=at, limit=1)
        if last and last[0].at == at and segment:
            found.setdefault(segment, {})[metric] = last[0].value
    return found


def categories(history: SqliteHistory, column: str) -> dict[str, int]:
    """Return the counts of a column's categories that were judged last."""
    (note,) = history.notes("flights", f"categories:{column}", before=2e9, limit=1)
    found: dict[str, int] = json.loads(note.document)
    return found


def declared(history: SqliteHistory, **what: Any) -> Dataset:
    return Dataset("flights", monitors=Monitors(history), **what)


# --- What is counted ---


@pytest.mark.parametrize("form", FORMS)
def test_counts_are_the_same_in_every_form(form: str, history: SqliteHistory) -> None:
    """Rows, nulls and categories do not depend on the library, nor on frame or iterator."""
    rows = [
        {"origin": "JFK", "gate": 1, "delay": 2.0},
        {"origin": "JFK", "gate": 1, "delay": None},
        {"origin": "EWR", "gate": None, "delay": 1.0},
        {"origin": None, "gate": 2, "delay": None},
        {"origin": "JFK", "gate": 2, "delay": 0.0},
    ]
    dataset = declared(history, categories=["origin", "gate"], segments="origin")
    observe(dataset, FORMS[form](rows), batch_rows=2)
    assert counted(history) == {
        "origin=JFK": {"rows": 3, "null_ratio:delay": 1 / 3, "null_ratio:gate": 0},
        "origin=EWR": {"rows": 1, "null_ratio:delay": 0, "null_ratio:gate": 1},
        "origin=__null__": {"rows": 1, "null_ratio:delay": 1, "null_ratio:gate": 0},
    }
    assert categories(history, "origin") == {"JFK": 3, "EWR": 1, "__null__": 1}
    assert categories(history, "gate") == {"1": 2, "2": 2, "__null__": 1}


def test_two_columns_make_one_segment(history: SqliteHistory) -> None:
    """A segment of two columns is a pair of their values."""
    rows = [{"origin": origin, "carrier": "AA"} for origin in ("JFK", "EWR", "JFK")]
    observe(declared(history, segments=["origin", "carrier"]), rows)
    assert counted(history) == {
        "carrier=AA,origin=JFK": {"rows": 2},
        "carrier=AA,origin=EWR": {"rows": 1},
    }


def test_of_many_values_fifty_are_segments_and_the_rest_is_one(history: SqliteHistory) -> None:
    """The segments of the first pass stay the same ones, whichever are large later."""
    dataset = declared(history, segments="shop")
    observe(dataset, ({"shop": str(n)} for n in range(80) for _ in range(100 - n)), batch_rows=999)
    first = {f"shop={n}": {"rows": 100 - n} for n in range(50)}
    rest = {"shop=__other__": {"rows": sum(100 - n for n in range(50, 80))}}
    assert counted(history) == first | rest
    observe(dataset, [{"shop": str(n)} for n in range(80, 0, -1) for _ in range(n)], 1)
    first = {f"shop={n}": {"rows": n} for n in range(50)}
    rest = {"shop=__other__": {"rows": sum(range(50, 81))}}
    assert counted(history, 1) == first | rest


def test_a_segment_that_is_gone_leaves_room_for_another(history: SqliteHistory) -> None:
    """A segment without rows is judged as such for fourteen passes, then no longer."""
    dataset = declared(history, segments="shop")
    observe(dataset, [{"shop": str(n)} for n in range(50)])
    for day in range(1, 16):
        observe(dataset, [{"shop": "new"}], day)
    lost = {f"shop={n}": {"rows": 0.0} for n in range(50)}
    assert counted(history, 14) == lost | {"shop=__other__": {"rows": 1}}
    assert counted(history, 15) == {"shop=new": {"rows": 1}, "shop=__other__": {"rows": 0}}


def test_categories_are_bounded(history: SqliteHistory) -> None:
    """Of a column with many values the hundred most frequent are told, the others together."""
    rows = ({"carrier": n % 5000 if n % 2 else -1} for n in range(20_000))
    observe(declared(history, categories=["carrier"]), rows, batch_rows=500)
    found = categories(history, "carrier")
    assert len(found) == 101
    assert (found["-1"], sum(found.values())) == (10_000, 20_000)


@given(st.lists(st.tuples(st.text(max_size=5), st.none() | st.integers(0, 2)), max_size=60))
def test_no_row_is_lost(tmp_path_factory: Any, values: list[tuple[str, int | None]]) -> None:
    """Whatever the values are, rows of segments and counts of categories sum up to the rows."""
    history = SqliteHistory(tmp_path_factory.mktemp("history") / "history.db")
    rows = [{"a": one, "b": two} for one, two in values]
    dataset = declared(history, categories="a", segments=["a", "b"])
    observe(dataset, iter(rows), batch_rows=7)
    assert sum(one["rows"] for one in counted(history).values()) == len(rows)
    if rows:
        assert sum(categories(history, "a").values()) == len(rows)


@given(st.dictionaries(st.sampled_from("abc"), st.text(), min_size=1, max_size=2))
def test_the_name_of_a_segment_can_be_read(values: Mapping[str, str]) -> None:
    """What is read from a name gives the same name again."""
    name = segment_name(values)
    found = values_in(name, list(values))
    assert found is not None
    assert segment_name(found) == name


# --- What is said ---


def flights(day: int, **broken: Any) -> list[dict[str, Any]]:
    """Return the flights of a day: 60 from JFK, 300 from EWR, two carriers."""
    chance = random.Random(day)
    sizes = {"JFK": 60, "EWR": 300} | broken.get("sizes", {})
    return [
        {
            "origin": origin,
            "carrier": "AA" if chance.random() < broken.get("share", 0.6) else "UA",
            "delay": None if chance.random() < broken.get(origin, 0.02) else 1.0,
        }
        for origin, size in sizes.items()
        for _ in range(size and size + chance.randint(-3, 3))
    ]


def anomalies(capture: Capture) -> list[tuple[str, str | None]]:
    return [
        (line["anomaly_metric"], line.get("anomaly_segment"))
        for line in capture.logs
        if line["event"] == "dataset_anomaly"
    ]


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({}, set()),
        ({"JFK": 0.5}, {("null_ratio:delay", "origin=JFK")}),
        ({"sizes": {"JFK": 0, "EWR": 360}}, {("rows", "origin=JFK"), ("rows", "origin=EWR")}),
        ({"share": 0.05}, {("category_drift:carrier", None)}),
    ],
)
def test_a_fault_in_a_part_is_found(
    broken: dict[str, Any],
    expected: set[tuple[str, str]],
    history: SqliteHistory,
    otel_capture: Capture,
) -> None:
    """Nulls and lost rows of one origin, and a shift of carriers, are told with their part."""
    dataset = declared(history, categories="carrier", segments="origin")
    for day in range(40):
        observe(dataset, iter(flights(day)), day)
    assert anomalies(otel_capture) == []
    observe(dataset, iter(flights(40, **broken)), 40)
    told = set(anomalies(otel_capture))
    assert expected <= told
    assert {segment for _, segment in told - expected} <= {None}  # the whole may show it too
    for metric, _ in expected:
        score = otel_capture.metric("dataset_anomaly_score", dataset="flights", metric=metric)
        assert score is not None
        assert score > 1
    samples = [key for key in otel_capture.metrics if key.startswith("dataset_")]
    assert not any("JFK" in key or "AA" in key for key in samples)


def test_a_secret_is_no_name_of_a_segment(
    history: SqliteHistory, tmp_path: Path, otel_capture: Capture
) -> None:
    """Values that look like secrets are masked in the history, too."""
    token = "ghp_" + "a1B2" * 9
    dataset = declared(history, segments=["source"], categories="source")
    observe(dataset, [{"source": f"https://{token}@host\n"}])
    with sqlite3.connect(tmp_path / "history.db") as database:
        assert token not in "\n".join(database.iterdump())
    ((name, measures),) = counted(history).items()
    assert (name.isprintable(), measures) == (True, {"rows": 1})
    assert token not in otel_capture.exposition() + repr(otel_capture.logs)


def test_a_column_of_lists_is_said(history: SqliteHistory, otel_capture: Capture) -> None:
    """Lists are no categories; the message names the column and its type."""
    observe(Dataset("lists", monitors=Monitors(history), categories="a"), [{"a": ["x"]}])
    (line,) = [one for one in otel_capture.logs if one["event"] == "dataset_observed"]
    assert line["problems"] == [
        "categories: column 'a' holds list[string], which is no single value"
    ]


def test_a_column_that_is_not_there_is_said(
    history: SqliteHistory, otel_capture: Capture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The rest of the dataset is judged, the data go on, and the column is named once."""
    dataset = Dataset("no such", monitors=Monitors(history), categories="b", segments="c")
    observe(dataset, [{"a": 1}])
    (line,) = [one for one in otel_capture.logs if one["event"] == "dataset_observed"]
    assert line["problems"] == [
        "categories: there is no column 'b'",
        "segments: there is no column 'c'",
    ]
    assert Counter(metric for _, _, metric in history.series())["rows"] == 1
    assert capfd.readouterr().err.count("observing dataset 'no such'") == 2


def test_a_history_that_is_damaged_is_a_finding(
    history: SqliteHistory, tmp_path: Path, otel_capture: Capture
) -> None:
    """It is said once for the dataset and all of its segments."""
    (tmp_path / "history.db").write_bytes(b"no database" * 1000)
    observe(declared(history, segments="a"), [{"a": 1}])
    assert anomalies(otel_capture) == [("history", None)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"segments": ["a", "b", "c"]}, r"segments \['a', 'b', 'c'\] has 3 columns; at most 2 "),
        ({"segments": ["a", "a"]}, "names a column twice"),
        ({"segments": 7}, "neither the name of a column nor a list"),
        ({"categories": [""]}, "'', which is not the name of a column"),
        ({"categories": [f"c{n}" for n in range(21)]}, "has 21 columns; at most 20"),
    ],
)
def test_a_wrong_declaration_raises(arguments: Any, words: str) -> None:
    """What cannot be meant is an error at once."""
    with pytest.raises(ConfigurationError, match=words):
        Dataset("d", **arguments)


def test_yaml_declares_them_too(tmp_path: Path) -> None:
    """Names or lists of names, with the same limits as in code."""
    path = tmp_path / "checks.yaml"
    path.write_text("datasets:\n  d:\n    categories: [carrier, state]\n    segments: origin\n")
    (found,) = load(path)
    assert found == Dataset("d", categories=["carrier", "state"], segments=["origin"])
    path.write_text("datasets:\n  d:\n    segments: [a, b, c]\n")
    with pytest.raises(ConfigurationError, match=r"line 3: datasets.d.segments .* at most 2 "):
        load(path)
