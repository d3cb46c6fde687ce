"""Take the pictures of the local backend's page for the documentation.

Run `python -m scripts.page_pictures`; it needs chromium, and takes a minute.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "assets" / "local"
PROGRAM = """
import random, time
from otel_pipeline import Pipeline, configure, current_stage, get_logger

configure(service_name="orders-etl", prometheus_port=0)
pipeline = Pipeline("orders", expected_interval="1h")
log = get_logger("orders")
random.seed(7)
slow = 1.0

@pipeline.stage
def extract(pages):
    for page in range(pages):
        time.sleep(0.02)
        log.info("page_read", page=page, url=f"https://shop.example/orders?page={page}")
        for order in range(200):
            yield {"id": 1000 * page + order, "amount": random.gauss(50, 20)}

@pipeline.stage(count=len)
def validate(orders):
    time.sleep(random.uniform(0.005, 0.02))
    good = [order for order in orders if order["amount"] > 10]
    lost = len(orders) - len(good)
    current_stage().dropped(lost, reason="amount_too_small")
    if lost > 9:
        log.warning("many_rejected", rejected=lost, reason="amount_too_small")
    return good

@pipeline.stage
def save(orders, fail):
    time.sleep(min(0.3, random.lognormvariate(-3.6, 0.7)) * slow)
    if fail:
        raise ConnectionError("connection reset by peer: db-1.internal:5432")

def load(orders, fail):
    with pipeline.batch(orders) as batch:
        save(orders, fail)
        batch.records(len(orders))

for number in range(7):
    fails, slow = number == 4, 1 + number / 3
    try:
        with pipeline.run(attributes={"source": "https://shop.example/orders"}):
            page = list(extract(9))
            for start in range(0, len(page), 200):
                orders = validate(page[start : start + 200])
                load(orders, fails and start == 1000)
    except ConnectionError:
        pass
    time.sleep(1.2)
"""


def main() -> None:
    """Run the backend and the pipeline, and take the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "otel_pipeline", "ui", "--store", f"{scratch}/local.db"]
        any_port = ["--port", "0", "--otlp-port", "0", "--grpc-port", "0"]
        with subprocess.Popen([*command, *any_port], stdout=subprocess.PIPE, text=True) as ui:
            try:
                assert ui.stdout is not None
                page, otlp = (re.findall(r"http://\S+", ui.stdout.readline())[0] for _ in range(2))
                send(otlp)
                take(page)
            finally:
                ui.kill()


def send(otlp: str) -> None:
    """Run the pipeline, and the demo beside it."""
    more = {"OTEL_PIPELINE_LOCAL": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp}
    demo = ("-m", "otel_pipeline", "demo", "--no-ui", "--limit", "20000")
    for arguments in (demo, ("-c", PROGRAM)):
        subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **more},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def take(page: str) -> None:
    """Take the pictures."""
    with urllib.request.urlopen(f"{page}api/runs?filter=pipeline:orders") as answer:
        runs = json.load(answer)["items"]
    (failed,) = (run["trace_id"] for run in runs if run["status"] == "error")
    pictures = {
        "runs": ("light", "#/runs", ""),
        "trace": ("light", f"#/trace/{runs[0]['trace_id']}", "jjj"),
        "error": ("dark", f"#/trace/{failed}", "e"),
        "logs": ("dark", "#/logs?filter=pipeline%3Aorders", ""),
        "metrics": ("light", "#/metrics?name=processing_duration", ""),
        "compare": ("light", f"#/compare/{runs[-1]['trace_id']}/{runs[0]['trace_id']}", ""),
    }
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, (theme, place, keys) in pictures.items():
            size = {"width": 1280, "height": 720}
            tab = browser.new_page(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
            tab.goto(page + place)
            tab.wait_for_load_state("load")
            tab.wait_for_timeout(1500)
            for key in keys:
                tab.keyboard.press(key)
                tab.wait_for_timeout(400)
            tab.screenshot(path=FOLDER / f"{name}.png")
            tab.close()
        browser.close()


if __name__ == "__main__":
    main()
