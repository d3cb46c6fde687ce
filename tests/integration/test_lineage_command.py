"""`otel-pipeline quality lineage` shows what the record or files of events tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_pipeline import cli
from otel_pipeline.quality.lineage import DatasetName, DatasetUse, JobName, JobRun
from otel_pipeline.quality.lineage.drawing import label, mermaid, tree
from otel_pipeline.quality.lineage.graph import Graph
from otel_pipeline.quality.lineage.record import Record

if TYPE_CHECKING:
    from pathlib import Path

CSV = DatasetName("s3://landing", "orders.csv")
LINES = DatasetName("etl", "lines")
ORDERS = DatasetName("postgres://db:5432", "shop.public.orders")
PRICES = DatasetName("etl", "prices")
MINUTE = 60_000_000_000
RUNS = [
    JobRun(
        JobName("etl", "orders.extract"),
        "e",
        "COMPLETE",
        0,
        (DatasetUse(CSV),),
        (DatasetUse(LINES, {"price": "float64", "n": "int64"}),),
    ),
    JobRun(
        JobName("etl", "orders.load"),
        "l",
        "FAIL",
        MINUTE,
        (DatasetUse(LINES), DatasetUse(PRICES)),
        (DatasetUse(ORDERS, columns={"total": ((LINES, "price"), (LINES, "n"))}, rows=1200),),
    ),
    JobRun(
        JobName("etl", "report.sum"),
        "s",
        "COMPLETE",
        2 * MINUTE,
        (DatasetUse(ORDERS), DatasetUse(PRICES)),
        (DatasetUse(DatasetName("file", "/r.csv"), columns={"sum": ((ORDERS, "total"),)}),),
    ),
]


@pytest.fixture
def _record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PIPELINE_LINEAGE", str(tmp_path / "lineage.db"))
    Record(tmp_path / "lineage.db").add(RUNS)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["quality", "lineage", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("_record")
def test_the_whole_is_a_tree_from_the_sources(capsys: pytest.CaptureFixture[str]) -> None:
    """Datasets and the jobs between them; what is reached twice is drawn once."""
    assert (
        printed(capsys)
        == """\
s3://landing/orders.csv
└─ [orders.extract]  complete 1970-01-01 00:00 UTC
   └─ etl/lines  2 columns
      └─ [orders.load]  fail 1970-01-01 00:01 UTC
         └─ postgres://db:5432/shop.public.orders  1,200 rows
            └─ [report.sum]  complete 1970-01-01 00:02 UTC
               └─ /r.csv
etl/prices
├─ [orders.load]  fail 1970-01-01 00:01 UTC (see above)
└─ [report.sum]  complete 1970-01-01 00:02 UTC (see above)
"""
    )


@pytest.mark.usefixtures("_record")
def test_a_dataset_has_two_sides(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a dataset, given by the end of its name, it shows what it comes from and goes to."""
    assert (
        printed(capsys, "orders")
        == """\
Comes from:
postgres://db:5432/shop.public.orders  1,200 rows
└─ [orders.load]  fail 1970-01-01 00:01 UTC
   ├─ etl/lines  2 columns
   │  └─ [orders.extract]  complete 1970-01-01 00:00 UTC
   │     └─ s3://landing/orders.csv
   └─ etl/prices

Goes to:
postgres://db:5432/shop.public.orders  1,200 rows
└─ [report.sum]  complete 1970-01-01 00:02 UTC
   └─ /r.csv
"""
    )


@pytest.mark.usefixtures("_record")
def test_a_column_has_its_own_tree(capsys: pytest.CaptureFixture[str]) -> None:
    """Column lineage goes through every dataset that declares it."""
    assert (
        printed(capsys, "orders", "--column", "total")
        == """\
Comes from:
postgres://db:5432/shop.public.orders · total
├─ etl/lines · price
└─ etl/lines · n

Goes to:
postgres://db:5432/shop.public.orders · total
└─ /r.csv · sum
"""
    )
    found = json.loads(printed(capsys, "/r.csv", "--column", "sum", "--json"))["columns"]
    assert [(one["from"]["column"], one["to"]["column"]) for one in found] == [
        ("total", "sum"),
        ("price", "total"),
        ("n", "total"),
    ]


@pytest.mark.usefixtures("_record")
def test_mermaid_draws_datasets_and_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """The diagram has each node and each edge once."""
    assert printed(capsys, "lines", "--mermaid").splitlines() == [
        "flowchart LR",
        '    n0[("etl/lines  2 columns")]',
        '    n1["[orders.extract]  complete 1970-01-01 00:00 UTC"]',
        '    n2[("s3://landing/orders.csv")]',
        '    n3["[orders.load]  fail 1970-01-01 00:01 UTC"]',
        '    n4[("postgres://db:5432/shop.public.orders  1,200 rows")]',
        '    n5["[report.sum]  complete 1970-01-01 00:02 UTC"]',
        '    n6[("/r.csv")]',
        "    n0 --> n3",
        "    n1 --> n0",
        "    n2 --> n1",
        "    n3 --> n4",
        "    n4 --> n5",
        "    n5 --> n6",
    ]


