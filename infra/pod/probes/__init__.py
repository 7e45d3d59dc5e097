"""Preflight checks of a pod's devices. No Kubernetes client, no credentials, the same code on CPU.

`python -m lehr.infra.pod.probes` runs them in the pod's first init container (`__main__.py`). torch is imported inside the
checks only: the parent process, which enforces the time limit, must be able to report whatever a device does to the child.
"""

VERSION = "1"  # of the checks: raise it with every change that can change a verdict; breakers count per check and version
