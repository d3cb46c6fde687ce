"""Files that commands write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["write"]


def write(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write files into the folder that `--out` names, and make it where it is missing.

    Args:
        folder: The folder.
        files: Their texts, by their paths in the folder.

    Returns:
        Where they are.

    Raises:
        CommandError: It cannot be written.
    """
    written = []
    try:
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            written.append(str(file))
    except OSError as error:
        raise CommandError(
            f"cannot write to {folder}: {error}; name another folder with --out"
        ) from error
    return written
