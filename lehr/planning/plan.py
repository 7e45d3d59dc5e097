"""The whole plan of a recipe, and its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lehr.config.hardware import Hardware
from lehr.config.recipe import Recipe
from lehr.model.size import active_parameter_count, flops_per_token, parameter_count
from lehr.planning.cost import SUMMED, StageCost, costs
from lehr.planning.fit import batch_notes, memory_problem, shape_problems
from lehr.planning.memory import Memory, memory_per_accelerator, with_checkpointing
from lehr.planning.work import Work
from lehr.planning.works import works
from lehr.runtime.errors import UserError

# A recipe that names no machines is planned for one accelerator of the reports' kind, and the plan says so.
ASSUMED = Hardware(
    accelerator="NVIDIA H100 80GB",
    count=1,
    memory_gib=79.1,
    peak_tflops=989.0,
    mfu=0.4,
    watts=700.0,
    citation="assumed: the recipe has no section `hardware`",
)
_WEIGHT_BYTES, _STATE_BYTES = 4, 12  # fp32 weights; with both moments of AdamW


@dataclass(frozen=True)
class RunPlan:
    """`memory` is of `heaviest`, the pretraining stage whose peak is the highest; `checkpointed` and `kept` are the same with
    and without activation checkpointing. `problems` do not fit; `notes` qualify."""

    recipe: Recipe
    hardware: Hardware
    stages: list[StageCost]
    heaviest: Work
    memory: Memory
    kept: Memory
    checkpointed: Memory
    problems: list[str]
    notes: list[str]

    @property
    def total(self) -> dict[str, float]:
        """Sums over all stages."""
        rows = [s.row() for s in self.stages]
        return {key: sum(row[key] for row in rows) for key in SUMMED}  # type: ignore[misc]

    @property
    def checkpoint_bytes(self) -> int:
        """A pretraining checkpoint as Lehr writes it: fp32 weights and both moments, which a child stage inherits."""
        return _STATE_BYTES * parameter_count(self.recipe.model)

    def json(self) -> dict[str, Any]:
        """Plain numbers under the names of the documentation."""
        model = self.recipe.model
        n = parameter_count(model)
        return {
            "recipe": self.recipe.name,
            "model": {
                "parameters": n,
                "active_parameters": active_parameter_count(model),
                "active_parameters_without_embedding": active_parameter_count(model, embedding=False),
                "flops_per_token": flops_per_token(model, self.recipe.window_tokens or model.max_seq_len),
            },
            "stages": [s.row() for s in self.stages],
            "total": self.total,
            "memory": {
                "stage": self.heaviest.name,
                **{f"{k}_bytes": v for k, v in self.memory.parts().items()},
                "total_bytes": self.memory.total,
                "without_checkpointing_bytes": self.kept.total,
                "with_checkpointing_bytes": self.checkpointed.total,
                "accelerator_bytes": self.hardware.memory_gib * 2**30,
            },
            "checkpoint": {
                "bytes": self.checkpoint_bytes,
                "weights_bytes": _WEIGHT_BYTES * n,
                "resume_bytes": 2 * _STATE_BYTES * n,  # the two newest states of the stage at work
            },
            "hardware": self.hardware.model_dump(),
            "site": self.recipe.site.model_dump(),
            "fits": not self.problems,
            "problems": self.problems,
            "notes": self.notes,
        }


def plan_run(recipe: Recipe) -> RunPlan:
    """Plan `recipe` on its own `hardware`, or on one assumed accelerator."""
    hardware, model = recipe.hardware or ASSUMED, recipe.model
    precision = planned_precision(recipe, hardware)
    stages, notes = works(recipe)
    if recipe.hardware is None:
        notes.insert(
            0, f"the recipe names no hardware: planned for one {hardware.accelerator} at {hardware.mfu:.0%} utilisation"
        )
    if not hardware.price_per_hour:
        notes.append("no price is stated (hardware.price_per_hour), so the cost is 0")

    def peak(work: Work, machines: Hardware) -> Memory:
        return memory_per_accelerator(model, machines, precision, work.sequence_length, work.batch_size)

    problems = shape_problems(model, hardware)
    if not stages:
        raise UserError(f"recipe {recipe.name} trains nothing that can be planned", remedy="add a stage or a step that trains")
    heaviest = max([w for w in stages if w.kind == "pretraining"] or stages, key=lambda w: peak(w, hardware).total)
    memory = peak(heaviest, hardware)
    if not any("pipeline" in p for p in problems):
        problems += memory_problem(model, hardware, precision, heaviest, memory)
    return RunPlan(
        recipe,
        hardware,
        costs(stages, hardware, recipe.site),
        heaviest,
        memory,
        peak(heaviest, with_checkpointing(hardware, False)),
        peak(heaviest, with_checkpointing(hardware, True)),
        problems,
        [*notes, *batch_notes(stages, hardware)],
    )


def planned_precision(recipe: Recipe, hardware: Hardware) -> str:
    """What `auto` will be: bf16, which every accelerator of the reports has; a machine without it runs in fp32."""
    return "bf16" if recipe.precision == "auto" else recipe.precision
