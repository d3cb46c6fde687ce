"""Row predicates agree with SQL, whichever library holds the data."""

from __future__ import annotations

import duckdb
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from otel_pipeline.quality import Row, check

NUMBERS = st.integers(-3, 3)
COLUMNS = st.sampled_from(["a", "b"])
VALUES = st.one_of(
    COLUMNS,
    NUMBERS.map(str),
    st.tuples(COLUMNS, st.sampled_from("+-*"), NUMBERS.map(lambda number: f"({number})")).map(
        " ".join
    ),
)
COMPARED = st.one_of(
    st.tuples(VALUES, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), VALUES).map(" ".join),
    st.tuples(COLUMNS, st.sampled_from(["is None", "is not None"])).map(" ".join),
    st.tuples(COLUMNS, st.sampled_from(["in [1, 2]", "not in [1, 2]"])).map(" ".join),
)
CONDITIONS = st.recursive(
    COMPARED,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda one: f"not ({one})"),
    ),
    max_leaves=6,
)
ROWS = st.lists(st.tuples(NUMBERS | st.none(), NUMBERS | st.none()), min_size=1, max_size=6)


def as_sql(condition: str) -> str:
    """Return the condition in the words of SQL."""
    for python, sql in (
        ("is not None", "IS NOT NULL"),
        ("is None", "IS NULL"),
        ("==", "="),
        ("[1, 2]", "(1, 2)"),
    ):
        condition = condition.replace(python, sql)
    return condition


@given(CONDITIONS, ROWS)
def test_a_condition_means_what_it_means_in_sql(
    condition: str, rows: list[tuple[int | None, int | None]]
) -> None:
    """The rows that break it are those for which SQL's three-valued logic says false."""
    kinds = pa.schema({"a": pa.int64(), "b": pa.int64()})
    table = pa.Table.from_pylist([dict(zip("ab", row, strict=True)) for row in rows], schema=kinds)
    with duckdb.connect() as connection:
        connection.register("data", table)
        query = f"SELECT count(*) FROM data WHERE ({as_sql(condition)}) IS FALSE"
        (expected,) = connection.sql(query).fetchall()[0]
        relation = connection.from_arrow(table)
        for data in (table, pl.from_arrow(table), table.to_pandas(), relation, table.to_pylist()):
            (result,) = check(data, [Row(condition, name="row")])
            found = (type(data), result.message, result.failing)
            assert found[2] == expected, found
