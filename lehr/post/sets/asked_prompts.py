"""Prompts to be answered: supplied ones, those of supplied conversations, and generated ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from lehr.config.chat import ConversationsSource, PromptsSource
from lehr.data.decontaminate import Decontaminator
from lehr.data.synthetic.conversations import Message, in_turn
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.conversation_rows import conversation_of, verified_prompt_of
from lehr.post.sets.drawing import drawn, wanted
from lehr.post.sets.prepare import clean, generated_row, read_set
from lehr.post.sets.shapes import BadRow, Values
from lehr.runtime import seeds
from lehr.runtime.errors import UserError


@dataclass(frozen=True)
class Asked:
    """A question of a family or a set, and the verifier of its answer; an empty name without one. `tools`: see Conversation."""

    family: str
    prompt: tuple[Message, ...]
    verifier: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    answer: str = ""  # the data's own
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Wish:
    """`samples` prompts of generated `families` in turn, and the amount of each of the `sources`; shares are of `samples`.
    `verified` says that verifiers judge their answers, so that each needs one."""

    families: Sequence[str]
    amounts: Mapping[str, int | str]
    sources: Mapping[str, PromptsSource | ConversationsSource]
    samples: int
    seed: int
    verified: bool


def asked_prompts(wish: Wish, index: Decontaminator | None, audit: Audit) -> list[Asked]:
    """All of them, in order, counted in `audit`. Raises UserError for bad rows, and for a source of which nothing is left."""
    made = [Asked(e.family, tuple(e.prompt), e.verifier, e.verifier_args) for e in generated(wish)]
    stay = set[int]()
    for family in dict.fromkeys(asked.family for asked in made):
        rows = [(generated_row(family, number), asked) for number, asked in enumerate(made) if asked.family == family]
        counts = audit.sets[family] = SetCounts("generated", "CC0-1.0", read=len(rows))
        clear = {row.number for row, _ in clean(rows, index, family, audit, lambda asked: asked.prompt)}
        counts.kept, stay = len(clear), stay | clear
    found = [asked for number, asked in enumerate(made) if number in stay]
    for name, amount in wish.amounts.items():
        source = wish.sources[name]
        counts = audit.sets[name] = SetCounts(source.origin, source.license)
        own = list(_supplied(name, source, index, audit, verified=wish.verified))
        counts.kept = len(own)
        if not own:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.most_common(3))
            raise UserError(f"no prompt of {name!r} is left: {reasons}", where=source.path, remedy="add prompts")
        count = wanted({name: amount}, {name: len(own)}, wish.samples)[name]
        found += [own[i] for i in drawn(0, len(own), count, seeds.derive(wish.seed, name))]
    return found


def generated(wish: Wish) -> Iterator[Any]:
    """Training questions of the families: lehr.data.synthetic.conversations.ChatExample."""
    return in_turn(wish.families, "train", wish.samples, wish.seed) if wish.families else iter(())


def _supplied(
    name: str, source: PromptsSource | ConversationsSource, index: Decontaminator | None, audit: Audit, *, verified: bool
) -> Iterator[Asked]:
    prompts = partial(_prompted, needed=verified), "prompts"
    parse, kind = prompts if isinstance(source, PromptsSource) else (_begun, "conversations")
    for _, asked in clean(read_set(name, source, parse, kind, audit), index, name, audit, lambda asked: asked.prompt):
        yield replace(asked, family=name)


def _prompted(values: Values, *, needed: bool) -> Asked:
    found = verified_prompt_of(values, needed=needed)
    return Asked("", found.prompt, found.verifier, found.arguments)


def _begun(values: Values) -> Asked:
    """A conversation up to its last answer."""
    talk = conversation_of(values)
    last = max(i for i, m in enumerate(talk.messages) if m.role == "assistant")
    if not last or talk.messages[last - 1].role not in ("user", "tool"):
        raise BadRow("its last answer has no question before it", "begin with a turn of the user")
    return Asked("", talk.messages[:last], answer=talk.messages[last].content, tools=talk.tools)
