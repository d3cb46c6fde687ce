"""One script, run against prometheus_client and against the library, ends in the same families."""

from __future__ import annotations

from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otel_pipeline import metrics
from otel_pipeline.errors import LabelError, MetricError


def counters(lib, registry):
    plain = lib.Counter("records", "Records", registry=registry)
    plain.inc()
    plain.inc(2)
    plain.inc(0.5)
    lib.Counter("jobs_total", "Jobs", namespace="etl", subsystem="load", registry=registry)
    labelled = lib.Counter("rejected", "Rejected", ["reason", "code"], registry=registry)
    labelled.labels("null", 7).inc(3)
    labelled.labels(code="7", reason="null").inc()
    labelled.labels("a\nb", 'q"uote\\').inc(exemplar={"trace_id": "abc"})
    reset = lib.Counter("sent", "Sent", unit="bytes", registry=registry)
    reset.inc(5)
    reset.reset()
    reset.inc(2)
    failures = lib.Counter("failures", "Failures", registry=registry)
    with pytest.raises(ValueError, match="bad"), failures.count_exceptions():
        raise ValueError("bad")
    with pytest.raises(KeyError), failures.count_exceptions((OSError, TypeError)):
        raise KeyError


def gauges(lib, registry):
    gauge = lib.Gauge("depth", "Depth", registry=registry, multiprocess_mode="all")
    gauge.inc()
    gauge.inc(4)
    gauge.dec(2.5)
    lib.Gauge("untouched", "Untouched", registry=registry)
    lib.Gauge("parent", "Parent without children", ["a"], registry=registry)
    child = lib.Gauge("size", "Size", ["queue"], unit="bytes", registry=registry)
    child.labels("a").set(3)
    child.labels("b")
    child.labels("c").set("2.5")
    lib.Gauge("live", "Live", registry=registry).set_function(lambda: 7)
    running = lib.Gauge("running", "Running", registry=registry, multiprocess_mode="livesum")
    with running.track_inprogress():
        pass


def histograms(lib, registry):
    default = lib.Histogram("took", "Took", unit="seconds", registry=registry)
    for amount in (0.005, 0.0050001, 0.3, 1, 10, 10.1, 99, float("inf")):
        default.observe(amount)
    own = lib.Histogram("size", "Size", ["kind"], buckets=[1, "5", 10], registry=registry)
    own.labels("a").observe(5, exemplar={"trace_id": "abc"})
    own.labels("a").observe(-3)
    own.labels("b")
    lib.Histogram("below", "Below 0", buckets=[-1, 0, 1], registry=registry).observe(-0.5)
    lib.Histogram("ends", "Ends", buckets=[1, float("inf")], registry=registry).observe(2)


def summaries(lib, registry):
    summary = lib.Summary("order", "Order", unit="bytes", registry=registry)
    summary.observe(512)
    summary.observe(0.5)
    labelled = lib.Summary("line", "Line", ["kind"], registry=registry)
    labelled.labels("a").observe(-1)
    labelled.labels("b")


def infos_and_enums(lib, registry):
    info = lib.Info("build", "Build", registry=registry)
    info.info({"version": "1"})
    info.info({"version": "1.2.3", "host": "a@b"})
    lib.Info("empty", "Empty", registry=registry)
    lib.Info("source", "Source", ["name"], registry=registry).labels("a").info({"url": "x"})
    lib.Enum("task", "Task", states=["idle", "running"], registry=registry)
    labelled = lib.Enum("stage", "Stage", ["name"], states=["a", "b"], registry=registry)
    labelled.labels("x").state("b")
    labelled.labels("y")


def removals(lib, registry):
    counter = lib.Counter("seen", "Seen", ["a", "b"], registry=registry)
    for a in "xyz":
        for b in "12":
            counter.labels(a, b).inc()
    counter.remove("x", 1)
    counter.remove("gone", "gone")
    counter.remove_by_labels({"a": "y"})
    counter.remove_by_labels({})
    cleared = lib.Gauge("cleared", "Cleared", ["a"], registry=registry)
    cleared.labels("x").set(1)
    cleared.clear()
    cleared.labels("y").set(2)
    plain = lib.Counter("plain", "Plain", registry=registry)
    plain.inc()
    plain.clear()


SCRIPTS = [counters, gauges, histograms, summaries, infos_and_enums, removals]


