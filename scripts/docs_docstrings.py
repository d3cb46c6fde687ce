"""Let mkdocstrings show the examples of docstrings as code.

It knows them in a section `Examples:` only, and takes `>>>` for a quotation elsewhere.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import griffe

if TYPE_CHECKING:
    from griffe import Object


def with_example_sections(docstring: str) -> str:
    """Return the docstring with each example in a section `Examples:`."""
    renamed = re.sub(r"^Example:$", "Examples:", docstring, flags=re.MULTILINE)
    return re.sub(
        r"^>>> .*\n?(?:.+\n?)*",
        lambda paragraph: "Examples:\n" + textwrap.indent(paragraph[0], "    "),
        renamed,
        flags=re.MULTILINE,
    )


class ExampleSections(griffe.Extension):
    """Rewrite each docstring that mkdocstrings reads."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = with_example_sections(obj.docstring.value)
