"""Settings of alerts from a YAML file, with errors that say what, where and what instead."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

from otel_pipeline import semconv
from otel_pipeline.alerts.recorded import Parameters
from otel_pipeline.alerts.settings import (
    BURN_RATES,
    DAY,
    DEFAULTS,
    HOUR,
    PER_PIPELINE,
    RECEIVERS,
    SEVERITIES,
    SLOS,
    Alert,
    Links,
    PipelineSettings,
    PlannedWork,
    Receiver,
    Routing,
    Settings,
    Slo,
)
from otel_pipeline.config._parse import did_you_mean, shorten
from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["read_settings"]

_DURATION = re.compile(r"(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SIZES = (7 * DAY, DAY, HOUR, 60, 1)
_FASTEST_BURN: Final = max(burn.rate for burns in BURN_RATES.values() for burn in burns)
#: An objective with a larger budget than this leaves can never burn it so fast.
_LOWEST: Final = 1 - 1 / _FASTEST_BURN
_PERCENT: Final = 100
#: What Alertmanager takes from a file instead, by the name of the setting that is a secret.
_SECRETS: Final = {
    "api_key": "api_key_file",
    "api_url": "api_url_file",
    "auth_password": "auth_password_file",
    "bot_token": "bot_token_file",
    "credentials": "credentials_file",
    "password": "password_file",
    "routing_key": "routing_key_file",
    "service_key": "service_key_file",
    "token": "token_file",
    "url": "url_file",
    "user_key": "user_key_file",
    "webhook_url": "webhook_url_file",
}
_KEYS: Final = {"for": "hold", "keep_firing_for": "keep"}
_NAMES: Final = {attribute: key for key, attribute in _KEYS.items()}


class _Node:
    """A value of the file that knows where it stands."""

    def __init__(self, file: str, node: yaml.Node, path: str = "") -> None:
        self.file = file
        self.node = node
        self.path = path

    def refuse(self, message: str) -> NoReturn:
        """Raise the error that says what is wrong here."""
        where = f"{self.file}:{self.node.start_mark.line + 1}"
        raise ConfigurationError(f"{where}: {self.path or 'the file'} {message}")

    def mapping(self, allowed: Iterable[str] | None = None) -> dict[str, _Node]:
        """Return what a mapping has, by its keys, which must be among the allowed ones."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag.endswith(":null"):
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            self.refuse(f"must be a mapping of names to values, and is {shorten(self.value())}")
        words = None if allowed is None else tuple(allowed)
        found: dict[str, _Node] = {}
        for key, value in self.node.value:
            name = str(key.value)
            here = _Node(self.file, value, f"{self.path}.{name}" if self.path else name)
            at = _Node(self.file, key, here.path)
            if words is not None and name not in words:
                at.refuse(f"is unknown: allowed are {', '.join(words)}{did_you_mean(name, words)}")
            if name in found:
                at.refuse("stands there twice: which of the two holds would be chance")
            found[name] = here
        return found

    def items(self) -> list[_Node]:
        """Return the items of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.refuse(f"must be a list, and is {shorten(self.value())}")
        return [
            _Node(self.file, item, f"{self.path}[{index}]")
            for index, item in enumerate(self.node.value)
        ]

    def value(self) -> Any:
        """Return the value as Python has it."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_document(self.node)
        except yaml.YAMLError as error:
            self.refuse(f"cannot be read: {error}")
        finally:
            loader.dispose()

    def text(self) -> str:
        value = self.value()
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"must be a text, and is {shorten(value)}")
        return value

    def choice(self, allowed: Iterable[str]) -> str:
        words = tuple(allowed)
        text = self.value()
        if text not in words:
            self.refuse(
                f"is {shorten(text)}: allowed are {', '.join(words)}"
                f"{did_you_mean(str(text), words)}"
            )
        return str(text)

    def truth(self) -> bool:
        value = self.value()
        if not isinstance(value, bool):
            self.refuse(f"must be true or false, and is {shorten(value)}")
        return value

    def number(self, *, least: float = 0, most: float = float("inf")) -> float:
        value = self.value()
        if isinstance(value, str) and (share := re.fullmatch(r"(\d+(?:\.\d+)?) ?%", value)):
            value = float(share[1]) / 100
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124
            self.refuse(f"must be a number, and is {shorten(value)}")
        if not least <= value <= most:
            bounds = f"at least {least:g}" + (f" and at most {most:g}" if isfinite(most) else "")
            self.refuse(f"must be {bounds}, and is {shorten(value)}")
        return value

    def count(self) -> int:
        value = self.number()
        if value != int(value):
            self.refuse(f"must be a whole number, and is {shorten(value)}")
        return int(value)

    def seconds(self, *, least: int = 0, most: int = 365 * DAY) -> int:
        value = self.value()
        if isinstance(value, str) and value and (parts := _DURATION.fullmatch(value)):
            seconds = sum(
                int(part or 0) * size for part, size in zip(parts.groups(), _SIZES, strict=True)
            )
        elif value == 0 and not isinstance(value, bool):
            seconds = 0
        else:
            self.refuse(f"must be a time such as 30s, 5m, 1h30m or 2d, and is {shorten(value)}")
        if not least <= seconds <= most:
            self.refuse(f"must be from {least} to {most} seconds, and is {shorten(value)}")
        return seconds


