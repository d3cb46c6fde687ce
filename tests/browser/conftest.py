"""A real browser for tests of the local backend's page: Debian's chromium, driven by Playwright.

Without it the tests are skipped; `OTEL_PIPELINE_STACK_BROWSER=1` makes that a failure.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from otel_pipeline.local.backend import LocalBackend, Options
from otel_pipeline.local.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED = "OTEL_PIPELINE_STACK_BROWSER"
PROGRAM = Path(__file__).with_name("orders.py")


def _without(reason: str) -> NoReturn:
    if os.environ.get(REQUIRED, "") not in {"", "0"}:
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Run one browser for a module: as long as Playwright runs, so does its event loop."""
    path = shutil.which("chromium")
    if path is None:
        _without("no chromium: apt-get install chromium")
    try:
        api = importlib.import_module("playwright.sync_api")
    except ImportError:
        _without('no Playwright: pip install "otel-pipeline[test]"')
    with api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


@dataclass
class Page:
    """The page as a user has it.

    Attributes:
        tab: Playwright's page.
        root: Address of the page.
        faults: What the browser complained of, and what the page asked of other hosts.
    """

    tab: Any
    root: str
    faults: list[str] = field(default_factory=list)

    def open(self, place: str) -> None:
        """Open the page anew at a place, such as `#/logs`."""
        self.tab.goto("about:blank")
        self.tab.goto(self.root + place)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all that a selector finds, once there is one."""
        self.tab.locator(selector).first.wait_for()
        return [" ".join(text.split()) for text in self.tab.locator(selector).all_inner_texts()]


@contextlib.contextmanager
def _opened(browser: Any, root: str) -> Iterator[Page]:
    with browser.new_context(
        color_scheme="light", permissions=["clipboard-read", "clipboard-write"]
    ) as context:
        context.set_default_timeout(20_000)
        page = Page(context.new_page(), root)
        tell = page.faults.append
        page.tab.on("pageerror", lambda error: tell(f"error: {error}"))
        page.tab.on("dialog", lambda dialog: (tell(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.tab.on(
            "console",
            lambda message: (
                message.type == "error"
                and "status of 400" not in message.text  # a filter that is wrong on purpose
                and tell(f"console: {message.text}")
            ),
        )
        page.tab.on(
            "request",
            lambda request: request.url.startswith(root) or tell(f"request: {request.url}"),
        )
        yield page
    assert page.faults == []


@pytest.fixture(scope="session")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run `otel-pipeline ui`, and the pipeline of `orders.py` twice; give the page's address.

    The second run fails. Tests only look.
    """
    store = tmp_path_factory.mktemp("orders") / "local.db"
    any_port = ("--port", "0", "--otlp-port", "0", "--grpc-port", "0")
    command = [sys.executable, "-m", "otel_pipeline", "ui", *any_port, "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ui:
        try:
            assert ui.stdout is not None
            page, otlp = (re.findall(r"http://\S+", ui.stdout.readline())[0] for _ in range(2))
            environ = {
                **os.environ,
                "OTEL_PIPELINE_LOCAL": "1",
                "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            }
            for failing in ("", "failing"):
                subprocess.run(
                    [sys.executable, str(PROGRAM), failing],
                    env=environ,
                    check=True,
                    timeout=60,
                    stdout=subprocess.DEVNULL,
                )
            yield page
        finally:
            ui.kill()


@pytest.fixture
def page(browser: Any, orders: str) -> Iterator[Page]:
    """Open the page of the backend with the runs of orders."""
    with _opened(browser, orders) as opened:
        yield opened


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    """Run a backend of the test's own, with nothing in it."""
    any_port = Options(port=0, otlp_port=0, grpc_port=None)
    with SqliteStore(tmp_path / "local.db") as store, LocalBackend(store, any_port) as running:
        yield running


@pytest.fixture
def own_page(browser: Any, backend: LocalBackend) -> Iterator[Page]:
    """Open the page of the test's own backend."""
    with _opened(browser, backend.page_url) as opened:
        yield opened
