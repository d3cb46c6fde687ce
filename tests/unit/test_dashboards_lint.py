"""The rules of Grafana's dashboard-linter, each test with the name of its rule.

Left out: template-job-rule, template-instance-rule, target-job-rule and target-instance-rule, as
who looks at pipelines chooses a pipeline, whatever process it ran in. target-promql-rule and
target-logql-rule are in tests/stack/test_dashboards.py: the servers themselves read each query.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.dashboards import ALL, data_panels, promql, targets, tree

if TYPE_CHECKING:
    from otel_pipeline.dashboards import Dashboard

each_dashboard = pytest.mark.parametrize("dashboard", ALL, ids=lambda one: one.uid)


@each_dashboard
def test_template_datasource_rule(dashboard: Dashboard) -> None:
    """template-datasource-rule: data sources are variables; others than Prometheus by type."""
    found = {
        one["name"]: (one["label"], one["query"])
        for one in tree(dashboard)["templating"]["list"]
        if one["type"] == "datasource"
    }
    assert found.pop("datasource") == ("Data source", "prometheus")
    for name, (label, query) in found.items():
        assert (name, label) == (query, f"{query.title()} data source")


@each_dashboard
def test_template_label_promql_rule(dashboard: Dashboard) -> None:
    """template-label-promql-rule: each variable asks for the values of a label of a metric."""
    for one in tree(dashboard)["templating"]["list"]:
        if one["type"] == "query":
            assert re.fullmatch(r"label_values\([a-z_:]+(\{.+\})?, \w+\)", one["query"]["query"])


@each_dashboard
def test_template_on_time_change_reload_rule(dashboard: Dashboard) -> None:
    """template-on-time-change-reload-rule: variables are asked anew when the time changes."""
    for one in tree(dashboard)["templating"]["list"]:
        assert one["type"] != "query" or one["refresh"] == 2


@each_dashboard
def test_panel_datasource_rule(dashboard: Dashboard) -> None:
    """panel-datasource-rule: each panel and query asks the data source of a variable."""
    names = {
        one["name"]: one["query"]
        for one in tree(dashboard)["templating"]["list"]
        if one["type"] == "datasource"
    }
    for panel in data_panels(dashboard):
        for source in (panel["datasource"], *(one["datasource"] for one in panel["targets"])):
            assert names[source["uid"][2:-1]] == source["type"]
            assert source["uid"] == f"${{{source['uid'][2:-1]}}}"


@each_dashboard
def test_panel_title_description_rule(dashboard: Dashboard) -> None:
    """panel-title-description-rule: each panel has a title and says what it shows."""
    for panel in data_panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith((".", "?")), panel["title"]


#: Grafana's units, of those that we use.
UNITS = {
    *("Bps", "bytes", "cps", "dateTimeFromNow", "lengthm", "ops", "percentunit"),
    *("recps", "rowsps", "s", "short"),
}


@each_dashboard
def test_panel_units_rule(dashboard: Dashboard) -> None:
    """panel-units-rule: each panel has a unit that Grafana knows."""
    for panel in data_panels(dashboard):
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]


@each_dashboard
def test_panel_no_targets_rule(dashboard: Dashboard) -> None:
    """panel-no-targets-rule: each panel asks for something."""
    for panel in data_panels(dashboard):
        assert panel["targets"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))


@each_dashboard
def test_target_rate_interval_rule(dashboard: Dashboard) -> None:
    """target-rate-interval-rule: a rate looks back over $__rate_interval."""
    for title, expr in promql(dashboard):
        for window in re.findall(r"\brate\([^\[]*\[([^\]]*)\]", expr):
            assert window == "$__rate_interval", (title, expr)
        windows = set(re.findall(r"\[(\$?\w+)\](?! offset)", expr))
        assert windows <= {"$__rate_interval", "$__range"}, (title, expr)


@each_dashboard
def test_target_logql_auto_rule(dashboard: Dashboard) -> None:
    """target-logql-auto-rule: a range over log lines is $__auto, or $__range at an instant."""
    for _, target in targets(dashboard):
        if target["datasource"]["type"] == "loki":
            expected = "$__range" if target["queryType"] == "instant" else "$__auto"
            assert set(re.findall(r"\[([^\]]*)\]", target["expr"])) <= {expected}


#: They compare totals on purpose: what was made, and what became of it.
TOTALS = {"Unaccounted items"}


@each_dashboard
def test_target_counter_agg_rule(dashboard: Dashboard) -> None:
    """target-counter-agg-rule: a counter is shown by how fast it grows."""
    for title, expr in promql(dashboard):
        if title in TOTALS | {"variable"}:
            continue
        plain = re.sub(r"\$\{[^}]*\}", "", expr)
        for found in re.finditer(r"(\w+\()?\b\w+_total\b(?:\{[^}]*\})?(\[)?", plain):
            assert found[2], (title, expr)
            assert found[1] in {"rate(", "increase(", "last_over_time("}, (title, expr)


@each_dashboard
def test_uneditable_dashboard(dashboard: Dashboard) -> None:
    """uneditable-dashboard: the files are the truth."""
    assert tree(dashboard)["editable"] is False
