"""From supplied preferences to pairs: read, checked, decontaminated, counted, a share of their prompts held out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.config.chat import PreferencesSource
from lehr.data.decontaminate import Decontaminator
from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.post.asked import SPLITS
from lehr.post.chat import render
from lehr.post.pairs import PAIRS
from lehr.post.sets import shapes
from lehr.post.sets.audit import Audit, SetCounts
from lehr.post.sets.drawing import drawn, wanted
from lehr.post.sets.files import Row
from lehr.post.sets.preference_rows import preference_of
from lehr.post.sets.prepare import clean, read_set
from lehr.runtime import seeds
from lehr.runtime.errors import UserError


@dataclass(frozen=True)
class Preparing:
    """The amount of each source in an epoch; shares are of `samples` pairs."""

    amounts: Mapping[str, int | str]
    sources: Mapping[str, PreferencesSource]
    samples: int
    max_length: int
    seed: int


def prepare_preferences(
    wish: Preparing, tokenizer: Tokenizer, index: Decontaminator, out: Path, note: Callable[[str], None]
) -> dict[str, int]:
    """Write the pairs of every source to `out`, with counts and dropped rows. Returns the number of pairs by split. Raises
    UserError for bad rows, and for a source of which no pair is left to train on."""
    counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
    with Audit(out) as audit, (out / PAIRS).open("w", encoding="utf-8") as file:
        for name, amount in wish.amounts.items():
            source = wish.sources[name]
            audit.sets[name] = SetCounts(source.origin, source.license)
            found = _some_held_out(list(_pairs(name, source, tokenizer, wish, index, audit)), source)
            audit.sets[name].kept = len(found)
            by_split = {split: [pair for pair in found if pair["split"] == split] for split in SPLITS}
            if not by_split["train"]:
                raise _nothing_left(name, source, audit.sets[name])
            size = len(by_split["train"])
            count = wanted({name: amount}, {name: size}, wish.samples)[name]
            chosen = [by_split["train"][i] for i in drawn(0, size, count, seeds.derive(wish.seed, name))]
            audit.sets[name].drawn = len(chosen)
            for pair in [*chosen, *by_split["held_out"]]:
                file.write(json.dumps({k: v for k, v in pair.items() if k != "tokens"}, sort_keys=True) + "\n")
                counts[pair["split"]] += 1
            audit.sets[name].tokens = sum(pair["tokens"] for pair in chosen)
            audit.sets[name].trained_tokens = audit.sets[name].tokens
            held_out = f"{len(by_split['held_out']):,} held out"
            note(f"{name}: {audit.sets[name].shape}, {size:,} pairs, {held_out}{audit.sets[name].lost()}")
        audit.close()
    return counts


def _pairs(
    name: str, source: PreferencesSource, tokenizer: Tokenizer, wish: Preparing, index: Decontaminator, audit: Audit
) -> Iterator[dict[str, Any]]:
    """The pairs of a source's files as rows of the artifact, with their number of tokens."""
    seed = seeds.derive(wish.seed, name, "rejected")
    found = read_set(name, source, preference_of, "preferences", audit)
    for row, parsed in clean(found, index, name, audit, _texts):
        pair = _chosen(parsed, source, seeds.derive(seed, row.where)) if isinstance(parsed, shapes.Rated) else parsed
        if reason := _refused(pair, source):
            audit.drop(name, row, reason)
            continue
        lengths = _lengths(pair, tokenizer, row)
        if max(lengths) > wish.max_length:
            audit.drop(name, row, "longer than max_length")
            continue
        prompt = [m.row() for m in pair.prompt]
        held = seeds.uniform_hash(_prompt(prompt)) < source.held_out_share
        split = "held_out" if held else "train"
        yield {
            "split": split, "family": name, "prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected,
            "tokens": sum(lengths),
        }  # fmt: skip


def _some_held_out(pairs: list[dict[str, Any]], source: PreferencesSource) -> list[dict[str, Any]]:
    """Of few pairs a small share may be none at all, and a run would learn after its training that nothing can be scored: then
    the prompt nearest to the share is held out, unless it is the only one."""
    hashes = {prompt: seeds.uniform_hash(prompt) for prompt in (_prompt(pair["prompt"]) for pair in pairs)}
    if source.held_out_share and len(hashes) > 1 and min(hashes.values()) >= source.held_out_share:
        nearest = min(hashes, key=lambda prompt: hashes[prompt])
        for pair in pairs:
            if _prompt(pair["prompt"]) == nearest:
                pair["split"] = "held_out"
    return pairs


def _prompt(messages: list[dict[str, Any]]) -> str:
    return json.dumps(messages, sort_keys=True)


def _texts(found: shapes.Preference | shapes.Rated) -> Sequence[Message]:
    if isinstance(found, shapes.Rated):
        return [*found.prompt, *(Message("assistant", text) for text, _ in found.answers)]
    return [*found.prompt, Message("assistant", found.chosen), Message("assistant", found.rejected)]


def _chosen(rated: shapes.Rated, source: PreferencesSource, seed: int) -> shapes.Preference:
    """The answer with the highest rating, the first of equals, against one of the rest (OLMo 2 section 5) or the worst."""
    order = sorted(range(len(rated.answers)), key=lambda i: (-rated.answers[i][1], i))
    best, rest = order[0], order[1:]
    place = len(rest) - 1 if source.rejected == "worst" else seeds.below(len(rest), seed)
    (chosen, high), (rejected, low) = rated.answers[best], rated.answers[rest[place]]
    return shapes.Preference(rated.prompt, chosen, rejected, (high, low))


def _refused(pair: shapes.Preference, source: PreferencesSource) -> str:
    """Why a pair is left out by its source's rules; empty if it is not."""
    if pair.chosen.strip() == pair.rejected.strip():
        return "both answers are equal"
    if pair.ratings is not None and pair.ratings[0] == pair.ratings[1] and source.ties == "drop":
        return "both ratings are equal"
    if pair.ratings is not None and source.min_chosen_rating is not None and pair.ratings[0] < source.min_chosen_rating:
        return "chosen rated too low"
    return ""


def _lengths(pair: shapes.Preference, tokenizer: Tokenizer, row: Row) -> list[int]:
    """The tokens of each answer with the prompt. Raises UserError for turns that the template refuses."""
    try:
        sides = ([*pair.prompt, Message("assistant", answer)] for answer in (pair.chosen, pair.rejected))
        return [len(render(messages, tokenizer, False)[0]) for messages in sides]
    except UserError as error:
        raise UserError(error.what, where=row.where, remedy=error.remedy) from None


def _nothing_left(name: str, source: PreferencesSource, counts: SetCounts) -> UserError:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.most_common(3)) or "all are held out"
    return UserError(f"no pair of {name!r} is left to train on: {reasons}", where=source.path, remedy="add preferences")
