"""Imported by the fork server alone, for its effect: it and the ranks that it forks do not hear SIGTERM and Ctrl-C.

`systemctl stop`, Slurm and a container's runtime send SIGTERM to every process; rank 0 is the one that saves the state and
ends the others.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
