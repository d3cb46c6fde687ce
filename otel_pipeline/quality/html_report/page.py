"""The report as a page: one file, without scripts, that loads nothing.

Whatever datasets, columns and checks are called, it is text: every value goes through `_text`, and
the page's Content-Security-Policy allows its own style sheet and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING, Final

from otel_pipeline.quality.html_report.chart import chart, number, time
from otel_pipeline.quality.lineage.drawing import label, printable, tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_pipeline.quality.html_report.contents import Contents, DatasetPart, Series

__all__ = ["page"]

#: Datasets that have a part of their own; findings and columns that are listed of one.
_MOST_DATASETS: Final = 200
_MOST_FINDINGS: Final = 20
_MOST_COLUMNS: Final = 200
_MOST_LINES: Final = 2000

_STYLE: Final = """
:root { color-scheme: light dark; --back: #fff; --card: #f6f7f9; --ink: #1c2430; --quiet: #5a6675;
  --line: #d9dee5; --data: #2563c9; --band: #2563c926; --bad: #c0262d; --warn: #96600a;
  --good: #1d7a3f; }
@media (prefers-color-scheme: dark) { :root { --back: #14181e; --card: #1d232c; --ink: #e8ecf1;
  --quiet: #9aa7b6; --line: #333d4a; --data: #7fb0ff; --band: #7fb0ff2e; --bad: #ff8080;
  --warn: #f0b95b; --good: #69d08e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
a { color: var(--data); } .quiet { color: var(--quiet); } p { margin: .3rem 0; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; padding: 0;
  list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem 1rem; min-width: 9rem; }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; min-width: 5rem; } td:first-child, td:nth-child(2) { min-width: 9rem; }
th { color: var(--quiet); font-weight: 600; } th, time { white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.bad { color: var(--bad); font-weight: 600; } .warn { color: var(--warn); font-weight: 600; }
.good { color: var(--good); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem; } figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { width: 100%; height: auto; display: block; font-size: 15px; } text { fill: var(--quiet); }
.grid { stroke: var(--line); fill: none; } .band { fill: var(--band); stroke: none; }
.line { stroke: var(--data); stroke-width: 1.6; fill: none; stroke-linejoin: round; }
.one { fill: var(--data); } .finding { fill: var(--bad); stroke: var(--card); stroke-width: 2; }
.accepted { fill: none; stroke: var(--quiet); stroke-width: 2; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem;
  overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; overflow-wrap: normal; }
@media print { body { max-width: none; } figure, tr { break-inside: avoid; } }
"""


def page(contents: Contents) -> str:
    """Return the report as one HTML document.

    Args:
        contents: What stands in it.
    """
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    shown = contents.datasets[:_MOST_DATASETS]
    body = [
        "<header><h1>Data quality</h1>",
        f'<p class="quiet">{time(contents.at)} UTC</p></header>',
        "<main>",
        *(_overview(contents) if contents.datasets else _nothing()),
        *(
            line
            for place, part in enumerate(shown)
            if _has_part(part)
            for line in _dataset(place, part)
        ),
        *_lineage(contents),
        "</main>",
    ]
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            "<title>Data quality</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def _text(value: object) -> str:
    """Return a value as text that is nothing but text."""
    return escape(printable(str(value)))


def _time(at: float) -> str:
    return f"<time>{time(at)}</time>"


def _nothing() -> list[str]:
    return [
        "<p>Nothing is known of any dataset yet.</p>",
        '<p class="quiet">Stages tell what they see of data with <code>stage.observe()</code>,',
        "and what they read and write with <code>stage.reads()</code> and",
        "<code>stage.writes()</code>.</p>",
    ]


def _overview(contents: Contents) -> list[str]:
    every = contents.datasets
    failing = sum(len(part.failing) for part in every)
    findings = sum(len(part.findings) for part in every)
    tiles = [("datasets", len(every), ""), ("checks that did not pass", failing, "bad"),
             ("findings", findings, "warn")]  # fmt: skip
    rows = [
        [
            f'<a href="#d{place}">{_text(part.name)}</a>'
            if place < _MOST_DATASETS and _has_part(part)
            else _text(part.name),
            "" if part.at is None else _time(part.at),
            "" if part.rows is None else f"{part.rows:,}",
            _checks_in_short(part),
            f'<span class="warn">{len(part.findings)}</span>' if part.findings else "0",
        ]
        for place, part in enumerate(every)
    ]
    return [
        '<ul class="tiles">',
        *(
            f"<li><b{f' class={chr(34)}{kind}{chr(34)}' if kind and n else ''}>{n:,}</b>{what}</li>"
            for what, n, kind in tiles
        ),
        "</ul>",
        *_table(["dataset", "last seen (UTC)", "#rows", "checks", "#findings"], rows),
    ]


def _checks_in_short(part: DatasetPart) -> str:
    if not part.checks:
        return '<span class="quiet">none</span>'
    if not part.failing:
        return f'<span class="good">{len(part.checks)} passed</span>'
    return f'<span class="bad">{len(part.failing)} of {len(part.checks)} did not pass</span>'


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return a table; columns whose head begins with `#` are numbers. Cells are HTML."""
    kinds = [' class="n"' if one.startswith("#") else "" for one in head]
    heads = "".join(
        f"<th{kind}>{one.removeprefix('#')}</th>" for kind, one in zip(kinds, head, strict=True)
    )
    lines = [
        "<tr>"
        + "".join(f"<td{k}>{cell}</td>" for k, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    ]
    return ['<div class="wide"><table>', f"<tr>{heads}</tr>", *lines, "</table></div>"]


def _has_part(part: DatasetPart) -> bool:
    """Tell whether there is more to say of a dataset than stands in the overview."""
    return bool(part.findings or part.checks or part.series or part.columns)


def _dataset(place: int, part: DatasetPart) -> list[str]:
    seen = [] if part.at is None else [f"last seen {time(part.at)} UTC"]
    rows = [] if part.rows is None else [f"{part.rows:,} rows"]
    columns = [f"{len(part.columns):,} columns"] if part.columns else []
    lines = [
        f'<section id="d{place}">',
        f"<h2>{_text(part.name)}</h2>",
        f'<p class="quiet">{", ".join([*seen, *rows, *columns])}</p>',
    ]
    if found := part.findings:
        lines += [
            "<h3>Findings</h3>",
            *_table(
                ["when (UTC)", "metric", "#score", "what"],
                [
                    [
                        _time(one.at),
                        _text(f"{one.metric} {one.segment}".strip()),
                        f"{one.score:.1f}",
                        _text(one.explanation),
                    ]
                    for one in found[:_MOST_FINDINGS]
                ],
            ),
            *_rest(len(found) - _MOST_FINDINGS, "findings"),
        ]
    if part.checks:
        lines += ["<h3>Checks</h3>", *_checks(part)]
    if part.series:
        lines += ["<h3>Over time</h3>", '<div class="charts">', *map(_figure, part.series)]
        lines += ["</div>", *_rest(part.left_out, "series")]
    if part.columns:
        lines += ["<h3>Columns</h3>", *_columns(part)]
    return [*lines, "</section>"]


def _rest(number_left: int, what: str) -> list[str]:
    return [f'<p class="quiet">{number_left:,} more {what} are left out.</p>'] * (number_left > 0)


def _checks(part: DatasetPart) -> list[str]:
    kinds = {"pass": "good", "fail": "bad", "error": "warn"}
    order = sorted(part.checks, key=lambda one: one.result == "pass")
    return _table(
        ["check", "result", "severity", "what was found"],
        [
            [
                _text(one.name),
                f'<span class="{kinds.get(one.result, "quiet")}">{_text(one.result)}</span>',
                _text(one.severity),
                _text(one.message),
            ]
            for one in order
        ],
    )


def _figure(series: Series) -> str:
    name = f"{series.metric} ({series.segment})" if series.segment else series.metric
    return f"<figure><figcaption>{_text(name)}</figcaption>{chart(series)}</figure>"


def _columns(part: DatasetPart) -> list[str]:
    stats = list(dict.fromkeys(stat for column in part.columns for stat in column.stats))
    rows = [
        [
            _text(column.name),
            _text(column.type),
            *(
                "" if (value := column.stats.get(stat)) is None
                else number(value) if not isinstance(value, str) else _text(value)
                for stat in stats
            ),
        ]
        for column in part.columns[:_MOST_COLUMNS]
    ]  # fmt: skip
    heads = ["column", "type", *(f"#{_text(stat).replace('_', ' ')}" for stat in stats)]
    return [*_table(heads, rows), *_rest(len(part.columns) - _MOST_COLUMNS, "columns")]


def _lineage(contents: Contents) -> list[str]:
    graph = contents.graph
    edges = graph.edges()
    if not edges.nodes:
        return []
    lines = tree(edges.starts(), edges.after, lambda node: label(node, graph))
    return [
        '<section id="lineage"><h2>Lineage</h2>',
        f"<pre>{escape(chr(10).join(lines[:_MOST_LINES]))}</pre>",
        *_rest(len(lines) - _MOST_LINES, "lines"),
        "</section>",
    ]
