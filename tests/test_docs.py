"""Every example of the README, the documentation and the docstrings runs, and prints what it says.

The blocks of one page are one program: they run in order, in a process and a folder of their own.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import otel_pipeline
from otel_pipeline import config, semconv
from otel_pipeline.cli import COMMANDS
from scripts import docs_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = Path(otel_pipeline.__file__).parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MODULES = sorted(PACKAGE.rglob("*.py"))

# A fenced block, with the comment before it that says `not run: REASON` or `prints`.
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>.+?) -->\n+)?"
    r"^(?P<indent>[ ]*)```(?P<language>python|text)\b[^\n]*\n(?P<body>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)

#: The examples of a page may leave these to their defaults; those of a docstring set their own.
NO_COLLECTOR = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",  # where nobody listens
    "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
    "OTEL_PIPELINE_SPOOL_DIR": "off",
}

RUN_DOCTESTS = """
import doctest, importlib, sys
module = importlib.import_module(sys.argv[1])
result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
sys.exit(result.failed > 0 or result.attempted == 0)
"""


@dataclass
class Page:
    """The program that a page's blocks make, and the lines that the page says it prints."""

    source: str = ""
    prints: list[str] = field(default_factory=list)


def read_page(text: str) -> Page:
    """Return the page's program; its line numbers are those of the page."""
    page = Page()
    for block in BLOCK.finditer(text):
        body = textwrap.dedent(block["body"])
        mark = block["mark"] or ""
        if block["language"] == "text":
            page.prints += body.splitlines() if mark == "prints" else []
        elif not re.match(r"not run: \w", mark):
            line = text.count("\n", 0, block.start("body"))
            page.source += "\n" * (line - page.source.count("\n")) + body
    return page


def docstrings(module: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the docstring of the module and of what it defines."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = getattr(node, "name", "")
            yield f"{module_name(module)}:{name}", ast.get_docstring(node) or ""


def module_name(module: Path) -> str:
    parts = module.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, with warnings as errors and only these `OTEL_*` variables set."""
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("OTEL_")}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(PACKAGE.parent), **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_page(page: Page, folder: Path) -> None:
    """Run the page's program; it must end well and print what the page says it prints."""
    script = folder / "page.py"
    script.write_text(page.source, encoding="utf-8")
    result = run(folder, str(script), **NO_COLLECTOR)
    assert result.returncode == 0, result.stderr
    missing = set(page.prints) - set(result.stdout.splitlines())
    assert not missing, f"not printed: {missing}\n{result.stdout}\n{result.stderr}"


RUNNABLE_PAGES = {
    str(path.relative_to(ROOT)): page
    for path in PAGES
    if (page := read_page(path.read_text(encoding="utf-8"))).source
}
RUNNABLE_DOCSTRINGS = {
    name: page
    for module in MODULES
    for name, text in docstrings(module)
    if (page := read_page(text)).source
}
DOCTESTED = [
    module_name(module)
    for module in MODULES
    if any(">>> " in re.sub(BLOCK, "", text) for _, text in docstrings(module))
]


@pytest.mark.parametrize("path", RUNNABLE_PAGES)
def test_the_examples_of_a_page_run(path: str, tmp_path: Path) -> None:
    """The blocks of a page run in order and print what the page says."""
    run_page(RUNNABLE_PAGES[path], tmp_path)


@pytest.mark.parametrize("name", RUNNABLE_DOCSTRINGS)
def test_the_fenced_examples_of_a_docstring_run(name: str, tmp_path: Path) -> None:
    """The fenced blocks of a docstring run in order."""
    run_page(RUNNABLE_DOCSTRINGS[name], tmp_path)


@pytest.mark.parametrize("module", DOCTESTED)
def test_the_doctests_of_a_module_pass(module: str, tmp_path: Path) -> None:
    """The `>>>` examples of a module give what they say."""
    result = run(tmp_path, "-c", RUN_DOCTESTS, module)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_readme_has_an_example_that_runs() -> None:
    """The README's quick start is found by these tests, and it says what it prints."""
    page = RUNNABLE_PAGES["README.md"]
    assert "configure(" in page.source
    assert page.prints


def test_a_block_is_left_out_only_with_a_reason() -> None:
    """`not run:` without a reason does not keep a block from being run."""
    block = "```python\nx = 1\n```\n"
    assert read_page(f"<!-- not run: needs a broker -->\n{block}").source == ""
    assert read_page(f"<!-- not run: -->\n{block}").source.strip() == "x = 1"


def test_a_page_s_program_has_the_line_numbers_of_the_page() -> None:
    """A traceback of an example points to the line in the page, in nested blocks too."""
    page = read_page("# Title\n\n```python\na = 1\n```\n\n- item\n\n  ```python\n  b = 2\n  ```\n")
    assert page.source.splitlines() == ["", "", "", "a = 1", "", "", "", "", "", "b = 2"]


def test_what_a_page_says_it_prints_is_checked(tmp_path: Path) -> None:
    """A page whose program prints something else than it says does not pass."""
    page = read_page("```python\nprint(1)\n```\n\n<!-- prints -->\n```text\n2\n```\n")
    with pytest.raises(AssertionError, match="not printed"):
        run_page(page, tmp_path)


def test_the_readme_s_links_lead_somewhere() -> None:
    """Each file that the README links to is there."""
    links = re.findall(r"\]\(([^):]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_ci_runs_the_readme_s_test_command() -> None:
    """The command that the README gives for the tests is the one that CI runs."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^python3 -m venv .*pytest.*$", readme, re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert command in [line.strip() for line in script.splitlines()]


@pytest.mark.parametrize("name", otel_pipeline.__all__)
def test_a_public_name_has_a_docstring(name: str) -> None:
    """Everything that `otel_pipeline` exports is documented."""
    value = getattr(otel_pipeline, name)
    assert isinstance(value, str) or (value.__doc__ or "").strip()


def test_the_reference_names_every_metric() -> None:
    """The page of metrics is made from the vocabulary and leaves nothing out."""
    page = docs_reference.metrics_page()
    assert [spec.name for spec in semconv.ALL_METRICS if f"| `{spec.name}` |" not in page] == []


def test_the_reference_names_every_variable() -> None:
    """The page of the configuration is made from the options and leaves nothing out."""
    page = docs_reference.configuration_page()
    assert [one.variable for one in config.OPTIONS if f"| `{one.variable}` |" not in page] == []


def test_the_reference_names_every_command() -> None:
    """The page of the command line is made from the parser and leaves nothing out."""
    page = docs_reference.command_page()
    assert [name for name in COMMANDS if f"usage: otel-pipeline {name} " not in page] == []
