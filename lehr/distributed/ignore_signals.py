"""Imported by the fork server only, for its side effect: the server and the ranks that it forks ignore SIGTERM and Ctrl-C.

`systemctl stop`, Slurm and container runtimes signal every process of a group; only rank 0 reacts: it saves the state and ends
the other ranks.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
