"""N-gram models: against Kneser-Ney smoothing written out with dictionaries, sums of 1, ARPA files, damage."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lehr.data.arpa import read_arpa
from lehr.data.ngram_model import DESCRIBED, TENSORS, NgramLanguageModel, numbers, words_in_lines
from lehr.data.ngram_training import discounts, train
from lehr.runtime.errors import UserError

NOVEL = Path(__file__).parents[3] / "recipes/data/novel.jsonl.gz"
ORDER = 3


def lines_of_novel(characters: int) -> list[list[str]]:
    with gzip.open(NOVEL, "rt", encoding="utf-8") as file:
        text = "\n".join(json.loads(line)["text"] for line in islice(file, 4))
    return list(words_in_lines(text[:characters], "plain"))


class Naive:
    """Interpolated modified Kneser-Ney smoothing as Chen and Goodman write it: dictionaries, no arrays, no back-off."""

    def __init__(self, lines: list[list[str]]) -> None:
        raw: list[Counter] = [Counter() for _ in range(ORDER)]
        for line in lines:
            marked = ["<s>", *line, "</s>"]
            for n in range(1, ORDER + 1):
                raw[n - 1].update(tuple(marked[i : i + n]) for i in range(len(marked) - n + 1))
        self.counts: list[Counter] = []
        for n in range(1, ORDER + 1):
            left: dict[tuple, set] = defaultdict(set)
            if n < ORDER:
                for gram in raw[n]:
                    left[gram[1:]].add(gram[0])
            adjusted = {g: c if n == ORDER or g[0] == "<s>" else len(left[g]) for g, c in raw[n - 1].items()}
            self.counts.append(Counter({g: c for g, c in adjusted.items() if g != ("<s>",)}))
        self.words = {"<unk>", *(g[0] for g in self.counts[0])}

        self.of_counts = [Counter(counts.values()) for counts in self.counts]

    def discount(self, n: int, count: int) -> float:
        t = self.of_counts[n - 1]
        y = t[1] / (t[1] + 2 * t[2])
        k = min(count, 3)
        return k - (k + 1) * y * t[k + 1] / t[k] if k else 0.0

    def p(self, word: str, context: tuple[str, ...]) -> float:
        n = len(context) + 1
        lower = self.p(word, context[1:]) if context else 1 / len(self.words)
        following = {g: c for g, c in self.counts[n - 1].items() if g[:-1] == context}
        if not following:
            return lower
        total, own = sum(following.values()), following.get((*context, word), 0)
        freed = sum(self.discount(n, c) for c in following.values())
        return (own - self.discount(n, own) + freed * lower) / total


def test_probabilities_are_those_of_dictionaries() -> None:
    lines = lines_of_novel(40_000)
    naive, model = Naive(lines), train(lines, ORDER, [0], "plain")
    assert all((discounts(np.array(list(c.values()))) != [0, 0.5, 1, 1.5]).any() for c in naive.counts)  # no fallback
    asked = [lines[0], ["call", "me", "whale", "unheardof", "the", "sea"]]
    logs = model.logs(numbers(asked, model.words)).tolist()
    place = 0
    for line in asked:
        marked = ["<s>", *(w if w in naive.words else "<unk>" for w in line), "</s>"]
        for i in range(1, len(marked)):
            expected = naive.p(marked[i], tuple(marked[max(0, i - ORDER + 1) : i]))
            assert logs[place + i] == pytest.approx(math.log10(expected), abs=2e-6), marked[: i + 1]
        place += len(marked)


@pytest.mark.parametrize("prune", [[0], [0, 0, 1], [0, 1, 2]])
def test_all_words_together_have_probability_1_after_any_context(prune: list[int]) -> None:
    model = train(lines_of_novel(3000), ORDER, prune, "plain")
    for context in (["the"], ["of", "the"], ["never", "said"], []):
        every = [[*context, word] for word in model.words if word not in ("<s>", "</s>")]
        ids = numbers(every, model.words)
        logs = model.logs(ids)
        ends = np.flatnonzero(ids == model.words["</s>"]) - 1
        end = model.logs(numbers([context], model.words))[-1] if context else model.logs(np.array([1, 2]))[-1]
        assert (10 ** logs[ends]).sum() + 10**end == pytest.approx(1, abs=1e-5)


def test_pruning_leaves_no_ngram_of_that_count_and_fewer_of_them() -> None:
    lines = lines_of_novel(3000)
    whole, pruned = (train(lines, ORDER, prune, "plain") for prune in ([0], [0, 1]))
    twos = Counter(pair for line in lines for pair in zip(["<s>", *line], [*line, "</s>"], strict=True))
    assert len(pruned.orders[1].logs) == sum(count > 1 for count in twos.values()) < len(whole.orders[1].logs)


ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.5
-0.7\t</s>
-0.4\ta\t-0.2
-0.9\tb

\\2-grams:
-0.1\t<s> a
-0.3\ta b

\\end\\
"""


def test_an_arpa_file_scores_as_its_numbers_say_and_saved_it_scores_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA, encoding="utf-8")
    model = read_arpa(path, "none")
    # <s> a: -0.1; a b: -0.3; b </s>: no 2-gram, b has no weight: -0.7. b first: -0.5 - 0.9; b x: -1.0; x </s>: -0.7
    assert model.perplexity("a b") == pytest.approx(10 ** (1.1 / 3), rel=1e-6)
    assert model.perplexity("b x\n\na b") == pytest.approx(10 ** ((1.1 + 1.4 + 1.0 + 0.7) / 6), rel=1e-6)
    assert math.isnan(model.perplexity(" \n"))
    model.save(tmp_path)
    assert NgramLanguageModel.load(tmp_path).perplexity("b x") == model.perplexity("b x")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("\\end\\", "", "ends too early"),
        ("ngram 2=2", "ngram 2=3", "no 2-gram"),
        ("a b\n", "c b\n", "no 1-gram"),
        ("-0.3", "0.3", "probabilities"),
        ("-0.4", "nan", "probabilities"),
        ("\\data\\", "", "ends too early"),
    ],
)
def test_a_damaged_arpa_file_is_one_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        read_arpa(path, "none")
    assert "\n" not in str(error.value)


def test_a_damaged_model_is_one_line(tmp_path: Path) -> None:
    train([["a", "b"]], 2, [0], "none").save(tmp_path)
    (tmp_path / DESCRIBED).write_text('{"order": 4, "normalise": "none"}', encoding="utf-8")
    with pytest.raises(UserError, match="damaged language model"):
        NgramLanguageModel.load(tmp_path)
    (tmp_path / TENSORS).write_bytes(b"1234567890")
    with pytest.raises(UserError, match="cannot read"):
        NgramLanguageModel.load(tmp_path)
    with pytest.raises(UserError, match="no words"):
        train([], 2, [0], "none")


def test_normalising() -> None:
    assert list(words_in_lines("Call me, Ishmael!\n\n 1851 ", "plain")) == [
        ["call", "me", ",", "ishmael", "!"], ["0000"],
    ]  # fmt: skip
    assert list(words_in_lines("A <s> b", "none")) == [["A", "b"]]
