"""What the dashboards are made of: names, queries, places."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from otel_pipeline import semconv
from otel_pipeline.alerts import rule_files
from otel_pipeline.alerts.files import files as alert_files
from otel_pipeline.alerts.lint import lint
from otel_pipeline.alerts.recorded import ALL_RECORDED
from otel_pipeline.alerts.settings import PipelineSettings, Settings, Slo
from otel_pipeline.dashboards import DASHBOARDS, foreign
from otel_pipeline.dashboards.parts import TO_LINES, TO_TRACES
from tests.dashboards import (
    ALL,
    OWN,
    data_panels,
    filled,
    metrics_of,
    panels,
    promql,
    targets,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from otel_pipeline.dashboards import Dashboard

#: A panel may be empty, and shows metrics that are not ours.
NOT_FOR_QUERIES = {"may-be-absent", "unknown-metric"}
#: It compares totals: what was made, and what became of it. Growth does, where a counter is new.
LEDGER = "Unaccounted items"

each_dashboard = pytest.mark.parametrize("dashboard", ALL, ids=lambda one: one.uid)


# --- Names ------------------------------------------------------------------------------------


def known_names(specs: Iterable[semconv.MetricSpec] = semconv.ALL_METRICS) -> set[str]:
    """Return every name that a query may use."""
    names = {*foreign.ALL, *(one.name for one in ALL_RECORDED)}
    for spec in specs:
        names.add(spec.name)
        if spec.kind == "histogram":
            names |= {spec.name + suffix for suffix in ("_bucket", "_sum", "_count")}
    return names


def unknown_names(dashboards: Iterable[Dashboard], known: set[str]) -> set[str]:
    used = {name for one in dashboards for _, expr in promql(one) for name in metrics_of(expr)}
    return used - known


def test_queries_use_known_names_only() -> None:
    """Each metric of a query is in the vocabulary, recorded, or a named one of others."""
    assert unknown_names(DASHBOARDS, known_names()) == set()


@pytest.mark.parametrize("place", range(len(semconv.ALL_METRICS)))
def test_a_metric_that_was_renamed_is_noticed(place: int) -> None:
    """A query that still has the old name of a metric is found, whichever metric it was."""
    specs = list(semconv.ALL_METRICS)
    specs[place] = dataclasses.replace(specs[place], name="renamed")
    gone = {name.removesuffix("_bucket") for name in unknown_names(DASHBOARDS, known_names(specs))}
    assert semconv.ALL_METRICS[place].name in {re.sub("_(sum|count)$", "", name) for name in gone}


def test_each_metric_of_the_vocabulary_is_shown() -> None:
    """No metric is made that no dashboard shows."""
    used = {name for one in DASHBOARDS for _, expr in promql(one) for name in metrics_of(expr)}
    used |= {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    assert [spec.name for spec in semconv.ALL_METRICS if spec.name not in used] == []


def test_each_foreign_name_is_used() -> None:
    """The list of others' names holds nothing that no query needs."""
    used = {name for one in DASHBOARDS for _, expr in promql(one) for name in metrics_of(expr)}
    assert set(foreign.ALL) - used == set()


def test_only_the_objectives_need_the_recording_rules() -> None:
    """The other dashboards work where no rules are deployed."""
    recorded = {one.name for one in ALL_RECORDED}
    needing = {one.uid for one in ALL for _, expr in promql(one) if metrics_of(expr) & recorded}
    assert needing == {"otel-pipeline-slo"}


def test_what_is_clicked_knows_its_pipeline() -> None:
    """A series with links has the label, and a table the column, from which they take the name."""
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels():
            for link in panel.links:
                if panel.type == "table":
                    assert "${__data.fields.Pipeline" in link.url, panel.title
                    assert (
                        "Pipeline" in panel.transformations[-1]["options"]["renameByName"].values()
                    )
                else:
                    assert "${__field.labels.pipeline" in link.url, panel.title
                    for query in panel.queries:
                        assert re.search(r"by \([^)]*\bpipeline\b", query.expr), panel.title


@pytest.mark.parametrize("name", ["orders", "with space/and & more", "é%20?#"])
def test_a_click_asks_for_the_pipeline_that_was_clicked(name: str) -> None:
    """Links to traces and log lines hold a query that Grafana can read, with the name in it."""
    values = {
        "${__field.labels.pipeline:percentencode}": quote(name, safe=""),
        "${tempo}": "tempo-uid",
        "${loki}": "loki-uid",
        "${__from}": "1000",
        "${__to}": "2000",
    }
    asked = []
    for link in (TO_TRACES, TO_LINES):
        url = link.url
        for variable, value in values.items():
            url = url.replace(variable, value)
        parameters = parse_qs(urlsplit(url).query, strict_parsing=True)
        assert (parameters["schemaVersion"], parameters["orgId"]) == (["1"], ["1"])
        [pane] = json.loads(parameters["panes"][0]).values()
        assert pane["range"] == {"from": "1000", "to": "2000"}
        [query] = pane["queries"]
        assert query["datasource"]["uid"] == pane["datasource"]
        asked.append((pane["datasource"], query.get("query") or query["expr"]))
    assert asked == [
        ("tempo-uid", f"{{ span.pipeline.name = `{name}` }}"),
        ("loki-uid", f"{{service_name=~`.+`}} | pipeline=`{name}`"),
    ]


