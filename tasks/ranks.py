"""Nodes and ranks of the tasks that train, score or sample on several ranks: chosen at registration, as resources are.

Flytekit writes a task's launcher down when it registers it, before there is a recipe. A recipe whose `parallel.processes` is
another number is refused when its run is opened.
"""

from __future__ import annotations

import os
from typing import Any

from lehr.errors import UserError

VARIABLE = "LEHR_TASK_RANKS"
_PATIENCE = 900  # seconds: pods of one job do not start together
_REMEDY = "write nodes=4,ranks=8 (ranks on each node)"


def counts(text: str) -> tuple[int, int]:
    """(nodes, ranks on each) of `nodes=4,ranks=8`. Raises UserError for anything else."""
    found = {"nodes": 1, "ranks": 1}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, amount = part.partition("=")
        if name not in found or not (amount.isascii() and amount.isdigit()) or int(amount) < 1:
            raise UserError(f"{part!r} asks for nothing", where=VARIABLE, remedy=_REMEDY)
        found[name] = int(amount)
    return found["nodes"], found["ranks"]


def elastic(text: str) -> dict[str, Any]:
    """What a task is given so that Flyte starts its ranks; nothing for one rank: Lehr itself starts those of one machine.

    Raises UserError for a bad `text`.
    """
    nodes, ranks = counts(text)
    if nodes * ranks == 1:
        return {}
    from flytekitplugins.kfpytorch import CleanPodPolicy, Elastic, RunPolicy  # loads torch and the Kubernetes client

    config = Elastic(
        nnodes=nodes,
        nproc_per_node=ranks,
        max_restarts=0,  # a restart inside the agent meets the store of the attempt before (torch 2.13); Flyte retries
        rdzv_configs={"timeout": _PATIENCE, "join_timeout": _PATIENCE, "read_timeout": _PATIENCE},
        increase_shared_mem=False,  # the pod template has /dev/shm already
        run_policy=RunPolicy(clean_pod_policy=CleanPodPolicy.RUNNING),  # ended pods stay: the fleet reads their exit codes
    )
    return {"task_config": config}


def check(processes: int) -> None:
    """Raises UserError if the tasks were registered for another number of ranks than the recipe's `processes`."""
    nodes, ranks = counts(os.environ.get(VARIABLE, ""))
    if nodes * ranks not in (1, processes):
        raise UserError(
            f"the tasks were registered for {nodes * ranks} ranks, the recipe asks for {processes}",
            where=f"parallel.processes={processes}",
            remedy=f"set parallel.processes={nodes * ranks}, or register with another {VARIABLE}",
        )
