"""From supplied and generated conversations to rendered rows: read, checked, decontaminated, counted."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from lehr.config.chat import ConversationsSource, SuppliedSource
from lehr.data.decontaminate import Decontaminator
from lehr.data.leaks import judged_text
from lehr.data.synthetic.conversations import Message, conversation
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render_to_learn
from lehr.post.rendered import Rendered
from lehr.post.sets import shapes
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.conversation_rows import ballot_of, conversation_of
from lehr.post.sets.drawing import drawn, wanted
from lehr.post.sets.files import Row, files_of, rows
from lehr.post.sets.pool import PoolWriter
from lehr.post.sets.votes import voted
from lehr.runtime import seeds
from lehr.runtime.errors import UserError

T = TypeVar("T")
_SEARCHED = 512  # rows compared with evaluation texts at once


@dataclass(frozen=True)
class Preparing:
    """What an epoch has: the amount of each set, in order; `sources` are the supplied ones among them, the others are families
    of generated conversations. Shares are of `samples` rows. `check` raises UserError for a supplied row that must not be
    there."""

    amounts: Mapping[str, int | str]
    sources: Mapping[str, ConversationsSource]
    samples: int
    max_length: int
    seed: int
    check: Callable[[Row, shapes.Conversation], None] = lambda row, talk: None


Render = Callable[[Sequence[Message], Tokenizer, Sequence[dict[str, Any]] | None], tuple[list[int], list[bool]]]


def prepare_conversations(
    wish: Preparing, tokenizer: Tokenizer, index: Decontaminator | None, out: Path, note: Callable[[str], None]
) -> dict[str, SetCounts]:
    """Write the rows of every set to `out`, with counts and dropped rows. Raises UserError for bad rows, for a set of which
    nothing is left, and as `render` does."""
    with Audit(out) as audit, PoolWriter(out) as writer:
        making = Making(wish, tokenizer, index, audit, writer, note)
        for name in wish.amounts:
            making.add_set(name)
        return making.finish()


@dataclass
class Making:
    """An artifact of rows, set after set; `numbers` are those of an epoch so far."""

    wish: Preparing
    tokenizer: Tokenizer
    index: Decontaminator | None
    audit: Audit
    writer: PoolWriter
    note: Callable[[str], None]
    numbers: array[int] = field(default_factory=lambda: array("q"))  # eight bytes a row, not thirty-two: sets have millions

    def add_set(self, name: str) -> None:
        """A set of the wish: a source's rows, or a family's."""
        source, amount = self.wish.sources.get(name), self.wish.amounts[name]
        rows = self._generated(name, int(amount)) if source is None else self.supplied(name, source)
        self.add(name, amount, source, rows)

    def add(self, name: str, amount: int | str, source: SuppliedSource | None, rows: Iterator[Rendered]) -> None:
        """So many of `rows`, which are `source`'s or generated. Raises UserError if there are none."""
        counts = self.audit.sets[name] = _counts(source)
        first = len(self.writer)
        lengths, trained = array("i"), array("i")
        for row in rows:
            self.writer.add(row)
            lengths.append(len(row.ids))
            trained.append(sum(row.mask))
        counts.kept = len(lengths)
        if not lengths:
            raise _nothing_left(name, source, counts, self.wish.max_length)
        count = wanted({name: amount}, {name: len(lengths)}, self.wish.samples)[name]
        for number in drawn(first, len(lengths), count, seeds.derive(self.wish.seed, name)):
            counts.drawn += 1
            counts.tokens += lengths[number - first]
            counts.trained_tokens += trained[number - first]
            self.numbers.append(number)
        if source is not None:
            kept = f"{counts.kept:,} of {counts.read:,} rows kept, {counts.drawn:,} in an epoch"
            self.note(f"{name}: {counts.shape}, {kept}{counts.lost()}")

    def finish(self) -> dict[str, SetCounts]:
        """Write what is known after all rows."""
        self.writer.finish(self.numbers)
        self.audit.close()
        return self.audit.sets

    def fits(self, name: str, row: Rendered) -> bool:
        """Whether a generated row is short enough; counted if it is not."""
        if len(row.ids) > self.wish.max_length:
            self.audit.sets[name].dropped["longer than max_length"] += 1
        return len(row.ids) <= self.wish.max_length

    def _generated(self, family: str, count: int) -> Iterator[Rendered]:
        """Training conversations of a family; those that are too long are left out."""
        made = (
            (generated_row(family, number), conversation(family, "train", number, self.wish.seed).messages)
            for number in range(count)
        )
        for messages in self.checked(family, made):
            row = Rendered(*render_to_learn(messages, self.tokenizer))
            if self.fits(family, row):
                yield row

    def checked(self, name: str, made: Iterable[tuple[Row, Sequence[Message]]]) -> Iterator[Sequence[Message]]:
        """Count generated conversations; those whose texts do not occur in an evaluation."""
        counts = self.audit.sets[name]

        def counted() -> Iterator[tuple[Row, Sequence[Message]]]:
            for row, messages in made:
                counts.read += 1
                yield row, messages

        return (messages for _, messages in clean(counted(), self.index, name, self.audit, lambda messages: messages))

    def supplied(
        self, name: str, source: ConversationsSource, render: Render = render_to_learn, weight: float = 1.0
    ) -> Iterator[Rendered]:
        """The rendered rows of a source's files. Raises UserError for one that the template refuses, if the source says so."""
        found = clean(self._read(name, source), self.index, name, self.audit, lambda talk: talk.messages)
        for row, talk in found:
            if source.max_turns and sum(m.role == "user" for m in talk.messages) > source.max_turns:
                self.audit.drop(name, row, f"more than {source.max_turns} turns")
                continue
            most = self.wish.max_length if source.too_long == "cut" else 0
            try:
                ids, mask, cut = _rendered(talk, self.tokenizer, render, most)
            except UserError as error:
                if source.bad_rows == "stop":
                    remedy = f"{error.remedy}; or leave such rows out: chat.sources.{name}.bad_rows=drop"
                    raise UserError(error.what, where=row.where, remedy=remedy) from None
                self.audit.drop(name, row, error.what)
                continue
            if len(ids) > self.wish.max_length:
                self.audit.drop(name, row, "longer than max_length")
            else:
                self.audit.sets[name].cut += cut
                yield Rendered(ids, mask, weight)

    def _read(self, name: str, source: ConversationsSource) -> Iterator[tuple[Row, shapes.Conversation]]:
        if source.majority_of:
            found = voted(read_set(name, source, ballot_of, "conversations", self.audit), name, source, self.audit)
        else:
            found = read_set(name, source, conversation_of, "conversations", self.audit)
        for row, talk in found:
            self.wish.check(row, talk)
            yield row, talk


