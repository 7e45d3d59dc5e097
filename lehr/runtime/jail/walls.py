"""A process's way into the jail: users, namespaces, files, limits. Each function changes the process that calls it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping

from lehr.runtime.jail import kernel
from lehr.runtime.jail.calls import program

WORK = "/box"  # the only folder that can be written, in memory
INSIDE = 1  # the program's user and group, as seen from inside
_FIRST_USER, _USERS = 61_000, 3_000  # users that nothing else has, for a trainer that is root
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def enter_namespaces() -> None:
    """New user, process, network, IPC and host name namespaces. A trainer that is root gives the program a user of its
    own; any other can map its own user only. Raises OSError where the kernel or its administrator refuses."""
    if os.geteuid():
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare(kernel.NEW_NAMESPACES)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{INSIDE} {uid} 1")
        _write("/proc/self/gid_map", f"{INSIDE} {gid} 1")
        return
    os.setgroups([])
    process, user = os.getpid(), _FIRST_USER + os.getpid() % _USERS
    told, tells = os.pipe()
    helper = os.fork()
    if not helper:  # only a process of the old namespace may map more than one user
        os.close(tells)
        os._exit(_map_users(process, user) if os.read(told, 1) else 1)
    kernel.unshare(kernel.NEW_NAMESPACES)
    os.write(tells, b"1")
    os.close(tells)
    os.close(told)
    if os.waitpid(helper, 0)[1]:
        raise PermissionError("users of the new namespace cannot be mapped")


def _map_users(process: int, user: int) -> int:
    try:
        for kind in ("uid", "gid"):
            _write(f"/proc/{process}/{kind}_map", f"0 0 1\n{INSIDE} {user} 1\n")
    except OSError:
        return 1
    return 0


def _write(path: str, text: str) -> None:
    place = os.open(path, os.O_WRONLY)
    try:
        os.write(place, text.encode())
    finally:
        os.close(place)


def build_root(readable: Iterable[str], disk_bytes: int, machine: str) -> None:
    """A file system of `readable` (read-only, at their own paths), four devices and an empty WORK in memory; the rest
    is gone."""
    kernel.unshare(kernel.NEW_MOUNTS)  # here and not by the guard, who goes on reading /proc
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    held = {path: os.open(path, os.O_PATH) for path in [*readable, *_DEVICES] if os.path.exists(path)}
    links = {path: os.readlink(path) for path in ("/bin", "/lib", "/lib64") if os.path.islink(path)}
    root = "/proc/self/cwd"
    os.chdir("/tmp")
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    os.chdir("/tmp")
    for path, place in held.items():
        _show(path, place, root)
    for path, target in links.items():
        os.symlink(target, f".{path}")
    _make_work(disk_bytes)
    kernel.make_root(".", machine)
    kernel.mount(None, "/", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV)


def _show(path: str, place: int, root: str) -> None:
    """Bind what is open at `place` under the new root."""
    if os.path.isdir(f"/proc/self/fd/{place}"):
        os.makedirs(f".{path}", exist_ok=True)
    else:
        os.makedirs(os.path.dirname(f".{path}"), exist_ok=True)
        os.close(os.open(f".{path}", os.O_CREAT | os.O_WRONLY))
    kernel.mount(f"/proc/self/fd/{place}", f"{root}{path}", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.read_only(f"{root}{path}", devices=path in _DEVICES)
    os.close(place)


def _make_work(disk_bytes: int) -> None:
    os.mkdir(f".{WORK}")
    options = f"size={disk_bytes},nr_inodes=4096,mode=700,uid={INSIDE},gid={INSIDE}"
    kernel.mount("tmpfs", f"/proc/self/cwd{WORK}", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    if not os.path.lexists("./tmp"):
        os.symlink(WORK, "./tmp")


def become_nobody(limits: Mapping[str, int], machine: str) -> None:
    """The last step before the program: its user, its limits, no capability, the filter of system calls."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(INSIDE, INSIDE, INSIDE)
        os.setresuid(INSIDE, INSIDE, INSIDE)
    resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))
    limit_alone(limits, machine)


def limit_alone(limits: Mapping[str, int], machine: str) -> None:
    """Limits, no capability, the filter of system calls: what needs no namespace. It hides no file."""
    for name, value in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(name, (value, value))
    kernel.drop_capabilities(machine)
    kernel.filter_calls(program(machine))
