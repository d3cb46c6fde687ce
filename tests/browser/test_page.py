"""The local backend's page, as a user uses it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from otel_pipeline.local.backend import LocalBackend, Options
from otel_pipeline.local.sqlite import SqliteStore
from tests.local_data import counter, histogram, log, logs, metrics, span, spans

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import Page

pytestmark = pytest.mark.xdist_group("browser")


def run_of(trace: int, *, name: str = "orders", **more: Any) -> dict[str, Any]:
    about: dict[str, Any] = {
        "pipeline__name": name,
        "pipeline__mode": "batch",
        "pipeline__status": "success",
        "pipeline__run__id": f"run-{trace}",
        **more,
    }
    return span(trace, 1, name=name, **about)


# --- Runs -----------------------------------------------------------------------------------------


def test_the_runs_are_listed_with_their_records(page: Page) -> None:
    """The newest stands first, with its status and its records by status."""
    page.open("")
    row = "table.runs tbody tr"
    assert page.texts(f"{row} td:nth-child(2)") == ["orders", "orders"]
    assert page.texts(f"{row} td:nth-child(3)") == ["error", "success"]
    assert page.texts(f"{row} td:last-child") == ["run-2", "run-1"]
    assert page.texts("table.runs .records") == ["0 24 error", "24"]


def test_a_run_appears_while_the_list_is_open(backend: LocalBackend, own_page: Page) -> None:
    """What is stored is shown without a reload; before, the page tells what to do."""
    own_page.open("")
    assert own_page.texts(".empty h2") == ["No run yet"]
    assert "OTEL_PIPELINE_LOCAL=1" in own_page.texts(".empty pre")[0]
    backend.receiver.receive("traces", spans(run_of(7)))
    assert own_page.texts("table.runs td.name") == ["orders"]


def test_two_runs_of_a_pipeline_are_compared(page: Page) -> None:
    """The two that are chosen stand beside each other, the older one first, stage by stage."""
    page.open("")
    page.texts("table.runs td.name")
    for box in page.tab.locator("table.runs input").all():
        box.check()
    page.tab.get_by_role("button", name="Compare the two").click()
    assert page.texts("table.compare a.mono") == ["run-1", "run-2"]
    stages = [row.split(" ")[0] for row in page.texts("h3:text('Stages') + table tbody tr")]
    assert stages == ["run", "extract", "validate", "batches"]
    assert "30 30 ±0.0 %" in page.texts("h3:text('Stages') + table tbody tr")[1]


# --- A trace --------------------------------------------------------------------------------------


def test_from_a_run_to_a_stage_and_its_log_lines(page: Page) -> None:
    """A click on a run shows its stages, one on a stage its span, with the lines beside it."""
    page.open("")
    page.tab.locator("table.runs tbody tr", has_text="run-1").click()
    stages = page.texts(".stages tbody tr")
    assert [row.split(" ")[:3] for row in stages] == [
        ["run", "1", "24"],
        ["extract", "1", "30"],
        ["validate", "1", "24"],
        ["batches", "1", "24"],
    ]
    assert stages[2].split(" ")[4] == "6"  # dropped
    page.tab.locator(".stages tbody tr", has_text="validate").click()
    assert page.texts(".panel h2") == ["orders validate"]
    (line,) = page.texts(".panel .line .body")
    assert line == "many_rejected rejected=6"
    page.tab.get_by_role("button", name="whole trace").click()
    page.tab.locator(".panel .line", has_text="page_read").wait_for()


def test_the_waterfall_has_the_spans_as_a_tree(page: Page) -> None:
    """Spans stand under their parents in the order of time; folding hides what is below."""
    page.open("")
    page.tab.locator("table.runs tbody tr", has_text="run-1").click()
    names = ["orders", "orders extract", "orders validate", "orders batch"]
    assert page.texts(".row .words") == names
    assert page.tab.locator(".row .critical").count() > 0
    page.tab.locator(".row .fold[aria-label=Fold]").click()
    assert page.texts(".row .words") == ["orders"]


def test_an_error_tells_what_happened(page: Page) -> None:
    """`e` goes to the spans with an error, and the panel has the exception."""
    page.open("")
    page.tab.locator("table.runs tbody tr", has_text="run-2").click()
    page.tab.locator(".row.selected").wait_for()
    page.tab.keyboard.press("e")
    page.tab.locator(".panel h2", has_text="orders batch").wait_for()
    page.tab.locator(".panel p.error", has_text="connection reset by peer").wait_for()
    page.tab.locator(".panel .line", has_text="batch_failed").wait_for()


def test_a_trace_is_copied(page: Page) -> None:
    """As Markdown it is for people; as JSON it is OTLP, with every span."""
    page.open("")
    page.tab.locator("table.runs tbody tr", has_text="run-1").click()
    page.tab.locator(".stages tbody tr").first.wait_for()
    page.tab.get_by_role("button", name="Copy Markdown").click()
    page.tab.locator(".said", has_text="Copied as Markdown").wait_for()
    text = page.tab.evaluate("navigator.clipboard.readText()")
    assert text.startswith("# orders\n\nRun `run-1` of pipeline orders: **success**")
    assert "| orders validate | 1 | 24 | 0 | 6 | 0 |" in text
    page.tab.get_by_role("button", name="Copy JSON").click()
    page.tab.locator(".said", has_text="Copied as JSON").wait_for()
    document = json.loads(page.tab.evaluate("navigator.clipboard.readText()"))
    found = [
        span["name"]
        for resource in document["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert sorted(found) == ["orders", "orders batch", "orders extract", "orders validate"]


def test_a_link_leads_to_the_other_trace(backend: LocalBackend, own_page: Page) -> None:
    """A span's link opens the trace that it names, at its span."""
    one, other = span(1, 1, name="begin"), span(2, 2, name="handle")
    other["links"] = [{"trace_id": one["trace_id"], "span_id": one["span_id"]}]
    backend.receiver.receive("traces", spans(one, other))
    own_page.open(f"#/trace/{2:032x}")
    own_page.tab.locator(".panel .links a").click()
    own_page.tab.locator(".panel h2", has_text="begin").wait_for()
    assert own_page.tab.url.endswith(f"#/trace/{1:032x}?span={1:016x}")


