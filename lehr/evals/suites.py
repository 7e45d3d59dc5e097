"""The tasks: their examples are a pure function of task, split, limit and seed (and of the prepared corpus)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, overload

from lehr.config.self_knowledge import About
from lehr.data.synthetic import self_knowledge
from lehr.data.synthetic.conversations import FORMAT_FAMILIES, Message, in_turn
from lehr.data.synthetic.documents import question_prompt, rendering
from lehr.data.synthetic.draw import Draw
from lehr.data.synthetic.multiple_choice import LETTERS, multiple_choice
from lehr.data.synthetic.problems import FAMILIES, pool, problem
from lehr.data.synthetic.splits import Split
from lehr.evals import own, packaged, rendered
from lehr.evals.corpus import cut, held_back, prose_texts, rows_of
from lehr.evals.held_out import HeldOut
from lehr.evals.parts import stratified, text_metrics
from lehr.evals.task import Choice, Document, Example, Generation, Pair, Text
from lehr.runtime.errors import UserError

CONTEXT_CHARACTERS, CONTINUATION_CHARACTERS = 200, 80  # of continuation_cf, up to the last whole word
CHAT_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class _Plan:
    split: Split
    limit: int
    seed: int
    corpus_folder: Path | None
    given: Path | About | None


def _prose(plan: _Plan) -> list[Example]:
    return [Text(text, family) for text, family in prose_texts(plan.corpus_folder, plan.split, plan.seed, plan.limit)]


def _prose_by_source(plan: _Plan) -> list[Example]:
    """Whole documents, not their beginnings: what stands in the middle of a long one is of its source too."""
    documents = held_back(plan.corpus_folder, plan.split, plan.seed)
    return _limited([Document(text, family, family.partition("/")[0]) for text, family in documents], plan.limit)


def _limited(examples: Sequence[Example], limit: int) -> list[Example]:
    """The first ones; of texts that have sources, of each source and domain equally many."""
    if len(examples) <= limit:
        return list(examples)
    groups = [(one.source, one.domain) if isinstance(one, Document) else ("", "") for one in examples]
    return [examples[place] for place in stratified(groups, limit)]


def _math_text(plan: _Plan) -> list[Example]:
    # With a line end, as in the training documents.
    return [Text(rendering(problem(FAMILIES[i % 2], plan.split, i // 2, plan.seed)) + "\n") for i in range(plan.limit)]


def _solve(family: str) -> Callable[[_Plan], list[Example]]:
    def examples(plan: _Plan) -> list[Example]:
        found: list[Example] = []
        for i in range(min(plan.limit, len(pool(family, plan.split)))):
            p = problem(family, plan.split, i, plan.seed)
            found.append(Generation(question_prompt(p), [], {"exact_match": ("last_integer", {"answer": p.answer})}, {}))
        return found

    return examples


def _arithmetic_cf(plan: _Plan) -> list[Example]:
    """Cloze: which worked solution follows the question? The solutions differ only in their conclusion."""
    items = [multiple_choice(plan.split, i, plan.seed) for i in range(plan.limit)]
    # The space is the choice's, since a token may begin with it; it follows `Answer:` in training too.
    return [Choice(question_prompt(m.problem), [f" {s}" for s in m.solutions], m.gold) for m in items]


def _arithmetic_mcf(plan: _Plan) -> list[Example]:
    """Letters: the choices are listed after the question, and only the letter is scored."""
    items = [multiple_choice(plan.split, i, plan.seed) for i in range(plan.limit)]
    found: list[Example] = []
    for m in items:
        listed = "\n".join(f" {letter}. {choice}" for letter, choice in zip(LETTERS, m.choices, strict=True))
        context = f"Question: {m.problem.question}\n{listed}\nAnswer:"
        # Not per character: all letters are equally long, and the score would be the same.
        found.append(Choice(context, [f" {letter}" for letter in LETTERS], m.gold, per_character=False))
    return found


def _halves(text: str) -> tuple[str, str] | None:
    """The first words of a text's first sufficiently long paragraph, and the words after them."""
    for paragraph in text.split("\n\n"):
        words = " ".join(paragraph.split())
        if len(words) >= CONTEXT_CHARACTERS + CONTINUATION_CHARACTERS + 40:
            context = cut(words, CONTEXT_CHARACTERS)
            return context, " " + cut(words[len(context) :].strip(), CONTINUATION_CHARACTERS)
    return None


