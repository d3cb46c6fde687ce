"""Pieces of PromQL that are right by construction.

A variable stands in backquotes and is formatted as a regular expression, so a pipeline may be
called anything but with a backquote in it: quotes, backslashes and `.*` mean themselves, and *All*
works.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_pipeline.alerts.expressions import growth

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.semconv import MetricSpec

__all__ = [
    "ANY",
    "RANGE",
    "RATE",
    "buckets",
    "counted",
    "equal",
    "increase",
    "label",
    "largest",
    "mean",
    "one_of",
    "or_zero",
    "quantile",
    "quote",
    "rate",
    "ratio",
    "selector",
    "sum_by",
    "variable",
]

#: Grafana's interval that holds enough scrapes for a rate, and the whole range of the dashboard.
RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
#: What *All* stands for: any value, but not a series that lacks the label.
ANY: Final = ".+"

_LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
#: Words that PromQL takes for something else than a label or a metric, in any case of letters.
_NO_LABELS: Final = frozenset({"inf", "nan", "without"})
_NO_METRICS: Final = _NO_LABELS | {"atan2", "bool", "group_left", "group_right", "ignoring", "on"}
_LEGACY_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def quote(text: str) -> str:
    r"""Return a string of PromQL.

    >>> print(quote('say "a\\b"'))
    "say \"a\\b\""
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def label(name: str) -> str:
    """Return a label's name as it is written, quoted where Prometheus 3 asks for it."""
    plain = _LEGACY_LABEL.fullmatch(name) and name.lower() not in _NO_LABELS
    return name if plain else quote(name)


def equal(name: str, value: str) -> str:
    """Return a matcher for one value.

    >>> equal("status", "error")
    'status="error"'
    """
    return f"{label(name)}={quote(value)}"


def one_of(name: str, values: Iterable[str]) -> str:
    """Return a matcher for some values, which mean themselves.

    >>> one_of("outcome", ["rejected", "dropped"])
    'outcome=~"rejected|dropped"'
    """
    return f"{label(name)}=~{quote('|'.join(map(_literal, values)))}"


def _literal(value: str) -> str:
    """Return a regular expression of RE2 for a text."""
    return re.sub(r"[\\.+*?()|\[\]{}^$]", r"\\\g<0>", value)


def variable(name: str, of: str = "", *, or_empty: bool = False) -> str:
    """Return a matcher for what is chosen in a variable of the dashboard.

    Args:
        name: The variable.
        of: The label, if it has another name.
        or_empty: Take series without the label, too.

    >>> variable("pipeline")
    'pipeline=~`${pipeline:regex}`'
    """
    return f"{label(of or name)}=~`${{{name}:regex}}{'|' if or_empty else ''}`"


def selector(metric: MetricSpec | str, *matchers: str, suffix: str = "") -> str:
    """Return the series of a metric.

    Args:
        metric: The metric, or the name of one that is not in the vocabulary.
        matchers: Which of its series.
        suffix: `_bucket`, `_sum` or `_count` of a histogram.

    >>> from otel_pipeline import semconv
    >>> selector(semconv.QUEUE_SIZE, equal("queue_name", "to-load"))
    'queue_size{queue_name="to-load"}'
    """
    name = (metric if isinstance(metric, str) else metric.name) + suffix
    if not _LEGACY_METRIC.fullmatch(name) or name.lower() in _NO_METRICS:
        return f"{{{','.join([quote(name), *matchers])}}}"
    return f"{name}{{{','.join(matchers)}}}" if matchers else name


def rate(series: str) -> str:
    """Return how fast counters grow, a second."""
    return f"rate({series}[{RATE}])"


def increase(series: str) -> str:
    """Return by how much counters grew in the whole range of the dashboard; to be summed up.

    What a new counter showed first counts, too: a job may begin and end between two scrapes.
    """
    return growth(series, RANGE)


def sum_by(labels: Iterable[str], expression: str) -> str:
    """Return the sum for each set of values of the labels; without labels, one sum.

    >>> sum_by(["pipeline", "status"], "rate(x[5m])")
    'sum by (pipeline, status) (rate(x[5m]))'
    """
    return _aggregate("sum", labels, expression)


def largest(labels: Iterable[str], expression: str) -> str:
    """Return the largest value for each set of values of the labels: what a gauge says now."""
    return _aggregate("max", labels, expression)


def counted(labels: Iterable[str], expression: str) -> str:
    """Return the number of series for each set of values of the labels."""
    return _aggregate("count", labels, expression)


def _aggregate(how: str, labels: Iterable[str], expression: str) -> str:
    kept = ", ".join(map(label, labels))
    return f"{how} by ({kept}) ({expression})" if kept else f"{how}({expression})"


def ratio(part: str, whole: str) -> str:
    """Return a share; nothing where the whole is 0, as nothing of nothing is no number."""
    return f"{part} / ({whole} > 0)"


def mean(histogram: MetricSpec | str, labels: Iterable[str], *matchers: str) -> str:
    """Return the mean of what a histogram or summary observed."""
    by = tuple(labels)
    return ratio(
        sum_by(by, rate(selector(histogram, *matchers, suffix="_sum"))),
        sum_by(by, rate(selector(histogram, *matchers, suffix="_count"))),
    )


def quantile(
    share: float, histogram: MetricSpec | str, labels: Iterable[str], *matchers: str
) -> str:
    """Return a quantile for each set of values of the labels; nothing where nothing was observed.

    >>> print(quantile(0.95, "wait_seconds", []))
    histogram_quantile(0.95, sum by (le) (rate(wait_seconds_bucket[$__rate_interval]))) >= 0
    """
    buckets = sum_by(["le", *labels], rate(selector(histogram, *matchers, suffix="_bucket")))
    # A comparison leaves NaN out, which is the quantile of no observation.
    return f"histogram_quantile({share:g}, {buckets}) >= 0"


def buckets(histogram: MetricSpec | str, *matchers: str) -> str:
    """Return how fast each bucket of a histogram fills, for a heat map.

    A scrape writes a bound as `1.0`, what comes by OTLP as `1`. A quantile takes them for one, a
    heat map would have a row for each.
    """
    filled = rate(selector(histogram, *matchers, suffix="_bucket"))
    return sum_by(["le"], f'label_replace({filled}, "le", "$1", "le", "(.+)[.]0")')


def or_zero(count: str) -> str:
    """Return a count that is 0 where there is nothing to count."""
    return f"{count} or vector(0)"
