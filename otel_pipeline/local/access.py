"""Who may talk to the local backend.

It listens on this machine alone, and anybody on it may ask. A web page from elsewhere may not: a
browser names that page's host (DNS rebinding) or its origin, and both are refused. On any other
address a token is needed.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import threading
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otel_pipeline.errors import CommandError
from otel_pipeline.local.http_server import HttpError, Response

if TYPE_CHECKING:
    from otel_pipeline.local.http_server import Request

__all__ = ["Access"]

_COOKIE: Final = "otel-pipeline-session"
_SHORTEST_TOKEN: Final = 16


@dataclass(slots=True)
class Access:
    """Checks requests.

    Args:
        host: The address that is listened on.
        token: What senders and readers show; needed for any address but a loopback one.

    Raises:
        CommandError: There is no token and the address is not a loopback one, or it is too short.

    >>> Access("127.0.0.1").token
    ''
    """

    host: str
    token: str = ""
    _once: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            raise CommandError(
                f"{self.host} can be reached from other machines, so a token is needed: set"
                " OTEL_PIPELINE_LOCAL_TOKEN, or give --token"
            )
        if self.token and len(self.token) < _SHORTEST_TOKEN:
            raise CommandError(f"the token is too short: it has at least {_SHORTEST_TOKEN} letters")

    @property
    def login(self) -> str:
        """Path and query of the link that opens the page, once."""
        return f"/login?once={self._once}" if self.token else "/"

    def check(self, request: Request, *, login: bool = False) -> None:
        """Refuse a request that may not be answered.

        Raises:
            HttpError: It is for another host (421), from a page elsewhere (403), or has no valid
                token (401).
        """
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            raise HttpError(421, f"this is not {host[:100]!r}: ask for localhost or the address")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            raise HttpError(403, "pages from elsewhere may not ask")
        if request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"} and not (
            login and request.headers.get("sec-fetch-mode") == "navigate"
        ):
            raise HttpError(403, "pages from elsewhere may not ask")
        if self.token and not login and not self._is_known(request):
            raise HttpError(
                401,
                "a token is needed: send `Authorization: Bearer TOKEN`, or open the link that"
                " `otel-pipeline ui` printed",
                (("WWW-Authenticate", "Bearer"),),
            )

    def allows(self, authorization: str) -> bool:
        """Tell whether an Authorization header is good enough."""
        if not self.token:
            return True
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and _same(token.strip(), self.token)

    def enter(self, request: Request) -> Response:
        """Answer the login link: it works once, and leaves a cookie.

        Raises:
            HttpError: It was used before, or is wrong.
        """
        with self._lock:
            right = self.token and _same(request.query.get("once", ""), self._once)
            if right:
                self._once = secrets.token_urlsafe(24)
        if not right:
            raise HttpError(403, "this link was used before: start `otel-pipeline ui` again")
        cookie = f"{_COOKIE}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        return Response(b"", 303, "text/plain", (("Location", "/"), ("Set-Cookie", cookie)))

    def _is_known(self, request: Request) -> bool:
        if self.allows(request.headers.get("authorization", "")):
            return True
        try:
            cookie = SimpleCookie(request.headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._session)

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if is_loopback(name) or name == self.host.lower():
            return True
        if is_loopback(self.host):
            return False
        # Listening on all addresses: any of them is right, and so is the machine's own name.
        return _is_address(name) or name == socket.gethostname().lower()


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine alone.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.com")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
