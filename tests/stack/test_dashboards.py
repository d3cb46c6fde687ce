"""Each panel of each dashboard shows data, with the demo and busy programs behind real servers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from otel_pipeline.dashboards import DASHBOARDS, instruments_of, own_dashboard
from otel_pipeline.dashboards.parts import OF_PIPELINE
from otel_pipeline.dashboards.promql import equal, one_of, selector, sum_by
from otel_pipeline.semconv import RECORDS_PROCESSED
from tests.stack.busy import ODD_NAME
from tests.stack.grafana import Value, View, fill, panels
from tests.stack.programs import fetch, until
from tests.stack.showcase import showcase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_pipeline.dashboards import Dashboard
    from tests.stack.showcase import Showcase

pytestmark = [pytest.mark.xdist_group("dashboards"), pytest.mark.timeout(300)]

#: How far back the tests look, and how long they wait for the first two scrapes and what is made of
#: them.
SECONDS = 900
PATIENCE = 120.0

TREES = {one.uid: json.loads(json.dumps(one.to_json())) for one in DASHBOARDS}
PANELS = [
    pytest.param(uid, panel["id"], id=f"{uid}: {panel['title']}")
    for uid, tree in TREES.items()
    for panel, _ in panels(tree)
]
VARIABLES = [
    (uid, variable["name"])
    for uid, tree in TREES.items()
    for variable in tree["templating"]["list"]
    if variable["type"] == "query"
]
#: Panels whose stage is chosen by a row: the stage in which there is all that they show.
STAGE = {"stage": ("load",)}
#: The collector makes these series when it first fails, and here it does not.
ONLY_WHEN_IT_FAILS = {"Failed sends per second"}


@pytest.fixture(scope="module")
def show(need: Callable[..., list[Path]]) -> Iterator[Showcase]:
    """Run the servers, the demo and the busy programs, once."""
    need("alertmanager", "jaeger", "loki", "otelcol", "prometheus")
    with showcase() as running:
        yield running


def view(show: Showcase, uid: str, **choices: tuple[str, ...]) -> View:
    return View(TREES[uid], show.backends, SECONDS, choices)


def panel_of(uid: str, id_: int) -> tuple[dict[str, Any], str]:
    [found] = [(panel, repeat) for panel, repeat in panels(TREES[uid]) if panel["id"] == id_]
    return found


def without_zero(expr: str, title: str) -> str:
    """Return a query without the 0 that stands in where nothing is: it would always find that."""
    return expr if title in ONLY_WHEN_IT_FAILS else expr.replace(" or vector(0)", "")


def answer(looked: View, target: dict[str, Any]) -> list[Any]:
    """Wait until a query finds something."""
    return until(lambda: looked.answer(target, looked.values()), seconds=PATIENCE)


def exemplars(looked: View, target: dict[str, Any]) -> list[Any]:
    """Wait until there are exemplars behind a query."""
    return until(lambda: looked.exemplars(target, looked.values()), seconds=PATIENCE)


@pytest.mark.parametrize(("uid", "name"), VARIABLES)
def test_a_variable_offers_values(show: Showcase, uid: str, name: str) -> None:
    """Its query finds what there is to choose from."""
    found = until(lambda: view(show, uid).values()[name].chosen, seconds=PATIENCE)
    assert found == tuple(sorted(set(found)))


@pytest.mark.parametrize(("uid", "id_"), PANELS)
def test_a_panel_shows_data(show: Showcase, uid: str, id_: int) -> None:
    """Each of its queries finds something, and exemplars where it asks for them."""
    panel, repeat = panel_of(uid, id_)
    looked = view(show, uid, **(STAGE if repeat else {}))
    for target in panel["targets"]:
        asked = {**target, "expr": without_zero(target["expr"], panel["title"])}
        assert all(one.get("values") or one["value"] for one in answer(looked, asked))
        if target.get("exemplar"):
            points = exemplars(looked, asked)
            assert {len(point["labels"]["trace_id"]) for point in points} == {32}


def test_a_panel_without_data_is_noticed(show: Showcase) -> None:
    """A query that has the old name of a metric finds nothing, and waiting for it fails."""
    looked = view(show, "otel-pipeline-overview")
    target = next(panels(looked.dashboard))[0]["targets"][0]
    assert answer(looked, target)
    renamed = {**target, "expr": target["expr"].replace("records", "rows")}
    assert renamed != target
    with pytest.raises(TimeoutError, match="nothing came"):
        until(lambda: looked.answer(renamed, looked.values()), seconds=0)


@pytest.mark.parametrize("id_", [panel["id"] for panel, _ in panels(TREES["otel-pipeline-detail"])])
def test_a_row_works_for_each_stage(show: Showcase, id_: int) -> None:
    """Whatever stage a row is for, its queries are valid."""
    panel, repeat = panel_of("otel-pipeline-detail", id_)
    looked = view(show, "otel-pipeline-detail")
    stages = until(lambda: looked.values()["stage"].chosen, seconds=PATIENCE)
    for stage in stages if repeat else ():
        one = view(show, "otel-pipeline-detail", stage=(stage,))
        for target in panel["targets"]:
            one.answer(target, one.values())  # an error of the server would raise


@pytest.mark.parametrize(
    "title", [panel["title"] for panel, _ in panels(TREES["otel-pipeline-overview"])]
)
def test_a_pipeline_may_have_any_name(show: Showcase, title: str) -> None:
    """Quotes, backslashes and signs of regular expressions in a name mean themselves."""
    looked = view(show, "otel-pipeline-overview", pipeline=(ODD_NAME,))
    for panel, _ in panels(looked.dashboard):
        if panel["title"] == title:
            [target] = panel["targets"]
            asked = {**target, "expr": without_zero(target["expr"], title)}
            found = answer(looked, asked)
            labels = [one.get("metric") or one.get("stream") or {} for one in found]
            shown = {own["pipeline"] for own in labels if own.get("pipeline")}
            assert shown <= {ODD_NAME}


@pytest.mark.parametrize("uid", ["otel-pipeline-overview", "otel-pipeline-detail"])
def test_a_heat_map_has_one_row_for_a_bound(show: Showcase, uid: str) -> None:
    """Buckets of pipelines that are scraped and of those that push are the same buckets."""
    looked = view(show, uid)
    for panel, _ in panels(looked.dashboard):
        if panel["type"] == "heatmap":
            [target] = panel["targets"]
            both = selector(RECORDS_PROCESSED, equal("job", "flights"))
            until(lambda: looked.answer({**target, "expr": both}, {}), seconds=PATIENCE)  # noqa: B023
            bounds = [one["metric"]["le"] for one in answer(looked, target)]
            assert len({float(bound) for bound in bounds}) == len(bounds)


@pytest.mark.parametrize(
    "title",
    [
        "Records per second",
        "Error rate",
        "Records per second by pipeline",
        "Error rate by pipeline",
        "Records per second by status",
    ],
)
def test_a_pipeline_without_batches_is_seen(show: Showcase, title: str) -> None:
    """Its records are those of the stage with most, as in the rules of alerts."""
    looked = view(show, "otel-pipeline-overview", pipeline=("sorting",))
    [panel] = [one for one, _ in panels(looked.dashboard) if one["title"] == title]
    found = answer(looked, panel["targets"][0])
    if title.startswith("Error rate"):
        assert {round(float(one["values"][-1][1]), 6) for one in found} == {round(2 / 42, 6)}


def test_several_pipelines_can_be_chosen(show: Showcase) -> None:
    """Two of them are shown, and not the others."""
    looked = view(show, "otel-pipeline-overview", pipeline=(ODD_NAME, "orders"))
    [panel] = [one for one, _ in panels(looked.dashboard) if "by pipeline" in one["title"]][:1]
    found = until(
        lambda: (
            result if len(result := looked.answer(panel["targets"][0], looked.values())) > 1 else []
        ),
        seconds=PATIENCE,
    )
    assert {one["metric"]["pipeline"] for one in found} == {ODD_NAME, "orders"}


def test_lines_of_one_trace_are_found(show: Showcase) -> None:
    """With a trace id typed in, the log lines are those of that trace."""
    uid = "otel-pipeline-detail"
    [panel] = [one for one, _ in panels(TREES[uid]) if one["type"] == "logs"]
    [target] = panel["targets"]

    def lines(**choices: tuple[str, ...]) -> list[dict[str, str]]:
        looked = view(show, uid, **choices)
        return [one["stream"] for one in looked.answer(target, looked.values())]

    first = until(lines, seconds=PATIENCE)[0]["trace_id"]
    assert {line["trace_id"] for line in lines(trace=(first,))} == {first}
    assert lines(trace=("f" * 32,)) == []


def test_own_metrics_are_shown(show: Showcase) -> None:
    """The dashboard that is made of a program's page has data in each panel."""
    found: list[Dashboard] = [own_dashboard(instruments_of(fetch(show.pages[0])))]
    tree = json.loads(json.dumps(found[0].to_json()))
    assert [panel["title"] for panel, _ in panels(tree)] == [
        "orders_by_customer_total, per second",
        "orders_basket_euros",
        "orders_basket_euros, P95",
    ]
    looked = View(tree, show.backends, SECONDS, {})
    for panel, _ in panels(tree):
        for target in panel["targets"]:
            answer(looked, target)


