"""What several processes have becomes what one process would have."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_pipeline import diagnostics
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

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def family(kind: Any, *points: Any, name: str = "jobs", **fields: Any) -> Family:
    fields = {"labelnames": (), "documentation": "", "unit": "", **fields}
    return Family(name, kind, points=points, otel_name=name, otel_unit="", **fields)


def histogram(*points: HistogramPoint, **fields: Any) -> Family:
    return family("histogram", *points, **{"name": "h", "bounds": (1.0,), **fields})


def page(families: Iterable[Family]) -> dict[str, float]:
    """Return the series of a page that both formats have, by their text."""
    exposition = Exposition(lambda: families)
    list(parse_openmetrics(exposition.render("application/openmetrics-text")[0].decode()))
    text = exposition.render()[0].decode()
    list(parse_text(text))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


def test_what_counts_adds_up() -> None:
    """Counters, histograms by bucket and summaries are sums; counting began with the first."""
    first = [
        family("counter", Point(("a",), 3, 20), labelnames=("k",)),
        histogram(HistogramPoint((), (1, 2), 1.5, 20, (None, None))),
        family("summary", SummaryPoint((), 2, 7, 20), name="s"),
    ]
    second = [
        family("counter", Point(("a",), 4, 10), Point(("b",), 1, 10), labelnames=("k",)),
        histogram(HistogramPoint((), (4, 0), 0.5, 10, (None, None))),
        family("summary", SummaryPoint((), 1, 5, 30), name="s"),
    ]
    assert merge([Snapshot(first, 1), Snapshot(second, alive=False)]) == [
        family("counter", Point(("a",), 7, 10), Point(("b",), 1, 10), labelnames=("k",)),
        histogram(HistogramPoint((), (5, 2), 2.0, 10, (None, None))),
        family("summary", SummaryPoint((), 3, 12, 20), name="s"),
    ]


MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent",
         "livemostrecent"]  # fmt: skip

ORACLE = """
import json, os, subprocess, sys, time
from prometheus_client import CollectorRegistry, Gauge, generate_latest, multiprocess
if sys.argv[1:]:
    for mode in json.loads(sys.argv[1]):
        gauge = Gauge(f"g_{mode}", "help", ["k"], multiprocess_mode=mode)
        for label, value in json.loads(sys.argv[2]).items():
            gauge.labels(label).set(value)
    print(os.getpid())
