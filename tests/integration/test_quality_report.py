"""`otel-pipeline quality report` writes one page that shows what is known, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_pipeline import cli
from otel_pipeline.quality import SqliteHistory
from otel_pipeline.quality.history import Point
from otel_pipeline.quality.html_report.chart import chart
from otel_pipeline.quality.html_report.contents import (
    Checked,
    Column,
    Contents,
    DatasetPart,
    Series,
    gather,
)
from otel_pipeline.quality.html_report.page import page
from otel_pipeline.quality.lineage import Assertion, DatasetName, DatasetUse, JobName, JobRun
from otel_pipeline.quality.lineage.graph import Graph
from otel_pipeline.quality.lineage.record import Record

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0
ORDERS = DatasetName("etl", "orders")
RUN = JobRun(
    JobName("etl", "orders.load"),
    "l",
    "COMPLETE",
    int(3 * DAY * 1e9),
    (DatasetUse(DatasetName("s3://landing", "orders.csv")),),
    (
        DatasetUse(
            ORDERS,
            {"id": "int64", "price": "float64"},
            rows=1200,
            metrics={"price": {"nullCount": 12, "mean": 3.25, "min": 0.5}},
            assertions=(
                Assertion("not_null", True, "id", "error", "id present", "no value is null"),
                Assertion("between", False, "price", "warn", None, "12 rows are outside"),
            ),
        ),
    ),
)
POINTS = [
    Point("orders", "rows", 0, 1000.0),
    Point("orders", "rows", DAY, 1010.0, "", 900, 1100),
    Point("orders", "rows", 2 * DAY, 300.0, "", 900, 1100, 4.0, "far fewer rows than usual"),
    Point("orders", "rows", 3 * DAY, 2000.0, "", 900, 1100, 4.0, "more rows", "accepted"),
    Point("orders", "rows", 3 * DAY, 7.0, "region=eu"),
]


@dataclass
class Page(HTMLParser):
    """What a browser would make of a page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    style: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, text: str) -> Page:
        found = cls()
        found.feed(text)
        found.close()
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style":
            self.style += data
        elif data.strip():
            self.words.append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OTEL_PIPELINE_LINEAGE", str(tmp_path / "lineage.db"))
    monkeypatch.setenv("OTEL_PIPELINE_QUALITY_HISTORY", str(tmp_path / "history.db"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, *words: str) -> Page:
    assert cli.main(["quality", "report", *words]) == 0
    return Page.of((folder / "quality-report.html").read_text(encoding="utf-8"))


def test_the_report_shows_what_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Datasets, checks, columns, findings and lineage of the history and the record."""
    Record(folder / "lineage.db").add([RUN])
    SqliteHistory(folder / "history.db").record(POINTS)
    found = written(folder)
    assert capsys.readouterr().out == "Wrote quality-report.html: 2 datasets.\n"
    text = " | ".join(found.words)
    for part in (
        "2 | datasets | 1 | checks that did not pass | 1 | findings",
        "orders | 1970-01-04 00:00 | 1,200 | 1 of 2 did not pass | 1 | ",
        "s3://landing/orders.csv | 1970-01-04 00:00 | none | 0",
        "1970-01-03 00:00 | rows | 4.0 | far fewer rows than usual",
        "between price | fail | warning | 12 rows are outside",
        "id present | pass | critical | no value is null",
        "price | float64 | 12 | 0.5 | 3.25",
        "s3://landing/orders.csv\n└─ [orders.load]  complete 1970-01-04 00:00 UTC\n",
    ):
        assert part in text
    assert found.count("figure") == 2
    assert [attrs["class"] for tag, attrs in found.tags if tag == "circle"] == [
        "finding",
        "accepted",
        "one",
    ]


def test_files_of_profiles_and_checks_are_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `quality profile --json` and `quality check --json` print can be given as files."""
    data = folder / "orders.csv"
    data.write_text("id,price\n1,2.5\n2,\n")
    (folder / "checks.yaml").write_text(
        "datasets:\n  orders:\n    checks:\n      - not_null: price\n"
    )
    for words, name in (
        (["profile", str(data)], "profile.json"),
        (["check", str(data), "--with", "checks.yaml"], "result.json"),
    ):
        cli.main(["quality", *words, "--json"])
        (folder / name).write_text(capsys.readouterr().out)
    found = written(folder, "--profile", "orders=profile.json", "--checks", "result.json")
    text = " | ".join(found.words)
    assert "1 | datasets | 1 | checks that did not pass" in text
    assert "| price | float64 | 1 |" in text


def test_without_anything_the_report_says_how_to_begin(folder: Path) -> None:
    """Nothing known is a page, too, and no file is made by looking."""
    found = written(folder)
    assert "Nothing is known of any dataset yet." in found.words
    assert [path.name for path in folder.iterdir()] == ["quality-report.html"]


def test_the_page_may_go_to_standard_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--output -` prints the page alone."""
    assert cli.main(["quality", "report", "--output", "-"]) == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--history", "none.db"], "--history none.db: there is no such file"),
        (["--profile", "none.json"], "none.json cannot be read: No such file"),
        (["--profile", "=x"], "--profile =x: it is DATASET=FILE, or FILE"),
        (["--profile", "bad.json"], "bad.json: not what `quality profile --json` writes"),
        (["--checks", "bad.json"], "bad.json: not what `quality check --json` writes"),
        (["--checks", "text.json"], "text.json is no JSON"),
        (["--output", "none/x.html"], "none/x.html cannot be written: No such file"),
        (["--history", "text.json"], "is damaged"),
    ],
)
def test_what_cannot_be_read_or_written_is_told(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says what is wrong with which file, and the status is 2."""
    (folder / "bad.json").write_text("[1]")
    (folder / "text.json").write_text("no JSON at all" * 100)
    assert cli.main(["quality", "report", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "quality-report.html").exists()


# --- The page, whatever is in it -----------------------------------------------------------------

#: What a page consists of; anything else would come out of a name.
TAGS = set(
    "html head meta title style body header main section h1 h2 h3 p ul li b div table tr th td a "
    "span time code figure figcaption svg path text circle pre".split()
)
TEXT = st.text(max_size=30) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></title><b>", "\u202e"]
)
NUMBER = st.floats() | st.none()
POINT = st.builds(
    Point, TEXT, TEXT, st.floats(-1e13, 1e13), st.floats(), TEXT, NUMBER, NUMBER, st.just(1.0), TEXT
)


def is_safe(text: str) -> bool:
    found = Page.of(text)
    links = [attrs.get("href") or "#" for tag, attrs in found.tags]
    digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in found.tags if "http-equiv" in attrs)
    return (
        {tag.removeprefix("/") for tag, _ in found.tags} <= TAGS
        and all(re.fullmatch(r"#(d\d+)?", link) for link in links)
        and not [key for _, attrs in found.tags for key in attrs if key.startswith("on")]
        and not [1 for _, attrs in found.tags if {"src", "style"} & set(attrs)]
        and policy is not None
        and policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    )


@given(
    st.builds(
        DatasetPart,
        TEXT,
        st.floats(-1e13, 1e13),
        st.integers(0),
        st.lists(
            st.builds(Column, TEXT, TEXT, st.dictionaries(TEXT, TEXT | st.floats(), max_size=2)),
            max_size=2,
        ),
        st.lists(st.builds(Checked, TEXT, TEXT, TEXT, TEXT), max_size=2),
        st.lists(
            st.builds(Series, TEXT, TEXT, st.lists(POINT, min_size=1, max_size=3)), max_size=2
        ),
    )
)
@settings(max_examples=50)
def test_no_value_becomes_anything_but_text(part: DatasetPart) -> None:
    """Hostile names of any kind neither add a tag nor an attribute, nor open the policy."""
    run = JobRun(JobName("n", part.name), "r", "FAIL", 0, (), (DatasetUse(DatasetName("n", "d")),))
    text = page(Contents([part], Graph([run]), 0.0))
    assert is_safe(text)
    assert "\u202e" not in text


@given(st.lists(POINT, min_size=1, max_size=6))
def test_any_series_can_be_drawn(points: list[Point]) -> None:
    """Whatever values and bands there are, every place in the drawing is a finite number."""
    drawn = chart(Series("m", "", sorted(points, key=lambda point: point.at)))
    found = Page.of(drawn)
    places = [
        value
        for _, attrs in found.tags
        for key, value in attrs.items()
        if key in {"d", "cx", "cy", "x", "y"} and value
    ]
    assert not [place for place in places if "nan" in place or "inf" in place]


def test_datasets_in_trouble_come_first() -> None:
    """Who opens the page sees what failed without looking for it."""
    calm = DatasetUse(DatasetName("etl", "a"))
    run = JobRun(JobName("etl", "x"), "1", "COMPLETE", 0, (calm,), RUN.outputs)
    contents = gather(history=None, graph=Graph([run]), at=0.0)
    assert [part.name for part in contents.datasets] == ["orders", "a"]


def test_two_datasets_of_one_name_are_told_apart() -> None:
    """Where a bare name says too little, the namespace stands with it."""
    uses = tuple(DatasetUse(DatasetName(space, "orders")) for space in ("etl", "shop"))
    graph = Graph([JobRun(JobName("etl", "x"), "1", "COMPLETE", 0, uses)])
    names = [part.name for part in gather(history=None, graph=graph, at=0.0).datasets]
    assert names == ["etl/orders", "shop/orders"]


def test_the_command_reads_its_files_as_text(folder: Path) -> None:
    """A profile with a hostile column is shown as what it is."""
    told: dict[str, Any] = {"<b>": {"null_count": 1, "min": "<i>", "quantiles": {"0.5": 2.0}}}
    (folder / "p.json").write_text(json.dumps({"rows": 1, "schema": {}, "columns": told}))
    found = written(folder, "--profile", "p.json")
    assert "<b>" in found.words
    assert "<i>" in found.words
