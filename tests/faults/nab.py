"""`python -m tests.faults.nab FOLDER`: the detector on series of the Numenta benchmark.

FOLDER has `data/`, `windows.json` and `score.py`, which is called with the scores.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from otel_pipeline.quality import anomaly_scores


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as out:
        for name in json.loads((folder / "windows.json").read_text(encoding="utf-8")):
            with (folder / "data" / name).open(encoding="utf-8") as text:
                rows = list(csv.DictReader(text))
            times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
            scores = anomaly_scores(times, [float(row["value"]) for row in rows])
            target = Path(out) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("w", encoding="utf-8") as text:
                text.write("score\n" + "\n".join(map(repr, scores)) + "\n")
        subprocess.run([sys.executable, str(folder / "score.py"), out], check=True)


if __name__ == "__main__":
    main()
