"""What a parameter of a check may be: how it is read, and how a JSON schema says it.

A parser takes what code or YAML gives and returns the value that the check keeps, or raises a
`ValueError` that ends the sentence "PARAMETER 'value' ...".
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.config import parse_duration
from otel_pipeline.config._parse import not_one_of
from otel_pipeline.quality.checks.predicate import Predicate

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "TYPES",
    "Param",
    "bound",
    "choice",
    "column",
    "columns",
    "condition",
    "duration",
    "flag",
    "number_of_rows",
    "other_data",
    "pattern",
    "ratio",
    "sink",
    "text",
    "types",
    "values",
]

#: Types of columns, whichever library holds them.
TYPES: Final = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64, 128)),
    "float32",
    "float64",
    "decimal",
    "string",
    "binary",
    "date",
    "datetime",
    "time",
    "duration",
    "list",
    "struct",
    "null",
    "object",
    "any",
)

_SCALARS = (str, bool, int, float, dt.date, dt.time)


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter.

    Attributes:
        doc: What it means, for the reference and for editors.
        parse: From what is given to what is kept.
        schema: The JSON schema of what YAML may give.
    """

    doc: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, object]


_TEXT: Final = {"type": "string", "minLength": 1}
_SCALAR: Final = {"type": ["string", "number", "boolean"]}


def _text(given: object) -> str:
    if not isinstance(given, str) or not given.strip():
        raise ValueError("is not a text with at least one character")
    return given


def text(doc: str) -> Param:
    """Return a parameter that is a text."""
    return Param(doc, _text, _TEXT)


def column(doc: str) -> Param:
    """Return a parameter that is the name of a column."""

    def parse(given: object) -> str:
        if not isinstance(given, str) or not given:
            raise ValueError("is not the name of a column")
        return given

    return Param(doc, parse, _TEXT)


def columns(doc: str, most: int | None = None) -> Param:
    """Return a parameter that is one name of a column, or a list of them, at most so many."""

    def parse(given: object) -> tuple[str, ...]:
        names = (given,) if isinstance(given, str) else given
        if not isinstance(names, Sequence) or not names:
            raise ValueError("is neither the name of a column nor a list of names")
        for name in names:
            if not isinstance(name, str) or not name:
                raise ValueError(f"has {name!r}, which is not the name of a column")
        if len(set(names)) < len(names):
            raise ValueError("names a column twice")
        if most is not None and len(names) > most:
            raise ValueError(f"has {len(names)} columns; at most {most} are possible")
        return tuple(names)

    listed = {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True}
    if most is not None:
        listed["maxItems"] = most
    return Param(doc, parse, {"anyOf": [_TEXT, listed]})


def bound(doc: str) -> Param:
    """Return a parameter that is a number, a date, a time stamp or a text to compare with."""

    def parse(given: object) -> object:
        if isinstance(given, bool) or not isinstance(given, _SCALARS):
            raise ValueError("is not a number, a text, a date or a time stamp")
        if isinstance(given, float) and math.isnan(given):
            raise ValueError("is not a number that can be compared")
        return given

    return Param(doc, parse, {"type": ["number", "string"]})


def values(doc: str) -> Param:
    """Return a parameter that is a list of values."""

    def parse(given: object) -> tuple[object, ...]:
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(
            given, (Sequence, AbstractSet)
        ):
            raise ValueError("is not a list of values")
        if not given:
            raise ValueError("is a list without a value")
        for value in given:
            if not isinstance(value, _SCALARS):
                raise ValueError(f"has {value!r}; allowed are texts, numbers, bools and dates")
        return tuple(given)

    return Param(doc, parse, {"type": "array", "items": _SCALAR, "minItems": 1})


def pattern(doc: str) -> Param:
    """Return a parameter that is a regular expression."""

    def parse(given: object) -> str:
        expression = _text(given)
        try:
            re.compile(expression)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return expression

    return Param(doc, parse, {"type": "string", "format": "regex", "minLength": 1})


def duration(doc: str) -> Param:
    """Return a parameter that is a length of time, kept in seconds."""

    def parse(given: Any) -> float:
        seconds = parse_duration(given)
        if not seconds:
            raise ValueError("is not above 0 seconds")
        return seconds

    return Param(doc, parse, {"type": ["string", "number"], "examples": ["26h", "15m", "7d"]})


def flag(doc: str) -> Param:
    """Return a parameter that is true or false."""

    def parse(given: object) -> bool:
        if not isinstance(given, bool):
            raise ValueError("is not one of true, false")
        return given

    return Param(doc, parse, {"type": "boolean"})


def number_of_rows(doc: str) -> Param:
    """Return a parameter that is a whole number, zero or more."""

    def parse(given: object) -> int:
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            raise ValueError("is not a whole number of at least 0")
        return given

    return Param(doc, parse, {"type": "integer", "minimum": 0})


def ratio(doc: str) -> Param:
    """Return a parameter that is a share, from 0 to 1."""

    def parse(given: object) -> float:
        is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not is_number or not 0 <= given <= 1:  # type: ignore[operator]
            raise ValueError("is not a number from 0 to 1")
        return float(given)  # type: ignore[arg-type]

    return Param(doc, parse, {"type": "number", "minimum": 0, "maximum": 1})


def choice(doc: str, words: Sequence[str]) -> Param:
    """Return a parameter that is one of a few words."""

    def parse(given: object) -> str:
        # YAML reads a bare `on` or `off` as a bool, so what is given need not be a text.
        if not isinstance(given, str) or given not in words:
            raise not_one_of(str(given), words)
        return given

    return Param(doc, parse, {"enum": list(words)})


def types(doc: str) -> Param:
    """Return a parameter that gives columns their types."""

    def parse(given: object) -> Mapping[str, str]:
        if not isinstance(given, Mapping) or not given:
            raise ValueError("is not a mapping from columns to types")
        for name, kind in given.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"has {name!r}, which is not the name of a column")
            if kind not in TYPES:
                reason = not_one_of(str(kind), TYPES)
                raise ValueError(f"has {kind!r} for column {name!r}, which {reason}")
        return dict(given)

    schema = {"type": "object", "minProperties": 1, "additionalProperties": {"enum": list(TYPES)}}
    return Param(doc, parse, schema)


def other_data(doc: str) -> Param:
    """Return a parameter that is a file of data, or in code the data or a function giving it."""

    def parse(given: object) -> object:
        if given is None or isinstance(given, (bool, int, float)) or given == "":
            raise ValueError("is neither data nor the path of a file with data")
        return fspath(given) if isinstance(given, PathLike) else given

    return Param(doc, parse, _TEXT)


def sink(doc: str) -> Param:
    """Return a parameter that says where bad rows go: a path, or in code a function."""

    def parse(given: object) -> object:
        if callable(given):
            return given
        path = fspath(given) if isinstance(given, PathLike) else given
        if not isinstance(path, str) or not path.endswith((".parquet", ".jsonl", ".ndjson")):
            raise ValueError(
                "is neither a path that ends in .parquet, .jsonl or .ndjson nor a function"
            )
        return path

    return Param(doc, parse, {"type": "string", "pattern": r"\.(parquet|jsonl|ndjson)$"})


def condition(doc: str) -> Param:
    """Return a parameter that is a condition on a row."""

    def parse(given: object) -> object:
        if isinstance(given, Predicate):
            return given
        if not isinstance(given, str) and hasattr(given, "fill_null"):
            return given  # an expression of narwhals, which need not be installed here
        return Predicate(_text(given))

    return Param(doc, parse, _TEXT)
