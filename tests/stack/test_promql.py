"""The parser takes and refuses what the real Prometheus does, and makes the same of it."""

from __future__ import annotations

import json
import urllib.error
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from otel_pipeline.alerts.promql import PromQLError, parse
from otel_pipeline.alerts.promql.functions import AGGREGATIONS, FUNCTIONS
from otel_pipeline.alerts.promql.nodes import (
    Aggregate,
    Binary,
    Call,
    Number,
    Paren,
    Range,
    Selector,
    String,
    Subquery,
    Unary,
    kind,
)
from tests.promql_expressions import expressions
from tests.stack import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_pipeline.alerts.promql.nodes import Modifiers, Node

pytestmark = pytest.mark.xdist_group("promql")

CARDS = {"": "one-to-one", "left": "many-to-one", "right": "one-to-many"}


@pytest.fixture(scope="module")
def prometheus(need: Callable[..., list[Path]]) -> Iterator[programs.Server]:
    """Run a Prometheus that takes what is experimental, too."""
    need("prometheus")
    with programs.prometheus() as server:
        yield server


def theirs(prometheus: programs.Server, text: str) -> Any:
    """Return what Prometheus makes of an expression, or None if it refuses it."""
    try:
        return programs.fetch(prometheus.url + "/api/v1/parse_query", {"query": text})["data"]
    except urllib.error.HTTPError as error:
        with error:
            kind_ = json.load(error)["errorType"]
        if kind_ != "bad_data":
            raise
        return None


def modifiers(one: Modifiers) -> dict[str, Any]:
    bound = one.at.removesuffix("()")
    fixed = bound in ("start", "end", "")
    return {
        "offset": None if one.offset is None else round(one.offset * 1000),
        "startOrEnd": bound if fixed and bound else None,
        "timestamp": None if fixed else round(float(bound) * 1000),
    }


def selector(node: Selector) -> dict[str, Any]:
    matchers = [(one.label, one.operator, one.value) for one in node.matchers]
    if node.name and ("__name__", "=", node.name) not in matchers:
        matchers.append(("__name__", "=", node.name))
    return {"name": node.name, "matchers": sorted(matchers)}


def ours(node: Node) -> dict[str, Any]:  # noqa: C901, PLR0911 - a case each
    """Return a node in the form of Prometheus' own."""
    match node:
        case Number():
            return {"type": "numberLiteral", "value": repr(node.value)}
        case String():
            return {"type": "stringLiteral", "value": node.value}
        case Selector():
            return {"type": "vectorSelector", **selector(node), **modifiers(node.modifiers)}
        case Range():
            return {
                "type": "matrixSelector",
                **selector(node.selector),
                **modifiers(node.modifiers),
                "range": round((node.seconds or 0) * 1000),
            }
        case Subquery():
            return {
                "type": "subquery",
                **modifiers(node.modifiers),
                "range": round((node.seconds or 0) * 1000),
                "step": round((node.step or 0) * 1000),
                "expr": ours(node.expr),
            }
        case Call():
            return {"type": "call", "name": node.name, "args": [ours(arg) for arg in node.args]}
        case Aggregate():
            return {
                "type": "aggregation",
                "op": node.operator,
                "expr": ours(node.expr),
                "param": None if node.parameter is None else ours(node.parameter),
                "grouping": sorted(node.labels),
                "without": node.without,
            }
        case Binary():
            # Between a number and a vector `on ()` means nothing.
            vectors = "scalar" not in (kind(node.left), kind(node.right))
            return {
                "type": "binaryExpr",
                "op": node.operator,
                "lhs": ours(node.left),
                "rhs": ours(node.right),
                "bool": node.bool_,
                "on": vectors and bool(node.matching.on),
                "labels": sorted(node.matching.labels),
                "include": sorted(node.matching.include) if vectors else [],
                "card": CARDS[node.matching.group if vectors else ""],
            }
        case Unary() if isinstance(node.expr, Number | Unary) and "value" in ours(node.expr):
            # Prometheus makes one number of it.
            value = float(ours(node.expr)["value"])
            value = -value if node.operator == "-" else value
            return {"type": "numberLiteral", "value": repr(value)}
        case Unary():
            return {"type": "unaryExpr", "op": node.operator, "expr": ours(node.expr)}
        case Paren():
            return {"type": "parenExpr", "expr": ours(node.expr)}


