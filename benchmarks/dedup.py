"""Near-duplicates: signatures of documents, against the field's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

from benchmarks import corpus
from benchmarks.common import Record, compared, in_turns, installed, main
from lehr.config.deduplication import Deduplication, NearDuplicates
from lehr.data.dedup import Corpora, SignatureFile, Signer
from lehr.data.joins.duck import DuckDBJoins

CHARACTERS = 1_500_000
SHORT = 300  # characters of a short document
PERMUTATIONS, WORDS = 128, 5
CONFIG = Deduplication(exact=False, fuzzy=NearDuplicates(permutations=PERMUTATIONS, shingle_words=WORDS))


def run() -> Sequence[Record]:
    """Megabytes of text, and documents, in a second of processor time: from texts to MinHash signatures of 128
    permutations over shingles of five words; and all the way to the dropped documents. One thread."""
    whole = [d.text for d in corpus.texts(CHARACTERS)]
    short = [text[i : i + SHORT] for text in whole for i in range(0, len(text), SHORT)][: CHARACTERS // SHORT // 3]
    found = [*signatures("signatures, whole documents", whole), *signatures("signatures, 300 characters each", short)]
    return [*found, *deduplicated(short)]


def signatures(case: str, texts: list[str]) -> list[Record]:
    """The same texts, from str to signature, each in its own way of splitting and hashing."""
    signer = Signer(CONFIG)

    def lehr() -> None:
        for start in range(0, len(texts), 500):
            few = texts[start : start + 500]
            signer.sign(few, [""] * len(few), [{}] * len(few))

    peers: dict[str, Callable[[], Callable[[], object]]] = {
        "datasketch": lambda: _datasketch(texts),
        "rensa": lambda: _rensa(texts),
        "datatrove": lambda: _datatrove(texts),
    }
    found = in_turns({"Lehr": lehr, **installed(peers)}, turns=3, warm=1, clock=process_time)
    size, ours = sum(len(text.encode()) for text in texts) / 1e6, found.pop("Lehr")
    notes = {
        "rensa": "Rust; shingles made in Python, hashed and permuted to 32 bits in Rust",
        "datasketch": "shingles made in Python, hashed by xxhash; permutations in NumPy, one document at a time",
        "datatrove": "112 permutations of 64 bits, spaCy's words without punctuation, SHA-1",
    }
    rates = [(name, size / ours, size / s, "MB/CPU s") for name, s in found.items()]
    rates += [(name, len(texts) / ours, len(texts) / s, "documents/CPU s") for name, s in found.items()]
    return [compared("dedup", case, mine, other, name, unit, note=notes[name]) for name, mine, other, unit in rates]


def _shingles(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))]


def _datasketch(texts: list[str]) -> Callable[[], object]:
    import xxhash
    from datasketch import MinHash

    def sign() -> None:
        for text in texts:
            one = MinHash(PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
            one.update_batch([shingle.encode() for shingle in _shingles(text)])

    return sign


def _rensa(texts: list[str]) -> Callable[[], object]:
    from rensa import RMinHash

    def sign() -> None:
        for text in texts:
            one = RMinHash(num_perm=PERMUTATIONS, seed=1)
            one.update(_shingles(text))
            one.digest()

    return sign


def _datatrove(texts: list[str]) -> Callable[[], object]:
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    # Its xxhash wants str, which xxhash 4 does not take.
    step = MinhashDedupSignature(tempfile.gettempdir(), MinhashConfig(n_grams=WORDS, hash_config=HashConfig(hash_fc="sha1")))
    step.get_signature(step.get_shingles("Loads its word splitter, which is a package of its own."))

    def sign() -> None:
        for text in texts:
            shingles = step.get_shingles(text)
            if shingles.size:
                step.get_signature(shingles)

    return sign


def deduplicated(texts: list[str]) -> list[Record]:
    """Texts, each twice with a word changed in the copy, to the list of dropped ones: every pair compared by its true
    similarity. The peer puts signatures into its index and takes what that returns, estimated."""
    both = [*texts, *(f"{text} copy" for text in texts)]
    signer = Signer(CONFIG)

    def lehr() -> None:
        with tempfile.TemporaryDirectory() as place:
            path, scratch = Path(place) / "0.sig", Path(place) / "scratch"
            scratch.mkdir()
            with SignatureFile(path, signer) as out:
                out.add(signer.sign(both, [""] * len(both), [{}] * len(both)))
            with DuckDBJoins(scratch) as joins:
                Corpora.open(CONFIG, [path]).duplicates(joins, lambda numbers: [both[n] for n in numbers])

    peers: dict[str, Callable[[], Callable[[], object]]] = {
        "datasketch": lambda: _datasketch_index(both),
        "rensa": lambda: _rensa_index(both),
    }
    found = in_turns({"Lehr": lehr, **installed(peers)}, turns=2, warm=1, clock=process_time)
    ours, note = len(both) / found.pop("Lehr"), "ours on disk and verified; the peer in memory and estimated"
    case = "texts to dropped ones, half of them copies"
    return [compared("dedup", case, ours, len(both) / s, name, "documents/CPU s", note=note) for name, s in found.items()]


def _datasketch_index(texts: list[str]) -> Callable[[], object]:
    import xxhash
    from datasketch import MinHash, MinHashLSH

    signer = Signer(CONFIG)

    def find() -> None:
        index = MinHashLSH(params=(signer.bands, signer.rows), num_perm=PERMUTATIONS)
        for number, text in enumerate(texts):
            one = MinHash(PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
            one.update_batch([shingle.encode() for shingle in _shingles(text)])
            if not index.query(one):
                index.insert(number, one)

    return find


def _rensa_index(texts: list[str]) -> Callable[[], object]:
    from rensa import RMinHash, RMinHashLSH

    def find() -> None:
        index = RMinHashLSH(threshold=0.8, num_perm=PERMUTATIONS, num_bands=16)
        for number, text in enumerate(texts):
            one = RMinHash(num_perm=PERMUTATIONS, seed=1)
            one.update(_shingles(text))
            if not index.query(one):
                index.insert(number, one)

    return find


if __name__ == "__main__":
    raise SystemExit(main("dedup", run))
