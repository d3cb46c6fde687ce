"""The graph that job runs make: which jobs made which datasets, and columns, of which."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_pipeline.errors import CommandError
from otel_pipeline.quality.lineage.names import DatasetName, JobName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_pipeline.quality.lineage.model import DatasetUse, JobRun

__all__ = ["Column", "Edges", "Graph", "Node"]

_MOST_SHOWN: Final = 5


class Column(NamedTuple):
    """A column of a dataset."""

    dataset: DatasetName
    column: str


Node = DatasetName | JobName | Column


class Edges:
    """Which nodes follow on which.

    Args:
        pairs: Each node with one that follows on it.
        single: Nodes that may have no edge at all.
    """

    def __init__(self, pairs: Iterable[tuple[Node, Node]], single: Iterable[Node] = ()) -> None:
        self._after: dict[Node, dict[Node, None]] = {}
        self._before: dict[Node, dict[Node, None]] = {}
        for node in single:
            self._add(node)
        for one, other in pairs:
            self._add(one)
            self._add(other)
            self._after[one][other] = None
            self._before[other][one] = None

    def _add(self, node: Node) -> None:
        self._after.setdefault(node, {})
        self._before.setdefault(node, {})

    def __contains__(self, node: Node) -> bool:
        return node in self._after

    @property
    def nodes(self) -> list[Node]:
        """Every node, in the order of the edges."""
        return list(self._after)

    @property
    def pairs(self) -> list[tuple[Node, Node]]:
        """Every edge."""
        return [(one, other) for one, others in self._after.items() for other in others]

    def after(self, node: Node) -> list[Node]:
        """Return what follows on a node."""
        return list(self._after.get(node, ()))

    def before(self, node: Node) -> list[Node]:
        """Return what a node follows on."""
        return list(self._before.get(node, ()))

    def around(self, node: Node) -> Edges:
        """Return what a node comes from and goes to, at any distance."""
        pairs = [(other, one) for one, other in _reached(node, self.before)]
        return Edges([*pairs, *_reached(node, self.after)], [node])

    def starts(self) -> list[Node]:
        """Return nodes from which all others are reached: the sources, and one of each circle."""
        found = [node for node in self._after if not self._before[node]]
        seen = set(found)
        for start in found:
            seen.update(other for _, other in _reached(start, self.after))
        for node in self._after:
            if node not in seen:
                found.append(node)
                seen.add(node)
                seen.update(other for _, other in _reached(node, self.after))
        return found


def _reached(start: Node, following: Callable[[Node], list[Node]]) -> list[tuple[Node, Node]]:
    """Return every edge on the ways from a node, nearest first."""
    edges = []
    seen, waiting = {start}, [start]
    for node in waiting:  # it grows meanwhile
        for other in following(node):
            edges.append((node, other))
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return edges


class Graph:
    """What the last run of each job read and wrote.

    Args:
        runs: What is known of runs, in any order; several tellings of one run are added up.

    Attributes:
        jobs: The last run that tells of datasets, by job.
        datasets: What is known of each dataset: by its last writer, else by its last reader.
    """

    def __init__(self, runs: Iterable[JobRun]) -> None:
        whole: dict[tuple[JobName, str], JobRun] = {}
        for run in sorted(runs, key=lambda run: (run.at, run.state != "START")):
            known = whole.get((run.job, run.run))
            whole[run.job, run.run] = run if known is None else _added(known, run)
        self.jobs: dict[JobName, JobRun] = {}
        for run in sorted(whole.values(), key=lambda run: run.at):
            if run.inputs or run.outputs:
                self.jobs[run.job] = run
        self.jobs = dict(sorted(self.jobs.items()))
        self.datasets: dict[DatasetName, DatasetUse] = {}
        self._tell(lambda run: run.inputs)
        self._tell(lambda run: run.outputs)
        self.datasets = dict(sorted(self.datasets.items()))

    def _tell(self, side: Callable[[JobRun], tuple[DatasetUse, ...]]) -> None:
        for run in sorted(self.jobs.values(), key=lambda run: run.at):
            for use in side(run):
                known = self.datasets.get(use.name)
                self.datasets[use.name] = use if known is None else _joined(known, use)

    def edges(self) -> Edges:
        """Return the edges from datasets to the jobs that read them, and on to what they wrote."""
        pairs: list[tuple[Node, Node]] = []
        for job, run in self.jobs.items():
            pairs += [(use.name, job) for use in run.inputs]
            pairs += [(job, use.name) for use in run.outputs]
        return Edges(pairs)

    def column_edges(self) -> Edges:
        """Return the edges from columns to those that were made of them."""
        return Edges(
            (Column(dataset, source), Column(use.name, column))
            for run in self.jobs.values()
            for use in run.outputs
            for column, sources in use.columns.items()
            for dataset, source in sources
        )

    def find(self, words: str) -> DatasetName:
        """Return the dataset that a user means.

        Args:
            words: Its name, with or without its namespace, or the end of its name.

        Raises:
            CommandError: There is none, or there are several.
        """
        rules: tuple[Callable[[DatasetName], bool], ...] = (
            lambda name: words in {str(name), name.name},
            lambda name: name.name.endswith((f"/{words}", f".{words}")),
        )
        for rule in rules:
            found = [name for name in self.datasets if rule(name)]
            if len(found) == 1:
                return found[0]
            if found:
                listed = ", ".join(str(name) for name in found[:_MOST_SHOWN])
                raise CommandError(f"{words!r} may be one of several datasets: {listed}")
        names = {
            word
            for name in self.datasets
            for word in (str(name), name.name, re.split(r"[/.]", name.name)[-1])
        }
        near = difflib.get_close_matches(words, names, n=3, cutoff=0.5)
        guess = f"; is it {' or '.join(near)}?" if near else ""
        raise CommandError(f"no dataset is called {words!r}{guess}")

    def find_column(self, dataset: DatasetName, column: str) -> Column:
        """Return the column that a user means.

        Raises:
            CommandError: Nothing is known of such a column.
        """
        found = Column(dataset, column)
        if found in self.column_edges():
            return found
        known = [
            node.column
            for node in self.column_edges().nodes
            if isinstance(node, Column) and node.dataset == dataset
        ]
        near = difflib.get_close_matches(column, known, n=3, cutoff=0.5) or sorted(known)
        listed = f"declared are {', '.join(near[:_MOST_SHOWN])}" if near else "none is declared"
        raise CommandError(f"nothing is declared of column {column!r} of {dataset}; {listed}")

    def as_dict(self, edges: Edges) -> dict[str, Any]:
        """Return the datasets and jobs among the nodes of `edges` as JSON can hold them."""
        return {
            "datasets": [
                {
                    **_name(name),
                    "schema": None if use.schema is None else dict(use.schema),
                    "rows": use.rows,
                    "columns": {
                        column: [{**_name(dataset), "column": source} for dataset, source in made]
                        for column, made in use.columns.items()
                    },
                }
                for name, use in self.datasets.items()
                if name in edges
            ],
            "jobs": [
                {
                    **_name(job),
                    "run": run.run,
                    "state": run.state,
                    "at": run.at / 1e9,
                    "error": run.error,
                    "trace_id": run.trace_id,
                    "inputs": [_name(use.name) for use in run.inputs],
                    "outputs": [_name(use.name) for use in run.outputs],
                }
                for job, run in self.jobs.items()
                if job in edges
            ],
        }


def _name(name: DatasetName | JobName) -> dict[str, str]:
    return {"namespace": name.namespace, "name": name.name}


def _added(known: JobRun, more: JobRun) -> JobRun:
    """Return a run as the later of two tellings has it; what only the earlier one tells stays."""
    return replace(
        more,
        inputs=_sides(known.inputs, more.inputs),
        outputs=_sides(known.outputs, more.outputs),
        trace_id=more.trace_id or known.trace_id,
        span_id=more.span_id or known.span_id,
    )


def _sides(known: tuple[DatasetUse, ...], more: tuple[DatasetUse, ...]) -> tuple[DatasetUse, ...]:
    found: Mapping[DatasetName, DatasetUse] = {use.name: use for use in known}
    joined = {**found}
    for use in more:
        joined[use.name] = _joined(found[use.name], use) if use.name in found else use
    return tuple(joined.values())


def _joined(known: DatasetUse, more: DatasetUse) -> DatasetUse:
    return replace(
        more,
        schema=known.schema if more.schema is None else more.schema,
        columns={**known.columns, **more.columns},
        rows=known.rows if more.rows is None else more.rows,
        metrics=more.metrics or known.metrics,
        assertions=more.assertions or known.assertions,
    )
