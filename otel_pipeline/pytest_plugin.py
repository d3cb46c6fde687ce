"""The pytest plugin: the fixture `otel_capture`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_pipeline.testing import Capture


@pytest.fixture
def otel_capture() -> Iterator[Capture]:
    """Capture spans, metrics and log lines of one test in memory; see `otel_pipeline.testing`."""
    from otel_pipeline.testing import capture  # noqa: PLC0415  loads the SDK for tests that use it

    with capture() as captured:
        yield captured