def normal(node: dict[str, Any]) -> dict[str, Any]:  # noqa: C901 - a case each
    """Return Prometheus' node with what is compared."""
    out: dict[str, Any] = {"type": node["type"]}
    if "matchers" in node:
        out["name"] = node["name"]
        found = [(one["name"], one["type"], one["value"]) for one in node["matchers"]]
        out["matchers"] = sorted(found)
        if not node["name"]:
            names = [value for label, sign, value in found if (label, sign) == ("__name__", "=")]
            out["name"] = "".join(names[:1])
    for key in ("offset", "startOrEnd", "timestamp", "range", "step", "op", "bool", "without"):
        if key in node:
            out[key] = node[key]
    for key in ("expr", "lhs", "rhs", "param"):
        if key in node:
            out[key] = None if node[key] is None else normal(node[key])
    match node["type"]:
        case "numberLiteral":
            out["value"] = repr(float(node["val"]))
        case "stringLiteral":
            out["value"] = node["val"]
        case "call":
            out |= {"name": node["func"]["name"], "args": [normal(arg) for arg in node["args"]]}
        case "aggregation":
            out["grouping"] = sorted(set(node["grouping"]))
        case "binaryExpr":
            matching = node["matching"] or {}
            out |= {
                "on": matching.get("on", False),
                "labels": sorted(set(matching.get("labels") or [])),
                "include": sorted(set(matching.get("include") or [])),
                "card": matching.get("card", "one-to-one"),
            }
            if out["op"] in ("and", "or", "unless"):
                out["card"] = "one-to-one"
    return out


def compare(prometheus: programs.Server, text: str) -> None:
    expected = theirs(prometheus, text)
    try:
        found, said = ours(parse(text)), ""
    except PromQLError as error:
        found, said = None, str(error)
    assert found == (expected and normal(expected)), said


