"""What outlives a short job: its last page of metrics, in a file or in a Pushgateway.

```text
flush, close, shutdown ─► LastValues ─ wishes ─► its thread: page ─► Textfile or Pushgateway
```

Both also as functions, with prometheus_client's names: `write_to_textfile` and `push_to_gateway`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.error import HTTPError, URLError

import prometheus_client
from prometheus_client.exposition import default_handler, generate_latest

from otel_pipeline.config import take_credentials
from otel_pipeline.diagnostics import say
from otel_pipeline.metrics.registry import Registry
from otel_pipeline.sdk.metrics_server import default_exposition
from otel_pipeline.sdk.prometheus import Exposition
from otel_pipeline.sdk.transport import suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.registry import CollectorRegistry

    from otel_pipeline.config import Config, PushgatewayConfig

__all__ = [
    "Destination",
    "LastValues",
    "Pushgateway",
    "Textfile",
    "exporters",
    "push_to_gateway",
    "write_to_textfile",
]

#: Seconds beyond the shutdown timeout that a file may take to be written.
_WRITING: Final = 0.05
#: Shortest time-out of a push, in seconds: 0 would mean something else to a socket.
_SHORTEST: Final = 0.001
#: Why something that hangs did not work.
_TOO_LATE: Final = "no answer in time"
#: Bytes of a Pushgateway's answer that are shown when it refuses.
_MOST_SHOWN: Final = 300


class Destination(Protocol):
    """Where the last values go.

    Attributes:
        at_flush: Whether they go there at each flush, or at the end only.
        grace: Seconds beyond the deadline that it may take.
    """

    at_flush: bool
    grace: float

    def put(self, page: bytes, timeout: float) -> None:
        """Put the page there; whatever is raised says why it did not work."""

    def problem(self) -> str:
        """Return what would keep it from working now, or an empty string."""

    def complaint(self, reason: str) -> str:
        """Return what to tell the operator: what is lost, and what to do."""


class LastValues:
    """Puts the page of metrics where it outlives the process; an exporter of the runtime.

    The page is made and put there by a daemon thread: a callback of a gauge, a disk or a server
    that hangs costs the time that the caller gave, and is left behind. A forked child puts nothing.

    At the end the page goes out twice: at once, while other exporters send what they have, and
    when they are done if it has changed, since it also says what became of their items.

    Args:
        destination: Where the page goes.
        render: Makes the page.
    """

    def __init__(self, destination: Destination, render: Callable[[], bytes]) -> None:
        self._destination = destination
        self._render = render
        self._process = os.getpid()
        self._wishes: SimpleQueue[_Wish | None] = SimpleQueue()
        self._asked: _Wish | None = None
        self._first: _Wish | None = None
        self._there: bytes | None = None  # the page that was put there last
        self._complained = False
        problem = destination.problem()
        if problem:
            self._complain(problem)
        threading.Thread(target=self._run, name="otel-pipeline-last-values", daemon=True).start()

    @property
    def away(self) -> bool:
        """Whether nothing answered the last attempt: each attempt is a new one."""
        return False

    def flush(self, timeout: float) -> bool:
        """Put the page there now, if the destination wants it at each flush.

        Args:
            timeout: Seconds to wait at most; with 0, only begin to.

        Returns:
            True if it is there.
        """
        if not self._destination.at_flush or not self._is_mine():
            return True
        deadline = time.monotonic() + timeout
        if not timeout:
            self._asked = self._ask(deadline)
            return False
        asked, self._asked = self._asked or self._ask(deadline), None
        reason = _answer(asked, deadline)
        if reason:
            self._complain(reason)
        return reason == ""

    def close(self, timeout: float) -> None:
        """Begin to put the page there, and return at once.

        Args:
            timeout: Seconds until the end.
        """
        if self._first is None and self._is_mine():
            self._first = self._ask(time.monotonic() + timeout)

    def shutdown(self, timeout: float) -> None:
        """Put the last page there and end; what hangs is left behind.

        Args:
            timeout: Seconds that this may take, counted from an earlier `close` if there was one.
        """
        self.close(timeout)
        first, grace = self._first, self._destination.grace
        if first is None or not self._is_mine():
            return
        reason = _answer(first, first.deadline + grace)
        if reason is not None:
            again = self._ask(first.deadline, only_if_changed=True)
            until = max(first.deadline, time.monotonic()) + grace
            answer = _answer(again, until)
            reason = reason if answer is None else answer
        self._wishes.put(None)
        if reason is None:
            reason = _TOO_LATE
        if reason:
            self._complain(reason)

    def _is_mine(self) -> bool:
        return self._process == os.getpid()

    def _ask(self, deadline: float, *, only_if_changed: bool = False) -> _Wish:
        wish = _Wish(deadline, only_if_changed, SimpleQueue())
        self._wishes.put(wish)
        return wish

    def _run(self) -> None:
        with suppressed():
            while (wish := self._wishes.get()) is not None:
                wish.answer.put(self._fulfil(wish))

    def _fulfil(self, wish: _Wish) -> str:
        """Put the page there; return why it did not work, or an empty string."""
        try:
            page = self._render()
            if wish.only_if_changed and page == self._there:
                return ""
            self._there = None
            self._destination.put(page, max(wish.deadline - time.monotonic(), _SHORTEST))
            self._there = page
        except Exception as error:  # noqa: BLE001  the thread never dies
            return _reason(error)
        return ""

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            say("%s", self._destination.complaint(reason))


class _Wish(NamedTuple):
    """Somebody wants the page out by a deadline; the answer is why it is not, or empty."""

    deadline: float
    only_if_changed: bool
    answer: SimpleQueue[str]


def _answer(wish: _Wish, until: float) -> str | None:
    """Return the answer to a wish, or None if there is none in time."""
    try:
        return wish.answer.get(timeout=max(until - time.monotonic(), 0))
    except Empty:
        return None


def _reason(error: Exception) -> str:
    """Return why something failed, in the words of who knows."""
    if isinstance(error, HTTPError):
        with contextlib.suppress(Exception), error:
            said = " ".join(error.read(_MOST_SHOWN).decode(errors="replace").split())
            return f"{error.code} {error.reason}: {said}".rstrip(": ")
        return f"{error.code} {error.reason}"
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    if isinstance(error, TimeoutError):
        return _TOO_LATE
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


class Textfile:
    """A file for node_exporter's textfile collector, replaced as a whole.

    Args:
        path: Its whole path.
    """

    at_flush = True
    grace = _WRITING

    def __init__(self, path: str) -> None:
        self._path = path

    def put(self, page: bytes, timeout: float) -> None:  # noqa: ARG002  a disk knows no time-out
        """Replace the file."""
        _replace(self._path, page)

    def problem(self) -> str:
        """Return what is wrong with the folder, or an empty string."""
        folder = os.path.dirname(self._path)  # noqa: PTH120  paths stay text
        if not os.path.isdir(folder):  # noqa: PTH112
            return f"there is no folder {folder}"
        if os.path.isdir(self._path):  # noqa: PTH112
            return "it is a folder"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"the folder {folder} cannot be written to"
        return ""

    def complaint(self, reason: str) -> str:
        """Return what to tell the operator."""
        return (
            f"metrics cannot be written to {self._path} ({reason}): node_exporter shows nothing "
            f"new of this program. Create the folder, make it writable, or correct "
            f"OTEL_PIPELINE_TEXTFILE."
        )


class Pushgateway:
    """A group of metrics in a Pushgateway, replaced as a whole.

    Args:
        settings: Where it is, and the grouping key.
    """

    at_flush = False
    grace = 0.0

    def __init__(self, settings: PushgatewayConfig) -> None:
        self._settings = settings

    def put(self, page: bytes, timeout: float) -> None:
        """Replace the group."""
        grouping = dict(self._settings.grouping)
        job = grouping.pop("job")
        _push(page, self._settings.url, job, grouping, timeout, headers=self._settings.headers)

    def problem(self) -> str:
        """Return nothing: the Pushgateway may come up while the program works."""
        return ""

    def complaint(self, reason: str) -> str:
        """Return what to tell the operator."""
        remedy = "Start a Pushgateway there, correct OTEL_PIPELINE_PUSHGATEWAY, or unset it."
        if reason.startswith(("401", "403")):
            remedy = "Correct the credentials: OTEL_PIPELINE_PUSHGATEWAY=http://USER:PASSWORD@HOST"
        elif reason.startswith("400"):
            remedy = (
                "No label of OTEL_PIPELINE_PUSHGATEWAY_GROUPING may be one that a metric has, "
                "and metrics of one name must have one type in all that is pushed."
            )
        return (
            f"metrics could not be pushed to {self._settings.url} ({reason}): the last values of "
            f"this program are not there. {remedy}"
        )


def exporters(config: Config) -> Iterator[LastValues]:
    """Yield an exporter for each place where the last values are to stay.

    Args:
        config: The configuration.
    """
    if config.textfile is not None:
        yield LastValues(Textfile(config.textfile), _page)
    if config.pushgateway is not None:
        yield LastValues(Pushgateway(config.pushgateway), _page)


def _page(registry: Registry | CollectorRegistry | None = None) -> bytes:
    """Return a registry in text format 0.0.4; all metrics of the program if it is None."""
    if registry is None:
        return default_exposition().render()[0]
    if isinstance(registry, Registry):
        return Exposition(registry.collect).render()[0]
    return generate_latest(registry)


def _replace(path: str, page: bytes) -> None:
    """Put a file in the place of another in one step; readers see either the old or the new."""
    name = f".otel-pipeline-{os.getpid()}-{threading.get_ident()}.tmp"
    temporary = os.path.join(os.path.dirname(path), name)  # noqa: PTH118, PTH120
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # noqa: PTH108  of a process that was killed
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123
            file.write(page)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise


def _push(
    page: bytes,
    gateway: str,
    job: str,
    grouping_key: Mapping[str, Any] | None,
    timeout: float | None,
    *,
    handler: Callable[..., Callable[[], None]] = default_handler,
    headers: Mapping[str, str],
) -> None:
    """Have prometheus_client push, but our page: it is a good one whatever names it holds."""

    def send(**request: Any) -> Callable[[], None]:
        request["headers"] = [*request["headers"], *headers.items()]
        return handler(**{**request, "data": page})

    nothing = prometheus_client.CollectorRegistry()
    prometheus_client.push_to_gateway(
        gateway, job, nothing, dict(grouping_key or {}), timeout, send
    )


def write_to_textfile(
    path: str | os.PathLike[str], registry: Registry | CollectorRegistry | None = None
) -> None:
    """Write metrics to a file in Prometheus's text format, as prometheus_client's function does.

    The file is replaced in one step. It needs no `configure()`; with
    `OTEL_PIPELINE_TEXTFILE=/path/orders.prom` it is written whenever a run or the program ends.

    Args:
        path: The file; node_exporter's textfile collector reads those that end in `.prom`.
        registry: What to write: a `Registry`, or prometheus_client's `CollectorRegistry`; by
            default every metric of the program.

    Raises:
        OSError: The file cannot be written; an old one is left as it was.

    Example:
        >>> import pathlib, tempfile
        >>> from otel_pipeline import Counter, write_to_textfile
        >>> Counter("textfile_rows", "Rows").inc(3)
        >>> path = pathlib.Path(tempfile.mkdtemp(), "orders.prom")
        >>> write_to_textfile(path)
        >>> "textfile_rows_total 3.0" in path.read_text().splitlines()
        True
    """
    _replace(os.fspath(path), _page(registry))


def push_to_gateway(  # noqa: PLR0917  prometheus_client's signature
    gateway: str,
    job: str,
    registry: Registry | CollectorRegistry | None = None,
    grouping_key: Mapping[str, Any] | None = None,
    timeout: float | None = 30,
    handler: Callable[..., Callable[[], None]] = default_handler,
) -> None:
    """Push metrics to a Pushgateway, as prometheus_client's function of that name does.

    All metrics of the same job and grouping key are replaced (the method is PUT). It needs no
    `configure()`; with `OTEL_PIPELINE_PUSHGATEWAY` it is done when the program ends.

    Args:
        gateway: Its URL, or `host:port`. Credentials in it (`http://user:password@host`) are sent
            as basic authentication.
        job: The label `job`.
        registry: What to push: a `Registry`, or prometheus_client's `CollectorRegistry`; by
            default every metric of the program.
        grouping_key: The other labels of the group.
        timeout: Seconds that each step of the request may take; None for any.
        handler: Makes what sends the request, as for prometheus_client.

    Raises:
        OSError: The Pushgateway does not answer, or refuses.

    Example:
        >>> from otel_pipeline import Counter, push_to_gateway
        >>> Counter("pushed_rows", "Rows").inc(3)
        >>> def show(url, method, timeout, headers, data):
        ...     return lambda: print(method, url, b"pushed_rows_total 3.0" in data)
        >>> push_to_gateway("gateway:9091", "orders", grouping_key={"instance": "a"}, handler=show)
        PUT http://gateway:9091/metrics/job/orders/instance/a True
    """
    url, headers = take_credentials(gateway)
    _push(_page(registry), url, job, grouping_key, timeout, handler=handler, headers=headers)
