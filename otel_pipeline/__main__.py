"""`python -m otel_pipeline` is the command `otel-pipeline`."""

from __future__ import annotations

import sys

from otel_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
