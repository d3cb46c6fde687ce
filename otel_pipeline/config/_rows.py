"""The configuration as rows to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_pipeline.config._options import OPTIONS

if TYPE_CHECKING:
    from otel_pipeline.config._model import Config

__all__ = ["Row", "rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """One variable, to be shown.

    Attributes:
        variable: Its name.
        value: Its effective value as text, secrets masked; empty if there is none.
        source: `argument`, `environment`, `file`, `default`, or the variable it follows from.
        doc: What it means.
        default: Its default as text; empty if there is none.
        topic: The group in which it is shown.
    """

    variable: str
    value: str
    source: str
    doc: str
    default: str
    topic: str


def rows(config: Config) -> list[Row]:
    """Return every variable with its effective value, secrets masked.

    Args:
        config: The configuration to show.

    Returns:
        A row for each declared variable, in the order of `OPTIONS`.

    Example:
        >>> from otel_pipeline.config import load, rows
        >>> config = load({"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc"})
        >>> [row.value for row in rows(config) if row.variable == "OTEL_EXPORTER_OTLP_HEADERS"]
        ['authorization=***']
    """
    return [
        Row(
            option.variable,
            config.settings[option.variable].value,
            config.settings[option.variable].source,
            option.doc,
            option.default,
            option.topic,
        )
        for option in OPTIONS
    ]
