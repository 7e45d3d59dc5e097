"""Entry of the `lehr` command. Groups import their rooms late: `lehr --help` loads neither torch nor flytekit."""

from __future__ import annotations

import atexit
import gc
import io
import sys
from collections.abc import Sequence

import click

from lehr import __version__
from lehr.cli.compare import compare
from lehr.cli.controller import controller
from lehr.cli.convert import export, import_
from lehr.cli.corpus import funnel, sample, try_
from lehr.cli.data import dropped
from lehr.cli.diagnose import diagnose
from lehr.cli.doctor import doctor
from lehr.cli.evaluate import eval_
from lehr.cli.explain import explain
from lehr.cli.failure import report_failure
from lehr.cli.init import init
from lehr.cli.merge import merge
from lehr.cli.model import chat, show
from lehr.cli.nodes import nodes
from lehr.cli.plan import plan
from lehr.cli.profile import profile
from lehr.cli.provenance import lookup
from lehr.cli.recipes import recipes
from lehr.cli.rows import data
from lehr.cli.run import run_command, validate
from lehr.cli.runs import list_
from lehr.cli.serve import serve
from lehr.cli.simulate import simulate
from lehr.cli.submit import submit
from lehr.cli.submitted import cancel, logs, open_, status
from lehr.cli.tracking import mlflow_
from lehr.cli.watch import watch

_SECTIONS: dict[str, tuple[tuple[click.Command, str], ...]] = {
    "Recipes and runs": (
        (recipes, "The recipes that come with Lehr; `copy` one to change it."),
        (init, "A first recipe for your own documents."),
        (validate, "Check a recipe, and print it with what it inherits."),
        (plan, "What it will cost, before anything is spent."),
        (run_command, "Train it; give the command again to go on."),
        (watch, "A page that shows runs, live: curves, stages, scores."),
        (list_, "The runs here: recipe, state, scores, costs, size."),
        (doctor, "What is wrong with this machine, a store or a cluster."),
    ),
    "A finished run": (
        (show, "Where its model comes from, what it cost, its scores."),
        (chat, "Talk to the model."),
        (serve, "Answer OpenAI's clients with it, over HTTP."),
        (eval_, "Score it with other tasks; nothing is trained."),
        (compare, "Scores of several runs, their costs, what differs."),
        (explain, "What a stage follows from, and how two differ."),
        (dropped, "Documents that were not trained on, with reasons."),
        (data, "What is trained on: filters tried on documents, rows as they are rendered."),
        (lookup, "The documents of a training step, and the reverse."),
        (mlflow_, "The address of its record, for MLflow's server."),
    ),
    "Models": (
        (export, "For Hugging Face or llama.cpp."),
        (import_, "A checkpoint of a Hugging Face model."),
        (merge, "One checkpoint of several that share an ancestor."),
        (profile, "Where a training step goes."),
        (diagnose, "How initialisations carry signal through depth."),
    ),
    "Clusters": (
        (submit, "Run a recipe there, each stage in a pod."),
        (status, "Of a submitted run: its stages, and why one failed."),
        (logs, "What a stage of it prints."),
        (open_, "Its page in Flyte's console."),
        (cancel, "Stop it; the store keeps what is done."),
        (simulate, "What failing nodes cost, and what a policy saves."),
        (nodes, "A cluster's nodes: which are cordoned, and why."),
        (controller, "Watch the nodes; cordon, test and release them."),
    ),
}


class _Sections(click.Group):
    """Lists its commands by what they are for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [str(command.name) for rows in _SECTIONS.values() for command, _ in rows]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(str(command.name), text) for command, text in rows], col_spacing=4)


@click.group(cls=_Sections, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lehr")
def lehr() -> None:
    """Train open language models end to end: documents to a scored chat model.

    One recipe file describes it, one workflow runs it. A run that was interrupted, at any moment and in any way,
    continues where it stood when the same command is given again.

    \b
    First steps:
      lehr run tiny/olmo2             minutes, two CPU cores; into runs/tiny-olmo2
      lehr chat runs/tiny-olmo2
      lehr init mine --data FILE      a recipe for your own documents
      lehr run mine/recipe.yaml

    Exit codes: 0 done, 1 a goal that was asked for is missed, 2 bad input, 70 a fault of Lehr's own, 75 the machine failed
    and a retry can help, 130 interrupted, 143 stopped from outside. LEHR_DEBUG=1 shows tracebacks.
    """


for _command in (funnel, sample, try_):
    data.add_command(_command)
for _command in (command for rows in _SECTIONS.values() for command, _ in rows):
    lehr.add_command(_command)


def _take_any_text() -> None:
    """A terminal or a pipe whose encoding has not every character (the C locale's, Latin-1) gets a question mark for what it
    has not: no command fails at its last line because of a name's umlaut. What is piped in is UTF-8, as every file is."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            piped = stream is sys.stdin and not stream.isatty()
            stream.reconfigure(encoding="utf-8" if piped else None, errors="replace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Every failure ends as one line on stderr."""
    _take_any_text()
    atexit.register(gc.freeze)  # else the interpreter collects all of torch once more at its end: 1.4 s of waiting
    try:
        result = lehr.main(args=None if arguments is None else list(arguments), prog_name="lehr", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001 - the outermost frame: reported below, never lost
        return report_failure(error)
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