# --- Any value --------------------------------------------------------------------------------


def matchers(show: Showcase, expr: str) -> dict[str, tuple[str, str]]:
    """Return the matchers of the only selector in a query, as Prometheus reads them."""
    answer = show.prometheus.get("/api/v1/parse_query", query=expr)["data"]
    while answer["type"] != "vectorSelector":
        answer = answer["expr"]
    return {
        one["name"]: (one["type"], one["value"])
        for one in answer["matchers"]
        if one["name"] != "__name__"
    }


any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
any_test = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@any_test
@given(value=any_text)
@example(value='a "b" \\ c\n`d` ${e} {f}')
def test_a_label_may_have_any_value(show: Showcase, value: str) -> None:
    """Prometheus reads the value that was meant, be it the only one or one of several."""
    expr = selector(RECORDS_PROCESSED, equal("pipeline", value), one_of("status", [value, "x.y"]))
    found = matchers(show, sum_by(["pipeline"], expr))
    assert found["pipeline"] == ("=", value)
    kind, pattern = found["status"]
    assert kind == "=~"
    assert re.fullmatch(pattern, value)
    assert re.fullmatch(pattern, "x.y")
    assert not re.fullmatch(pattern, "xzy")


@any_test
@given(value=any_text.filter(lambda text: "`" not in text))
@example(value=ODD_NAME)
def test_a_variable_may_have_any_value(show: Showcase, value: str) -> None:
    """What is chosen in a variable is what Prometheus looks for, whatever signs it has."""
    expr = fill(selector(RECORDS_PROCESSED, OF_PIPELINE), {"pipeline": Value((value,))})
    kind, pattern = matchers(show, expr)["pipeline"]
    assert kind == "=~"
    assert re.fullmatch(pattern, value)
    assert not re.fullmatch(pattern, f"{value}x")


@any_test
@given(name=any_text)
@example(name="with space")
@example(name="GROUP_RIGHT")
@example(name="Inf")
@example(name="without")
def test_a_metric_and_its_labels_may_have_any_name(show: Showcase, name: str) -> None:
    """Names beyond the old rules are quoted, in selectors and in sums."""
    expr = sum_by([name], selector(name, equal(name, "x")))
    answer = show.prometheus.get("/api/v1/parse_query", query=expr)["data"]
    assert answer["grouping"] == [name]
    found = {(one["name"], one["value"]) for one in answer["expr"]["matchers"]}
    assert found == {("__name__", name), (name, "x")}
