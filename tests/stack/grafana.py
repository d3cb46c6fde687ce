"""What Grafana does with a dashboard: fill in its variables, and ask Prometheus and Loki.

It reads the JSON that Grafana reads, and knows the parts of it that our dashboards use.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.stack.programs import Server

__all__ = ["Backends", "Value", "View", "fill", "panels"]

_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(__\w+|[a-z]\w*)")


@dataclass(frozen=True)
class Value:
    """What is chosen in a variable: some values, or all of them."""

    chosen: tuple[str, ...]
    all_value: str = ""  # stands for all, as it is

    def formatted(self, how: str) -> str:
        """Return the value as a query has it."""
        if self.all_value:
            return self.all_value
        values = [_escaped(value) for value in self.chosen] if how == "regex" else self.chosen
        return values[0] if len(values) == 1 else f"({'|'.join(values)})"


def _escaped(value: str) -> str:
    return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value)


def fill(text: str, values: Mapping[str, Value]) -> str:
    """Return a text with its variables filled in; an unknown one is an error."""

    def put(found: re.Match[str]) -> str:
        name, how = found[1] or found[3], found[2] or "glob"
        return values[name].formatted(how)

    return _VARIABLE.sub(put, text)


def panels(dashboard: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Give each panel but rows, with the variable for whose values its row is repeated."""
    repeat = ""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            repeat = panel.get("repeat", "")
            yield from ((inner, repeat) for inner in panel["panels"])
        else:
            yield panel, repeat


@dataclass(frozen=True)
class Backends:
    """Where the data sources are, by their types."""

    prometheus: Server
    loki: Server


@dataclass(frozen=True)
class View:
    """A dashboard that somebody looks at.

    Attributes:
        dashboard: What Grafana reads.
        backends: Where the data is.
        seconds: How far back it looks.
        choices: What is chosen in variables; in others it is *All*, or nothing is typed.
    """

    dashboard: Mapping[str, Any]
    backends: Backends
    seconds: int
    choices: Mapping[str, tuple[str, ...]]

    step = 15

    def intervals(self) -> dict[str, Value]:
        """Return Grafana's own variables."""
        known = {
            "__rate_interval": "60s",  # four scrapes
            "__range": f"{self.seconds}s",
            "__auto": f"{self.step}s",
            "datasource": "prometheus",
            "loki": "loki",
            "tempo": "tempo",
        }
        return {name: Value((value,)) for name, value in known.items()}

    def values(self) -> dict[str, Value]:
        """Return the value of each variable, in the order in which one depends on another."""
        values = self.intervals()
        for variable in self.dashboard["templating"]["list"]:
            name = variable["name"]
            if variable["type"] == "textbox":
                values[name] = Value(self.choices.get(name, ("",)))
            elif variable["type"] == "query":
                chosen = self.choices.get(name) or self.options(variable, values)
                is_all = name not in self.choices
                values[name] = Value(chosen, (variable["allValue"] or "") if is_all else "")
        return values

    def options(self, variable: Mapping[str, Any], values: Mapping[str, Value]) -> tuple[str, ...]:
        """Return what can be chosen in a variable."""
        found = _LABEL_VALUES.fullmatch(variable["query"]["query"])
        assert found is not None, variable["query"]
        end = time.time()
        answer = self.backends.prometheus.get(
            f"/api/v1/label/{found['label']}/values",
            **{
                "match[]": fill(found["series"], values),
                "start": f"{end - self.seconds:.0f}",
                "end": f"{end:.0f}",
            },
        )
        return tuple(answer["data"])

    def answer(self, target: Mapping[str, Any], values: Mapping[str, Value]) -> list[Any]:
        """Return what a query of a panel finds: series, or streams of log lines."""
        expr = fill(target["expr"], values)
        end = time.time()
        start = end - self.seconds
        if target["datasource"]["type"] == "loki":
            instant = target["queryType"] == "instant"
            path, server = "/loki/api/v1/query", self.backends.loki
        else:
            instant = target["instant"]
            path, server = "/api/v1/query", self.backends.prometheus
        if instant:
            when = {"time": f"{end:.3f}"}
        else:
            path += "_range"
            when = {"start": f"{start:.0f}", "end": f"{end:.0f}", "step": str(self.step)}
        return server.get(path, query=expr, **when)["data"]["result"]

    def exemplars(self, target: Mapping[str, Any], values: Mapping[str, Value]) -> list[Any]:
        """Return the exemplars behind a query."""
        end = time.time()
        answer = self.backends.prometheus.get(
            "/api/v1/query_exemplars",
            query=fill(target["expr"], values),
            start=f"{end - self.seconds:.0f}",
            end=f"{end:.0f}",
        )
        return [one for found in answer["data"] for one in found["exemplars"]]
