"""The local backend takes anything that is sent to it: nothing crashes, nothing grows."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_pipeline.local.filters import FilterError
from otel_pipeline.local.otlp_json import from_json, to_json
from otel_pipeline.local.receiver import Receiver
from otel_pipeline.local.sqlite import SqliteStore
from otel_pipeline.local.store import Added, Question
from otel_pipeline.local.wire import BadRequestError, TooLargeError
from tests.local_data import counter, histogram, log, logs, metrics, span, spans

#: Ten thousand with OTEL_PIPELINE_STACK_MUTATIONS=10000; fewer by default, as it takes minutes.
EXAMPLES = int(os.environ.get("OTEL_PIPELINE_STACK_MUTATIONS", "300"))
GOOD = {
    "traces": spans(
        span(1, 1, text="a", pipeline__name="p", pipeline__run__id="r", pipeline__mode="batch"),
        span(1, 2, parent=1, whole=2, real=0.5),
    ),
    "metrics": metrics(counter("c", 2.0, trace=1, a="b"), histogram("h", [1, 2], a="b")),
    "logs": logs(log("line", trace=1, span=1, a="b"), log("alone")),
}
SIGNALS = st.sampled_from(sorted(GOOD))
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=30)

_store = SqliteStore(None)
_receiver = Receiver(_store)


def ask_everything(store: SqliteStore) -> None:
    """Each answer is JSON, and each export can be read."""
    question = Question(limit=20)
    for answer in (store.runs(question), store.traces(question), store.logs(question)):
        json.loads(answer)
    for one in json.loads(store.metrics(question))["items"]:
        json.loads(store.points(one["series"], question))
    for one in json.loads(store.traces(Question("age>0s", 20)))["items"]:
        ids = [bytes.fromhex(one[key]) for key in ("trace_id", "span_id")]
        json.loads(store.trace(ids[0]))
        assert len(json.loads(store.span(ids[0], ids[1]))["items"]) == 1


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes, bool]:
    """Return a signal and a request in protobuf or JSON with some bytes changed."""
    signal = draw(SIGNALS)
    is_json = draw(st.booleans())
    body = bytearray(
        json.dumps(to_json(signal, GOOD[signal])).encode() if is_json else GOOD[signal]
    )
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["flip", "insert", "delete", "repeat"])):
            case "flip" if at < len(body):
                body[at] = draw(st.integers(0, 255))
            case "insert":
                body[at:at] = draw(st.binary(max_size=8))
            case "delete":
                del body[at : at + draw(st.integers(1, 20))]
            case _:
                body[at:at] = body[at : at + draw(st.integers(1, 200))]
    return signal, bytes(body), is_json


@settings(max_examples=EXAMPLES)
@given(mutated())
def test_a_damaged_request_is_stored_or_refused(request: tuple[str, bytes, bool]) -> None:
    """Whatever is changed in a request, it is stored in part or refused, and all can be read."""
    signal, body, is_json = request
    try:
        added = _receiver.receive(signal, body, json=is_json)
    except (BadRequestError, TooLargeError) as error:
        added = Added(0, 1, str(error))
    assert bool(added.rejected) == bool(added.reason)
    ask_everything(_store)


@given(SIGNALS, st.binary(max_size=300), st.sampled_from(["gzip", "deflate", "br", ""]))
def test_any_bytes_are_stored_or_refused(signal: str, body: bytes, encoding: str) -> None:
    """Random bytes, compressed or not, do no harm."""
    for sent in (body, gzip.compress(body)):
        for is_json in (False, True):
            with contextlib.suppress(BadRequestError, TooLargeError):
                _receiver.receive(signal, sent, json=is_json, encoding=encoding)
    ask_everything(_store)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_name_comes_back_as_it_was_sent(name: str, service: str, key: str, value: str) -> None:
    """Names, keys and values may be any text: quotes, SQL, NUL, right-to-left."""
    with SqliteStore(None) as store:
        run: dict[str, Any] = {
            "pipeline__name": name,
            "pipeline__run__id": value,
            "pipeline__mode": "batch",
        }
        item = {**span(1, 1, name=name, **run)}
        item["attributes"][key] = value
        store.add("traces", spans(item, service=service))
        line = {**log(value), "attributes": {key: value}}
        store.add("logs", logs(line, service=service))
        (root,) = json.loads(store.traces(Question()))["items"]
        (run_found,) = json.loads(store.runs(Question()))["items"]
        (whole,) = json.loads(store.span((1).to_bytes(16, "big"), (1).to_bytes(8, "big")))["items"]
        (log_found,) = json.loads(store.logs(Question()))["items"]
        (request,) = store.export("traces")
        assert (root["name"], root["service"]) == (name, service)
        assert (run_found["pipeline"], run_found["run_id"]) == (
            name,
            item["attributes"]["pipeline.run.id"],
        )
        assert whole["attributes"] == item["attributes"]
        assert (log_found["body"], log_found["attributes"]) == (value, {key: value})
        assert from_json("traces", json.dumps(to_json("traces", request)).encode()) == request


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(ANY_TEXT, st.sampled_from(["service", "name", "attr.k", "pipeline"]))
def test_any_value_is_found_by_a_filter(value: str, field: str) -> None:
    """A span is found by the exact value that it has, whatever that is, and not by another."""
    attributes: dict[str, Any] = {}
    if field == "attr.k":
        attributes["k"] = value
    if field == "pipeline":
        attributes["pipeline__name"] = value
    with SqliteStore(None) as store:
        item = span(1, 1, name=value if field == "name" else "n", **attributes)
        store.add("traces", spans(item, service=value if field == "service" else "s"))
        answers = [
            len(json.loads(store.traces(Question(f"{field}:{quoted(one)}")))["items"])
            for one in (value, value + "x")
        ]
    assert answers == [1, 0]


@given(ANY_TEXT)
def test_any_filter_is_understood_or_refused(text: str) -> None:
    """A filter never fails otherwise than by saying what is wrong, for each kind of list."""
    for ask in (_store.runs, _store.traces, _store.logs, _store.metrics):
        with contextlib.suppress(FilterError):
            json.loads(ask(Question(text)))


BOMBS = {
    # What takes least on the wire and most in memory, at each level.
    "resources": lambda size: b"\x0a\x00" * (size // 2),
    "scopes": lambda size: _field(1, b"\x12\x00" * (size // 2)),
    "items": lambda size: _field(1, _field(2, b"\x12\x00" * (size // 2))),
    "attributes": lambda size: _field(1, _field(2, _field(2, b"\x4a\x00" * (size // 2)))),
    "attributes of many": lambda size: _field(
        1, _field(2, _field(2, b"\x4a\x00" * 400_000) * (size // 810_000))
    ),
    "events": lambda size: _field(
        1, _field(2, _field(2, b"\x5a\x00" * 500_000) * (size // 1_010_000))
    ),
    "attributes of a resource": lambda size: _field(1, _field(1, b"\x0a\x00" * (size // 2))),
    "points": lambda size: _field(
        1, _field(2, _field(2, b"\x0a\x01x" + _field(10, b"\x0a\x00" * (size // 2))))
    ),
}
MEASURE = """
import sys
from otel_pipeline.local.sqlite import SqliteStore
from otel_pipeline.local.receiver import Receiver
from otel_pipeline.local.wire import BadRequestError, TooLargeError
from otel_pipeline.local import otlp_grpc
is_json, signal = sys.argv[1] == "json", sys.argv[2]
body = sys.stdin.buffer.read()
with SqliteStore(None) as store:
    try:
        print(Receiver(store).receive(signal, body, json=is_json))
    except (BadRequestError, TooLargeError) as error:
        print(error)
with open("/proc/self/status") as status:  # ru_maxrss is at least what the parent process had
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""


def _field(number: int, content: bytes) -> bytes:
    size, length = [], len(content)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + content


def peak(kind: str, signal: str, body: bytes) -> int:
    """Return the megabytes that a process needs at most to take a request."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, signal], input=body, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout.split()[-1])


@pytest.mark.parametrize("name", BOMBS)
def test_a_large_request_of_nothing_takes_little_memory(name: str) -> None:
    """Eight megabytes of empty messages, at any level, are taken or refused under 400 MB."""
    signal = "metrics" if name == "points" else "traces"
    assert peak("protobuf", signal, BOMBS[name](8 * 2**20 - 64)) < 400


@pytest.mark.parametrize(
    "document",
    ['{"resourceSpans":[%s]}', '{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}', '{"x":[%s]}'],
)
def test_a_large_json_request_of_nothing_takes_little_memory(document: str) -> None:
    """Four megabytes of empty objects are taken or refused under 400 MB."""
    body = (document % ",".join(["{}"] * ((4 * 2**20 - 100) // 3))).encode()
    assert peak("json", "traces", body) < 400
