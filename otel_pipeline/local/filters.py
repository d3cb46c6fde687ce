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
import operator
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from otel_pipeline.errors import CommandError
from otel_pipeline.local.attributes import attribute_of, number_of, says
from otel_pipeline.local.signature import LOGS, SPANS, words
from otel_pipeline.semconv import RUN_STATUSES, Attr, LogField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    """A filter as SQL, and for spans as tests, which are in blocks that SQL cannot look into.

    Attributes:
        sql: Conditions, all of which must hold; may be empty.
        parameters: The values of their question marks.
        bits: What a row's signature must have.
        tests: What must hold of a span.
    """

    sql: list[str] = field(default_factory=list)
    parameters: list[Any] = field(default_factory=list)
    bits: int = 0
    tests: list[Callable[[Any], bool]] = field(default_factory=list)

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
    compiler = _SpanCompiler if kind == "spans" else _Compiler
    for term in parse(text):
        compiler(kind, where, term, time.time_ns() if now is None else now).compile()
    return where


@dataclass
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
                self._duration()
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

    def _wanted(self) -> str:
        """Return the words that are looked for, in the form in which they are compared."""
        wanted = " ".join(words(self.term.value))
        if not wanted:
            raise self._fail(f"{self.term.value!r} has no letters or digits to look for")
        return wanted

    def _words(self) -> None:
        if self.kind != "logs":
            raise self._fail(f"{self.kind} are found by fields: {', '.join(FIELDS[self.kind])}")
        wanted = self._wanted()
        self.where.bits |= LOGS.phrase(wanted)
        self.where.add("log_says(raw, ?)", wanted)

    def _number(self) -> float:
        try:
            return float(self.term.value)
        except ValueError:
            raise self._fail(
                f"{self.term.value!r} is no number, as {self.term.operator} needs one"
            ) from None

    def _attribute(self, key: str) -> None:
        function, path = "log_attribute(raw, ?)", key
        if self.kind == "metrics":
            function, path = "json_extract(attributes, ?)", '$."' + key.replace('"', "") + '"'
        operator, value = self.term.operator, self.term.value
        if operator in _ORDER:
            self.where.add(f"CAST({function} AS REAL) {operator} ?", path, self._number())
            return
        if operator == "=" and self.kind == "logs":
            self.where.bits |= LOGS.pair(key, value)
        self.where.add(f"{function} {'IS' if operator == '=' else 'IS NOT'} ?", path, value)

    def _nanoseconds(self) -> int:
        match = _LENGTH.fullmatch(self.term.value)
        if match is None:
            raise self._fail(
                f"{self.term.value!r} is no length of time: write 250ms, 1.5s, 2m, 1h or 7d"
            )
        return min(int(float(match[1]) * _UNITS[match[2] or "s"]), _LATEST)

    def _duration(self) -> None:
        self.where.add(f"duration {self.term.operator} ?", self._nanoseconds())

    def _age(self) -> None:
        column = "time" if self.kind == "logs" else "start"
        # Older is earlier.
        turned = self.term.operator.translate(str.maketrans("<>", "><"))
        self.where.add(f"{column} {turned} ?", max(self.now - self._nanoseconds(), 0))

    def _one_of(self, allowed: Iterable[str]) -> str:
        if self.term.value not in allowed:
            every = ", ".join(allowed)
            raise self._fail(f"{self.term.value!r} is no {self.term.field} of {self.kind}: {every}")
        return self.term.value

    def _status(self) -> None:
        value = self._one_of(_RUN_STATUS)
        self.where.add(f"ifnull(status, 'running') {self.term.operator} ?", value)

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
            if operator == "=" and self.kind == "logs":
                self.where.bits |= LOGS.element(f"service={value}")
            chosen = f"SELECT id FROM resources WHERE service {operator} ?"  # noqa: S608
            self.where.add(f"resource IN ({chosen})", value)
        elif self.kind == "logs":
            key = _KEYS["logs"][name]
            if operator == "=":
                self.where.bits |= LOGS.pair(key, value)
            self.where.add(
                f"log_attribute(raw, ?) IS{'' if operator == '=' else ' NOT'} ?", key, value
            )
        else:
            self.where.add(f"{ {'run': 'run_id'}.get(name, name) } {operator} ?", value)

    def _id(self, name: str) -> bytes:
        length = 32 if name == "trace" else 16
        value = self.term.value
        if not re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", value):
            raise self._fail(f"{value!r} is no {name} id: it has {length} hexadecimal digits")
        return bytes.fromhex(value)


class _SpanCompiler(_Compiler):
    """Makes tests of spans, and conditions on the blocks that they are in."""

    def _test(self, of: Callable[[Any], Any], value: object) -> None:
        compare = _COMPARE[self.term.operator]
        self.where.tests.append(lambda span: compare(of(span), value))

    def _wants(self, bits: int) -> None:
        if self.term.operator == "=":
            self.where.bits |= bits

    def _words(self) -> None:
        wanted = self._wanted()
        self.where.bits |= SPANS.phrase(wanted)
        self.where.tests.append(lambda span: says(wanted, span.name, span.attributes))

    def _attribute(self, key: str) -> None:
        if self.term.operator in _ORDER:
            number, compare = self._number(), _COMPARE[self.term.operator]
            self.where.tests.append(
                lambda span: (
                    (found := number_of(span.attributes, key)) is not None
                    and compare(found, number)
                )
            )
            return
        self._wants(SPANS.pair(key, self.term.value))
        self._test(lambda span: attribute_of(span.attributes, key), self.term.value)

    def _duration(self) -> None:
        length = self._nanoseconds()
        if self.term.operator in {">", ">="}:
            self.where.add(f"longest {self.term.operator} ?", length)
        self._test(lambda span: max(span.end_time_unix_nano - span.start_time_unix_nano, 0), length)

    def _age(self) -> None:
        at = max(self.now - self._nanoseconds(), 0)
        younger = self.term.operator in {"<", "<="}
        self.where.add("last >= ?" if younger else "first <= ?", at)
        compare = _COMPARE[self.term.operator]
        self.where.tests.append(lambda span: compare(at, span.start_time_unix_nano))

    def _status(self) -> None:
        value = self._one_of(_SPAN_STATUS)
        if value == "error":
            self._wants(SPANS.element("status=error"))
        self._test(lambda span: span.status.code, _SPAN_STATUS[value])

    def _text(self, name: str) -> None:
        value = self.term.value
        if name in {"trace", "span"}:
            wanted = self._id(name)
            if (name, self.term.operator) == ("trace", "="):
                self.where.add("id IN (SELECT block FROM block_traces WHERE trace_id = ?)", wanted)
            self._test(lambda span: getattr(span, f"{name}_id"), wanted)
        elif name == "service":
            chosen = f"SELECT id FROM resources WHERE service {self.term.operator} ?"  # noqa: S608
            self.where.add(f"resource IN ({chosen})", value)
        elif name == "name":
            self._wants(SPANS.element(f"name={value}"))
            self._test(lambda span: span.name, value)
        else:
            key = _KEYS["spans"][name]
            self._wants(SPANS.pair(key, value))
            self._test(lambda span: attribute_of(span.attributes, key), value)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

#: A level's severity numbers go this far beyond its lowest.
_STEPS: Final = 3
