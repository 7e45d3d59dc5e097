"""Near-duplicates: what is dropped was compared, and is what the rule says."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lehr.config.deduplication import Deduplication, NearDuplicates
from lehr.data.dedup import Corpora, Signer
from lehr.runtime.errors import UserError
from tests.data.dedup.given import NumPyJoins, duplicates, edited, pack, plain_jaccard, plain_set, signed

FUZZY = Deduplication(exact=False, fuzzy=NearDuplicates())


def _paragraphs(least: int, most: int) -> list[str]:
    """Paragraphs of 60 to 119 words, cut from the shipped speeches."""
    words = iter(" ".join(pack("speeches")[:20]).split())
    return [" ".join(islice(words, 60 + 7 * i % 60)) for i in range(most)][least:]


def _found(texts: Sequence[str], folder: Path, config: Deduplication = FUZZY, engine: NumPyJoins | None = None) -> np.ndarray:
    return duplicates(Corpora.open(config, signed(texts, config, folder)), texts, folder, engine)


def test_planted_twins_are_found_and_nothing_else_is_dropped(tmp_path: Path) -> None:
    originals = _paragraphs(0, 240)
    twins = [edited(text, 0.8, seed) for seed, text in enumerate(originals[:120])]
    near = [edited(text, 0.6, seed) for seed, text in enumerate(originals[120:180])]  # not near enough
    texts = [*originals, *twins, *near]
    found = _found(texts, tmp_path)
    dropped = dict(zip(found["number"].tolist(), found["kept"].tolist(), strict=True))
    planted = {len(originals) + i: i for i in range(len(twins))}
    true = [plain_jaccard(texts[a], texts[b]) for a, b in planted.items()]
    assert min(true) >= 0.8 and max(true) < 0.93, "the twins are just above the threshold"
    assert sum(dropped.get(a) == b for a, b in planted.items()) >= 0.95 * len(planted)
    for (number, kept), said in zip(dropped.items(), found["similarity"].tolist(), strict=True):
        assert plain_jaccard(texts[number], texts[kept]) == pytest.approx(said, abs=1e-6)  # by strings, not by hashes
        assert said >= 0.8
    assert not set(dropped) & set(dropped.values())


def _by_the_rule(texts: Sequence[str], config: Deduplication, order: Sequence[int]) -> dict[int, set[int]]:
    """One document after another in plain Python: dropped -> those that it may be dropped for."""
    fuzzy = config.fuzzy
    assert fuzzy
    bands = Signer(config).sign(texts, [""] * len(texts), [{}] * len(texts))["bands"]
    kept, dropped = list[int](), dict[int, set[int]]()
    for number in order:
        like = {
            other
            for other in kept
            if (bands[other] == bands[number]).any() and plain_jaccard(texts[other], texts[number]) >= fuzzy.threshold
        }
        if like:
            dropped[number] = like
        else:
            kept.append(number)
    return dropped


def _tangled(seed: int) -> list[str]:
    """Clusters, chains in which each is like the next but not the one after, and texts that share half of their words."""
    random = np.random.default_rng(seed)
    base = _paragraphs(0, 6)
    texts = [edited(base[i % 6], random.uniform(0.5, 1), 1000 * seed + i) for i in range(24)]
    for start in base[:3]:
        chain = [start]
        for link in range(8):
            chain.append(edited(chain[-1], 0.85, 2000 * seed + link))
        texts += chain
    shared = " ".join(f"boilerplate{i}" for i in range(60))
    texts += [f"{shared} {' '.join(f'own{n}x{i}' for i in range(25))}" for n in range(30)]
    texts += ["", "  ", "short", "short", "Short ", "two words"]
    return [texts[i] for i in random.permutation(len(texts))]


@pytest.mark.parametrize(("seed", "threshold", "keep"), [(1, 0.8, "first"), (2, 0.7, "longest"), (3, 0.6, "first")])
def test_rounds_over_buckets_are_the_rule_carried_out_one_document_at_a_time(
    tmp_path: Path, seed: int, threshold: float, keep: str
) -> None:
    texts = _tangled(seed)
    fuzzy = NearDuplicates.model_validate({"threshold": threshold, "keep": keep})
    config = Deduplication(exact=False, fuzzy=fuzzy)
    order = sorted(range(len(texts)), key=lambda n: (-len(texts[n]) if keep == "longest" else 0, n))
    expected = _by_the_rule(texts, config, order)
    found = _found(texts, tmp_path, config)
    assert found["number"].tolist() == sorted(expected)
    assert all(kept in expected[number] for number, kept in found[["number", "kept"]].tolist())
    again = _found(texts, tmp_path, config, NumPyJoins())
    assert again.tobytes() == found.tobytes(), "another engine, other batches: the same bytes"


def test_results_do_not_depend_on_workers_or_parts(tmp_path: Path) -> None:
    texts = _tangled(4)
    found = list[bytes]()
    for workers, parts in ((1, 1), (4, 7)):
        corpora = Corpora.open(FUZZY, signed(texts, FUZZY, tmp_path, parts=parts))
        with ThreadPoolExecutor(workers) as pool:
            found.append(duplicates(corpora, texts, tmp_path, apply=pool.map).tobytes())
    assert found[0] == found[1] != b""


def test_a_bucket_of_copies_takes_one_comparison_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _paragraphs(0, 1)[0]
    texts = [f"{text} Number {i}." for i in range(400)]
    compared = 0

    def counting(a: np.ndarray, b: np.ndarray) -> float:
        nonlocal compared
        compared += 1
        shared = len(set(a.tolist()) & set(b.tolist()))
        return shared / (len(a) + len(b) - shared)

    monkeypatch.setattr("lehr.data.dedup.verify.jaccard", counting)
    found = _found(texts, tmp_path)
    assert found["number"].tolist() == list(range(1, 400)) and set(found["kept"].tolist()) == {0}
    assert compared == 399


def test_of_a_cluster_the_longest_or_the_best_stays(tmp_path: Path) -> None:
    text = _paragraphs(0, 1)[0]
    texts = [text, f"{text} And a longer end.", f"{text} End."]
    longest = Deduplication(fuzzy=NearDuplicates(keep="longest"))
    found = duplicates(Corpora.open(longest, signed(texts, longest, tmp_path)), texts, tmp_path)
    assert found[["number", "kept"]].tolist() == [(0, 1), (2, 1)]
    best = Deduplication(fuzzy=NearDuplicates(keep="best", score="quality.score"))
    scores = [{}, {"quality.score": 0.2}, {"quality.score": 0.9}]  # without a score: last
    found = duplicates(Corpora.open(best, signed(texts, best, tmp_path, scores=scores)), texts, tmp_path)
    assert found[["number", "kept"]].tolist() == [(0, 2), (1, 2)]


def test_moby_dick_that_is_in_the_pack_twice(tmp_path: Path) -> None:
    texts = pack("novel")
    found = _found(texts, tmp_path)
    sets = [plain_set(text) for text in texts]
    true = {
        (other, first)
        for first in range(len(texts))
        for other in range(first + 1, len(texts))
        if len(sets[first] & sets[other]) >= 0.8 * len(sets[first] | sets[other])
    }
    assert len(true) == 30
    assert set(found[["number", "kept"]].tolist()) == true


def test_earlier_corpora_stay_and_drop_ours(tmp_path: Path) -> None:
    base = _paragraphs(0, 60)
    config = Deduplication(url=True, fuzzy=NearDuplicates(keep="longest"))
    old = [*base[:30], base[0]]
    (tmp_path / "old").mkdir()
    corpora = Corpora.open(config, signed(old, config, tmp_path / "old", [f"old.org/{i}" for i in range(31)]))
    corpora.save(tmp_path / "kept", duplicates(corpora, old, tmp_path), lambda numbers: [old[n] for n in numbers])
    new = [
        base[0].upper(),  # an exact copy of the old 0
        edited(base[1], 0.85, 1),  # near the old 1
        base[40],  # new, at an old address
        *base[41:44],
        f"{base[2]} Longer than the old one.",  # which stays all the same: it cannot be dropped
        f"{base[43]} Longer.",
    ]
    urls = ["", "", "http://www.old.org/5?utm_source=mail#top", "", "", "", "", ""]
    later = config.model_copy(update={"against": [str(tmp_path / "kept")]})
    for engine in (None, NumPyJoins()):
        held = Corpora.open(later, signed(new, later, tmp_path, urls))
        assert len(held.earlier) == 30, "the copy within the old corpus is not kept"
        found = duplicates(held, new, tmp_path, engine)
        # Old document i has the number i - 30.
        assert found[["number", "kept", "reason"]].tolist() == [(0, -30, 1), (1, -29, 2), (2, -25, 0), (5, 7, 2), (6, -28, 2)]


def test_signatures_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    paths = signed(["a text"], FUZZY, tmp_path, parts=1)
    with pytest.raises(UserError, match="another method"):
        Corpora.open(Deduplication(fuzzy=NearDuplicates(threshold=0.7)), paths)
    with paths[0].open("ab") as f:
        f.write(b"half a record")
    with pytest.raises(UserError, match="cut off"):
        Corpora.open(FUZZY, paths)
    paths[0].write_bytes(b"something else")
    with pytest.raises(UserError, match="no file of signatures"):
        Corpora.open(FUZZY, paths)
    with pytest.raises(UserError, match="no signatures of an earlier corpus"):
        Corpora.open(FUZZY.model_copy(update={"against": [str(tmp_path / "nowhere")]}), [])
