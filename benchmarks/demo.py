"""What telemetry adds to the demo, in processor time, over a plain script that does the same."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import plain_demo
from benchmarks.measure import Side, benchmark
from benchmarks.setups import library
from benchmarks.sink import sink
from otel_pipeline.cli import _flights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Work

__all__ = ["BENCHMARKS", "loaded"]

#: Stages that a record goes through: extract, validate, enrich, aggregate, load.
_STAGES: Final = 5
#: What is opened for each batch: validate, enrich, aggregate, and the batch itself.
_BLOCKS: Final = 4
_RECORDS: Final = 20_000  # in one batch, so that what a stage itself takes hardly counts
_BATCHES: Final = 100
_IN_SMALL_BATCH: Final = 10
_HOURS: Final = 500  # of weather; the rest of the year would take longer than the flights


def loaded(etl: Callable[..., object], weather: Path, limit: int, batch_size: int) -> list[object]:
    """Run a script and return what it wrote into its database."""
    archive = _flights.data_file("flights.csv.zip")
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        etl(archive, weather, database, limit=limit, batch_size=batch_size)
        return [
            database.execute(f"SELECT * FROM {name}").fetchall() for name in ("flights", "delays")
        ]


@contextlib.contextmanager
def _weather() -> Iterator[Path]:
    """Give the weather of the first hours of the year."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _flights.data_file("weather.csv").open(encoding="utf-8") as whole,
    ):
        path = Path(folder) / "weather.csv"
        path.write_text("".join(islice(whole, _HOURS)), encoding="utf-8")
        yield path


def _added(limit: int, batch_size: int, goal: float, name: str) -> Iterator[list[Side]]:
    """Compare what is added with the goal, which is a time."""

    def running(etl: Callable[..., object]) -> Work:
        def work(_count: int) -> float:
            since = time.process_time()  # of all threads: two of them take turns, and wait
            loaded(etl, weather, limit, batch_size)
            return time.process_time() - since

        return work

    with _weather() as weather, sink() as url, library(url):
        if loaded(_flights.etl, weather, limit, batch_size) != loaded(
            plain_demo.etl, weather, limit, batch_size
        ):
            message = "the demo and the plain script do not do the same"
            raise AssertionError(message)
        yield [
            Side("otel_pipeline", running(_flights.etl), over=running(plain_demo.etl)),
            Side(name, lambda count: count * goal, 1.0),
        ]


@benchmark(
    "demo-record",
    "the demo: a record and stage, over the plain script",
    threads=(1,),
    least=_RECORDS * _STAGES,
    most=_RECORDS * _STAGES,
)
def demo_record() -> Iterator[list[Side]]:
    """Load flights in one batch."""
    yield from _added(_RECORDS, _RECORDS, 0.5e-6, "the goal of 0.5 µs")


@benchmark(
    "demo-stage",
    "the demo: a stage or batch with its 10 records, over the plain script",
    threads=(1,),
    least=_BATCHES * _BLOCKS,
    most=_BATCHES * _BLOCKS,
)
def demo_stage() -> Iterator[list[Side]]:
    """Load flights in many small batches."""
    yield from _added(_BATCHES * _IN_SMALL_BATCH, _IN_SMALL_BATCH, 100e-6, "the goal of 100 µs")


BENCHMARKS = (demo_record, demo_stage)
