"""What pairs are made of: questions with what is known of their answers, generated or one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.config.pairs import Pairs
from lehr.data.synthetic.conversations import ChatExample, Message, reference_answer
from lehr.data.synthetic.splits import Split
from lehr.data.tokenizer import Tokenizer
from lehr.post.asked import SPLITS, pair_prompts, pairs_seed
from lehr.post.chat import render
from lehr.post.sets.asked_prompts import Asked
from lehr.post.verifiers import verify
from lehr.runtime import seeds


@dataclass(frozen=True)
class Question:
    """Of a family or a set: the turns before an answer, `answer`, the data's own, and the verifier of any; both are empty where
    there is none. `tools`: see Conversation."""

    family: str
    prompt: tuple[Message, ...]
    answer: str = ""
    verifier: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[dict[str, Any], ...] = ()

    def ids(self, tokenizer: Tokenizer) -> list[int]:
        """The prompt's tokens under a model's own template, up to where its answer begins."""
        return render(list(self.prompt), tokenizer, True, list(self.tools) or None)[0]

    def passes(self, text: str) -> bool:
        """Whether the verifier passes an answer that ended by itself."""
        return verify(self.verifier, dict(self.arguments), text, True) == 1.0

    def row(self) -> dict[str, Any]:
        """What a pair's row says of it."""
        return {"family": self.family, "prompt": [message.row() for message in self.prompt]}


def generated(pairs: Pairs, seed: int, stream: str) -> Iterator[tuple[Split, Question]]:
    """Those of the families. A prompt's split is its own."""
    for split in SPLITS:
        for example in pair_prompts(pairs, split, pairs_seed(seed, stream, split)):
            yield split, of_example(example)


def of_example(example: ChatExample) -> Question:
    answer = reference_answer(example)
    return Question(example.family, tuple(example.prompt), answer, example.verifier, example.verifier_args)


def of_asked(asked: Asked, share: float) -> tuple[Split, Question]:
    """One's own, of which a `share` is held out by the prompt's hash, and its split."""
    found = Question(asked.family, asked.prompt, asked.answer, asked.verifier, asked.arguments, asked.tools)
    held = seeds.uniform_hash(json.dumps(found.row()["prompt"], sort_keys=True)) < share
    return "held_out" if held else "train", found
