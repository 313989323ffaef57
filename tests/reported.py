"""What a finished project says of its networks."""

import json
from pathlib import Path


def metrics_of(project: Path, kind: str) -> dict[str, dict[str, float]]:
    """{name: metrics} of its "students" or "teachers"."""
    return {file.stem: json.loads(file.read_text()) for file in (project / "data/report/metrics" / kind).glob("*.json")}
