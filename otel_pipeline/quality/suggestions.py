"""A first set of checks for data as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from otel_pipeline.quality.checks import Between, InSet, NotNull, Schema, Unique, Volume
from otel_pipeline.quality.checks.evaluation import check
from otel_pipeline.quality.checks.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.quality.checks import Check

__all__ = ["suggest"]

#: A column with more distinct values is no set of words; its values are not written down.
_MOST_VALUES: Final = 20
#: And each of its values comes so often at least, on average.
_ROWS_FOR_EACH: Final = 10
#: Columns whose values are looked at; the schema and missing values are for all.
_MOST_COLUMNS: Final = 200


@dataclass(frozen=True, slots=True)
class _Suggestion:
    """A check, why it is suggested, and what YAML says of it."""

    check: Check
    why: str
    given: dict[str, Any]


def suggest(data: object, dataset: str) -> str:
    """Return YAML with checks that the data pass.

    It holds the names of columns, and values of columns with a few distinct ones; no others.

    Args:
        data: A frame of pandas, Polars or PyArrow.
        dataset: The name of the dataset.

    Returns:
        The YAML, with a comment on each check.

    Raises:
        CheckError: The data are no frame, or cannot be read.

    Example:
        >>> import pyarrow as pa
        >>> from otel_pipeline.quality.suggestions import suggest
        >>> print(suggest(pa.table({"id": [1, 2]}), "orders").splitlines()[3])
        datasets:
    """
    (table,) = Table.each_of(data)
    found = list(_suggestions(table))
    # What was only guessed, such as a key, is kept where it holds.
    results = check(data, [one.check for one in found])
    kept = [one for one, result in zip(found, results, strict=True) if result.result == "pass"]
    lines = [
        f"# A first set of checks, made from {table.how_many([])[0]:,} rows. Read it: what is true",
        "# today need not be what you want. A check only warns, unless on_fail says break or",
        "# quarantine.",
        "datasets:",
        f"  {_text(dataset)}:",
        "    checks:",
    ]
    for one in kept:
        lines.append(f"      # {one.why}")
        lines.append(f"      - {one.check.kind}: {_text(one.given)}")
    times = [name for name, kind in table.types.items() if kind.startswith("date")]
    if times:
        lines += [
            "      # Should the newest row be young? The column may be another one.",
            f"      # - freshness: {_text({'column': times[0], 'max_age': '26h'})}",
        ]
    return "\n".join(lines) + "\n"


def _suggestions(table: Table) -> Iterator[_Suggestion]:
    nw, types = table.nw, table.types
    names = list(types)
    yield _one(Volume, "There were rows. A lower limit near the usual number says more.", min=1)
    if names and set(types.values()).isdisjoint({"object"}):
        plain = {name: kind.partition("[")[0] for name, kind in types.items()}
        yield _one(Schema, "The columns and their types.", columns=plain)
    counts = table.one_row(
        **{f"missing {index}": table.missing(name).sum() for index, name in enumerate(names)}
    )
    full = [name for index, name in enumerate(names) if not counts[f"missing {index}"]]
    if full:
        why = "No value is missing in these columns."
        yield _one(NotNull, why, columns=full, name="no_missing_values")
    rows = table.how_many([])[0]
    for index, name in enumerate(names[:_MOST_COLUMNS]):
        kind = types[name]
        if not kind.startswith(("int", "uint", "float", "string", "bool")):
            continue
        values = table.present([name])[name].unique()
        present = rows - int(counts[f"missing {index}"])
        if rows > 1 and len(values) == rows and not kind.startswith("float"):
            yield _one(Unique, f"{name!r} is different in each row.", index, columns=[name])
        elif kind == "string" and 0 < len(values) <= min(_MOST_VALUES, present / _ROWS_FOR_EACH):
            words = sorted(values.to_list())
            yield _one(InSet, f"{name!r} is one of a few.", index, column=name, values=words)
        elif not kind.startswith(("string", "bool")) and present:
            least = table.where(~table.missing(name), name).one_row(least=nw.col(name).min())
            if least["least"] >= 0:
                yield _one(Between, f"{name!r} is never negative.", index, column=name, min=0)


def _one(kind: type[Check], why: str, index: int | None = None, **given: Any) -> _Suggestion:
    made = kind(**given)
    if index is not None and made.name != f"{made.kind}_{made.about()[0]}":
        # The name leaves out characters of the column's, so another column may have the same.
        given["name"] = f"{made.name[:90]}_{index}"
        made = kind(**given)
    return _Suggestion(made, " ".join(why.split()), given)


def _text(value: object) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=10**9, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()
