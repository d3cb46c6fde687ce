"""Renderers: the last processors, which make the printed line."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from structlog.dev import ConsoleRenderer, plain_traceback

from otel_pipeline.logs.values import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["render_console", "render_json", "wants_colors"]

# Plain ASCII, so that a line is one line to every reader and fits every encoding.
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":"), default=plain
)


def _chunks_encoder() -> Callable[[Any, int], Iterable[str]]:
    """Return what `_ENCODER` does its work with; to make it anew for each line costs as much."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # another Python than CPython
        return lambda value, _: _ENCODER.iterencode(value, _one_shot=True)
    quote = json.encoder.encode_basestring_ascii
    sort_keys = skip_keys = allow_nan = False
    encoder: Callable[[Any, int], Iterable[str]] = make(
        None, plain, quote, None, ":", ",", sort_keys, skip_keys, allow_nan
    )
    return encoder


_chunks: Final = _chunks_encoder()

_CONTROL: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
_SHOWN_BY_TRACEBACK: Final = ("exception.type", "exception.message")


def render_json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """Return the fields as one line of strict JSON, in ASCII.

    A processor, the last one. `plain_values` comes before it.

    Args:
        event_dict: The fields of the line.

    Returns:
        The line, without its end.

    Example:
        >>> render_json(None, "info", {"event": "done", "rows": 3})
        '{"event":"done","rows":3}'
    """
    return "".join(_chunks(event_dict, 0))


def render_console(*, colors: bool) -> Processor:
    """Make a processor that returns the fields for people to read, stack trace below.

    Args:
        colors: Whether to write the terminal's colour codes.

    Returns:
        A processor, the last one. Control characters in values are shown, not sent to the
        terminal.

    Example:
        >>> render_console(colors=False)(None, "info", {"event": "done", "rows": 3})
        'done                           rows=3'
    """
    renderer = ConsoleRenderer(colors=colors, sort_keys=False, exception_formatter=plain_traceback)

    def processor(logger: WrappedLogger, method: str, event_dict: EventDict) -> Any:
        shown = {
            key.translate(_CONTROL): _shown(value)
            for key, value in event_dict.items()
            if key not in _SHOWN_BY_TRACEBACK
        }
        return renderer(logger, method, shown)

    return processor


def wants_colors(stream: object) -> bool:
    """Return whether colour codes may be written to `stream`: a terminal, and no `NO_COLOR`."""
    if os.environ.get("NO_COLOR"):
        return False
    if sys.platform == "win32" and importlib.util.find_spec("colorama") is None:
        return False
    return is_terminal(stream)


def is_terminal(stream: object) -> bool:
    """Return whether `stream` is a terminal; False where it cannot be asked."""
    try:
        return bool(cast("Any", stream).isatty())
    except Exception:  # noqa: BLE001 - a closed or home-made stream
        return False


def _shown(value: object) -> object:
    return value.translate(_CONTROL) if isinstance(value, str) else value
