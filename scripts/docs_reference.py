"""Make the reference pages from the code each time that the documentation is built.

MkDocs calls `on_files`. Nothing is written into `docs/`, so no copy can go stale.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline import semconv
from otel_pipeline.cli import COMMANDS, main
from otel_pipeline.config import OPTIONS
from otel_pipeline.dashboards import DASHBOARDS
from otel_pipeline.quality.checks import KINDS, Check
from otel_pipeline.quality.checks.model import parameters
from otel_pipeline.quality.declarations import dataset_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

    from otel_pipeline.config import Option
    from otel_pipeline.dashboards import Dashboard
    from otel_pipeline.quality.checks.params import Param
    from otel_pipeline.semconv import MetricSpec

ROOT = Path(__file__).parents[1]

#: Modules whose names users import, in reading order.
API_MODULES = (
    "otel_pipeline",
    "otel_pipeline.propagation",
    "otel_pipeline.quality",
    "otel_pipeline.quality.lineage",
    "otel_pipeline.logs",
    "otel_pipeline.redaction",
    "otel_pipeline.testing",
    "otel_pipeline.semconv",
    "otel_pipeline.errors",
)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads)]
    lines.append(["---"] * len(lines[0]))
    lines.extend(list(row) for row in rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    """Return plain text as it stands in a table's cell."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)


def _code(text: object) -> str:
    return f"`{text}`"