def _continuation_cf(plan: _Plan) -> list[Example]:
    documents = held_back(plan.corpus_folder, plan.split, plan.seed)
    parts = [(*halves, family) for text, family in documents if (halves := _halves(text)) is not None]
    if len(parts) < 4:
        raise UserError(
            f"continuation_cf needs 4 {plan.split} documents with a long paragraph and found {len(parts)}",
            remedy="raise data.dev_share and data.held_out_share, or add text",
        )
    found: list[Example] = []
    for i, (context, continuation, family) in enumerate(parts[: plan.limit]):
        draw = Draw(plan.seed, "continuation", plan.split, i)
        wrong = [text for _, text, _ in draw.sample(parts[:i] + parts[i + 1 :], 3)]
        gold = draw.below(4)
        found.append(Choice(context, [*wrong[:gold], continuation, *wrong[gold:]], gold, family=family))
    return found


def _chat_math(plan: _Plan) -> list[Example]:
    found: list[Example] = []
    for chat in in_turn(("math", "word"), plan.split, plan.limit, plan.seed, distinct=True):
        value, strict = ("last_integer", chat.verifier_args), (chat.verifier, chat.verifier_args)
        checks = {"asked_format": ("asked_format", {}), "exact_match": value, "strict": strict}
        sampled = {"sampled_accuracy": strict, "sampled_exact_match": value}
        found.append(Generation("", chat.prompt, checks, sampled, CHAT_SAMPLES))
    return found


def _chat_format(plan: _Plan) -> list[Example]:
    found: list[Example] = []
    for chat in in_turn(FORMAT_FAMILIES, plan.split, plan.limit, plan.seed, distinct=True):
        strict = (chat.verifier, chat.verifier_args)
        checks = {"exact_match": ("after_chatter", {"of": list(strict)}), "strict": strict}
        found.append(Generation("", chat.prompt, checks, {}))
    return found


def _self_knowledge(plan: _Plan) -> list[Example]:
    """Each wording is a cluster: questions that differ by a greeting or another assistant's name are not independent."""
    about = plan.given
    if not isinstance(about, About):
        what = "the task self_knowledge needs a model that was told who it is"
        raise UserError(what, remedy="score it in a run of its recipe")
    others, found = self_knowledge.not_said(about), list[Example]()
    for asked in self_knowledge.distinct(about, plan.split, plan.limit, plan.seed):
        right = ("mentions", {"all": asked.says, "none": others})
        found.append(Generation("", [Message("user", asked.question)], {"right": right}, {}, family=asked.form))
    return found


def _pair(row: dict[str, Any], where: Path) -> Pair:
    try:
        pair = Pair([Message.of(m) for m in row["prompt"]], row["chosen"], row["rejected"])
        # What turns there may be is for the model's own template to say, which read them when the pairs were made.
        texts = [pair.chosen, pair.rejected, *(part for m in pair.prompt for part in (m.role, m.content))]
        if not pair.prompt or not all(isinstance(text, str) for text in texts):
            raise TypeError
    except (KeyError, TypeError):
        what = "a row lacks prompt, chosen or rejected, or one of them is not text"
        raise UserError(what, where=where, remedy="make the preferences again") from None
    return pair


_MORE_PAIRS = (
    "supply more preferences, raise held_out_share of their source (chat.sources) or of the step's pairs, or leave the task "
    "out of evaluation.tasks"
)


def _preference(plan: _Plan) -> list[Example]:
    pairs = plan.given
    if not isinstance(pairs, Path):
        raise UserError("the task preference needs pairs", remedy="give the file that the preference stage wrote")
    rows = (row for row in rows_of(pairs) if row.get("split") == plan.split)
    return [_pair(row, pairs) for row in itertools.islice(rows, plan.limit)]


_TASKS: dict[str, Callable[[_Plan], list[Example]]] = {
    "prose": _prose,
    "math_text": _math_text,
    "prose_by_source": _prose_by_source,
    "arithmetic": _solve("arithmetic"),
    "word_problems": _solve("word_problems"),
    "arithmetic_cf": _arithmetic_cf,
    "arithmetic_mcf": _arithmetic_mcf,
    "continuation_cf": _continuation_cf,
    "chat_math": _chat_math,
    "chat_format": _chat_format,
    "preference": _preference,
    "self_knowledge": _self_knowledge,
}
TASKS = tuple(_TASKS)
NEEDS_CORPUS = frozenset({"prose", "prose_by_source", "continuation_cf"})
NEEDS_PAIRS = frozenset({"preference"})
NEEDS_ABOUT = frozenset({"self_knowledge"})
_KNOWN = (
    f"tasks are: {', '.join(TASKS)}; and those of {rendered.PACKAGE}, such as arc_easy:rc_5shot; "
    "and the path of a YAML file of your own (docs/evaluation.md)"
)
OF_TEXT = frozenset({"prose", "math_text"})  # scored in bits per byte


