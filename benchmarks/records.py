"""What a stage or batch adds to one record, against prometheus_client's `inc()`."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measure import Side, benchmark
from benchmarks.metrics import incrementing, peer_counter
from benchmarks.setups import library
from otel_pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmarks.measure import Work

__all__ = ["BENCHMARKS"]

#: So many records that the stage or batch itself, its span and so on, no longer counts.
_LEAST: Final = 50_000


def _numbers(count: int) -> Iterator[int]:
    yield from range(count)


def _consuming(make: Callable[[int], Iterable[Any]]) -> Work:
    def work(count: int) -> None:
        for _ in make(count):
            pass

    return work


def _inc(goal: float) -> Side:
    bare = _consuming(lambda count: repeat(None, count))
    return Side("prometheus_client `inc()`", incrementing(peer_counter()), goal, over=bare)


@benchmark(
    "generator-record", "a record through a generator stage, over the bare one", least=_LEAST
)
def generator_record() -> Iterator[list[Side]]:
    """Yield records from a stage."""
    with library(None):
        staged = Pipeline("benchmark").stage("read")(_numbers)
        ours = Side("otel_pipeline", _consuming(staged), over=_consuming(_numbers))
        yield [ours, _inc(0.25)]


@benchmark("batch-record", "a record through `batch` iteration, over a bare loop", least=_LEAST)
def batch_record() -> Iterator[list[Side]]:
    """Iterate over a batch inside a stage, as a load stage does."""
    with library(None):
        pipeline = Pipeline("benchmark")

        def work(count: int) -> None:
            with pipeline.stage("load"), pipeline.batch(repeat(0, count)) as records:
                for _ in records:
                    pass

        bare = _consuming(lambda count: repeat(0, count))
        yield [Side("otel_pipeline", work, over=bare), _inc(0.5)]


BENCHMARKS = (generator_record, batch_record)
