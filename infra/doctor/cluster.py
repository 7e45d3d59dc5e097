"""The cluster: API server, rights of whoever asks, the chart and its parts, nodes. Nothing is written there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from lehr.infra.controller.installed import Right, may
from lehr.infra.controller.node_commands import whoami
from lehr.infra.controller.parsers import seconds
from lehr.infra.doctor import flyte
from lehr.infra.doctor.place import OURS, Place, asked, guarded, labels, refusal
from lehr.infra.fleet.policy import NAMES
from lehr.infra.jobs.checks import check_account, check_namespace, grant
from lehr.infra.jobs.submission import DRIVER_ACCOUNT
from lehr.infra.kube.api import FORBIDDEN, NODES, ApiError, Object
from lehr.runtime.environment import digits
from lehr.runtime.errors import LehrError, UserError
from lehr.runtime.findings import Finding, Verdict, clock_skew, fail, ok, unseen, warn
from lehr.runtime.yaml_file import parse

LEAST = (1, 30)  # ValidatingAdmissionPolicy is stable from here on
LEASE, TASK_ACCOUNT = "lehr-controller", "lehr-task"  # the chart's names
# Ends of the names of the chart's admission policies (helm/lehr/templates/admission); a test compares them.
POLICIES = (*(f"-controller-{what}" for what in ("scope", "nodes", "pods", "events", "ended-jobs", "jobs")), "-reports")
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
SECURITY = "pod-security.kubernetes.io/enforce"
MONITORS = {"podmonitors", "servicemonitors", "prometheusrules"}
VERSION, CHART = "app.kubernetes.io/version", "helm.sh/chart"
RENEWAL_SECONDS = 6.0  # the chart's controller.renewSeconds is 3
LATE = 5.0  # seconds that a server's Date header and a Lease may be apart: both are rounded


def check_cluster(place: Place) -> Iterator[Finding]:
    """One finding after the other; nothing else is asked of a server that does not answer."""
    try:
        said = place.api.get("/version")
    except LehrError as error:
        yield refusal("API server", error)
        return
    yield api_server(str(said.get("gitVersion", "")))
    for name, look in CHECKS:
        yield guarded(name, lambda look=look: look(place))  # type: ignore[misc]
    yield from flyte.check_flyte(place)


def api_server(version: str) -> Finding:
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if numbers is None:
        return unseen("API server", f"it says no version that is known: {version[:40]!r}")
    if (int(numbers[1]), int(numbers[2])) < LEAST:
        wanted = ".".join(map(str, LEAST))
        return fail("API server", f"Kubernetes {version}, older than {wanted}", f"update the cluster to {wanted} or newer")
    return ok("API server", f"Kubernetes {version}")


def clock(place: Place) -> Finding:
    theirs = place.api.date()
    return clock_skew("clock of the cluster", theirs, time.time(), "the API server")


SUBMIT = (*((verb, "jobs.batch") for verb in ("create", "get", "list", "delete")), ("list", "pods"), ("get", "pods/log"))


def rights_on_jobs(place: Place) -> Finding:
    """`lehr submit --backend kubernetes`, `status`, `logs` and `cancel`."""
    lacking = [f"{verb} {what}" for verb, what in SUBMIT if not may(place.api, (verb, what, place.namespace))]
    who = whoami(place.api)
    if lacking:
        what = f"{who} may not `lehr submit --backend kubernetes` in {place.namespace}: not {', '.join(lacking)}"
        return warn("rights: Jobs", what, grant(place.namespace))
    return ok("rights: Jobs", f"{who} may, in {place.namespace}")


def rights_on_nodes(place: Place) -> Finding:
    """`lehr nodes`."""
    acts: dict[str, Right] = {
        "see": ("list", "nodes", ""),
        "cordon": ("patch", "nodes", ""),
        "report": ("create", "nodereports.lehr.dev", place.namespace),
    }
    allowed = [name for name, right in acts.items() if may(place.api, right)]
    if "see" not in allowed:
        remedy = "ask an operator for: kubectl create clusterrolebinding NAME --clusterrole=lehr-viewer --user=YOU"
        others = f"; you may {' and '.join(allowed)} them" if allowed else ""
        return warn("rights: nodes", f"you may not see nodes{others}", remedy)
    return ok("rights: nodes", f"you may {', '.join(allowed)}")


def chart(place: Place) -> Finding:
    """By the labels of what it makes: of the Lease, or of accounts that whoever submits may read."""
    hidden, base = "", f"/api/v1/namespaces/{place.namespace}/serviceaccounts"
    for path in (_lease_path(place), f"{base}/{TASK_ACCOUNT}", f"{base}/{DRIVER_ACCOUNT}"):
        try:
            found = place.there(path)
        except ApiError as error:
            if error.status != FORBIDDEN:
                raise
            hidden = error.message
            continue
        if found is not None and labels(found).get(CHART):
            return _version(place, labels(found))
        if found is None and path == _lease_path(place):
            what = f"it is not installed in {place.system}"
            return fail(
                "chart",
                what,
                f"run: helm install lehr helm/lehr -n {place.system} (docs/fleet.md); or name its place "
                "with --system-namespace",
            )
    return unseen("chart", f"you may not: {hidden}" if hidden else "nothing here says of which chart it is")


def _version(place: Place, its: dict[str, str]) -> Finding:
    version, name = its.get(VERSION, ""), its[CHART]
    if version != place.version:
        remedy = "upgrade the chart, or use the Lehr of that version; with the image of the same one"
        return warn("chart", f"{name} of Lehr {version}, and this is {place.version}", remedy)
    return ok("chart", f"{name}, of this version")


def _lease_path(place: Place) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{place.system}/leases/{LEASE}"


def controller(place: Place) -> Finding:
    """Whether a replica renews the Lease."""
    lease = place.there(_lease_path(place))
    if lease is None:
        return fail("controller", f"there is no Lease {LEASE} in {place.system}", "install the chart")
    spec = lease.get("spec") or {}
    holder, age = str(spec.get("holderIdentity") or ""), (place.api.date() or time.time()) - seconds(spec.get("renewTime"))
    if holder and -LATE <= age <= float(spec.get("leaseDurationSeconds") or 15) + LATE:
        return ok("controller", f"{holder} leads, renewed {max(0.0, age):.0f} s ago")
    if holder and _changes(place, lease):  # whoever writes a wrong time is there all the same
        what = f"{holder} leads, and its clock is {abs(age):,.0f} s {'behind' if age > 0 else 'ahead of'} the API server's"
        return warn("controller", what, "let NTP set the clock of its node")
    if _dry_run(place):
        remedy = "upgrade the chart with controller.dryRun=false"
        return warn("controller", "it decides and writes nothing (controller.dryRun)", remedy)
    last = f"; the Lease was last renewed {age:,.0f} s ago" if spec.get("renewTime") else "; nobody ever did"
    remedy = f"look at: kubectl get pods -n {place.system}; bad nodes are not cordoned until one of them leads"
    return fail("controller", f"{holder or 'nobody'} leads{last}", remedy)


def _changes(place: Place, lease: Object) -> bool:
    """Whether somebody writes the Lease, within what a renewal takes."""
    end = time.monotonic() + RENEWAL_SECONDS
    while time.monotonic() < end:
        time.sleep(0.2)
        now = place.there(_lease_path(place)) or lease
        if now["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            return True
    return False


def _dry_run(place: Place) -> bool:
    return any(settings.get("dry_run") is True for settings in _settings(place))


def _settings(place: Place) -> list[Object]:
    """The controller's, as far as they may be read."""
    try:
        found = place.api.items(f"/api/v1/namespaces/{place.system}/configmaps", OURS)
        texts = [item["data"]["settings.yaml"] for item in found if "settings.yaml" in (item.get("data") or {})]
        return [one for one in (parse(str(text), "") for text in texts) if isinstance(one, dict)]
    except (ApiError, UserError):
        return []


