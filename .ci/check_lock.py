"""Ask the package index whether every pin of a lock has a wheel for every Python that Lehr promises, on Linux x86_64.

    python .ci/check_lock.py [LOCK]

`uv` resolves for all Pythons at once, but takes no notice of a package's upper bound on Python, and needs no wheel to exist. So
pip is asked, which is what installs the lock: once for each Python, for the pins whose markers hold there. Nothing is
installed, and of a wheel only its metadata is read. Exit 1, and one line for each Python that a pin keeps out; else 0.
"""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from os import environ
from pathlib import Path

from packaging.requirements import Requirement

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PIP = "pip==26.3"  # older ones, as a new venv of Python 3.11 has, load 3 GB of wheels to read their metadata
PIP_COMMAND = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
# What torch's own wheels ask for is as old a glibc as any pin needs to serve.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]


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
    return [f"{pin.name}{pin.specifier}" for pin in pins if pin.marker is None or pin.marker.evaluate(machine)]


def refusal(lock: str, python: str, scratch: Path) -> str | None:
    """What keeps the lock from being installed on a Python, in one line; None where nothing does."""
    pins = scratch / f"{python}.txt"
    pins.write_text("\n".join(pins_for(lock, python)))
    command = [*PIP_COMMAND, "install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:"]
    command += ["--use-feature=fast-deps", "--python-version", python, *(f"--platform={name}" for name in PLATFORMS)]
    command += ["--target", str(scratch / "nothing"), "--requirement", str(pins)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        return None
    last = (asked.stderr.strip().splitlines() or ["pip said nothing"])[-1].removeprefix("ERROR: ")
    missing = last.removeprefix("No matching distribution found for ")
    if missing == last:
        return f"Python {python}: {last}"
    return (
        f"{missing} has no wheel for Python {python} on Linux x86_64: "
        "choose another version in pyproject.toml, or give it a marker there"
    )


def main(path: str = "requirements.lock") -> int:
    """Check a lock and print the verdict."""
    lock = Path(path).read_text()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(PYTHONS)) as pool:
        scratch = Path(folder)
        subprocess.run([*PIP_COMMAND, "install", "-q", "--no-deps", "--target", str(scratch / "pip"), PIP], check=True)
        environ["PYTHONPATH"] = str(scratch / "pip")
        refusals = [found for found in pool.map(lambda python: refusal(lock, python, scratch), PYTHONS) if found]
    for found in refusals:
        print(f"error: {path}: {found}", file=sys.stderr)
    if not refusals:
        print(f"{path}: every pin has a wheel for Python {', '.join(PYTHONS)} on Linux x86_64")
    return bool(refusals)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