else:
    modes, values, dead = json.load(sys.stdin)
    pids = []
    for each in values:
        command = [sys.executable, __file__, json.dumps(modes), json.dumps(each)]
        pids.append(int(subprocess.check_output(command)))
    for index in dead:
        multiprocess.mark_process_dead(pids[index])
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    print(json.dumps([pids, generate_latest(registry).decode()]))
"""


def test_gauges_become_what_prometheus_client_makes_of_them(tmp_path: Path) -> None:
    """Each mode, for processes that live and that have ended, as its multiprocess mode has it."""
    values: list[dict[str, float]] = [
        {"a": 5, "b": -1},
        {"a": 2},
        {"a": 9, "c": 4},
        {"a": 3, "c": 8.5},
    ]
    dead = [1, 2]
    program = tmp_path / "oracle.py"
    program.write_text(ORACLE)
    folder = tmp_path / "multiproc"
    folder.mkdir()
    output = subprocess.run(
        [sys.executable, program],
        input=json.dumps([MODES, values, dead]),
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    pids, text = json.loads(output)
    expected = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for found in parse_text(text)
        for sample in found.samples
    }
    snapshots = []
    for index, each in enumerate(values):
        points = [Point((label,), value, 0, changed=index + 1) for label, value in each.items()]
        families = [
            family("gauge", *points, name="g_" + mode, labelnames=("k",), multiprocess_mode=mode)
            for mode in MODES
        ]
        snapshots.append(Snapshot(families, pids[index], alive=index not in dead))
    folded = merge([snapshot for snapshot in snapshots if not snapshot.alive])
    living = [snapshot for snapshot in snapshots if snapshot.alive]
    for groups in (snapshots, snapshots[::-1], [*living, Snapshot(folded, alive=False)]):
        body = Exposition(partial(merge, groups)).render()[0].decode()
        shown = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for found in parse_text(body)
            for sample in found.samples
        }
        assert shown == expected


@pytest.mark.parametrize("mode", MODES)
def test_a_gauge_that_was_never_set_gives_way(mode: str) -> None:
    """A process that only declared a gauge says nothing about its value."""
    unset = Snapshot([family("gauge", Point((), 0, 0), multiprocess_mode=mode)], 1)
    known = Snapshot([family("gauge", Point((), 7, 0, changed=2.0), multiprocess_mode=mode)], 1)
    for order in ([unset, known], [known, unset]):
        assert [point.value for point in merge(order)[0].points] == [7]  # type: ignore[union-attr]


@pytest.mark.parametrize(("mode", "value"), [("min", 1), ("max", 2)])
def test_a_gauge_that_is_no_number_gives_way(mode: str, value: float) -> None:
    """NaN is neither the least nor the most, in whatever order processes come."""
    for numbers in itertools.permutations([math.nan, 1, 2]):
        snapshots = [
            Snapshot([family("gauge", Point((), n, 0, changed=1.0), multiprocess_mode=mode)])
            for n in numbers
        ]
        assert [point.value for point in merge(snapshots)[0].points] == [value]  # type: ignore[union-attr]


def test_infos_and_enums_are_those_that_were_set_last() -> None:
    """Whatever the order in which processes are read, and with those that have ended."""
    old = [
        family("info", InfoPoint((), {"v": "1"}, 1.0), name="i"),
        family("enum", EnumPoint((), "b", 5.0), name="e", states=("a", "b")),
    ]
    new = [
        family("info", InfoPoint((), {"v": "2"}, 2.0), name="i"),
        family("enum", EnumPoint((), "a", 0.0), name="e", states=("a", "b")),
    ]
    for order in ([Snapshot(old, 1), Snapshot(new, alive=False)], [Snapshot(new), Snapshot(old)]):
        assert page(merge(order)) == {'i_info{v="2"}': 1, 'e{e="a"}': 0, 'e{e="b"}': 1}


def test_the_latest_exemplar_of_each_bucket_is_kept() -> None:
    """Whichever process measured it, and whether it has ended or not."""
    early, late, only = (Exemplar(1, time, "1" * 32, "2" * 16) for time in (1.0, 2.0, 0.5))
    one = histogram(HistogramPoint((), (1, 1, 0), 3, 0, (early, late, None)), bounds=(1.0, 2.0))
    two = histogram(HistogramPoint((), (1, 1, 1), 3, 0, (late, early, only)), bounds=(1.0, 2.0))
    for order in ([one, two], [two, one]):
        (found,) = merge([Snapshot([order[0]], 1), Snapshot([order[1]], alive=False)])
        assert found.points[0].exemplars == (late, late, only)  # type: ignore[union-attr]
    counted = [family("counter", Point((), 1, 0, exemplar)) for exemplar in (None, late, early)]
    for several in itertools.permutations(counted):
        (found,) = merge([Snapshot([each]) for each in several])
        assert found.points == (Point((), 3, 0, late),)


def test_label_sets_beyond_the_limit_fold_and_keep_their_sum() -> None:
    """Processes that see different values show no more label sets than one process may."""
    snapshots = [
        Snapshot(
            [
                family(
                    "counter",
                    *[Point(("p", str(n)), 1, 0) for n in range(start, start + 40)],
                    labelnames=("pipeline", "id"),
                )
            ]
        )
        for start in range(0, 400, 40)
    ]
    (found,) = merge(snapshots, lambda _: (100, {}))
    assert len(found.points) == 101
    shown = {point.labels: point.value for point in found.points}  # type: ignore[union-attr]
    assert shown["p", "__other__"] == 300
    assert sum(shown.values()) == 400
    (limited,) = merge(snapshots, lambda _: (1000, {"id": 50}))
    assert len(limited.points) == 51
    assert sum(point.value for point in limited.points) == 400  # type: ignore[misc, union-attr]


def test_what_was_set_last_is_folded_under_its_new_labels() -> None:
    """No series is there twice when processes see more values than there may be."""
    for kind in ("gauge", "info", "enum"):
        made = []
        for n in range(60):
            point: Any = {
                "gauge": Point((str(n % 30),), n, 0, changed=n + 1),
                "info": InfoPoint((str(n % 30),), {}, n + 1),
                "enum": EnumPoint((str(n % 30),), "a", n + 1),
            }[kind]
            states = ("a",) if kind == "enum" else ()
            made.append(Snapshot([family(kind, point, labelnames=("k",), states=states)]))
        (found,) = merge(made, lambda _: (25, {}))
        assert [point.labels[0] for point in found.points] == [*map(str, range(25)), "__other__"]


def test_at_most_a_hundred_processes_are_told_apart() -> None:
    """A worker that is replaced again and again does not fill the page, also once it has ended."""
    ended: list[Family] = []
    for pid in range(300):
        gauge = family("gauge", Point((), pid, 0, changed=pid + 1), multiprocess_mode="all")
        ended = merge([Snapshot(ended, alive=False), Snapshot([gauge], pid, alive=False)])
    (found,) = ended
    assert len(found.points) == 101
    assert found.points[-1].labels == ("__other__",)
    assert found.labelnames == ("pid",)


def test_a_label_pid_of_the_users_own_is_one_like_any_other() -> None:
    """Only the label that the library adds is limited to a hundred values."""
    counter = family("counter", *[Point((str(n),), 1, 0) for n in range(500)], labelnames=("pid",))
    (found,) = merge([Snapshot([counter]), Snapshot([counter])])
    assert [point.value for point in found.points] == [2] * 500  # type: ignore[union-attr]


BASE = histogram(HistogramPoint(("x",), (1, 2), 3, 0, (None, None)), name="jobs", labelnames=("a",))
OTHERS = {
    "kind": family("counter", Point(("y",), 1, 0), labelnames=("a",)),
    "labels": replace(BASE, labelnames=("b",)),
    "more labels": replace(
        BASE,
        labelnames=("a", "b"),
        points=(HistogramPoint(("x", "y"), (1, 2), 3, 0, (None, None)),),
    ),
    "bounds": replace(BASE, bounds=(2.0,)),
    "more bounds": replace(
        BASE,
        bounds=(1.0, 2.0),
        points=(HistogramPoint(("z",), (1, 2, 3), 3, 0, (None, None, None)),),
    ),
    "series": family("counter", Point((), 1, 0), name="jobs_count"),
}


@pytest.mark.parametrize("from_sdk", [False, True])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_shapes_that_differ_between_processes_never_spoil_the_page(
    other: Family, from_sdk: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both parsers take it, no series is there twice, and what does not fit is said once."""
    diagnostics.forget()
    base, other = replace(BASE, from_sdk=from_sdk), replace(other, from_sdk=from_sdk)
    for order in ([base, other, base], [other, base, other], [base, other, other]):
        families = merge([Snapshot([each]) for each in order])
        assert page(families)
    assert capfd.readouterr().err.count("declared otherwise") <= 1


