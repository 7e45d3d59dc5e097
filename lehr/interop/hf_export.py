"""The Hugging Face export: files that `transformers` loads, written without it; and the proof that both agree.

Shapes: B batch, T positions, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Backend
from torch import Tensor, nn

from lehr.artifacts.tensors import write_tensors
from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.interop.hf_config import hf_config
from lehr.interop.hf_weights import to_hf_state
from lehr.post.chat import turn_end_id
from lehr.runtime.errors import UserError

TOLERANCE = 1e-4  # largest difference of two logits, both in fp32


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _id_of(tokenizer: Backend, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise UserError(
            f"the tokenizer has no token {token!r}", remedy="export with the tokenizer that the model was trained with"
        )
    return int(found)


def tokenizer_config(tokenizer: Backend, chat_template: str | None, *, eos: str, pad: str, max_length: int) -> dict[str, Any]:
    """`tokenizer_config.json`: special tokens by id, the chat template, and no clean-up that would change a text."""
    added = {
        str(token_id): {
            "content": token.content,
            "lstrip": token.lstrip,
            "normalized": token.normalized,
            "rstrip": token.rstrip,
            "single_word": token.single_word,
            "special": token.special,
        }
        for token_id, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": added,
        "eos_token": eos,
        "pad_token": pad,
        "bos_token": None,
        "unk_token": None,
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    if chat_template is not None:
        config["chat_template"] = chat_template
    return config


def export_hf(
    model_state: dict[str, Tensor],
    config: Model,
    tokenizer: Backend | Path,
    chat_template: str | None,
    folder: Path,
    *,
    eos: str = "",
    pad: str = "",
) -> Path:
    """Write the family's Hugging Face model with its tokenizer into `folder`; the same input gives the same bytes.

    `tokenizer` is one of Hugging Face's or the path of its `tokenizer.json`. `eos` and `pad` are names of tokens; unless
    given, they are those of `lehr.data.tokenizer.Tokenizer`. Where `chat_template` ends a turn with another token
    than theirs, generation stops at both. Raises UserError where the weights do not fit `config` or a
    token is unknown; then nothing has been written.
    """
    if isinstance(tokenizer, Path):
        tokenizer = Backend.from_file(str(tokenizer))
        tokenizer.no_truncation()  # a text is taken whole, whatever a file that is not ours says
        tokenizer.no_padding()
    end = None
    if not (eos and pad):
        ours = Tokenizer(tokenizer, chat_template or "")
        end = turn_end_id(ours) if chat_template else None
        eos, pad = eos or ours.token(ours.eos_id), pad or ours.token(ours.pad_id)
    tensors = to_hf_state(model_state, config)
    eos_id, pad_id = _id_of(tokenizer, eos), _id_of(tokenizer, pad)
    dtype = str(tensors["model.embed_tokens.weight"].dtype).removeprefix("torch.")
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", hf_config(config, eos=eos_id, pad=pad_id, dtype=dtype))
    stops = eos_id if end in (None, eos_id) else [end, eos_id]
    _write(folder / "generation_config.json", {"do_sample": False, "eos_token_id": stops, "pad_token_id": pad_id})
    weights = {name: tensors[name].cpu().contiguous() for name in sorted(tensors)}
    write_tensors(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    _write(
        folder / "tokenizer_config.json",
        tokenizer_config(tokenizer, chat_template, eos=eos, pad=pad, max_length=config.max_seq_len),
    )
    _write(folder / "special_tokens_map.json", {"eos_token": eos, "pad_token": pad})
    return folder


@dataclass(frozen=True)
class VerifyResult:
    """How far two implementations of one model differ. `first_difference` names where it begins, if it is too far."""

    max_abs_difference: float
    same_greedy: bool
    positions: int
    first_difference: str = ""

    @property
    def ok(self) -> bool:
        return self.max_abs_difference <= TOLERANCE and self.same_greedy


def _tap(blocks: Iterable[nn.Module], into: list[Tensor]) -> list[Any]:
    """Forward hooks that keep each block's output; the caller removes them."""

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        into.append((output[0] if isinstance(output, tuple) else output).detach().float())

    return [block.register_forward_hook(keep) for block in blocks]


def _first_difference(ours: nn.Module, theirs: nn.Module, tokens_BT: Tensor) -> str:
    """The first of embedding, blocks and final norm whose outputs differ by more than the tolerance."""
    states: tuple[list[Tensor], list[Tensor]] = ([], [])
    sides: Any = ((ours, ours), (theirs, theirs.model))
    for (model, body), into in zip(sides, states, strict=True):
        embed = body.embed if model is ours else body.embed_tokens
        hooks = _tap([embed, *body.layers, body.norm], into)
        model(tokens_BT)
        for hook in hooks:
            hook.remove()
    names = ["embedding", *(f"layer {i}" for i in range(len(states[0]) - 2)), "final norm"]
    for name, a, b in zip(names, *states, strict=True):
        if (a - b).abs().max().item() > TOLERANCE:
            return name
    return "head"


def _greedy(logits: Callable[[Tensor], Tensor], tokens_BT: Tensor, new_tokens: int) -> Tensor:
    """Greedy continuation without a cache: slow, and plainly right."""
    for _ in range(new_tokens):
        tokens_BT = torch.cat([tokens_BT, logits(tokens_BT)[:, -1:].argmax(dim=-1)], dim=1)
    return tokens_BT


def _load_with_transformers(folder: Path) -> Any:
    try:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError:
        remedy = "install Lehr with its extra: pip install 'lehr[export]'"
        raise UserError("transformers is not installed", remedy=remedy) from None
    logging.disable_progress_bar()  # it would write through our own display
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


@torch.no_grad()
def verify_hf(folder: Path, ours: nn.Module, token_batches: Iterable[Tensor], *, new_tokens: int = 8) -> VerifyResult:
    """Load `folder` with transformers, and compare its fp32 logits and greedy text with those of `ours`.

    `ours` maps tokens (B, T) to logits (B, T, V); a `Transformer` in fp32. Each batch holds at least one row and may
    not be longer than the context less `new_tokens`. Needs the extra `export`; raises UserError without it.
    """
    theirs = _load_with_transformers(folder)

    def their_logits(tokens_BT: Tensor) -> Tensor:
        logits: Tensor = theirs(tokens_BT, use_cache=False).logits
        return logits

    worst, positions, same, where = 0.0, 0, True, ""
    for tokens_BT in token_batches:
        difference = (ours(tokens_BT).float() - their_logits(tokens_BT)).abs().max().item()
        # A NaN compares as no difference at all, so it is asked for by name.
        worst = max(worst, difference) if difference == difference else float("inf")
        positions += tokens_BT.numel()
        same = same and torch.equal(_greedy(ours, tokens_BT, new_tokens), _greedy(their_logits, tokens_BT, new_tokens))
        if worst > TOLERANCE and not where:
            where = _first_difference(ours, theirs, tokens_BT)
    if not positions:
        raise UserError("nothing to compare", remedy="give at least one batch of tokens")
    return VerifyResult(worst, same, positions, where)
