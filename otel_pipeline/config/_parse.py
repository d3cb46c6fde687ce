"""From the text of a setting to its value: one small function for each kind of setting.

Each function takes the stripped, non-empty text and returns the value, or raises a `ValueError`
that ends the sentence "VARIABLE='text' ...".
"""

from __future__ import annotations

import base64
import math
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from otel_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from urllib.parse import SplitResult

__all__ = ["parse_duration"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)"
_DURATION = re.compile(rf"(?:{_PART}\s*)+", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
NO_DURATION = "is not a duration; give seconds (90) or units (90s, 15m, 24h, 1d, 1h30m)"

_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_BAD_URL_CHARACTER = re.compile(r"[\x00-\x20\x7f]")
_MAX_PORT = 65535
_MAX_LEVEL = 100
_LEVELS = {
    "debug": 10,
    "info": 20,
    "warning": 30,
    "warn": 30,
    "error": 40,
    "critical": 50,
    "fatal": 50,
}


def parse_duration(value: float | str | timedelta) -> float:
    """Return a length of time in seconds.

    Args:
        value: Seconds as a number or text, text with units (`ms`, `s`, `m`, `h`, `d`, `w`;
            several add up), or a `timedelta`.

    Returns:
        The seconds, zero or more.

    Raises:
        ConfigurationError: It is none of these, is negative, or is not finite.

    Example:
        >>> from otel_pipeline.config import parse_duration
        >>> parse_duration("1h30m"), parse_duration("24h"), parse_duration(90)
        (5400.0, 86400.0, 90.0)
    """
    seconds = to_seconds(value)
    if seconds is None:
        raise ConfigurationError(f"{shorten(value)} {NO_DURATION}")
    return seconds


def to_seconds(value: object) -> float | None:
    """Return a length of time in seconds, or None if it is not one."""
    seconds = math.nan
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _duration_text(value.strip().lower())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _finite(value)
    return seconds if 0 <= seconds < math.inf else None


def _duration_text(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    return math.nan


def _finite(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def shorten(value: object, length: int = 200) -> str:
    """Return the `repr` of a value, cut so that it fits in a message."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."


def did_you_mean(given: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a hint at the nearest known word, to be put behind a message, or nothing.

    Args:
        given: The unknown word.
        known: The known ones.
        prefix: What all of them begin with, the unknown one too: it makes nothing more alike.
    """
    # Only needed for an error, and not cheap to import.
    from difflib import get_close_matches  # noqa: PLC0415

    rests = [word.removeprefix(prefix) for word in known]
    nearest = get_close_matches(given.removeprefix(prefix), rests, n=1)
    return f"; did you mean {prefix + nearest[0]!r}?" if nearest else ""


def not_one_of(given: str, allowed: Iterable[str]) -> ValueError:
    """Return the error that lists the allowed words and names the nearest one."""
    words = tuple(allowed)
    return ValueError(f"is not one of {', '.join(words)}{did_you_mean(given.lower(), words)}")


def check_encoding(given: str) -> None:
    """Refuse text that no exporter could send: variables may hold any bytes."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None


def check_words(value: str | tuple[str, ...], allowed: tuple[str, ...]) -> None:
    """Refuse a word, or a list with one, that is not allowed."""
    for item in (value,) if isinstance(value, str) else value:
        if item not in allowed:
            reason = not_one_of(item, allowed)
            alone = value in (item, (item,))
            raise reason if alone else ValueError(f"has {item!r}, which {reason}")


def text(given: str) -> str:
    """Return the text as it is."""
    return given


def word(given: str) -> str:
    """Return a word in lower case: the specification compares them without case."""
    return given.lower()


def names(given: str) -> tuple[str, ...]:
    """Return the items of a comma-separated list, each once, in order."""
    items = dict.fromkeys(item.strip() for item in given.split(","))
    items.pop("", None)
    if not items:
        raise ValueError("is a list without an item; leave it unset for the default")
    return tuple(items)


def words_or_none(given: str) -> tuple[str, ...]:
    """Return a list of words in lower case, in which `none` stands alone."""
    items = names(given.lower())
    if "none" in items and len(items) > 1:
        raise ValueError("has 'none' beside others; give 'none' alone or leave it out")
    return items


def propagators(given: str) -> tuple[str, ...]:
    """Return the names of propagators, each built in or installed."""
    items = words_or_none(given)
    return _known(items, ("tracecontext", "baggage", "none"), "opentelemetry_propagator")


def resource_detectors(given: str) -> tuple[str, ...]:
    """Return the names of resource detectors, each installed; `*` stands for all."""
    return _known(names(given), ("otel", "*"), "opentelemetry_resource_detector")


def _known(items: tuple[str, ...], built_in: tuple[str, ...], group: str) -> tuple[str, ...]:
    if set(items) <= set(built_in):
        return items
    from importlib.metadata import entry_points  # noqa: PLC0415 - reads every installed package

    allowed = tuple(dict.fromkeys((*built_in, *sorted(entry_points(group=group).names))))
    for item in items:
        if item not in allowed:
            hint = did_you_mean(item, allowed)
            raise ValueError(f"has {item!r}; installed are {', '.join(allowed)}{hint}")
    return items


def boolean(given: str) -> bool:
    """Return the value of a standard switch, for which the specification knows two words."""
    if given.lower() not in {"true", "false"}:
        raise not_one_of(given, ("true", "false"))
    return given.lower() == "true"


def switch(given: str) -> bool:
    """Return the value of a switch of the library's own: `on`, `off` and their like."""
    if given.lower() in {"on", "true", "yes", "1"}:
        return True
    if given.lower() in {"off", "false", "no", "0"}:
        return False
    raise not_one_of(given, ("on", "off"))


def integer(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers between two bounds, which are allowed themselves."""
    limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"

    def parse(given: str) -> int:
        number = int(given) if _INTEGER.fullmatch(given) else None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"is not a whole number {limits}")
        return number

    return parse


port = integer(0, _MAX_PORT)


def milliseconds(given: str) -> float:
    """Return seconds, above zero, from a number of milliseconds."""
    number = float(given) if _NUMBER.fullmatch(given) else math.nan
    if not 0 < number < math.inf:
        raise ValueError("is not a number of milliseconds above 0")
    return number / 1000


def seconds(given: str) -> float:
    """Return seconds, zero or more."""
    number = to_seconds(given)
    if number is None:
        raise ValueError(NO_DURATION)
    return number


def positive_seconds(given: str) -> float:
    """Return seconds above zero."""
    number = seconds(given)
    if not number:
        raise ValueError("is not above 0 seconds")
    return number


def ratio(given: str) -> float:
    """Return a number from 0 to 1."""
    number = float(given) if _NUMBER.fullmatch(given) else math.nan
    if not 0 <= number <= 1:
        raise ValueError("is not a number from 0 to 1")
    return number


def log_level(given: str) -> int:
    """Return the number of a log level, given by its name or as a number."""
    if _INTEGER.fullmatch(given) and 0 <= int(given) <= _MAX_LEVEL:
        return int(given)
    level = _LEVELS.get(given.lower())
    if level is None:
        raise not_one_of(given, (*_LEVELS, f"a number from 0 to {_MAX_LEVEL}"))
    return level


def log_format(given: str) -> str | None:
    """Return the log format, or None for the one that suits the stream."""
    return None if given.lower() == "auto" else given.lower()


def log_rate(given: str) -> float | None:
    """Return a number of lines a second above zero, or None for `off`."""
    if given.lower() == "off":
        return None
    number = float(given) if _NUMBER.fullmatch(given) else math.nan
    if not 0 < number < math.inf:
        raise ValueError("is neither off nor a number of lines a second above 0")
    return number


def path_or_word(given: str) -> str:
    """Return `auto`, `off`, or a path."""
    return given.lower() if given.lower() in {"auto", "off"} else os.path.expanduser(given)  # noqa: PTH111 - paths stay text


def readable_file(given: str) -> str:
    """Return the path of a file that can be read."""
    path = os.path.expanduser(given)  # noqa: PTH111 - paths stay text
    if not os.path.isfile(path) or not os.access(path, os.R_OK):  # noqa: PTH113
        raise ValueError("is not a file that can be read")
    return path


def textfile(given: str) -> str:
    """Return the whole path of a file that node_exporter would read."""
    if not given.endswith(".prom"):
        raise ValueError("does not end in .prom, and node_exporter reads no other files")
    return os.path.abspath(os.path.expanduser(given))  # noqa: PTH100, PTH111 - paths stay text


def endpoint(given: str) -> str:
    """Return an `http` or `https` URL, or `host:port` as gRPC takes it."""
    if not _is_endpoint(given):
        raise ValueError("is not a URL such as http://localhost:4318, nor host:port for grpc")
    return given


def gateway(given: str) -> str:
    """Return the URL of a Pushgateway; without a scheme it is `http`, as for prometheus_client."""
    if not _is_endpoint(given) or re.search("[?#]", given):
        raise ValueError("is not a URL such as http://localhost:9091")
    return (given if "://" in given else f"http://{given}").rstrip("/")


def _is_endpoint(given: str) -> bool:
    try:
        parts = split_endpoint(given)
        usable = parts.scheme in {"", "http", "https"} and bool(parts.hostname)
        usable = usable and parts.port != 0
        # An unencoded / or ? in a password ends the host too early, and the rest would be shown.
        usable = usable and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
    except ValueError:  # a port that is no number, or half an IPv6 address
        usable = False
    return usable and not _BAD_URL_CHARACTER.search(given)


def split_endpoint(given: str) -> SplitResult:
    """Return the parts of an endpoint; the scheme is empty for `host:port`."""
    return urlsplit(given if "://" in given else f"//{given}")


def take_credentials(given: str) -> tuple[str, dict[str, str]]:
    """Return an endpoint without its credentials, and these as a header.

    From here on no message, log line or file that names the endpoint can leak them.
    """
    parts = split_endpoint(given)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return given, {}
    name, _, password = user.partition(":")
    token = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
    bare = urlunsplit(parts._replace(netloc=host)).removeprefix("" if parts.scheme else "//")
    return bare, {"authorization": f"Basic {token}"}


def pairs(given: str) -> dict[str, str]:
    """Return the pairs of `key=value,key2=value2`, percent-decoded."""
    found: dict[str, str] = {}
    for item in given.split(","):
        key, equals, value = item.partition("=")
        if item.strip():
            if not equals or not key.strip():
                raise ValueError("is not a list such as key=value,key2=value2")
            found[_decoded(key)] = _decoded(value)
    return found


def _decoded(given: str) -> str:
    try:
        return unquote(given.strip(), errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has a percent-encoded part that is not UTF-8") from None


def grouping(given: str) -> dict[str, str]:
    """Return the labels of a grouping key."""
    found = pairs(given)
    for name in found:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"has {name!r}, which is not the name of a label")
    if not found.get("job", "job"):
        raise ValueError("has an empty job; leave it out for the service's name")
    return found


def headers(given: str) -> dict[str, str]:
    """Return headers with names in lower case, as HTTP/2 and gRPC want them."""
    found = {key.lower(): value for key, value in pairs(given).items()}
    for key, value in found.items():
        if not _HEADER_NAME.fullmatch(key) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError("has a header that HTTP cannot carry (names and values are ASCII)")
    return found


def encode_pairs(given: Mapping[str, object]) -> str:
    """Return `key=value,key2=value2`, percent-encoded: the inverse of `pairs`."""
    return ",".join(
        f"{quote(str(key), safe='')}={quote(str(value), safe='')}" for key, value in given.items()
    )


def mask_pairs(given: str) -> str:
    """Return the keys of `key=value` pairs without their values."""
    items = [item.partition("=") for item in given.split(",") if item.strip()]
    if not all(equals for _, equals, _ in items):
        return "***"
    return ",".join(f"{key.strip()}=***" for key, _, _ in items)


def mask_all(given: str) -> str:
    """Return stars in place of a secret."""
    return "***" if given else ""


def mask_url(given: str) -> str:
    """Return a URL without the credentials before its host and without its query."""
    # Greedy to the last `@`, as an unencoded password may hold one itself.
    without_user = re.sub(r"^(\w+://)?.*@", r"\1***@", given, flags=re.DOTALL)
    return re.sub(r"\?.+", "?***", without_user, flags=re.DOTALL)
