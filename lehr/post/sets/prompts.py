"""Prompts of roll-outs with their verifiers: from supplied rows and generated families to an artifact, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lehr.config.chat import PromptsSource
from lehr.data.decontaminate import Decontaminator
from lehr.data.synthetic.conversations import ChatExample, Message, conversation
from lehr.data.tokenizer import Tokenizer
from lehr.post.asked import prompt_ids
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.conversation_rows import verified_prompt_of
from lehr.post.sets.drawing import drawn, wanted
from lehr.post.sets.files import Row
from lehr.post.sets.prepare import clean, generated_row, read_set
from lehr.runtime import seeds
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import object_in

PROMPTS = "prompts.jsonl"
_AGAIN = "delete the artifact and run the same command again"


@dataclass(frozen=True)
class Preparing:
    """The amount of each set in an epoch: supplied `sources`, the others generated families; shares are of `samples`
    prompts, of at most `max_length` tokens. `verified` says that verifiers alone reward their answers: each needs one."""

    amounts: Mapping[str, int | str]
    sources: Mapping[str, PromptsSource]
    samples: int
    max_length: int
    seed: int
    verified: bool


def prepare_prompts(
    wish: Preparing, tokenizer: Tokenizer, index: Decontaminator | None, out: Path, note: Callable[[str], None]
) -> dict[str, int]:
    """Write the prompts of every set to `out`, with counts and dropped rows. Returns their number by set. Raises UserError for
    bad rows, a verifier that does not exist or does not take a row's arguments, and a set of which no prompt is left."""
    found: dict[str, int] = {}
    with Audit(out) as audit, (out / PROMPTS).open("w", encoding="utf-8") as file:
        for name, amount in wish.amounts.items():
            source = wish.sources.get(name)
            counts = SetCounts(source.origin, source.license) if source else SetCounts("generated", "CC0-1.0")
            audit.sets[name] = counts
            if source:
                asked = _supplied(name, source, wish, index, audit)
            else:
                asked = clean(_generated(name, int(amount), wish.seed, counts), index, name, audit, _prompt)
            kept = [(row, size) for row, size in _short(name, asked, tokenizer, wish, audit)]
            counts.kept = len(kept)
            if not kept:
                raise _nothing_left(name, source, counts, wish.max_length)
            count = wanted({name: amount}, {name: len(kept)}, wish.samples)[name]
            chosen = [kept[i] for i in drawn(0, len(kept), count, seeds.derive(wish.seed, name))]
            counts.drawn, counts.tokens = len(chosen), sum(size for _, size in chosen)
            file.writelines(json.dumps(row, sort_keys=True) + "\n" for row, _ in chosen)
            found[name] = len(chosen)
            note(f"{name}: {counts.kept:,} of {counts.read:,} prompts kept, {counts.drawn:,} in an epoch")
        audit.close()
    return found


def _nothing_left(name: str, source: PromptsSource | None, counts: SetCounts, max_length: int) -> UserError:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.most_common(3))
    where = source.path if source else f"prompts of at most {max_length} tokens"
    return UserError(f"no prompt of {name!r} is left: {reasons}", where=where, remedy="mend the data, or lower max_new_tokens")


def _generated(family: str, count: int, seed: int, counts: SetCounts) -> Iterator[tuple[Row, ChatExample]]:
    for number in range(count):
        counts.read += 1
        yield generated_row(family, number), conversation(family, "train", number, seed)


def _prompt(example: ChatExample) -> list[Message]:
    return example.prompt


def _supplied(
    name: str, source: PromptsSource, wish: Preparing, index: Decontaminator | None, audit: Audit
) -> Iterator[tuple[Row, ChatExample]]:
    parse = partial(verified_prompt_of, needed=wish.verified)
    for row, asked in clean(read_set(name, source, parse, "prompts", audit), index, name, audit, lambda asked: asked.prompt):
        yield row, _example(name, asked.prompt, asked.verifier, asked.arguments)


def _example(family: str, prompt: tuple[Message, ...], verifier: str, arguments: dict[str, Any]) -> ChatExample:
    """A prompt without an answer, which nobody reads in a roll-out."""
    return ChatExample([*prompt, Message("assistant", "")], verifier, arguments, "", "train", family)


def _short(
    name: str, asked: Iterator[tuple[Row, ChatExample]], tokenizer: Tokenizer, wish: Preparing, audit: Audit
) -> Iterator[tuple[dict[str, Any], int]]:
    """As rows of the artifact, with their tokens, those that leave room for an answer. Raises UserError for turns that the
    template refuses."""
    for row, example in asked:
        try:
            size = len(prompt_ids(example, tokenizer))
        except UserError as error:
            raise UserError(error.what, where=row.where, remedy=error.remedy) from None
        if size > wish.max_length:
            audit.drop(name, row, "leaves no room for an answer")
            continue
        prompt = [m.row() for m in example.prompt]
        yield {"family": name, "prompt": prompt, "verifier": example.verifier, "arguments": dict(example.verifier_args)}, size


def read_prompts(folder: Path) -> list[ChatExample]:
    """The prompts of an artifact, each with an empty answer. Raises UserError if its file is damaged."""
    path, out = folder / PROMPTS, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        row = object_in(line, f"{path}:{number}", _AGAIN)
        try:
            prompt = tuple(Message.of(m) for m in row["prompt"])
            out.append(_example(row["family"], prompt, row["verifier"], row["arguments"]))
        except (KeyError, TypeError) as error:
            raise UserError(f"{error} is missing or damaged", where=f"{path}:{number}", remedy=_AGAIN) from None
    return out
