"""The few system calls that Python 3.11 has no function for, by way of the C library. All raise OSError."""

from __future__ import annotations

import ctypes
import os

NEW_NAMESPACES = 0x10000000 | 0x20000000 | 0x08000000 | 0x04000000 | 0x40000000  # user, pid, ipc, uts (host name), net
NEW_MOUNTS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_SECCOMP_MODE_FILTER = 2
_AT_RECURSIVE = 0x8000
_MOUNT_SETATTR = 442  # the same number on every architecture, Linux 5.12 and newer
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    """Give this process new namespaces (unshare(2))."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    pointer = ctypes.c_ulong(flags)
    _checked(_libc.mount(_bytes(source), _bytes(target), _bytes(kind), pointer, _bytes(options)), f"mount {target}")


def read_only(target: str, *, devices: bool = False) -> None:
    """Make a mount and those below it read-only, without set-user-id files and, unless `devices`, without devices."""
    wanted = MS_RDONLY | MS_NOSUID | (0 if devices else MS_NODEV)  # MOUNT_ATTR_* has the same values
    attributes = (ctypes.c_uint64 * 4)(wanted, 0, 0, 0)
    asked = (ctypes.c_long(_MOUNT_SETATTR), -100, _bytes(target), _AT_RECURSIVE, attributes, ctypes.c_size_t(32))
    _checked(_libc.syscall(*asked), f"mount_setattr {target}")


def make_root(folder: str, machine: str) -> None:
    """Make `folder`, a mount, the root of this process's file system; the old root is out of reach then."""
    os.chdir(folder)
    _checked(_libc.syscall(ctypes.c_long(_PIVOT_ROOT[machine]), b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def die_with_parent() -> None:
    """SIGKILL for this process when its parent ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl")


def drop_capabilities(machine: str) -> None:
    """Give up every capability, for good: no program that is started can have one either."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    none = (ctypes.c_uint32 * 6)()
    _checked(_libc.syscall(ctypes.c_long(_CAPSET[machine]), header, none), "capset")
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def filter_calls(code: bytes) -> None:
    """Install a seccomp filter (a BPF program of 8-byte instructions) in this process and all it starts."""
    program = _Program(len(code) // 8, code)
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0), "seccomp")