def report_type(place: Place) -> Finding:
    if "nodereports" in place.api.types(f"{NAMES.prefix}/v1"):
        return ok("NodeReport type", "there")
    return fail(
        "NodeReport type", "this cluster does not know NodeReports", "upgrade the chart with nodeReports.crd.install=true"
    )


def admission(place: Place) -> Finding:
    """The fence around the controller's account (docs/security.md): every policy is there, fails closed and denies."""
    policies = {
        str(item["metadata"]["name"]): item for item in place.api.items(f"{ADMISSION}/validatingadmissionpolicies", OURS)
    }
    bindings = place.api.items(f"{ADMISSION}/validatingadmissionpolicybindings")
    denied = {b["spec"]["policyName"] for b in bindings if "Deny" in (b["spec"].get("validationActions") or [])}
    if absent := [end for end in POLICIES if not any(name.endswith(end) for name in policies)]:
        return fail(
            "admission policies", f"without {', '.join(f'*{end}' for end in absent)}", "`helm upgrade` brings them back"
        )
    open_ = [n for n, item in policies.items() if n not in denied or item["spec"].get("failurePolicy", "Fail") != "Fail"]
    if open_:
        what = f"not in force: {', '.join(sorted(open_))}"
        return fail("admission policies", what, "`helm upgrade` brings their bindings back, with the action Deny")
    return ok("admission policies", f"{len(policies)} in force")


