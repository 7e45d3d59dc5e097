"""`lehr plan`: what a recipe will cost, before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lehr.cli.places import LOCAL
from lehr.cli.run import recipe_argument, set_option
from lehr.cli.say import say

if TYPE_CHECKING:
    from rich.table import Table

    from lehr.planning.plan import RunPlan

GIB = 2**30
JOULES = 3.6e6  # of a kWh
_UNITS = {"GiB": GIB, "MiB": 2**20, "KiB": 2**10}


@click.command("plan")
@recipe_argument
@set_option
@click.option(
    "--on",
    "machines",
    metavar="FILE",
    type=LOCAL,
    help="Machines to plan for instead of the recipe's: a file with sections site and hardware, as in recipes/hardware.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--plot", metavar="FILE", type=LOCAL, help="Draw the schedules; .svg or .html.")
def plan(recipe: Path, overrides: tuple[str, ...], machines: Path | None, as_json: bool, plot: Path | None) -> None:
    """Say what RECIPE will cost: tokens, steps, FLOPs, memory, hours, energy, carbon, water, money.

    Reckoned from the recipe alone, without data and without training, for the machines of its section `hardware`. Energy
    and carbon follow the formulas of the reports: GPU-hours (of CPUs core-hours) x watts x PUE, and that x the grid's
    intensity. What does not fit is said, with what would help. Learning rates and batch sizes of all stages can be drawn.

    \b
    Examples:
      lehr plan tiny/olmo2
      lehr plan tiny/olmo2 --on hardware/jupiter --set hardware.count=64
      lehr plan tiny/stablelm2 --plot schedules.html
    """
    from lehr.config import load_recipe
    from lehr.planning.plan import plan_run

    _check_plot(plot)
    made = plan_run(load_recipe(recipe, list(overrides), machines))
    if plot is not None:
        _draw(made, plot)
    if as_json:
        say(json.dumps(made.json(), indent=1))
    else:
        _show(made)
    if plot is not None:
        say(f"schedules: {plot}", err=as_json)


def _check_plot(path: Path | None) -> None:
    from lehr.runtime.errors import UserError

    if path is not None and path.suffix not in (".svg", ".html"):
        raise UserError(
            f"--plot {path}: cannot draw a {path.suffix or 'file without an ending'}", remedy="name it .svg or .html"
        )


def _draw(made: RunPlan, path: Path) -> None:
    from lehr.artifacts.artifact import write_atomic
    from lehr.planning.curves import schedule_lines
    from lehr.report.schedules import schedules_html, schedules_svg
    from lehr.runtime.errors import UserError, from_os_error

    lines = schedule_lines([s.work for s in made.stages])
    text = (schedules_svg if path.suffix == ".svg" else schedules_html)(made.recipe.name, lines)
    try:
        write_atomic(path, text)
    except (FileExistsError, IsADirectoryError):
        raise UserError("a file or folder of that name is in the way", where=path, remedy="choose another --plot") from None
    except OSError as error:
        raise from_os_error(error, path) from None


def _show(made: RunPlan) -> None:
    from lehr.cli.tables import console

    out = console()
    for line in _head(made):
        out.print(line)
    out.print()
    out.print(_work_table(made))
    out.print()
    out.print(_footprint_table(made))
    reported = made.hardware.reported
    if reported and any(stage.reported for stage in made.stages):
        out.print(f"* as reported: {reported.citation}", style="dim")
    out.print()
    out.print(_memory_table(made))
    for problem in made.problems:
        out.print(f"! {problem}", style="bold red")
    if not made.problems:
        out.print("It fits.", style="green")
    for note in made.notes:
        out.print(f"- {note}", style="dim")


def _head(made: RunPlan) -> list[str]:
    from lehr.model.size import active_parameter_count, flops_per_token, parameter_count
    from lehr.report.format import duration

    h, site, model = made.hardware, made.recipe.site, made.recipe.model
    length = made.recipe.window_tokens or model.max_seq_len
    n, active = parameter_count(model), active_parameter_count(model)
    shape = f"{n:,} parameters" + (f", {active:,} active" if active != n else "")
    p = h.parallelism
    degrees = f"{p.data} over {h.data_ranks:,} data ranks" + (f" in {p.replicas} replicas" if p.replicas > 1 else "")
    degrees += "".join(f", {name} {size}" for name, size in (("tensor", p.tensor), ("pipeline", p.pipeline)) if size > 1)
    wall = duration(made.total["seconds"])
    water = f", {site.water_liters_per_kwh:g} L/kWh" if site.water_liters_per_kwh else ""
    return [
        f"{made.recipe.name}: {shape}, {flops_per_token(model, length):.4g} FLOPs a token",
        f"on {h.count:,} x {h.accelerator} ({h.peak_tflops:g} TFLOP/s, {h.watts:g} W): {degrees}",
        f"site: PUE {site.pue:g}, {site.carbon_kg_per_kwh:g} kg CO2/kWh{water} ({site.citation})",
        f"checkpoint: {_size(made.checkpoint_bytes)} with optimiser state, {_size(4 * n)} of weights alone",
        f"stages one after another: {wall}",
    ]


def _size(value: float) -> str:
    unit = next((u for u in ("GiB", "MiB") if value >= _UNITS[u]), "KiB")
    return f"{value / _UNITS[unit]:,.4g} {unit}"


def _work_table(made: RunPlan) -> Table:
    from lehr.report.format import count, number

    table = _right_aligned("stage", "tokens", "steps", "FLOPs", "MFU", made.hardware.hours, made.hardware.currency)
    marks = {"exact": "", "estimated": "~", "at most": "<="}
    for s in made.stages:
        w = s.work
        hours = number(s.gpu_hours, 4) + ("*" if "gpu_hours" in s.reported else "")
        amounts = marks[w.how] + count(w.tokens), f"{w.steps:,}", f"{w.flops:.3g}", f"{100 * s.mfu:.3g} %"
        table.add_row(w.name, *amounts, hours, number(s.cost, 4))
    t = made.total
    sums = count(t["tokens"]), f"{t['steps']:,.0f}", f"{t['flops']:.3g}", "", number(t["gpu_hours"], 4), number(t["cost"], 4)
    table.add_row("total", *sums, style="bold")
    return table


def _footprint_table(made: RunPlan) -> Table:
    from lehr.report.format import energy, mass, volume

    table = _right_aligned("stage", "IT energy", "with PUE", "CO2", "water")
    for s in made.stages:
        mark = "*" if "it_kwh" in s.reported else ""
        it, building = energy(s.it_kwh * JOULES) + mark, energy(s.kwh * JOULES)
        table.add_row(s.work.name, it, building, mass(s.co2_kg), volume(s.water_l or None))  # none: the site gives no figure
    t = made.total
    it, building = energy(t["it_kwh"] * JOULES), energy(t["kwh"] * JOULES)
    table.add_row("total", it, building, mass(t["co2_kg"]), volume(t["water_l"] or None), style="bold")
    return table


def _right_aligned(*heads: str) -> Table:
    from rich.table import Table

    table = Table(*heads, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _memory_table(made: RunPlan) -> Table:
    h, m = made.hardware, made.memory
    table = _right_aligned(f"memory of each in {made.heaviest.name}, micro-batch {h.micro_batch}", "")
    for name, size in m.parts().items():
        aside = " (instead of activations and logits)" if name == "update" else ""
        table.add_row(f"{name}{aside}", _size(size))
    table.add_row("at the peak", _size(m.total), style="bold")
    table.add_row("without activation checkpointing", _size(made.kept.total))
    table.add_row("with activation checkpointing", _size(made.checkpointed.total))
    table.add_row("there is", _size(h.memory_gib * GIB))
    return table
