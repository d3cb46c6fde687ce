"""The language in which one asks for spans, log lines, runs and metrics, and its way to SQL.

```text
service:orders status:error dur>1s attr.customer=42 "connection reset"
```

Terms stand side by side, and all must hold. A term is a field, an operator and a value, or words:

| field | of | operators | value |
|---|---|---|---|
| `service` `pipeline` `stage` `run` `trace` | spans, logs | `:` `=` `!=` | text |
| `service` `pipeline` `run` `trace` | runs | `:` `=` `!=` | text |
| `name` | spans, metrics | `:` `=` `!=` | text |
| `span` | spans, logs | `:` `=` `!=` | a span id |
| `status` | spans | `:` `=` `!=` | `ok`, `error`, `unset` |
| `status` | runs | `:` `=` `!=` | `success`, `error`, `interrupted`, `running` |
| `level` | logs | and `>` `>=` `<` `<=` | `debug`, `info`, `warning`, `error`, `critical` |
| `dur` | spans, runs | `>` `>=` `<` `<=` | `250ms`, `1.5s`, `2m`, `1h` |
| `age` | all but metrics | `>` `>=` `<` `<=` | the same, and `7d` |
| `kind` `unit` | metrics | `:` `=` `!=` | text |
| `attr.KEY` | spans, logs, metrics | all | text or a number |

Words, bare or in double quotes, are looked for in a span's name and attributes, and in a log
line's message and attributes: whole words in this order, in upper or lower case.
"""

from __future__ import annotations

import difflib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from otel_pipeline.errors import CommandError
from otel_pipeline.local import signature
from otel_pipeline.semconv import RUN_STATUSES, Attr, LogField

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FilterError", "Kind", "Term", "Where", "compile_filter", "parse"]

#: What is asked for.
Kind = Literal["spans", "logs", "runs", "metrics"]


class FilterError(CommandError):
    """A filter that cannot be understood; the message says where, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a filter.

    Attributes:
        field: The field's name; empty for words.
        operator: `=`, `!=`, `<`, `<=`, `>` or `>=`.
        value: What stands behind it.
        at: Where the term begins in the filter, from 1.
    """

    field: str
    operator: str
    value: str
    at: int


@dataclass(slots=True)
class Where:
    """A filter as SQL.

    Attributes:
        sql: Conditions, all of which must hold; may be empty.
        parameters: The values of their question marks.
        bits: What a row's signature must have.
    """

    sql: list[str] = field(default_factory=list)
    parameters: list[Any] = field(default_factory=list)
    bits: int = 0

    def add(self, sql: str, *parameters: object) -> None:
        """Add a condition."""
        self.sql.append(sql)
        self.parameters += parameters


_TERM = re.compile(
    r"""\s*(?:
        (?:(?P<field>[A-Za-z_][\w.\-/]*)\s*(?P<operator>!=|>=|<=|[:=<>])\s*)?
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"]+))
    )""",
    re.VERBOSE,
)
_LENGTH = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h|d)?")
_UNITS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
    "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip
_LATEST: Final = 2**63 - 1
_EQUAL: Final = ("=", "!=")
_ORDER: Final = (">", ">=", "<", "<=")

