"""Starts etcd and the real control plane on loopback, with its own certificates and ports; stops them by their pids."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.provide import find, missing

ADMIN, NOBODY = "admin-token", "nobody-token"
HOST = "127.0.0.1"
READY_SECONDS = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass
class ControlPlane:
    """A running API server. `folder` holds its data, logs and kubeconfigs; `token` -> kubeconfig by `kubeconfig`."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]]

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def kubeconfig(self, name: str, token: str, namespace: str = "default") -> Path:
        """A kubeconfig file for whoever holds `token`."""
        path = self.folder / f"{name}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "ca.crt")}
        data = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(data))
        path.chmod(0o600)
        return path

    def rss_mib(self) -> dict[str, float]:
        found = {}
        for process in self.processes:
            with contextlib.suppress(OSError):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                found[Path(str(process.args[0])).name] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20  # type: ignore[index]
        return found

    def stop(self) -> None:
        """At once: nothing of it is kept, and a polite end takes the API server seconds."""
        for process in reversed(self.processes):
            process.kill()
        for process in reversed(self.processes):
            process.wait(30)


def start(folder: Path, more_controllers: Sequence[str] = ()) -> ControlPlane:
    """Start etcd, API server, controller-manager and scheduler. Raises RuntimeError with the end of the log if one dies.

    `more_controllers` of the controller-manager, such as `deployment-controller`, run beside those that all tests need.
    """
    absent = missing(("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"))
    if absent:
        raise RuntimeError(f"no {', '.join(absent)}: run `make control-plane` first")
    folder.mkdir(parents=True, exist_ok=True)
    _certificates(folder)
    plane = ControlPlane(folder, free_port(), [])
    try:
        etcd = _start_etcd(plane)
        _start_api_server(plane, etcd)
        _start_managers(plane, more_controllers)
    except BaseException:
        plane.stop()
        raise
    return plane


def _certificates(folder: Path) -> None:
    """One authority, one server certificate for loopback, one key for service account tokens."""
    openssl = shutil.which("openssl") or "openssl"

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]  # Python 3.13 and later refuse an authority without it
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=lehr-test-ca", *usage)
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes,IP:10.0.0.1"
    run("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text(names)
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    run("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signed)
    run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "sa.key")
    users = [f'{ADMIN},admin,admin-uid,"system:masters"', f"{NOBODY},nobody,nobody-uid"]
    users += [f"{name}-token,{name},{name}-uid" for name in ("alice", "bob", "olga")]
    users += [
        'manager-token,system:kube-controller-manager,m-uid,"system:masters"',
        "scheduler-token,system:kube-scheduler,s-uid",
    ]
    (folder / "tokens.csv").write_text("\n".join(users) + "\n")
    (folder / "tokens.csv").chmod(0o600)


def with_parent(command: Sequence[str]) -> list[str]:
    """`command`, which on Linux gets SIGTERM when the tests' process ends, even if it was killed and no fixture could clean up.
    Not by `preexec_fn`: in a process with threads the forked child has crashed there now and then."""
    return [*(("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()), *command]


def _spawn(plane: ControlPlane, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    binary = find(name)
    assert binary is not None
    with (plane.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(with_parent([str(binary), *arguments]), stdout=log, stderr=log, cwd=plane.folder)
    plane.processes.append(process)
    return process


def _wait(plane: ControlPlane, process: subprocess.Popen[bytes], name: str, url: str) -> None:
    end = time.monotonic() + READY_SECONDS
    context = ssl.create_default_context(cafile=str(plane.folder / "ca.crt")) if url.startswith("https") else None
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN}"})
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=2, context=context) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    tail = (plane.folder / f"{name}.log").read_text(errors="replace")[-3000:]
    raise RuntimeError(f"{name} is not ready (exit code {process.poll()}):\n{tail}")


def _start_etcd(plane: ControlPlane) -> str:
    client, peer = f"http://{HOST}:{free_port()}", f"http://{HOST}:{free_port()}"
    process = _spawn(
        plane, "etcd", "--data-dir", str(plane.folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    )  # fmt: skip
    _wait(plane, process, "etcd", f"{client}/health")
    return client


def _start_api_server(plane: ControlPlane, etcd: str) -> None:
    folder = plane.folder
    process = _spawn(
        plane, "kube-apiserver", "--etcd-servers", etcd, "--secure-port", str(plane.port), "--bind-address", HOST,
        "--advertise-address", HOST, "--service-cluster-ip-range", "10.0.0.0/24", "--authorization-mode", "Node,RBAC",
        "--enable-admission-plugins", "NodeRestriction,PodSecurity", "--token-auth-file", str(folder / "tokens.csv"),
        "--tls-cert-file", str(folder / "server.crt"), "--tls-private-key-file", str(folder / "server.key"),
        "--service-account-key-file", str(folder / "sa.key"), "--service-account-signing-key-file", str(folder / "sa.key"),
        "--service-account-issuer", "https://kubernetes.default.svc", "--allow-privileged=false", "--profiling=false",
        "--endpoint-reconciler-type", "none", "--event-ttl", "1h",
    )  # fmt: skip
    _wait(plane, process, "kube-apiserver", f"{plane.url}/readyz")


def _start_managers(plane: ControlPlane, more_controllers: Sequence[str]) -> None:
    """Controllers for service accounts, Jobs, garbage and the taints of cordoned nodes; and the scheduler."""
    manager = plane.kubeconfig("kube-controller-manager", "manager-token")
    wanted = "serviceaccount-controller,root-ca-certificate-publisher-controller,job-controller,garbage-collector-controller,"
    wanted += "node-lifecycle-controller,pod-garbage-collector-controller,namespace-controller"
    wanted = ",".join((wanted, *more_controllers))
    common = ["--bind-address", HOST, "--leader-elect=false", "--profiling=false"]
    port = str(free_port())
    process = _spawn(
        plane, "kube-controller-manager", "--kubeconfig", str(manager), "--controllers", wanted, "--secure-port", port,
        "--service-account-private-key-file", str(plane.folder / "sa.key"), "--root-ca-file", str(plane.folder / "ca.crt"),
        "--kube-api-qps", "200", "--kube-api-burst", "400", "--node-monitor-grace-period", "8760h",
        "--authentication-skip-lookup", *common,
    )  # fmt: skip
    scheduler = plane.kubeconfig("kube-scheduler", "scheduler-token")
    other = _spawn(
        plane, "kube-scheduler", "--kubeconfig", str(scheduler), "--secure-port", str(free_port()),
        "--kube-api-qps", "200", "--kube-api-burst", "400", "--authentication-skip-lookup", *common,
    )  # fmt: skip
    time.sleep(0.5)
    for name, one in (("kube-controller-manager", process), ("kube-scheduler", other)):
        if one.poll() is not None:
            tail = (plane.folder / f"{name}.log").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{name} ended with {one.poll()}:\n{tail}")
