"""Lineage drawn: as a tree of text, and as a diagram of Mermaid."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from otel_pipeline.quality.lineage.graph import Column
from otel_pipeline.quality.lineage.names import DatasetName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_pipeline.quality.lineage.graph import Edges, Graph, Node

__all__ = ["label", "mermaid", "tree"]

#: How Mermaid writes what has a meaning in its quotes, or in the HTML that it makes.
_ENTITIES: Final = str.maketrans(
    {"#": "#35;", '"': "#quot;", "&": "#amp;", "<": "#lt;", ">": "#gt;", "`": "#96;"}
)
_AGAIN: Final = " (see above)"


def label(node: Node, graph: Graph) -> str:
    """Return what is written for a node: its name, and what is known of it."""
    if isinstance(node, Column):
        return printable(f"{node.dataset} · {node.column}")
    if isinstance(node, DatasetName):
        use = graph.datasets.get(node)
        columns = None if use is None or use.schema is None else len(use.schema)
        rows = None if use is None else use.rows
        return printable(str(node)) + _number(columns, "column") + _number(rows, "row")
    run = graph.jobs[node]
    at = dt.datetime.fromtimestamp(run.at / 1e9, dt.UTC)
    return f"[{printable(node.name)}]  {run.state.lower()} {at:%Y-%m-%d %H:%M} UTC"


def _number(number: int | None, what: str) -> str:
    return "" if number is None else f"  {number:,} {what}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Return text that a terminal shows as it is, whatever a name holds."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def tree(
    starts: Iterable[Node], following: Callable[[Node], list[Node]], text: Callable[[Node], str]
) -> list[str]:
    """Return the lines of a tree; what comes again is drawn once.

    Args:
        starts: Where it begins.
        following: What hangs on a node.
        text: What is written for a node.
    """
    lines = []
    drawn: set[Node] = set()
    # Of each node that is still to draw: what stands before it, and before what hangs on it.
    waiting = [(node, "", "") for node in reversed(list(starts))]
    while waiting:
        node, before, below = waiting.pop()
        after = following(node)
        again = node in drawn and bool(after)
        lines.append(f"{before}{text(node)}{_AGAIN if again else ''}")
        if node in drawn:
            continue
        drawn.add(node)
        for place, other in enumerate(reversed(after)):
            branch, gap = ("└─ ", "   ") if place == 0 else ("├─ ", "│  ")
            waiting.append((other, below + branch, below + gap))
    return lines


def mermaid(edges: Edges, text: Callable[[Node], str]) -> str:
    """Return a flowchart of Mermaid; datasets are cylinders, jobs are boxes.

    Args:
        edges: What to draw.
        text: What is written for a node.
    """
    names = {node: f"n{number}" for number, node in enumerate(edges.nodes)}
    lines = ["flowchart LR"]
    for node, name in names.items():
        shape = ('[("', '")]') if isinstance(node, DatasetName) else ('["', '"]')
        lines.append(f"    {name}{shape[0]}{text(node).translate(_ENTITIES)}{shape[1]}")
    lines += [f"    {names[one]} --> {names[other]}" for one, other in edges.pairs]
    return "\n".join(lines)
