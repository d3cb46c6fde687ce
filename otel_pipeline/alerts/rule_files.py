"""Rule files as data: Prometheus' own, PrometheusRule objects of Kubernetes, several documents."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from otel_pipeline.alerts.promql import PromQLError, parse
from otel_pipeline.alerts.promql.lexer import duration
from otel_pipeline.alerts.promql.nodes import kind
from otel_pipeline.alerts.rule_comments import allowances
from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_pipeline.alerts.promql.nodes import Node

__all__ = ["Problem", "Rule", "RuleFile", "read", "read_text"]

_MERGE: Final = "<<"
#: What only LogQL has: something after the stream selector, or its functions.
_LOGQL: Final = re.compile(
    r"\}\s*(?:\|[=~>]|!~|!=|\|\s*[a-z_]+)|\|\s*(?:json|logfmt|pattern|regexp|unwrap|line_format)\b"
    r"|\bbytes_(?:rate|over_time)\s*\(|\brate_counter\s*\("
)
_LOKI_KINDS: Final = ("AlertingRule", "RecordingRule")
_TEMPLATE: Final = re.compile(r"^\s*\{\{|:\s*\{\{|^\s*<%", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file, or a rule in it, cannot be used."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        """Return `FILE:LINE: MESSAGE`."""
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting or recording rule.

    Attributes:
        file: Where it stands.
        name: The alert's name, or that of the recorded series.
        alerting: Whether it is an alerting rule.
        text: Its expression.
        expr: The same, parsed.
        lines: The line of each character of the expression that is not blank.
        hold: `for`, in seconds.
        keep_firing: `keep_firing_for`, in seconds.
        interval: Seconds between evaluations, where its group says so.
        labels: Labels that it adds.
        allowed: Ids of findings that a comment on it allows.
    """

    file: str
    name: str
    alerting: bool
    text: str
    expr: Node
    lines: tuple[int, ...]
    hold: float = 0.0
    keep_firing: float = 0.0
    interval: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()

    def line(self, position: int = 0) -> int:
        """Return the line of the file in which a part of the expression stands."""
        return _line_at(self.text, self.lines, position)


@dataclass(slots=True)
class RuleFile:
    """What a file holds: `loki` says that its expressions are LogQL, so nothing reads them."""

    name: str
    rules: list[Rule] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    loki: bool = False


class _InvalidError(Exception):
    def __init__(self, message: str, where: yaml.Mark | int) -> None:
        super().__init__(message)
        self.line = where if isinstance(where, int) else where.line + 1


def read(name: str) -> RuleFile:
    """Read a rule file.

    Args:
        name: Its path, or `-` for what comes in on standard input.

    Returns:
        Its rules, and what of it cannot be used.

    Raises:
        CommandError: The file cannot be read.
    """
    if name == "-":
        return read_text("<stdin>", sys.stdin.read())
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandError(f"{name} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{name} is no text in UTF-8: {error.reason}") from error
    return read_text(name, text)


def read_text(name: str, text: str) -> RuleFile:
    """Read the text of a rule file.

    Args:
        name: What problems and rules name as their file.
        text: The YAML.

    Returns:
        Its rules, and what of it cannot be used.

    Example:
        >>> file = read_text("rules.yml", "groups: [{name: a, rules: [{record: b, expr: up}]}]")
        >>> [rule.name for rule in file.rules]
        ['b']
    """
    file = RuleFile(name)
    try:
        _Reader(file, text).read()
    except _InvalidError as error:
        file.problems.append(Problem(name, error.line, str(error)))
    except yaml.YAMLError as error:
        file.problems.append(_of_yaml(name, text, error))
    except RecursionError:
        file.problems.append(Problem(name, 1, "an anchor (`&`) in it refers to itself"))
    if file.loki:
        file.rules.clear()
        file.problems.clear()
    return file


