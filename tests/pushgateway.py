"""A server that takes pushes as the Pushgateway does, and can be told to misbehave."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Gateway", "Push", "pushgateway", "samples"]

#: Value of each series, by its name and labels as text: `rows_total{kind=a}`.
Samples = dict[str, float]


def samples(text: str) -> Samples:
    """Return the series of a page; it must have each once, and no time stamps."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            series = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert series not in found
            assert sample.timestamp is None
            found[series] = sample.value
    heads = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP ")]
    assert len(heads) == len(set(heads))
    return found


@dataclass(frozen=True)
class Push:
    """One request as it came in."""

    method: str
    path: str
    authorization: str | None
    content_type: str
    text: str

    @property
    def samples(self) -> Samples:
        return samples(self.text)


@dataclass
class Gateway:
    """What a server has received, and how it answers."""

    url: str = ""
    pushes: list[Push] = field(default_factory=list)
    status: int = 200
    answer: bytes = b""
    hang: bool = False
    released: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def pushgateway() -> Iterator[Gateway]:
    """Run a server on a free port of 127.0.0.1."""
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Print nothing."""

        def do_PUT(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            push = Push(
                self.command,
                self.path,
                self.headers["Authorization"],
                self.headers["Content-Type"],
                text,
            )
            gateway.pushes.append(push)
            if gateway.hang:
                gateway.released.wait(60)
                return
            self.send_response(gateway.status)
            self.end_headers()
            self.wfile.write(gateway.answer)

        def do_GET(self) -> None:
            self.send_response(gateway.status)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield gateway
    finally:
        gateway.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
