"""Where printed lines go: one write for each line, to what `sys.stdout` or `sys.stderr` is now."""

from __future__ import annotations

import sys
import threading
from typing import Any, Literal, TextIO

from otel_pipeline import diagnostics

__all__ = ["BUSY", "LineLogger", "Stream", "current_stream"]

#: A standard stream by name, so that redirections are followed, or an open text file.
Stream = Literal["stdout", "stderr"] | TextIO


class _Busy(threading.local):
    """What this thread is in the middle of, so that a log line made by it does not recurse."""

    writing = False
    emitting = False


BUSY = _Busy()


def current_stream(stream: Stream) -> Any:
    """Return the file that `stream` stands for at this moment; None where there is none."""
    return getattr(sys, stream) if isinstance(stream, str) else stream


class LineLogger:
    """The logger at the end of the chain: writes finished lines, and never raises.

    Attributes:
        name: Name of the logger, or None.
    """

    __slots__ = ("_stream", "name")

    def __init__(self, stream: Stream, name: str | None = None) -> None:
        self.name = name
        self._stream = stream

    def __repr__(self) -> str:
        return f"LineLogger({self._stream!r}, {self.name!r})"

    def write(self, line: str) -> None:
        """Write one line and flush it, so that it is out before a crash or a fork."""
        nested = BUSY.writing
        BUSY.writing = True
        try:
            stream = self._real_stream() if nested else current_stream(self._stream)
            try:
                stream.write(line + "\n")
            except UnicodeEncodeError:
                stream.write(_encodable(line + "\n", stream))
            stream.flush()
        except BrokenPipeError:
            pass  # the reader went away, as in `program | head`: nobody is left to tell
        except Exception as error:  # noqa: BLE001 - a stream of the program may raise anything
            diagnostics.warn_once(
                "logs:write",
                "log lines cannot be written to %s: %s: %s",
                self._stream if isinstance(self._stream, str) else "their stream",
                type(error).__name__,
                error,
            )
        finally:
            BUSY.writing = nested

    def _real_stream(self) -> Any:
        # The stream logs what it is given (a `sys.stdout` that was replaced by a logger): the
        # line goes to the real stream, else it would come round for ever.
        return getattr(
            sys, f"__{self._stream}__" if isinstance(self._stream, str) else "__stderr__"
        )

    # structlog calls the method of the wrapped logger that the user called of the bound one.
    msg = log = debug = info = warning = warn = error = err = critical = fatal = exception = write


def _encodable(text: str, stream: Any) -> str:
    encoding = getattr(stream, "encoding", None) or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)
