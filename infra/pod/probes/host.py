"""The host of the devices: whether its disk keeps what is written, and whether its clock is plausible."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from pathlib import Path

from lehr.infra.pod.probes.result import hardware, inconclusive, performance

BYTES = 8 * 2**20
MIN_FREE_BYTES = 2**30
EPOCH = 1_767_225_600.0  # 1 January 2026: a clock showing an earlier time was never set
STA_UNSYNC = 0x40


def disk() -> str:
    """Write, sync and read back a file in the temporary folder. Raises CheckFailed."""
    folder = Path(tempfile.gettempdir())
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    data = os.urandom(2**16) * (BYTES // 2**16)
    began = time.monotonic()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # drop it from the page cache: read from the disk
            file.seek(0)
            same = file.read() == data
    except OSError as error:
        if error.errno == 5:  # EIO
            raise hardware("DiskError", str(error)) from error
        raise inconclusive("DiskNotWritable", str(error)) from error
    if not same:
        raise hardware("DiskMismatch", "read back other bytes than were written")
    if free < MIN_FREE_BYTES:
        raise performance("DiskFull", f"{free >> 20} MiB free")
    return f"{BYTES / (time.monotonic() - began) / 1e6:.0f} MB/s, {free >> 30} GiB free"


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), up to the last field used here; `room` is for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 256),
    )


def clock() -> str:
    """Check date, steadiness and synchronisation: a clock that is far off breaks certificates and leases. Raises
    CheckFailed."""
    now, steady = time.time(), time.monotonic()
    if now < EPOCH:
        raise performance("ClockWrong", f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}")
    time.sleep(0.2)
    drift = abs((time.time() - now) - (time.monotonic() - steady))
    if drift > 0.05:
        raise performance("ClockJumps", f"{drift:.3f} s in 0.2 s")
    state = _Timex()
    try:
        code = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return "synchronisation unknown"
    if code < 0:
        return "synchronisation unknown"
    return "not synchronised" if state.status & STA_UNSYNC else "synchronised"
