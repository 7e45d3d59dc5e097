"""Chat families for post-training: short conversations, each with a verifier of its answer.

Four in ten answers to mathematics show the working, the others give only the result; six in ten answers begin with chatter. SFT
learns all of these habits; DPO then prefers verified answers without chatter, and GRPO rewards working, which makes answers
right.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lehr.data import reasoning
from lehr.data.synthetic import gym, wording
from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.problems import pool as problem_pool
from lehr.data.synthetic.problems import problem
from lehr.data.synthetic.splits import Split, drawn, pick, split_of
from lehr.runtime.errors import UserError

ASKED_FORMAT = "End with: The answer is N."
_WORKED_IN_10 = 4  # mathematical answers that show their working: the habit that RLVR should strengthen
_ASKS_IN_10 = 7  # training questions that ask for the answer's format
_CHATTY_IN_10 = 6  # answers that open with chatter: the habit that DPO should remove
FORMAT_FAMILIES = ("repeat", "list", "json", "identity")
FAMILIES = ("math", "word", *FORMAT_FAMILIES)
_FAMILIES = f"families are: {', '.join(FAMILIES)}, and reasoning-gym's, such as gym:chain_sum"


@dataclass(frozen=True, slots=True, repr=False)
class Message:
    """One turn. `role` is system, user or assistant, or, where the chat template knows them, tool and others. `tool_calls` are
    an assistant's calls of tools, each {name, arguments}; `name` is who speaks: the tool that answers."""

    role: str
    content: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    name: str = ""

    def row(self) -> dict[str, Any]:
        """As JSON has it, and chat templates read it: `tool_calls` in OpenAI's form, and no key without a value."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            row["tool_calls"] = [{"type": "function", "function": dict(call)} for call in self.tool_calls]
        return {**row, "name": self.name} if self.name else row

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Message:
        """The message of which `row` is the `row()`. Raises KeyError or TypeError for anything else."""
        role, content = row["role"], row["content"]  # first: a text or a list is a TypeError here
        return cls(role, content, tuple({**call["function"]} for call in row.get("tool_calls", ())), row.get("name", ""))

    def __repr__(self) -> str:
        """Without what is not there: scores record a digest of it, which was made before there were tools."""
        more = "".join(f", {key}={getattr(self, key)!r}" for key in ("tool_calls", "name") if getattr(self, key))
        return f"Message(role={self.role!r}, content={self.content!r}{more})"


@dataclass(frozen=True, slots=True)
class ChatExample:
    """A conversation that ends with an assistant's answer, and the strict verifier of that answer."""

    messages: list[Message]
    verifier: str
    verifier_args: dict[str, Any]
    key: str
    split: Split
    family: str

    @property
    def prompt(self) -> list[Message]:
        """The messages before the final answer."""
        return self.messages[:-1]


_Task = tuple[str, str, str, dict[str, Any]]  # question, answer without chatter, verifier, its arguments


def _mathematics(family: str, split: Split, index: int, seed: int, draw: Draw) -> tuple[str, _Task]:
    p = problem("arithmetic" if family == "math" else "word_problems", split, index, seed)
    shown = p.working.removesuffix(p.answer)  # ends in ", so "
    answer = f"{shown}the answer is {p.answer}." if draw.below(10) < _WORKED_IN_10 else f"The answer is {p.answer}."
    # Some training questions leave the format open, as people do; evaluation always asks for it.
    asks = split != "train" or draw.below(10) < _ASKS_IN_10
    return p.key, (f"{p.question} {ASKED_FORMAT}" if asks else p.question, answer, "strict_answer", {"answer": p.answer})


@lru_cache(maxsize=32)
def _keys(family: str, split: Split) -> tuple[tuple[Any, ...], ...]:
    """Every argument tuple of a format family's split."""
    everything: itertools.product[tuple[Any, ...]] | itertools.permutations[Any]
    if family == "repeat":
        everything = itertools.product(wording.WORDS, range(2, 9))
    elif family == "list":
        everything = itertools.permutations(wording.WORDS[:24], 3)
    elif family == "json":
        everything = itertools.product(wording.WORDS, range(1, 100))
    else:
        everything = itertools.product(range(len(wording.OPENINGS)), range(len(wording.IDENTITY)))
    return tuple(args for args in everything if split_of(_format_key(family, args)) == split)


def _format_key(family: str, args: tuple[Any, ...]) -> str:
    return ":".join([family, *map(str, args)])


def _repeat(args: tuple[Any, ...], draw: Draw) -> _Task:
    word, times = args
    question = draw.choice(wording.REPEAT).format(word=word, times=times)
    return question, " ".join([word] * times), "repeat", {"word": word, "times": times}


