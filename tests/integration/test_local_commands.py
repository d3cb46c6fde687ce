"""`otel-pipeline ui` and `otel-pipeline query`, as a user runs them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline.cli import main
from tests.local_data import counter, log, logs, metrics, span, spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UI = [sys.executable, "-m", "otel_pipeline", "ui"]
ANY_PORT = ["--port", "0", "--otlp-port", "0", "--grpc-port", "0"]


@dataclass
class Ui:
    process: subprocess.Popen[str]
    page: int
    otlp: int

    def post(self, signal_name: str, body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.otlp, timeout=10)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/x-protobuf"}
            connection.request("POST", f"/v1/{signal_name}", body, headers)
            return connection.getresponse().status


@contextlib.contextmanager
def ui(store: Path, *more: str, **environ: str) -> Iterator[Ui]:
    """Run the command; it is ready when it has said its addresses."""
    command = [*UI, *ANY_PORT, "--store", str(store), *more]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            ports = [int(re.findall(r":(\d+)", line)[0]) for line in lines[:2]]
            yield Ui(process, *ports)
        finally:
            process.kill()


def query(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Run `query … --json` and return what it printed."""
    assert main(["query", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_program_s_telemetry_is_asked_for_while_the_ui_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With OTEL_PIPELINE_LOCAL=1 all of a run is there when its program has ended."""
    program = """
        from otel_pipeline import Pipeline, configure, get_logger
        configure(service_name="orders-etl", prometheus_port=0)
        pipeline = Pipeline("orders")
        with pipeline.run("run-1"):
            with pipeline.batch(range(7)) as batch:
                for _ in batch:
                    pass
            get_logger("x").info("late order", customer=42)
    """
    store = tmp_path / "local.db"
    with ui(store) as running:
        environ = {
            **os.environ,
            "OTEL_PIPELINE_LOCAL": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{running.otlp}",
        }
        command = [sys.executable, "-c", textwrap.dedent(program)]
        subprocess.run(command, env=environ, check=True, timeout=60, stdout=subprocess.DEVNULL)
        (run,) = query(capsys, "runs", "--store", store)
        trace = ["--store", store, "--trace-id", run["trace_id"]]
        names = [one["name"] for one in query(capsys, "traces", *trace)]
        (line,) = query(capsys, "logs", *trace, "--filter", '"late order" attr.customer=42')
        (series,) = query(
            capsys,
            *("metrics", "--store", store),
            *("--filter", "name:records_processed attr.status=success"),
        )
    assert (run["run_id"], run["status"], run["records"]["success"]) == ("run-1", "success", 7)
    assert names == ["orders", "orders batch"]
    assert (line["body"], line["trace_id"]) == ("late order", run["trace_id"])
    assert (series["value"], series["service"]) == (7.0, "orders-etl")


@pytest.mark.timeout(300)  # twenty programs start one after the other
def test_nothing_that_was_acknowledged_is_lost_when_it_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty times it is killed in the middle of storing, and all that it answered for is there."""
    store = tmp_path / "local.db"
    acknowledged: list[int] = []
    for attempt in range(20):
        with ui(store) as running:
            enough = threading.Event()

            def send(
                start: int, running: Ui = running, enough: Any = enough, wanted: int = attempt
            ) -> None:
                connection = http.client.HTTPConnection("127.0.0.1", running.otlp, timeout=10)
                number = start
                with contextlib.suppress(OSError, http.client.HTTPException):
                    while True:
                        body = spans(*(span(number, one) for one in range(1, 40)))
                        headers = {"Content-Type": "application/x-protobuf"}
                        connection.request("POST", "/v1/traces", body, headers)
                        response = connection.getresponse()
                        response.read()
                        assert response.status == 200
                        acknowledged.append(number)
                        number += 1
                        if number - start > wanted:
                            enough.set()
                connection.close()

            threads = [
                threading.Thread(target=send, args=((2 * attempt + which + 1) * 100_000,))
                for which in (0, 1)
            ]
            for thread in threads:
                thread.start()
            assert enough.wait(30)
            running.process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join(10)
    found = query(capsys, "traces", "--store", store, "--limit", 1_000_000)
    kept = {int(one["trace_id"], 16) for one in found}
    assert len(acknowledged) > 20 * 10
    assert set(acknowledged) - kept == set()
    last = f"{acknowledged[-1]:032x}"
    assert len(query(capsys, "traces", "--store", store, "--trace-id", last)) == 39


@pytest.mark.parametrize("option", ["--port", "--otlp-port", "--grpc-port"])
def test_a_busy_port_is_told(tmp_path: Path, option: str) -> None:
    """The error names the port and the option that chooses another, and the status is 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ports = [word for one in ("--port", "--otlp-port") if one != option for word in (one, "0")]
        result = subprocess.run(
            [*UI, *ports, option, port, "--store", str(tmp_path / "local.db")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 2
    assert f":{port}: another program has the port" in result.stderr.replace(
        "Address already in use; ", ""
    )
    assert f"choose another with {option}" in result.stderr


def test_it_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    """SIGTERM ends it with status 0, and nothing is left beside the file."""
    store = tmp_path / "local.db"
    with ui(store) as running:
        running.post("traces", spans(span(1, 1)))
        running.process.terminate()
        assert running.process.wait(20) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["local.db"]


def test_the_token_of_the_environment_guards_it(tmp_path: Path) -> None:
    """What the program and the backend read from the same variable fits."""
    with ui(tmp_path / "local.db", OTEL_PIPELINE_LOCAL_TOKEN="a-token-of-the-tests") as running:
        assert running.post("traces", spans(span(1, 1))) == 401
        program = """
            from otel_pipeline import Pipeline, configure
            with configure(service_name="x", prometheus_port=0) as telemetry:
                with Pipeline("orders").run():
                    pass
            print(telemetry.report()["traces"]["delivered"])
        """
        environ = {
            **os.environ,
            "OTEL_PIPELINE_LOCAL": "1",
            "OTEL_PIPELINE_LOCAL_TOKEN": "a-token-of-the-tests",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{running.otlp}",
        }
        command = [sys.executable, "-c", textwrap.dedent(program)]
        said = subprocess.run(
            command, env=environ, check=True, timeout=60, capture_output=True, text=True
        )
    assert said.stdout.split()[-1] == "1"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store that another program has filled."""
    store = tmp_path / "local.db"
    with ui(store) as running:
        run: dict[str, Any] = {
            "pipeline__name": "orders",
            "pipeline__run__id": "r1",
            "pipeline__mode": "batch",
        }
        running.post(
            "traces", spans(span(10, 1, name="a\x1b[31m\nb", pipeline__status="error", **run))
        )
        running.post("logs", logs(log("line\x07", trace=10, span=1)))
        running.post("metrics", metrics(counter("rows", 3.0)))
        running.process.terminate()
        running.process.wait(20)
    return store


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["runs"], ["status", "error", "r1"]),
        (["traces"], [f"{10:032x}", "a\\x1b[31m\\x0ab"]),
        (["traces", "--trace-id", f"{10:032x}"], ["1000.000 ms", f"{1:016x}"]),
        (["logs"], ["line\\x07", "info"]),
        (["metrics"], ["rows", "3.0"]),
        (["metrics", "--series", "1"], ["2023-11-14T22:13:20.000Z", "3.0"]),
        (["runs", "--filter", "status:success"], ["Nothing found."]),
        (["traces", "--trace-id", "f" * 32], ["Nothing found."]),
    ],
)
def test_a_table_shows_what_is_found(
    filled: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: list[str]
) -> None:
    """A table has what was asked for, and nothing in it steers the terminal."""
    assert main(["query", *arguments, "--store", str(filled)]) == 0
    printed = capsys.readouterr().out
    assert [text for text in expected if text not in printed] == []
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", printed)


