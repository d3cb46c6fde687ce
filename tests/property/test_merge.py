"""The sum over processes is the same however it is made up, and always a valid page."""

from __future__ import annotations

import json
import re
from functools import partial
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_pipeline.metrics.merge import Snapshot, dump, load, merge
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

MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent",
         "livemostrecent"]  # fmt: skip

#: All of Unicode with lone surrogates; two that make a pair are one character in JSON.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=5).filter(
    lambda text: not re.search("[\ud800-\udbff][\udc00-\udfff]", text)
)
COUNTS = st.integers(0, 2**63 - 1)
#: Times that differ, so that there is one latest.
TIMES = st.integers(1, 10**9).map(float)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats()
EXEMPLARS = st.none() | st.builds(
    Exemplar,
    NUMBERS,
    TIMES,
    st.sampled_from(["", "1" * 32]),
    st.sampled_from(["", "2" * 16]),
    st.lists(st.tuples(TEXTS, TEXTS), max_size=2, unique_by=lambda pair: pair[0]).map(tuple),
)


def points(kind: str, labels: tuple[str, ...], width: int, numbers: Any, exemplars: Any) -> Any:
    at = partial(st.builds, labels=st.just(labels))
    starts = st.integers(0, 2**62)
    match kind:
        case "counter":
            return at(Point, value=numbers, start=starts, exemplar=exemplars)
        case "gauge":
            return at(Point, value=numbers, start=starts, changed=TIMES | st.just(0.0))
        case "histogram":
            return at(
                HistogramPoint,
                counts=st.tuples(*[COUNTS] * (width + 1)),
                sum=numbers,
                start=starts,
                exemplars=st.tuples(*[exemplars] * (width + 1)),
            )
        case "summary":
            return at(SummaryPoint, count=COUNTS, sum=numbers, start=starts)
        case "info":
            infos = st.dictionaries(st.sampled_from(["x", "y"]), TEXTS, max_size=2)
            return at(InfoPoint, info=infos, changed=TIMES | st.just(0.0))
        case _:
            return at(EnumPoint, state=st.sampled_from(["a", "b"]), changed=TIMES | st.just(0.0))


@st.composite
def families(draw: Any, numbers: Any = NUMBERS, exemplars: Any = EXEMPLARS) -> Family:
    """A family of any kind and shape, of which there are few, so that processes have the same."""
    name = draw(st.sampled_from(["m", "m_total", "m_count"]))
    kind = draw(st.sampled_from(["counter", "gauge", "histogram", "summary", "info", "enum"]))
    labelnames = draw(st.sampled_from([(), ("k",), ("k", "pid")]))
    bounds = draw(st.sampled_from([(1.0,), (1.0, 2.0), (-1.0, 2.0)])) if kind == "histogram" else ()
    values = st.sampled_from(["a", "b", "\udc80", 'q"\\\n']) | TEXTS
    sets = draw(st.lists(st.tuples(*[values] * len(labelnames)), unique=True, max_size=3))
    made = tuple(draw(points(kind, labels, len(bounds), numbers, exemplars)) for labels in sets)
    return Family(
        name, kind, draw(TEXTS), "", labelnames, made, name, "", bounds,
        states=("a", "b") if kind == "enum" else (),
        multiprocess_mode=draw(st.sampled_from(MODES)) if kind == "gauge" else "mostrecent",
        from_sdk=draw(st.booleans()),
    )  # fmt: skip


@settings(max_examples=50)
@given(st.lists(families(), max_size=3))
def test_what_is_dumped_is_loaded(several: list[Family]) -> None:
    """Any number and any text travels to another process unchanged."""
    assert repr(load(json.loads(json.dumps(dump(several))))) == repr(several)


PLAIN = families(numbers=st.integers(0, 99), exemplars=st.none())