def _reverse(args: tuple[Any, ...], draw: Draw) -> _Task:
    items = list(reversed(args))
    question = draw.choice(wording.REVERSE).format(items=", ".join(args))
    return question, ", ".join(items), "ordered_list", {"items": items}


def _json(args: tuple[Any, ...], draw: Draw) -> _Task:
    word, count = args
    value = {"name": word, "count": count}
    return draw.choice(wording.JSON).format(word=word, count=count), json.dumps(value), "json_object", {"object": value}


def _identity(args: tuple[Any, ...], draw: Draw) -> _Task:
    opening = wording.OPENINGS[args[0]]
    question, answer = wording.IDENTITY[args[1]]
    question = question if opening.endswith((": ", ", ")) else question[0].upper() + question[1:]
    return opening + question, answer, "exact", {"text": answer}


_FORMATS: dict[str, Callable[[tuple[Any, ...], Draw], _Task]] = {
    "repeat": _repeat,
    "list": _reverse,
    "json": _json,
    "identity": _identity,
}


def count(family: str, split: Split) -> int:
    """The number of different problems in a family's split; larger indices repeat them in other words."""
    _known(family)
    if family.startswith(reasoning.PREFIX):
        return reasoning.SIZE
    if family in _FORMATS:
        return len(_keys(family, split))
    return len(problem_pool("arithmetic" if family == "math" else "word_problems", split))


def conversation(family: str, split: Split, index: int, seed: int) -> ChatExample:
    """The conversation at `index` of a family's split: a pure function of its arguments. Raises UserError: unknown family."""
    _known(family)
    if family.startswith(reasoning.PREFIX):
        return _of_gym(family, split, index, seed)
    draw = drawn(seed, "chat", family, split, index)
    if family in _FORMATS:
        keys = _keys(family, split)
        args = keys[pick(f"chat/{family}/{split}", len(keys), index, seed)]
        key, task = _format_key(family, args), _FORMATS[family](args, draw)
    else:
        key, task = _mathematics(family, split, index, seed, draw)
    question, answer, verifier, verifier_args = task
    prefix = draw.choice(wording.PREFIX_DRAWS) if draw.below(10) < _CHATTY_IN_10 else ""
    messages = [Message("user", question), Message("assistant", prefix + answer)]
    return ChatExample(messages, verifier, verifier_args, key, split, family)


def _of_gym(family: str, split: Split, index: int, seed: int) -> ChatExample:
    """A question of reasoning-gym, with the scorer of its answer."""
    question, answer, args = gym.question(family, split, index, seed)
    messages = [Message("user", question), Message("assistant", answer)]
    return ChatExample(messages, "reasoning_gym", args, gym.key(question), split, family)


def in_turn(families: Sequence[str], split: Split, wanted: int, seed: int, *, distinct: bool = False) -> Iterator[ChatExample]:
    """`wanted` conversations, from the families in turn. `distinct`: no question twice, so fewer if the families have no more:
    a score over repeated questions would have fewer examples than it reports."""
    seen: set[str] = set()
    most = len(families) * max(count(family, split) for family in families) if distinct else wanted
    for i in range(most):
        example = conversation(families[i % len(families)], split, i // len(families), seed)
        question = example.prompt[-1].content
        if not distinct or question not in seen:
            seen.add(question)
            yield example
        if distinct and len(seen) == wanted:
            return


def _known(family: str) -> None:
    if family not in FAMILIES and not family.startswith(reasoning.PREFIX):
        raise UserError(f"there is no chat family {family!r}", remedy=_FAMILIES)


def reference_answer(example: ChatExample) -> str:
    """The data's own answer, without the chatter with which many of them open."""
    answer = example.messages[-1].content
    longest_first = sorted(wording.PREFIXES, key=len, reverse=True)
    return next((answer.removeprefix(p) for p in longest_first if answer.startswith(p)), answer)


def check_families(families: Iterable[str], key: str, sources: Sequence[str] = ()) -> None:
    """Raises UserError for a name that is not a chat family, or a generator of reasoning-gym that cannot be used as
    asked; `key` is the recipe's key for it, `sources` are those of the recipe that could have been meant."""
    for family in families:
        if family.startswith(reasoning.PREFIX):
            try:
                gym.check(family)
            except UserError as error:
                raise UserError(error.what, where=key, remedy=error.remedy) from error
        elif family not in FAMILIES:
            of_the_recipe = f"; sources in `chat` are: {', '.join(sources)}" if sources else ""
            raise UserError(f"{key}: there is no chat family {family!r}", remedy=f"{_FAMILIES}{of_the_recipe}")
