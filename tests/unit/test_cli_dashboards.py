"""What `otel-pipeline dashboards` writes and says."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
import yaml

from otel_pipeline import cli
from otel_pipeline.dashboards import DASHBOARDS, PROVISIONING, files
from tests.dashboards import OWN, PAGE, data_panels, tree

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GRAFANA = ROOT / "collector" / "grafana"


def test_the_files_of_the_stack_are_what_the_command_writes(tmp_path: Path) -> None:
    """What compose gives to Grafana is up to date, and nothing else is there."""
    assert cli.main(["dashboards", "--out", str(tmp_path)]) == 0
    written = {
        str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    there = {
        str(path.relative_to(GRAFANA)): path.read_text(encoding="utf-8")
        for path in [*GRAFANA.glob("dashboards/*"), *GRAFANA.glob("provisioning/dashboards/*")]
    }
    update = "otel-pipeline dashboards --out collector/grafana"
    assert written == there, f"run `{update}`"
    assert written == files()


@pytest.mark.parametrize("uid", [one.uid for one in DASHBOARDS])
def test_the_documentation_shows_each_dashboard(uid: str) -> None:
    """There is a picture of each, which is not too large for a page."""
    name = uid.replace("otel-pipeline-", "dashboard-") + ".png"
    assert f"(../assets/{name})" in (DOCS / "how-to" / "dashboards.md").read_text(encoding="utf-8")
    assert 10_000 < (DOCS / "assets" / name).stat().st_size < 300_000


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As lines that name each file, or as one JSON document; twice is the same as once."""
    out = tmp_path / "new" / "folder"
    assert cli.main(["dashboards", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[: len(files())] == [str(out / path) for path in files()]
    assert "Wrote 7 dashboards." in printed
    assert cli.main(["dashboards", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == [str(out / path) for path in files()]
    assert document["dashboards"][0] == {
        "uid": "otel-pipeline-overview",
        "title": "Pipelines: overview",
        "panels": len(DASHBOARDS[0].panels()),
    }


def test_the_folder_of_grafana_can_be_another(tmp_path: Path) -> None:
    """Provisioning names it, whatever signs are in it."""
    folder = '/srv/a: "b" #c'
    assert cli.main(["dashboards", "--out", str(tmp_path), "--folder", folder]) == 0
    text = (tmp_path / PROVISIONING).read_text(encoding="utf-8")
    [provider] = yaml.safe_load(text)["providers"]
    assert provider["options"]["path"] == folder


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names it, and what to do."""
    (tmp_path / "file").touch()
    assert cli.main(["dashboards", "--out", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert f"cannot write to {tmp_path / 'file'}" in error
    assert "--out" in error


def test_own_metrics_get_a_dashboard(tmp_path: Path) -> None:
    """With `--from-metrics` there is one more, with the metrics of that page."""
    page = tmp_path / "page.txt"
    page.write_text(PAGE)
    out = tmp_path / "out"
    assert cli.main(["dashboards", "--out", str(out), "--from-metrics", str(page)]) == 0
    found = json.loads((out / "dashboards" / "otel-pipeline-own.json").read_text())
    assert found == tree(OWN)


def test_own_metrics_are_shown_by_their_kind() -> None:
    """A panel fits the kind, its unit the name; the vocabulary and the resource are left out."""
    found = [
        (panel["type"], panel["title"], panel["fieldConfig"]["defaults"]["unit"])
        for panel in data_panels(OWN)
    ]
    assert found == [
        ("timeseries", "orders_total, per second", "cps"),
        ("timeseries", "basket_bytes", "bytes"),
        ("heatmap", "wait_seconds", "short"),
        ("timeseries", "wait_seconds, P95", "s"),
        ("timeseries", "size_bytes, mean", "bytes"),
        ("timeseries", "size_bytes, per second", "cps"),
        ("state-timeline", "door", "short"),
        ("table", "build_info", "short"),
    ]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("", "no metrics but the library's own"),
        ("# TYPE records_processed_total counter\n", "no metrics but the library's own"),
        ("<html>no such page</html>", "is no /metrics page"),
        ("orders_total{shop=", "is no /metrics page"),
    ],
)
def test_a_page_of_nothing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str, message: str
) -> None:
    """A page without metrics of one's own, or that is none, ends the command with what to do."""
    path = tmp_path / "page.txt"
    path.write_text(page)
    arguments = ["dashboards", "--out", str(tmp_path / "out"), "--from-metrics", str(path)]
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_server_that_speaks_no_http_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The port of another program is a message, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        source = f"http://127.0.0.1:{server.getsockname()[1]}/metrics"
        arguments = ["dashboards", "--out", str(tmp_path / "out"), "--from-metrics", source]
        assert cli.main(arguments) == 2
        thread.join()
    assert f"cannot read {source}" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["missing.txt", "http://127.0.0.1:9/metrics", "ftp://x/metrics"])
def test_a_page_that_cannot_be_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    """The message names it."""
    arguments = ["dashboards", "--out", str(tmp_path / "out"), "--from-metrics", source]
    assert cli.main(arguments) == 2
    assert f"cannot read {source}" in capsys.readouterr().err
