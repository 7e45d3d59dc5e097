"""Ask the package index whether every pin of a lock has a wheel for every Python that Lehr promises, on Linux x86_64.

    python .ci/check_lock.py [LOCK]

`uv` resolves for all Pythons at once, but takes no notice of a package's upper bound on Python, and needs no wheel to exist. So
pip is asked, which is what installs the lock: for one Python about every pin, then for each other Python about the pins whose
wheel is for the first one only. Nothing is installed, and of a wheel only its metadata is read. Exit 1, and one line for each
Python that a pin keeps out; else 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from os import environ
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PIP = "pip==26.3"  # older ones, as a new venv of Python 3.11 has, load 3 GB of wheels to read their metadata
PIP_COMMAND = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
# What torch's own wheels ask for is as old a glibc as any pin needs to serve.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]


class Refused(Exception):
    """A pin cannot be installed on a Python, or pip cannot tell."""


def pins_for(lock: str, python: str) -> list[str]:
    """The pins of a lock whose markers hold for a Python ("3.14") on Linux x86_64, without their markers."""
    machine = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    pins = [Requirement(line) for line in lock.splitlines() if line.strip() and not line.startswith("#")]
    found = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(machine)]
    return [f"{canonicalize_name(pin.name)}{pin.specifier}" for pin in found]


def chosen(pins: list[str], python: str, scratch: Path) -> dict[str, tuple[str, str]]:
    """By pin: the file name of the wheel that pip takes for a Python, and the Pythons that the wheel allows. Raises Refused."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        wanted, report = Path(folder, "pins.txt"), Path(folder, "report.json")
        wanted.write_text("\n".join(pins), encoding="utf-8")
        command = [*PIP_COMMAND, "install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:"]
        command += ["--use-feature=fast-deps", "--python-version", python, *(f"--platform={name}" for name in PLATFORMS)]
        command += ["--target", f"{folder}/nothing", "--report", str(report), "--requirement", str(wanted)]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode:
            raise Refused(_why(asked.stderr, python))
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    found: dict[str, Any] = {canonicalize_name(item["metadata"]["name"]): item for item in items}
    wheels = {}
    for pin in pins:
        item = found[pin.partition("==")[0]]
        wheels[pin] = (item["download_info"]["url"].rpartition("/")[2], item["metadata"].get("requires_python", ""))
    return wheels


def _why(stderr: str, python: str) -> str:
    """What pip says last, with a remedy."""
    if "Retrying (" in stderr:
        return f"Python {python}: the package index does not answer"
    last = (stderr.strip().splitlines() or ["pip said nothing"])[-1].removeprefix("ERROR: ")
    return f"Python {python} on Linux x86_64: {last}; take another version in pyproject.toml, or give it a marker"


@cache
def _tags(python: str) -> frozenset[Tag]:
    version = [int(part) for part in python.split(".")]
    return frozenset([*cpython_tags(version, platforms=PLATFORMS), *compatible_tags(version, platforms=PLATFORMS)])


def serves(wheel: tuple[str, str], python: str) -> bool:
    """Whether a wheel that was chosen for one Python will do for another."""
    name, allowed = wheel
    return bool(parse_wheel_filename(name)[3] & _tags(python)) and SpecifierSet(allowed).contains(f"{python}.0")


def refusals(lock: str, scratch: Path) -> list[str]:
    """A line for each Python that the lock cannot be installed on."""
    known: dict[str, tuple[str, str]] = {}
    lines: list[str] = []

    def ask(asked: tuple[str, list[str]]) -> None:
        python, pins = asked
        try:
            known.update(chosen(pins, python, scratch) if pins else {})
        except Refused as refused:
            lines.append(str(refused))

    first = pins_for(lock, PYTHONS[0])
    with ThreadPoolExecutor() as pool:
        list(pool.map(ask, [(PYTHONS[0], first[::2]), (PYTHONS[0], first[1::2])]))  # on two cores
        others = {python: pins_for(lock, python) for python in PYTHONS[1:]}
        left = {p: [pin for pin in pins if pin not in known or not serves(known[pin], p)] for p, pins in others.items()}
        list(pool.map(ask, left.items()))
    return sorted(lines)


def main(path: str = "requirements.lock") -> int:
    """Check a lock and print the verdict."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*PIP_COMMAND, "install", "-q", "--no-deps", "--target", f"{folder}/pip", PIP], check=True)
        environ["PYTHONPATH"] = f"{folder}/pip"
        lines = refusals(Path(path).read_text(encoding="utf-8"), Path(folder))
    for line in lines:
        print(f"error: {path}: {line}", file=sys.stderr)
    if not lines:
        print(f"{path}: every pin has a wheel for Python {', '.join(PYTHONS)} on Linux x86_64")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
