"""The plain script that the benchmarks compare the demo with does the same as the demo."""

from __future__ import annotations

import pytest

from benchmarks import plain_demo
from benchmarks.demo import loaded
from otel_pipeline.cli import _flights
from otel_pipeline.pipeline import _QUEUE_SIZE


@pytest.mark.parametrize("batch_size", [100, 3000])
def test_both_scripts_write_the_same(batch_size: int) -> None:
    """Tables of flights and of delays are equal, with rows that are dropped and skipped."""
    weather = _flights.data_file("weather.csv")
    ours, plain = (loaded(etl, weather, 3000, batch_size) for etl in (_flights.etl, plain_demo.etl))
    _QUEUE_SIZE.remove("flights-to-load")  # it is watched as long as the process lives
    assert ours == plain
    assert all(ours)
