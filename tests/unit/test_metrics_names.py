"""Names are checked when a metric is declared, and translate to OpenTelemetry and back."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from otel_pipeline.errors import DuplicateMetricError, LabelError, MetricError, MetricNameError
from otel_pipeline.metrics import Counter, Enum, Gauge, Histogram, Info, Registry
from otel_pipeline.metrics.names import exposed_name, family_name, label_text, otel_name


@pytest.mark.parametrize("name", ["1st", "a-b", "a b", "é", "a.b", "a\n", "a\0", "٣", "\ud800"])
def test_a_name_that_prometheus_cannot_carry_is_refused(name):
    """The error says the name, what is allowed, and what to do."""
    with pytest.raises(MetricNameError, match="Rename the metric"):
        Counter(name, "", registry=Registry())


@pytest.mark.parametrize("name", ["1st", "a-b", "", "é", "a:b", "a\n", "__name__", "__x", "\ud800"])
def test_a_label_name_that_prometheus_cannot_carry_is_refused(name):
    """The error names the metric and the label."""
    with pytest.raises(MetricNameError, match=r"^m: "):
        Counter("m", "", [name], registry=Registry())


def test_a_label_name_twice_is_refused():
    """Two labels of one name would make a line that Prometheus refuses."""
    with pytest.raises(LabelError, match="twice"):
        Counter("m", "", ["a", "b", "a"], registry=Registry())


def test_names_of_info_pairs_are_checked():
    """The keys of an info are label names, and refused as such."""
    info = Info("m", "", registry=Registry())
    with pytest.raises(MetricNameError):
        info.info({"no-name": "x"})


def test_an_enum_must_have_a_name_that_is_a_label_name():
    """The states of an enum stand in a label of its own name."""
    with pytest.raises(MetricNameError):
        Enum("a:b", "", states=["x"], registry=Registry())


def test_a_state_twice_is_refused():
    """Two equal states would show one series twice."""
    with pytest.raises(MetricError, match="twice"):
        Enum("m", "", states=["x", "x"], registry=Registry())


@pytest.mark.parametrize("buckets", [[1, 1], [1, float("nan")], [float("-inf"), 1], [1, 2, 1.5]])
def test_buckets_that_would_break_the_page_are_refused(buckets):
    """A bound twice, or one that is no number, is an error where it is declared."""
    with pytest.raises(MetricError, match="sorted"):
        Histogram("m", "", buckets=buckets, registry=Registry())


def test_names_are_put_together_as_prometheus_client_does():
    """Namespace, subsystem and unit are joined, and nothing is there twice."""
    assert family_name("counter", "x_total", "a", "b", "bytes") == "a_b_x_bytes"
    assert family_name("counter", "x_bytes_total", "", "", "bytes") == "x_bytes"
    assert family_name("gauge", "x_total", "", "", "") == "x_total"
    assert [exposed_name("x", kind) for kind in ("counter", "info", "gauge")] == [
        "x_total",
        "x_info",
        "x",
    ]


@pytest.mark.parametrize(
    ("family", "unit", "kind", "expected"),
    [
        ("load_seconds", "seconds", "histogram", ("load", "s")),
        ("sent_bytes", "bytes", "counter", ("sent", "By")),
        ("fill_ratio", "ratio", "gauge", ("fill", "1")),
        ("fill_ratio", "ratio", "counter", ("fill_ratio", "")),
        ("wait_milliseconds", "milliseconds", "gauge", ("wait", "ms")),
        ("load_seconds", "", "gauge", ("load_seconds", "")),
        ("cats_paws", "paws", "gauge", ("cats_paws", "")),
        ("seconds_late_seconds", "seconds", "gauge", ("seconds_late_seconds", "s")),
        ("seconds_seconds", "seconds", "gauge", ("seconds_seconds", "s")),
        ("disk_kilobytes", "kilobytes", "gauge", ("disk_kilobytes", "")),
    ],
)
def test_only_a_declared_and_known_unit_leaves_the_name(family, unit, kind, expected):
    """OpenTelemetry gets the unit as a unit, if Prometheus can put it back."""
    assert otel_name(family, unit, kind) == expected


def test_a_collect_tells_both_names():
    """A family carries the names for either way out."""
    registry = Registry()
    Counter("sent", "Sent", unit="bytes", registry=registry)
    (family,) = registry.collect()
    assert (family.name, family.unit) == ("sent_bytes", "bytes")
    assert (family.otel_name, family.otel_unit) == ("sent", "By")


class Broken:
    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("plain", "plain", id="text"),
        pytest.param(7, "7", id="int"),
        pytest.param(None, "None", id="none"),
        pytest.param(True, "True", id="bool"),
        pytest.param(Broken(), "<unprintable Broken>", id="broken"),
        pytest.param("a\0b", "a\ufffdb", id="nul"),
        pytest.param("\ud800é", "\ufffdé", id="surrogate"),
    ],
)
def test_any_label_value_becomes_text_that_a_page_can_carry(value, expected):
    """A broken value never reaches the user's program, nor the page."""
    assert label_text(value) == expected
    registry = Registry()
    gauge = Gauge("m", "", ["a"], registry=registry)
    gauge.labels(value).set(1)
    assert gauge.labels(value) is gauge.labels(a=value)
    assert registry.collect()[0].points[0].labels == (expected,)


def test_equal_values_of_other_types_keep_their_own_text():
    """1, True and "1" are told apart by what they look like, whichever came first."""
    registry: Any = Registry()
    counter = Counter("m", "", ["a"], registry=registry)
    for value in ("1", 1, True, 1.0):
        counter.labels(value).inc()
    assert {p.labels[0]: p.value for p in registry.collect()[0].points} == {
        "1": 2,
        "True": 1,
        "1.0": 1,
    }


def test_text_of_another_class_is_what_its_str_says():
    """An enum that equals a text has a text of its own, as in prometheus_client."""

    class Colour(str, enum.Enum):  # noqa: UP042  the kind whose text is its name
        RED = "red"

    registry: Any = Registry()
    counter = Counter("m", "", ["a"], registry=registry)
    counter.labels("red").inc()
    counter.labels(Colour.RED).inc(2)
    assert [(p.labels[0], p.value) for p in registry.collect()[0].points] == [
        ("red", 1),
        ("Colour.RED", 2),
    ]


def test_label_text_is_a_plain_string():
    """A class of the user's never stays behind in a label."""

    class Text(str):
        __slots__ = ()

        def __str__(self):
            return self

    assert type(label_text(Text("a"))) is str


def test_the_name_of_the_resource_is_refused():
    """`target_info` stands for the resource on each page."""
    for declare in (
        lambda r: Info("target", "", registry=r),
        lambda r: Gauge("target_info", "", registry=r),
    ):
        with pytest.raises(DuplicateMetricError, match="resource"):
            declare(Registry())
