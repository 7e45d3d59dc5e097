"""Generation with a KV cache against Hugging Face's `generate`, on the same weights and prompts, greedy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import models
from benchmarks.common import LEHR, Record, compared, in_turns, main
from lehr.data.tokenizer import Tokenizer
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer

PROMPT, NEW = 64, 64
HF = "Hugging Face"


class _Vocabulary:
    """What generation asks of a tokenizer, for a model without one."""

    eos_id, pad_id = -1, 0


def ours_of(model: Transformer) -> LanguageModel:
    fake: Any = _Vocabulary()
    tokenizer: Tokenizer = fake
    return LanguageModel(model, tokenizer)


def run() -> Sequence[Record]:
    """New tokens per second at 15M parameters: batch 1, batch 16, and 64 prompts whose answers differ fivefold in length."""
    model = models.ours("15M", 512)
    theirs = models.hugging_face(model).eval()
    mine = ours_of(model)
    records: list[Record] = []
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        theirs.to(dtype)
        name = str(dtype).removeprefix("torch.")
        for rows in (1, 16):
            prompts = torch.randint(2, 8000, (rows, PROMPT), generator=torch.Generator().manual_seed(rows))
            found = in_turns(
                {
                    LEHR: lambda p=prompts: mine.generate(p.tolist(), NEW, [-1]),  # type: ignore[misc]
                    HF: lambda p=prompts: hf(theirs, p, NEW),  # type: ignore[misc]
                },
                turns=5,
                warm=1,
            )
            total = rows * NEW
            case = f"{name}, batch {rows}"
            records += _records(case, total, found, target=1.2 if rows == 1 else 1.5)
        records += ragged(mine, theirs, name)
    return records


def hf(model: Any, prompts: torch.Tensor, new: int, lengths: Sequence[int] | None = None, **sampling: Any) -> torch.Tensor:
    """Exactly `new` tokens after each prompt, as they are returned; with `lengths`, rows end when they have so many, as a stop
    token would end them. Greedy, unless `sampling` says how."""
    criteria = None if lengths is None else ends([prompts.shape[1] + n for n in lengths])
    with torch.no_grad():
        out: torch.Tensor = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new, min_new_tokens=1,
            eos_token_id=None, pad_token_id=0, stopping_criteria=criteria, use_cache=True, **(sampling or {"do_sample": False}),
        )  # fmt: skip
    return out[:, prompts.shape[1] :]


def ends(columns: Sequence[int]) -> Any:
    """Hugging Face's criterion that ends each row when it has so many columns, its prompt's among them."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    limit = torch.tensor(columns)

    class Ends(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return ids.shape[1] >= limit

    return StoppingCriteriaList([Ends()])


def ragged(mine: LanguageModel, theirs: Any, name: str) -> list[Record]:
    """64 prompts of 32 tokens, answers of 24 to 120 tokens, at most 16 rows at once on both sides: Hugging Face decodes
    four batches, each until its longest answer ends; Lehr refills a row when its answer has ended."""
    generator = torch.Generator().manual_seed(9)
    prompts = torch.randint(2, 8000, (64, 32), generator=generator)
    lengths = torch.randint(24, 121, (64,), generator=generator).tolist()

    def batches() -> None:
        for start in range(0, 64, 16):
            part = lengths[start : start + 16]
            hf(theirs, prompts[start : start + 16], max(part), part)

    found = in_turns(
        {LEHR: lambda: mine.generate(prompts.tolist(), 120, [-1], rows=16, limits=lengths), HF: batches}, turns=3, warm=1
    )
    total = sum(lengths)
    note = "at most 16 rows at once on both sides"
    case = f"{name}, 64 prompts, answers of 24 to 120 tokens"
    return _records(case, total, found, note, target=2.0)


def _records(case: str, tokens: int, found: dict[str, float], note: str = "", target: float = 1.0) -> list[Record]:
    """Of what took `found` seconds for `tokens` new tokens."""
    rates = {name: tokens / seconds for name, seconds in found.items()}
    mine = rates.pop(LEHR)
    return [
        compared("generate", case, mine, theirs, name, "tokens/s", note=note, target=target) for name, theirs in rates.items()
    ]


if __name__ == "__main__":
    sys.exit(main("generate", run))
