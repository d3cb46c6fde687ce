"""What holds for every test."""

from __future__ import annotations

import os
from importlib.metadata import version

from hypothesis import HealthCheck, settings

# A developer's own settings must change no test, and no test may send to a developer's collector.
# What concerns the test stack and the browser is for the tests themselves.
OURS = "OTEL_PIPELINE_STACK_"
for name in os.environ.copy():
    if name.startswith(("OTEL_", "OPENLINEAGE_")) and not name.startswith(OURS):
        del os.environ[name]
# No test writes into the home folder; those about the spool or lineage name a place of their own.
os.environ["OTEL_PIPELINE_SPOOL_DIR"] = "off"
os.environ["OTEL_PIPELINE_LINEAGE"] = "off"
os.environ["OPENLINEAGE_DISABLED"] = "true"

# How fast a machine makes examples is no fact about the library, so there is no limit of time.
settings.register_profile(
    "deterministic",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deterministic")

# These compare with the behaviour of prometheus_client 0.26; the library runs with less.
_PROMETHEUS_CLIENT = tuple(map(int, version("prometheus-client").split(".")[:2]))
collect_ignore = ["unit/test_metrics_parity.py"] if _PROMETHEUS_CLIENT < (0, 26) else []
