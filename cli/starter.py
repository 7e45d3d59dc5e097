"""What `lehr init` writes: a recipe whose numbers come from the data."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lehr.artifacts.artifact import write_atomic
from lehr.config import load_recipe
from lehr.config.filters import FilterConfig
from lehr.config.filters.quality import GopherQualityFilter, GopherRepetitionFilter
from lehr.config.filters.text import UNKNOWN, LanguageFilter, LineLengthFilter, RepeatedNgramFilter, WordsFilter
from lehr.config.sources import FilesSource
from lehr.data.damage import Damage
from lehr.data.document import chunk
from lehr.data.filters import filters
from lehr.data.filters.language import language_of
from lehr.data.readers import documents
from lehr.data.verdict import Keep
from lehr.pipeline.graph import graph
from lehr.runtime.errors import UserError, from_os_error
from lehr.runtime.seeds import uniform_hash

TextType = Literal["prose", "reference", "code"]
TYPES: tuple[TextType, ...] = ("prose", "reference", "code")
STEP_TOKENS, WINDOW_TOKENS = 8 * 256, 256
_MOST_CHARACTERS = 30_000_000  # of a file that are read; of a larger one its beginning stands for the rest
_MOST_TOKENS, _EPOCHS, _CHARACTERS_PER_TOKEN = 1_024_000, 4, 2.5  # characters: of a small tokenizer, on the safe side
_SHARES = ((0.02, 0.03), (0.05, 0.05), (0.1, 0.1), (0.2, 0.2), (0.33, 0.33))
_ENOUGH = 4  # documents that each held-back split should have
_WORDS_OF_YAML = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
_LANGUAGE_SHARE = 0.05  # of the documents, from which a language is kept
_CHUNK = 6000  # characters, as TEMPLATE has it
# The filters of TEMPLATE, but for those of language: any is kept.
_TABLE: dict[str, FilterConfig] = {
    "words": WordsFilter(),
    "line_length": LineLengthFilter(),
    "gopher_quality": GopherQualityFilter(
        text_types=["prose"], min_words=None, min_mean_word_length=2.5, min_alphabetic_words=0.7, min_stop_words=None
    ),
    "gopher_quality_lists": GopherQualityFilter(
        text_types=["reference"], min_words=None, min_mean_word_length=2.5, min_alphabetic_words=None, max_symbols=None,
        max_bullet_lines=None, min_stop_words=None,
    ),
    "gopher_repetition": GopherRepetitionFilter(text_types=["prose"]),
    "gopher_repetition_lists": GopherRepetitionFilter(
        text_types=["reference"], max_duplicate_5grams=None, max_duplicate_6grams=None, max_duplicate_7grams=None,
        max_duplicate_8grams=None, max_duplicate_9grams=None, max_duplicate_10grams=None,
    ),
    "repeated_ngram": RepeatedNgramFilter(),
}  # fmt: skip


@dataclass
class Survey:
    """One file: documents, and of their pieces the characters that pass the filters, by type of text."""

    name: str
    path: Path
    documents: int = 0
    pieces: int = 0
    characters: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    places: list[float] = field(default_factory=list)  # of each piece, what decides its split

    @property
    def text_type(self) -> TextType:
        """Prose, unless other rules keep a quarter more."""
        best = max(TYPES, key=lambda kind: self.characters[kind])
        return best if self.characters[best] > 1.25 * self.characters["prose"] else "prose"

    @property
    def kept(self) -> int:
        return self.characters[self.text_type]


def write(folder: Path, files: list[Path]) -> list[str]:
    """Write `folder`/recipe.yaml; returns lines for the user. Raises UserError where the folder has one, for files that are
    damaged, and for data that nothing could be trained on or held back of."""
    target = folder / "recipe.yaml"
    if target.exists():
        raise UserError("there is a recipe here already", where=target, remedy="give another folder, or change that one")
    surveys = [_survey(name, path) for name, path in zip(_names(files), files, strict=True)]
    shares = _shares(surveys)
    tokens = _tokens(surveys, 1 - sum(shares))
    text = _recipe(_recipe_name(folder), surveys, shares, tokens, folder)
    try:
        write_atomic(target, text)
    except OSError as error:
        raise from_os_error(error, folder) from error
    graph(load_recipe(target))
    kept = sum(s.kept for s in surveys)
    times = tokens / (kept * (1 - sum(shares)) / _CHARACTERS_PER_TOKEN)
    held = " and ".join(f"{share:.0%}" for share in shares)
    what = f"{tokens:,} tokens of pretraining, every text about {times:.1f} times, two anneals and their soup"
    return [
        *(_found(survey) for survey in surveys),
        f"wrote {target}: {what}; {held} of the documents are held back for scores (dev and held out)",
        f"next: lehr plan {target}, what it will take; then lehr run {target}",
    ]


def _found(survey: Survey) -> str:
    pieces = f" in {survey.pieces:,} chunks" if survey.pieces != survey.documents else ""
    what = f"{survey.kept:,} characters pass the filters as {survey.text_type}"
    return f"{survey.name}: {survey.documents:,} documents{pieces}, {what}"


def _survey(name: str, path: Path) -> Survey:
    judge, languages = filters(_TABLE), LanguageFilter()
    found, read = Survey(name, path), 0
    source = FilesSource(kind="files", path=str(path), license="unknown")
    for document in documents(name, source, Damage()):
        found.documents += 1
        for piece in chunk(document, _CHUNK):
            found.pieces += 1
            found.places.append(uniform_hash(piece.family))
            found.languages[language_of(piece.text, languages)[0]] += 1
            for kind in TYPES:
                kept = isinstance(judge(replace(piece, text_type=kind)), Keep)
                found.characters[kind] += len(piece.text) if kept else 0
        read += len(document.text)
        if read > _MOST_CHARACTERS:
            break
    if not found.kept:
        raise UserError(
            f"no document of {found.documents} passes the filters",
            where=path,
            remedy="give texts of 30 words and more; `lehr run` of a recipe of your own can loosen data.filters",
        )
    return found


def _shares(surveys: list[Survey]) -> tuple[float, float]:
    """dev and held-out: the smallest that hold some documents back, and leave every file some."""
    for enough in (_ENOUGH, 1):
        for dev, held_out in _SHARES:
            splits = [_split(place, dev, held_out) for s in surveys for place in s.places]
            left = all(any(_split(place, dev, held_out) == "train" for place in s.places) for s in surveys)
            if left and min(splits.count("dev"), splits.count("held_out")) >= enough:
                return dev, held_out
    documents, ids = sum(s.documents for s in surveys), len({place for s in surveys for place in s.places})
    one_id = f"all {documents} documents have one id" if ids == 1 and documents > 1 else f"too few documents ({ids})"
    raise UserError(
        f"{one_id}: none can be held back for scores, as all chunks of an id stay together",
        where=surveys[0].path,
        remedy="cut the text into more documents, one a line, each with an id of its own or with none",
    )


def _split(place: float, dev: float, held_out: float) -> str:
    """As lehr.data.preparation does it."""
    return "held_out" if place < held_out else "dev" if place < held_out + dev else "train"


def _tokens(surveys: list[Survey], train_share: float) -> int:
    held = min(s.kept for s in surveys) * train_share / _CHARACTERS_PER_TOKEN
    if held < 2 * WINDOW_TOKENS:
        least = min(surveys, key=lambda s: s.kept)
        what = f"{least.kept:,} characters pass the filters, too few to train on"
        raise UserError(what, where=least.path, remedy="give a file with at least some thousand characters, or leave it out")
    total = sum(s.kept for s in surveys) * train_share / _CHARACTERS_PER_TOKEN
    return max(1, int(min(_MOST_TOKENS, _EPOCHS * total)) // STEP_TOKENS) * STEP_TOKENS


def _names(files: list[Path]) -> list[str]:
    names: list[str] = []
    for file in files:
        name = re.sub(r"[^a-z0-9]+", "_", file.name.split(".")[0].lower()).strip("_")[:40] or "text"
        name = f"text_{name}" if name in _WORDS_OF_YAML or not name[0].isalpha() else name
        count = sum(known == name or known.startswith(f"{name}_") for known in names)
        names.append(f"{name}_{count + 1}" if name in names else name)
    return names


def _recipe_name(folder: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", folder.absolute().name.lower()).strip("-._") or "mine"


def _path(file: Path, folder: Path) -> str:
    """Relative to the recipe where both may move together, else absolute."""
    full, home = file.absolute(), folder.absolute()
    near = home in full.parents or home.parent in full.parents
    return json.dumps(os.path.relpath(full, home) if near else str(full), ensure_ascii=False)


def _recipe(name: str, surveys: list[Survey], shares: tuple[float, float], tokens: int, folder: Path) -> str:
    sources = "\n".join(
        f"    {s.name}: {{kind: files, path: {_path(s.path, folder)}, text_type: {s.text_type}, license: unknown}}"
        for s in surveys
    )
    weights = ", ".join(f"{s.name}: {s.kept}" for s in surveys)
    texts = [s for s in surveys if s.text_type != "code"]  # whose language is asked
    pieces = sum(s.pieces for s in texts)
    counts: Counter[str] = sum((s.languages for s in texts), Counter())
    languages = [name for name, n in counts.most_common() if n >= _LANGUAGE_SHARE * pieces]
    anneal = max(1, tokens // 4 // STEP_TOKENS) * STEP_TOKENS
    keep = ", ".join(json.dumps(each) if each in _WORDS_OF_YAML else each for each in languages or ["en"])
    stops = "null" if UNKNOWN in languages else "2"
    values = {"name": name, "sources": sources, "weights": weights, "keep": keep, "stops": stops, "tokens": f"{tokens:_}"}
    values |= {"dev": f"{shares[0]:g}", "held_out": f"{shares[1]:g}", "anneal": f"{anneal:_}", "warmup": f"{tokens // 20:_}"}
    return TEMPLATE.format(**values)


TEMPLATE = """\
# A first recipe, written by `lehr init`. Check it: lehr validate; what it will take: lehr plan; then: lehr run.
# Every key is in docs/recipes.md. After a change only what it touches is made anew.
inherits: hardware/two-cores         # what `lehr plan` reckons with; for other machines: lehr plan --on FILE
name: {name}
seed: 7

