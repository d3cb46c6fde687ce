"""Profiles over threads and processes, in constant memory, and without the data libraries."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

from otel_pipeline.quality import Profile, Profiler, profile


def part(number: int) -> dict[str, Any]:
    """Return a part of the rows: values that differ from part to part."""
    random = np.random.default_rng(number)
    return {"id": np.arange(50_000) + 50_000 * number, "size": random.normal(number, 1, 50_000)}


def profiled(number: int) -> Profile:
    return profile(part(number))


def whole(parts: int) -> Profile:
    profiler = Profiler()
    for number in range(parts):
        profiler.update(part(number))
    return profiler.result()


def assert_whole(made: Profile, parts: int) -> None:
    """Compare with the profile that was made in one place."""
    expected = whole(parts)
    assert made.rows == expected.rows == 50_000 * parts
    for name, column in expected.columns.items():
        mine = made.columns[name]
        assert (mine.null_count, mine.min, mine.max) == (0, column.min, column.max)
        assert mine.mean == pytest.approx(column.mean, rel=1e-9)
        assert mine.std == pytest.approx(column.std, rel=1e-9)
        assert mine.distinct == column.distinct
        near = (mine.quantile_error or 0) + (column.quantile_error or 0)
        assert column.quantile(0.5 - near) <= mine.quantile(0.5) <= column.quantile(0.5 + near)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_profiles_of_processes_add_up(method: str) -> None:
    """Profiles come back from a pool as pickles and merge to that of all rows."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        profiles = list(pool.map(profiled, range(4)))
    assert_whole(Profile.merge(*profiles), 4)


def test_threads_share_a_profiler() -> None:
    """Batches of several threads all count."""
    profiler = Profiler()
    threads = [
        threading.Thread(target=lambda n=number: profiler.update(part(n))) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_whole(profiler.result(), 4)


MEMORY = """
import sys
from itertools import islice
import numpy as np, pyarrow as pa
from otel_pipeline.quality import Profiler, profile

def batches(rows):
    random = np.random.default_rng(1)
    for start in range(0, rows, 50_000):
        ids = np.arange(start, start + 50_000)
        yield pa.record_batch({
            "id": ids, "size": random.normal(size=50_000), "name": ids.astype(str).tolist()})

def dicts(rows):
    for number in range(rows):
        yield {"id": number, "size": number / 7, "name": str(number)}

profiler = Profiler(top_values=["name"])
peaks = []
for _ in range(3):
    for batch in batches(ROWS):
        profiler.update(batch)
    profile(dicts(ROWS // 4))
    with open("/proc/self/status") as status:  # ru_maxrss is at least what the parent process had
        peaks.append(next(int(line.split()[1]) // 1024 for line in status if "VmHWM" in line))
assert profiler.result().rows == 3 * ROWS
print(*peaks)
"""


def test_memory_does_not_grow_with_the_rows() -> None:
    """Twice as many rows again, as batches and as dicts, take no more memory."""
    program = MEMORY.replace("ROWS", "600_000")
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    first, _, last = map(int, output.split())
    assert last - first < 24  # MiB; the rows of one more round are 40


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"numpy", "pyarrow", "narwhals", "pandas", "polars", "duckdb"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import otel_pipeline.quality as quality
from otel_pipeline.cli import main
assert "Profile" in dir(quality)
try:
    quality.profile
except quality.ConfigurationError as error:
    print(error)
print(main(["quality", "profile", "x.csv"]))
print(hasattr(quality, "nonsense"))
"""


def test_without_data_libraries_the_package_says_what_to_install() -> None:
    """Import works without them; the first use and the command name the extra."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    first, remedy = "pyarrow", "pip install 'otel-pipeline[quality]'"
    assert result.stdout.splitlines() == [
        f"otel_pipeline.quality.profile needs {first}, which is not installed: {remedy}",
        "2",
        "False",
    ]
    assert remedy in result.stderr


def test_importing_quality_imports_no_data_library() -> None:
    """The import costs next to nothing, also where the libraries are installed."""
    program = "import sys, otel_pipeline.quality; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    heavy = {"numpy", "pyarrow", "narwhals", "pandas", "polars", "duckdb"}
    assert heavy.isdisjoint(output.split())
