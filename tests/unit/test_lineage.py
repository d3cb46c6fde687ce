"""What stages say of their datasets, on their spans and in names."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import Pipeline, current_stage, diagnostics, lifecycle
from otel_pipeline.quality import Between, Dataset, NotNull, check, lineage, profile
from otel_pipeline.quality.lineage.seen import seen
from otel_pipeline.quality.report import Observed
from otel_pipeline.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Listener:
    """Takes what stages tell."""

    taken: list[lineage.JobRun]
    namespace: str = "service"

    def put(self, run: lineage.JobRun) -> None:
        self.taken.append(run)

    def last_writer(self, name: lineage.DatasetName) -> None:
        return None


@contextmanager
def listening(taken: list[lineage.JobRun]) -> Iterator[None]:
    hooks = lifecycle.hooks()
    assert hooks is not None
    undo = lifecycle.install(replace(hooks, lineage=Listener(taken)))
    yield
    undo()


def datasets(span: Any) -> dict[str, Any]:
    return {key: value for key, value in span.attributes.items() if key.startswith("dataset.")}


def test_a_stage_s_span_names_its_datasets() -> None:
    """Inputs and outputs are attributes; what is no part of a name, such as a password, is not."""
    with capture() as captured, Pipeline("p").stage("load") as stage:
        stage.reads("s3://etl:secret@landing/orders.csv?sig=abc", "prices")
        stage.writes("orders")
        stage.writes("orders", rows=3)
    assert datasets(captured.span("p load")) == {
        "dataset.inputs": ("s3://landing/orders.csv", "default/prices"),
        "dataset.outputs": ("default/orders",),
    }


def test_a_stage_without_datasets_has_nothing_more_on_its_span() -> None:
    """Who says nothing of datasets gets no attributes of them."""
    with capture() as captured, Pipeline("p").stage("load"):
        pass
    assert datasets(captured.span("p load")) == {}


def test_a_reader_is_linked_to_the_writer() -> None:
    """The link of the reading stage leads to the span of the last one that wrote the dataset."""
    with capture() as captured:
        for name in ("old", "new"):
            with Pipeline("p").stage(name) as writer:
                writer.writes("linked")
        with Pipeline("q").stage("read") as reader:
            reader.reads("linked", "never written")
            reader.reads("linked")
    (link,) = captured.span("q read").links
    assert link.context.span_id == captured.span("p new").context.span_id
    assert dict(link.attributes or {}) == {"dataset.name": "default/linked"}


def test_a_stage_is_not_linked_to_itself() -> None:
    """A stage that reads what it has written itself needs no link."""
    with capture() as captured, Pipeline("p").stage("update") as stage:
        stage.writes("itself")
        stage.reads("itself")
    assert captured.span("p update").links == ()


def test_a_generator_s_stage_says_it_too() -> None:
    """`current_stage()` inside a generator is the one whose datasets are told."""
    pipeline = Pipeline("p")

    @pipeline.stage
    def extract() -> Any:
        current_stage().reads("source")
        yield 1

    with capture() as captured:
        list(extract())
    assert datasets(captured.span("p extract")) == {"dataset.inputs": ("default/source",)}


def test_what_stands_on_a_span_is_bounded(capfd: pytest.CaptureFixture[str]) -> None:
    """Of thousands of datasets a span names the first twenty, and says once that there are more."""
    with capture() as captured:
        for number in range(3000):
            with Pipeline("p").stage("w") as writer:
                writer.writes(f"many {number}")
        captured.spans.clear()
        with Pipeline("p").stage("many") as stage:
            stage.reads(*(f"many {number}" for number in range(3000)))
    span = captured.span("p many")
    assert datasets(span) == {
        "dataset.inputs": tuple(f"default/many {number}" for number in range(20))
    }
    assert len(span.links) <= 20
    assert capfd.readouterr().err.count("has more than 100 datasets on one side") == 1


def test_threads_may_speak_for_one_stage() -> None:
    """What several threads declare at once is all there."""
    with capture() as captured, Pipeline("p").stage("load") as stage:
        threads = [
            threading.Thread(target=stage.reads, args=(f"t{number}",)) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(datasets(captured.span("p load"))["dataset.inputs"]) == [
        f"default/t{number}" for number in range(8)
    ]


def test_it_works_where_nothing_is_configured() -> None:
    """Without telemetry the declarations are checked and forgotten."""
    with Pipeline("p").stage("load") as stage:
        stage.reads("a")
        stage.writes("b", columns={"x": [("a", "y")]})
    gc.collect()


@pytest.mark.parametrize(
    ("declare", "error", "message"),
    [
        (lambda s: s.reads(""), ValueError, "the name of a dataset is empty"),
        (lambda s: s.reads(7), TypeError, "not by a int"),
        (lambda s: s.reads(("a", 1)), TypeError, "a pair of two texts"),
        (
            lambda s: s.reads("a", "b", schema={}),
            TypeError,
            "schema= is that of one dataset",
        ),
        (
            lambda s: s.writes("a", columns={"x": ["yz!"]}),
            TypeError,
            r"\[\(\"orders\", \"price\"\)\]",
        ),
        (lambda s: s.reads("pg://u:hidden@h:x/t"), ValueError, "^the URL of a dataset cannot be"),
    ],
)
def test_a_wrong_declaration_raises_and_says_what_is_right(
    declare: Any, error: type[Exception], message: str
) -> None:
    """A mistake in the program is told where it is made, without the password of a URL."""
    with Pipeline("p").stage("load") as stage, pytest.raises(error, match=message):
        declare(stage)


@pytest.mark.parametrize(
    ("given", "namespace", "name"),
    [
        ("orders", "here", "orders"),
        ("s3://b/k/a.csv", "s3://b", "k/a.csv"),
        ("s3a://b/k", "s3://b", "k"),
        ("gs://b/k", "gs://b", "k"),
        ("abfss://c@acct.dfs.core.windows.net/p/q", "abfss://c@acct.dfs.core.windows.net", "/p/q"),
        ("hdfs://nn:8020/data/x", "hdfs://nn:8020", "/data/x"),
        ("file:///data/x.csv", "file", "/data/x.csv"),
        ("file://nas/data/x.csv", "file://nas", "/data/x.csv"),
        ("/data/x.csv", "file", "/data/x.csv"),
        (Path("/data/../x.csv"), "file", "/x.csv"),
        ("postgres://h/db/public/t", "postgres://h:5432", "db.public.t"),
        ("postgresql+psycopg://u:p@h:6000/db.public.t", "postgres://h:6000", "db.public.t"),
        ("mysql://h/db/t", "mysql://h:3306", "db.t"),
        ("bigquery://project/set/t", "bigquery", "project.set.t"),
        ("kafka://broker:9092/orders", "kafka://broker:9092", "orders"),
        ("https://u:p@[::1]:8080/a?token=x#y", "https://[::1]:8080", "a"),
        (("snowflake://org-acct", "DB.PUBLIC.T"), "snowflake://org-acct", "DB.PUBLIC.T"),
    ],
)
def test_names_follow_openlineage(given: Any, namespace: str, name: str) -> None:
    """A URL, path, bare name or pair becomes the namespace and name that others use as well."""
    assert lineage.identify(given, "here") == lineage.DatasetName(namespace, name)


def test_a_relative_path_is_told_by_where_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs in two folders speak of two files."""
    monkeypatch.chdir(tmp_path)
    assert lineage.identify("data/x.csv", "here") == ("file", str(tmp_path / "data" / "x.csv"))


