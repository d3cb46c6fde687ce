"""`otel-pipeline quality profile`: what it prints of files, good and bad ones."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from otel_pipeline.cli import main
from otel_pipeline.quality import Profile, profile

if TYPE_CHECKING:
    from pathlib import Path

FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "price": [2.5, None, 4.5],
        "country": ["DE", "FR", "DE"],
        "paid": [True, False, True],
    }
)


def written(folder: Path, name: str) -> Path:
    """Write the frame in the format of a file's name."""
    path = folder / name
    if name.endswith("parquet"):
        FRAME.write_parquet(path)
    elif "json" in name.lower():
        path.write_text(FRAME.write_ndjson())
    else:
        path.write_text(FRAME.write_csv(separator="\t" if ".tsv" in name else ","))
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.csv.gz", "a.parquet", "a.jsonl", "a.ndjson.gz", "A.JSON"]
)
def test_a_file_has_the_profile_of_its_rows(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` prints one document, the same for each format."""
    assert main(["quality", "profile", str(written(tmp_path, name)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == profile(FRAME).to_dict()


def test_the_table_is_read_at_a_glance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each column, with what stands out; a text of the data only where allowed."""
    path = written(tmp_path, "orders.csv")
    assert main(["quality", "profile", str(path), "--top-values", "country"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "3 rows, 4 columns",
        "",
        "column   type       null  distinct  min  median  max  mean      std  notes",
        "id       int64         0         3    1       2    3     2        1",
        "price    float64  33.33%         2  2.5     2.5  4.5   3.5  1.41421",
        "country  string        0         2   DE           FR                 length 2 to 2",
        "paid     bool          0         2                                   2 true",
        "",
        "Most frequent in country:",
        "             2  DE",
        "             1  FR",
    ]


def test_a_profile_can_be_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--save` keeps what `Profile.from_bytes` reads, of the level that was asked for."""
    saved = tmp_path / "orders.profile"
    path = str(written(tmp_path, "orders.parquet"))
    assert main(["quality", "profile", path, "--level", "basic", "--save", str(saved)]) == 0
    assert Profile.from_bytes(saved.read_bytes()) == profile(FRAME, "basic")


def test_a_column_of_csv_may_turn_out_to_be_wider(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a row behind the first megabytes has another type, the wider one is taken."""
    path = tmp_path / "late.csv"
    rows = 700_000
    with path.open("w") as file:
        file.write("id,price,code,empty\n")
        file.writelines(f"{n},1,{n},\n" for n in range(rows))
        file.write(f"{rows},2.5,A1,3\n")
    assert path.stat().st_size > 8 << 20
    assert main(["quality", "profile", str(path), "--level", "basic", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == rows + 1
    assert document["schema"] == {
        "id": "int64",
        "price": "float64",
        "code": "string",
        "empty": "int64",
    }
    assert document["columns"]["empty"]["null_count"] == rows


def test_an_estimate_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A large distinct count carries a tilde, which is explained."""
    path = tmp_path / "ids.csv"
    path.write_text("id\n" + "\n".join(map(str, range(50_000))))
    assert main(["quality", "profile", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "~" in lines[3]
    assert lines[-1].startswith("~ is an estimate")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", b"x", "a.txt: the name is not that of a CSV, Parquet or JSON lines file"),
        ("a.csv", b"", "a.csv: it is empty: there is no line with the names"),
        ("a.csv", b"a,b\n1,2\n1,secret,3\n", "a.csv: a line has 3 columns, and 2 were expected"),
        ("a.csv", b"a,a\n1,2\n", "a.csv: column 'a' occurs twice"),
        ("a.jsonl", b'{"a": 1}\n{"a": secret}\n', "a.jsonl: line 2 is not one JSON object"),
        ("a.jsonl", b'["secret"]\n', "a.jsonl: line 1 is not one JSON object"),
        ("a.jsonl", b'{"a": 1}\n{"a": "secret"}\n', "a.jsonl: column 'a' holds int and str"),
        ("a.jsonl", b"\xff\xfe", "a.jsonl: line 1 is not one JSON object in UTF-8"),
        ("a.parquet", b"secret", "a.parquet: it cannot be read as Parquet"),
        ("a.parquet", None, "a.parquet: No such file or directory"),
    ],
    ids=range(10),
)
def test_a_file_that_cannot_be_profiled_is_an_error_of_one_line(
    name: str, text: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command exits with 2 and says which file, where, and why; no value is in it."""
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text)
    assert main(["quality", "profile", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err
    assert "secret" not in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-values", "nope"], "--top-values nope: {} has no such column"),
        (["--save", "/nowhere/x"], "--save /nowhere/x: No such file or directory"),
    ],
    ids=["top values", "save"],
)
def test_a_wrong_option_is_an_error(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column that is not there, or a place that cannot be written, is said."""
    path = written(tmp_path, "a.csv")
    assert main(["quality", "profile", str(path), *options]) == 2
    assert message.format(path) in capsys.readouterr().err


def test_without_an_action_the_command_says_how_it_is_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`otel-pipeline quality` alone is a wrong use."""
    with pytest.raises(SystemExit) as ended:
        main(["quality"])
    assert ended.value.code == 2
    assert "usage: otel-pipeline quality [-h] ACTION" in capsys.readouterr().err