def test_states_that_differ_are_those_of_the_first() -> None:
    """An enum is never in a state that its page does not list."""
    one = family("enum", EnumPoint((), "a", 1.0), states=("a", "b"))
    two = family("enum", EnumPoint((), "c", 2.0), states=("c",))
    assert page(merge([Snapshot([one]), Snapshot([two])])) == {
        'jobs{jobs="a"}': 1,
        'jobs{jobs="b"}': 0,
    }


def test_a_gauge_told_apart_in_one_process_only_does_not_spoil_the_page() -> None:
    """Modes that differ between processes are decided by the first."""
    gauge = family("gauge", Point((), 1, 0, changed=1.0), multiprocess_mode="all")
    other = replace(gauge, multiprocess_mode="max")
    assert page(merge([Snapshot([gauge], 7), Snapshot([other], 8)])) == {'jobs{pid="7"}': 1}
    assert page(merge([Snapshot([other], 8), Snapshot([gauge], 7)])) == {"jobs": 1}


def test_a_family_of_the_sdk_may_have_several_sets_of_labels() -> None:
    """OpenTelemetry's instruments declare no labels, so each set is a family of its own."""
    one = family("counter", Point(("1",), 1, 0), labelnames=("a",), from_sdk=True)
    two = family("counter", Point(("2",), 2, 0), labelnames=("b",), from_sdk=True)
    assert page(merge([Snapshot([one, two]), Snapshot([two])])) == {
        'jobs_total{a="1"}': 1,
        'jobs_total{b="2"}': 4,
    }


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 2**62, -(2**63), 10**30, 1e-320, 0.1 + 0.2, -0.0]
)
def test_any_number_travels(value: float) -> None:
    """JSON keeps what a process counted to the last bit."""
    exemplar = Exemplar(value, 1.25, "a", "b", (("k", "\ud800"),))
    for one in (
        family("counter", Point(("",), value, 2**62), labelnames=("a",)),
        family("gauge", Point(("\udc80\n\0é😀",), value, 0, None, 1.5), labelnames=("a",)),
        family("summary", SummaryPoint((), 2**62, value, 0)),
        histogram(HistogramPoint((), (2**40, 0), value, 1, (exemplar, None))),
    ):
        (found,) = load(json.loads(json.dumps(dump([one]))))
        assert repr(found) == repr(one)
