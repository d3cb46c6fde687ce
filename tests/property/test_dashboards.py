"""Any value may stand in a query, and any page may be read for metrics of one's own."""

from __future__ import annotations

import contextlib
import json
import re

from hypothesis import example, given
from hypothesis import strategies as st

from otel_pipeline.alerts.promql import parse
from otel_pipeline.alerts.promql.nodes import Selector, walk
from otel_pipeline.dashboards import Instrument, instruments_of, own_dashboard
from otel_pipeline.dashboards.promql import equal, one_of, selector, sum_by, variable
from tests.dashboards import PAGE, data_panels, promql, tree
from tests.stack.grafana import Value, fill

any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,15}", fullmatch=True)
labels = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True)


def matchers_of(expr: str) -> dict[str, str]:
    [found] = [node for node in walk(parse(expr)) if isinstance(node, Selector)]
    return {one.label: one.value for one in found.matchers if one.label != "__name__"}


@given(value=any_text, other=any_text)
@example(value='a "b" \\ c\n`d` ${e} {f}', other=".*")
def test_a_value_in_a_query_is_the_value_that_was_meant(value: str, other: str) -> None:
    """Quotes, backslashes, line ends and signs of regular expressions mean themselves."""
    expr = sum_by(["a"], selector("x", equal("a", value), one_of("b", [value, other])))
    found = matchers_of(expr)
    assert found["a"] == value
    for meant in (value, other):
        assert re.fullmatch(found["b"], meant)
        assert {value, other} & {f"{meant}x"} or not re.fullmatch(found["b"], f"{meant}x")


@given(values=st.lists(any_text.filter(lambda text: "`" not in text), min_size=1, max_size=3))
def test_what_is_chosen_in_a_variable_is_what_is_found(values: list[str]) -> None:
    """One value or several of a variable, whatever signs they have."""
    expr = fill(selector("x", variable("pipeline")), {"pipeline": Value(tuple(values))})
    pattern = matchers_of(expr)["pipeline"]
    assert all(re.fullmatch(pattern, value) for value in values)
    assert re.fullmatch(pattern, "".join(values) + "x" * 70) is None


@given(
    found=st.lists(
        st.builds(
            Instrument,
            names,
            st.sampled_from(["counter", "gauge", "histogram", "summary", "info", "enum"]),
            st.text(max_size=20),
            st.lists(labels, max_size=3, unique=True).map(tuple),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_metrics_make_a_dashboard(found: list[Instrument]) -> None:
    """Whatever its metrics are called, each has a panel, and each query is valid."""
    dashboard = own_dashboard(found)
    assert len(data_panels(dashboard)) >= len(found)
    assert json.loads(json.dumps(tree(dashboard))) == tree(dashboard)
    for _, expr in promql(dashboard):
        parse(
            expr.replace("$__rate_interval", "1m").replace("${job:regex}", "x"),
        )


@given(text=st.text(max_size=200) | st.text(max_size=5).map(lambda cut: PAGE.replace("\n", cut, 3)))
@example(text="# TYPE a counter\na{b=")
@example(text="# TYPE a histogram\na 1\n# EOF")
@example(text="# TYPE\n# EOF\n")
def test_any_text_is_read_or_refused(text: str) -> None:
    """What is no page is a `ValueError`, and nothing else."""
    with contextlib.suppress(ValueError):
        instruments_of(text)
