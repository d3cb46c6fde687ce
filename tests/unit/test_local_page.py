"""The files of the local backend's page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_pipeline import local
from otel_pipeline.local import filters

PAGE = Path(local.__file__).with_name("page")
OWN = sorted(
    path
    for path in PAGE.rglob("*")
    if path.is_file() and "vendor" not in path.relative_to(PAGE).parts
)
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
#: What makes markup or programs out of text.
UNSAFE = (
    r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|srcdoc|DOMParser"
    r"|document\.write|createContextualFragment|\beval\b|new Function|setTimeout\(['\"`]"
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_makes_no_markup_of_text(path: Path) -> None:
    """None of the ways to do so stands in a file of the page."""
    assert re.findall(UNSAFE, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_the_page_asks_nobody_else(path: Path) -> None:
    """No file names an address of the web from which something would be fetched."""
    text = path.read_text(encoding="utf-8")
    fetched = re.findall(r"""(?:src=|href=|from |import\(|url\(|fetch\()\s*["'`]?https?:""", text)
    assert fetched == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_is_there(path: Path) -> None:
    """Each import names a file of the page and what that file exports."""
    imports = re.findall(r'import \{([^}]+)\} from "/page/([^"]+)"', path.read_text("utf-8"))
    for names, file in imports:
        exports = (PAGE / file).read_text(encoding="utf-8")
        missing = [
            name
            for name in (one.strip() for one in names.split(","))
            if not re.search(rf"export (?:async )?(?:function|const) {name}\b", exports)
            and not re.search(rf"\bas {name}[,}}]", exports)
        ]
        assert missing == []


@pytest.mark.parametrize(
    ("view", "kind"),
    [("runs", "runs"), ("traces", "spans"), ("logs", "logs"), ("metrics", "metrics")],
)
def test_the_page_names_the_fields_of_filters(view: str, kind: filters.Kind) -> None:
    """The hint under a filter's box has the fields that there are, and examples that are right."""
    text = (PAGE / "views" / "parts.js").read_text(encoding="utf-8")
    (line,) = re.findall(rf"^  {view}: \[(.+)\],$", text, re.MULTILINE)
    examples, _, fields = line.rpartition("], ")
    named = set(fields.strip('"').split()) - {"attr.KEY", "“words”"}
    assert named == set(filters.FIELDS[kind])
    for example in re.findall(r"""'[^']+'|["][^"]+["]""", examples):
        filters.compile_filter(example[1:-1], kind)


def test_what_is_not_ours_has_its_licence() -> None:
    """Beside the files of others stand the licences under which they are given."""
    assert sorted(path.name for path in (PAGE / "vendor").iterdir()) == [
        "LICENSE.htm",
        "LICENSE.preact",
        "LICENSE.uplot",
        "README.md",
        "htm-preact.js",
        "uplot.css",
        "uplot.js",
    ]
