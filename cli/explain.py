"""`lehr explain`: what a stage's fingerprint follows from, and how two differ."""

from __future__ import annotations

from pathlib import Path

import click

from lehr.cli.places import RUN, Where


@click.command("explain")
@click.argument("run", type=RUN)
@click.argument("stage")
@click.option("--against", metavar="RUN2", type=RUN, help="Another run, or one artifact: compare with it.")
def explain(run: Where, stage: str, against: Where | None) -> None:
    """Show what the fingerprint of STAGE in RUN follows from: settings, code, inputs.

    A stage is found again where all of these are equal, and made anew where one differs. --against shows only the parts in
    which another run's stage of that name differs; of an input that differs, ask again with that input's stage. Without it,
    what tells RUN's earlier artifacts of the stage from the last one is said below the table.

    \b
    Examples:
      lehr explain runs/tiny-olmo2 stage1
      lehr explain runs/tiny-olmo2 stage1 --against runs/second
    """
    from lehr.cli.explained import differences, earlier, fingerprint
    from lehr.cli.locate import find_stage, of_run
    from lehr.cli.tables import page

    model = find_stage(run, stage)
    if against is not None:
        page(differences(model, find_stage(against, stage)))
        return
    here = of_run(run) if isinstance(run, Path) and (run / "artifacts").is_dir() else []
    page(fingerprint(model), *earlier(model, [a for a in here if a.manifest.stage == stage]))
