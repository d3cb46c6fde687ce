"""`otel-pipeline quality check` and `suggest`: what they print, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pyarrow as pa
import pytest
import yaml
from pyarrow import csv, parquet

from otel_pipeline.cli import main
from otel_pipeline.cli._flights import data_file

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = pa.table({"id": [1, 2, None], "status": ["open", "paid", "paid"]})
WARN = "- not_null: id"
CRITICAL = "- not_null: {columns: id, severity: critical}"
BREAK = "- not_null: {columns: id, on_fail: break}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the orders in each format."""
    monkeypatch.chdir(tmp_path)
    parquet.write_table(ORDERS, "orders.parquet")
    csv.write_csv(ORDERS, "orders.csv")
    lines = [json.dumps(row) + "\n" for row in ORDERS.to_pylist()]
    (tmp_path / "orders.jsonl").write_text("".join(lines))
    return tmp_path


def declare(folder: Path, *checks: str, dataset: str = "orders") -> None:
    lines = "".join(f"      {check}\n" for check in checks)
    (folder / "checks.yaml").write_text(f"datasets:\n  {dataset}:\n    checks:\n{lines}")


@pytest.mark.parametrize("file", ["orders.parquet", "orders.csv", "orders.jsonl"])
@pytest.mark.parametrize(
    ("check", "arguments", "status"),
    [
        ("- volume: 1", [], 0),
        (WARN, [], 0),
        (WARN, ["--strict"], 1),
        (CRITICAL, [], 1),
        (BREAK, [], 1),
        ("- not_null: {columns: x, on_fail: break}", [], 0),
        ("- not_null: {columns: x, on_fail: break, on_error: closed}", [], 1),
    ],
)
def test_the_exit_status_says_whether_the_data_may_go_on(
    file: str, check: str, arguments: list[str], status: int, folder: Path
) -> None:
    """A warning is 0, or 1 where asked; what is critical or breaks is 1."""
    declare(folder, check)
    assert main(["quality", "check", file, "--with", "checks.yaml", *arguments]) == status


def test_the_report_is_read_by_people_or_programs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text tells each check in a line; `--json` is one document."""
    declare(folder, BREAK, "- unique: id")
    assert main(["quality", "check", "orders.csv", "--with", "checks.yaml"]) == 1
    assert capsys.readouterr().out == (
        "orders.csv: 3 rows of orders\n"
        "\n"
        "fail   not_null_id  1 of 3 rows (33.33%) fail (warning, break)\n"
        "pass   unique_id    0 of 3 rows (0.00%) fail\n"
        "\n"
        "1 of 2 checks passed.\n"
    )
    assert main(["quality", "check", "orders.csv", "--with", "checks.yaml", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["rows"], document["failed"]) == (3, True)
    assert document["checks"][0] == {
        "check": "not_null_id",
        "kind": "not_null",
        "result": "fail",
        "message": "1 of 3 rows (33.33%) fail",
        "severity": "warning",
        "on_fail": "break",
        "rows": 3,
        "failing": 1,
        "breaks": True,
    }


def test_a_check_takes_no_rows_out(folder: Path) -> None:
    """The command only looks: the quarantine is not written."""
    declare(folder, "- not_null: {columns: id, on_fail: quarantine, quarantine: bad.jsonl}")
    assert main(["quality", "check", "orders.csv", "--with", "checks.yaml"]) == 1
    assert not (folder / "bad.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "takes a FILE and --with YAML"),
        (["orders.csv"], "takes a FILE and --with YAML"),
        (["nothing.csv", "--with", "checks.yaml"], "there is no file 'nothing.csv'"),
        (["orders.xlsx", "--with", "checks.yaml"], "of no known format"),
        (["broken.parquet", "--with", "checks.yaml"], "is no parquet that can be read"),
        (["orders.csv", "--with", "none.yaml"], "none.yaml: cannot be read"),
        (["orders.csv", "--with", "checks.yaml", "--dataset", "order"], "did you mean 'orders'?"),
    ],
)
def test_a_wrong_usage_ends_with_2(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is told on stderr, with what to do."""
    declare(folder, WARN)
    (folder / "broken.parquet").write_bytes(b"PAR1 secret")
    assert main(["quality", "check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "secret" not in err


def test_the_dataset_of_several_is_that_of_the_file_s_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With several datasets the file's name says which, or `--dataset`."""
    (folder / "checks.yaml").write_text(
        "datasets:\n  other: {checks: [volume: 9]}\n  orders: {checks: [volume: 1]}\n"
    )
    assert main(["quality", "check", "orders.csv", "--with", "checks.yaml"]) == 0
    assert "rows of orders" in capsys.readouterr().out
    assert main(["quality", "check", "orders.csv", "--with=checks.yaml", "--dataset=other"]) == 0
    assert "rows of other" in capsys.readouterr().out


def suggested(file: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["quality", "suggest", file]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["weather.csv", "planes.csv", "airports.csv"])
def test_what_is_suggested_passes_on_that_file(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first checks of real data hold for them, each of them, and the schema takes them."""
    source = str(data_file(name))
    text = suggested(source, capsys)
    (folder / "checks.yaml").write_text(text)
    assert main(["quality", "check", source, "--with", "checks.yaml", "--strict"]) == 0
    assert main(["quality", "check", "--print-schema"]) == 0
    printed = capsys.readouterr().out
    schema: dict[str, Any] = json.loads(printed[printed.index("{") :])
    jsonschema.validate(yaml.safe_load(text), schema)


def test_a_suggestion_holds_no_values_of_columns_with_many(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words of a column with a few are written down; names, numbers and times are not."""
    rows = 200
    table = pa.table(
        {
            "a b": [f"person {number}" for number in range(rows)],
            "a_b": [f"person {number}" for number in range(rows)],
            "amount": [number + 1000 for number in range(rows)],
            "country": ["NO", "DE"] * (rows // 2),
        }
    )
    parquet.write_table(table, "people.parquet")
    text = suggested("people.parquet", capsys)
    assert "person" not in text
    assert "1000" not in text
    assert "- in_set: {column: country, values: [DE, 'NO']}" in text
    (folder / "checks.yaml").write_text(text)
    assert main(["quality", "check", "people.parquet", "--with=checks.yaml", "--strict"]) == 0


def test_a_suggestion_overwrites_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--output` writes a new file, and leaves one that is there as it is."""
    arguments = ["quality", "suggest", "orders.csv", "--output", "checks.yaml"]
    assert main(arguments) == 0
    written = (folder / "checks.yaml").read_text()
    assert main(arguments) == 2
    assert "File exists" in capsys.readouterr().err
    assert (folder / "checks.yaml").read_text() == written


def test_importing_quality_needs_no_data_library() -> None:
    """The checks can be declared, and YAML be read, where no data library is installed."""
    program = (
        "import sys\n"
        "for name in ('narwhals', 'numpy', 'pandas', 'polars', 'pyarrow', 'duckdb'):\n"
        "    sys.modules[name] = None\n"
        "from otel_pipeline import Pipeline\n"
        "from otel_pipeline.quality import NotNull, Volume, load\n"
        "rows = [{'id': None}]\n"
        "with Pipeline('p').stage('s') as stage:\n"
        "    assert stage.observe(rows, 'd', checks=[NotNull('id', on_fail='break')]) is rows\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
    )
    assert result.stderr.count("\n") == 1
    assert 'is not installed: pip install "otel-pipeline[quality]"' in result.stderr