def _seconds(bounds: Iterable[float]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


def _metric_row(spec: MetricSpec) -> tuple[str, str, str, str]:
    limits = dict(spec.label_limits)
    labels = ", ".join(
        _code(label) + (f" (at most {limits[label]} values)" if label in limits else "")
        for label in spec.labels
    )
    return _code(spec.name), spec.kind, labels or "none", _cell(spec.doc)


def metrics_page() -> str:
    """Return the page of every metric that the library makes."""
    histograms = [spec for spec in semconv.ALL_METRICS if spec.bounds]
    return "\n".join(
        [
            "# Metrics\n",
            "Every metric that the library makes itself, as a Prometheus scrape shows it.",
            "A counter or gauge of yours that is declared with one of these names, the same kind",
            "and the same labels *is* that metric.\n",
            _table(("metric", "type", "labels", "meaning"), map(_metric_row, semconv.ALL_METRICS)),
            "## Buckets of the histograms\n",
            _table(
                ("metric", "upper bounds in seconds, then `+Inf`"),
                ((_code(spec.name), _seconds(spec.bounds)) for spec in histograms),
            ),
        ]
    )


def _option_row(option: Option) -> tuple[str, str, str, str]:
    unit = option.unit if option.default.isdecimal() else ""
    default = _code(f"{option.default} {unit}".rstrip()) if option.default else "not set"
    allowed = ", ".join(map(_code, option.allowed))
    meaning = _cell(option.doc) + (f" Allowed: {allowed}." if allowed else "")
    return _code(option.variable), _code(option.field), default, meaning


def configuration_page() -> str:
    """Return the page of every variable of the environment, by topic."""
    lines = [
        "# Configuration\n",
        "An argument of `configure()` comes before its variable, a variable before its default.",
        "A variable that is set to nothing counts as not set. `otel-pipeline env` shows what each",
        "one is on your machine, and where that comes from.\n",
    ]
    for topic in dict.fromkeys(option.topic for option in OPTIONS):
        rows = [_option_row(option) for option in OPTIONS if option.topic == topic]
        lines += [f"## {topic}\n", _table(("variable", "argument", "default", "meaning"), rows)]
    return "\n".join(lines)


def _help(*command: str) -> str:
    """Return what `otel-pipeline COMMAND --help` prints on a terminal of 80 columns."""
    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return f"```text\n{output.getvalue()}```\n"


#: Commands within commands that have pages of help of their own.
ACTIONS = {"alerts": ("backtest", "lint")}


def command_page() -> str:
    """Return the page of the command line: the help of each command."""
    lines = ["# Command line\n", "`python -m otel_pipeline` is the same command.\n", _help()]
    for name in COMMANDS:
        lines += [f"## otel-pipeline {name}\n", _help(name)]
        for action in ACTIONS.get(name, ()):
            lines += [f"### otel-pipeline {name} {action}\n", _help(name, action)]
    return "\n".join(lines)


def _parameter_row(name: str, parameter: Param, default: object) -> tuple[str, str, str]:
    if default is dataclasses.MISSING:
        shown = "needed"
    else:
        shown = _code(str(default).lower()) if default not in {None, "", ()} else "not set"
    allowed = ", ".join(map(_code, parameter.schema.get("enum", ())))  # type: ignore[arg-type]
    return _code(name), shown, _cell(parameter.doc) + (f" Allowed: {allowed}." if allowed else "")


def _parameter_table(fields: Iterable[dataclasses.Field[object]]) -> str:
    rows = (_parameter_row(one.name, one.metadata["param"], one.default) for one in fields)
    return _table(("parameter", "default", "meaning"), rows)


def checks_page() -> str:
    """Return the page of the YAML file with datasets and their checks."""
    common = [one for one in parameters(Check).values() if one.name in Check.__dataclass_fields__]
    lines = [
        "# Checks in YAML\n",
        "A file maps `datasets` to names, and each name to the parameters of a dataset. Paths in",
        "it are relative to it. `otel-pipeline quality check --print-schema` prints its JSON",
        "schema, for editors.\n",
        "## A dataset\n",
        _table(
            ("parameter", "default", "meaning"),
            [
                *(_parameter_row(name, one, None) for name, one in dataset_parameters().items()),
                ("`checks`", "not set", "A list; each item is one kind with its parameters."),
            ],
        ),
        "## Every check\n",
        _parameter_table(common),
    ]
    for name, kind in KINDS.items():
        own = [one for one in parameters(kind).values() if one.name not in parameters(Check)]
        summary = (kind.__doc__ or "").partition("\n")[0]
        lines += [f"## {name}\n", f"{summary}\n", _parameter_table(own)]
        if kind.short:
            lines.append(f"`{name}: VALUE` gives `{kind.short}` alone.\n")
    return "\n".join(lines)


def api_page() -> str:
    """Return the page of the public Python API, for mkdocstrings to fill in."""
    return "\n".join(["# Python API\n", *(f"::: {module}\n" for module in API_MODULES)])


def _shown(dashboard: Dashboard) -> str:
    rows = [(_cell(panel.title), _cell(panel.description)) for panel in dashboard.panels()]
    heading = f"## {dashboard.title.removeprefix('Pipelines: ').capitalize()}\n"
    about = f"{dashboard.description} Its uid is `{dashboard.uid}`.\n"
    return "\n".join([heading, about, _table(("panel", "what it shows"), rows)])


def dashboards_page() -> str:
    """Return the page of every panel of every dashboard."""
    lines = [
        "# Dashboards\n",
        "What `otel-pipeline dashboards` writes;",
        "[See your pipelines in Grafana](../how-to/dashboards.md) says how to use it.\n",
    ]
    return "\n".join([*lines, *map(_shown, DASHBOARDS)])


#: Pages that stand at the root of the project.
ROOT_PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")


def root_page(name: str) -> str:
    """Return a page from the root; links to the others lead to their places in the site."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for other in ROOT_PAGES:
        text = text.replace(f"]({other}", f"]({other.lower()}")
    return text


PAGES: dict[str, Callable[[], str]] = {
    **{name.lower(): partial(root_page, name) for name in ROOT_PAGES},
    "reference/api.md": api_page,
    "reference/checks.md": checks_page,
    "reference/command.md": command_page,
    "reference/configuration.md": configuration_page,
    "reference/dashboards.md": dashboards_page,
    "reference/metrics.md": metrics_page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code and from the files at the root."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
