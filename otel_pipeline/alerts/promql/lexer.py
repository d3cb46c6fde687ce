"""The words of a PromQL expression."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["PromQLError", "Token", "duration", "tokens"]

_UNITS: Final = {"y": 31536000, "w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION: Final = re.compile(r"(?:\d+(?:ms|[smhdwy]))+(?![A-Za-z0-9_.])")
_DURATION_PARTS: Final = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?"
)
_NUMBER: Final = re.compile(
    r"(?:0[xX](?:_?[0-9A-Fa-f])+|(?:\d(?:_?\d)*(?:\.(?:\d(?:_?\d)*)?)?|\.\d(?:_?\d)*)"
    r"(?:[eE][+-]?\d+)?)(?![A-Za-z0-9_.])"
)
_NOT_A_NUMBER: Final = re.compile(r"(?:inf|nan)(?![A-Za-z0-9_:])", re.IGNORECASE)
_WORD: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # between braces and brackets
_STRING: Final = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`")
_OPERATOR: Final = re.compile(r"==|!=|=~|!~|<=|>=|[-+*/%^=<>(){}\[\],:@]")
_BLANK: Final = re.compile(r"(?:\s|#[^\n]*)+")
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_ESCAPES: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip


class PromQLError(ValueError):
    """An expression that Prometheus would refuse.

    Attributes:
        message: What is wrong.
        position: Where in the text, counted in characters from 0.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


@dataclass(frozen=True, slots=True)
class Token:
    """A word: its kind (`word`, `number`, `string`, `end`, or the operator itself) and text."""

    kind: str
    text: str
    start: int
    end: int
    value: float = 0.0


def tokens(text: str) -> list[Token]:
    """Split an expression into words; the last one is `end`.

    Raises:
        PromQLError: Something in it is no PromQL.
    """
    found: list[Token] = []
    position = 0
    open_: list[str] = []  # a colon is part of a name, but not between brackets
    while True:
        if blank := _BLANK.match(text, position):
            position = blank.end()
        if position == len(text):
            found.append(Token("end", "", position, position))
            return found
        token = _token(text, position, inside=bool(open_) and open_[-1] in "[{")
        if token.kind in ("(", "[", "{"):
            open_.append(token.kind)
        elif token.kind in (")", "]", "}") and open_:
            open_.pop()
        found.append(token)
        position = token.end


def duration(text: str) -> float:
    """Return the seconds of a duration such as `1h30m`.

    Raises:
        ValueError: It is none: its units must stand from large to small, each once.
    """
    match = _DURATION_PARTS.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is no duration; write it as 30s, 5m or 1h30m")
    return math.fsum(
        int(count) * seconds
        for count, seconds in zip(match.groups(), _UNITS.values(), strict=True)
        if count
    )


def _token(text: str, start: int, *, inside: bool) -> Token:  # noqa: C901 - one kind after another
    if match := _DURATION.match(text, start):
        try:
            return Token("number", match[0], start, match.end(), duration(match[0]))
        except ValueError as error:
            raise PromQLError(str(error), start) from None
    if match := _NUMBER.match(text, start):
        return Token("number", match[0], start, match.end(), _number(match[0]))
    if match := _STRING.match(text, start):
        return Token("string", _unquote(match[0], start), start, match.end())
    if not inside and (match := _NOT_A_NUMBER.match(text, start)):
        return Token("number", match[0], start, match.end(), float(match[0]))
    if match := (_LABEL if inside else _WORD).match(text, start):
        return Token("word", match[0], start, match.end())
    if match := _OPERATOR.match(text, start):
        return Token(match[0], match[0], start, match.end())
    if text[start] in "\"'`":
        raise PromQLError("a string is not closed", start)
    if text[start].isdigit():
        raise PromQLError("a number or duration is malformed", start)
    if text[start] == "$":
        raise PromQLError(
            "`$` is a variable of Grafana or of a template; a rule file needs its value", start
        )
    raise PromQLError(f"{text[start]!r} is no part of PromQL", start)


def _number(text: str) -> float:
    text = text.replace("_", "")
    if text[:2] in ("0x", "0X"):
        return float(int(text, 16))
    if re.fullmatch("0[0-7]+", text):  # as Go reads it
        return float(int(text, 8))
    return float(text)


def _unquote(text: str, start: int) -> str:
    if text[0] == "`":
        return text[1:-1]

    def character(match: re.Match[str]) -> str:
        byte, short, long, octal, other = match.groups()
        if other is not None:
            if other not in _ESCAPES or (other in "\"'" and other != text[0]):
                raise PromQLError(
                    f"`\\{other}` in a string is unknown; a backslash is written twice", start
                )
            return _ESCAPES[other]
        return chr(int(octal, 8) if octal else int(byte or short or long, 16))

    return _ESCAPE.sub(character, text[1:-1])
