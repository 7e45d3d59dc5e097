"""Tasks: deterministic, disjoint from training, and explained when they cannot be made."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from lehr.config.self_knowledge import About
from lehr.config.sources import SyntheticSource
from lehr.data.synthetic import documents, problem
from lehr.data.synthetic.conversations import Message
from lehr.evals.contamination import around_numbers, evaluation_texts
from lehr.evals.corpus import PROSE_CHARACTERS
from lehr.evals.suites import NEEDS_ABOUT, NEEDS_CORPUS, NEEDS_PAIRS, TASKS
from lehr.evals.task import Choice, Generation, Pair, Text
from lehr.post.verifiers import verify
from lehr.runtime.errors import UserError
from tests.evals.given import examples

ABOUT = About(name="Quill", makers=["Ada"], license="MIT", abilities=["add"])
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Eight documents for each split, each with one long paragraph."""
    for split in ("dev", "held_out"):
        rows = [
            {"id": f"{split}-{i}", "source": "novel", "text": f"Short.\n\n{' '.join(f'{split[0]}{i}x{k}' for k in range(400))}"}
            for i in range(8)
        ]
        data = "".join(json.dumps(r) + "\n" for r in rows)
        (tmp_path / f"{split}.jsonl.gz").write_bytes(gzip.compress(data.encode()))
    return tmp_path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"q{i}"}], "chosen": "yes", "rejected": "no", "split": s}
        for i in range(3)
        for s in ("train", "dev", "held_out")
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize("task", TASKS)
def test_examples_are_a_function_of_the_seed_and_differ_between_splits(task: str, corpus: Path, pairs: Path) -> None:
    given = ABOUT if task in NEEDS_ABOUT else pairs
    first = examples(task, "held_out", 6, 5, corpus, given)
    assert first == examples(task, "held_out", 6, 5, corpus, given)
    assert first == examples(task, "held_out", 4, 5, corpus, given) + first[4:], "a larger limit only adds"
    assert 3 <= len(first) <= 6
    if task not in NEEDS_PAIRS:
        assert first != examples(task, "dev", 6, 5, corpus, given) and first != examples(task, "held_out", 6, 6, corpus, given)


def test_prose_is_bounded(corpus: Path) -> None:
    found = examples("prose", "dev", 100, 5, corpus)
    assert len(found) == 8
    for example in found:
        assert isinstance(example, Text)
        assert len(example.text) <= PROSE_CHARACTERS and example.text[-1] != " "


def test_the_true_continuation_continues(corpus: Path) -> None:
    for example in examples("continuation_cf", "held_out", 100, 5, corpus):
        assert isinstance(example, Choice) and len(set(example.continuations)) == 4
        document = example.context.split("x")[0]
        assert [c.strip().startswith(document + "x") for c in example.continuations].index(True) == example.gold
        last, following = example.context.split()[-1], example.continuations[example.gold].split()[0]
        assert int(following.split("x")[1]) == int(last.split("x")[1]) + 1


def test_letters_and_cloze_ask_the_same_questions() -> None:
    letters, cloze = (examples(task, "dev", 50, 5) for task in ("arithmetic_mcf", "arithmetic_cf"))
    for a, b in zip(letters, cloze, strict=True):
        assert isinstance(a, Choice) and isinstance(b, Choice) and a.gold == b.gold
        assert a.continuations == [" A", " B", " C", " D"]
        right = b.continuations[b.gold].rsplit(" ", 1)[1]
        assert f"\n {'ABCD'[a.gold]}. {right}\n" in a.context
        assert b.context.endswith("\nAnswer:") and len({c.rsplit(" ", 1)[0] for c in b.continuations}) == 1


def test_generations_can_be_passed() -> None:
    for example in examples("chat_format", "held_out", 300, 5):
        assert isinstance(example, Generation)
        name, args = example.checks["strict"]
        right = args.get("text") or ", ".join(args.get("items", [])) or " ".join([args.get("word", "")] * args.get("times", 0))
        answer = right or json.dumps(args.get("object"))
        assert verify(name, args, answer, finished=True) == 1.0
        loose, inner = example.checks["exact_match"]
        assert verify(name, args, f"Sure! {answer}", finished=True) == 0.0
        assert verify(loose, inner, f"Sure! {answer}", finished=True) == 1.0
    prompts = [e.messages[-1].content for e in examples("chat_math", "held_out", 300, 5) if isinstance(e, Generation)]
    assert len(set(prompts)) == 300 and all(p.endswith("End with: The answer is N.") for p in prompts)


