"""The seccomp filter of the jail, as a BPF program.

Refused is what could leave the jail or take memory that no limit counts: other namespaces and mounts, memory that is a
file or a
shared segment, every socket but Unix ones (AF_VSOCK knows no network namespace), other processes' memory, keys, kernel
interfaces.
"""

from __future__ import annotations

import struct

_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_CLONE3 = 435
_NAMESPACES = 0x7E020000  # every CLONE_NEW* of clone(2)
_X32 = 0x40000000  # x86's third way of calling, with numbers of its own
_AF_UNIX = 1
# Numbers from the kernel's tables. From 424 on they are the same everywhere.
_BOTH = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
_REFUSED = {
    "x86_64": {
        "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "msgget": 68, "ptrace": 101, "syslog": 103, "personality": 135,
        "modify_ldt": 154, "pivot_root": 155, "chroot": 161, "acct": 163, "mount": 165, "umount2": 166, "swapon": 167,
        "swapoff": 168, "reboot": 169, "init_module": 175, "delete_module": 176, "quotactl": 179, "mq_open": 240,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "vmsplice": 278,
        "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "finit_module": 313, "memfd_create": 319, "kexec_file_load": 320,
        "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "vmsplice": 75, "acct": 89,
        "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "syslog": 116,
        "ptrace": 117, "reboot": 142,
        "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194, "shmctl": 195, "shmat": 196, "add_key": 217,
        "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225, "perf_event_open": 241, "fanotify_init": 262,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
        "finit_module": 273, "memfd_create": 279, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
    },
}  # fmt: skip
MACHINES = tuple(_ARCHITECTURE)

_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; both architectures are little-endian


def _line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)


def program(machine: str) -> bytes:
    """The filter for an architecture of MACHINES."""
    refused = sorted({**_BOTH, **_REFUSED[machine]}.values())
    lines = [
        _line(_LOAD, _ARCH), _line(_EQUAL, _ARCHITECTURE[machine], 1), _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER), _line(_AT_LEAST, _X32, 0, 1), _line(_RETURN, _KILL),
        # glibc tries clone3 first, whose flags a filter cannot read, and falls back to clone.
        _line(_EQUAL, _CLONE3, 0, 1), _line(_RETURN, _ENOSYS),
    ]  # fmt: skip
    for number in refused:
        lines += [_line(_EQUAL, number, 0, 1), _line(_RETURN, _EPERM)]
    lines += [
        _line(_EQUAL, _CLONE[machine], 0, 4), _line(_LOAD, _FIRST_ARGUMENT),
        _line(_ANY_BIT, _NAMESPACES, 0, 1), _line(_RETURN, _EPERM), _line(_RETURN, _ALLOW),
        _line(_EQUAL, _SOCKET[machine], 0, 3), _line(_LOAD, _FIRST_ARGUMENT),
        _line(_EQUAL, _AF_UNIX, 1), _line(_RETURN, _EPERM),
        _line(_RETURN, _ALLOW),
    ]  # fmt: skip
    return b"".join(lines)
