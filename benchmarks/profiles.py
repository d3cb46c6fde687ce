"""Profiles of data beside a bare scan, reading the data, and others that profile; CPU seconds."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Side, benchmark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from benchmarks.measure import Benchmark, Work

__all__ = ["BENCHMARKS", "table"]

_PART = 500_000


def table(rows: int) -> pa.Table:
    """Return orders in ten columns, with nulls, small and large distinct counts, and texts."""
    import pyarrow as pa

    return pa.concat_tables([_part(start) for start in range(0, rows, _PART)]).slice(0, rows)


def _part(start: int) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(start)
    seconds = random.integers(0, 86_400 * 365, _PART).astype("m8[s]")
    countries = np.array(["DE", "FR", "US", "GB", "NL", "PL", "ES", "IT"])
    orders = random.integers(0, 5_000_000, _PART).astype(str)
    return pa.table(
        {
            "id": np.arange(start, start + _PART),
            "customer": random.integers(0, 200_000, _PART),
            "quantity": random.integers(0, 50, _PART).astype(np.int32),
            "price": random.lognormal(3, 1, _PART),
            "discount": pa.array(random.random(_PART).round(2), mask=random.random(_PART) < 0.05),
            "weight": random.normal(10, 3, _PART),
            "at": np.datetime64("2024-01-01", "us") + seconds,
            "paid": random.random(_PART) < 0.9,
            "country": countries[random.integers(0, 8, _PART)],
            "order": np.char.add("order-", orders),
        }
    )


def _cpu(function: Callable[[], object]) -> Work:
    """Return work whose cost is the processor's time, that of all threads together."""

    def work(_rows: int) -> float:
        since = time.process_time()
        function()
        return time.process_time() - since

    return work


def _goal(rows_per_second: float) -> Side:
    """Return a side that takes as long as the goal says."""
    return Side(f"the goal of {rows_per_second / 1e6:g} M rows/s", lambda n: n / rows_per_second, 1)


def scan(data: pa.Table) -> None:
    """Add up every column, and the lengths of texts: what reading each value once costs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in data.columns:
        if pa.types.is_string(column.type):
            pc.sum(pc.binary_length(column))
        else:
            pc.sum(column.cast("int64") if pa.types.is_timestamp(column.type) else column)


def _aggregates(data: Any) -> None:
    """Let Polars compute what a basic profile has."""
    import polars as pl
    from polars import selectors as cs

    numbers = cs.numeric()
    data.select(
        pl.all().null_count().name.suffix(" nulls"),
        (numbers | cs.temporal()).min().name.suffix(" min"),
        (numbers | cs.temporal()).max().name.suffix(" max"),
        numbers.mean().name.suffix(" mean"),
        numbers.std().name.suffix(" std"),
    )


def _basic(rows: int) -> Benchmark:
    title = f"a row of ten columns, `basic`, of {rows:,}"

    @benchmark(f"profile-basic-{rows}", title, threads=(1,), least=rows, most=rows)
    def sides() -> Iterator[list[Side]]:
        import polars as pl

        from otel_pipeline.quality import profile

        data = table(rows)
        frame = pl.DataFrame(data)
        yield [
            Side("ours, Arrow", _cpu(lambda: profile(data, "basic"))),
            Side("Arrow's sums and lengths", _cpu(lambda: scan(data)), 1.5),
            Side("Polars, the same numbers", _cpu(lambda: _aggregates(frame))),
            Side("ours, Polars", _cpu(lambda: profile(frame, "basic"))),
        ]

    return sides


def _standard(rows: int) -> Benchmark:
    title = f"a row of ten columns, `standard`, of {rows:,}"

    @benchmark(f"profile-standard-{rows}", title, threads=(1,), least=rows, most=rows)
    def sides() -> Iterator[list[Side]]:
        import pyarrow.parquet as pq

        from otel_pipeline.quality import profile

        data = table(rows)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "orders.parquet"
            pq.write_table(data, path, compression="zstd")
            yield [
                Side("ours", _cpu(lambda: profile(data))),
                _goal(5e6),
                Side("reading them from Parquet", _cpu(lambda: pq.read_table(path)), 0.2),
            ]

    return sides


@benchmark(
    "profile-file",
    "a row of a Parquet file of 1,000,000, `standard`",
    threads=(1,),
    least=1_000_000,
    most=1_000_000,
)
def file() -> Iterator[list[Side]]:
    """Profile a file, read included, beside the peer that does the same."""
    import duckdb
    import pyarrow.parquet as pq

    from otel_pipeline.quality.files import profile_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.parquet"
        pq.write_table(table(1_000_000), path, compression="zstd")
        query = f"SUMMARIZE SELECT * FROM '{path}'"
        yield [
            Side("ours", _cpu(lambda: profile_file(path))),
            Side("DuckDB SUMMARIZE", _cpu(lambda: duckdb.sql(query).fetchall()), 1),
        ]


@benchmark(
    "profile-dicts",
    "a row as a dict of ten, `standard`, of 200,000",
    threads=(1,),
    least=200_000,
    most=200_000,
)
def dicts() -> Iterator[list[Side]]:
    """Profile rows as programs have them."""
    from otel_pipeline.quality import profile

    rows = table(200_000).to_pylist()
    yield [Side("ours", _cpu(lambda: profile(rows))), _goal(0.3e6)]


BENCHMARKS = (
    _basic(1_000_000),
    _basic(10_000_000),
    _standard(1_000_000),
    _standard(10_000_000),
    file,
    dicts,
)