def test_alerts_lead_to_dashboards_that_exist() -> None:
    """What an alert links to is there, and takes the variables that the link sets."""
    variables = {one.uid: {variable.name for variable in one.variables} for one in DASHBOARDS}
    settings = Settings(pipelines={"orders": PipelineSettings(slos=(Slo("records", 0.99),))})
    text = "".join(alert_files(settings).values())
    links = set(re.findall(r"/d/([\w-]+)((?:[?&]var-\w+=)?)", text))
    assert {uid for uid, _ in links} >= {"otel-pipeline-overview", "otel-pipeline-slo"}
    for uid, variable in links:
        assert uid in variables
        assert not variable or variable[5:-1] in variables[uid], (uid, variable)


# --- Queries ----------------------------------------------------------------------------------


@each_dashboard
def test_the_linter_of_rules_finds_nothing(dashboard: Dashboard, tmp_path: Path) -> None:
    """Queries have none of the mistakes for which the rules of alerts are searched."""
    queries = [(title, expr) for title, expr in promql(dashboard) if title != "variable"]
    rules = [{"record": "a:query", "expr": filled(expr)} for _, expr in queries]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    read = rule_files.read(str(file))
    assert (len(read.rules), read.problems) == (len(queries), [])
    for (title, _), rule in zip(queries, read.rules, strict=True):
        found = {one.id for one in lint([rule]).findings} - NOT_FOR_QUERIES
        if title == LEDGER or "or increase(" in rule.text:
            found.discard("counter-without-rate")
        assert found == set(), (title, rule.text)


@each_dashboard
def test_a_rate_is_summed_by_labels(dashboard: Dashboard) -> None:
    """No rate stands without a sum: it would have a line for each process and status."""
    for title, expr in promql(dashboard):
        for found in re.finditer(r"\b(?:rate|increase)\(", expr):
            before = expr[: found.start()].rstrip()
            summed = re.search(r"sum(?: by \([^)]*\))? ?\((?:label_replace\()?$", before)
            of_growth = before.endswith(" or")  # the second half of a growth, which is summed
            assert summed or of_growth, (title, expr)


@each_dashboard
def test_a_quantile_is_of_buckets_summed_by_le(dashboard: Dashboard) -> None:
    """Quantiles are of all processes together, and never NaN."""
    for title, expr in promql(dashboard):
        for found in re.finditer(r"histogram_quantile\([\d.]+, (sum by \(le\b)?", expr):
            assert found[1], (title, expr)
            assert ") >= 0" in expr, (title, expr)


@each_dashboard
def test_nothing_is_divided_by_zero(dashboard: Dashboard) -> None:
    """What stands below a line is above 0."""
    for title, expr in promql(dashboard):
        for below in expr.split(" / ")[1:]:
            assert re.match(r"\(.+ > 0\)", below, re.DOTALL), (title, expr)


@each_dashboard
def test_a_share_has_the_same_labels_above_and_below(dashboard: Dashboard) -> None:
    """A share by pipeline is not a comparison of each series with itself."""
    for title, expr in promql(dashboard):
        for above, below in zip(expr.split(" / "), expr.split(" / ")[1:], strict=False):
            labels = [
                re.findall(r"(?:sum|max) by \(([^)]*)\)", side)[:1] for side in (above, below)
            ]
            assert labels[0] == labels[1], (title, expr)


@each_dashboard
def test_variables_stand_in_backquotes_as_regular_expressions(dashboard: Dashboard) -> None:
    """A value may have quotes and backslashes, and there may be several."""
    own = {variable["name"] for variable in tree(dashboard)["templating"]["list"]}
    exprs = [target["expr"] for _, target in targets(dashboard)]
    exprs += [expr for _, expr in promql(dashboard)]
    for expr in exprs:
        used = set(re.findall(r"\$\{(\w+)", expr))
        assert used <= own, expr
        assert not re.findall(r"\$(?!__|\{|1\")", expr), expr
        without = re.sub(r"=~`\$\{\w+:regex\}(?:\||\.[*+])?`", "", expr)
        assert "${" not in without, expr


