"""What a profile says of a data set, beside exact values computed another way."""

from __future__ import annotations

import datetime as dt

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from otel_pipeline.quality import profile

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "price": [2.5, None, -1.0, 0.0],
        "name": ["a", "", "ünï", "a"],
        "paid": [True, False, True, True],
        "at": [dt.datetime(1970, 1, 1), dt.datetime(2023, 1, 1), dt.datetime(2025, 1, 1), None],
    }
)


@pytest.mark.parametrize(
    "data",
    [
        FRAME.lazy(),
        FRAME.to_arrow(),
        FRAME.to_arrow().to_batches()[0],
        pa.RecordBatchReader.from_stream(FRAME),
        FRAME.to_dicts(),
        (row for row in FRAME.to_dicts()),
        duckdb.from_arrow(FRAME.to_arrow()),
        pd.DataFrame(FRAME.to_pandas()),
    ],
    ids=lambda data: f"{type(data).__module__}.{type(data).__name__}",
)
def test_equal_rows_have_equal_profiles_whatever_holds_them(data: object) -> None:
    """A frame, table, reader, relation or list of dicts with the same rows has the same profile."""
    assert profile(data, now=NOW) == profile(FRAME, now=NOW)
