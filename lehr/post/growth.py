"""A chat template or a token taken over by a model, and the rows of the embedding for what is new.

A new row is the mean of all rows of the vocabulary, in the embedding and in a head of its own. Granite's template also sets the
end-of-text token's row to that mean, "to support the model's ability to stop after a single turn" (Granite 3.0, section 5.2):
pretraining taught the model that a document is over after it, not a turn.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from lehr.data.tokenizer import Tokenizer
from lehr.model.transformer import Transformer
from lehr.post.conditioning import with_negative
from lehr.post.template_tokens import with_template
from lehr.train.checkpointing.checkpoint import Loaded

_TABLES = ("embed.weight", "head.weight")
_UNLEARNS_END = ("granite",)  # templates whose report does


def take_template(loaded: Loaded, chosen: str) -> Loaded:
    """The model with that template; the same object where it has it already. Rows are added where the new tokens' ids need
    them; ids among the padding rows take those. Everything else of the model stays as it is. Raises UserError as
    `with_template`."""
    return _with(loaded, with_template(loaded.tokenizer, chosen), chosen in _UNLEARNS_END)


def take_negative(loaded: Loaded) -> Loaded:
    """The model with the negative token of lehr.post.conditioning; the same object where it has it already."""
    return _with(loaded, with_negative(loaded.tokenizer), False)


def _with(loaded: Loaded, after: Tokenizer, unlearns_end: bool) -> Loaded:
    before = loaded.tokenizer
    if after is before:
        return loaded
    new = sorted(set(after.special_ids.values()) - set(before.special_ids.values()))
    if not new:
        return replace(loaded, tokenizer=after)
    reset = [before.eos_id] if unlearns_end else []
    model = _grown(loaded.model, before.vocab_size, after.vocab_size, [*new, *reset])
    return replace(loaded, model=model, architecture=model.config, tokenizer=after)


@torch.no_grad()
def _grown(model: Transformer, known: int, wanted: int, rows: list[int]) -> Transformer:
    """A copy with at least `wanted` rows, `rows` being the mean of the first `known`: the rest is untrained padding."""
    config = model.config.model_copy(update={"vocab_size": max(wanted, model.config.vocab_size)})
    grown = Transformer(config).to(model.cos.device)
    old = dict(model.named_parameters())
    for name, parameter in grown.named_parameters():
        if name not in _TABLES:
            parameter.copy_(old[name])
            continue
        table_VD = old[name]
        parameter.zero_()
        parameter[: len(table_VD)].copy_(table_VD)
        parameter[rows] = table_VD[:known].double().mean(dim=0).to(parameter.dtype)
    return grown