@each_dashboard
def test_each_variable_is_used(dashboard: Dashboard) -> None:
    """No variable can be chosen that changes nothing."""
    text = json.dumps(tree(dashboard)["panels"]) + json.dumps(
        [one.get("definition", "") for one in tree(dashboard)["templating"]["list"]]
    )
    for variable in tree(dashboard)["templating"]["list"]:
        assert re.search(rf"\$\{{?{variable['name']}\b|%24%7B{variable['name']}\b", text), variable


@each_dashboard
def test_what_happens_at_an_instant_has_an_exemplar(dashboard: Dashboard) -> None:
    """Panels of durations ask for exemplars, and only those of histograms do."""
    for title, target in targets(dashboard):
        if target.get("exemplar"):
            assert "_bucket" in target["expr"], title
    heat = [
        target
        for panel in data_panels(dashboard)
        if panel["type"] == "heatmap"
        for target in panel["targets"]
    ]
    assert all(target["exemplar"] and target["format"] == "heatmap" for target in heat)


# --- The model --------------------------------------------------------------------------------


def bare(value: Any) -> Any:
    """Return a value without nulls, which say nothing."""
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items() if inner is not None}
    return [bare(inner) for inner in value] if isinstance(value, list) else value


def within(inner: Any, outer: Any) -> bool:
    """Return whether `outer` says all that `inner` says; it may say more."""
    if isinstance(inner, dict):
        return isinstance(outer, dict) and all(
            key in outer and within(value, outer[key]) for key, value in inner.items()
        )
    if isinstance(inner, list):
        return len(inner) == len(outer) and all(map(within, inner, outer))
    return inner == outer


def through_sdk(dashboard: dict[str, Any]) -> dict[str, Any]:
    """Decode a dashboard with Grafana's own model, and encode it again."""
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    with warnings.catch_warnings():
        # It would rather have the newer model, which Grafana before 12 does not read.
        warnings.simplefilter("ignore", DeprecationWarning)
        from grafana_foundation_sdk.models.dashboard import Dashboard as SdkDashboard
    plugins.register_default_plugins()
    return json.loads(JSONEncoder(sort_keys=True).encode(SdkDashboard.from_json(dashboard)))


@each_dashboard
def test_grafana_s_own_model_reads_it_without_loss(dashboard: Dashboard) -> None:
    """Decoded and encoded, each field is still there with its value; defaults are added."""
    once = through_sdk(tree(dashboard))
    assert within(bare(tree(dashboard)), once)
    assert bare(through_sdk(once)) == bare(once)


def test_a_field_that_grafana_does_not_know_is_noticed() -> None:
    """The comparison with Grafana's own model finds what is lost."""
    wrong = tree(DASHBOARDS[0])
    wrong["panels"][1]["fieldConfig"]["defaults"]["untis"] = "s"
    assert not within(bare(wrong), through_sdk(wrong))


@each_dashboard
def test_ids_differ_and_panels_do_not_overlap(dashboard: Dashboard) -> None:
    """Each panel has an id, and a place of its own within 24 columns."""
    found = list(panels(tree(dashboard)))
    ids = [panel["id"] for panel in found]
    assert ids == list(range(1, len(ids) + 1))
    taken: dict[tuple[int, int], int] = {}
    for panel in tree(dashboard)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["id"]) == panel["id"], panel["title"]


@each_dashboard
def test_a_line_of_panels_is_full(dashboard: Dashboard) -> None:
    """No line has a hole at its end, and panels of one line are equally high."""
    lines: dict[int, list[dict[str, int]]] = {}
    for panel in tree(dashboard)["panels"]:
        lines.setdefault(panel["gridPos"]["y"], []).append(panel["gridPos"])
    for line in lines.values():
        assert len({place["h"] for place in line}) == 1
        if dashboard is not OWN:
            assert sum(place["w"] for place in line) == 24


def test_uids_and_titles_differ() -> None:
    """Each dashboard is found under its own name, with the prefix of all."""
    assert [one.uid for one in DASHBOARDS] == [
        "otel-pipeline-overview",
        "otel-pipeline-detail",
        "otel-pipeline-runs",
        "otel-pipeline-quality",
        "otel-pipeline-slo",
        "otel-pipeline-health",
        "otel-pipeline-cost",
    ]
    assert len({one.title for one in ALL}) == len(ALL)


def test_links_lead_to_dashboards_that_exist() -> None:
    """A click leads to a dashboard of ours, or to Explore, with known variables."""
    uids = {one.uid for one in DASHBOARDS}
    for dashboard in DASHBOARDS:
        names = {one["name"] for one in tree(dashboard)["templating"]["list"]}
        for panel in data_panels(dashboard):
            for link in panel["fieldConfig"]["defaults"]["links"]:
                url = link["url"]
                assert url.startswith("/explore?") or url.split("?")[0].split("/")[2] in uids
                used = set(re.findall(r"\$\{(\w+)", url))
                assert used <= names | {"__field", "__data", "__from", "__to"}, (dashboard.uid, url)