@pytest.mark.usefixtures("_record")
def test_json_has_the_datasets_and_jobs_of_the_picture(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not connected with the dataset is left out."""
    found = json.loads(printed(capsys, "lines", "--json"))
    assert [one["name"] for one in found["jobs"]] == ["orders.extract", "orders.load", "report.sum"]
    assert "prices" not in [one["name"] for one in found["datasets"]]
    assert found["jobs"][1]["state"] == "FAIL"


def event(job: str, kind: str, time: str, **sides: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": time,
        "run": {"runId": "1", "facets": {}},
        "job": {"namespace": "n", "name": job},
        "producer": "https://example.com",
        **sides,
    }


def test_files_of_events_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Events of any producer, one on a line or a list of them, make one picture."""
    a, b = {"namespace": "n", "name": "a"}, {"namespace": "n", "name": "b"}
    one, other = tmp_path / "one.jsonl", tmp_path / "other.json"
    start = event("job", "START", "2026-11-23T10:00:00Z", inputs=[a], outputs=[])
    end = event("job", "COMPLETE", "2026-11-23T12:00:00+01:00", inputs=[], outputs=[b])
    about_a_dataset = {"eventTime": "2026-11-23T10:00:00Z", "dataset": a}
    one.write_text("\n".join(map(json.dumps, (start, end))) + "\n\n")
    # A job and a dataset of one name are two things.
    more = event("b", "COMPLETE", "2026-11-23T12:00:00.123456789Z", inputs=[b])
    other.write_text(json.dumps([about_a_dataset, more]))
    assert (
        printed(capsys, "--events", str(one), str(other))
        == """\
n/a
└─ [job]  complete 2026-11-23 11:00 UTC
   └─ n/b
      └─ [b]  complete 2026-11-23 12:00 UTC
"""
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', "no event of OpenLineage (KeyError: 'run')"),
        ("[1]", "no event of OpenLineage"),
        ('{"run": {}}\nnonsense', "line 1: no event of OpenLineage (KeyError: 'job')"),
        ("nonsense", "line 1: no JSON (Expecting value, column 1)"),
        (b"\xff\xfe", "is no text in UTF-8"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_without_events_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes | None, message: str
) -> None:
    """What is wrong, and in which line, is said on one line; the status is 2."""
    path = tmp_path / "events.json"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert cli.main(["quality", "lineage", "--events", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"otel-pipeline: {path}")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("_record")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ordres"], "no dataset is called 'ordres'; is it"),
        (["lines", "--column", "prise"], "declared are price"),
        (["prices", "--column", "x"], "none is declared"),
        (["--column", "x"], "--column COLUMN needs its DATASET, too"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody has to guess names."""
    assert cli.main(["quality", "lineage", *words]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_record_says_how_to_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any run the command says what stages have to do; switched off, it says so."""
    monkeypatch.setenv("OTEL_PIPELINE_LINEAGE", str(tmp_path / "none.db"))
    assert printed(capsys).startswith("No lineage is known yet")
    assert json.loads(printed(capsys, "--json")) == {"datasets": [], "jobs": []}
    monkeypatch.setenv("OTEL_PIPELINE_LINEAGE", "off")
    assert cli.main(["quality", "lineage"]) == 2
    assert "OTEL_PIPELINE_LINEAGE=off" in capsys.readouterr().err


NAMES = st.builds(DatasetName, st.just("n"), st.sampled_from("abcd") | st.text(min_size=1))
USES = st.lists(st.builds(DatasetUse, NAMES), max_size=3).map(tuple)


@given(
    st.lists(
        st.builds(
            JobRun,
            st.builds(JobName, st.just("n"), st.sampled_from("abcd")),
            st.sampled_from("rs"),
            st.just("COMPLETE"),
            st.integers(0, 10**18),
            USES,
            USES,
        ),
        max_size=6,
    )
)
def test_any_graph_can_be_drawn(runs: list[JobRun]) -> None:
    """Circles and hostile names too: each node is in the tree, on a line of its own."""
    graph = Graph(runs)
    edges = graph.edges()
    lines = tree(edges.starts(), edges.after, lambda node: label(node, graph))
    assert all(line.isprintable() for line in lines)
    assert len({label(node, graph) for node in edges.nodes}) <= len(lines)
    assert len(mermaid(edges, lambda node: label(node, graph)).splitlines()) == 1 + len(
        edges.nodes
    ) + len(edges.pairs)


def test_a_long_chain_is_no_deep_recursion() -> None:
    """A thousand steps from the first dataset to the last are drawn."""
    names = [DatasetName("n", str(number)) for number in range(1001)]
    runs = [
        JobRun(
            JobName("n", f"j{i}"),
            "r",
            "COMPLETE",
            i,
            (DatasetUse(names[i]),),
            (DatasetUse(names[i + 1]),),
        )
        for i in range(1000)
    ]
    edges = Graph(runs).edges()
    assert len(tree(edges.starts(), edges.after, str)) == 2001
