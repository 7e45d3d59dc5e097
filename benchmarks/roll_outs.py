"""Roll-outs whose answers differ tenfold in length: refilled rows against static batches, ours and Hugging Face's; and a whole
GRPO step against trl's (benchmarks.grpo_step).

A model of random weights ends no answer by itself, so lengths are dictated, the same on all sides: an answer ends when it has
so many tokens, as a stop token would end it. Shapes: B rows, T columns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import grpo_step, models
from benchmarks.common import LEHR, Record, compared, in_turns, main
from benchmarks.generate import hf, ours_of
from lehr.model.generate import LanguageModel, _pick
from lehr.model.layers import KVCache
from lehr.model.packed import packed

PROMPTS, WIDTH, ROWS = 256, 32, 64  # prompts, tokens of each, and the most that are decoded at once
SHORTEST, LONGEST = 12, 120  # tokens of an answer
STATIC = f"static batches of {ROWS}"
Ids = list[list[int]]


def lengths(answers: int) -> list[int]:
    """Of so many answers, log-uniform."""
    draw = np.random.default_rng(17)
    found: list[int] = np.exp(draw.uniform(np.log(SHORTEST), np.log(LONGEST + 1), answers)).astype(int).tolist()
    return found


def refilled(mine: LanguageModel, prompts_BT: Tensor, wanted: Sequence[int], temperature: float) -> Ids:
    """The product's way. It does not know the lengths beforehand: prompts come in order of arrival."""
    return mine.generate(prompts_BT.tolist(), LONGEST, [-1], temperature, rows=ROWS, limits=wanted)


def static(mine: LanguageModel, prompts_BT: Tensor, wanted: Sequence[int], temperature: float) -> Ids:
    """Static batching with our own model, packed weights, cache and sampling: a batch decodes all its rows until its longest
    answer has ended, then the next batch begins."""
    generator = torch.Generator().manual_seed(0)
    model = packed(mine.model, ROWS, LONGEST)
    out: Ids = []
    for group in _groups(wanted):
        tokens_BT, longest = prompts_BT[group], max(wanted[group])
        start_B = torch.zeros(len(tokens_BT), dtype=torch.int64)
        cache = KVCache(model.config, len(tokens_BT), WIDTH + longest, start_B, model.embed.weight.dtype)
        columns: list[Tensor] = []
        with torch.no_grad():
            while len(columns) < longest:
                columns.append(_pick(model.logits(model.newest(tokens_BT, cache)).float(), temperature, generator))
                tokens_BT = columns[-1][:, None]
        out += _cut(torch.stack(columns, dim=1), wanted[group])
    return out


def theirs_static(theirs: Any, prompts_BT: Tensor, wanted: Sequence[int], temperature: float) -> Ids:
    """Hugging Face's generate, batch by batch; without the top 50 that it would sample from by default."""
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    out: Ids = []
    for group in _groups(wanted):
        out += _cut(hf(theirs, prompts_BT[group], max(wanted[group]), wanted[group], **sampling), wanted[group])
    return out


def _groups(wanted: Sequence[int]) -> list[slice]:
    return [slice(first, first + ROWS) for first in range(0, len(wanted), ROWS)]


def _cut(answers_BT: Tensor, wanted: Sequence[int]) -> Ids:
    return [answer[:length] for answer, length in zip(answers_BT.tolist(), wanted, strict=True)]


def sampling() -> list[Record]:
    """New tokens per processor second, at temperature 1."""
    model = models.ours("4M", WIDTH + LONGEST)
    mine, theirs = ours_of(model), models.hugging_face(model).eval()
    prompts_BT = torch.randint(2, model.config.vocab_size, (PROMPTS, WIDTH), generator=torch.Generator().manual_seed(9))
    wanted = lengths(PROMPTS)
    ways: dict[str, Callable[[float], Ids]] = {
        LEHR: lambda temperature: refilled(mine, prompts_BT, wanted, temperature),
        f"the same model, {STATIC}": lambda temperature: static(mine, prompts_BT, wanted, temperature),
        f"Hugging Face, {STATIC}": lambda temperature: theirs_static(theirs, prompts_BT, wanted, temperature),
    }
    greedy = {name: way(0.0) for name, way in ways.items()}  # warms up too
    for name, answers in greedy.items():
        alike = np.mean([a == b for a, b in zip(answers, greedy[LEHR], strict=True)])
        if alike < 0.98:  # two tokens as likely to within rounding may fall either way
            raise SystemExit(f"greedy, only {alike:.0%} of the answers of {name} are those of {LEHR}")
    calls = {name: lambda w=way: w(1.0) for name, way in ways.items()}  # type: ignore[misc]
    seconds = in_turns(calls, turns=3, warm=0, clock=time.process_time)
    rates = {name: sum(wanted) / value for name, value in seconds.items()}
    rows = ROWS * sum(max(wanted[group]) for group in _groups(wanted)) / sum(wanted)
    note = f"static batches decode {rows:.3g} times as many tokens"
    case = f"{PROMPTS} prompts of {WIDTH} tokens, answers of {SHORTEST} to {LONGEST}, at most {ROWS} at once"
    return [
        compared("roll_outs", case, rates[LEHR], rate, name, "new tokens/s", note=note, target=2.5)
        for name, rate in rates.items()
        if name != LEHR
    ]


def run() -> Sequence[Record]:
    """New tokens and GRPO steps per processor second, fp32, at 4M parameters."""
    return [*sampling(), *grpo_step.records(WIDTH, LONGEST, lengths(grpo_step.ROWS))]


if __name__ == "__main__":
    sys.exit(main("roll_outs", run))
