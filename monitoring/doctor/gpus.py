"""The build of torch against the driver of the GPUs, and the GPUs against the build."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.monitoring import gpus
from lehr.runtime.findings import Finding, fail, ok, unseen, warn

NVIDIA, DISPLAY = "0x10de", ("0x0300", "0x0302")  # vendor and classes of PCI devices that are GPUs
PCI = Path("/sys/bus/pci/devices")
BF16_FROM = (8, 0)  # the first compute capability with bf16 units (Ampere)
TAKEN = 0.05  # share of a GPU's memory that somebody else may have without a word
_ARCH = re.compile(r"(sm|compute)_(\d+)(\d)a?")
# The first driver of each CUDA version that torch is built for (CUDA's release notes, "minor version compatibility").
FIRST_DRIVER = {11: "450", 12: "525", 13: "580"}


@dataclass(frozen=True)
class Build:
    """torch as it is installed. `cuda` and `hip` are the versions that it was built for, `archs` what it has kernels for."""

    version: str
    cuda: str | None = None
    hip: str | None = None
    available: bool = False
    count: int = 0
    archs: Sequence[str] = ()
    broken: str = ""  # why it cannot be imported


def build() -> Build:
    """Imports torch, which takes seconds."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a library that does not load, in whatever way: said, not raised
        return Build("", broken=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    with warnings.catch_warnings():  # what torch says of an old driver is said below, in the table
        warnings.simplefilter("ignore")
        available = torch.cuda.is_available()
    count, archs = (torch.cuda.device_count(), torch.cuda.get_arch_list()) if available else (0, [])
    return Build(torch.__version__, torch.version.cuda, torch.version.hip, available, count, archs)


@dataclass(frozen=True)
class Gpu:
    """One that this process may use. Memory in bytes. A part of a GPU (MIG) may not tell its capability."""

    name: str
    capability: tuple[int, int] | None
    used: int
    total: int


@dataclass(frozen=True)
class Driver:
    """`cuda` is the newest that the driver serves, as NVML writes it: 13000 is 13.0. `missing` and `broken` say why nothing
    could be asked: there is no driver, or one that does not answer."""

    version: str = ""
    cuda: int = 0
    gpus: Sequence[Gpu] = field(default=())
    missing: str = ""
    broken: str = ""
    package: bool = True  # nvidia-ml-py is installed


def driver(load: Callable[[], Any] = gpus.load) -> Driver:
    """Ask NVML; never raises."""
    try:
        nvml = load()
    except OSError as error:  # its library is not there
        return Driver(missing=str(error))
    except ImportError as error:
        return Driver(missing=str(error), package=False)
    except Exception as error:  # noqa: BLE001 - NVML's exceptions cannot be named without its package
        return Driver(broken=str(error))
    try:
        found = [_gpu(nvml, handle) for handle in gpus.visible(nvml)]
        return Driver(str(nvml.nvmlSystemGetDriverVersion()), int(nvml.nvmlSystemGetCudaDriverVersion_v2()), found)
    except Exception as error:  # noqa: BLE001 - as above
        return Driver(broken=str(error))


def _gpu(nvml: Any, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except nvml.NVMLError:
        return Gpu(str(nvml.nvmlDeviceGetName(handle)), None, int(memory.used), int(memory.total))
    return Gpu(str(nvml.nvmlDeviceGetName(handle)), (int(major), int(minor)), int(memory.used), int(memory.total))


def on_pci(devices: Path = PCI) -> int:
    """NVIDIA GPUs in this machine, whoever may use them."""
    found = 0
    for device in devices.glob("*/vendor"):
        try:
            vendor, kind = device.read_text(encoding="ascii"), device.with_name("class").read_text(encoding="ascii")
        except (OSError, UnicodeError):
            continue
        found += vendor.strip() == NVIDIA and kind.startswith(DISPLAY)
    return found


def torch_fits(built: Build, known: Driver, pci: int) -> Finding:
    """Whether this build of torch and this driver fit."""
    if built.broken:
        return fail("torch", f"it does not load: {built.broken}", "install it again, or look for the library that it misses")
    made = f"{built.version}, for {_for(built)}"
    if built.hip and built.available:
        return ok("torch", f"{made}, with {built.count} GPUs")
    if known.broken:
        remedy = "does `nvidia-smi` answer? After an update of the driver the machine must be started again"
        return fail("torch", f"{made}, and the driver does not answer: {known.broken}", remedy)
    if known.missing:
        return _without_driver(made, built, known, pci)
    if not known.gpus:
        hidden = " (CUDA_VISIBLE_DEVICES hides them)" if "CUDA_VISIBLE_DEVICES" in os.environ else ""
        return ok("torch", f"{made}; a driver {known.version}, and no GPU for this process{hidden}")
    return _with_driver(made, built, known)


def _for(built: Build) -> str:
    return f"CUDA {built.cuda}" if built.cuda else f"ROCm {built.hip}" if built.hip else "CPUs only"


def _without_driver(made: str, built: Build, known: Driver, pci: int) -> Finding:
    if built.available:
        return ok("torch", f"{made}, with {built.count} GPUs")
    if pci and not known.package:
        return unseen("torch", f"{made}; {pci} GPUs are in this machine", "to look at them: pip install 'lehr[track]'")
    if pci:
        remedy = "install NVIDIA's driver, or give the container its GPUs (`--gpus all`)"
        return warn("torch", f"{made}; {pci} GPUs are in this machine, and no driver of theirs is found", remedy)
    return ok("torch", f"{made}; no GPU here")


def _with_driver(made: str, built: Build, known: Driver) -> Finding:
    serves = f"driver {known.version} serves CUDA {known.cuda // 1000}.{known.cuda % 1000 // 10}"
    if built.available:  # also with NVIDIA's libraries for forward compatibility, which an older driver takes
        return ok("torch", f"{made}; {serves}")
    if built.cuda is None:
        remedy = f"install the build of torch for CUDA {known.cuda // 1000}"
        return fail("torch", f"{made}, so {len(known.gpus)} GPUs lie idle; {serves}", remedy)
    major = int(built.cuda.partition(".")[0])
    if known.cuda // 1000 < major:
        newer = f"driver {FIRST_DRIVER[major]} or newer" if major in FIRST_DRIVER else "a newer driver"
        remedy = f"install {newer}, or the build of torch for CUDA {known.cuda // 1000}"
        return fail("torch", f"{made}, and {serves}", remedy)
    remedy = "see python -c 'import torch; torch.cuda.init()', and whether /dev/nvidia* may be opened"
    return fail("torch", f"{made}; {serves}, and torch finds no GPU", remedy)


def devices(built: Build, known: Driver) -> Finding:
    """The GPUs themselves: whether torch sees all and has kernels for them, their bf16 units, and who else is on them."""
    if not known.gpus:
        return ok("GPUs", f"{built.count}" if built.available else "none: everything runs on the CPU")
    names = ", ".join(f"{n} x {name}" for name, n in _counted([gpu.name for gpu in known.gpus]))
    if built.available and built.count != len(known.gpus):
        remedy = "look at CUDA_VISIBLE_DEVICES, at MIG, and at the kernel's log for a GPU that fell off the bus"
        return fail("GPUs", f"{names}, of which torch sees {built.count}", remedy)
    told = [(gpu, gpu.capability) for gpu in known.gpus if gpu.capability is not None]
    foreign = [(gpu, capability) for gpu, capability in told if built.archs and not _served(capability, built.archs)]
    if foreign:
        what = f"torch has no kernels for {foreign[0][0].name} (compute capability {_dotted(foreign[0][1])})"
        return fail("GPUs", what, "install a build of torch for it, or hide it with CUDA_VISIBLE_DEVICES")
    old = [gpu for gpu, capability in told if capability < BF16_FROM]
    if old:
        return warn("GPUs", f"{names}; {old[0].name} has no bf16 units", "set `precision: fp32` in the recipe")
    taken = [gpu for gpu in known.gpus if gpu.used > TAKEN * gpu.total]
    if taken:
        most = max(taken, key=lambda gpu: gpu.used)
        amount = f"{most.used >> 30} of {most.total >> 30} GiB"
        return warn("GPUs", f"{names}; on {len(taken)} somebody is at work already ({amount})", "`nvidia-smi` shows who")
    return ok("GPUs", f"{names}, {known.gpus[0].total >> 30} GiB each")


def _counted(names: list[str]) -> list[tuple[str, int]]:
    return [(name, names.count(name)) for name in dict.fromkeys(names)]


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _served(capability: tuple[int, int], archs: Sequence[str]) -> bool:
    """Machine code (sm) serves later minor versions of its major one; intermediate code (compute) all later ones."""
    for arch in archs:
        if known := _ARCH.fullmatch(arch):
            has = int(known[2]), int(known[3])
            if has <= capability and (known[1] == "compute" or has[0] == capability[0]):
                return True
    return False
