"""Datasets and their checks as YAML: read, with errors that say where, and as a JSON schema."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from otel_pipeline.config._parse import did_you_mean, shorten
from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality.checks import KINDS
from otel_pipeline.quality.checks.model import parameters
from otel_pipeline.quality.datasets import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.quality.checks import Check
    from otel_pipeline.quality.checks.params import Param

__all__ = ["dataset_parameters", "json_schema", "load"]

#: Parameters that are paths, relative to the file that they stand in.
_PATHS: Final = frozenset({"to", "other", "quarantine"})


class _Loader(yaml.SafeLoader):
    """Reads `NO` and `on` as texts, as YAML 1.2 does: not every country is a bool."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, match) for tag, match in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(path: str | Path) -> list[Dataset]:
    """Read datasets and their checks from a YAML file.

    Args:
        path: The file. Paths in it are relative to it.

    Returns:
        The datasets, in order; `register(*load(path))` declares them.

    Raises:
        ConfigurationError: The file cannot be used: says where, what is allowed, and the nearest
            right word.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8") from None
    try:
        loader = _Loader(content)
        return _File(path, loader).datasets(loader.get_single_node())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "it cannot be read")
        raise ConfigurationError(f"{path}{where}: this is not YAML: {problem}") from None


class _File:
    """A file that is being read."""

    def __init__(self, path: Path, loader: _Loader) -> None:
        self._path = path
        self._loader = loader

    def datasets(self, node: yaml.Node | None) -> list[Dataset]:
        if node is None:
            raise ConfigurationError(f"{self._path}: is empty; it begins with datasets:")
        top = self._mapping(node, "", ("datasets",))
        if "datasets" not in top:
            raise self._error(node, "", "datasets is missing")
        named = self._mapping(top["datasets"], "datasets")
        return [self._dataset(name, one, f"datasets.{name}") for name, one in named.items()]

    def _dataset(self, name: str, node: yaml.Node, place: str) -> Dataset:
        declared = dataset_parameters()
        entries = self._mapping(node, place, ("checks", *declared))
        given = {
            key: self._parse(value, declared[key], f"{place}.{key}", key)
            for key, value in entries.items()
            if key != "checks"
        }
        checks: list[Check] = []
        if "checks" in entries:
            listed = entries["checks"]
            if not isinstance(listed, yaml.SequenceNode):
                raise self._error(
                    listed, f"{place}.checks", "is not a list; write each check as - not_null: id"
                )
            for index, one in enumerate(listed.value):
                check = self._check(one, f"{place}.checks[{index}]")
                if check.name in {other.name for other in checks}:
                    raise self._error(
                        one,
                        f"{place}.checks[{index}]",
                        f"is the second check that is called {check.name!r}; give it another name",
                    )
                checks.append(check)
        try:
            return Dataset(name, checks=checks, **given)
        except ConfigurationError as error:
            raise self._error(node, place, str(error)) from None

    def _check(self, node: yaml.Node, place: str) -> Check:
        node_of_kind: yaml.Node | None
        if isinstance(node, yaml.ScalarNode) and node.value in KINDS:
            name, node_of_kind = str(node.value), None
        else:
            kinds = self._mapping(node, place, KINDS)
            if len(kinds) != 1:
                raise self._error(
                    node,
                    place,
                    f"has {len(kinds)} entries; a check is one kind with its parameters below it",
                )
            ((name, node_of_kind),) = kinds.items()
        kind = KINDS[name]
        place = f"{place}.{name}"
        fields = parameters(kind)
        declared = {key: one.metadata["param"] for key, one in fields.items()}
        entries: dict[str, yaml.Node] = {}
        if node_of_kind is not None:
            is_short = kind.short and not isinstance(node_of_kind, yaml.MappingNode)
            entries = (
                {kind.short: node_of_kind}
                if is_short
                else self._mapping(node_of_kind, place, declared)
            )
        given = {
            key: self._parse(value, declared[key], f"{place}.{key}", key)
            for key, value in entries.items()
        }
        for key, one in fields.items():
            if one.default is dataclasses.MISSING and key not in given:
                raise self._error(
                    node_of_kind or node, place, f"{key} is missing: {declared[key].doc}"
                )
        try:
            return kind(**given)
        except ConfigurationError as error:
            message = str(error).removeprefix(f"check {name}: ")
            raise self._error(node_of_kind or node, place, message) from None

    def _parse(self, node: yaml.Node, declared: Param, place: str, key: str) -> Any:
        value = self._loader.construct_object(node, deep=True)
        try:
            parsed = declared.parse(value)
        except (TypeError, ValueError) as error:
            reason = str(error).removeprefix(shorten(value)).strip()
            raise self._error(node, place, f"{shorten(value)} {reason}") from None
        return str(self._path.parent / parsed) if key in _PATHS else parsed

    def _mapping(
        self, node: yaml.Node, place: str, allowed: Iterable[str] | None = None
    ) -> dict[str, yaml.Node]:
        """Return the entries of a mapping; each key is a text, allowed, and there once."""
        if not isinstance(node, yaml.MappingNode):
            expected = f" with {', '.join(allowed)}" if allowed else ""
            what = "a list" if isinstance(node, yaml.SequenceNode) else "a value"
            raise self._error(node, place, f"is {what}, not a mapping{expected}")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value
            inside = f"{place}.{name}" if place else str(name)
            if not isinstance(key, yaml.ScalarNode) or not name.strip():
                raise self._error(key, place, "has a key that is not a name")
            if name in found:
                raise self._error(key, inside, "is there twice")
            if allowed is not None and name not in allowed:
                words = list(allowed)
                raise self._error(
                    key,
                    inside,
                    f"is not known; allowed are {', '.join(words)}{did_you_mean(name, words)}",
                )
            found[name] = value
        return found

    def _error(self, node: yaml.Node, place: str, problem: str) -> ConfigurationError:
        line = node.start_mark.line + 1
        where = f"{place} " if place else ""
        return ConfigurationError(f"{self._path}, line {line}: {where}{problem}")


def dataset_parameters() -> dict[str, Param]:
    """Return what YAML may say of a dataset beside its checks."""
    return {
        one.name: one.metadata["param"]
        for one in dataclasses.fields(Dataset)
        if "param" in one.metadata and one.name != "name"
    }


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the YAML file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Datasets and their checks, for otel-pipeline",
        "type": "object",
        "properties": {
            "datasets": {
                "description": "From the name of each dataset to what is wanted of it.",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/dataset"},
            }
        },
        "required": ["datasets"],
        "additionalProperties": False,
        "$defs": {
            "dataset": {
                "type": "object",
                "properties": {
                    **{key: _described(one) for key, one in dataset_parameters().items()},
                    "checks": {
                        "description": "What one wants to be true of the dataset.",
                        "type": "array",
                        "items": {"$ref": "#/$defs/check"},
                    },
                },
                "additionalProperties": False,
            },
            "check": {
                "type": "object",
                "properties": {name: _schema_of(kind) for name, kind in KINDS.items()},
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
            },
        },
    }


def _described(declared: Param) -> dict[str, Any]:
    return {"description": declared.doc, **declared.schema}


def _schema_of(kind: type[Check]) -> dict[str, Any]:
    fields = parameters(kind)
    required = [key for key, one in fields.items() if one.default is dataclasses.MISSING]
    whole = {
        "type": "object",
        "properties": {key: _described(one.metadata["param"]) for key, one in fields.items()},
        "required": required,
        "additionalProperties": False,
    }
    summary = (kind.__doc__ or "").partition("\n")[0]
    if not kind.short:
        return {"description": summary, **whole}
    return {
        "description": summary,
        "anyOf": [fields[kind.short].metadata["param"].schema, whole],
    }
