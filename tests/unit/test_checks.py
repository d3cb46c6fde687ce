"""Each kind of check, over each library that may hold the data."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality import (
    Between,
    Freshness,
    InSet,
    Matches,
    NotNull,
    References,
    Row,
    SameAs,
    Schema,
    Sql,
    Unique,
    Volume,
    check,
)
from otel_pipeline.testing import ManualClock, capture

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_pipeline.quality import (
        Check,
    )

NAN = math.nan
DAY = dt.datetime(2026, 11, 22)  # noqa: DTZ001  as most files have them
ORDERS = {
    "id": [1, 2, 2, 4],
    "status": ["open", "paid", None, "lost"],
    "amount": [1.5, NAN, -3.0, math.inf],
    "ordered": [DAY, DAY + dt.timedelta(hours=6), None, dt.datetime(9999, 1, 1)],  # noqa: DTZ001
    "gift": [True, False, True, True],
}
PEOPLE = pa.table({"id": [1, 4], "name": ["Ada", "Bo"]})

#: Each library, and how the data get into it.
LIBRARIES: dict[str, Callable[[pa.Table], Any]] = {
    "pyarrow": lambda table: table,
    "polars": pl.from_arrow,
    "polars lazy": lambda table: pl.DataFrame(pl.from_arrow(table)).lazy(),
    "pandas": lambda table: table.to_pandas(),
    "pandas of objects": lambda table: table.to_pandas().astype({"status": object}),
    "pandas of arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "duckdb": duckdb.from_arrow,
    "rows": lambda table: table.to_pylist(),
    "iterator": lambda table: iter(table.to_pylist()),
}

#: Each check, how it ends on the orders, and how many rows fail.
CHECKS: list[tuple[Check, str, int | None]] = [
    (NotNull("id"), "pass", 0),
    (NotNull(["status", "amount"]), "fail", 2),
    (NotNull("amount", mostly=0.75, name="mostly_amount"), "pass", 1),
    (Unique("id"), "fail", 1),
    (Unique(["id", "status"]), "pass", 0),
    (Between("amount", min=0), "fail", 1),
    (Between("amount", max=10, name="small"), "fail", 1),
    (Between("ordered", min=DAY, max=dt.datetime(2030, 1, 1)), "fail", 1),  # noqa: DTZ001
    (InSet("status", ["open", "paid"]), "fail", 1),
    (InSet("id", [1, 2, 4]), "pass", 0),
    (Matches("status", "^[a-z]{4}$"), "pass", 0),
    (Matches("status", "^p"), "fail", 2),
    (Row("amount >= 2 or status != 'open'"), "fail", 1),
    (Row("not gift == True or id in [1, 4]", name="gifts"), "fail", 1),
    (Row("id * 2 - 1 < 7 and -id + 9 > id / 2", name="sums"), "fail", 1),
    (Row("status is not None", name="status_there"), "fail", 1),
    (References("id", to=PEOPLE), "fail", 2),
    (References(["id"], to=PEOPLE.to_pylist, mostly=0.5, name="half"), "pass", 2),
    (Schema({"id": "int64", "amount": "float64", "note": "any"}), "fail", None),
    (Volume(min=1, max=4), "pass", None),
    (Volume(min=5, name="more"), "fail", None),
    (Freshness("ordered", max_age="26h"), "pass", None),
    (Freshness("ordered", max_age="1h", name="fresh"), "fail", None),
    (Sql("SELECT id FROM data GROUP BY id HAVING count(*) > 1"), "fail", 1),
    (SameAs(pa.table(ORDERS), sums="id", keys=["id", "status"]), "pass", None),
    (SameAs(PEOPLE, keys="id", name="as_people"), "fail", None),
]


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_check_ends_alike_whichever_library_holds_the_data(library: str) -> None:
    """Results and numbers of failing rows are the same; NaN is a missing value everywhere."""
    names = [one.name for one, _, _ in CHECKS]
    checks = [
        type(one)(**{**vars(one), "name": f"{number} {name}"})
        for number, (name, (one, _, _)) in enumerate(zip(names, CHECKS, strict=True))
    ]
    data = LIBRARIES[library](pa.table(ORDERS))
    with capture(clock=ManualClock(dt.datetime(2026, 11, 23, tzinfo=dt.UTC))):
        results = check(data, checks)
    assert [(one.check, one.result, one.failing) for one in results] == [
        (one.name, result, failing)
        for one, (_, result, failing) in zip(checks, CHECKS, strict=True)
    ], [one.message for one in results]


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_a_check_cannot_read_is_an_error_of_the_check(library: str) -> None:
    """A missing column, a type that does not fit or a broken query is told, without values."""
    data = LIBRARIES[library](pa.table({"status": ["secret"], "id": [1]}))
    results = check(
        data,
        [
            NotNull("statsu"),
            Matches("id", "x"),
            Freshness("status", max_age="1h"),
            Sql("SELECT nothing FROM data", name="column"),
            Sql("SELECT * FROM read_csv('/etc/passwd')", name="file"),
            Row("id + status > 3"),
            References("id", to="/nowhere.parquet"),
            References("id", to=lambda: 1 / 0, name="function"),
            NotNull("id"),
        ],
    )
    assert [one.result for one in results] == ["error"] * 8 + ["pass"]
    assert results[0].message == "there is no column 'statsu'; did you mean 'status'?"
    assert "column 'id' is int64" in results[1].message
    assert results[6].message == "there is no file '/nowhere.parquet'"
    assert not any("secret" in one.message for one in results)


@pytest.mark.parametrize(("on_error", "breaks"), [("open", False), ("closed", True)])
@pytest.mark.parametrize("on_fail", ["break", "quarantine"])
def test_a_check_that_cannot_be_made_fails_open_or_closed(
    on_error: Any, on_fail: Any, breaks: bool
) -> None:
    """As declared it lets the data pass, or stops the pipeline."""
    sink: dict[str, Any] = {"quarantine": "bad.jsonl"} if on_fail == "quarantine" else {}
    (result,) = check([{"id": 1}], [NotNull("x", on_fail=on_fail, on_error=on_error, **sink)])
    assert (result.result, result.breaks) == ("error", breaks)


def test_parts_of_a_stream_add_up() -> None:
    """Keys are unique over all parts of a stream, and other checks count all of its rows."""
    rows = ({"id": number % 20_000, "odd": number % 2} for number in range(20_010))
    results = check(rows, [Unique("id"), InSet("odd", [0]), Volume(max=20_000)])
    assert [(one.result, one.failing) for one in results] == [
        ("fail", 10),
        ("fail", 10_005),
        ("fail", None),
    ]


def test_a_stream_with_more_keys_than_are_kept_is_an_error() -> None:
    """What memory cannot hold is said, with what to do."""
    rows = ({"id": number} for number in range(10_000))
    (result,) = check(rows, [Unique("id", max_keys=5000)])
    assert result.result == "error"
    assert "more than 5,000 keys; raise max_keys" in result.message


def test_a_column_that_changes_its_type_in_a_stream_is_told() -> None:
    """The schema says so, and a check of the column is an error from there on."""
    rows = ({"id": number if number < 9000 else str(number)} for number in range(18_000))
    schema, between, volume = check(
        rows, [Schema({"id": "int64"}), Between("id", min=0), Volume(min=18_000)]
    )
    assert (schema.result, schema.message) == (
        "fail",
        "column 'id' is object, not int64; column 'id' is string, not int64",
    )
    assert (between.result, between.message) == (
        "error",
        "column 'id' holds int and str, which is no single type",
    )
    assert volume.result == "pass"


BAD_INPUTS: dict[str, Any] = {
    "mixed types": [{"a": 1, "b": 1}, {"a": "x", "b": 2}],
    "nested columns": [{"a": [1, {"x": 2}], "b": {"c": 1}}, {"a": None, "b": {"c": 2}}],
    "all null": pa.table({"a": pa.nulls(3), "b": pa.nulls(3, pa.int64())}),
    "nan and infinity": pl.DataFrame({"a": [NAN, math.inf, -math.inf], "b": [1, 2, 3]}),
    "dates out of range": pa.table(
        {"a": pa.array([-(2**62), 2**62], pa.timestamp("s")), "b": [1, 2]}
    ),
    "empty": pd.DataFrame({"a": [], "b": []}),
    "no columns": pd.DataFrame(),
    "no rows": [],
    "names twice": pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]),
    "names that are numbers": pd.DataFrame([[1, 2]]),
    "tuples": [(1, 2)],
    "a number": 7,
    "nothing": None,
}


@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_data_never_raise(kind: str) -> None:
    """Whatever the data are, each check ends as pass, fail or error."""
    checks = [
        NotNull("b"),
        Unique("b"),
        Unique("a"),
        Between("a", min=0),
        Matches("a", "x"),
        Freshness("a", max_age="1h"),
        Row("b == 1"),
        References("b", to=PEOPLE, key="id"),
        Sql("SELECT b FROM data WHERE b > 2"),
        SameAs(PEOPLE, sums="id", keys="id"),
        Schema({"b": "int64"}),
        Volume(min=1),
    ]
    results = check(BAD_INPUTS[kind], checks)
    assert len(results) == len(checks)
    assert {one.result for one in results} <= {"pass", "fail", "error"}
    if kind == "mixed types":
        assert (results[0].result, results[2].result) == ("pass", "error")
    if kind == "names twice":
        assert {one.message for one in results} == {"two columns have the same name"}


def test_a_table_of_5000_columns_is_checked() -> None:
    """Width is no obstacle."""
    table = pa.table({f"c{number}": [number, None] for number in range(5000)})
    (result,) = check(table, [NotNull([f"c{number}" for number in range(5000)], name="all")])
    assert (result.result, result.failing) == ("fail", 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NotNull(""), "columns '' "),
        (lambda: NotNull("a", on_fail="brake"), "did you mean 'break'?"),  # type: ignore[arg-type]
        (lambda: NotNull("a", mostly=2), "from 0 to 1"),
        (lambda: NotNull("a", on_fail="quarantine"), "needs a quarantine"),
        (lambda: NotNull("a", quarantine="x.jsonl"), "on_fail is 'warn'"),
        (lambda: NotNull("a", on_fail="quarantine", quarantine="x.csv"), ".parquet, .jsonl"),
        (lambda: Between("a"), "a min, a max or both"),
        (lambda: Matches("a", "["), "is not a regular expression"),
        (lambda: InSet("a", "abc"), "is not a list of values"),
        (lambda: Volume(min=1, on_fail="quarantine"), "needs a check of single rows"),
        (lambda: Volume(min=1, mostly=0.5), "leave it out"),
        (lambda: Row("a ="), "is not a condition"),
        (lambda: Row("__import__('os')"), "which is not a condition"),
        (lambda: Row("a.b == 1"), "which is not known"),
        (lambda: Row("a % 2 == 1"), "has 'a % 2', which"),
        (lambda: Row("(" * 5000), "is longer than"),
        (lambda: Schema({"a": "integer"}), "not one of bool, int8"),
        (lambda: Freshness("a", max_age="soon"), "is not a duration"),
        (lambda: References(["a", "b"], to=PEOPLE, key="id"), "differ in number"),
        (lambda: check([], [NotNull("a"), NotNull("a")]), "two checks are called 'not_null_a'"),
        (lambda: check([], ["not_null"]), "'not_null' is no check"),  # type: ignore[list-item]
    ],
)
def test_a_check_that_cannot_be_meant_is_refused(make: Callable[[], Any], words: str) -> None:
    """A wrong argument raises at once, and says what is allowed."""
    with pytest.raises(ConfigurationError) as error:
        make()
    assert words in str(error.value)


def test_a_narwhals_expression_may_be_a_condition() -> None:
    """In code a condition may be an expression, in which null leaves it open."""
    import narwhals as nw

    (result,) = check([{"a": 1}, {"a": None}, {"a": -1}], [Row(nw.col("a") > 0, name="above")])
    assert (result.result, result.failing) == ("fail", 1)


def test_the_share_that_must_pass_is_exact() -> None:
    """Nine of ten rows are 0.9 of them, whatever floats make of it."""
    rows = [{"a": number or None} for number in range(10)]
    (result,) = check(rows, [NotNull("a", mostly=0.9)])
    assert result.result == "pass"
    assert result.message == "1 of 10 rows (10.00%) fail; 1 may"
