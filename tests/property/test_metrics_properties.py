"""Whatever names, labels and values a program tries, what is collected is right."""

from __future__ import annotations

import functools
import math
import operator
import re
from bisect import bisect_left
from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otel_pipeline import diagnostics, metrics
from otel_pipeline.errors import MetricError
from otel_pipeline.metrics.cardinality import Guard
from otel_pipeline.metrics.names import family_name, label_text, otel_name
from otel_pipeline.metrics.replay import representatives
from otel_pipeline.semconv import OTHER

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,12}", fullmatch=True)
LABEL_NAMES = NAMES.filter(lambda name: not name.startswith("__"))
FINITE = st.floats(-1e12, 1e12) | st.integers(-(10**12), 10**12)
UNITS = st.sampled_from(
    ["", "seconds", "bytes", "ratio", "percent", "kilobytes", "days", "widgets", "grams"]
)
KINDS = st.sampled_from(["counter", "gauge", "histogram", "summary"])
METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@given(ANY_TEXT | NAMES, st.lists(ANY_TEXT | LABEL_NAMES, max_size=3))
def test_a_declaration_is_refused_or_can_be_shown(name, labelnames):
    """A name is either an error of the library's own, or one that a page carries."""
    registry = CollectorRegistry()
    try:
        counter = metrics.Counter(name, "doc", labelnames, registry=registry)
    except MetricError:
        return
    child = counter.labels(*labelnames) if labelnames else counter
    child.inc(2)
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    (sample,) = family.samples
    assert METRIC.fullmatch(sample.name)
    assert sample.labels == {name: label_text(name) for name in labelnames}
    assert sample.value == 2


@given(NAMES, NAMES | st.just(""), UNITS, KINDS)
def test_names_are_prometheus_client_s(name, namespace, unit, kind):
    """A name, put together from its parts, is the one that prometheus_client makes."""
    theirs = getattr(prometheus_client, kind.title())(
        name, "", namespace=namespace, unit=unit, registry=None
    )
    assert family_name(kind, name, namespace, "", unit) == theirs._name


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT | st.integers() | st.none()), max_size=20))
def test_label_values_come_back_as_they_went_in(values):
    """Any value is shown, what no page can carry as a mark, and equal texts are one series."""
    registry = CollectorRegistry()
    counter = metrics.Counter("c", "", ["a", "b"], registry=registry)
    expected: dict[tuple[str, str], int] = {}
    for a, b in values:
        counter.labels(a, b).inc()
        key = (label_text(a), label_text(b))
        expected[key] = expected.get(key, 0) + 1
    page = generate_latest(registry).decode()
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
    assert {(s.labels["a"], s.labels["b"]): s.value for s in samples} == expected


@given(ANY_TEXT)
def test_text_of_labels_can_always_be_encoded(text):
    """What comes out is UTF-8 without NUL, and clean text is unchanged."""
    shown = label_text(text)
    shown.encode()
    assert "\0" not in shown
    assert label_text(shown) == shown
    assert len(shown) == len(text)


@given(st.lists(FINITE.filter(lambda amount: amount >= 0)))
def test_a_counter_is_the_sum(amounts):
    """Whole amounts add up exactly, and others as Python adds them."""
    registry: Any = metrics.Registry()
    counter = metrics.Counter("c", "", registry=registry)
    for amount in amounts:
        counter.inc(amount)
    value = registry.collect()[0].points[0].value
    total = functools.reduce(operator.add, amounts, 0)  # newer sum() corrects rounding errors
    assert value == total
    assert type(value) is type(total)


@given(
    st.lists(FINITE | st.sampled_from([math.nan, math.inf, -math.inf])),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8, unique=True).map(sorted),
)
def test_a_histogram_counts_each_amount_in_its_bucket(amounts, bounds):
    """A bound belongs to its bucket, NaN to the last one."""
    registry: Any = metrics.Registry()
    histogram = metrics.Histogram("h", "", buckets=bounds, registry=registry)
    expected = [0] * (len(bounds) + 1)
    for amount in amounts:
        histogram.observe(amount)
        expected[len(bounds) if math.isnan(amount) else bisect_left(bounds, amount)] += 1
    (point,) = registry.collect()[0].points
    assert point.counts == tuple(expected)
    assert point.sum == pytest.approx(sum(amounts), nan_ok=True)


