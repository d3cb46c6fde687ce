"""What the command `otel-pipeline` and its `env` promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline import cli
from otel_pipeline.cli import env
from otel_pipeline.config import OPTIONS
from otel_pipeline.errors import CommandError, ConfigurationError
from otel_pipeline.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = [sys.executable, "-m", "otel_pipeline"]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("OTEL_PIPELINE_LINEAGE")


def rows(output: str) -> dict[str, dict[str, Any]]:
    return {row["variable"]: row for row in json.loads(output)}


# --- env -----------------------------------------------------------------------------------------


def test_env_prints_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """A table grouped by topic, with value, source and meaning; an unset value is a dash."""
    assert cli.main(["env"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    lines = output.out.splitlines()
    for option in OPTIONS:
        assert [line for line in lines if line.split()[:1] == [option.variable]], option.variable
    assert [line for line in lines if line and not line.startswith(" ")] == list(
        dict.fromkeys(option.topic for option in OPTIONS)
    )
    assert (
        "  OTEL_TRACES_SAMPLER_ARG         1.0                    default  "
        "Share of traces, 0 to 1, that a traceidratio sampler keeps."
    ) in lines
    (config_file,) = (line for line in lines if "OTEL_CONFIG_FILE" in line)
    assert config_file.split()[1:3] == ["-", "default"]


def test_env_prints_each_variable_once(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which they are declared."""
    cli.main(["env", "--json"])
    variables = [row["variable"] for row in json.loads(capsys.readouterr().out)]
    assert variables == [option.variable for option in OPTIONS]


def test_env_prints_one_json_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With value, source, default and meaning of each variable."""
    monkeypatch.setenv("OTEL_PIPELINE_SPOOL_MAX_AGE", "90s")
    assert cli.main(["env", "--json"]) == 0
    assert rows(capsys.readouterr().out)["OTEL_PIPELINE_SPOOL_MAX_AGE"] == {
        "variable": "OTEL_PIPELINE_SPOOL_MAX_AGE",
        "value": "90s",
        "source": "environment",
        "default": "24h",
        "doc": "Oldest batch that the spool keeps: 90s, 15m, 24h, 1d.",
        "error": None,
    }


def test_env_can_print_only_what_was_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only follows from a variable that was set is left out."""
    monkeypatch.delenv("OTEL_PIPELINE_SPOOL_DIR")
    assert cli.main(["env", "--set"]) == 0
    assert capsys.readouterr().out == "Nothing is set.\n"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
    assert cli.main(["env", "--set", "--json"]) == 0
    assert list(rows(capsys.readouterr().out)) == ["OTEL_EXPORTER_OTLP_ENDPOINT"]


def test_env_shows_the_value_that_a_signal_really_gets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And which variable it follows from."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
    cli.main(["env", "--json"])
    row = rows(capsys.readouterr().out)["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]
    assert (row["value"], row["source"]) == (
        "http://c:4318/v1/logs",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    )


@pytest.mark.parametrize("form", [[], ["--json"], ["--set"]])
def test_env_shows_a_wrong_value_in_its_row(
    form: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are still shown; the message is on stderr too, and the status is 1."""
    message = "OTEL_TRACES_EXPORTER='oltp' is not one of otlp, console, none; did you mean 'otlp'?"
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "oltp")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    assert cli.main(["env", *form]) == 1
    output = capsys.readouterr()
    assert output.err == f"otel-pipeline: {message}\n"
    assert "orders" in output.out
    if form == ["--json"]:
        row = rows(output.out)["OTEL_TRACES_EXPORTER"]
        assert (row["value"], row["source"], row["error"]) == ("oltp", "environment", message)
    else:
        lines = output.out.splitlines()
        (at,) = (n for n, line in enumerate(lines) if line.startswith("  OTEL_TRACES_EXPORTER "))
        assert lines[at].split()[1:3] == ["oltp", "environment"]
        assert lines[at + 1] == f"    error: {message}"


def test_env_masks_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of headers only the names are shown, of a URL not the credentials."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:s3cret@c")
    assert cli.main(["env"]) == 0
    output = capsys.readouterr().out
    assert "s3cret" not in output
    assert "authorization=***" in output
    assert "https://***@c" in output


def test_env_points_out_an_unknown_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a warning: the status stays 0."""
    monkeypatch.setenv("OTEL_PIPELINE_REDCAT", "on")
    assert cli.main(["env", "--set"]) == 0
    assert capsys.readouterr().err == (
        "otel-pipeline: OTEL_PIPELINE_REDCAT is no variable of otel_pipeline; "
        "did you mean 'OTEL_PIPELINE_REDACT'?\n"
    )


@pytest.mark.parametrize("columns", [40, 100])
def test_env_wraps_the_meaning_to_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow terminal still gets the whole meaning, in a column of its own."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("OTEL_PIPELINE_SPOOL_DIR", "off")
    cli.main(["env", "--set"])
    topic, first, *rest = capsys.readouterr().out.splitlines()
    assert topic == "Delivery"
    start = first.index("Folder")
    assert {len(line) - len(line.lstrip()) for line in rest} == {start}
    (option,) = (option for option in OPTIONS if option.field == "spool_dir")
    assert " ".join([first[start:], *(line.strip() for line in rest)]) == option.doc
    assert max(map(len, [first, *rest])) <= max(columns, start + 30)


# --- the command ---------------------------------------------------------------------------------


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, check=False, env=clean | environ
    )


def test_the_package_can_be_run() -> None:
    """`python -m otel_pipeline` is the command."""
    done = run("env", "--set", "--json", OTEL_SERVICE_NAME="orders")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(done.stdout)["OTEL_SERVICE_NAME"]["value"] == "orders"


def test_importing_the_main_module_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """So that tools which import every module of a package do no harm."""
    import_module("otel_pipeline.__main__")
    assert capsys.readouterr() == ("", "")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """It is that of the library."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"otel-pipeline {__version__}\n"


@pytest.mark.parametrize("words", [[], ["evn"], ["env", "--jsno"], ["--jsno", "env"]])
def test_wrong_arguments_end_with_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And say how the command is used, on stderr."""
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: otel-pipeline")


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Without importing any of them."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    words = capsys.readouterr().out.split()
    assert set(cli.COMMANDS) <= set(words)


def test_a_command_is_imported_when_it_is_chosen() -> None:
    """The others may be slow to import, or need what is not installed."""
    code = (
        "import sys; from otel_pipeline.cli import main; main(['env', '--set']);"
        "print([name for name in sys.modules if name.startswith('otel_pipeline.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['otel_pipeline.cli.env']"


@pytest.mark.parametrize("error", [CommandError, ConfigurationError])
def test_an_error_of_the_library_is_a_message_without_a_traceback(
    error: type[Exception],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On stderr, with status 2."""
    monkeypatch.setattr(env, "run", raising(error("this cannot be")))
    assert cli.main(["env"]) == 2
    assert capsys.readouterr() == ("", "otel-pipeline: this cannot be\n")


def test_ctrl_c_is_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is the one that a shell gives."""
    monkeypatch.setattr(env, "run", raising(KeyboardInterrupt()))
    assert cli.main(["env"]) == 130
    assert capsys.readouterr() == ("", "")


def raising(error: BaseException) -> Callable[[object], int]:
    def run(_args: object) -> int:
        raise error

    return run


def test_a_closed_pipe_is_quiet() -> None:
    """`otel-pipeline env | head -1` shows no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "env"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
