"""The part of Prometheus' HTTP API that a look into the past needs."""

from __future__ import annotations

import base64
import http.client
import json
import math
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otel_pipeline.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Labels = tuple[tuple[str, str], ...]

__all__ = ["Prometheus", "Series"]

#: Prometheus answers with 11,000 points for each series at most.
_MOST_POINTS: Final = 10_000
_SECONDS_FOR_AN_ANSWER: Final = 120.0
_UNAUTHORIZED: Final = (401, 403)
_ACCESS_REMEDY: Final = (
    "; --token-file or --token-variable says where the bearer token is, and a user and password "
    "may stand in the URL"
)


@dataclass(frozen=True, slots=True)
class Series:
    """The times at which an expression had a value, by its labels, without the metric's name."""

    labels: Labels
    times: tuple[float, ...]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token goes to the address that was named, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Prometheus:
    """A server with Prometheus' HTTP API.

    Args:
        url: Its address, with the path before `/api/v1`, if there is one.
        token: A bearer token.
        ca_file: Certificates to trust, instead of the system's.

    Raises:
        CommandError: The address or the file cannot be used.
    """

    def __init__(self, url: str, *, token: str = "", ca_file: str = "") -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandError(
                f"--url {url!r} is no address of Prometheus; write it as http://localhost:9090"
            )
        host = parts.netloc.rpartition("@")[2]
        self.url = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif parts.username:
            user, password = (
                urllib.parse.unquote(p or "") for p in (parts.username, parts.password)
            )
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if parts.scheme == "https":
            try:
                context = ssl.create_default_context(cafile=ca_file or None)
            except OSError as error:  # also of what is no certificate
                raise CommandError(f"--ca-file {ca_file} cannot be used: {error}") from error
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Evaluate an expression at `start`, and each `step` seconds up to `end`.

        Args:
            expression: PromQL.
            start: Unix time of the first evaluation.
            end: Unix time up to which it is evaluated.
            step: Seconds between two evaluations.

        Returns:
            The series that had a value at any time.

        Raises:
            CommandError: The server cannot be reached, or refuses.
        """
        found: dict[Labels, set[float]] = {}
        for first, last in _chunks(start, end, step):
            data = self._ask(
                "query_range",
                {"query": expression, "start": first, "end": last, "step": f"{step:.3f}"},
            )
            for one in data["result"]:
                labels = tuple(sorted((k, v) for k, v in one["metric"].items() if k != "__name__"))
                points = one.get("values", []) + one.get("histograms", [])
                found.setdefault(labels, set()).update(float(point[0]) for point in points)
        return [Series(labels, tuple(sorted(times))) for labels, times in sorted(found.items())]

    def has(self, metric: str, start: float, end: float) -> bool:
        """Return whether there are samples of a metric within a time.

        Raises:
            CommandError: The server cannot be reached, or refuses.
        """
        selector = f"{{__name__={json.dumps(metric, ensure_ascii=False)}}}"
        limits = {"start": f"{start:.3f}", "end": f"{end:.3f}", "limit": "1"}
        return bool(self._ask("series", {"match[]": selector, **limits}))

    def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:
        address = f"{self.url}/api/v1/{what}"
        body = urllib.parse.urlencode(parameters).encode()
        request = urllib.request.Request(address, body, self._headers)  # noqa: S310 - see __init__
        try:
            with self._opener.open(request, timeout=_SECONDS_FOR_AN_ANSWER) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise CommandError(self._refusal(error)) from None
        except urllib.error.URLError as error:
            raise CommandError(self._unreachable(error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(self._unreachable(error)) from None
        except ValueError:
            raise CommandError(
                f"{self.url} does not answer as Prometheus does; is it the address of something "
                f"else, or does a path such as /prometheus belong to it?"
            ) from None
        if not isinstance(answer, dict) or "data" not in answer:
            raise CommandError(f"{self.url} does not answer as Prometheus does")
        return answer["data"]

    def _unreachable(self, reason: object) -> str:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {self.url} is not trusted: {reason.verify_message}; --ca-file "
                f"names the certificates that you trust"
            )
        return f"{self.url} cannot be reached: {reason}; does Prometheus run there?"

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        try:
            said = json.loads(error.read())["error"]
        except (ValueError, KeyError, TypeError):
            said = error.reason
        message = f"{self.url} answers {error.code}: {said}"
        if error.code in _UNAUTHORIZED:
            return message + _ACCESS_REMEDY
        if location := error.headers.get("Location", ""):
            return f"{message}; it sends you to {location}: give that address to --url"
        if error.code == http.client.NOT_FOUND:
            return f"{message}; does a path such as /prometheus belong to the address?"
        return message


def _chunks(start: float, end: float, step: float) -> Iterator[tuple[str, str]]:
    """Yield times from and to which there are no more points than Prometheus gives at once."""
    count = math.floor((end - start) / step + 1e-9) + 1
    for first in range(0, count, _MOST_POINTS):
        last = min(first + _MOST_POINTS, count) - 1
        yield f"{start + first * step:.3f}", f"{start + last * step:.3f}"
