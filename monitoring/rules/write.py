"""Writes the chart's rules: `python -m lehr.monitoring.rules.write` (make chart). With --check nothing is written, and the exit
code is 1 if a file would change."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lehr.monitoring.rules import fleet, gpu, megatron, serving, training
from lehr.monitoring.rules.inhibition import configuration
from lehr.monitoring.rules.recording import recordings
from lehr.monitoring.rules.rule import group

FILES = Path(__file__).resolve().parents[2] / "helm" / "lehr" / "files"
HEAD = "# Written by `make chart` from monitoring/rules/: change it there.\n"


def documents() -> dict[str, Any]:
    """The content of each file, by its path below the chart's `files`."""
    return {
        "rules/runs.yaml": {"groups": [group("lehr-recordings", recordings()), group("lehr-training", training.alerts())]},
        "rules/fleet.yaml": {"groups": [group("lehr-fleet", fleet.alerts())]},
        "rules/serving.yaml": {
            "groups": [group("lehr-serving-recordings", serving.recordings()), group("lehr-serving", serving.alerts())]
        },
        "rules/gpu.yaml": {"groups": [group("lehr-gpus", gpu.recordings())]},
        "rules/optional/megatron.yaml": {"groups": [group("lehr-megatron", megatron.recordings())]},
        "alertmanager/alertmanager.yaml": configuration(),
    }


def texts() -> dict[Path, str]:
    """The text of each file."""
    return {FILES / name: HEAD + yaml.safe_dump(content, sort_keys=False, width=120) for name, content in documents().items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the chart's rules.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    check = parser.parse_args(arguments).check
    changed = {path: text for path, text in texts().items() if not path.exists() or path.read_text(encoding="utf-8") != text}
    for path, text in changed.items():
        print(f"{path.relative_to(FILES.parents[2])}: {'would change' if check else 'written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