@given(
    st.lists(st.floats(0, 1e6), max_size=50), st.sampled_from([[1.0], [0.0, 5.0], [0.1, 10, 1e5]])
)
def test_a_replay_rebuilds_counts_and_sum(amounts, bounds):
    """The values that are handed on fall into the same buckets and give the same sum."""
    counts = [0] * (len(bounds) + 1)
    for amount in amounts:
        counts[bisect_left(bounds, amount)] += 1
    rebuilt = [0] * (len(bounds) + 1)
    total = 0.0
    for value, count in representatives(counts, bounds, sum(amounts)):
        assert value >= 0
        rebuilt[bisect_left(bounds, value)] += count
        total += value * count
    assert rebuilt == counts
    assert total == pytest.approx(sum(amounts), rel=1e-9, abs=1e-9)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5).map(str),  # pipeline
            st.integers(0, 200).map(str),
            st.integers(0, 3).map(str),
        ),
        max_size=300,
    ),
    st.integers(1, 30),
)
def test_folding_keeps_totals_and_narrow_labels(label_sets, limit):
    """Whatever is folded, each measurement is counted once, under its own narrow labels."""
    diagnostics.LOGGER.disabled = True
    try:
        registry: Any = metrics.Registry()
        registry.limit = limit
        counter = metrics.Counter("c", "", ["pipeline", "user", "status"], registry=registry)
        for label_set in label_sets:
            counter.labels(*label_set).inc()
    finally:
        diagnostics.LOGGER.disabled = False
    points = registry.collect()[0].points
    if len(points) < 10 * limit:
        for column in (0, 2):
            assert _by(column, {p.labels: p.value for p in points}) == _by(
                column, {label_set: label_sets.count(label_set) for label_set in label_sets}
            )
    assert sum(p.value for p in points) == len(label_sets)
    assert len(points) <= 10 * limit + 1


def _by(column, values):
    totals: dict[str, float] = {}
    for labels, value in values.items():
        totals[labels[column]] = totals.get(labels[column], 0) + value
    return totals


@given(st.sets(st.tuples(ANY_TEXT, ANY_TEXT)), st.tuples(ANY_TEXT, ANY_TEXT), st.integers(1, 10))
def test_a_place_is_itself_or_folded(existing, new, limit):
    """The guard changes a label to the mark or not at all, and is of one mind."""
    guard = Guard(("a", "b"), {})
    placed = guard.place(new, existing, limit)
    assert all(now in {before, OTHER} for now, before in zip(placed, new, strict=True))
    assert guard.place(new, existing, limit) == placed
    assert placed == new or len(existing) >= limit


# Prometheus's own way from OpenTelemetry's names back to those of a page: the words of a name are
# split, the unit's word is put last unless it is there, and so is the ending of the kind.
_WORDS = {"s": "seconds", "By": "bytes", "%": "percent", "d": "days", "g": "grams"}


def translated(name, unit, kind):
    words = [word for word in re.split(r"[^a-zA-Z0-9:]+", name) if word]
    unit_word = _WORDS.get(unit, "" if unit == "1" else unit)
    if unit_word and unit_word not in words:
        words.append(unit_word)
    for ending in (["total"] if kind == "counter" else []) + (
        ["ratio"] if (unit, kind) == ("1", "gauge") else []
    ):
        words = [word for word in words if word != ending] + [ending]
    return "_".join(words)


@given(
    st.lists(
        st.sampled_from(["load", "seconds", "bytes", "grams", "days", "x1", "ratio"]),
        min_size=1,
        max_size=4,
    ),
    UNITS,
    KINDS,
)
def test_a_name_survives_the_way_through_otlp(words, unit, kind):
    """Prometheus's OTLP receiver arrives at the name that the page shows."""
    family = family_name(kind, "_".join(words), "", "", unit)
    shown = f"{family}_total" if kind == "counter" else family
    assert translated(*otel_name(family, unit, kind), kind) == shown