def _of_yaml(name: str, text: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or str(error).splitlines()[0]
    message = f"it is no YAML: {said}"
    if _TEMPLATE.search(text):
        message += "; it looks like a template: render it first (`helm template`), then check it"
    return Problem(name, 1 if mark is None else mark.line + 1, message)


class _Reader:
    """Reads one file into a `RuleFile`."""

    def __init__(self, file: RuleFile, text: str) -> None:
        self._file = file
        self._source = text
        self._lines = text.splitlines()
        self._known = False  # whether a document was of a known form
        self._rules: list[tuple[yaml.MappingNode, float | None]] = []

    def read(self) -> None:
        documents = [
            node for node in yaml.compose_all(self._source, yaml.SafeLoader) if not _is_null(node)
        ]
        for document in documents:
            self._document(document)
        if documents and not self._known:
            raise _InvalidError(
                "it has no rules: a rule file has `groups:` at its top, a PrometheusRule has "
                "`spec.groups`",
                documents[0].start_mark,
            )
        starts = [node.start_mark.line for node, _ in self._rules]
        allowed = allowances(self._source, starts)
        for (node, interval), ids in zip(self._rules, allowed, strict=True):
            try:
                self._file.rules.append(self._rule(node, interval, ids))
            except _InvalidError as error:
                self._file.problems.append(Problem(self._file.name, error.line, str(error)))

    def _document(self, node: yaml.Node) -> None:
        if not isinstance(node, yaml.MappingNode):
            raise _InvalidError("a rule file is a mapping with `groups:`", node.start_mark)
        fields = _fields(node)
        of = _text(fields.get("kind"))
        if of in _LOKI_KINDS:
            self._known = self._file.loki = True
        elif "groups" in fields:
            self._groups(fields["groups"])
        elif isinstance(spec := fields.get("spec"), yaml.MappingNode) and "groups" in _fields(spec):
            self._groups(_fields(spec)["groups"])
        elif of.endswith("List") and isinstance(items := fields.get("items"), yaml.SequenceNode):
            for item in items.value:
                self._document(item)
        elif of == "PrometheusRule" or not fields:
            self._known = True  # without rules

    def _groups(self, node: yaml.Node) -> None:
        self._known = True
        for group in _entries(node, "groups"):
            fields = _fields(group)
            if "name" not in fields:
                raise _InvalidError("a group has no `name`", group.start_mark)
            interval = _seconds(fields.get("interval"), "interval")
            for rule in _entries(fields.get("rules"), "rules"):
                self._rules.append((rule, interval))

    def _rule(self, node: yaml.MappingNode, interval: float | None, ids: frozenset[str]) -> Rule:
        fields = _fields(node)
        names = [key for key in ("alert", "record") if _text(fields.get(key))]
        if len(names) != 1:
            raise _InvalidError("a rule has either `alert` or `record`", node.start_mark)
        expr = fields.get("expr")
        name = _text(fields[names[0]])
        if not isinstance(expr, yaml.ScalarNode) or not expr.value.strip():
            raise _InvalidError(f"{name} has no expression (`expr`)", node.start_mark)
        lines = _character_lines(expr, self._lines)
        try:
            parsed = parse(expr.value)
        except PromQLError as error:
            if _LOGQL.search(expr.value):
                self._file.loki = True
            raise _InvalidError(
                f"{name}: the expression is no PromQL: {error}",
                _line_at(expr.value, lines, error.position),
            ) from None
        if kind(parsed) not in ("scalar", "vector"):
            raise _InvalidError(
                f"{name}: the expression gives a {kind(parsed)}, and a rule needs a vector",
                lines[0],
            )
        labels = fields.get("labels")
        return Rule(
            self._file.name,
            name,
            names == ["alert"],
            expr.value,
            parsed,
            lines,
            _seconds(fields.get("for"), "for") or 0.0,
            _seconds(fields.get("keep_firing_for"), "keep_firing_for") or 0.0,
            interval,
            {key: _text(value) for key, value in _fields(labels).items()}
            if isinstance(labels, yaml.MappingNode)
            else {},
            ids,
        )


def _fields(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    """Return the fields of a mapping; those merged into it give way to its own."""
    own: dict[str, yaml.Node] = {}
    merged: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _text(key)
        if name == _MERGE:
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in reversed(sources):
                if isinstance(source, yaml.MappingNode):
                    merged.update(_fields(source))
        elif name in own:
            raise _InvalidError(
                f"the key `{name}` stands twice, and only one would count: remove one",
                key.start_mark,
            )
        else:
            own[name] = value
    return {**merged, **own}


def _entries(node: yaml.Node | None, what: str) -> Iterator[yaml.MappingNode]:
    if node is None or _is_null(node):
        return
    if not isinstance(node, yaml.SequenceNode):
        raise _InvalidError(f"`{what}` is a list: write `- ` before each entry", node.start_mark)
    for entry in node.value:
        if not isinstance(entry, yaml.MappingNode):
            raise _InvalidError(f"an entry of `{what}` is no mapping", entry.start_mark)
        yield entry


def _is_null(node: yaml.Node | None) -> bool:
    return node is None or node.tag == "tag:yaml.org,2002:null"


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _seconds(node: yaml.Node | None, what: str) -> float | None:
    text = _text(node)
    if node is None or not text:
        return None
    if text == "0":
        return 0.0
    try:
        return duration(text)
    except ValueError as error:
        raise _InvalidError(f"`{what}`: {error}", node.start_mark) from None


def _line_at(text: str, lines: tuple[int, ...], position: int) -> int:
    before = sum(not character.isspace() for character in text[:position])
    return lines[min(before, len(lines) - 1)]


def _character_lines(node: yaml.ScalarNode, lines: list[str]) -> tuple[int, ...]:
    """Return the line, from 1, of each character of a scalar that is not blank.

    YAML folds lines, but the characters between blanks stay in their order. Where a quoted scalar
    has escapes, the line is that of about the same place.
    """
    wanted = sum(not character.isspace() for character in node.value)
    number, column = node.start_mark.line, node.start_mark.column
    if node.style in ("|", ">"):
        number, column = number + 1, 0
    elif node.style:
        column += 1
    found: list[int] = []
    while len(found) < wanted and number < len(lines):
        blackened = sum(not character.isspace() for character in lines[number][column:])
        found += [number + 1] * min(blackened, wanted - len(found))
        number, column = number + 1, 0
    return tuple(found) or (node.start_mark.line + 1,)
