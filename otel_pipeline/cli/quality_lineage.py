"""`otel-pipeline quality lineage`: show which jobs made which datasets of which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline import config as configuration
from otel_pipeline.errors import CommandError
from otel_pipeline.quality.lineage.drawing import label, mermaid, tree
from otel_pipeline.quality.lineage.graph import Column, Graph
from otel_pipeline.quality.lineage.openlineage import read_events
from otel_pipeline.quality.lineage.record import Record, RecordError, path_of

if TYPE_CHECKING:
    import argparse

    from otel_pipeline.quality.lineage.graph import Edges, Node

__all__ = ["add_arguments", "add_sources", "read_graph", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `otel-pipeline quality lineage`."""
    parser.add_argument(
        "dataset", nargs="?", metavar="DATASET", help="only what it comes from and goes to"
    )
    add_sources(parser)
    parser.add_argument("--column", metavar="COLUMN", help="of DATASET: the same of one column")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    form.add_argument("--mermaid", action="store_true", help="print a diagram of Mermaid")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Declare where lineage is read from."""
    parser.add_argument(
        "--events",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="files of OpenLineage events to read, instead of what the last runs left here",
    )


def read_graph(args: argparse.Namespace) -> Graph:
    """Return the lineage that the arguments ask for.

    Args:
        args: `events`.

    Raises:
        CommandError: It cannot be read.
    """
    if args.events:
        return Graph(run for path in args.events for run in read_events(path))
    path = path_of(configuration.load().lineage)
    if path is None:
        raise CommandError(
            "no lineage is kept here (OTEL_PIPELINE_LINEAGE=off): read files of OpenLineage "
            "events with --events FILE"
        )
    try:
        return Graph(Record(path).runs())
    except RecordError as error:
        raise CommandError(f"the record of lineage {path} cannot be read: {error}") from error


def run(args: argparse.Namespace) -> int:
    """Print lineage.

    Args:
        args: `dataset`, `events`, `column`, `json`, `mermaid`.

    Returns:
        0.

    Raises:
        CommandError: It cannot be read, or the dataset or column is not known.
    """
    if args.column and not args.dataset:
        raise CommandError("--column COLUMN needs its DATASET, too")
    graph = read_graph(args)
    edges = graph.edges()
    start: Node | None = None
    if args.dataset:
        start = dataset = graph.find(args.dataset)
        if args.column:
            edges, start = graph.column_edges(), graph.find_column(dataset, args.column)
        edges = edges.around(start)
    if args.json:
        print(json.dumps(_document(graph, edges, columns=bool(args.column)), indent=2))
    elif args.mermaid:
        print(mermaid(edges, lambda node: label(node, graph)))
    elif not edges.nodes:
        print("No lineage is known yet: stages tell it with stage.reads() and stage.writes().")
    else:
        print("\n".join(_text(graph, edges, start)))
    return 0


def _document(graph: Graph, edges: Edges, *, columns: bool) -> object:
    if not columns:
        return graph.as_dict(edges)
    pairs = [
        {"from": _column(one), "to": _column(other)}
        for one, other in edges.pairs
        if isinstance(one, Column) and isinstance(other, Column)
    ]
    return {"columns": pairs}


def _column(column: Column) -> dict[str, str]:
    namespace, name = column.dataset
    return {"namespace": namespace, "name": name, "column": column.column}


def _text(graph: Graph, edges: Edges, start: Node | None) -> list[str]:
    def text(node: Node) -> str:
        return label(node, graph)

    if start is None:
        return tree(edges.starts(), edges.after, text)
    lines: list[str] = []
    for head, following in (("Comes from", edges.before), ("Goes to", edges.after)):
        if following(start):
            lines += [*([""] if lines else []), f"{head}:", *tree([start], following, text)]
    return lines or [text(start)]
