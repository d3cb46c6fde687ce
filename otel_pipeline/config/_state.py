"""Where what outlives a process is kept by default."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["state_folder"]


def state_folder() -> Path | None:
    """Return the library's folder under the user's state directory, as XDG defines it.

    Returns:
        The folder, which need not exist; None for a user without a home.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if os.path.isabs(state) else Path("~/.local/state")  # noqa: PTH117
    with contextlib.suppress(RuntimeError):  # a user without a home
        return base.expanduser() / "otel-pipeline"
    return None
