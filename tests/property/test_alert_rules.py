"""Facts about rules that hold for every expression."""

from __future__ import annotations

from dataclasses import replace

import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from otel_pipeline.alerts.expansion import expand
from otel_pipeline.alerts.lint import CHECKS, lint
from otel_pipeline.alerts.promql import PromQLError, parse
from otel_pipeline.alerts.promql.nodes import kind, walk
from otel_pipeline.alerts.rule_files import Rule, read_text
from otel_pipeline.alerts.thresholds import replace_thresholds, thresholds
from tests.promql_expressions import expressions


def rule(text: str, *, alerting: bool = True) -> Rule:
    """Return a rule with an expression, if it is one."""
    try:
        parsed = parse(text)
    except PromQLError:
        assume(False)
        raise
    assume(kind(parsed) in ("scalar", "vector"))
    return Rule("rules.yml", "job:x:rate5m", alerting, text, parsed, (1,))


@given(st.text(max_size=40) | expressions())
@example("x{a=~'\\\\'}")
@example("x{" * 200)
@example("(" * 200)
def test_any_text_is_parsed_or_refused_at_a_place(text: str) -> None:
    """The only error is the parser's own, and names a place in the text."""
    try:
        node = parse(text)
    except PromQLError as error:
        places = [(error.position, error.position)]
    else:
        places = [(one.start, one.end) for one in walk(node)]
    assert all(0 <= start <= end <= len(text) for start, end in places)


@given(expressions())
def test_a_part_of_an_expression_is_what_stands_at_its_place(text: str) -> None:
    """What is cut out of the text at a node's place is parsed into the same node."""
    for node in walk(rule(text).expr):
        part = text[node.start : node.end]
        moved = parse(part)
        assert (moved.start, moved.end) == (0, len(part))
        assert type(moved) is type(node)


@given(expressions())
def test_any_rule_is_checked(text: str) -> None:
    """Every check comes to an end, and finds what it finds within the expression."""
    one = rule(text)
    findings = lint([one]).findings
    assert {finding.id for finding in findings} <= set(CHECKS)
    assert lint([replace(one, allowed=frozenset(CHECKS))]).findings == ()
    assert lint([one, one]).findings == findings * 2 or one.name in text


@given(expressions())
def test_what_is_found_does_not_depend_on_blanks_and_comments(text: str) -> None:
    """Parentheses and comments around an expression change nothing."""
    one = rule(text)
    wrapped = rule(f"# rate(x[1s])\n(  {text} # x == 0\n)")
    assert [finding.id for finding in lint([wrapped]).findings] == [
        finding.id for finding in lint([one]).findings
    ]


@given(expressions(), st.sampled_from(["|", "|-", ">", '"', "'", "flow"]))
def test_a_rule_is_read_in_any_style(text: str, style: str) -> None:
    """However YAML writes an expression, it is the same, and on a line of the file."""
    one = rule(text)
    document = {"groups": [{"name": "a", "rules": [{"alert": "A", "expr": text}]}]}
    written = yaml.safe_dump(
        document,
        default_style=None if style == "flow" else style[0],
        default_flow_style=style == "flow",
        allow_unicode=True,
        width=20,
    )
    file = read_text("rules.yml", written)
    assert repr([found.expr for found in file.rules]) == repr([one.expr])  # NaN is not itself
    assert 1 <= file.rules[0].line() <= written.count("\n")


@given(expressions(), expressions())
def test_a_recorded_series_gives_way_to_an_expression(text: str, recorded: str) -> None:
    """What is put in its place is PromQL, and the name is no longer asked for."""
    one, record = rule(text), rule(recorded, alerting=False)
    expanded, names = expand(one.text, {"job:x:rate5m": [record]})
    assert names <= {"job:x:rate5m"}
    parse(expanded)


@given(expressions(), st.floats(allow_nan=False, allow_infinity=False))
def test_a_threshold_is_replaced_where_it_stands(text: str, value: float) -> None:
    """The condition has the new number, and its others as they were."""
    before = thresholds(rule(text).text)
    for number in range(len(before)):
        after = thresholds(replace_thresholds(text, [number], value))
        expected = [one for one, _, _ in before]
        expected[number] = value
        assert repr([one for one, _, _ in after]) == repr(expected)
