"""The preflight's probes that need no GPU to themselves, on this machine: clock, temporary folder, what the driver says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from lehr.infra.fleet.views import Outcome
from lehr.infra.pod.probes import devices, host
from lehr.infra.pod.probes.result import CheckFailed
from lehr.runtime.findings import Finding, fail, ok, warn

_NTP = "let NTP set it (chrony, or `timedatectl set-ntp true`)"
_REMEDIES = {
    "ClockWrong": _NTP,
    "ClockJumps": _NTP,
    "DiskNotWritable": "set TMPDIR to a folder that you may write",
    "DiskFull": "free some space, or set TMPDIR to another folder",
    "DiskError": "the disk fails: save what is on it and replace it",
    "DiskMismatch": "the disk fails: save what is on it and replace it",
    "RowRemapPending": "reset the GPU, or start the machine again",
    "ClocksSlowed": "look at cooling and power supply",
    "NVMLMissing": "install nvidia-ml-py: pip install 'lehr[track]'",
}
_HARDWARE = "start the machine again; if it stays so, have the GPU replaced"
NOT_SYNCHRONISED = "not synchronised"


def _probe(check: str, run: Callable[[], str | None], absent: str) -> Finding:
    """A probe's outcome as a finding: what is broken fails, what is slow or unclear is a warning."""
    try:
        said = run()
    except CheckFailed as found:
        what = f"{found.reason}: {found.detail}" if found.detail else found.reason
        broken = found.outcome is Outcome.HARDWARE_FAILURE
        remedy = _REMEDIES.get(found.reason, _HARDWARE if broken else "")
        return (fail if broken or found.reason in ("ClockWrong", "DiskNotWritable") else warn)(check, what, remedy)
    return ok(check, absent if said is None else said)


def clock(run: Callable[[], str] = host.clock) -> Finding:
    """Certificates, tokens and conditional puts fail on a machine with a wrong clock."""
    found = _probe("clock", run, "")
    if found.found == NOT_SYNCHRONISED:
        return warn("clock", "the kernel says that nothing keeps it right", _NTP)
    return found


def temporary_folder(run: Callable[[], str] = host.disk) -> Finding:
    """Where ranks meet, and what is downloaded lies."""
    found = _probe("temporary folder", run, "")
    return Finding(found.check, found.verdict, f"{found.found}, in {tempfile.gettempdir()}", found.remedy)


def gpu_state(run: Callable[[], str | None] = devices.run) -> Finding:
    """Memory errors, remapped rows, links and clocks, as the driver tells them."""
    return _probe("GPU state", run, "no GPU that the driver knows")
