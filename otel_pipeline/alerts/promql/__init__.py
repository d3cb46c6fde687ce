"""PromQL as data: expressions are parsed into nodes that know where they stand in the text.

The parser takes what Prometheus 3 takes, its experimental parts included, and refuses what
Prometheus refuses; the tests compare both.
"""

from __future__ import annotations

from otel_pipeline.alerts.promql.lexer import PromQLError
from otel_pipeline.alerts.promql.parser import parse

__all__ = ["PromQLError", "parse"]
