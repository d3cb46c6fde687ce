"""The page of metrics: families as text that Prometheus reads.

```text
Registry.collect() ────────────────────────────┐
                                               ├─> Exposition.render() ─> MetricsServer
SnapshotReader.read() ─> families_from_sdk() ──┘
```

Families of the library's own registry come first: a family of the SDK that would use one of their
names is left out, so that a page never says anything twice.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import accumulate, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from otel_pipeline.metrics.names import exposed_name, series_names
from otel_pipeline.metrics.snapshots import Family, InfoPoint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from opentelemetry.sdk.resources import Resource

    from otel_pipeline.metrics.snapshots import (
        EnumPoint,
        Exemplar,
        HistogramPoint,
        Point,
        SummaryPoint,
    )
    from otel_pipeline.sdk.sdk_reader import SnapshotReader
from otel_pipeline.sdk.sdk_reader import families_from_sdk, labels_of, left_out, legal_label

__all__ = ["Exposition", "Renderer", "choose"]

#: What no document may contain: a lone surrogate has no UTF-8, and NUL ends Prometheus's lexer.
_UNSAFE: Final = re.compile("[\x00\ud800-\udfff]")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Renderer(Protocol):
    """Makes the body and the content type of a page."""

    def __call__(self, accept: str, names: Collection[str]) -> tuple[bytes, str]:
        """Answer an Accept header; `names` are the only samples wanted, or none for all."""


#: Families of one name, which stand under one head.
_Group = list[Family]


class Exposition:
    """The page of metrics: a registry's families, those of SDK readers, and `target_info`.

    Args:
        collect: Gives the library's own families, as `Registry.collect` does.

    >>> from otel_pipeline.metrics.snapshots import Family, Point
    >>> queue = Family("queue", "gauge", "Waiting.", "", (), (Point((), 3, 0),), "queue", "")
    >>> body, content_type = Exposition(lambda: [queue]).render()
    >>> print(body.decode(), end="")
    # HELP queue Waiting.
    # TYPE queue gauge
    queue 3.0
    """

    def __init__(self, collect: Callable[[], Iterable[Family]]) -> None:
        self._collect = collect
        self._attached: tuple[tuple[SnapshotReader, Resource | None], ...] = ()
        self._combine: Callable[[list[Family]], list[Family]] = list

    def combine(self, families: Callable[[list[Family]], list[Family]]) -> Callable[[], None]:
        """Let `families` turn what this process has into what stands on the page.

        Args:
            families: Takes this process's families and returns those of all processes.

        Returns:
            The undo.
        """
        self._combine = families

        def undo() -> None:
            if self._combine is families:
                self._combine = list

        return undo

    def attach(self, reader: SnapshotReader, resource: Resource | None) -> Callable[[], None]:
        """Show what `reader` reads too, and `resource` as `target_info`.

        Args:
            reader: A reader that has been added to a MeterProvider.
            resource: What the process is, or None for no `target_info`.

        Returns:
            The undo; call it before the reader is removed from its provider.
        """
        entry = (reader, resource)
        self._attached = (*self._attached, entry)

        def undo() -> None:
            self._attached = tuple(other for other in self._attached if other is not entry)

        return undo

    def render(self, accept: str = "", names: Collection[str] = ()) -> tuple[bytes, str]:
        """Make the document that a client asks for.

        Args:
            accept: The client's Accept header; text 0.0.4 unless it asks for OpenMetrics.
            names: Names of the only samples wanted (`orders_total`); all if empty.

        Returns:
            The body and its content type. A family that cannot be rendered, or that has the name
            of another, is left out and said once on stderr.
        """
        openmetrics, content_type = _negotiate(accept)
        parts = [_render(group, names, openmetrics=openmetrics) for group in self._groups()]
        if openmetrics:
            parts.append("# EOF\n")
        return _encode("".join(parts)), content_type

    def families(self) -> list[Family]:
        """Return what stands on the page; families of one name follow each other."""
        return [family for group in self._groups() for family in group]

    def _groups(self) -> Iterator[_Group]:
        """Yield the families of each name, unless a name of theirs is taken already."""
        taken: dict[str, str] = {}
        for group in self._offered():
            name, kind = group[0].name, group[0].kind
            owned = series_names(name, kind)
            rival = next((taken[series] for series in owned if series in taken), None)
            if rival is not None:
                left_out(f"{kind} {name!r}", f"{rival!r} is on the page already")
                continue
            taken.update(dict.fromkeys(owned, name))
            yield group

    def _offered(self) -> Iterator[_Group]:
        own = self.own_families()
        families = _guarded("the group of processes", partial(self._combine, own)) or own
        for _, group in groupby(families, key=attrgetter("name", "from_sdk")):
            yield list(group)
        resources = [resource for _, resource in self._attached if resource is not None]
        if resources:
            yield [_target_info(resources[0])]

    def own_families(self) -> list[Family]:
        """Return what this process has: the registry's families, then those of the SDK."""
        families = _guarded("the registry", self._collect)
        for reader, _ in self._attached:
            families += _guarded("the SDK", partial(_read, reader))
        return families