def generated_row(family: str, number: int) -> Row:
    """A generated conversation or prompt, as a row that can be counted and recorded."""
    return Row(f"{family}:{number}", number, {"id": f"{family}:{number}"})


def _counts(source: SuppliedSource | None) -> SetCounts:
    return SetCounts("generated", "CC0-1.0") if source is None else SetCounts(source.origin, source.license)


def _rendered(talk: shapes.Conversation, tokenizer: Tokenizer, render: Render, most: int) -> tuple[list[int], list[bool], bool]:
    """A conversation's tokens, and whether it was cut: with `most`, it ends after the last answer that fits. Raises UserError
    for turns that the template refuses."""
    messages, cut = list(talk.messages), False
    while True:
        ids, mask = render(messages, tokenizer, list(talk.tools) or None)
        ends = [i for i, m in enumerate(messages[:-1]) if m.role == "assistant"]
        if not most or len(ids) <= most or not ends:
            return ids, mask, cut
        messages, cut = messages[: ends[-1] + 1], True


def read_set(
    name: str, source: SuppliedSource, parse: Callable[[shapes.Values], T], kind: str, audit: Audit
) -> Iterator[tuple[Row, T]]:
    """The rows of a source, parsed. The shape of the first is that of the set. A row that cannot be parsed stops the run or is
    counted, as the source says. Raises UserError for that row, and for a source without rows."""
    counts = audit.sets[name]
    for path in files_of(source.path, source.split):
        counts.files += 1
        for row in rows(path):
            counts.read += 1
            try:
                counts.shape = counts.shape or shapes.shape_of(kind, row.values)
                parsed = parse(row.values)
            except shapes.BadRow as error:
                if source.bad_rows == "stop":
                    raise error.at(row.where) from None
                audit.drop(name, row, error.what)
                continue
            yield row, parsed
    if not counts.read:
        raise UserError(f"source {name!r} is empty", where=source.path, remedy="add rows to it, or leave it out of the recipe")


def clean(
    found: Iterable[tuple[Row, T]],
    index: Decontaminator | None,
    name: str,
    audit: Audit,
    messages: Callable[[T], Sequence[Message]],
) -> Iterator[tuple[Row, T]]:
    """Those rows whose texts do not occur in an evaluation, or all where they are only flagged; what they hold is recorded."""
    waiting = iter(found)
    while batch := list(islice(waiting, _SEARCHED)):
        if index is None:
            yield from batch
            continue
        texts = ["\n".join(m.content for m in messages(parsed)) for _, parsed in batch]
        for (row, parsed), text, shared in zip(batch, texts, index.shared(texts), strict=True):
            held = judged_text(index, text, shared)
            if held is None or audit.leaked(name, row, index, held):
                yield row, parsed
            else:
                audit.drop(name, row, f"contaminates {held.worst}")


def _nothing_left(name: str, source: SuppliedSource | None, counts: SetCounts, max_length: int) -> UserError:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.most_common(3))
    where = source.path if source else f"max_length={max_length}"
    return UserError(
        f"no conversation of {name!r} is left: {reasons}", where=where, remedy="raise max_length, or mend the data"
    )
