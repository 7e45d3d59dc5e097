"""Malware, by ClamAV."""

from __future__ import annotations

import shutil
import subprocess

from lehr.config.filters.origin import AntivirusFilter
from lehr.data.document import Document
from lehr.data.verdict import Drop, Filter, Keep
from lehr.runtime.errors import InfraError, UserError

_PROBE = "harmless"


def make(config: AntivirusFilter) -> Filter:
    """Raises UserError where ClamAV is not installed or does not answer, before any document is read."""
    command = _command(config)

    def antivirus(document: Document) -> Keep | Drop:
        return Drop("malware") if _infected(command, document.text, config.timeout_seconds) else Keep()

    return antivirus


def _command(config: AntivirusFilter) -> list[str]:
    """The first of the commands that scans a harmless text."""
    names = ["clamdscan", "clamscan"] if config.command == "auto" else [config.command]
    why = ""
    for name in names:
        if (path := shutil.which(name)) is None:
            why = why or f"{name} is not installed"
            continue
        command = [path, "--no-summary", "--infected"]
        command += [f"--database={config.database}"] if name == "clamscan" and config.database else []
        try:
            _infected([*command, "-"], _PROBE, config.timeout_seconds)
        except InfraError as error:
            why = str(error)
            continue
        return [*command, "-"]
    remedy = "install ClamAV (packages clamav, clamav-daemon) and its database, or remove the filter `antivirus`"
    raise UserError(f"documents cannot be scanned for malware: {why}", remedy=remedy)


def _infected(command: list[str], text: str, seconds: float) -> bool:
    """Raises InfraError if the scanner fails."""
    try:
        done = subprocess.run(command, input=text.encode("utf-8", "replace"), capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfraError(f"the virus scanner does not answer: {error}") from error
    if done.returncode in (0, 1):  # 1: found one
        return done.returncode == 1
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    raise InfraError(f"the virus scanner failed: {said[-1] if said else f'exit {done.returncode}'}")
