"""`quantile-without-le`: a quantile needs the buckets of all series, added up by `le`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.nodes import (
    Aggregate,
    Call,
    Selector,
    children,
    is_vector,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.alerts.lint.series import Series
    from otel_pipeline.alerts.promql.nodes import (
        Node,
    )
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["check"]

_OF_BUCKETS: Final = frozenset({"histogram_fraction", "histogram_quantile", "histogram_quantiles"})
_KEEP_LABELS: Final = frozenset({"bottomk", "limit_ratio", "limitk", "topk"})


def check(rule: Rule, series: Series) -> Iterator[tuple[int, str]]:  # noqa: ARG001
    """Yield quantiles over buckets that are not added up, or that have lost their bounds."""
    for call in walk(rule.expr):
        if isinstance(call, Call) and call.name in _OF_BUCKETS:
            for arg in filter(is_vector, call.args):
                yield from _judge(arg, call.name, aggregated=False)


def _judge(node: Node, function: str, *, aggregated: bool) -> Iterator[tuple[int, str]]:
    match node:
        case Aggregate() if node.operator not in _KEEP_LABELS:
            if _has_buckets(node) and ("le" in node.labels) == node.without:
                labels = sorted((node.labels - {"le"}) if not node.without else ())
                by = ", ".join(["le", *labels])
                yield (
                    node.start,
                    (
                        f"{node.operator} drops `le`, without which {function}() has no bounds and "
                        f"gives nothing: write `{node.operator} by ({by}) (…)`"
                    ),
                )
                return
            aggregated = True
        case Selector() if not aggregated and ":" not in node.name and _has_buckets(node):
            name = node.name or "the buckets"
            yield (
                node.start,
                (
                    f"{function}() gives one answer for each label set of {name}, each of few "
                    f"observations: add them up first, `sum by (le, …) (rate({name}[5m]))`"
                ),
            )
    for child in children(node):
        yield from _judge(child, function, aggregated=aggregated)


def _has_buckets(node: Node) -> bool:
    """Return whether classic buckets are read; a native histogram has its bounds inside."""
    return any(
        isinstance(one, Selector)
        and (
            one.name.endswith("_bucket")
            or ("_bucket" in one.name and ":" in one.name)
            or any(m.label == "le" for m in one.matchers)
            or any(m.label == "__name__" and m.value.endswith("_bucket") for m in one.matchers)
        )
        for one in walk(node)
    )