def test_pairs_are_read_by_split(pairs: Path) -> None:
    assert examples("preference", "dev", 2, 5, given=pairs) == [Pair([Message("user", f"q{i}")], "yes", "no") for i in range(2)]


def test_evaluation_texts_cover_both_splits(corpus: Path) -> None:
    texts = evaluation_texts(TASKS, 5, corpus)
    assert set(texts) == set(TASKS)
    assert texts["self_knowledge"] == []  # everyday questions, which supplied rows must not ask: lehr.post.sets.self_knowledge
    for task in set(TASKS) - NEEDS_PAIRS - NEEDS_CORPUS - NEEDS_ABOUT:
        assert len(texts[task]) == len(set(texts[task])) > 50, task
    assert len(texts["prose"]) == 16 and texts["preference"] == [] and evaluation_texts(["prose"], 5) == {"prose": []}
    assert len(texts["arithmetic"]) > 1500, "all dev and held-out problems, not only a limit's worth"


def test_texts_of_stories_tell_the_problem_and_not_its_phrasing() -> None:
    """Every run of 10 words that holds both numbers, and none that holds one: a story of training shares those."""
    story = "Tom has 22 books and gives 15 to Anna. How many books are left?"
    assert around_numbers(story, 10) == "Tom has 22 books and gives 15 to Anna. How many books"
    assert around_numbers("What is 22 + 15?", 10) == "What is 22 + 15?"
    config = SyntheticSource(kind="synthetic", generator="word_problems", documents=300)
    training = set().union(*(_ngrams(d.text) for d in documents("word_problems", config, 7)))
    index = set().union(*map(_ngrams, evaluation_texts(["math_text", "chat_math"], 7)["math_text"]))
    assert len(index) > 1000 and not training & index
    leaks = [problem("word_problems", "held_out", i, 7).question for i in range(50)]
    assert sum(len(_ngrams(f"Before. {text} After.") & index) >= 2 for text in leaks) > 45


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[k:] for k in range(10)), strict=False))


def test_what_is_missing_is_named(tmp_path: Path, corpus: Path, pairs: Path) -> None:
    with pytest.raises(UserError, match=r"no evaluation task 'mmlu'.*prose, math_text"):
        examples("mmlu", "dev", 5, 5)
    with pytest.raises(UserError, match="needs the prepared corpus"):
        examples("prose", "dev", 5, 5)
    with pytest.raises(UserError, match="no such file"):
        examples("prose", "dev", 5, 5, tmp_path / "nowhere")
    with pytest.raises(UserError, match="needs pairs"):
        examples("preference", "dev", 5, 5)
    pairs.write_text('{"split": "train"}\n')
    with pytest.raises(UserError, match=r"pairs.*preference has no dev examples.*held_out_share.*evaluation\.tasks"):
        examples("preference", "dev", 5, 5, given=pairs)
    pairs.write_text('{"split": "dev"}\n')
    with pytest.raises(UserError, match="lacks prompt, chosen or rejected"):
        examples("preference", "dev", 5, 5, given=pairs)
    talk = [{"role": role, "content": "a"} for role in ("user", "assistant", "tool", "tool")]  # as Granite's template has them
    pairs.write_text(json.dumps({"split": "dev", "prompt": talk, "chosen": "b", "rejected": "c"}) + "\n")
    assert len(examples("preference", "dev", 5, 5, given=pairs)) == 1
    pairs.write_text(json.dumps({"split": "dev", "prompt": talk, "chosen": "b", "rejected": 3}) + "\n")
    with pytest.raises(UserError, match="one of them is not text"):
        examples("preference", "dev", 5, 5, given=pairs)
    pairs.write_text('{}\n{"prompt"')
    with pytest.raises(UserError, match=r"pairs.jsonl:2: not JSON"):
        examples("preference", "dev", 5, 5, given=pairs)
    (corpus / "dev.jsonl.gz").write_bytes((corpus / "dev.jsonl.gz").read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged file"):
        examples("prose", "dev", 5, 5, corpus)


def test_the_documented_tasks_are_those_that_there_are_with_their_metrics() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8").split("### Evaluation tasks")[1].split("## Recipe")[0]
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", page, re.M)
    assert [name for name, _ in rows] == list(TASKS)
    for name, metrics in rows:
        if name not in NEEDS_CORPUS | NEEDS_PAIRS:
            (example,) = examples(name, "held_out", 1, 7, given=ABOUT)
            own = {
                Text: lambda e: ["bits_per_byte"],
                Choice: lambda e: ["acc", *(["acc_per_char"] if e.per_character else [])],
                Generation: lambda e: [*e.checks, *e.sampled_checks],
            }[type(example)](example)
            assert re.findall(r"`(\w+)`", metrics) == own, name
