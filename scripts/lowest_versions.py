"""Print the lowest version of each run-time dependency, as constraints for pip.

They are read from `pyproject.toml`: those of the package itself and of its extras for users.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS_FOR_USERS = ("config-file", "demo", "quality", "quality-sql")


def requirements() -> list[str]:
    """Return the requirements of the package and of its extras for users."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return project["dependencies"] + [line for name in EXTRAS_FOR_USERS for line in extras[name]]


def lowest(requirement: str) -> str:
    """Return `name==1.2` for `name>=1.2`.

    Raises:
        ValueError: There is no lower bound, or more than one.
    """
    match = re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:,<[\w.]+)?", requirement)
    if match is None:
        message = f"{requirement!r} in {PYPROJECT.name} needs the form 'name>=1.2' or '...,<2'"
        raise ValueError(message)
    return f"{match[1]}=={match[2]}"


if __name__ == "__main__":
    print("\n".join(map(lowest, requirements())))
