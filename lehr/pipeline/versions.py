"""`python -m lehr.pipeline.versions`: the code versions of all stages, worked out and kept (lehr.artifacts.version_cache). The
image has it done when it is built: its pods could not write them down."""

from __future__ import annotations

from lehr.artifacts.fingerprint import code_version
from lehr.pipeline.registry import STAGES


def versions() -> dict[str, str]:
    """Kind of stage -> its code version, of all kinds that do work."""
    return {kind: code_version(spec.run) for kind, spec in STAGES.items() if spec.run}


if __name__ == "__main__":
    for kind, version in versions().items():
        print(f"{version}  {kind}")
