"""Preflight checks of the devices that a pod was given. No Kubernetes client, no credentials, the same code on CPU.

`python -m lehr.infra.pod.probes` runs them in the pod's first init container (`__main__.py`). torch is imported inside the
checks only: the parent process, which keeps the time, must stay able to answer whatever a device does to the child.
"""

VERSION = "1"  # of the checks: raise it with every change that can change a verdict; breakers count per check and version