def test_a_large_trace_has_only_the_rows_that_are_seen(
    backend: LocalBackend, own_page: Page
) -> None:
    """Of 10,000 spans some tens are in the document, and the last one is reached by scrolling."""
    tree = [
        span(9, n, parent=n // 10 if n > 1 else 0, name=f"step {n}", start=10**18 + n * 10**6)
        for n in range(1, 10_001)
    ]
    backend.receiver.receive("traces", spans(*tree))
    own_page.open(f"#/trace/{9:032x}")
    own_page.tab.locator(".row").first.wait_for()
    assert own_page.tab.locator(".waterfall").get_attribute("aria-rowcount") == "10000"
    assert own_page.tab.locator(".row").count() < 100
    own_page.tab.locator(".waterfall").evaluate("box => { box.scrollTop = box.scrollHeight }")
    own_page.tab.get_by_text("step 9999", exact=True).wait_for()
    assert own_page.tab.locator(".row").count() < 100


@pytest.mark.parametrize("ids", [((1, 2), (2, 1)), ((1, 7), (2, 1)), ((1, 1),)])
def test_a_trace_that_is_no_tree_is_shown(
    backend: LocalBackend, own_page: Page, ids: tuple[tuple[int, int], ...]
) -> None:
    """Spans whose parents are missing, or lead back to them, each have a row."""
    items = [span(3, number, parent=parent, name=f"s{number}") for number, parent in ids]
    backend.receiver.receive("traces", spans(*items))
    own_page.open(f"#/trace/{3:032x}")
    assert sorted(own_page.texts(".row .words")) == [f"s{number}" for number, _ in ids]


# --- Logs -----------------------------------------------------------------------------------------


def test_from_a_log_line_to_its_span(page: Page) -> None:
    """The line's link opens its trace with its span selected."""
    page.open("#/logs")
    line = page.tab.locator(".line", has_text="many_rejected").first
    line.get_by_role("link", name="span").click()
    page.tab.locator(".panel h2", has_text="orders validate").wait_for()
    assert page.texts(".row.selected .words") == ["orders validate"]


def test_lines_are_filtered_and_the_address_keeps_the_filter(page: Page) -> None:
    """A filter that is typed holds after a reload, too; Enter applies it."""
    page.open("#/logs")
    page.tab.locator(".line").first.wait_for()
    page.tab.keyboard.press("/")
    page.tab.keyboard.type('level:warning attr.rejected=6 "many_rejected"')
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_function("document.querySelectorAll('.lines li').length === 2")
    page.tab.reload()
    assert page.texts(".line .body") == ["many_rejected rejected=6"] * 2
    assert page.tab.locator("input[name=filter]").input_value().startswith("level:warning")


def test_a_wrong_filter_says_what_is_allowed(page: Page) -> None:
    """The answer of the API stands under the box."""
    page.open("#/logs?filter=levl%3Derror")
    (error,) = page.texts(".filter .error")
    assert "'levl' is no field of logs, did you mean 'level'?" in error


def test_an_attribute_becomes_a_filter(page: Page) -> None:
    """The sign beside a value adds it to the filter."""
    page.open("#/logs")
    page.tab.locator(".line", has_text="page_read").first.click()
    page.tab.locator(".opened .attributes > div", has_text="url").get_by_role("button").click()
    page.tab.wait_for_function("document.querySelectorAll('.lines li').length === 2")
    box = page.tab.locator("input[name=filter]")
    assert box.input_value() == "attr.url=https://example.com/orders?page=1"


def test_new_lines_come_by_themselves(backend: LocalBackend, own_page: Page) -> None:
    """A line that matches the filter is shown when it comes, one that does not is not."""
    backend.receiver.receive("logs", logs(log("first", severity=17)))
    own_page.open("#/logs?filter=level%3Aerror")
    assert own_page.texts(".line .body") == ["first"]
    backend.receiver.receive("logs", logs(log("quiet"), log("second", severity=17)))
    own_page.tab.locator(".line", has_text="second").wait_for()
    assert own_page.texts(".line .body") == ["second", "first"]


# --- Metrics --------------------------------------------------------------------------------------


def test_from_an_exemplar_to_its_trace(page: Page) -> None:
    """The mark on the chart is a link to the trace of that observation."""
    page.open("#/metrics?name=processing_duration")
    page.tab.locator(".u-over a.exemplar").first.click()
    page.tab.locator(".row .words", has_text="orders batch").wait_for()
    assert "#/trace/" in page.tab.url


def test_a_counter_has_a_line_for_each_label_set(page: Page) -> None:
    """Its series are listed with their totals over all processes."""
    page.open("#/metrics?name=records_processed")
    page.tab.locator(".chart canvas").wait_for()
    assert page.texts("table.series tbody tr") == [
        "pipeline=orders, status=error 24",
        "pipeline=orders, status=skipped 0",
        "pipeline=orders, status=success 24",
    ]


def test_a_histogram_shows_how_its_observations_are_spread(
    backend: LocalBackend, own_page: Page
) -> None:
    """Points that count up are taken apart, and each bucket has what came in all."""
    second = 10**9
    backend.receiver.receive(
        "metrics",
        metrics(
            histogram("wait", [1, 0, 0], time=1_700_000_000 * second),
            histogram("wait", [4, 2, 0], time=1_700_000_010 * second),
        ),
    )
    own_page.open("#/metrics?name=wait")
    spread = own_page.texts(".spread div")
    assert [row.split(" ")[-1] for row in spread[:2]] == ["4", "2"]
    own_page.tab.get_by_role("button", name="quantiles").click()
    own_page.tab.locator(".legend", has_text="p99").wait_for()
    assert "of=quantiles" in own_page.tab.url


# --- Everywhere -----------------------------------------------------------------------------------


def test_the_keyboard_is_enough(page: Page) -> None:
    """From the help to a run, through its spans and back, without a mouse."""
    page.open("")
    page.tab.locator("table.runs tbody tr").first.wait_for()
    page.tab.keyboard.press("?")
    page.tab.get_by_role("dialog", name="Keys").wait_for()
    page.tab.keyboard.press("Escape")
    page.tab.get_by_role("dialog").wait_for(state="detached")
    for key in "jjk":
        page.tab.keyboard.press(key)
    page.tab.keyboard.press("Enter")
    page.tab.locator(".row.selected").wait_for()
    page.tab.keyboard.press("j")
    page.tab.locator(".panel h2", has_text="orders extract").wait_for()
    page.tab.keyboard.press("ArrowLeft")
    page.tab.locator(".row.selected .words", has_text=re.compile("^orders$")).wait_for()
    page.tab.keyboard.press("g")
    page.tab.keyboard.press("l")
    page.tab.locator(".line").first.wait_for()
    page.tab.go_back()
    page.tab.locator(".row.selected").wait_for()


def test_the_theme_is_chosen_and_kept(page: Page) -> None:
    """`t` goes from the system's theme to light and dark; a reload keeps it."""
    page.open("")
    page.tab.locator("table.runs").wait_for()
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.tab.evaluate(background)
    page.tab.keyboard.press("t")
    assert page.tab.evaluate(background) == light
    page.tab.keyboard.press("t")
    dark = page.tab.evaluate(background)
    assert dark != light
    page.tab.reload()
    assert page.tab.evaluate(background) == dark
    page.tab.get_by_role("button", name="theme: dark").click()
    assert page.tab.evaluate(background) == light


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("#/traces", "No trace yet"),
        ("#/logs", "No log line yet"),
        ("#/metrics", "No metric yet"),
        ("#/runs?filter=status%3Aerror", "No run matches this filter"),
        (f"#/trace/{5:032x}", "This trace is not here"),
        (f"#/compare/{5:032x}/{6:032x}", "One of these runs is not here"),
        ("#/trace/nonsense", "This could not be read"),
        ("#/nowhere", "There is no such view"),
    ],
)
def test_an_empty_view_says_what_to_do(own_page: Page, place: str, words: str) -> None:
    """Where there is nothing to show, the page tells why and what comes next."""
    own_page.open(place)
    assert own_page.texts(".empty h2") == [words]
    assert own_page.texts(".empty p")[0]


