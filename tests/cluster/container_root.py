"""Becomes a container: `unshare --mount --uts python container_root.py SPEC`, SPEC as JSON that containers.py makes.

Its root holds what the interpreter needs, read-only, the pod's volumes at their places, and nothing else of the machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/sbin")
ETC = ("nsswitch.conf", "passwd", "group", "localtime", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ssl")
PR_SET_PDEATHSIG = 1


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def bind(source: str, target: Path, *, writable: bool = False) -> None:
    target.mkdir(parents=True, exist_ok=True)
    mount("--rbind" if source in ("/dev", "/proc") else "--bind", source, str(target))
    if not writable and source not in ("/dev", "/proc"):
        mount("-o", "remount,bind,ro", str(target))


def build(root: Path, spec: dict[str, object]) -> None:
    """Fill `root`, of which nothing is seen outside this process, and lock it."""
    mount("-t", "tmpfs", "none", str(root))
    for path in SYSTEM:
        inside = root / path[1:]
        if Path(path).is_symlink():
            inside.symlink_to(os.readlink(path))
        elif Path(path).is_dir():
            bind(path, inside)
    bind("/dev", root / "dev")
    for target, (source, writable) in spec["mounts"].items():  # type: ignore[attr-defined]
        bind(source, root / target[1:], writable=writable)
    for path in ("/proc", *spec["host"]):  # type: ignore[misc]
        bind(path, root / path[1:])
    etc = root / "etc"
    etc.mkdir(exist_ok=True)
    for name in ETC:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, etc / name, ignore_dangling_symlinks=True, ignore=shutil.ignore_patterns("private"))
        elif source.exists():
            shutil.copy(source, etc / name)
    (etc / "hosts").write_text(str(spec["hosts"]), encoding="utf-8")
    (etc / "host.conf").write_text("multi on\n", encoding="utf-8")  # a name may have several addresses, as with DNS
    mount("-o", "remount,ro", str(root))


def main() -> None:
    spec = json.loads(sys.argv[1])
    root = Path(spec["root"])
    if os.readlink("/proc/self/ns/uts") == spec["outside"]:
        sys.exit("error: this process shares the machine's name and mounts, and would change them: call it by `unshare`")
    build(root, spec)
    socket.sethostname(spec["environment"]["HOSTNAME"])
    os.chroot(root)
    os.chdir(spec["folder"])
    if spec["user"]:
        os.setgroups([])
        os.setgid(spec["user"])
        os.setuid(spec["user"])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # a change of user forgets it
    os.execvpe(spec["command"][0], spec["command"], spec["environment"])


if __name__ == "__main__":
    main()
