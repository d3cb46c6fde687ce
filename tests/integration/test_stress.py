"""The sums are exact under load; `python -m tests.stress` does it for longer."""

from __future__ import annotations

import pytest

from tests import stress


@pytest.mark.parametrize("scenario", stress.SCENARIOS)
def test_the_sum_is_exact(scenario: str) -> None:
    """Over threads, pools, workers that are replaced, and processes that are killed."""
    result = stress.run(scenario, 30_000)
    assert result.exact, result
