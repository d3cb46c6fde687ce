"""Where the library keeps what outlives a process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["state_folder"]


def state_folder() -> Path | None:
    """Return the library's folder under the user's state directory, which need not exist.

    Returns:
        `$XDG_STATE_HOME/otel-pipeline` or `~/.local/state/otel-pipeline`; None for a user without
        a home.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if os.path.isabs(state) else Path("~/.local/state")  # noqa: PTH117
    with contextlib.suppress(RuntimeError):  # a user without a home
        return base.expanduser() / "otel-pipeline"
    return None