TAKEN = r"""
x
x{}
x{a="b",c!="d",e=~"f|g",h!~"i.*",}
{__name__="x",a="b"}
{__name__=~"x.*"}
{"my.metric"}
{"my.metric","my.label"="ä"}
{"x","a"="b"} offset -5m
job:x:rate5m
:x
sum
SUM(x) BY (a)
Sum by (a,) (x)
sum without () (x)
sum(x) without (a, b)
sum by ("my.label") (x)
topk(3, x)
quantile by (a) (0.9, x)
count_values("v", x)
count_values by (a) ("v", x)
rate(x[5m])
rate(x[1h30m])
rate(x[300])
rate(x[5m] offset 1h)
rate(x[5m] @ 1600000000 offset 1h)
rate(x{a="b"}[5m] @ end())
x @ start()
x @ -5
x offset 1w
x offset 1h @ 3
rate(x[5m:])
rate(x[5m:1m])
max_over_time(rate(x[5m])[1h:1m] offset 5m)
max_over_time((x > 1)[1h:])
x[5m:1m]
-x
+x
--x
-1 ^ 2
2 ^ 3 ^ 2
1 - 2 - 3
1 + 2 * 3 / 4 % 5
x * -1
x > 1 and y < 2 or z unless a
x > bool 1
1 > bool 2
x == bool y
x / on (a) y
x / on () y
x / ignoring (a, b) y
x / on (a) group_left y
x / on (a) group_left () y
x / on (a) group_left (b, c) y
x * ignoring (a) group_right (b) y
x and on (a) y
x or on () vector(0)
x atan2 y
0x1F
1e3
1.5E-3
.5
5.
1_000
010
5m
1h30m15s
Inf
-inf
NaN
"text"
'it''s'
`raw \n`
"\u00e4\x41\101\n\t\\\""
time() - x > 5m
vector(1)
hour()
day_of_week(x)
round(x, 0.1)
label_replace(x, "a", "$1", "b", "(.*)")
label_join(x, "a", "-", "b", "c")
label_join(x, "a", "-")
clamp(x, 0, 1)
histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))
predict_linear(x[1h], 4 * 3600)
absent(x{a="b"})
scalar(x) + 1
x # comment
x # rate(
x > # comment
(x)
((x))
sum by (a) ((x))
x{a="}"}
x{a="#"}
x{by="a",on="b",sum="c",bool="d",inf="e"}
sum by (on, sum, offset) (x)
x_bool
offset
by > 1
inf_x
nan:x
x{a='b'}
x [5m:1m]
rate( x [ 5m ] )
x{a=""} and {b="c"}
x > y > z
sum(x) + sum by (a) (y)
x offset 5m30s
"""
REFUSED = r"""
x{
x}
x{a}
x{a=}
x{a=b}
x{a="b"
x{a=="b"}
x{="b"}
{}
{a=""}
{a=~".*"}
{a!="b"}
x{__name__="y"}
{"x", "y"}
"x"{a="b"}
sum
sum(
sum()
sum(x, y)
sum by (a (x)
sum by a (x)
topk(x)
topk("a", x)
count_values(1, x)
rate(x)
rate(x[5m]
rate(x[5m]) rate(y[5m])
rate(x[])
rate(x[0])
rate(x[-5m])
rate(x[5 m])
rate(x[5m1h])
rate(x[5mm])
rate(x[5m][5m])
rate(sum(x)[5m])
rat(x[5m])
Rate(x[5m])
abs(1)
abs(x, y)
round(x, 1, 2)
vector(x)
time(1)
hour(1)
x offset
x offset 5
x offset x
(x) offset 5m
x offset 5m [5m]
sum(x) offset 5m
x @
x @ y
x[5m] > 1
x + "a"
"a" == "a"
1 == 1
1 and 2
x and 1
x +
+ +
* x
x y
x > bool bool 1
x + bool 1
x / on y
x / on (a) group_left (a) y
x and on (a) group_left y
x / group_left y
x > on (a) 1
1m1h
1.5m
5z
0xZZ
1__0
'a
"a
"\q"
"a\'b"
ä
x{ä="b"}
x == = y
x => y
x ! y
x && y
x || y
$x
x;
5 @ 3
-x[5m]
x[5m:1m:1m]
x[5m:0]
bool
on > 1
atan2
"""


@pytest.mark.parametrize("text", [line for line in TAKEN.splitlines() if line])
def test_an_expression_is_taken_as_prometheus_takes_it(
    prometheus: programs.Server, text: str
) -> None:
    """What is right is parsed into the nodes that Prometheus has."""
    compare(prometheus, text)


@pytest.mark.parametrize("text", [line for line in REFUSED.splitlines() if line])
def test_what_prometheus_refuses_is_refused(prometheus: programs.Server, text: str) -> None:
    """What is wrong is refused, and what is right after all is parsed alike."""
    compare(prometheus, text)


def test_every_function_is_known(prometheus: programs.Server) -> None:
    """Prometheus knows each function of the table, but the one that it has renamed."""

    def known(name: str) -> bool:
        try:
            programs.fetch(prometheus.url + "/api/v1/parse_query", {"query": f"{name}(1, 2, 3)"})
        except urllib.error.HTTPError as error:
            with error:
                return "unknown function" not in json.load(error)["error"]
        return True

    assert {name for name in [*FUNCTIONS, *AGGREGATIONS] if not known(name)} == {"holt_winters"}


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=expressions())
def test_any_expression_is_parsed_as_prometheus_parses_it(
    prometheus: programs.Server, text: str
) -> None:
    """Whatever is put together, both take it and make the same of it, or both refuse it."""
    compare(prometheus, text)