def test_a_backend_that_stops_is_noticed(backend: LocalBackend, own_page: Page) -> None:
    """The page says so, and what it showed stays."""
    backend.receiver.receive("traces", spans(run_of(7)))
    own_page.open("")
    own_page.tab.locator(".news.live").wait_for()
    own_page.texts("table.runs td.name")
    backend.stop()
    own_page.tab.locator(".news.lost").wait_for()
    assert own_page.texts("table.runs td.name") == ["orders"]
    own_page.faults.clear()  # the browser tells of the lost connection


# --- Safety ---------------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`${alert(3)}"


def test_hostile_names_are_only_text(backend: LocalBackend, own_page: Page) -> None:
    """Names and values with markup or scripts are shown as they are, in every view."""
    attributes: dict[str, Any] = {
        "pipeline__stage": HOSTILE,
        HOSTILE: HOSTILE,
        "link": "javascript:alert(4)",
    }
    child = span(8, 2, parent=1, name=HOSTILE, status=2, pipeline__name=HOSTILE, **attributes)
    body = spans(run_of(8, name=HOSTILE, **attributes), child, service=HOSTILE)
    backend.receiver.receive("traces", body)
    more: dict[str, Any] = {HOSTILE: HOSTILE, "link": "data:text/html,<b>"}
    line = log(HOSTILE, trace=8, span=2, **more)
    backend.receiver.receive("logs", logs(line, service=HOSTILE))
    backend.receiver.receive("metrics", metrics(counter(HOSTILE, 1.0, trace=8, a=HOSTILE)))
    trace = f"{8:032x}"
    for place, where in (
        ("#/runs", "table.runs td.name"),
        ("#/traces", "table.list td.name"),
        (f"#/trace/{trace}?span={2:016x}", ".panel h2"),
        ("#/logs", ".line .body"),
        ("#/metrics", ".metric h1"),
        (f"#/compare/{trace}/{trace}", "h1"),
        (f"#/logs?filter={HOSTILE.replace('#', '')}", ".filter"),
    ):
        own_page.open(place)
        own_page.texts(where)
        assert own_page.tab.locator("main img, main script").count() == 0
        assert own_page.tab.locator("main a:not([href^='#/'])").count() == 0
    own_page.open(f"#/trace/{trace}?span={2:016x}")
    assert own_page.texts(".panel h2") == [HOSTILE]
    own_page.tab.locator(".panel .attributes dd", has_text="javascript:alert(4)").wait_for()


