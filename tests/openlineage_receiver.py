"""A server that takes OpenLineage events, and what the published schemas say of them."""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import os
import sys
import threading
import types
import typing
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attr
import jsonschema
from openlineage.client import event_v2, facet_v2

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PUBLISHED", "Receiver", "problems", "published_problems", "receiver"]

#: The folder `spec` of a checkout of OpenLineage, whose schemas the client's package leaves out.
PUBLISHED = os.environ.get("SPEC_OF_OPENLINEAGE", "")
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"


@dataclass
class Receiver:
    """What a server has received, and how it answers."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    status: int = 201
    hang: bool = False
    asked: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a server on a free port of 127.0.0.1."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Print nothing."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.asked.set()
            if found.hang:
                found.released.wait()
                return
            if found.status < 300:
                found.events.append(json.loads(body))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        found.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


# --- The schemas, as the client's classes have them -----------------------------------------------


def problems(event: dict[str, Any]) -> list[str]:
    """Return what the client's classes, made from the published schemas, find wrong in an event.

    Facets are looked up by their `_schemaURL`; one that names no class is a problem too.
    """
    found = _errors(_schema_of(event_v2.RunEvent), event, "event")
    for where, facet in _facets(event):
        cls = _facet_classes().get(facet["_schemaURL"])
        found += [f"{where}: no class"] if cls is None else _errors(_schema_of(cls), facet, where)
    return found


def _errors(schema: dict[str, Any], document: Any, where: str) -> list[str]:
    checker = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    return [
        f"{where}{error.json_path[1:]}: {error.message}" for error in checker.iter_errors(document)
    ]


def _facets(event: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    holders = [("run", event["run"], "facets"), ("job", event["job"], "facets")]
    for side, of_side in (("inputs", "inputFacets"), ("outputs", "outputFacets")):
        for number, dataset in enumerate(event[side]):
            holders += [(f"{side}[{number}]", dataset, key) for key in ("facets", of_side)]
    for where, holder, key in holders:
        yield from ((f"{where}.{key}.{name}", one) for name, one in holder[key].items())


@cache
def _facet_classes() -> dict[str, type]:
    modules = [getattr(facet_v2, name) for name in facet_v2.__all__]
    classes = [
        cls
        for module in modules
        if isinstance(module, types.ModuleType)
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if attr.has(cls) and issubclass(cls, facet_v2.BaseFacet)
    ]
    return {cls._get_schema(): cls for cls in classes}


def _schema_of(cls: type) -> dict[str, Any]:
    """Return the JSON schema that a class of the client stands for."""
    definitions: dict[str, Any] = {}
    _define(cls, definitions)
    return {"$ref": f"#/$defs/{cls.__qualname__}", "$defs": definitions}


def _define(cls: type, definitions: dict[str, Any]) -> None:
    names = {**vars(typing), **vars(facet_v2.column_lineage_dataset), **vars(event_v2)}
    hints = typing.get_type_hints(cls, {**names, **vars(sys.modules[cls.__module__])})
    properties: dict[str, Any] = {}
    required: list[str] = []
    definitions[cls.__qualname__] = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    for one in attr.fields(cls):
        if one.name in {"_producer", "_schemaURL", "producer", "schemaURL"}:
            properties[one.name] = {"type": "string", "pattern": "^https?://"}
            required.append(one.name)
        elif one.name in {"runId", "eventTime"}:
            # The format "date-time" is checked only where a further package is installed.
            rule = {"format": "uuid"} if one.name == "runId" else {"pattern": _TIME}
            properties[one.name] = {"type": "string", **rule}
        else:
            properties[one.name] = _schema_of_type(hints[one.name], definitions)
        if one.default is attr.NOTHING:
            required.append(one.name)


def _schema_of_type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        kinds = [one for one in arguments if one is not type(None)]
        return {"anyOf": [_schema_of_type(one, definitions) for one in kinds]}
    if origin is list:
        return {"type": "array", "items": _schema_of_type(arguments[0], definitions)}
    if origin is dict:
        return {
            "type": "object",
            "additionalProperties": _schema_of_type(arguments[1], definitions),
        }
    return _schema_of_class(hint, definitions) if inspect.isclass(hint) else {}


def _schema_of_class(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if issubclass(cls, facet_v2.BaseFacet):
        return {"type": "object", "required": ["_producer", "_schemaURL"]}  # each by its own class
    if attr.has(cls):
        if cls.__qualname__ not in definitions:
            _define(cls, definitions)
        return {"$ref": f"#/$defs/{cls.__qualname__}"}
    if issubclass(cls, enum.Enum):
        return {"enum": [one.value for one in cls]}
    plain = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return {"type": plain[cls]} if cls in plain else {}


# --- The schemas themselves -----------------------------------------------------------------------


def published_problems(event: dict[str, Any]) -> list[str]:
    """Return what the schemas of a checkout of OpenLineage find wrong in an event."""
    from referencing import Registry, Resource

    files = [Path(PUBLISHED) / "OpenLineage.json", *Path(PUBLISHED, "facets").glob("*.json")]
    documents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    registry = Registry().with_resources(
        (one["$id"], Resource.from_contents(one)) for one in documents.values()
    )
    # Facets refer to older editions of the main schema, of which a checkout has the newest only.
    main = Resource.from_contents(documents["OpenLineage"])
    for document in documents.values():
        for url in _references(document):
            if url.endswith("/OpenLineage.json"):
                registry = registry.with_resource(url, main)

    def errors(reference: str, document: Any, where: str) -> list[str]:
        checker = jsonschema.Draft202012Validator(
            {"$ref": reference},
            registry=registry,
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )
        return [f"{where}{e.json_path[1:]}: {e.message}" for e in checker.iter_errors(document)]

    found = errors(f"{documents['OpenLineage']['$id']}#/$defs/RunEvent", event, "event")
    for where, facet in _facets(event):
        name = facet["_schemaURL"].rpartition("/")[2]
        found += errors(f"{documents[name]['$id']}#/$defs/{name}", facet, where)
    return found


def _references(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "$ref" and isinstance(value, str):
                yield value.partition("#")[0]
            else:
                yield from _references(value)
    elif isinstance(document, list):
        for value in document:
            yield from _references(value)
