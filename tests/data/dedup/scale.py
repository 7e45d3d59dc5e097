"""`python -m tests.data.dedup.scale N`: deduplicates N short documents, every tenth the near-twin of another, every hundredth a
copy; prints times and peak memory as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lehr.config.deduplication import Deduplication, NearDuplicates
from lehr.data.dedup import Corpora, SignatureFile, Signer
from lehr.data.joins.duck import DuckDBJoins
from tests.peak import most_resident

CONFIG = Deduplication(fuzzy=NearDuplicates())
_WORDS = [f"word{i:x}" for i in range(20_000)]


def text(number: int) -> str:
    """Of 50 words. That of a number ending in 9 is that of five before with three words more (similarity 46 / 49); that
    of one ending in 58 is the one of seven before, in capitals."""
    base = number - 5 if number % 10 == 9 else number - 7 if number % 100 == 58 else number
    words = " ".join(_WORDS[i] for i in np.random.default_rng(base).integers(0, len(_WORDS), 50).tolist())
    if number % 10 == 9:
        return f"{words} and some more"
    return words.upper() if number % 100 == 58 else words


def texts(numbers: Sequence[int]) -> list[str]:
    return [text(n) for n in numbers]


def measure(documents: int, folder: Path) -> dict[str, float]:
    """Seconds of processor time and MiB."""
    signer, began, characters = Signer(CONFIG), time.process_time(), 0
    with SignatureFile(folder / "0.sig", signer) as out:
        for start in range(0, documents, 1000):
            few = texts(range(start, min(start + 1000, documents)))
            characters += sum(map(len, few))
            out.add(signer.sign(few, [""] * len(few), [{}] * len(few)))
    signed, signed_peak = time.process_time(), _peak()
    scratch = folder / "scratch"
    scratch.mkdir()
    with DuckDBJoins(scratch, CONFIG.memory_mib) as joins:
        found = Corpora.open(CONFIG, [folder / "0.sig"]).duplicates(joins, texts)
        peak, disk = _peak(), sum(path.stat().st_size for path in scratch.iterdir())
    expected = {n: n - 5 for n in range(9, documents, 10)} | {n: n - 7 for n in range(58, documents, 100)}
    pairs = dict(found[["number", "kept"]].tolist())
    return {
        "documents": documents,
        "characters": characters,
        "sign_cpu_seconds": round(signed - began, 1),
        "join_cpu_seconds": round(time.process_time() - signed, 1),
        "sign_peak_mib": signed_peak,
        "peak_mib": peak,
        "scratch_mb": disk // 10**6,
        "found": sum(pairs.get(n) == kept for n, kept in expected.items()) / len(expected),
        "wrong": len(pairs.keys() - expected.keys()),
    }


def _peak() -> int:
    return most_resident() >> 20


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(measure(int(sys.argv[1]), Path(place))))