def test_with_a_token_the_link_opens_the_page_and_nothing_else_does(
    browser: Any, tmp_path: Path
) -> None:
    """The link that `ui` prints lets its browser in; another one is told what to do."""
    options = Options(port=0, otlp_port=0, grpc_port=None, token="a-token-of-some-length")
    with SqliteStore(tmp_path / "local.db") as store, LocalBackend(store, options) as backend:
        backend.receiver.receive("traces", spans(run_of(7)))
        with browser.new_context() as known, browser.new_context() as stranger:
            tab, other = known.new_page(), stranger.new_page()
            tab.goto(backend.page_url)
            tab.locator("table.runs td.name", has_text="orders").wait_for()
            other.goto(backend.page.url)
            other.locator(
                ".empty", has_text="open the link that `otel-pipeline ui` printed"
            ).wait_for()
            assert other.locator("table").count() == 0


def test_only_addresses_of_the_web_are_links(page: Page) -> None:
    """A value that is an http address leads there, in a tab of its own; another scheme is text."""
    page.open("#/logs")
    page.tab.locator(".line", has_text="page_read").first.click()
    link = page.tab.locator(".opened .attributes a")
    assert link.get_attribute("href") == "https://example.com/orders?page=1"
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert link.count() == 1


def test_the_browser_refuses_markup_from_text(own_page: Page) -> None:
    """The page's policy stops inline scripts, and text that would become markup."""
    own_page.open("")
    own_page.texts(".empty h2")
    tried = own_page.tab.evaluate(
        """() => { try { document.body.innerHTML = '<b>x</b>'; return 'markup'; }
        catch (error) { return error.name; } }"""
    )
    assert tried == "TypeError"
    assert any("TrustedHTML" in fault for fault in own_page.faults)
    own_page.faults.clear()
