"""`short-window`: a rate over fewer than four scrapes has gaps whenever one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.promql.nodes import Call, Range, Subquery, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.alerts.lint.series import Series
    from otel_pipeline.alerts.rule_files import Rule

__all__ = ["check"]

_SCRAPES: Final = 4
#: Functions that need at least two samples in the window to give anything.
_NEED_TWO: Final = frozenset(
    """
    changes delta deriv double_exponential_smoothing holt_winters idelta increase irate
    predict_linear rate resets
    """.split()
)


def check(rule: Rule, series: Series) -> Iterator[tuple[int, str]]:
    """Yield windows that hold fewer than four scrapes."""
    least = _SCRAPES * series.scrape_interval
    for call in walk(rule.expr):
        if not isinstance(call, Call) or call.name not in _NEED_TWO:
            continue
        window = call.args[0]
        if not isinstance(window, (Range, Subquery)) or window.seconds is None:
            continue
        if window.seconds < least:
            yield (
                window.start,
                (
                    f"{call.name}() over {window.seconds:g}s sees fewer than {_SCRAPES} scrapes of "
                    f"{series.scrape_interval:g}s, so it has gaps when one fails: use a window of "
                    f"{least:g}s or more, 5m for most alerts"
                ),
            )
