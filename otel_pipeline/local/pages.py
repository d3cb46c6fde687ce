"""The files of the web page, as they are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_pipeline.local.http_server import Response

__all__ = ["page_file"]

_FOLDER: Final = Path(__file__).with_name("page")
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Only these files are run and shown, text cannot become markup (trusted types), and no other site
# may frame the page.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),  # a page of another version would not fit the API
)


def page_file(path: str) -> Response | None:
    """Return a file of the page; None where there is none.

    >>> page_file("/").content_type, page_file("/page/../pages.py")
    ('text/html; charset=utf-8', None)
    """
    file = _FILES.get("/page/index.html" if path == "/" else path)
    if file is None:
        return None
    return Response(file.read_bytes(), content_type=_TYPES[file.suffix], headers=_HEADERS)


_FILES: Final = {
    f"/page/{file.relative_to(_FOLDER).as_posix()}": file
    for file in _FOLDER.rglob("*")
    if file.suffix in _TYPES
}
