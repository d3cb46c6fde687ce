"""Write the rules and the routing that `collector/` ships: `python -m scripts.alert_rules`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from otel_pipeline.alerts.files import files
from otel_pipeline.alerts.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

COLLECTOR = Path(__file__).parents[1] / "collector"

#: Where the files of the command stand in the stack, by the beginnings of their paths. Their tests
#: are not needed there.
PLACES = {
    "rules/": "prometheus/rules/",
    "alertmanager.yml": "alertmanager/alertmanager.yml",
    "loki/": "loki/rules/fake/",  # what Loki calls the tenant where there are none
}


def shipped() -> Mapping[Path, str]:
    """Return the texts of the shipped files by their paths."""
    return {
        COLLECTOR / (place + name[len(prefix) :]): text
        for name, text in files(Settings()).items()
        for prefix, place in PLACES.items()
        if name.startswith(prefix)
    }


if __name__ == "__main__":
    for path, text in shipped().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
