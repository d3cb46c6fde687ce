"""The sources of settings, each read into a layer: defaults, environment, file, arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from otel_pipeline.config import _parse
from otel_pipeline.config._model import Setting
from otel_pipeline.config._options import BY_FIELD, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Collection

    from otel_pipeline.config._options import Option

__all__ = ["Found", "Layer", "Problem", "Problems", "argument_layer", "default_layer", "text_layer"]

#: Arguments that stand for an attribute of the resource and have no variable of their own.
ATTRIBUTE_ARGUMENTS = {
    "environment": "deployment.environment.name",
    "version": "service.version",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A setting that cannot be used: what to tell the user, and what was given."""

    message: str
    setting: Setting


Problems = dict[str, Problem]  # by variable; by name for an argument that has none


@dataclass(frozen=True, slots=True)
class Found:
    """One setting of one layer; `value` is None for an option without a default."""

    option: Option
    text: str
    value: Any
    source: str

    @property
    def is_set(self) -> bool:
        """Whether somebody set it."""
        return self.source != "default"

    @property
    def setting(self) -> Setting:
        """How it is shown."""
        return Setting(self.option.mask(self.text), self.source)

    def problem(self, reason: str) -> Problem:
        """Return what is wrong with it; `reason` goes behind the name and the value."""
        argument = self.source == "argument"
        name = f"argument {self.option.field}" if argument else self.option.variable
        origin = ", in the configuration file" if self.source == "file" else ""
        shown = _parse.shorten(self.option.mask(self.text))
        return Problem(f"{name}={shown} {reason}{origin}", self.setting)


Layer = dict[str, Found]  # by the option's field


def default_layer() -> Layer:
    """Return the defaults of all options."""
    return {
        option.field: Found(
            option,
            option.default,
            option.read(option.default) if option.default else None,
            "default",
        )
        for option in OPTIONS
    }


def text_layer(texts: Mapping[str, str], source: str, problems: Problems) -> Layer:
    """Return the settings that stand as text under the names of variables.

    Args:
        texts: Texts by variable; what is blank counts as unset, unknown names are left out.
        source: `environment` or `file`.
        problems: Gets a message for each variable that cannot be used.
    """
    layer: Layer = {}
    for option in OPTIONS:
        text = texts.get(option.variable, "").strip()
        if text:
            _add(layer, Found(option, text, None, source), problems)
    return layer


def argument_layer(arguments: Mapping[str, object], problems: Problems) -> Layer:
    """Return the settings given as arguments; None and blank text count as not given.

    An argument becomes the text that its variable would hold, so that one parser checks both.

    Args:
        arguments: Values by the field of their option.
        problems: Gets a message for each argument that cannot be used or is unknown.
    """
    layer: Layer = {}
    for field, value in arguments.items():
        option = BY_FIELD.get(field)
        if option is None:
            if field not in ATTRIBUTE_ARGUMENTS:
                known = (*BY_FIELD, *ATTRIBUTE_ARGUMENTS)
                hint = _parse.did_you_mean(field, known)
                problems[field] = _unusable(f"there is no argument {field!r}{hint}", "")
            continue
        try:
            text = _argument_text(option, value)
        except ValueError as error:
            shown = "'***'" if option.secret else _parse.shorten(value)
            problems[option.variable] = _unusable(f"argument {field}={shown} {error}", shown)
            continue
        if text:
            _add(layer, Found(option, text, None, "argument"), problems)
    _add_attributes(layer, arguments, problems)
    return layer


def _add_attributes(layer: Layer, arguments: Mapping[str, object], problems: Problems) -> None:
    """Add the arguments that stand for attributes to those given as attributes."""
    before = layer.get("resource_attributes")
    attributes: dict[str, str] = dict(before.value) if before else {}
    for name, attribute in ATTRIBUTE_ARGUMENTS.items():
        text = str(arguments.get(name) or "").strip()
        try:
            _parse.check_encoding(text)
        except ValueError as error:
            problems[name] = _unusable(f"argument {name}={_parse.shorten(text)} {error}", text)
            continue
        if text:
            attributes[attribute] = text
    if attributes:
        option, text = BY_FIELD["resource_attributes"], _parse.encode_pairs(attributes)
        layer[option.field] = Found(option, text, attributes, "argument")


def _unusable(message: str, shown: str) -> Problem:
    return Problem(message, Setting(shown, "argument"))


def _add(layer: Layer, found: Found, problems: Problems) -> None:
    try:
        value = found.option.read(found.text)
    except ValueError as error:
        problems[found.option.variable] = found.problem(str(error))
    else:
        layer[found.option.field] = replace(found, value=value)


def _argument_text(option: Option, value: object) -> str:
    if option.unit == "ms" and value is not None:
        seconds = _parse.to_seconds(value)
        if seconds is None:
            raise ValueError(_parse.NO_DURATION)
        return f"{seconds * 1000:.15g}"
    return _as_text(value).strip()


def _as_text(value: object) -> str:
    match value:
        case None:
            text = ""
        case bool():
            text = "true" if value else "false"
        case str() | int() | float():
            text = str(value)
        case timedelta():
            text = repr(value.total_seconds())
        case os.PathLike():
            text = str(os.fspath(value))
        case Mapping():
            text = _parse.encode_pairs(value)
        case list() | tuple():
            text = ",".join(_items(value))
        case set() | frozenset():
            text = ",".join(sorted(_items(value)))
        case _:
            raise ValueError(f"is of type {type(value).__name__}, which no setting takes")
    return text


def _items(values: Collection[object]) -> list[str]:
    items = [str(value) for value in values]
    for item in items:
        if "," in item:
            raise ValueError(f"has a comma in {item!r}; give one item each")
    return items