#: The fields of each kind, with their operators.
FIELDS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "spans": {
        **dict.fromkeys(("service", "pipeline", "stage", "run", "trace", "span", "name"), _EQUAL),
        "status": _EQUAL,
        "dur": _ORDER,
        "age": _ORDER,
    },
    "logs": {
        **dict.fromkeys(("service", "pipeline", "stage", "run", "trace", "span"), _EQUAL),
        "level": _EQUAL + _ORDER,
        "age": _ORDER,
    },
    "runs": {
        **dict.fromkeys(("service", "pipeline", "run", "trace", "status"), _EQUAL),
        "dur": _ORDER,
        "age": _ORDER,
    },
    "metrics": dict.fromkeys(("service", "name", "kind", "unit"), _EQUAL),
}
_SPAN_STATUS: Final = {"unset": 0, "ok": 1, "error": 2}
#: The lowest of the severity numbers of a level; each has four.
LEVELS: Final = {"trace": 1, "debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
_LEVEL_NAMES: Final = {**LEVELS, "warn": 13, "fatal": 21}
_RUN_STATUS: Final = (*RUN_STATUSES, "running")
_KEYS: Final = {
    "spans": {"pipeline": Attr.PIPELINE_NAME, "stage": Attr.STAGE, "run": Attr.RUN_ID},
    "logs": {
        "pipeline": LogField.PIPELINE,
        "stage": LogField.STAGE,
        "run": LogField.RUN_ID,
    },
}


def parse(text: str) -> list[Term]:
    """Take a filter apart.

    Args:
        text: The filter.

    Raises:
        FilterError: It cannot be read.

    >>> [(term.field, term.operator, term.value) for term in parse('dur>1s "late order"')]
    [('dur', '>', '1s'), ('', '=', 'late order')]
    """
    terms = []
    at = 0
    while text[at:].strip():
        begin = at + len(text[at:]) - len(text[at:].lstrip())
        match = _TERM.match(text, at)
        if match is None:
            raise FilterError(
                f"the filter cannot be read at {begin + 1}, {text[begin : begin + 20]!r}:"
                ' a text in double quotes needs both of them, as in "late order"'
            )
        value = match["bare"] if match["quoted"] is None else _unquoted(match["quoted"])
        operator = (match["operator"] or "=").replace(":", "=")
        if match["field"] and match["quoted"] is None and value[0] in "=<>!:":
            raise FilterError(
                f"the filter cannot be read at {match.start('bare') + 1}, {value[:20]!r}:"
                " write a field, one of : = != > >= < <=, and a value"
            )
        terms.append(Term(match["field"] or "", operator, value, begin + 1))
        at = match.end()
    return terms


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def compile_filter(text: str, kind: Kind, *, now: int | None = None) -> Where:
    """Return a filter as SQL with parameters; nothing of its text stands in the SQL.

    Args:
        text: The filter.
        kind: What it is for.
        now: Unix time in nanoseconds that ages are counted from; by default that of the clock.

    Raises:
        FilterError: It cannot be understood, or asks for what there is not.
    """
    where = Where()
    for term in parse(text):
        _Compiler(kind, where, term, time.time_ns() if now is None else now).compile()
    return where


@dataclass(slots=True)
class _Compiler:
    """Adds one term to the conditions."""

    kind: Kind
    where: Where
    term: Term
    now: int

    def compile(self) -> None:
        name = self.term.field
        if not name:
            self._words()
        elif name.startswith("attr.") and len(name) > len("attr.") and self.kind != "runs":
            self._attribute(name.removeprefix("attr."))
        else:
            self._check_field(name)
            if name == "dur":
                self._order("duration", self._nanoseconds())
            elif name == "age":
                self._age()
            elif name == "status":
                self._status()
            elif name == "level":
                self._level()
            else:
                self._text(name)

    def _fail(self, what: str) -> FilterError:
        return FilterError(f"the filter at {self.term.at}: {what}")

    def _check_field(self, name: str) -> None:
        allowed = FIELDS[self.kind]
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, 1)
            every = ", ".join([*allowed, *([] if self.kind == "runs" else ["attr.KEY"])])
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise self._fail(
                f"{name!r} is no field of {self.kind}{hint} (there are {every}; a text to look for"
                " stands in double quotes)"
            )
        if self.term.operator not in allowed[name]:
            raise self._fail(f"{name!r} takes {' '.join(allowed[name])}, not {self.term.operator}")

    def _words(self) -> None:
        if self.kind in {"runs", "metrics"}:
            raise self._fail(f"{self.kind} are found by fields: {', '.join(FIELDS[self.kind])}")
        wanted = signature.words(self.term.value)
        if not wanted:
            raise self._fail(f"{self.term.value!r} has no letters or digits to look for")
        self.where.bits |= signature.union(map(signature.element, wanted))
        function = "span_says(name, raw, ?)" if self.kind == "spans" else "log_says(raw, ?)"
        self.where.add(function, " ".join(wanted))

    def _attribute(self, key: str) -> None:
        function = {
            "spans": "span_attribute(raw, ?)",
            "logs": "log_attribute(raw, ?)",
            "metrics": "json_extract(attributes, ?)",
        }[self.kind]
        path = '$."' + key.replace('"', "") + '"' if self.kind == "metrics" else key
        operator, value = self.term.operator, self.term.value
        if operator in _ORDER:
            try:
                number = float(value)
            except ValueError:
                raise self._fail(f"{value!r} is no number, as {operator} needs one") from None
            self.where.add(f"CAST({function} AS REAL) {operator} ?", path, number)
            return
        if operator == "=":
            self.where.bits |= signature.pair(key, value)
        self.where.add(f"{function} {'IS' if operator == '=' else 'IS NOT'} ?", path, value)

    def _nanoseconds(self) -> int:
        match = _LENGTH.fullmatch(self.term.value)
        if match is None:
            raise self._fail(
                f"{self.term.value!r} is no length of time: write 250ms, 1.5s, 2m, 1h or 7d"
            )
        return min(int(float(match[1]) * _UNITS[match[2] or "s"]), _LATEST)

    def _order(self, column: str, value: int) -> None:
        self.where.add(f"{column} {self.term.operator} ?", value)

    def _age(self) -> None:
        column = "time" if self.kind == "logs" else "start"
        # Older is earlier.
        turned = self.term.operator.translate(str.maketrans("<>", "><"))
        self.where.add(f"{column} {turned} ?", max(self.now - self._nanoseconds(), 0))

    def _status(self) -> None:
        value, operator = self.term.value, self.term.operator
        allowed = list(_SPAN_STATUS) if self.kind == "spans" else list(_RUN_STATUS)
        if value not in allowed:
            raise self._fail(f"{value!r} is no status of {self.kind}: {', '.join(allowed)}")
        if self.kind == "runs":
            self.where.add(f"ifnull(status, 'running') {operator} ?", value)
            return
        if (operator, value) == ("=", "error"):
            self.where.bits |= signature.element("status=error")
        self.where.add(f"status {operator} ?", _SPAN_STATUS[value])

    def _level(self) -> None:
        value, operator = self.term.value.lower(), self.term.operator
        if value not in _LEVEL_NAMES:
            raise self._fail(f"{self.term.value!r} is no level: {', '.join(LEVELS)}")
        lowest = _LEVEL_NAMES[value]
        conditions = {
            "=": (f"severity BETWEEN ? AND ? + {_STEPS}", (lowest, lowest)),
            "!=": (f"severity NOT BETWEEN ? AND ? + {_STEPS}", (lowest, lowest)),
            ">": (f"severity > ? + {_STEPS}", (lowest,)),
            ">=": ("severity >= ?", (lowest,)),
            "<": ("severity < ?", (lowest,)),
            "<=": (f"severity <= ? + {_STEPS}", (lowest,)),
        }
        sql, parameters = conditions[operator]
        self.where.add(sql, *parameters)

    def _text(self, name: str) -> None:
        operator, value = self.term.operator, self.term.value
        if name in {"trace", "span"}:
            self.where.add(f"{name}_id IS{'' if operator == '=' else ' NOT'} ?", self._id(name))
        elif name == "service" and self.kind != "runs":
            if operator == "=" and self.kind != "metrics":
                self.where.bits |= signature.element(f"service={value}")
            chosen = f"SELECT id FROM resources WHERE service {operator} ?"  # noqa: S608
            self.where.add(f"resource IN ({chosen})", value)
        elif name in (keys := _KEYS.get(self.kind, {})):
            key = keys[name]
            function = "span_attribute" if self.kind == "spans" else "log_attribute"
            if operator == "=":
                self.where.bits |= signature.pair(key, value)
            self.where.add(
                f"{function}(raw, ?) IS{'' if operator == '=' else ' NOT'} ?", key, value
            )
        else:
            column = {"run": "run_id"}.get(name, name)
            if operator == "=" and self.kind == "spans":
                self.where.bits |= signature.element(f"name={value}")
            self.where.add(f"{column} {operator} ?", value)

    def _id(self, name: str) -> bytes:
        length = 32 if name == "trace" else 16
        value = self.term.value
        if not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", value):
            raise self._fail(f"{value!r} is no {name} id: it has {length} hexadecimal digits")
        return bytes.fromhex(value)


#: A level's severity numbers go this far beyond its lowest.
_STEPS: Final = 3


def signature_conditions(bits: int) -> Iterator[tuple[str, int]]:
    """Yield the conditions on the three columns of a signature."""
    for column, part in zip(("s0", "s1", "s2"), signature.integers(bits), strict=True):
        if part:
            yield f"{column} & ? = ?", part
