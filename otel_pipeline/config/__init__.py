"""Configuration: every option declared once, read from arguments, environment or file.

`load()` gives a frozen `Config`; nothing else in the library looks at the environment.
"""

from __future__ import annotations

from otel_pipeline.config._load import Examined, examine, load
from otel_pipeline.config._model import (
    BatchConfig,
    Config,
    OtlpConfig,
    PushgatewayConfig,
    Setting,
    SignalConfig,
)
from otel_pipeline.config._options import OPTIONS, Option
from otel_pipeline.config._parse import parse_duration, take_credentials
from otel_pipeline.config._rows import Row, rows
from otel_pipeline.config._state import state_folder

__all__ = [
    "OPTIONS",
    "BatchConfig",
    "Config",
    "Examined",
    "Option",
    "OtlpConfig",
    "PushgatewayConfig",
    "Row",
    "Setting",
    "SignalConfig",
    "examine",
    "load",
    "parse_duration",
    "rows",
    "state_folder",
    "take_credentials",
]
