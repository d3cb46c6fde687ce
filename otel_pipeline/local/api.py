"""The HTTP API of the local backend, and the files of its page."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Final

from otel_pipeline.errors import CommandError
from otel_pipeline.local.http_server import HttpError, Response, json_response
from otel_pipeline.local.pages import page_file
from otel_pipeline.local.stages import stages_of, trace_as_otlp
from otel_pipeline.local.store import DEFAULT_LIMIT, Question, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_pipeline.local.access import Access
    from otel_pipeline.local.http_server import Request
    from otel_pipeline.local.receiver import Receiver
    from otel_pipeline.local.store import Store

__all__ = ["Api"]

_BEAT: Final = 1.0  # seconds between two looks for what another process stored
_LEAST_GAP: Final = 0.25  # seconds between two events
_QUIET: Final = 15.0  # seconds after which a comment shows that the connection lives


class Api:
    """Answers questions.

    Args:
        store: Knows the answers.
        receiver: Says when something new has come.
        access: Says who may ask.
        stopping: Tells whether the server is about to stop.
    """

    def __init__(
        self, store: Store, receiver: Receiver, access: Access, stopping: Callable[[], bool]
    ) -> None:
        self._store = store
        self._receiver = receiver
        self._access = access
        self._stopping = stopping
        pages = {"runs": store.runs, "traces": store.traces, "logs": store.logs}
        self._pages = {**pages, "metrics": store.metrics}

    def __call__(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            HttpError: It cannot be answered.
        """
        if request.path == "/login":
            self._access.check(request, login=True)
            return self._access.enter(request)
        page = page_file(request.path)
        # The page itself holds no data, and a link to it may stand anywhere.
        self._access.check(request, login=page is not None)
        if request.method not in {"GET", "HEAD"}:
            raise HttpError(405, "use GET", (("Allow", "GET, HEAD"),))
        if page is not None:
            return page
        try:
            return self._found(request)
        except StoreError as error:
            raise HttpError(503, str(error), (("Retry-After", "1"),)) from error
        except CommandError as error:  # a filter
            raise HttpError(400, str(error)) from error

    def _found(self, request: Request) -> Response:
        match request.path.strip("/").split("/"):
            case ["api", "events"]:
                return Response(self._events(), content_type="text/event-stream")
            case ["api", *words]:
                return json_response(self._answer(request, words))
        raise HttpError(404, "there is nothing here: the API is under /api")

    def _answer(self, request: Request, words: list[str]) -> str:
        match words:
            case ["status"]:
                return self._store.status()
            case [name] if name in self._pages:
                return self._pages[name](_question(request))
            case ["traces", trace_id]:
                return self._store.trace(_id(trace_id, 16))
            case ["traces", trace_id, "spans", span_id]:
                return self._store.span(_id(trace_id, 16), _id(span_id, 8))
            case ["traces", trace_id, ("stages" | "otlp") as form]:
                summary = stages_of if form == "stages" else trace_as_otlp
                return json.dumps(summary(self._store, _id(trace_id, 16)))
            case ["metrics", series] if re.fullmatch("[0-9]{1,18}", series):
                return self._store.points(int(series), _question(request))
        raise HttpError(404, f"there is no {request.path[:100]!r}")

    def _events(self) -> Iterator[bytes]:
        """Yield an event when something was stored, with the newest numbers."""
        last: tuple[int, ...] = ()
        spoken = time.monotonic()
        while not self._stopping():
            now = self._store.changes()
            if now != last:
                last, spoken = now, time.monotonic()
                document = dict(zip(("spans", "logs", "points"), now, strict=True))
                yield f"data: {json.dumps(document)}\n\n".encode()
                time.sleep(_LEAST_GAP)
                continue
            if time.monotonic() - spoken > _QUIET:
                spoken = time.monotonic()
                yield b": nothing new\n\n"
            with self._receiver.changed:
                self._receiver.changed.wait(_BEAT)


def _question(request: Request) -> Question:
    known = {"filter", "limit", "before", "after"}
    unknown = sorted(set(request.query) - known)
    if unknown:
        raise HttpError(400, f"{unknown[0][:40]!r} is no parameter: {', '.join(sorted(known))}")
    after = _whole(request, "after")
    return Question(
        request.query.get("filter", ""),
        _whole(request, "limit") or DEFAULT_LIMIT,
        request.query.get("before", ""),
        after,
    )


def _whole(request: Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise HttpError(400, f"{name}={text[:40]!r} is no whole number")
    return int(text)


def _id(text: str, size: int) -> bytes:
    if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", text):
        raise HttpError(400, f"{text[:40]!r} is no id: it has {2 * size} hexadecimal digits")
    return bytes.fromhex(text)
