"""What telemetry itself has to say: clear, on stderr, once.

The messages go through the stdlib logger `otel_pipeline`, which does not propagate, so they can
be silenced or routed (`logging.getLogger("otel_pipeline").setLevel("ERROR")`) and are never
exported as telemetry.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

__all__ = ["LOGGER", "forget", "say", "warn_once"]

LOGGER = logging.getLogger("otel_pipeline")

_said: set[str] = set()
_lock = threading.Lock()
_MOST_KEYS = 1000


class _CurrentStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever `sys.stderr` is now, so redirection and captures work."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> object:
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Stay silent: a closed stderr must not turn into an exception or a second message."""


def _install() -> None:
    if not LOGGER.handlers:
        handler = _CurrentStderr()
        handler.setFormatter(logging.Formatter("otel_pipeline: %(message)s"))
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False


_install()


def say(message: str, *args: object, level: int = logging.WARNING) -> None:
    """Print one message of the library on stderr.

    Args:
        message: What happened, where, and what to do; %-style with `args`.
        args: Values for the message.
        level: A level of the stdlib `logging`.
    """
    LOGGER.log(level, message, *args)


def warn_once(key: str, message: str, *args: object) -> bool:
    """Print a warning the first time that `key` is seen in this process.

    Args:
        key: What the warning is about, such as `overflow:orders_total`.
        message: As for `say`.
        args: Values for the message.

    Returns:
        True if the message was printed now.
    """
    with _lock:
        if key in _said or len(_said) >= _MOST_KEYS:
            return False
        _said.add(key)
    say(message, *args)
    return True


def _renew_lock() -> None:
    """Give a forked child a lock that no lost thread holds."""
    global _lock  # noqa: PLW0603  a lock cannot be renewed in place
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def forget(prefix: str = "") -> None:
    """Allow warnings whose key starts with `prefix` to be printed again."""
    with _lock:
        for key in [key for key in _said if key.startswith(prefix)]:
            _said.discard(key)