def read_settings(path: str | Path) -> Settings:
    """Read the settings of alerts.

    Args:
        path: A YAML file; an empty one means the defaults.

    Returns:
        The settings, checked.

    Raises:
        ConfigurationError: The file cannot be read, or something in it cannot be used: says where,
            what is allowed, and the nearest right word.
    """
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
        documents = list(yaml.compose_all(text, yaml.SafeLoader))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} is no UTF-8 text") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is no YAML: {error}") from None
    if len(documents) > 1:
        raise ConfigurationError(f"{file} has {len(documents)} documents; put all into one")
    if not documents or documents[0] is None:
        return Settings()
    return _settings(_Node(file, documents[0]))


def _settings(node: _Node) -> Settings:
    readers: Mapping[str, Callable[[_Node], Any]] = {
        "window": lambda one: one.seconds(least=5, most=1800),
        "memory": lambda one: one.seconds(least=2 * DAY),
        "alerts": lambda one: _alerts(one, DEFAULTS, DEFAULTS),
        "pipelines": lambda one: one,
        "planned_work": _planned_work,
        "receivers": _receivers,
        "routing": _routing,
        "links": _links,
    }
    given = {key: readers[key](one) for key, one in node.mapping(readers).items()}
    alerts = {**DEFAULTS, **given.get("alerts", {})}
    parameters = _parameters(given, alerts)
    pipelines = {}
    if "pipelines" in given:
        pipelines = {
            name: _pipeline(one, alerts) for name, one in given["pipelines"].mapping().items()
        }
    return Settings(
        parameters=parameters,
        alerts=alerts,
        pipelines=pipelines,
        planned_work=given.get("planned_work", ()),
        receivers={**RECEIVERS, **given.get("receivers", {})},
        routing=given.get("routing", Routing()),
        links=given.get("links", Links()),
    )


def _parameters(given: Mapping[str, Any], alerts: Mapping[str, Alert]) -> Parameters:
    found = Parameters(stalled_after=alerts["PipelineStalled"].need("after"))
    if "window" in given:
        found = replace(found, window=given["window"], long_window=12 * given["window"])
    if "memory" in given:
        found = replace(found, memory=given["memory"])
    return found


def _alerts(node: _Node, defaults: Mapping[str, Alert], allowed: Iterable[str]) -> dict[str, Alert]:
    return {name: _alert(one, name, defaults[name]) for name, one in node.mapping(allowed).items()}


