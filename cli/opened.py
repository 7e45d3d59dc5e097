"""What `lehr eval` says and keeps of held-out examples that it opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lehr.artifacts.artifact import LOGS
from lehr.cli.say import say
from lehr.evals.held_out import OPENINGS, Ledger, often_opened, openings_of_run, read_openings


def remember(made: Path, place: Path, run: Path | None, tasks: Sequence[str]) -> None:
    """Of the scores in the folder `made`, which lie in `place`: keep their openings with the model's run too, where that is
    another folder, and say which of the tasks were opened for other models of it before. Without a run, of this place."""
    opened = read_openings(made / LOGS / OPENINGS)
    root = place
    if run is not None:
        root = run
        if place.absolute() != (run / "evals").absolute():
            _keep(run, made)
    own = [o for o in openings_of_run(root) if o.task in tasks and o.task in {mine.task for mine in opened}]
    for line in often_opened(own):
        say(line if run else line.replace("of this run", "here"), err=True)


def _keep(run: Path, made: Path) -> None:
    ledger = Ledger(run / OPENINGS, "", "")
    try:
        for opening in read_openings(made / LOGS / OPENINGS):
            ledger.record(opening)
    except OSError as error:  # somebody else's run: its scores are theirs to keep
        say(f"not written down with the run: held-out examples were opened ({error})", err=True)
