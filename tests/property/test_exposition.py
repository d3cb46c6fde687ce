"""The page of metrics is valid and says what was recorded, whatever names and values were tried."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_pipeline.metrics import Counter, Histogram, Registry
from otel_pipeline.metrics.compat import metric
from otel_pipeline.metrics.snapshots import (
    EnumPoint,
    Exemplar,
    Family,
    HistogramPoint,
    InfoPoint,
    Point,
    SummaryPoint,
)
from otel_pipeline.sdk.prometheus import Exposition
from otel_pipeline.sdk.sdk_reader import SnapshotReader

OPENMETRICS = "application/openmetrics-text"

#: All of Unicode but what has no UTF-8.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
#: Lone surrogates and NUL as well.
WILD_TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)
LABEL_NAMES = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,3}", fullmatch=True)
NUMBERS = st.integers(-(10**20), 10**20) | st.floats()
#: What a counter and a sum should be: OpenMetrics knows no others.
TOTALS = st.integers(0, 10**20) | st.floats(0, allow_nan=False)
COUNTS = st.integers(0, 10**12)
EXEMPLARS = st.none() | st.builds(
    Exemplar,
    value=st.floats(),
    time=st.floats(0, 1e10),
    labels=st.dictionaries(LABEL_NAMES, TEXTS, max_size=2).map(lambda d: tuple(d.items())),
) | st.just(Exemplar(1, 2.0, "0" * 31 + "1", "0" * 15 + "1"))  # fmt: skip


@st.composite
def families(draw: Any, totals: Any = TOTALS) -> Family:
    """A family of any kind, as a registry may give it; `totals` are those of counters and sums."""
    kind = draw(st.sampled_from(["counter", "gauge", "histogram", "summary", "info", "enum"]))
    # Without colons: prometheus_client replaces them in samples, and keeps them in their heads.
    name = draw(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True))
    reserved = {name, "le", "quantile"}
    names = draw(st.lists(LABEL_NAMES.filter(lambda n: n not in reserved), unique=True, max_size=3))
    bounds = tuple(sorted(draw(st.sets(st.floats(0, 1e9), min_size=1, max_size=3))))
    states = tuple(draw(st.lists(TEXTS, min_size=1, max_size=3, unique=True)))
    info = st.dictionaries(LABEL_NAMES.filter(lambda n: n not in names), TEXTS, max_size=2)

    def points(labels: tuple[str, ...]) -> Any:
        match kind:
            case "counter" | "gauge":
                noted = EXEMPLARS if kind == "counter" else st.none()
                values = totals if kind == "counter" else NUMBERS
                return st.builds(Point, st.just(labels), values, st.just(0), noted)
            case "histogram":
                width = len(bounds) + 1
                return st.builds(
                    HistogramPoint,
                    st.just(labels),
                    st.tuples(*[COUNTS] * width),
                    totals,
                    st.just(0),
                    st.tuples(*[EXEMPLARS] * width),
                )
            case "summary":
                return st.builds(SummaryPoint, st.just(labels), COUNTS, totals, st.just(0))
            case "info":
                return st.builds(InfoPoint, st.just(labels), info)
            case _:
                return st.builds(EnumPoint, st.just(labels), st.sampled_from(states))

    sets = draw(st.lists(st.tuples(*[TEXTS] * len(names)), unique=True, max_size=3))
    made = tuple(draw(points(labels)) for labels in sets)
    return Family(name, kind, draw(TEXTS), "", tuple(names), made, name, "", bounds, states)


class Collector:
    """A family as a registry of prometheus_client's."""

    def __init__(self, family: Family) -> None:
        self._metric = metric(family, samples=True)

    def collect(self) -> list[Any]:
        return [self._metric]


@given(families())
def test_both_formats_equal_those_of_prometheus_client(family: Family) -> None:
    """The same data gives the same bytes."""
    exposition = Exposition(lambda: [family])
    assert exposition.render()[0] == generate_latest(Collector(family))
    assert exposition.render(OPENMETRICS)[0] == generate_openmetrics(Collector(family))


@given(families(totals=NUMBERS))
def test_both_formats_are_read_whatever_was_added_up(family: Family) -> None:
    """Negative sums and NaN, which OpenMetrics cannot carry, are left out there."""
    exposition = Exposition(lambda: [family])
    list(parse_text(exposition.render()[0].decode()))
    list(parse_openmetrics(exposition.render(OPENMETRICS)[0].decode()))


@given(
    st.dictionaries(st.tuples(WILD_TEXTS, WILD_TEXTS), st.integers(0, 2**53), max_size=4),
    WILD_TEXTS,
)
def test_what_instruments_recorded_is_read_back(
    counts: dict[tuple[str, str], int], documentation: str
) -> None:
    """Every label value and number is found again, but for characters that have no UTF-8."""
    registry = Registry()
    counter = Counter("jobs", documentation, ["le", "z"], registry=registry)
    expected: dict[tuple[str, ...], int] = {}
    for labels, amount in counts.items():
        counter.labels(*labels).inc(amount)
        shown = tuple(re.sub("[\0\ud800-\udfff]", "\ufffd", value) for value in labels)
        expected[shown] = expected.get(shown, 0) + amount
    exposition = Exposition(registry.collect)
    for parse, accept in ((parse_text, ""), (parse_openmetrics, OPENMETRICS)):
        (found,) = parse(exposition.render(accept)[0].decode())
        read = {(s.labels["le"], s.labels["z"]): s.value for s in found.samples}
        assert read == expected


