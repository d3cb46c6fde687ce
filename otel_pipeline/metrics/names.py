"""Names: what a metric and its series are called, on `/metrics` and in OpenTelemetry.

A name is checked once, when the metric is declared, so that a scrape can never meet one that
Prometheus refuses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_pipeline.errors import LabelError, MetricError, MetricNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.semconv import Kind

__all__ = [
    "check_label_names",
    "exposed_name",
    "family_name",
    "label_text",
    "otel_name",
    "series_names",
]

_METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_UNPRINTABLE: Final = re.compile("[\x00\ud800-\udfff]")

#: The label that a kind of metric adds to its own series.
_RESERVED_LABELS: Final = {"histogram": "le", "summary": "quantile"}

#: The ends of the series names that a kind of metric owns, as prometheus_client reserves them.
_SUFFIXES: Final[dict[Kind, tuple[str, ...]]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_sum", "_count", "_created"),
    "summary": ("", "_sum", "_count", "_created"),
    "info": ("", "_info"),
    "enum": ("",),
}

#: Prometheus's units and their UCUM codes, where every translator agrees on the pair.
_UCUM: Final = {
    "amperes": "A",
    "bytes": "By",
    "celsius": "Cel",
    "days": "d",
    "gibibytes": "GiBy",
    "gigabytes": "GBy",
    "grams": "g",
    "hertz": "Hz",
    "hours": "h",
    "joules": "J",
    "kibibytes": "KiBy",
    "mebibytes": "MiBy",
    "megabytes": "MBy",
    "meters": "m",
    "microseconds": "us",
    "milliseconds": "ms",
    "minutes": "min",
    "nanoseconds": "ns",
    "percent": "%",
    "seconds": "s",
    "terabytes": "TBy",
    "volts": "V",
    "watts": "W",
}


def family_name(kind: Kind, name: str, namespace: str, subsystem: str, unit: str) -> str:
    """Return the family name of a metric, put together as prometheus_client does.

    Args:
        kind: The type of the metric.
        name: The name that the user gave.
        namespace: What stands first, or empty.
        subsystem: What stands between, or empty.
        unit: The unit that the name is to end with, or empty.

    Returns:
        The name without the suffix of its series: `orders` for the counter `orders_total`.

    Raises:
        MetricNameError: The name is empty or has characters that Prometheus cannot carry.
        MetricError: A kind without unit was given one.
    """
    if not name:
        msg = "Metric name should not be empty: give the metric a name"
        raise MetricNameError(msg)
    full = "_".join(part for part in (namespace, subsystem, name) if part)
    if kind == "counter":
        full = full.removesuffix("_total")
    if unit and not full.endswith(f"_{unit}"):
        full = f"{full}_{unit}"
    if not _METRIC_NAME.fullmatch(full):
        msg = (
            f"Invalid metric name {full!r}: Prometheus allows letters, digits, '_' and ':', "
            "and no digit first. Rename the metric"
        )
        raise MetricNameError(msg)
    if unit and kind in {"info", "enum"}:
        msg = f"{full}: an {kind} metric cannot have a unit; leave out unit={unit!r}"
        raise MetricError(msg)
    return full


def check_label_names(kind: Kind, family: str, labelnames: Iterable[str]) -> tuple[str, ...]:
    """Return the label names as a tuple, if Prometheus can carry each of them.

    Args:
        kind: The type of the metric.
        family: The name of the metric, for messages.
        labelnames: What the user declared.

    Returns:
        The names, in the order given.

    Raises:
        MetricNameError: A name is malformed or reserved.
        LabelError: A name is there twice.
    """
    names = tuple(labelnames)
    for name in names:
        check_label_name(family, name)
    reserved = family if kind == "enum" else _RESERVED_LABELS.get(kind)
    if reserved in names:
        msg = f"{family}: label {reserved!r} is reserved: the {kind} sets it itself. Rename it"
        raise MetricNameError(msg)
    if len(set(names)) != len(names):
        msg = f"{family}: a label name is there twice in {names}; name each label once"
        raise LabelError(msg)
    if kind == "enum":
        check_label_name(family, family)
    return names


def check_label_name(family: str, name: str) -> None:
    """Raise `MetricNameError` unless `name` can be a label of the metric `family`."""
    if not _LABEL_NAME.fullmatch(name):
        msg = (
            f"{family}: invalid label name {name!r}: Prometheus allows letters, digits and '_', "
            "and no digit first. Rename the label"
        )
        raise MetricNameError(msg)
    if name.startswith("__"):
        msg = f"{family}: label name {name!r} is reserved: Prometheus keeps names with '__' first"
        raise MetricNameError(msg)


def exposed_name(family: str, kind: Kind) -> str:
    """Return the name by which people know a metric on `/metrics`: `orders_total`."""
    return family + {"counter": "_total", "info": "_info"}.get(kind, "")


def series_names(family: str, kind: Kind) -> tuple[str, ...]:
    """Return every series name that a metric owns, so that no other may use it."""
    return tuple(family + suffix for suffix in _SUFFIXES[kind])


def otel_name(family: str, unit: str, kind: Kind) -> tuple[str, str]:
    """Return the name and the unit of a metric in OpenTelemetry.

    Prometheus's OTLP receiver puts unit and `_total` back, and so arrives at the name that
    `/metrics` shows. It does not add a word that stands in the name already; the name then keeps
    its unit here.

    Args:
        family: The family name, as `family_name` returns it.
        unit: The unit that the user declared, or empty.
        kind: The type of the metric.

    Returns:
        The name, and the unit's UCUM code or an empty string.

    >>> otel_name("load_seconds", "seconds", "histogram")
    ('load', 's')
    >>> otel_name("load_widgets", "widgets", "counter")
    ('load_widgets', '')
    """
    if kind == "info":
        return f"{family}_info", ""
    ucum = "1" if (unit, kind) == ("ratio", "gauge") else _UCUM.get(unit, "")
    if not ucum:
        return family, ""
    name = family.removesuffix(f"_{unit}")
    if unit in name.split("_"):
        return family, "" if unit == "ratio" else ucum
    return name, ucum


def label_text(value: object) -> str:
    """Return a label value as text that a scrape can carry, whatever the value does."""
    try:
        text = str.__str__(str(value))
    except Exception:  # noqa: BLE001  a broken __str__ must not reach the user's program
        return f"<unprintable {type(value).__name__}>"
    if text.isascii() and "\0" not in text:
        return text
    return _UNPRINTABLE.sub("\ufffd", text)