# A million parameters: minutes on two cores. Try d_model 256 and n_layers 8 with a night.
model: {{family: olmo2, vocab_size: 1024, n_layers: 4, d_model: 128, n_heads: 4, n_kv_heads: 4, mlp_hidden: 352,
        max_seq_len: 256, rope_theta: 10_000.0}}
tokenizer: {{vocab_size: 1024}}      # trained on your text; not more than model.vocab_size

data:
  # text_type says which quality rules apply: prose, reference (lists and tables) or code. The licence stands in the model card.
  sources:
{sources}
  chunk_characters: 6000               # longer documents are cut at a paragraph near this length
  filters:                             # in this order; what is dropped, and why: lehr dropped runs/{name}
    words: {{at_least: 30}}
    line_length: {{at_most: 1000}}       # of code
    language: {{keep: [{keep}]}}
    gopher_quality: {{text_types: [prose], min_words: null, min_mean_word_length: 2.5, min_alphabetic_words: 0.7,
                     min_stop_words: {stops}}}
    gopher_quality_lists: {{kind: gopher_quality, text_types: [reference], min_words: null, min_mean_word_length: 2.5,
                           min_alphabetic_words: null, max_symbols: null, max_bullet_lines: null, min_stop_words: {stops}}}
    gopher_repetition: {{text_types: [prose]}}
    gopher_repetition_lists: {{kind: gopher_repetition, text_types: [reference], max_duplicate_5grams: null,
                              max_duplicate_6grams: null, max_duplicate_7grams: null, max_duplicate_8grams: null,
                              max_duplicate_9grams: null, max_duplicate_10grams: null}}
    repeated_ngram: {{}}
  dev_share: {dev}            # of the documents, never trained on: scored on the way
  held_out_share: {held_out}       # and scored at the end
  mixes:
    all: {{weights: {{{weights}}}}}    # by characters: every text is read equally often

stage1:                              # pretraining
  mix: all
  tokens: {tokens}
  batch_size: 8
  sequence_length: 256
  optim: {{lr: 3e-3}}
  schedule: {{kind: cosine, warmup_tokens: {warmup}, final_ratio: 0.3}}
anneals: {{mix: all, tokens: {anneal}, seeds: [1, 2]}}    # the rate falls to zero, twice; the mean of both is the soup

# To teach it to chat, on conversations that Lehr generates, take the first # of these lines and of the task below away.
#posttraining:
#  - {{kind: sft, examples: {{math: 1000, repeat: 500, list: 500, json: 500}}, optim: {{lr: 3e-3}}, steps: 200, batch_size: 16,
#     max_length: 128}}

evaluation:
  in_loop_steps: 50
  baselines: {{orders: [3, 4]}}        # n-grams and xz of the same text: what a model must beat
  tasks:
    - {{task: prose, limit: 60, splits: [dev, held_out]}}    # bits per byte of the documents held back: lower is better
#    - {{task: chat_math, limit: 100, stages: chat}}

precision: fp32                      # bf16 is faster where the processor has units for it
parallel: {{processes: 2, threads: 1}}
"""
