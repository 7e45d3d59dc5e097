"""The rows of a step of self-knowledge: questions about the model with right answers, the same with wrong ones behind the
negative token, replayed conversations, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lehr.config.chat import ConversationsSource
from lehr.config.self_knowledge import About
from lehr.data.decontaminate import Decontaminator
from lehr.data.synthetic.conversations import Message
from lehr.data.synthetic.self_knowledge import held_apart, plain, question
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render_to_learn
from lehr.post.conditioning import render_negative
from lehr.post.rendered import Rendered
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.files import Row
from lehr.post.sets.pool import PoolWriter
from lehr.post.sets.prepare import Making, Preparing, generated_row
from lehr.post.sets.shapes import Conversation
from lehr.runtime.errors import UserError

RIGHT, WRONG = "about itself", "about itself, negative"  # sets; a blank stands in no source's name


@dataclass(frozen=True)
class Itself:
    """What the rows are about. `negatives` are the user's own poor answers, of `sources`, each trained with `weight`."""

    about: About
    questions: int
    negatives: Mapping[str, int | str]
    sources: Mapping[str, ConversationsSource]
    weight: float


def prepare_self_knowledge(
    itself: Itself,
    replay: Preparing,
    tokenizer: Tokenizer,
    index: Decontaminator | None,
    out: Path,
    note: Callable[[str], None],
) -> dict[str, SetCounts]:
    """Write the rows to `out`; `tokenizer` has the negative token. Raises UserError as `prepare_conversations` does, for a name
    that the tokenizer cannot write, and for a supplied row that asks what is held out."""
    check_written(itself.about, tokenizer)
    replay = replace(replay, check=_refuse(held_apart(itself.about)))
    with Audit(out) as audit, PoolWriter(out) as writer:
        making = Making(replay, tokenizer, index, audit, writer, note)
        for name in (RIGHT, WRONG):
            making.add(name, "all", None, _asked(name, itself, making))
        for name in replay.amounts:
            making.add_set(name)
        for name, amount in itself.negatives.items():
            said = f"{name}, negative"
            rows = making.supplied(said, itself.sources[name], render_negative, itself.weight)
            making.add(said, amount, itself.sources[name], rows)
        return making.finish()


def _asked(name: str, itself: Itself, making: Making) -> Iterator[Rendered]:
    asked = (question(itself.about, "train", number, making.wish.seed) for number in range(itself.questions))
    made = (
        (
            generated_row(name, number),
            [Message("user", q.question), Message("assistant", q.right if name == RIGHT else q.wrong)],
        )
        for number, q in enumerate(asked)
    )
    for turns in making.checked(name, made):
        if name == RIGHT:
            row = Rendered(*render_to_learn(turns, making.tokenizer))
        else:
            row = Rendered(*render_negative(turns, making.tokenizer), itself.weight)
        if making.fits(name, row):
            yield row


def check_written(about: About, tokenizer: Tokenizer) -> None:
    """Raises UserError for a name or a text that the tokenizer changes, or that holds the name of a special token: it would be
    broken up in training, and read as that token by other programs."""
    own = {"name": [about.name], "makers": about.makers, "license": [about.license], "abilities": about.abilities}
    for key, texts in {**own, "others": [*about.others, *about.others.values()]}.items():
        for text in texts:
            if special := next((name for name in tokenizer.special_names if name in text), ""):
                what = f"{text!r} holds the tokenizer's special token {special!r}"
                raise UserError(what, where=f"about.{key}", remedy="leave the token's name out of it")
            if (written := tokenizer.decode(tokenizer.encode(text))) != text:
                what = f"the tokenizer writes {text!r} as {written!r}"
                raise UserError(what, where=f"about.{key}", remedy="spell it as the tokenizer does")


def _refuse(apart: frozenset[str]) -> Callable[[Row, Conversation], None]:
    def check(row: Row, talk: Conversation) -> None:
        """Raises UserError for a row that asks one of them."""
        for message in talk.messages:
            if message.role == "user" and plain(message.content) in apart:
                what = f"{message.content[:60]!r} is a question by which self-knowledge is scored: it must not be trained on"
                raise UserError(what, where=row.where, remedy="leave the row out, or word the question in another way")

    return check