def _guarded(source: str, collect: Callable[[], Iterable[Family]]) -> list[Family]:
    try:
        return list(collect())
    except Exception as error:  # noqa: BLE001  the other sources still have something to show
        left_out(f"what {source} holds", repr(error))
        return []


def _read(reader: SnapshotReader) -> list[Family]:
    return families_from_sdk(reader.read())


def _target_info(resource: Resource) -> Family:
    point = InfoPoint((), dict(labels_of(resource.attributes)))
    return Family("target", "info", "Target metadata", "", (), (point,), "target", "")


def _negotiate(accept: str) -> tuple[bool, str]:
    """Choose the format as prometheus_client does: whether it is OpenMetrics, and its type.

    All names fit the legacy character set, so every escaping scheme but `allow-utf-8` gives what
    `underscores` gives, and the answer says so.
    """
    _, chosen = choose(accept)
    openmetrics = chosen.startswith("application/openmetrics-text")
    if "escaping=" not in chosen:
        return openmetrics, OPENMETRICS if openmetrics else TEXT
    scheme = "allow-utf-8" if chosen.endswith("allow-utf-8") else "underscores"
    base = OPENMETRICS if openmetrics else TEXT.replace("0.0.4", "1.0.0")
    return openmetrics, f"{base}; escaping={scheme}"


