"""From supplied and generated conversations to rendered rows: read, checked, decontaminated, counted."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from lehr.config.chat import ConversationsSource, SuppliedSource
from lehr.data.decontaminate import Decontaminator
from lehr.data.synthetic.conversations import Message, conversation
from lehr.data.tokenizer import Tokenizer
from lehr.post.chat import render_to_learn
from lehr.post.rendered import Rendered
from lehr.post.sets import shapes
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.conversation_rows import conversation_of
from lehr.post.sets.drawing import drawn, wanted
from lehr.post.sets.files import Row, files_of, rows
from lehr.post.sets.pool import PoolWriter
from lehr.runtime import seeds
from lehr.runtime.errors import UserError

T = TypeVar("T")
_SEARCHED = 512  # rows compared with evaluation texts at once


@dataclass(frozen=True)
class Preparing:
    """What an epoch has: the amount of each set, in order; `sources` are the supplied ones among them, the others are families
    of generated conversations. Shares are of `samples` rows."""

    amounts: Mapping[str, int | str]
    sources: Mapping[str, ConversationsSource]
    samples: int
    max_length: int
    seed: int


def prepare_conversations(
    wish: Preparing, tokenizer: Tokenizer, index: Decontaminator | None, out: Path, note: Callable[[str], None]
) -> dict[str, SetCounts]:
    """Write the rows of every set to `out`, with counts and dropped rows. Raises UserError for bad rows, for a set of which
    nothing is left, and as `render` does."""
    numbers = array("q")  # eight bytes a row, not thirty-two: sets have tens of millions
    with Audit(out) as audit, PoolWriter(out) as writer:
        for name, amount in wish.amounts.items():
            source, first = wish.sources.get(name), len(writer)
            counts = audit.sets[name] = _counts(source)
            if source is None:
                found = _generated(name, int(amount), tokenizer, wish, counts)
            else:
                found = _supplied(name, source, tokenizer, wish, index, audit)
            lengths, trained = array("i"), array("i")
            for row in found:
                writer.add(row)
                lengths.append(len(row.ids))
                trained.append(sum(row.mask))
            counts.kept = len(lengths)
            if not lengths:
                raise _nothing_left(name, source, counts, wish.max_length)
            count = wanted({name: amount}, {name: len(lengths)}, wish.samples)[name]
            for number in drawn(first, len(lengths), count, seeds.derive(wish.seed, name)):
                counts.drawn += 1
                counts.tokens += lengths[number - first]
                counts.trained_tokens += trained[number - first]
                numbers.append(number)
            if source is not None:
                note(f"{name}: {counts.shape}, {counts.kept:,} of {counts.read:,} rows kept, {counts.drawn:,} in an epoch")
        writer.finish(numbers)
        audit.close()
        return audit.sets


def _counts(source: SuppliedSource | None) -> SetCounts:
    return SetCounts("generated", "CC0-1.0") if source is None else SetCounts(source.origin, source.license)


def _generated(family: str, count: int, tokenizer: Tokenizer, wish: Preparing, counts: SetCounts) -> Iterator[Rendered]:
    """Training conversations of a family; those that are too long are left out."""
    for number in range(count):
        counts.read += 1
        ids, mask = render_to_learn(conversation(family, "train", number, wish.seed).messages, tokenizer)
        if len(ids) <= wish.max_length:
            yield Rendered(ids, mask)
        else:
            counts.dropped["longer than max_length"] += 1


def _supplied(
    name: str,
    source: ConversationsSource,
    tokenizer: Tokenizer,
    wish: Preparing,
    index: Decontaminator | None,
    audit: Audit,
) -> Iterator[Rendered]:
    """The rendered rows of a source's files."""
    found = read_set(name, source, conversation_of, "conversations", audit)
    for row, talk in clean(found, index, name, audit, lambda talk: talk.messages):
        if source.max_turns and sum(m.role == "user" for m in talk.messages) > source.max_turns:
            audit.drop(name, row, f"more than {source.max_turns} turns")
            continue
        try:
            ids, mask, cut = _rendered(talk, tokenizer, wish.max_length if source.too_long == "cut" else 0)
        except UserError as error:
            if source.bad_rows == "stop":
                raise UserError(error.what, where=row.where, remedy=error.remedy) from None
            audit.drop(name, row, error.what)
            continue
        if len(ids) > wish.max_length:
            audit.drop(name, row, "longer than max_length")
        else:
            audit.sets[name].cut += cut
            yield Rendered(ids, mask)


def _rendered(talk: shapes.Conversation, tokenizer: Tokenizer, most: int) -> tuple[list[int], list[bool], bool]:
    """A conversation's tokens, and whether it was cut: with `most`, it ends after the last answer that fits. Raises UserError
    for turns that the template refuses."""
    messages, cut = list(talk.messages), False
    while True:
        ids, mask = render_to_learn(messages, tokenizer, list(talk.tools) or None)
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
    """Those rows whose texts do not occur in an evaluation."""
    waiting = iter(found)
    while batch := list(islice(waiting, _SEARCHED)):
        if index is None:
            yield from batch
            continue
        texts = ["\n".join(m.content for m in messages(parsed)) for _, parsed in batch]
        for (row, parsed), shared in zip(batch, index.shared(texts), strict=True):
            task = index.contaminated(shared)
            if task is None:
                yield row, parsed
            else:
                audit.drop(name, row, f"contaminates {task}")


def _nothing_left(name: str, source: SuppliedSource | None, counts: SetCounts, max_length: int) -> UserError:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.most_common(3))
    where = source.path if source else f"max_length={max_length}"
    return UserError(
        f"no conversation of {name!r} is left: {reasons}", where=where, remedy="raise max_length, or mend the data"
    )
