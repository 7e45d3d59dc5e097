"""`lehr show` and `lehr chat`: finished models."""

from __future__ import annotations

import math
import sys
from typing import Any

import click

from lehr.cli.places import RUN, Where
from lehr.cli.say import say

artifact_argument = click.argument("artifact", type=RUN)


@click.command("show")
@artifact_argument
@click.option("--verify", is_flag=True, help="Hash every file of it and of its ancestors first, and say how many.")
def show(artifact: Where, verify: bool) -> None:
    """Show where ARTIFACT comes from, what it cost, and its scores.

    ARTIFACT is an artifact's folder, or a run's folder: then it is the run's last model. Either may be an s3:// address.
    Costs are summed over all ancestors, each counted once; of tokens, those that were trained on. Scores come from the
    run's scores.json, beside those of the model it was made from. Last come restarts, full disks, dead ranks and rollbacks
    on the way, if there were any.

    \b
    Examples:
      lehr show runs/tiny-olmo2
      lehr show runs/tiny-olmo2 --verify > tiny.txt
    """
    from lehr.artifacts.incidents import read_incidents
    from lehr.cli.card import cost_table, lineage_tree, score_table, verdict
    from lehr.cli.locate import find, whole
    from lehr.cli.tables import page, text

    model = find(artifact)
    verified = [whole(ancestor) for ancestor in model.lineage()] if verify else []
    for ancestor in verified:
        ancestor.verify()
    incidents = "\n".join(line for ancestor in model.lineage() for line in read_incidents(ancestor))
    last = [text(words) for words in (incidents, verdict(verified) if verify else "") if words]
    page(lineage_tree(model), cost_table(model), score_table(model), *last)


class Temperature(click.FloatRange):
    """A finite number, 0 or more; so small that logits would overflow is 0."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from lehr.config.checks import LEAST_TEMPERATURE

        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no temperature; give 0, or a number such as 0.8", param, ctx)
        return number if number >= LEAST_TEMPERATURE else 0.0


@click.command("chat")
@artifact_argument
@click.option("--temperature", type=Temperature(), default=0.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=80, show_default=True, help="Longest answer.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the sampling; the same seed answers the same."
)
def chat(artifact: Where, temperature: float, max_new_tokens: int, seed: int) -> None:
    """Talk to ARTIFACT, a checkpoint's folder or a run's folder.

    On a terminal it is a conversation; otherwise one message is read from standard input and the answer is printed.
    A model that has not learnt to chat continues the text instead.

    \b
    Examples:
      lehr chat runs/tiny-olmo2
      echo 'What is 7 + 8? End with: The answer is N.' | lehr chat runs/tiny-olmo2
    """
    from lehr.cli.locate import find, whole
    from lehr.runtime.errors import UserError

    model = whole(find(artifact).expect("checkpoint"))
    model.verify()
    message = None if sys.stdin.isatty() else sys.stdin.read().strip()
    if message == "":
        raise UserError("there is no message on standard input", remedy="pipe one in, or call it from a terminal")
    from lehr.cli.talk import converse, speaker

    who = speaker(model, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    if message is None:
        converse(who, model.manifest.stage)
        return
    answer = who.reply([{"role": "user", "content": message}])
    if not who.chat:
        say(f"{model.manifest.stage} is a base model: it continues the text", err=True)
    say(answer)