def test_what_a_stage_observes_belongs_to_its_lineage() -> None:
    """Rows, schema, numbers of columns and results of checks are told, but no texts of the data."""
    rows = [{"id": 1, "name": "Ann"}, {"id": 2, "name": None}, {"id": 3, "name": "Zoe"}]
    checks = [NotNull("name"), Between("id", min=1, severity="critical")]
    dataset = Dataset("people", checks=checks)
    what = Observed(
        dataset, 3, complete=True, results=check(rows, checks), profile=profile(rows, "basic")
    )
    taken: list[lineage.JobRun] = []
    with capture(), listening(taken), Pipeline("p").stage("load") as stage:
        seen(stage, what)
    (use,) = taken[-1].inputs
    assert (use.name, use.rows) == (("service", "people"), 3)
    assert use.schema == {"id": "int64", "name": "string"}
    assert use.metrics == {
        "id": {"nullCount": 0, "count": 3, "min": 1, "max": 3, "mean": 2.0, "std": 1.0},
        "name": {"nullCount": 1, "count": 2},
    }
    assert [(one.assertion, one.success, one.column, one.severity) for one in use.assertions] == [
        ("not_null", False, "name", "warn"),
        ("between", True, "id", "error"),
    ]
    assert "Ann" not in repr(taken)


def test_what_is_seen_after_the_end_of_a_stage_is_left_out() -> None:
    """A stage that has ended is told once, whatever comes later."""
    taken: list[lineage.JobRun] = []
    with capture(), listening(taken):
        with Pipeline("p").stage("load") as stage:
            stage.reads("a")
        lineage.observed(stage, "b", rows=1)
        with Pipeline("p").stage("late") as late:
            pass
        lineage.observed(late, "b", rows=1)
    assert [(run.job.name, run.state) for run in taken] == [
        ("p.load", "START"),
        ("p.load", "COMPLETE"),
    ]


def test_a_listener_that_fails_harms_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The stage goes on and keeps its own error, whatever whoever listens does."""

    class Broken(list[lineage.JobRun]):
        def append(self, run: lineage.JobRun) -> None:
            raise RuntimeError("broken")

    @Pipeline("p").stage
    def load() -> None:
        lineage.observed(current_stage(), "a")
        raise KeyError("mine")

    diagnostics.forget("lineage")
    with capture() as captured, listening(Broken()), pytest.raises(KeyError, match="mine"):
        load()
    assert captured.span("p load").status.description == "KeyError: 'mine'"
    assert "lineage of 'load' failed: broken" in capfd.readouterr().err
