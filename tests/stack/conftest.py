"""The stack's programs for tests: skipped where they were not built, or failed where they must be.

`OTEL_PIPELINE_STACK_REQUIRED=1` makes a program that was not built a failure.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.stack import programs
from tests.stack.build import BUILD_COMMAND, StackError
from tests.stack.debian import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REQUIRED = "OTEL_PIPELINE_STACK_REQUIRED"


def _need(*names: str) -> list[Path]:
    required = os.environ.get(REQUIRED, "") not in {"", "0"}
    try:
        absent = programs.missing(*names)
    except StackError as error:
        reason = str(error)
    else:
        if not absent:
            return [programs.program(name) for name in names]
        extra = [name for name in absent if name in PACKAGES]
        reason = f"{', '.join(absent)} not built: run {BUILD_COMMAND} {' '.join(extra)}".rstrip()
        required = required and extra != absent  # a machine without apt cannot have those
    if required:
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need() -> Callable[..., list[Path]]:
    """Give the paths of the programs that it is called with; without them there is no test."""
    return _need


@pytest.fixture(scope="session")
def stack() -> Iterator[programs.Stack]:
    """Run all programs, wired, once for a worker.

    Tests that use it share what it holds, so they tell their own by a service name of their own;
    `pytest.mark.xdist_group("stack")` brings them to one worker.
    """
    _need("alertmanager", "jaeger", "loki", "otelcol", "prometheus")
    with programs.stack() as running:
        yield running
