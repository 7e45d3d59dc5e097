"""Python and the packages, against the pins that Lehr was installed with."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

from lehr.runtime.findings import Finding, fail, ok, unseen, warn

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^;\s]+)\s*(?:;(.*))?")
_LIMIT = re.compile(r"(>=|<)\s*(\d+)\.(\d+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_BEFORE = re.compile(r"python_version\s*<\s*['\"](\d+)\.(\d+)['\"]")
_FLYTE = (3, 13)  # flytekit installs on no Python from here on
_DEV = "dev"


@dataclass(frozen=True)
class Pin:
    """`extra` is "" for what every installation has."""

    name: str
    version: str
    extra: str = ""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def python(version: Sequence[int] = sys.version_info[:3], requires: str | None = None) -> Finding:
    """Whether Lehr runs on this Python; `requires` as in pyproject.toml, by default that of the installation."""
    here = (version[0], version[1])
    text = ".".join(map(str, version))
    if requires is None:
        requires = _requires_python()
    wrong = [limit[0] for limit in _LIMIT.finditer(requires) if (here < _of(limit)) == (limit[1] == ">=")]
    if wrong:
        remedy = "make an environment with another one (`make setup PYTHON=python3.12` in a checkout)"
        return fail("Python", f"{text}, and Lehr needs {', '.join(wrong)}", remedy)
    return ok("Python", f"{text}, without Flyte's tasks: flytekit needs 3.11 or 3.12" if here >= _FLYTE else text)


def _of(limit: re.Match[str]) -> tuple[int, int]:
    return int(limit[2]), int(limit[3])


def _requires_python() -> str:
    try:
        about = metadata.metadata("lehr")
    except metadata.PackageNotFoundError:
        return ""
    return str(about["Requires-Python"]) if "Requires-Python" in about else ""


def pins(requires: Sequence[str] | None = None, version: Sequence[int] = sys.version_info[:2]) -> list[Pin]:
    """What the installation of Lehr asks for on this Python, but for those who work on it. Empty where none is known."""
    if requires is None:
        try:
            requires = metadata.requires("lehr") or []
        except metadata.PackageNotFoundError:
            return []
    found = []
    for line in requires:
        pin = _PIN.fullmatch(line)
        if pin is None:  # `lehr[flyte,...]`, which names other extras
            continue
        marker = pin[3] or ""
        extra, before = _EXTRA.search(marker), _BEFORE.search(marker)
        if before is None or (version[0], version[1]) < (int(before[1]), int(before[2])):
            found.append(Pin(pin[1], pin[2], extra[1] if extra else ""))
    return [pin for pin in found if pin.extra != _DEV]


def installed(name: str) -> str:
    """The version of a package, without what its builder added (`+cpu`); "" where there is none."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return ""


def packages(wanted: Sequence[Pin], version_of: Callable[[str], str] = installed) -> Finding:
    """Whether what every installation needs is there, in the versions that results were made with."""
    base = [pin for pin in wanted if not pin.extra]
    if not base:
        remedy = "install it: `make setup` in a checkout, else pip install the wheel"
        return unseen("packages", "Lehr itself is not installed, so nobody knows what it needs", remedy)
    missing = [pin for pin in base if not version_of(pin.name)]
    if missing:
        return fail("packages", f"not installed: {_names(missing)}", _install(missing))
    others = _others(base, version_of)
    if others:
        return warn(
            "packages", f"other versions than results were made with: {_differing(others, version_of)}", _install(others)
        )
    return ok("packages", f"all {len(base)} as pinned")


def extras(wanted: Sequence[Pin], version_of: Callable[[str], str] = installed) -> Finding:
    """Which of the optional parts are there: track is MLflow, cluster S3 and Kubernetes, export Hugging Face and GGUF."""
    names = sorted({pin.extra for pin in wanted if pin.extra})
    by_extra = {name: [pin for pin in wanted if pin.extra == name] for name in names}
    there = {name: [pin for pin in found if version_of(pin.name)] for name, found in by_extra.items()}
    partly = [pin for name in names if there[name] for pin in by_extra[name] if not version_of(pin.name)]
    if partly:
        return warn("extras", f"half installed, without {_names(partly)}", _install(partly))
    others = _others([pin for found in there.values() for pin in found], version_of)
    if others:
        return warn("extras", f"other versions than were tried: {_differing(others, version_of)}", _install(others))
    have, lack = [n for n in names if there[n]], [n for n in names if not there[n]]
    without = f"without {', '.join(lack)} (pip install 'lehr[{','.join(lack)}]')" if lack else ""
    return ok("extras", "; ".join(filter(None, (", ".join(have), without))) or "none")


def _others(wanted: Sequence[Pin], version_of: Callable[[str], str]) -> list[Pin]:
    return [pin for pin in wanted if version_of(pin.name) != pin.version]


def _differing(wanted: Sequence[Pin], version_of: Callable[[str], str]) -> str:
    return ", ".join(f"{pin.name} {version_of(pin.name)} for {pin.version}" for pin in wanted)


def _names(wanted: Sequence[Pin]) -> str:
    return ", ".join(pin.name for pin in wanted)


def _install(wanted: Sequence[Pin]) -> str:
    return f"run: pip install {' '.join(map(str, wanted))}"