def only_split(task: str) -> packaged.Split | None:
    """The split of a task that has one, as those of a package and of one's own have; None for all others."""
    if own.is_own(task):
        return own.split_of(task)
    return packaged.split_of(task) if packaged.is_packaged(task) else None


def check_splits(task: str, asked: Sequence[str], key: str = "") -> None:
    """Raises UserError for a split that the task does not have."""
    if own.is_own(task):
        own.check_splits(task, asked, key)
    elif packaged.is_packaged(task):
        packaged.check_splits(task, asked, key)


def check_task(name: str, key: str = "") -> None:
    """Raises UserError, which lists the known tasks, unless `name`, the value at `key`, is one."""
    if own.is_own(name):
        own.check(name, key)
    elif packaged.is_packaged(name):
        packaged.check(name, key)
    elif name not in _TASKS:
        near = get_close_matches(name, TASKS, 1)
        remedy = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"there is no evaluation task {name!r}", where=key, remedy=remedy + _KNOWN)


def metrics_of(task: str) -> list[str]:
    """The names of a task's metrics, without its texts or pairs."""
    if task in OF_TEXT:
        return ["bits_per_byte"]
    if task == "prose_by_source":
        return list(text_metrics(True, False))
    if task in NEEDS_PAIRS:
        return ["accuracy", "logprob_margin"]
    if own.is_own(task):
        return own.metrics_of(task)
    if packaged.is_packaged(task):
        several = len(packaged.options(task, 1)[0].contexts) > 1
        return list(dict.fromkeys([packaged.primary(task), *(("acc", "acc_per_char") if several else ())]))
    first = Choice("", [], 0) if task in NEEDS_CORPUS else examples(task, "dev", 1, 0)[0]
    if isinstance(first, Choice):
        return ["acc", "acc_per_char"] if first.per_character else ["acc"]
    return [*first.checks, *first.sampled_checks] if isinstance(first, Generation) else []


@overload
def examples(
    task_name: str, split: Literal["dev", "train"], limit: int, seed: int, corpus_folder: Path | None = None,
    given: Path | About | None = None,
) -> list[Example]: ...  # fmt: skip
@overload
def examples(
    task_name: str, split: Literal["held_out"], limit: int, seed: int, corpus_folder: Path | None = None,
    given: Path | About | None = None,
) -> HeldOut: ...  # fmt: skip
@overload
def examples(
    task_name: str, split: Split, limit: int, seed: int, corpus_folder: Path | None = None, given: Path | About | None = None
) -> list[Example] | HeldOut: ...  # fmt: skip
def examples(
    task_name: str,
    split: Split,
    limit: int,
    seed: int,
    corpus_folder: Path | None = None,
    given: Path | About | None = None,
) -> list[Example] | HeldOut:
    """At most `limit` examples of a task's `split`, without repeated problems: of dev a list, of held_out what a scored model
    must open.

    `corpus_folder` holds the prepare stage's `dev.jsonl.gz` and `held_out.jsonl.gz` (for `NEEDS_CORPUS`); `given` is a file of
    JSON lines {prompt, chosen, rejected, split} (for `NEEDS_PAIRS`), or who the model is (for `NEEDS_ABOUT`). Raises UserError
    for an unknown task, and if a task's files are missing, damaged or empty.
    """
    found = _examples(task_name, split, limit, seed, corpus_folder, given)
    return HeldOut(own.identity(task_name), limit, found) if split == "held_out" else found


def _examples(
    task_name: str, split: Split, limit: int, seed: int, corpus_folder: Path | None, given: Path | About | None
) -> list[Example]:
    check_task(task_name)
    if own.is_own(task_name):
        own.check_splits(task_name, [split])
        return _limited(own.loaded(task_name).examples, limit)
    if packaged.is_packaged(task_name):
        packaged.check_splits(task_name, [split])
        return list(packaged.options(task_name, limit))
    found = _TASKS[task_name](_Plan(split, limit, seed, corpus_folder, given))
    if not found:
        where, remedy = (given, _MORE_PAIRS) if isinstance(given, Path) else ("", "raise its limit")
        raise UserError(f"task {task_name} has no {split} examples", where=where, remedy=remedy)
    return found
