"""The backtest gets to a Prometheus behind TLS and tokens, and says what keeps it from one."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from otel_pipeline.cli import main
from tests.stack.chain import credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMPTY = {
    "query_range": {"status": "success", "data": {"resultType": "matrix", "result": []}},
    "series": {"status": "success", "data": []},
}
RULES = "groups: [{name: a, rules: [{alert: Deep, expr: 'depth > 5'}]}]"


class Gate(http.server.ThreadingHTTPServer):
    """Stands where a proxy before Prometheus stands, and answers as it is told to."""

    status = 200
    text = ""  # as Prometheus does, without data
    location = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that does not trust the certificate."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Gate

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, self.headers["Authorization"]))
        empty = EMPTY[self.path.rpartition("/")[2]]
        body = (self.server.text or json.dumps(empty)).encode()
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(gate: Gate) -> Iterator[None]:
    thread = threading.Thread(target=gate.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        gate.shutdown()
        thread.join()
        gate.server_close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Run one that takes everything."""
    one = Gate()
    with serving(one):
        yield one


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with rules, with no token and no proxy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yml").write_text(RULES)
    for name in ("PROMETHEUS_TOKEN", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def run(
    capsys: pytest.CaptureFixture[str], url: str, *arguments: str, rules: str = "rules.yml"
) -> tuple[int, str]:
    status = main(["alerts", "backtest", "--url", url, "--rules", rules, *arguments])
    return status, capsys.readouterr().err.removeprefix("otel-pipeline: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "user", "sent"),
    [
        ([], "", None),
        (["--token-file", "token"], "", "Bearer of-the-file"),
        (["--token-variable", "MINE"], "", "Bearer of-mine"),
        ([], "me:p%40ss@", "Basic " + base64.b64encode(b"me:p@ss").decode()),
    ],
)
def test_the_token_is_sent(
    *,
    gate: Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    user: str,
    sent: str | None,
) -> None:
    """It comes from a file or a variable, a password from the URL, and is in each request."""
    (tmp_path / "token").write_text("of-the-file\n")
    monkeypatch.setenv("MINE", "of-mine")
    status, said = run(capsys, f"http://{user}{gate.address}/prometheus/", *arguments)
    assert (status, said[:8]) == (2, "no data:")
    assert {path for path, _ in gate.seen} == {
        "/prometheus/api/v1/series",
        "/prometheus/api/v1/query_range",
    }
    assert {one for _, one in gate.seen} == {sent}
    assert "p@ss" not in said


def test_the_variable_has_a_default(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`PROMETHEUS_TOKEN` is taken when nothing else is said."""
    monkeypatch.setenv("PROMETHEUS_TOKEN", "of-the-variable")
    run(capsys, f"http://{gate.address}")
    assert {one for _, one in gate.seen} == {"Bearer of-the-variable"}


@pytest.mark.parametrize(
    ("status", "text", "location", "said"),
    [
        (401, "no", "", "answers 401: Unauthorized; --token-file or --token-variable says"),
        (403, "no", "", "answers 403: Forbidden; --token-file"),
        (404, "no", "", "answers 404: Not Found; does a path such as /prometheus belong"),
        (302, "", "https://else.example/login", "sends you to https://else.example/login: give"),
        (503, '{"status":"error","error":"too many queries"}', "", "answers 503: too many queries"),
        (200, "<html>", "", "does not answer as Prometheus does"),
        (200, "[]", "", "does not answer as Prometheus does"),
    ],
)
def test_a_refusal_says_what_to_do(
    *,
    gate: Gate,
    capsys: pytest.CaptureFixture[str],
    status: int,
    text: str,
    location: str,
    said: str,
) -> None:
    """The error has the address, the answer and the remedy; nothing is sent elsewhere."""
    gate.status, gate.text, gate.location = status, text, location
    code, message = run(capsys, f"http://{gate.address}")
    assert code == 2
    assert message.startswith(f"http://{gate.address} ")
    assert said in message


def test_a_certificate_is_trusted_when_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the authority's certificate the error names the option that takes it."""
    gate = Gate()
    with credentials() as known:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(known.folder / "server.crt", known.folder / "server.key")
        gate.socket = context.wrap_socket(gate.socket, server_side=True)
        with serving(gate):
            url = f"https://{gate.address}"
            _, said = run(capsys, url)
            assert said.startswith(f"the certificate of {url} is not trusted: ")
            assert "--ca-file names the certificates that you trust" in said
            _, said = run(capsys, url, "--ca-file", str(known.folder / "ca.crt"))
            assert said.startswith("no data: ")
            _, said = run(capsys, url, "--ca-file", "missing.crt")
            assert said.startswith("--ca-file missing.crt cannot be used: ")


WRONG = {
    "nowhere:9090": "--url 'nowhere:9090' is no address of Prometheus; write it as http://",
    "http://127.0.0.1:9": "http://127.0.0.1:9 cannot be reached: ",
}


@pytest.mark.parametrize(("url", "said"), WRONG.items())
def test_a_wrong_address_is_an_error(
    capsys: pytest.CaptureFixture[str], url: str, said: str
) -> None:
    """What is no address, and what nobody listens at, are told apart."""
    status, message = run(capsys, url)
    assert (status, said in message) == (2, True), message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--last=1d", "--start=0"], "--last and --start both say where to begin"),
        (["--last=soon"], "--last: 'soon' is no duration"),
        (["--start=yesterday"], "--start 'yesterday' is no time; write 2026-03-01, "),
        (["--start=10", "--end=10"], "is not before the end"),
        (["--start=10", "--end=70", "--step=1h"], "--step 1h is longer than the time to look at"),
        (["--step=0s"], "--step 0s: it must be greater than 0"),
        (["--alert=Other"], "there is no alert Other; there are Deep"),
        (["--threshold=Other=1"], "there is no alert Other; there are Deep"),
        (["--threshold=Deep"], "--threshold 'Deep': "),
        (["--threshold=Deep=a"], "write it as HighErrorRate=0.02,0.05,0.1"),
        (["--token-file=none"], "--token-file none cannot be read"),
        (["--token-variable=NONE"], "--token-variable: NONE is not set"),
        (["--config=x.yml"], "--rules and --config both say which rules"),
    ],
)
def test_wrong_arguments_are_told(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Each has its own message, and the status is 2."""
    status, message = run(capsys, "http://127.0.0.1:9", *arguments)
    assert (status, said in message) == (2, True), message


@pytest.mark.parametrize(
    ("expression", "threshold", "said"),
    [
        ("depth", "Deep=1", "Deep compares with no number, so there is no threshold to replace"),
        ("depth > other", "Deep=1", "compares with no number"),
        ("depth > 5 and other < 3", "Deep#3=1", "has no number #3 to compare with: #1 is 5"),
        ("depth > 5", "Deep#0=1", "has no number #0"),
    ],
)
def test_a_threshold_must_be_there(
    *,
    gate: Gate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    expression: str,
    threshold: str,
    said: str,
) -> None:
    """Where a condition has no such number, the error says so before anything is asked."""
    (tmp_path / "rules.yml").write_text(RULES.replace("depth > 5", expression))
    status, message = run(capsys, f"http://{gate.address}", "--threshold", threshold)
    assert (status, said in message) == (2, True), message
    assert gate.seen == []
