"""The registry: one metric for one name, snapshots, sources and fresh starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otel_pipeline import diagnostics, semconv
from otel_pipeline.errors import DuplicateMetricError
from otel_pipeline.metrics import (
    REGISTRY,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Registry,
    Summary,
    from_spec,
)
from otel_pipeline.metrics.snapshots import Family, HistogramPoint, Point


@pytest.fixture
def registry():
    return Registry()


def test_a_collect_is_a_whole_frozen_snapshot(registry):
    """A family carries what a reader needs, in values that do not change."""
    counter = Counter("sent", "Sent", ["to"], unit="bytes", registry=registry)
    counter.labels("a").inc(3)
    (family,) = registry.collect()
    start = family.points[0].start
    assert family == Family(
        name="sent_bytes",
        kind="counter",
        documentation="Sent",
        unit="bytes",
        labelnames=("to",),
        points=(Point(("a",), 3, start),),
        otel_name="sent",
        otel_unit="By",
    )
    counter.labels("a").inc()
    assert family.points[0].value == 3


def test_a_histogram_s_counts_are_not_cumulative(registry):
    """Buckets are told one by one, with their finite bounds as floats."""
    histogram = Histogram("h", "", buckets=[1, 2], registry=registry)
    for amount in (0.5, 1, 2, 3):
        histogram.observe(amount)
    (family,) = registry.collect()
    assert repr(family.bounds) == "(1.0, 2.0)"
    start = family.points[0].start
    assert family.points == (HistogramPoint((), (2, 1, 1), 6.5, start, (None, None, None)),)


DECLARATIONS = {
    "counter": lambda r: Counter("m", "doc", ["a"], registry=r),
    "gauge": lambda r: Gauge("m", "doc", ["a"], registry=r),
    "histogram": lambda r: Histogram("m", "doc", ["a"], buckets=[1, 2], registry=r),
    "summary": lambda r: Summary("m", "doc", ["a"], registry=r),
    "info": lambda r: Info("m", "doc", ["a"], registry=r),
    "enum": lambda r: Enum("m", "doc", ["a"], states=["x", "y"], registry=r),
    "other labels": lambda r: Counter("m", "doc", ["b"], registry=r),
    "labels in another order": lambda r: Counter("m", "doc", ["b", "a"], registry=r),
    "other buckets": lambda r: Histogram("m", "doc", ["a"], buckets=[1, 3], registry=r),
    "other states": lambda r: Enum("m", "doc", ["a"], states=["y", "x"], registry=r),
    "total": lambda r: Gauge("m_total", "doc", registry=r),
    "bucket": lambda r: Gauge("m_bucket", "doc", registry=r),
    "info's series": lambda r: Gauge("m_info", "doc", registry=r),
}

CLASHES = [
    ("counter", "gauge"),
    ("counter", "other labels"),
    ("counter", "total"),
    ("histogram", "bucket"),
    ("histogram", "summary"),
    ("histogram", "other buckets"),
    ("enum", "other states"),
    ("info", "info's series"),
    ("counter", "labels in another order"),
]


@pytest.mark.parametrize(("one", "other"), CLASHES)
def test_two_shapes_of_one_name_are_refused(registry, one, other):
    """Whichever comes first, the error names both, and the first stays as it was."""
    for first, second in ((one, other), (other, one)):
        registry = Registry()
        DECLARATIONS[first](registry)
        before = registry.collect()
        with pytest.raises(DuplicateMetricError, match=r"clashes with .* declared before"):
            DECLARATIONS[second](registry)
        assert registry.collect() == before


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram", "summary", "info", "enum"])
def test_the_same_declaration_again_is_the_same_metric(registry, kind):
    """A notebook cell that runs twice keeps its counts."""
    first, second = DECLARATIONS[kind](registry), DECLARATIONS[kind](registry)
    assert first.labels("1") is second.labels("1")
    assert len(registry.collect()) == 1


def test_handles_without_labels_share_their_value(registry):
    """Two declarations of one counter count together; the first help text stays."""
    Counter("c", "first", registry=registry).inc()
    Counter("c", "second", registry=registry).inc(2)
    (family,) = registry.collect()
    assert (family.documentation, family.points[0].value) == ("first", 3)


def test_a_unit_in_the_name_is_no_declared_unit(registry):
    """`x_seconds` with and without unit are two shapes of one name."""
    Gauge("x", "", unit="seconds", registry=registry)
    with pytest.raises(DuplicateMetricError, match="unit='seconds'"):
        Gauge("x_seconds", "", registry=registry)


def test_unregistered_metrics_know_no_duplicates():
    """Without a registry each instrument stands alone."""
    one, other = Counter("c", "", registry=None), Counter("c", "", registry=None)
    one.inc()
    (family,) = other.collect()
    assert family.samples[0].value == 0
    Gauge("c", "", registry=None)
    assert "c" not in REGISTRY


def test_the_registry_knows_its_names(registry):
    """Metrics are found by any of their series."""
    counter = Counter("c", "", registry=registry)
    Info("i", "", registry=registry)
    assert registry.names == ("c_total", "i_info")
    assert "c_total" in registry
    assert "c" in registry
    assert "x" not in registry
    assert registry.get("c_total") is counter._metric
    assert registry.get("x") is None


def test_instruments_go_to_the_default_registry():
    """Without an argument a metric is declared where every reader looks."""
    Counter("test_registry_default", "").inc()
    assert "test_registry_default_total" in REGISTRY.names


# Vocabulary


@pytest.mark.parametrize("spec", semconv.ALL_METRICS, ids=lambda spec: spec.name)
def test_each_metric_of_the_vocabulary_can_be_made(registry, spec):
    """The instrument shows the name, the type, the labels and the bounds of its spec."""
    instrument = from_spec(spec, registry)
    (family,) = registry.collect()
    assert registry.names == (spec.name,)
    assert (family.kind, family.labelnames) == (spec.kind, spec.labels)
    assert (family.bounds, family.multiprocess_mode) == (spec.bounds, spec.multiprocess)
    assert type(instrument).__name__.lower() == spec.kind


def test_a_user_s_metric_of_the_vocabulary_is_that_metric(registry):
    """The same name, kind and labels share the storage and take the vocabulary's bounds."""
    mine = Histogram("processing_duration_seconds", "Mine", ["pipeline"], registry=registry)
    mine.labels("a").observe(200)
    Histogram.from_spec(semconv.PROCESSING_DURATION, registry).labels("a").observe(100)
    (family,) = registry.collect()
    assert family.bounds == semconv.PROCESSING_BOUNDS
    assert family.documentation == semconv.PROCESSING_DURATION.doc
    assert sum(family.points[0].counts) == 2