def families(registry):
    found = {}
    for family in registry.collect():
        samples = [
            (
                sample.name,
                tuple(sorted(sample.labels.items())),
                sample.value,
                sample.exemplar and (sample.exemplar.labels, sample.exemplar.value),
            )
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        found[family.name] = (family.type, family.documentation, family.unit, samples)
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_same_script_makes_the_same_families(script):
    """A program of prometheus_client's shows the same names, types, labels and values."""
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    script(prometheus_client, theirs)
    script(metrics, ours)
    assert families(ours) == families(theirs)


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_prometheus_client_renders_of_instruments_parses(script):
    """The text that prometheus_client makes of the instruments is text that its parser accepts."""
    registry = CollectorRegistry()
    script(metrics, registry)
    assert list(text_string_to_metric_families(generate_latest(registry).decode()))


def test_a_registry_of_prometheus_client_refuses_the_name_twice():
    """An instrument registers with prometheus_client's registry by its own rules."""
    registry = CollectorRegistry()
    metrics.Counter("records", "Records", registry=registry)
    with pytest.raises(ValueError, match="records"):
        metrics.Counter("records", "Records", registry=registry)


ERRORS = {
    "negative inc": lambda lib, r: lib.Counter("a", "", registry=r).inc(-1),
    "inc of a parent": lambda lib, r: lib.Counter("a", "", ["x"], registry=r).inc(),
    "count_exceptions of a parent": lambda lib, r: lib.Counter(
        "a", "", ["x"], registry=r
    ).count_exceptions(),
    "gauge inc of a parent": lambda lib, r: lib.Gauge(
        "a", "", ["x"], registry=r, multiprocess_mode="all"
    ).inc(),
    "gauge dec of a parent": lambda lib, r: lib.Gauge(
        "a", "", ["x"], registry=r, multiprocess_mode="all"
    ).dec(),
    "set of a parent": lambda lib, r: lib.Gauge("a", "", ["x"], registry=r).set(1),
    "set_function of a parent": lambda lib, r: lib.Gauge("a", "", ["x"], registry=r).set_function(
        lambda: 1
    ),
    "track_inprogress of a parent": lambda lib, r: lib.Gauge(
        "a", "", ["x"], registry=r
    ).track_inprogress(),
    "observe of a parent": lambda lib, r: lib.Histogram("a", "", ["x"], registry=r).observe(1),
    "summary of a parent": lambda lib, r: lib.Summary("a", "", ["x"], registry=r).observe(1),
    "state of a parent": lambda lib, r: lib.Enum("a", "", ["x"], states=["s"], registry=r).state(
        "s"
    ),
    "labels without names": lambda lib, r: lib.Counter("a", "", registry=r).labels("x"),
    "labels by name without names": lambda lib, r: lib.Counter("a", "", registry=r).labels(x="x"),
    "no labels at all": lambda lib, r: lib.Counter("a", "", ["x"], registry=r).labels(),
    "too few labels": lambda lib, r: lib.Counter("a", "", ["x", "y"], registry=r).labels("1"),
    "too many labels": lambda lib, r: lib.Counter("a", "", ["x"], registry=r).labels("1", "2"),
    "wrong label name": lambda lib, r: lib.Counter("a", "", ["x"], registry=r).labels(y="1"),
    "missing label name": lambda lib, r: lib.Counter("a", "", ["x", "y"], registry=r).labels(x="1"),
    "labels both ways": lambda lib, r: lib.Counter("a", "", ["x", "y"], registry=r).labels(
        "1", y="2"
    ),
    "chained labels": lambda lib, r: (
        lib.Counter("a", "", ["x"], registry=r).labels("1").labels("1")
    ),
    "chained labels by name": lambda lib, r: (
        lib.Counter("a", "", ["x"], registry=r).labels("1").labels(x="1")
    ),
    "remove without names": lambda lib, r: lib.Counter("a", "", registry=r).remove("x"),
    "remove with a wrong count": lambda lib, r: lib.Counter("a", "", ["x"], registry=r).remove(),
    "remove_by_labels without names": lambda lib, r: lib.Counter(
        "a", "", registry=r
    ).remove_by_labels({"x": "1"}),
    "remove_by_labels of an unknown name": lambda lib, r: lib.Counter(
        "a", "", ["x"], registry=r
    ).remove_by_labels({"y": "1"}),
    "no name": lambda lib, r: lib.Counter("", "", registry=r),
    "reserved label": lambda lib, r: lib.Counter("a", "", ["__x"], registry=r),
    "le": lambda lib, r: lib.Histogram("a", "", ["le"], registry=r),
    "quantile": lambda lib, r: lib.Summary("a", "", ["quantile"], registry=r),
    "enum's name as label": lambda lib, r: lib.Enum("a", "", ["a"], states=["s"], registry=r),
    "no states": lambda lib, r: lib.Enum("a", "", registry=r),
    "unknown state": lambda lib, r: lib.Enum("a", "", states=["s"], registry=r).state("t"),
    "unit of an info": lambda lib, r: lib.Info("a", "", unit="bytes", registry=r),
    "unit of an enum": lambda lib, r: lib.Enum("a", "", unit="b", states=["s"], registry=r),
    "unsorted buckets": lambda lib, r: lib.Histogram("a", "", buckets=[2, 1], registry=r),
    "no buckets": lambda lib, r: lib.Histogram("a", "", buckets=[], registry=r),
    "only infinity": lambda lib, r: lib.Histogram("a", "", buckets=[float("inf")], registry=r),
    "no number as bucket": lambda lib, r: lib.Histogram("a", "", buckets=["x"], registry=r),
    "unknown multiprocess mode": lambda lib, r: lib.Gauge(
        "a", "", registry=r, multiprocess_mode="average"
    ),
    "info over a label": lambda lib, r: (
        lib.Info("a", "", ["x"], registry=r).labels("1").info({"x": "2"})
    ),
    "info of None": lambda lib, r: lib.Info("a", "", registry=r).info({"x": None}),
    "long exemplar": lambda lib, r: lib.Counter("a", "", registry=r).inc(exemplar={"x": "y" * 128}),
    "long exemplar of a histogram": lambda lib, r: lib.Histogram("a", "", registry=r).observe(
        1, exemplar={"x": "y" * 128}
    ),
    "reserved exemplar label": lambda lib, r: lib.Counter("a", "", registry=r).inc(
        exemplar={"__x": "y"}
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_prometheus_client_refuses_is_refused(name):
    """Every misuse that is a ValueError there is one here, of the library's own kind."""
    with pytest.raises(ValueError):
        ERRORS[name](prometheus_client, CollectorRegistry())
    with pytest.raises(ValueError) as caught:
        ERRORS[name](metrics, metrics.Registry())
    if name != "no number as bucket":
        assert isinstance(caught.value, MetricError)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda lib: lib.Counter("a", "", registry=None).inc("1"),
        lambda lib: lib.Histogram("a", "", registry=None).observe("1"),
        lambda lib: lib.Summary("a", "", registry=None).observe(None),
        lambda lib: lib.Counter("a", "", ["x"], registry=None).remove_by_labels(["x"]),
    ],
    ids=["inc", "histogram", "summary", "remove_by_labels"],
)
def test_what_is_a_type_error_there_is_one_here(misuse):
    """A value of a wrong type is a TypeError, as in prometheus_client."""
    for lib in (prometheus_client, metrics):
        with pytest.raises(TypeError):
            misuse(lib)


def test_a_parent_cannot_be_used_where_prometheus_client_breaks_down():
    """What is an AttributeError there is a clear error here."""
    with pytest.raises(LabelError, match="missing label values"):
        metrics.Info("a", "", ["x"], registry=None).info({"y": "z"})
    counter = metrics.Counter("a", "", ["x"], registry=None)
    for misuse in (counter.reset, lambda: counter.attach_cell([0]), lambda: counter.fold_cell([0])):
        with pytest.raises(LabelError, match="missing label values"):
            misuse()


def test_every_multiprocess_mode_of_prometheus_client_is_known():
    """Its words for many processes are accepted, and kept for the reader."""
    for mode in prometheus_client.Gauge._MULTIPROC_MODES:
        registry = metrics.Registry()
        metrics.Gauge("a", "", registry=registry, multiprocess_mode=mode)
        assert registry.collect()[0].multiprocess_mode == mode


def test_arguments_can_be_given_by_position():
    """The constructors take the arguments in prometheus_client's order."""
    for lib in (prometheus_client, metrics):
        counter = lib.Counter("n", "doc", ["x"], "space", "sub", "bytes", CollectorRegistry())
        assert str(counter) == "counter:space_sub_n_bytes"
        assert "space_sub_n_bytes" in repr(counter)


def test_a_child_is_an_instrument_of_the_same_class():
    """Code that asks for the class of a child finds the metric's own."""
    counter = metrics.Counter("a", "", ["x"], registry=metrics.Registry())
    child = counter.labels("1")
    assert isinstance(child, metrics.Counter)
    assert child is counter.labels("1") is counter.labels(x="1")
    assert repr(child) == "Counter('a', ('1',))"


def test_a_subclass_makes_children_of_its_own():
    """A user's subclass keeps its methods on the children."""

    class Loud(metrics.Counter):
        def shout(self):
            self.inc(10)

    registry: Any = metrics.Registry()
    Loud("a", "", ["x"], registry=registry).labels("1").shout()
    assert registry.collect()[0].points[0].value == 10