def choose(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """Return prometheus_client's encoder for an Accept header, and the content type."""
    try:
        return choose_encoder(accept)
    except Exception:  # noqa: BLE001  a version that is no number
        return choose_encoder("")


def _encode(document: str) -> bytes:
    try:
        body = document.encode()
    except UnicodeEncodeError:
        body = b"\0"
    return body if b"\0" not in body else _UNSAFE.sub("\ufffd", document).encode()


def _render(group: _Group, names: Collection[str], *, openmetrics: bool) -> str:
    """Render families of one name under one head; an empty string if none of it is wanted."""
    try:
        write = _WRITERS[group[0].kind]
        head = _head(group[0], openmetrics=openmetrics)
        lines = [line for family in group for line in write(family, openmetrics=openmetrics)]
    except Exception as error:  # noqa: BLE001  a page without this family is still a page
        left_out(f"{group[0].kind} {group[0].name!r}", repr(error))
        return ""
    if names:
        lines = [line for line in lines if _SAMPLE_END.split(line, maxsplit=1)[0] in names]
        if not lines:
            return ""
    return head + "".join(lines)


def _head(family: Family, *, openmetrics: bool) -> str:
    text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    if not openmetrics:
        name = exposed_name(family.name, family.kind)
        kind = _TEXT_TYPES.get(family.kind, family.kind)
        return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    text = text.replace('"', r"\"")
    kind = "stateset" if family.kind == "enum" else family.kind
    unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
    return f"# HELP {family.name} {text}\n# TYPE {family.name} {kind}\n{unit}"


def _number_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    name = exposed_name(family.name, family.kind)
    series = _series_writer(name, family.labelnames)
    for point in cast("tuple[Point, ...]", family.points):  # as its kind says; here and below
        if openmetrics and family.kind == "counter" and not point.value >= 0:
            left_out(f"counter {family.name!r}", f"it is {point.value}")
            continue
        exemplar = _exemplar_text(point.exemplar) if openmetrics and point.exemplar else ""
        yield f"{series(point.labels)} {_number(point.value)}{exemplar}\n"


def _histogram_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    bounds = [*map(floatToGoString, family.bounds), "+Inf"]
    # `le` stands among the labels by its name, like any other.
    bucket = _series_writer(f"{family.name}_bucket", (*family.labelnames, "le"))
    count = _series_writer(f"{family.name}_count", family.labelnames)
    total = _series_writer(f"{family.name}_sum", family.labelnames)
    negative = bool(family.bounds) and family.bounds[0] < 0
    for point in cast("tuple[HistogramPoint, ...]", family.points):
        below = tuple(accumulate(point.counts))
        for bound, number, exemplar in zip(bounds, below, point.exemplars, strict=True):
            note = _exemplar_text(exemplar) if openmetrics and exemplar else ""
            yield f"{bucket((*point.labels, bound))} {_number(number)}{note}\n"
        # With negative bounds, or values, a sum can fall, so it is no counter; OpenMetrics has both
        # or none.
        if not openmetrics or (not negative and point.sum >= 0):
            yield f"{count(point.labels)} {_number(below[-1])}\n"
        if not negative and (not openmetrics or point.sum >= 0):
            yield f"{total(point.labels)} {_number(point.sum)}\n"


def _summary_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    count = _series_writer(f"{family.name}_count", family.labelnames)
    total = _series_writer(f"{family.name}_sum", family.labelnames)
    for point in cast("tuple[SummaryPoint, ...]", family.points):
        yield f"{count(point.labels)} {_number(point.count)}\n"
        if not openmetrics or point.sum >= 0:
            yield f"{total(point.labels)} {_number(point.sum)}\n"


def _info_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:  # noqa: ARG001
    for point in cast("tuple[InfoPoint, ...]", family.points):
        series = _series_writer(f"{family.name}_info", (*family.labelnames, *point.info))
        yield f"{series((*point.labels, *point.info.values()))} 1.0\n"


def _enum_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:  # noqa: ARG001
    series = _series_writer(family.name, (*family.labelnames, family.name))
    for point in cast("tuple[EnumPoint, ...]", family.points):
        for state in family.states:
            yield f"{series((*point.labels, state))} {_number(int(state == point.state))}\n"


_WRITERS: Final = {
    "counter": _number_lines,
    "gauge": _number_lines,
    "histogram": _histogram_lines,
    "summary": _summary_lines,
    "info": _info_lines,
    "enum": _enum_lines,
}
_TEXT_TYPES: Final = {"info": "gauge", "enum": "gauge"}
_SAMPLE_END: Final = re.compile(r"[{ ]")


def _series_writer(name: str, labelnames: Sequence[str]) -> Callable[[tuple[str, ...]], str]:
    """Return what writes a series from its label values: `name{a="1",b="2"}`, labels by name."""
    if not labelnames:
        return lambda _values: name
    order = sorted(range(len(labelnames)), key=labelnames.__getitem__)
    template = name + "{" + ",".join(f'{labelnames[i]}="%s"' for i in order) + "}"
    quotes = 2 * len(labelnames)

    def write(values: tuple[str, ...]) -> str:
        ordered = tuple([values[i] for i in order])
        series = template % ordered
        # One look at the whole is faster than one at each value, and few need escapes.
        if series.count('"') == quotes and "\\" not in series and "\n" not in series:
            return series
        return template % tuple(map(_escaped, ordered))

    return write


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if type(value) is int and -_EXPONENT_FROM < value < _EXPONENT_FROM:
        return f"{value}.0"
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


#: From here on numbers are written with an exponent.
_EXPONENT_FROM: Final = 1_000_000


def _exemplar_text(exemplar: Exemplar) -> str:
    """Return ` # {trace_id="..",span_id=".."} value time`; names outside ASCII are replaced."""
    labels: dict[str, str] = {}
    if exemplar.trace_id:
        labels.update(trace_id=exemplar.trace_id, span_id=exemplar.span_id)
    for name, value in exemplar.labels:
        labels[name if _LABEL_NAME.fullmatch(name) else legal_label(name)] = value
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items()))
    return f" # {{{text}}} {_number(exemplar.value)} {exemplar.time}"