@pytest.mark.parametrize(
    "declare",
    [
        pytest.param(lambda r: Counter("records_processed", "", ["x"], registry=r), id="labels"),
        pytest.param(lambda r: Gauge("records_processed_total", "", registry=r), id="series"),
        pytest.param(lambda r: Gauge("records_processed", "", registry=r), id="family"),
        pytest.param(lambda r: Counter("queue_size", "", ["queue_name"], registry=r), id="kind"),
        pytest.param(lambda r: Gauge("processing_duration_seconds_sum", "", registry=r), id="sum"),
    ],
)
def test_names_of_the_vocabulary_are_kept_free(registry, declare):
    """A metric that would be in the way is refused, also before the library has made its own."""
    with pytest.raises(DuplicateMetricError, match="vocabulary"):
        declare(registry)
    assert registry.collect() == []


# Sources


def test_a_source_adds_families_until_its_undo(registry):
    """What a source returns is part of each collect."""
    extra = Family("x", "gauge", "", "", (), (Point((), 1, 0),), "x", "")
    undo = registry.add_source(lambda: [extra])
    assert registry.collect() == [extra]
    undo()
    undo()
    assert registry.collect() == []


def test_a_source_that_fails_costs_nobody_else(registry, caplog):
    """The other families are there, and the operator is told once."""
    diagnostics.forget("source:")

    def failing():
        raise OSError("gone")

    registry.add_source(failing)
    Counter("c", "", registry=registry)
    diagnostics.LOGGER.addHandler(caplog.handler)
    try:
        assert [len(registry.collect()) for _ in range(2)] == [1, 1]
    finally:
        diagnostics.LOGGER.removeHandler(caplog.handler)
    assert caplog.messages == ["metrics are missing: OSError('gone')"]


# Fresh starts


def test_untouched_series_can_be_left_out(registry):
    """Only what was recorded shows, whatever was declared."""
    Counter("plain", "", registry=registry)
    counter = Counter("c", "", ["a"], registry=registry)
    counter.labels("never")
    counter.labels("zero").inc(0)
    gauge = Gauge("g", "", ["a"], registry=registry)
    gauge.labels("never")
    gauge.labels("function").set_function(lambda: 1)
    Info("i", "", registry=registry)
    enum = Enum("e", "", ["a"], states=["x"], registry=registry)
    enum.labels("never")
    enum.labels("set").state("x")
    touched = {
        family.name: [p.labels for p in family.points]
        for family in registry.collect(touched_only=True)
    }
    assert touched == {"c": [("zero",)], "g": [("function",)], "e": [("set",)]}


