"""How long an import takes in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from benchmarks.measure import Side, benchmark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Work

__all__ = ["BENCHMARKS"]

_PROGRAM = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def _importing(module: str, environment: dict[str, str]) -> Work:
    command = [sys.executable, "-c", _PROGRAM.format(module)]

    def work(_count: int) -> float:
        return float(subprocess.check_output(command, env=environment, text=True))

    return work


@benchmark("import", "`import otel_pipeline` in a fresh process", threads=(1,), most=1)
def imported() -> Iterator[list[Side]]:
    """Import with warm byte code; the start of the interpreter is not counted."""
    with tempfile.TemporaryDirectory() as cache:
        # A cache of their own: that of the sources may be missing or not writable.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield [
            Side(name, _importing(name, environment))
            for name in (
                "otel_pipeline",
                "prometheus_client",
                "opentelemetry.sdk.trace",
                "logfire",
            )
        ]


BENCHMARKS = (imported,)
