"""A profile is the same however its rows are cut, and adds up to that of the whole."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import statistics
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_pipeline.quality import Profile, Profiler, profile

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "small": st.integers(-3, 3),
    "float": st.floats(),
    "text": TEXTS,
    "bool": st.booleans(),
    "date": st.dates(),
    "at": st.datetimes(),
    "span": st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6)),
    "bytes": st.binary(max_size=20),
}
TYPES = {
    "int": pa.int64(),
    "small": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "at": pa.timestamp("us"),
    "span": pa.duration("us"),
    "bytes": pa.binary(),
}
SCHEMA = pa.schema(TYPES.items())
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}),
    max_size=40,
)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def numbers(column: Any) -> dict[str, Any]:
    """Return what is exact whichever way a profile came about."""
    document = column.to_dict()
    for name in ("mean", "std", "quantiles", "quantile_error"):
        document.pop(name, None)
    return document


def close(one: float | None, other: float | None, scale: float) -> bool:
    """Whether two means or deviations are the same, next to the size of the values."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9 * scale)


def assert_same(made: Profile, whole: Profile) -> None:
    assert (made.rows, made.schema) == (whole.rows, whole.schema)
    for name, column in whole.columns.items():
        mine = made.columns[name]
        assert numbers(mine) == numbers(column)
        finite = [
            abs(value) for value in (column.min, column.max) if isinstance(value, int | float)
        ]
        scale = max(filter(math.isfinite, finite), default=0.0)
        assert close(mine.mean, column.mean, scale)
        assert close(mine.std, column.std, scale)


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_a_profile_has_the_exact_numbers(rows: list[dict[str, Any]]) -> None:
    """Counts, extremes, lengths, moments and quantiles are those that Python computes."""
    made = profile(table(rows), now=NOW, top_values=["text", "small"])
    for name, column in made.columns.items():
        known = [row[name] for row in rows if row[name] is not None]
        real = [value for value in known if value == value]  # noqa: PLR0124  # not NaN
        assert (column.rows, column.null_count) == (len(rows), len(rows) - len(known))
        different = set(real) | ({"NaN"} if len(real) < len(known) else set())
        assert (column.distinct or 0) == len(different)
        if name not in {"bool", "bytes", "text"}:
            assert column.min == min(real, default=None)
            assert column.max == max(real, default=None)
            finite = sorted(v for v in real if name != "float" or math.isfinite(v))
            for q in (0.0, 0.25, 0.5, 1.0):
                place = max(math.ceil(q * len(finite)) - 1, 0)
                assert column.quantile(q) == (finite[place] if finite else None)
    small = made.columns["small"]
    values = [row["small"] for row in rows if row["small"] is not None]
    assert small.mean == (pytest.approx(statistics.mean(values), abs=1e-12) if values else None)
    assert small.std == (
        pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-12) if len(values) > 1 else None
    )
    texts = [row["text"] for row in rows if row["text"] is not None]
    text = made.columns["text"]
    assert text.max_length == max(map(len, texts), default=None)
    assert text.min_length == min(map(len, texts), default=None)
    assert sum(count for _, count in text.top_values or []) <= len(texts)
    assert all(texts.count(value) == count for value, count in text.top_values or [])


@settings(deadline=None, max_examples=60)
@given(ROWS, st.lists(st.integers(0, 40), max_size=4).map(sorted), st.randoms())
def test_merged_profiles_are_the_profile_of_the_whole(
    rows: list[dict[str, Any]], cuts: list[int], order: Any
) -> None:
    """Parts add up to the whole, in any order; batches to just the same."""
    whole = table(rows)
    ends = [0, *(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [whole.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    expected = profile(whole, now=NOW, top_values=["text"])
    profiler = Profiler(now=NOW, top_values=["text"])
    for part in parts:
        profiler.update(part)
    assert profiler.result() == expected
    profiles = [profile(part, now=NOW, top_values=["text"]) for part in parts]
    assert_same(Profile.merge(*profiles), expected)
    order.shuffle(profiles)
    assert_same(Profile.merge(*profiles), expected)
    again = [Profile.from_bytes(one.to_bytes()) for one in profiles]
    assert Profile.merge(*again) == Profile.merge(*profiles)


@settings(deadline=None, max_examples=40)
@given(ROWS.filter(bool))
def test_libraries_hold_the_same_rows(rows: list[dict[str, Any]]) -> None:
    """Arrow, Polars and dicts give one profile for any values."""
    held = table(rows)
    expected = profile(held, now=NOW)
    assert profile(pl.DataFrame(held), now=NOW) == expected
    known = [name for name in VALUES if any(row[name] is not None for row in rows)]
    dicts = profile([{name: row[name] for name in known} for row in rows], now=NOW)
    assert dicts == profile(held.select(known), now=NOW)


@pytest.mark.parametrize("seed", range(3))
def test_large_parts_merge_within_the_error_of_the_sketches(seed: int) -> None:
    """Of parts that differ much, quantiles and distinct counts are those of all their rows."""
    random = np.random.default_rng(seed)
    parts = [
        random.normal(5, 1, 300_000),
        random.exponential(2, 90_000).round(2),
        np.arange(10, 20, 0.0001),
    ]
    order = random.permutation(3)
    merged = Profile.merge(*(profile({"x": parts[place]}) for place in order)).columns["x"]
    values = np.sort(np.concatenate(parts))
    assert merged.distinct == pytest.approx(len(np.unique(values)), rel=0.02)
    assert merged.mean == pytest.approx(values.mean(), rel=1e-9)
    assert merged.std == pytest.approx(values.std(ddof=1), rel=1e-9)
    assert (merged.quantile_error or 1) < 0.006
    for q in np.linspace(0.01, 0.99, 25):
        value = merged.quantile(q)
        low, high = np.searchsorted(values, value), np.searchsorted(values, value, "right")
        assert low / len(values) - merged.quantile_error <= q
        assert high / len(values) + merged.quantile_error >= q
