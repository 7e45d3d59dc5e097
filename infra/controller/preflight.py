"""Whether a pod's preflight is genuine: an image on the allow-list does not show what was run in it.

The author of the pod chooses command, environment and volumes of every container. A verdict counts only if the container ran
the image's probes and nothing could interfere: no other command or working folder, no variable that influences Python, the
loader or the visible devices, no volume that something else filled before, no process beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lehr.infra.fleet.policy import NAMES

Object = Mapping[str, Any]
PYTHON = re.compile(r"(/(usr|opt)/[\w./-]+/)?python3?(\.\d+)?")
PROBES = ["-m", "lehr.infra.pod.probes"]
MOUNTS = ("/lehr", "/tmp", "/dev/shm")
TOKENS = "/var/run/secrets/"  # mounted by the API server, not read by the probes
EXPECTED = "LEHR_EXPECTED_GPUS"
FIXED = {"LEHR_VERDICT": "/lehr/verdict.json", "TMPDIR": "/tmp", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
# What Flyte's engine sets in every container, and the probes' own switches: a check that is switched off accuses no node.
FOREIGN = re.compile(r"(FLYTE|F|_F|AWS|K8S)_\w+|LEHR_PROBE_[A-Z]+")


def is_ours(spec: Object, status: Object, allowed_images: Sequence[str], gpu_resource: str, variables: Sequence[str]) -> bool:
    """`spec` and `status` of a pod; `variables`: names that the cluster sets in every container. Without a list of images every
    preflight is accepted."""
    if not allowed_images:
        return True
    inits = list(spec.get("initContainers") or [])
    place = next((i for i, c in enumerate(inits) if c.get("name") == NAMES.preflight_container), None)
    if place is None or spec.get("shareProcessNamespace") or spec.get("hostPID") or spec.get("ephemeralContainers"):
        return False
    container, earlier = inits[place], inits[:place]
    return (
        _image(status) in allowed_images
        and _runs_the_probes(container)
        and _sees_the_devices(container, gpu_resource, variables)
        and _has_clean_volumes(container, earlier, spec)
    )


def _image(status: Object) -> str:
    """The digest of the image that the kubelet ran, which the specification cannot alter afterwards."""
    states = status.get("initContainerStatuses") or []
    ran: Object = next((s for s in states if s.get("name") == NAMES.preflight_container), {})
    return str(ran.get("imageID", "")).rpartition("@")[2]


def _runs_the_probes(container: Object) -> bool:
    command = [str(word) for word in container.get("command") or []]
    if container.get("args") or container.get("workingDir") or container.get("lifecycle") or container.get("restartPolicy"):
        return False
    if container.get("terminationMessagePath") not in (None, "", "/dev/termination-log"):
        return False
    return command[1:] == PROBES and PYTHON.fullmatch(command[0]) is not None and ".." not in command[0]


def _sees_the_devices(container: Object, gpu_resource: str, variables: Sequence[str]) -> bool:
    gpus = str(((container.get("resources") or {}).get("limits") or {}).get(gpu_resource, "0"))
    if container.get("envFrom"):
        return False
    for variable in container.get("env") or []:
        name, value = str(variable.get("name")), variable.get("value")
        if name in FIXED or name == EXPECTED:
            if value != FIXED.get(name, gpus):
                return False
        elif name not in variables and FOREIGN.fullmatch(name) is None:
            return False
    return True


def _has_clean_volumes(container: Object, earlier: Sequence[Object], spec: Object) -> bool:
    kinds = {v.get("name"): v for v in spec.get("volumes") or []}
    used = {m.get("name") for c in earlier for m in c.get("volumeMounts") or []}
    for mount in container.get("volumeMounts") or []:
        path, name = str(mount.get("mountPath", "")), mount.get("name")
        if path.startswith(TOKENS) and ".." not in path:
            continue
        if path not in MOUNTS or "emptyDir" not in kinds.get(name, {}) or name in used:
            return False
    return not container.get("volumeDevices")
