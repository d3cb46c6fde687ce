"""Pieces of PromQL that the rules are put together from."""

from __future__ import annotations

import textwrap

__all__ = ["NEW_SERIES", "duration", "growth", "indent"]

#: By this an expression is known that takes `growth()` of something.
NEW_SERIES = "unless last_over_time("

_UNITS = (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
#: A series that was away for longer than this, and comes back, is a new one.
_GAP = "1h"


def duration(seconds: float) -> str:
    """Return a time as Prometheus writes it.

    Args:
        seconds: A whole number of seconds.

    Returns:
        The shortest form in one unit, or in two.

    Example:
        >>> duration(300), duration(5400), duration(541), duration(0)
        ('5m', '1h30m', '9m1s', '0s')
    """
    left = int(seconds)
    parts = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def growth(selector: str, window: str) -> str:
    """Return by how much each counter of a selector grew within a window.

    `increase()` sees nothing of what a counter had when it was first scraped. A series that was not
    there before the window began counts with its whole value: so a short job whose process pushes
    once, or is scraped once, is seen. One that was there within the hour before only had a gap.

    Args:
        selector: A counter, such as `x_total{status="error"}`.
        window: A duration of PromQL, such as `5m`.

    Example:
        >>> print(growth("x_total", "5m"))
        last_over_time(x_total[5m])
          unless last_over_time(x_total[1h] offset 5m)
          or increase(x_total[5m])
    """
    return (
        f"last_over_time({selector}[{window}])\n"
        f"  {NEW_SERIES}{selector}[{_GAP}] offset {window})\n"
        f"  or increase({selector}[{window}])"
    )


def indent(text: str) -> str:
    """Return an expression that stands within another."""
    return textwrap.indent(text, "  ")