@settings(max_examples=50)
@given(st.lists(st.tuples(st.lists(PLAIN, max_size=3), st.booleans()), max_size=3))
def test_the_page_is_valid_whatever_processes_declare(
    processes: list[tuple[list[Family], bool]],
) -> None:
    """Both parsers take it, and no family and no series is there twice."""
    snapshots = []
    for pid, (several, alive) in enumerate(processes):
        # In one process a name is declared once.
        own = {(one.from_sdk, one.name): one for one in several}.values()
        snapshots.append(Snapshot(tuple(own), pid, alive=alive))
    exposition = Exposition(lambda: merge(snapshots))
    for accept, parse in (
        ("", parse_text),
        ("application/openmetrics-text", parse_openmetrics),
    ):
        found = list(parse(exposition.render(accept)[0].decode()))
        names = [one.name for one in found]
        assert len(names) == len(set(names))
        series = [
            (sample.name, *sorted(sample.labels.items())) for one in found for sample in one.samples
        ]
        # What has no UTF-8 is replaced, and what differed in it only is alike then.
        if not any("\ufffd" in str(labels) for labels in series):
            assert len(series) == len(set(series))


SHAPES: dict[str, tuple[Any, str]] = {
    **{kind: (kind, "mostrecent") for kind in ("counter", "histogram", "summary", "info", "enum")},
    **{f"gauge_{mode}": ("gauge", mode) for mode in MODES},
}


def processes(random: Random) -> list[Snapshot]:
    """Processes of one program, which declare the same and have counted what they like."""
    times = iter(random.sample(range(1, 10_000), 1000))  # no two things happen at the same time

    def exemplar() -> Exemplar | None:
        return random.choice([None, Exemplar(1, next(times))])

    def point(kind: str, labels: tuple[str, ...]) -> Any:
        # Sums of floats depend on their order in the last bit, so numbers are whole.
        value, changed = random.randrange(-(2**63), 2**63), float(next(times))
        match kind:
            case "counter":
                return Point(labels, value, random.randrange(99), exemplar())
            case "gauge":
                return Point(labels, value, 0, changed=changed)
            case "histogram":
                counts = random.randrange(9), random.randrange(9)
                start = random.randrange(99)
                return HistogramPoint(labels, counts, value, start, (exemplar(), exemplar()))
            case "summary":
                return SummaryPoint(labels, random.randrange(9), value, random.randrange(99))
            case "info":
                return InfoPoint(labels, {"version": str(value)}, changed)
            case _:
                return EnumPoint(labels, random.choice("ab"), changed)

    def family(name: str) -> Family:
        kind, mode = SHAPES[name]
        labels = [(label,) for label in "abc" if random.random() < 0.5]
        return Family(
            name, kind, "", "", ("k",), tuple([point(kind, each) for each in labels]), name, "",
            bounds=(1.0,) if kind == "histogram" else (),
            states=("a", "b") if kind == "enum" else (),
            multiprocess_mode=mode,
        )  # fmt: skip

    return [
        Snapshot([family(name) for name in SHAPES], pid, alive=random.random() < 0.5)
        for pid in range(random.randrange(1, 6))
    ]


def values(merged: list[Family]) -> dict[str, Any]:
    """What the families say, whatever their order and that of their series."""
    return {one.name: sorted(map(repr, one.points)) for one in merged if one.points}


@given(st.integers())
def test_the_sum_is_the_same_in_any_order_and_grouping(seed: int) -> None:
    """Ended ones may be folded first, one by one or together, and all may come in any order."""
    random = Random(seed)
    made = processes(random)
    expected = values(merge(made))
    living = [one for one in made if one.alive]
    ended = [one for one in made if not one.alive]
    assert values(merge(random.sample(made, len(made)))) == expected
    assert values(merge([*living, Snapshot(merge(ended), alive=False)])) == expected
    folded: list[Family] = []
    for one in random.sample(ended, len(ended)):
        folded = merge([Snapshot(folded, alive=False), one])
        folded = load(json.loads(json.dumps(dump(folded))))
    assert values(merge([*living, Snapshot(folded, alive=False)])) == expected