@pytest.mark.parametrize("what", ["runs", "traces", "logs", "metrics"])
def test_what_is_not_there_is_an_empty_list(
    filled: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """An unknown id, or a filter that nothing matches, gives an empty JSON list."""
    more = ["--series", 99] if what == "metrics" else ["--trace-id", "f" * 32]
    assert query(capsys, what, "--store", filled, *more) == []
    assert query(capsys, what, "--store", filled, "--filter", "service:nobody") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "--filter", "statos:error"], "did you mean 'status'"),
        (["runs", "--filter", '"open'], "needs both of them"),
        (["traces", "--trace-id", "f" * 32, "--filter", "status:ok"], "leave --filter out"),
        (["export", "--filter", "status:ok"], "say which with --signal"),
    ],
)
def test_a_wrong_question_is_told(
    filled: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The command says what to write, and ends with 2."""
    assert main(["query", *arguments, "--store", str(filled)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "traces", "--trace-id", "xyz"],
        ["query", "runs", "--limit", "0"],
        ["ui", "--port", "70000"],
        ["ui", "--max-bytes", "1K"],
        ["ui", "--max-age", "soon"],
    ],
)
def test_a_wrong_argument_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """The command says which argument cannot be used, and ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[-2] in capsys.readouterr().err


def test_an_export_can_be_imported(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of one store fills another, which then has the same."""
    assert main(["query", "export", "--store", str(filled)]) == 0
    exported = capsys.readouterr().out
    file, other = tmp_path / "all.jsonl", tmp_path / "other.db"
    file.write_text(exported, encoding="utf-8")
    assert main(["query", "import", "--store", str(other), str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: 3 items kept, 0 left out\n"
    assert main(["query", "export", "--store", str(other)]) == 0
    assert capsys.readouterr().out == exported
    assert [json.loads(line).popitem()[0] for line in exported.splitlines()] == [
        "resourceSpans",
        "resourceMetrics",
        "resourceLogs",
    ]


def test_an_import_says_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines that are no requests are told with their number, and the others kept."""
    file, store = tmp_path / "mixed.jsonl", tmp_path / "local.db"
    file.write_text('{"resourceSpans": []}\n{"other": 1}\n', encoding="utf-8")
    assert main(["query", "import", "--store", str(store), str(file)]) == 1
    assert "line 2: it has none of resourceSpans" in capsys.readouterr().err
    file.write_text("no json", encoding="utf-8")
    assert main(["query", "import", "--store", str(store), str(file)]) == 2
    assert "is no OTLP JSON: line 1" in capsys.readouterr().err


def test_the_slow_build_of_protobuf_is_refused(tmp_path: Path) -> None:
    """Pure Python protobuf is told at the start, with what to do."""
    result = subprocess.run(
        [*UI, *ANY_PORT, "--store", str(tmp_path / "local.db")],
        env={**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "'python' build, which is too slow" in result.stderr
