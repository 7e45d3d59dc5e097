"""What `helm test` runs in pods: `python -m lehr.infra.controller.installed CHECK ...` proves one thing of an installation.

    permissions SETTINGS   the account may do what the controller does, and none of a list of other things
    leader SETTINGS        a replica holds the Lease and renews it
    metrics HOST PORT      every replica behind HOST serves metrics, and one of them leads; with `dry-run` behind it
                           all of them decide, as nobody needs the Lease then
    mlflow URL             MLflow answers to the name that tasks use

Each ends with 0 and one line, or with 2 and one line that says what is wrong and where to look.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import urllib3

from lehr.infra.controller.settings import Settings
from lehr.infra.kube.access import allowed
from lehr.infra.kube.api import Api
from lehr.infra.kube.transport import connect
from lehr.monitoring.metrics import Fleet
from lehr.runtime.errors import InfraError, LehrError, UserError

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 1.0
REPORTS = "nodereports.lehr.dev"
LEASES = "leases.coordination.k8s.io"
Right = tuple[str, str, str]  # verb, resource (NAME.GROUP/SUBRESOURCE, of a Lease /LEASE), namespace; "" is the cluster


def needed(settings: Settings) -> list[Right]:
    """Every right that the controller uses (docs/security.md)."""
    system = settings.system_namespace
    rights = [(verb, "nodes", "") for verb in ("get", "list", "watch", "patch")]
    rights += [("patch", "nodes/status", ""), ("create", "events", "default")]
    rights += [(verb, "jobs.batch", system) for verb in ("get", "list", "watch", "create", "delete")]
    rights += [(verb, "pods", system) for verb in ("list", "watch")]
    rights += [(verb, f"{LEASES}/{settings.lease}", system) for verb in ("get", "update")]
    for namespace in settings.namespaces:
        rights += [(verb, "pods", namespace) for verb in ("list", "watch", "delete")]
        rights += [(verb, REPORTS, namespace) for verb in ("list", "watch")]
    return rights


def refused(settings: Settings) -> list[Right]:
    """Some of what it must not have: anybody who got its token would reach for these."""
    places = (settings.system_namespace, *settings.namespaces, "kube-system")
    rights = [(verb, "secrets", place) for place in places for verb in ("get", "list")]
    rights += [(verb, resource, place) for place in places for verb, resource in (("create", "pods"), ("create", "pods/exec"))]
    rights += [("delete", "pods", "kube-system"), ("delete", "nodes", ""), ("create", "nodes/proxy", "")]
    return [*rights, ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""), ("*", "*.*", "")]


def may(api: Api, right: Right) -> bool:
    """What the API server answers about the own account. Raises InfraError."""
    verb, resource, namespace = right
    name, _, rest = resource.partition("/")
    kind, _, group = name.partition(".")
    asked = {"verb": verb, "resource": kind, "group": group, "namespace": namespace}
    asked["name" if name == LEASES else "subresource"] = rest
    return allowed(api, asked)


def permissions(api: Api, settings: Settings) -> str:
    """Raises UserError that names the first right that is missing or too much."""
    for right in needed(settings):
        if not may(api, right):
            raise UserError(
                f"the controller may not {_words(right)}", remedy="look at its Roles; `helm upgrade` brings them back"
            )
    for right in refused(settings):
        if may(api, right):
            raise UserError(
                f"the controller may {_words(right)}", remedy="somebody bound its account to more: find the binding"
            )
    return f"permissions: {len(needed(settings))} rights are there, {len(refused(settings))} others are refused"


def _words(right: Right) -> str:
    verb, resource, namespace = right
    return f"{verb} {resource}" + (f" in {namespace}" if namespace else "")


def leader(api: Api, settings: Settings, patience: float = PATIENCE_SECONDS) -> str:
    """Raises UserError if nobody renews the Lease in `patience` seconds."""
    if settings.dry_run:
        return "leader: none is needed, the controller writes nothing (dry_run)"
    path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.system_namespace}/leases/{settings.lease}"
    first = (api.get(path).get("spec") or {}).get("renewTime")

    def _renewed() -> str:
        spec = api.get(path).get("spec") or {}
        if not spec.get("holderIdentity") or spec.get("renewTime") == first:
            raise InfraError("nobody renews the Lease")
        return str(spec["holderIdentity"])

    return f"leader: {_eventually(_renewed, patience, path, 'look at the logs of the controller')} leads"


def metrics(host: str, port: int, *, dry_run: bool = False, patience: float = PATIENCE_SECONDS) -> str:
    """Raises UserError if a replica does not serve metrics, or none or several lead (in a dry run: not all), for `patience`
    seconds."""

    def _one_leads() -> str:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        led = sum(_leads(f"[{a}]:{port}" if ":" in a else f"{a}:{port}") for a in addresses)
        if led != (len(addresses) if dry_run else 1):
            raise InfraError(f"{led} of {len(addresses)} replicas say that they lead")
        return f"{len(addresses)} replicas serve them, {'all decide, none writes' if dry_run else 'one leads'}"

    remedy = "look at the controller's pods and their NetworkPolicy"
    return f"metrics: {_eventually(_one_leads, patience, f'{host}:{port}', remedy)}"


def _leads(place: str) -> bool:
    value = re.search(rf"^{Fleet.LEADER.name} (\S+)$", _get(f"http://{place}/metrics"), re.MULTILINE)
    return value is not None and float(value[1]) == 1


def mlflow(url: str, patience: float = PATIENCE_SECONDS) -> str:
    """Raises UserError if MLflow does not answer at `url`, or not to that name."""

    def _answers() -> str:
        _get(f"{url}/api/2.0/mlflow/experiments/search?max_results=1")
        return url

    return f"mlflow: {_eventually(_answers, patience, url, 'look at the pod of MLflow, and at mlflow.allowedHosts')} answers"


def _get(url: str) -> str:
    answer = urllib3.PoolManager(retries=False).request("GET", url, timeout=10.0)
    text = answer.data.decode(errors="replace")
    if answer.status != 200:
        raise InfraError(f"{url} answers {answer.status}: {' '.join(text.split())[:200]}")
    return text


def _eventually(check: Callable[[], str], patience: float, where: str, remedy: str) -> str:
    """What `check` returns, once it raises nothing. Raises UserError with its last words."""
    end = time.monotonic() + patience
    while True:
        try:
            return check()
        except (InfraError, OSError, urllib3.exceptions.HTTPError) as failure:
            if time.monotonic() >= end:
                raise UserError(" ".join(str(failure).split())[:300], where=where, remedy=remedy) from failure
        time.sleep(PAUSE_SECONDS)


def main(arguments: Sequence[str]) -> int:
    """The exit code; see the words at the top."""
    try:
        match list(arguments):
            case ["permissions", settings]:
                said = permissions(Api(connect()), Settings.load(Path(settings)))
            case ["leader", settings]:
                said = leader(Api(connect()), Settings.load(Path(settings)))
            case ["metrics", host, port, *rest] if rest in ([], ["dry-run"]) and port.isdigit():
                said = metrics(host, int(port), dry_run=bool(rest))
            case ["mlflow", url]:
                said = mlflow(url)
            case _:
                raise UserError("one of: permissions SETTINGS, leader SETTINGS, metrics HOST PORT [dry-run], mlflow URL")
    except LehrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
