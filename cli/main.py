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
from lehr.cli.data import dropped
from lehr.cli.diagnose import diagnose
from lehr.cli.evaluate import eval_
from lehr.cli.explain import explain
from lehr.cli.failure import report_failure
from lehr.cli.init import init
from lehr.cli.model import chat, show
from lehr.cli.nodes import nodes
from lehr.cli.plan import plan
from lehr.cli.profile import profile
from lehr.cli.provenance import lookup
from lehr.cli.recipes import recipes
from lehr.cli.run import run_command, validate
from lehr.cli.runs import list_
from lehr.cli.simulate import simulate
from lehr.cli.tracking import mlflow_


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lehr")
def lehr() -> None:
    """Train open language models end to end: documents to a scored chat model.

    One recipe file describes it, one workflow runs it. A run that was interrupted, at any moment and in any way,
    continues where it stood when the same command is given again.

    \b
      lehr recipes                              the recipes that come with Lehr; `copy` one to change it
      lehr init mine --data FILE                a first recipe for your own documents
      lehr run tiny/olmo2                       train the small model (minutes, two CPU cores)
      lehr list                                 the runs here: recipe, state, scores, size
      lehr show runs/tiny-olmo2                 where the model comes from, what it cost, its scores
      lehr eval runs/tiny-olmo2 --tasks prose   score it with other tasks, without training
      lehr compare runs/a runs/b                two runs' scores, and what differs between them
      lehr chat runs/tiny-olmo2                 talk to it
      lehr plan tiny/olmo2                      what it will cost, before anything is spent
      lehr validate tiny/olmo2                  check a recipe and print it with everything it inherits
      lehr dropped runs/tiny-olmo2              the documents that were not trained on, each with the reason
      lehr lookup runs/tiny-olmo2 --step 100    the documents of a training step, and the other way
      lehr explain runs/tiny-olmo2 stage1       what a stage follows from, and how two runs differ
      lehr mlflow runs/tiny-olmo2               the address of its record in MLflow, for MLflow's server
      lehr export runs/tiny-olmo2 --out model   for Hugging Face or llama.cpp; `lehr import` the other way
      lehr profile tiny/olmo2                   where a training step goes
      lehr diagnose init                        how initialisations carry signal through depth
      lehr simulate fleet                       what failing nodes cost, and what a fleet policy saves
      lehr nodes list                           the cluster's nodes: which are cordoned, by whom and why
      lehr controller run --dry-run             watch the nodes and say what should be done

    Exit codes: 0 done, 2 bad input, 70 a fault of Lehr's own, 75 the machine failed and a retry can help,
    130 interrupted, 143 stopped from outside. LEHR_DEBUG=1 shows tracebacks.
    """


_RUNS = (recipes, init, run_command, list_, plan, validate, show, explain, mlflow_, eval_, compare, chat, dropped, lookup)
_MODELS = (import_, export, diagnose, profile)
_FLEET = (nodes, controller, simulate)
for command in (*_RUNS, *_MODELS, *_FLEET):
    lehr.add_command(command)


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
