"""The git checkout that this Lehr runs from, if any."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import lehr

_SECONDS = 10.0  # this git command uses no network, but the folder may be on a network file system that hangs


def commit() -> str:
    """The checkout's full commit hash, or "" if Lehr was installed from a wheel or git is absent."""
    folder = Path(lehr.__file__).resolve().parent.parent
    if not (folder / ".git").exists() or shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