def _alert(node: _Node, name: str, default: Alert) -> Alert:
    attributes = [one.name for one in fields(Alert) if getattr(default, one.name) is not None]
    # Below the first bound of a bucket, and above the last but one, a quantile is only guessed.
    least, most = {
        "HighErrorRate": (0, 0.99),
        "HighLatency": (semconv.PROCESSING_BOUNDS[0], semconv.PROCESSING_BOUNDS[-2]),
        "CollectorQueueFull": (0, 0.99),
    }.get(name, (0, float("inf")))
    readers: Mapping[str, Callable[[_Node], Any]] = {
        "severity": lambda one: one.choice(SEVERITIES),
        "enabled": _Node.truth,
        "hold": lambda one: one.seconds(most=DAY),
        "keep": lambda one: one.seconds(most=DAY),
        "after": lambda one: one.seconds(least=10, most=DAY // 2),
        "threshold": lambda one: float(one.number(least=least, most=most)),
        "minimum_records": _Node.count,
        "minimum_errors": _Node.count,
    }
    given = node.mapping(_NAMES.get(attribute, attribute) for attribute in attributes)
    return replace(
        default,
        **{(key := _KEYS.get(name, name)): readers[key](one) for name, one in given.items()},
    )


def _pipeline(node: _Node, alerts: Mapping[str, Alert]) -> PipelineSettings:
    given = node.mapping(("expected", "alerts", "slos"))
    return PipelineSettings(
        expected="expected" in given and given["expected"].truth(),
        alerts=_alerts(given["alerts"], alerts, PER_PIPELINE) if "alerts" in given else {},
        slos=tuple(
            _slo(kind, one)
            for kind, one in (given["slos"].mapping(SLOS) if "slos" in given else {}).items()
        ),
    )


def _slo(kind: str, node: _Node) -> Slo:
    given = node.mapping(("objective",) if kind == "records" else ("objective", "seconds"))
    if "objective" not in given:
        node.refuse("lacks its objective, in percent, such as `objective: 99.5`")
    at = given["objective"]
    percent = at.value()
    if isinstance(percent, str) and percent.endswith("%"):
        percent = at.number() * 100
    else:
        percent = at.number()
    if percent >= _PERCENT:
        at.refuse(
            f"is {percent:g} %: nothing may ever fail, so there is no budget to burn; "
            "take what users notice, such as 99.9"
        )
    if percent <= 1:
        at.refuse(f"is {percent:g} %: it is in percent, so write {percent * 100:g}")
    if percent <= _LOWEST * 100:
        at.refuse(
            f"is {percent:g} %: if everything fails the budget burns {100 / (100 - percent):.1f} "
            f"times too fast, and {_FASTEST_BURN:g} pages; it must be above {_LOWEST * 100:.1f}, "
            "or leave the objective out and set the threshold of HighErrorRate"
        )
    seconds = None
    if kind == "latency":
        seconds = _latency_bound(node, given)
    elif "seconds" in given:
        value = given["seconds"].value()
        seconds = (
            given["seconds"].seconds() if isinstance(value, str) else given["seconds"].number()
        )
        if seconds <= 0:
            given["seconds"].refuse("must be more than 0 seconds")
    return Slo(kind, round(percent / 100, 9), seconds)


def _latency_bound(node: _Node, given: Mapping[str, _Node]) -> float:
    bounds = semconv.PROCESSING_BOUNDS
    words = ", ".join(f"{bound:g}" for bound in bounds)
    if "seconds" not in given:
        node.refuse(f"lacks `seconds`, within which a batch should end: one of {words}")
    at = given["seconds"]
    value = at.value()
    seconds = at.seconds() if isinstance(value, str) else at.number()
    if seconds not in bounds:
        nearest = min(bounds, key=lambda bound: abs(bound - seconds))
        at.refuse(
            f"is {seconds:g}, which is no bound of a bucket of "
            f"{semconv.PROCESSING_DURATION.name}, so batches within it are not counted: take "
            f"{nearest:g}, or another of {words}"
        )
    return float(seconds)


def _planned_work(node: _Node) -> tuple[PlannedWork, ...]:
    found: dict[str, PlannedWork] = {}
    for item in node.items():
        given = item.mapping(("name", "times", "pipelines"))
        for key in ("name", "times"):
            if key not in given:
                item.refuse(f"lacks `{key}`")
        name = given["name"].text()
        if name in found:
            given["name"].refuse(f"is {name!r} again: names must differ")
        found[name] = PlannedWork(
            name,
            tuple(_time_interval(one) for one in given["times"].items()),
            tuple(one.text() for one in given["pipelines"].items()) if "pipelines" in given else (),
        )
    return tuple(found.values())


def _time_interval(node: _Node) -> Mapping[str, Any]:
    given = node.mapping(("times", "weekdays", "days_of_month", "months", "years", "location"))
    for span in given["times"].items() if "times" in given else ():
        parts = span.mapping(("start_time", "end_time"))
        for key in ("start_time", "end_time"):
            if key not in parts:
                span.refuse(f"lacks `{key}`")
            if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", str(parts[key].value())):
                parts[key].refuse(
                    f'must be a time of day in quotes, such as "02:30", and is '
                    f"{shorten(parts[key].value())}"
                )
        if str(parts["start_time"].value()) >= str(parts["end_time"].value()):
            span.refuse(
                "must end after it starts; over midnight it is two, until 24:00 and from 00:00"
            )
    value = node.value()
    return value if isinstance(value, dict) else {}


def _receivers(node: _Node) -> dict[str, Receiver]:
    found = {}
    for role, one in node.mapping(RECEIVERS).items():
        given = one.mapping()
        if "name" not in given:
            one.refuse("lacks `name`")
        settings = {}
        for key, value in given.items():
            if key == "name":
                continue
            if not key.endswith("_configs"):
                value.refuse(
                    "is unknown: besides `name` there are Alertmanager's webhook_configs, "
                    "slack_configs, email_configs, pagerduty_configs and so on"
                )
            for item in value.items():
                _no_secrets(item)
            settings[key] = value.value()
        found[role] = Receiver(given["name"].text(), settings)
    _agree(node, found)
    return found


def _agree(node: _Node, receivers: Mapping[str, Receiver]) -> None:
    """Refuse two receivers of one name that are not the same."""
    known: dict[str, Receiver] = {}
    for role, receiver in receivers.items():
        if known.setdefault(receiver.name, receiver) != receiver:
            node.mapping()[role].refuse(
                f"has the name {receiver.name!r} of another receiver with other settings"
            )


def _no_secrets(node: _Node) -> None:
    if not isinstance(node.node, yaml.MappingNode):
        return
    for key, value in node.mapping().items():
        if key in _SECRETS:
            value.refuse(
                f"is a secret, or has one in it: put it into a file that only Alertmanager can "
                f"read, and say `{_SECRETS[key]}: PATH`"
            )
        _no_secrets(value)


def _routing(node: _Node) -> Routing:
    keys = [one.name for one in fields(Routing)]
    given = node.mapping(keys)
    values: dict[str, Any] = {
        key: one.seconds(least=0 if key == "group_wait" else 1)
        for key, one in given.items()
        if key != "group_by"
    }
    if "group_by" in given:
        values["group_by"] = tuple(one.text() for one in given["group_by"].items())
    return replace(Routing(), **values)


def _links(node: _Node) -> Links:
    given = node.mapping(("grafana", "runbook"))
    for one in given.values():
        if not re.match(r"https?://[^/\s]", one.text()):
            one.refuse(f"must be an address with http:// or https://, and is {shorten(one.text())}")
    if "runbook" in given and "{alert}" not in given["runbook"].text():
        given["runbook"].refuse("must have {alert} where the alert's name stands")
    return replace(Links(), **{key: one.text().rstrip("/") for key, one in given.items()})