@given(
    st.lists(st.floats(0, allow_nan=False), max_size=8), st.sets(st.floats(0, 1e300), min_size=1)
)
def test_what_a_histogram_observed_is_read_back(values: list[float], bounds: set[float]) -> None:
    """Each bucket has the number of values at or below its bound."""
    registry = Registry()
    histogram = Histogram("size", "Sizes", buckets=sorted(bounds), registry=registry)
    for value in values:
        histogram.observe(value)
    body = Exposition(registry.collect).render(OPENMETRICS)[0].decode()
    (found,) = parse_openmetrics(body)
    read = {float(s.labels["le"]): s.value for s in found.samples if s.name == "size_bucket"}
    assert read == {bound: sum(value <= bound for value in values) for bound in (*bounds, math.inf)}


SDK_NAMES = st.from_regex(r"[a-zA-Z][-_./a-zA-Z0-9]{0,6}", fullmatch=True) | st.sampled_from(
    ["jobs", "jobs.done", "jobs_done", "jobs_done_total", "jobs.done_seconds", "target", "jobs_sum"]
)
UNITS = st.sampled_from(["", "1", "s", "By", "{job}", "m/s", "{job}/s", "%"]) | st.text(
    st.characters(max_codepoint=127), max_size=4
)
KEYS = st.sampled_from(["k.a", "k_a", "k a", "le", "quantile", "__name__", "é", "ü", "1"]) | TEXTS
VALUES = WILD_TEXTS | st.integers() | st.booleans() | st.floats() | st.lists(TEXTS, max_size=2)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=3)
RECORDINGS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["counter", "updown", "gauge", "histogram", "exponential"]),
        SDK_NAMES,
        UNITS,
        ATTRIBUTES,
        st.integers(0, 1000),
    ),
    max_size=8,
)


class Sdk:
    """A real provider, and the page of what it holds."""

    def __init__(self) -> None:
        view = View(
            instrument_name="exponential*", aggregation=ExponentialBucketHistogramAggregation()
        )
        self.provider = MeterProvider(shutdown_on_exit=False, views=[view])
        self.reader = SnapshotReader()
        self.provider.add_metric_reader(self.reader)
        self.exposition = Exposition(list)
        self.exposition.attach(self.reader, None)

    def record(  # noqa: PLR0917
        self, scope: str, kind: str, name: str, unit: str, attributes: Any, value: int
    ) -> None:
        meter = self.provider.get_meter(scope)
        match kind:
            case "counter":
                meter.create_counter(name, unit).add(value, attributes)
            case "updown":
                meter.create_up_down_counter(name, unit).add(-value, attributes)
            case "gauge":
                meter.create_gauge(name, unit).set(value, attributes)
            case "histogram":
                meter.create_histogram(name, unit).record(value, attributes)
            case _:
                meter.create_histogram(f"exponential.{name}", unit).record(value, attributes)

    def parsed(self) -> list[list[Any]]:
        return [
            list(parse_text(self.exposition.render()[0].decode())),
            list(parse_openmetrics(self.exposition.render(OPENMETRICS)[0].decode())),
        ]


@given(RECORDINGS)
def test_whatever_the_sdk_recorded_the_page_is_valid(recordings: list[Any]) -> None:
    """Both parsers take it, no family and no series is there twice, and nothing is a label `__`."""
    sdk = Sdk()
    for recording in recordings:
        sdk.record(*recording)
    for found in sdk.parsed():
        names = [family.name for family in found]
        assert len(names) == len(set(names))
        series = [
            (sample.name, *sorted(sample.labels.items()))
            for family in found
            for sample in family.samples
        ]
        assert len(series) == len(set(series))
        labels = {name for family in found for s in family.samples for name in s.labels}
        assert not any(name.startswith("__") for name in labels)
        assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) for name in labels)
    sdk.provider.shutdown()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.just("counter"),
            st.sampled_from(["jobs", "jobs.done", "jobs_done", "jobs/done", "jobs.done.total"]),
            st.sampled_from(["", "1", "s", "{job}", "m/s"]),
            ATTRIBUTES,
            st.integers(0, 1000),
        ),
        max_size=8,
    )
)
def test_no_count_gets_lost_when_names_and_labels_collide(recordings: list[Any]) -> None:
    """Series that become one keep their sum."""
    sdk = Sdk()
    for recording in recordings:
        sdk.record(*recording)
    expected = sum(recording[-1] for recording in recordings)
    for found in sdk.parsed():
        samples = itertools.chain.from_iterable(family.samples for family in found)
        assert sum(sample.value for sample in samples) == expected
    sdk.provider.shutdown()