def everything(registry):
    plain = Counter("plain", "", registry=registry)
    labelled = Counter("labelled", "", ["a"], registry=registry)
    return {
        "plain": plain.inc,
        "child": labelled.labels("kept").inc,
        "histogram": lambda: Histogram("h", "", buckets=[1], registry=registry).observe(0.5),
        "summary": lambda: Summary("s", "", registry=registry).observe(0.5),
        "gauge": lambda: Gauge("g", "", registry=registry).set(3),
        "info": lambda: Info("i", "", registry=registry).info({"a": "b"}),
        "enum": lambda: Enum("e", "", states=["x", "y"], registry=registry).state("y"),
    }


def test_a_stash_starts_afresh_and_its_undo_brings_all_back(registry):
    """Tests see only what they recorded, and leave no trace."""
    measure = everything(registry)
    for record in measure.values():
        record()
    before = registry.collect(touched_only=True)
    undo = registry.stash()
    assert registry.collect(touched_only=True) == []
    measure["child"]()
    measure["gauge"]()
    seen = registry.collect(touched_only=True)
    assert [(f.name, [p.value for p in f.points]) for f in seen] == [("labelled", [1]), ("g", [3])]
    undo()
    assert registry.collect(touched_only=True) == before
    for record in measure.values():
        record()
    assert registry.collect()[0].points[0].value == 2
    assert registry.collect()[1].points[0].value == 2


def test_series_made_during_a_stash_are_gone_after_it(registry):
    """Label sets of one test take no room in the next."""
    counter = Counter("c", "", ["a"], registry=registry)
    counter.labels("old").inc(5)
    undo = registry.stash()
    counter.labels("test").inc()
    held = counter.labels("held")
    held.inc()
    late = Counter("late", "", ["a"], registry=registry)
    late.labels("x").inc()
    later = Counter("later", "", registry=registry)
    later.inc()
    undo()
    by_name = {f.name: {p.labels: p.value for p in f.points} for f in registry.collect()}
    assert by_name == {"c": {("old",): 5}, "late": {}, "later": {(): 0}}
    held.inc(7)
    assert counter.labels("held") is not None
    by_name = {f.name: {p.labels: p.value for p in f.points} for f in registry.collect()}
    assert by_name["c"] == {("old",): 5, ("held",): 7}


def test_a_stash_keeps_the_labels_budget_to_itself(registry):
    """A suite of many tests never runs into the limit that each of them keeps."""
    registry.limit = 5
    counter = Counter("c", "", ["a"], registry=registry)
    for test in range(100):
        undo = registry.stash()
        for value in range(5):
            counter.labels(f"{test}-{value}").inc()
        assert len(registry.collect()[0].points) == 5
        undo()
    assert registry.collect()[0].points == ()


def test_a_series_removed_during_a_stash_stays_removed(registry):
    """A series that a test used and removed does not come back before its end."""
    counter = Counter("c", "", ["a"], registry=registry)
    held = counter.labels("x")
    held.inc(5)
    undo = registry.stash()
    counter.labels("x").inc()
    counter.remove("x")
    assert registry.collect()[0].points == ()
    undo()
    assert registry.collect()[0].points[0].value == 5


def test_a_series_removed_after_a_stash_stays_removed(registry):
    """A removed series does not come back because someone still holds its child."""
    counter = Counter("c", "", ["a"], registry=registry)
    held = counter.labels("x")
    held.inc(5)
    registry.stash()()
    counter.remove("x")
    held.inc()
    assert registry.collect()[0].points == ()


def test_stashes_nest(registry):
    """A capture inside a capture ends where it began."""
    counter = Counter("c", "", ["a"], registry=registry)
    counter.labels("x").inc(1)
    outer = registry.stash()
    counter.labels("x").inc(10)
    inner = registry.stash()
    counter.labels("x").inc(100)
    inner()
    assert registry.collect()[0].points[0].value == 10
    outer()
    assert registry.collect()[0].points[0].value == 1


def test_importing_the_instruments_imports_no_sdk_and_no_prometheus_client():
    """A program that only measures pays for nothing else."""
    heavy = "opentelemetry.sdk", "prometheus_client", "grpc", "requests"
    program = (
        "import sys; from otel_pipeline.metrics import Counter; Counter('c', '').inc();"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