def training_namespace(place: Place) -> Finding:
    """Its label lets the controller take pods away there; that it looks there at all is said in its settings."""
    good = f"{place.namespace} is one for training"
    found = asked("namespace", lambda: check_namespace(place.api, place.namespace), good)
    watched = sorted({str(name) for settings in _settings(place) for name in settings.get("namespaces") or ()})
    if found.verdict is Verdict.OK and watched and place.namespace not in watched:
        what = f"the controller looks at {', '.join(watched)} alone: no pod of {place.namespace} gets a bad node cordoned"
        return fail("namespace", what, f"helm upgrade with {place.namespace} in training.namespaces, beside the others")
    return found


def pod_security(place: Place) -> Finding:
    """Lehr's pods comply with `restricted`."""
    found = place.there(f"/api/v1/namespaces/{place.namespace}")
    level = labels(found or {}).get(SECURITY, "")
    if level == "restricted":
        return ok("pod security", f"{place.namespace} enforces `restricted`")
    mend = f"run: kubectl label --overwrite namespace {place.namespace} {SECURITY}=restricted"
    what = f"{place.namespace} enforces {f'`{level}` only' if level else 'no level'}"
    return warn("pod security", what, f"{mend}, which Lehr's pods comply with")


def accounts(place: Place) -> Finding:
    """Of tasks' pods, and of the driver, which `lehr submit` needs and Flyte does not."""
    task = asked("accounts", lambda: check_account(place.api, place.namespace, TASK_ACCOUNT), "")
    driver = asked("accounts", lambda: check_account(place.api, place.namespace, DRIVER_ACCOUNT), "")
    if Verdict.UNSEEN in (task.verdict, driver.verdict):
        return task if task.verdict is Verdict.UNSEEN else driver
    if task.verdict is Verdict.FAIL:
        return warn("accounts", task.found, "install the chart with this namespace in training.namespaces")
    if driver.verdict is Verdict.FAIL:
        return warn("accounts", f"{driver.found}: no `lehr submit --backend kubernetes`", driver.remedy)
    return ok("accounts", f"{TASK_ACCOUNT} and {DRIVER_ACCOUNT}")


def gpu_nodes(place: Place) -> Finding:
    """Which nodes have GPUs to give, and whether the controller may cordon them."""
    nodes = [(item, _amount(item, "allocatable", place.gpu_resource)) for item in place.api.items(NODES)]
    held = [(item, gpus) for item, gpus in nodes if gpus or _amount(item, "capacity", place.gpu_resource)]
    if not held:
        others = sorted({name for item, _ in nodes for name in _offers(item) if name.endswith("/gpu")})
        remedy = f"give --gpu-resource {others[0]}" if others else "install the device plugin of your GPUs"
        return warn("GPU nodes", f"none of {len(nodes)} nodes has {place.gpu_resource}", remedy)
    what = f"{len(held)} of {len(nodes)} nodes have {sum(gpus for _, gpus in held)} GPUs to give"
    if dead := [_name(item) for item, gpus in held if not gpus]:
        return warn("GPU nodes", f"{what}; none on {_some(dead)}", "look at the device plugin's pods there")
    if wild := [_name(item) for item, _ in held if labels(item).get(NAMES.managed_label) != "true"]:
        mend = f"run: kubectl label node NODE {NAMES.managed_label}=true {NAMES.pool_label}=POOL"
        return warn("GPU nodes", f"{what}; nobody cordons {_some(wild)} when they fail", mend)
    if away := [_name(item) for item, _ in held if (item.get("spec") or {}).get("unschedulable")]:
        return warn("GPU nodes", f"{what}; {len(away)} cordoned", "`lehr nodes list` says why and by whom")
    return ok("GPU nodes", f"{what}, all managed")


def _offers(item: Object) -> dict[str, object]:
    found: dict[str, object] = (item.get("status") or {}).get("allocatable") or {}
    return found


def _amount(item: Object, kind: str, resource: str) -> int:
    return digits(str(((item.get("status") or {}).get(kind) or {}).get(resource, "0"))) or 0


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def monitoring(place: Place) -> Finding:
    lacking = sorted(MONITORS - place.api.types("monitoring.coreos.com/v1"))
    if lacking:
        remedy = "install the Prometheus operator, then helm upgrade; or have your Prometheus read port 9404 of the controller"
        return warn("monitoring types", f"this cluster does not have {', '.join(lacking)}: no alerts, no scraping", remedy)
    return ok("monitoring types", "there")


CHECKS: tuple[tuple[str, Callable[[Place], Finding]], ...] = (
    ("clock of the cluster", clock),
    ("rights: Jobs", rights_on_jobs),
    ("rights: nodes", rights_on_nodes),
    ("chart", chart),
    ("controller", controller),
    ("NodeReport type", report_type),
    ("admission policies", admission),
    ("namespace", training_namespace),
    ("pod security", pod_security),
    ("accounts", accounts),
    ("GPU nodes", gpu_nodes),
    ("monitoring types", monitoring),
)
