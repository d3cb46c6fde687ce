"""Checks in YAML: what is read, what is refused and how, and the schema for editors."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

import jsonschema
import pytest
import yaml

from otel_pipeline.errors import ConfigurationError
from otel_pipeline.quality import (
    Between,
    Dataset,
    Freshness,
    InSet,
    NotNull,
    References,
    Row,
    SameAs,
    Schema,
    Sql,
    Unique,
    Volume,
    load,
)
from otel_pipeline.quality.checks import KINDS, Matches
from otel_pipeline.quality.checks.model import parameters
from otel_pipeline.quality.declarations import json_schema

if TYPE_CHECKING:
    from pathlib import Path

EVERY_KIND = """
datasets:
  orders:
    freshness: 26h
    updated_at: ordered_at
    level: standard
    checks:
      - not_null: id
      - not_null: {columns: [id, customer], severity: critical, on_fail: break}
      - unique: [id, line]
      - between:
          column: amount
          min: 0
          mostly: 0.99
          on_fail: quarantine
          quarantine: rejected/orders.jsonl
      - in_set: {column: country, values: [DE, NO, on]}
      - matches: {column: email, pattern: "^[^@]+@", on_error: closed}
      - row: paid_at is None or paid_at >= ordered_at
      - references: {columns: customer, to: customers.parquet, key: id}
      - schema: {columns: {id: int64, note: any}, extra: false, order: true}
      - volume: 1
      - freshness: {column: ordered_at, max_age: 1d}
      - sql: {query: SELECT id FROM data WHERE amount < 0, name: no_debts}
      - same_as: {other: export.csv, sums: amount, keys: id, tolerance: 0.01}
  customers:
    checks: []
"""


def test_every_kind_of_check_can_be_declared(tmp_path: Path) -> None:
    """YAML gives the same objects as code; paths are relative to the file."""
    path = tmp_path / "checks.yaml"
    path.write_text(EVERY_KIND)
    sink = str(tmp_path / "rejected" / "orders.jsonl")
    checks = [
        NotNull("id"),
        NotNull(["id", "customer"], severity="critical", on_fail="break"),
        Unique(["id", "line"]),
        Between("amount", min=0, mostly=0.99, on_fail="quarantine", quarantine=sink),
        InSet("country", ["DE", "NO", "on"]),
        Matches("email", "^[^@]+@", on_error="closed"),
        Row("paid_at is None or paid_at >= ordered_at"),
        References("customer", to=str(tmp_path / "customers.parquet"), key="id"),
        Schema({"id": "int64", "note": "any"}, extra=False, order=True),
        Volume(1),
        Freshness("ordered_at", max_age="24h"),
        Sql("SELECT id FROM data WHERE amount < 0", name="no_debts"),
        SameAs(str(tmp_path / "export.csv"), sums="amount", keys="id", tolerance=0.01),
    ]
    assert load(path) == [
        Dataset(
            "orders", checks=checks, freshness="26h", updated_at="ordered_at", level="standard"
        ),
        Dataset("customers"),
    ]
    assert {check.kind for check in checks} == set(KINDS)


def test_the_schema_that_is_shipped_is_that_of_the_model() -> None:
    """`checks.schema.json` is made from the checks, and takes a file with every kind."""
    shipped = resources.files("otel_pipeline.quality") / "checks.schema.json"
    schema = json.loads(shipped.read_text(encoding="utf-8"))
    assert schema == json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(EVERY_KIND.replace(", on]", "]")), schema)


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_knows_every_parameter(kind: str) -> None:
    """Each parameter of each kind has a description, which editors show."""
    described = json_schema()["$defs"]["check"]["properties"][kind]
    whole = described["anyOf"][1] if "anyOf" in described else described
    assert set(whole["properties"]) == set(parameters(KINDS[kind]))
    assert all(one["description"] for one in whole["properties"].values())


#: What stands below `checks:` of a dataset, the line of the error, and what it says.
WRONG: list[tuple[str, int, str]] = [
    ("- not_nul: id", 4, "checks[0].not_nul is not known; allowed are not_null, unique"),
    ("- not_nul: id", 4, "did you mean 'not_null'?"),
    ("- not_null", 4, "columns is missing: The columns that have"),
    ("- not_null: id\n- not_null: id", 5, "the second check that is called 'not_null_id'"),
    ("- not_null: {columns: id, on_fial: warn}", 4, "did you mean 'on_fail'?"),
    ("- not_null:\n    columns: id\n    on_fail: brake", 6, "did you mean 'break'?"),
    ("- not_null: id\n  unique: id", 4, "has 2 entries; a check is one kind"),
    ("- [not_null]", 4, "is a list, not a mapping with not_null"),
    ("- not_null: {columns: id, columns: id}", 4, "columns is there twice"),
    ("- between: {column: a, min: x, mostly: high}", 4, "'high' is not a number from 0 to 1"),
    ("- between: a", 4, "is a value, not a mapping with column, min, max, name"),
    ("- between: {column: a}", 4, "a min, a max or both are needed"),
    ("- matches: {column: a, pattern: '['}", 4, "is not a regular expression: unterminated"),
    ("- schema: {columns: {a: strng}}", 4, "has 'strng' for column 'a', which is not one of"),
    ("- schema: {columns: {a: strng}}", 4, "did you mean 'string'?"),
    ("- row: amount >", 4, "is not a condition (invalid syntax)"),
    ("- freshness: {column: a, max_age: 3 moons}", 4, "'3 moons' is not a duration"),
    ("- volume: -1", 4, "-1 is not a whole number of at least 0"),
    ("- volume: {min: 1, on_fail: quarantine}", 4, "needs a check of single rows"),
    ("- unique: {columns: id, on_fail: quarantine, quarantine: x.csv}", 4, ".parquet, .jsonl"),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG, ids=map(str, range(len(WRONG))))
def test_a_wrong_check_is_told_with_its_place(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    """The error names file, line and key, what is allowed, and the nearest right word."""
    path = tmp_path / "checks.yaml"
    indented = "".join(f"      {one}\n" for one in text.splitlines())
    path.write_text(f"datasets:\n  orders:\n    checks:\n{indented}")
    with pytest.raises(ConfigurationError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}, line {line}: datasets.orders.checks[")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; it begins with datasets:"),
        ("checks: []", "line 1: checks is not known; allowed are datasets"),
        ("{}", "datasets is missing"),
        ("datasets: [orders]", "datasets is a list, not a mapping"),
        ("datasets:\n  o:\n    chekcs: []", "line 3: datasets.o.chekcs is not known"),
        ("datasets:\n  o:\n    checks: {a: b}", "is not a list; write each check as"),
        ("datasets:\n  o:\n    level: all", "'all' is not one of basic, standard, full"),
        ("datasets:\n  o: {checks: [", "this is not YAML"),
        ("datasets:\n  o:\n    level: !!python/name:os.system", "could not determine a constr"),
        ("a: \x00", "this is not YAML"),
        ("datasets: &a\n  o: *a", "datasets.o.o is not known"),
        ("datasets:\n  o:\n    freshness: *nothing", "this is not YAML: found undefined alias"),
    ],
)
def test_a_wrong_file_is_told(text: str, words: str, tmp_path: Path) -> None:
    """Whatever the file holds, the error says what and where."""
    path = tmp_path / "checks.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["missing", "no text"])
def test_a_file_that_cannot_be_read_is_told(content: bytes | None, tmp_path: Path) -> None:
    """A missing file and one that is no text are named."""
    path = tmp_path / "checks.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"checks\.yaml: (cannot be read|is not UTF-8)"):
        load(path)
