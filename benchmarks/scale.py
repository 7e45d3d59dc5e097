"""A plan on paper for a corpus of trillions of tokens: from rates measured here, and a simulation of pods that die.

`python -m benchmarks.scale` writes docs/scale.md. Rates are those of one core of this machine; what the plan takes from
elsewhere is a named assumption.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

from benchmarks import corpus
from benchmarks.common import processor
from lehr.config import load_recipe
from lehr.config.data import Data
from lehr.config.deduplication import Deduplication, NearDuplicates
from lehr.config.mix import Mix
from lehr.config.shards import Shards
from lehr.config.sources import FilesSource
from lehr.data.dedup.minhash import bands_for
from lehr.data.document import read_jsonl, write_jsonl
from lehr.data.preparation.compared import Watch
from lehr.data.preparation.corpus import prepare_corpus, prepare_until
from lehr.data.preparation.pace import FILTER, OVERLAP, STEPS, WRITE
from lehr.data.preparation.shares import run_share
from lehr.data.tokenizer import Tokenizer
from lehr.data.tokens.writing import write_shards
from lehr.evals.contamination import evaluation_texts
from lehr.pipeline.task_checks import compared_tasks

BEGINS, ENDS = "<!-- the plan -->", "<!-- end of the plan -->"
PAGE = Path(__file__).resolve().parent.parent / "docs/scale.md"
CHARACTERS, PARTS = 12_000_000, 8
COMPARED = 1e6 / 46.7  # documents a CPU second: joins on DuckDB, and pairs compared, of a million (docs/dedup.md)
SPARK_SECONDS = 190.6 / 1e7 / 2  # CPU s a row of one join, on Spark: docs/decisions.md, 1e7 rows, two joins
ROW_BYTES = 40  # of a row in Spark's shuffle: a key of 64 bits, number, priority, and Parquet's and Spark's own


@dataclass(frozen=True)
class Rates:
    """Megabytes of text a CPU second, by pass."""

    filter: float
    overlap: float
    write: float
    tokens: float
    kept: float  # share of the bytes
    unpacked: float  # bytes of text for each byte of the files
    mean: float  # bytes of a document


@dataclass(frozen=True)
class Wish:
    """What is planned. `files`: megabytes of text in a file. A pod has `cores` and dies every `hours` of its life."""

    tokens: float = 5e12
    bytes_per_token: float = 4.2
    document_bytes: float = 5000.0
    files: float = 1000.0
    pods: int = 500
    cores: int = 16
    hours: float = 200.0
    price: float = 0.04  # of a core for an hour
    restart: float = 120.0  # seconds until a pod works again

    @property
    def text(self) -> float:
        """Bytes that are kept."""
        return self.tokens * self.bytes_per_token


def measured(characters: int = CHARACTERS) -> Rates:
    """Each pass over shipped texts, with the filters and evaluations of recipes/tiny and near-duplicates; one process."""
    recipe = load_recipe("tiny/olmo2")
    assert recipe.data is not None
    documents = corpus.texts(characters, ("factbook", "plays", "novel", "speeches", "bible"))
    size = sum(len(d.text.encode()) for d in documents)
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place), Path(place) / "out"
        for n in range(PARTS):
            write_jsonl(folder / "in" / f"{n}.jsonl.gz", ({"id": d.id, "text": d.text} for d in documents[n::PARTS]))
        packed = sum(path.stat().st_size for path in (folder / "in").iterdir())
        source = FilesSource(kind="files", path=str(folder / "in"), license="as shipped", text_type="prose")
        data = Data(
            sources={"pack": source}, mixes={"all": Mix(weights={"pack": 1.0})}, filters=recipe.data.filters, processes=1,
            deduplication=Deduplication(fuzzy=NearDuplicates()), decontamination=recipe.data.decontamination,
        )  # fmt: skip
        texts = evaluation_texts(compared_tasks(recipe), 0, ngram_words=data.decontamination.ngram)
        seconds = dict[str, float]()

        def timed(name: str, work: Callable[[], object]) -> None:
            began = time.process_time()
            work()
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - began

        for step in STEPS:
            prepare_until(step, data, texts, lambda name, of: [], folder / "scratch")
            timed(step, partial(run_share, step, 0, 1, data, folder / "scratch", Watch()))
        out.mkdir()
        prepare_corpus(data, texts, lambda name, of: [], out, folder / "scratch")
        kept = list(read_jsonl(out / "documents/pack.jsonl.gz", "pack"))
        left = sum(len(d.text.encode()) for d in kept)
        tokenizer = Tokenizer.train((d.text for d in kept[:400]), 8192)
        tokenizer.save(folder)
        timed("tokens", lambda: write_shards(kept, "pack", Tokenizer.load(folder), out))
    mb, after = size / 1e6, left / 1e6
    return Rates(
        filter=mb / seconds[FILTER], overlap=after / seconds[OVERLAP], write=after / seconds[WRITE],
        tokens=after / seconds["tokens"], kept=left / size, unpacked=size / packed, mean=size / len(documents),
    )  # fmt: skip


def simulated(work: list[float], wish: Wish, seed: int) -> float:
    """Seconds until the pods have done their shares of `work`: CPU seconds of each file; number i is pod i mod n's.

    Each core takes its pod's next file; a pod that dies repeats the files that it was at, after `restart`. So a pass
    takes as long as its slowest pod."""
    longest, draw = 0.0, random.Random(seed)
    for pod in range(wish.pods):
        now, dies = 0.0, draw.expovariate(1 / (3600 * wish.hours))
        todo = list(reversed(work[pod :: wish.pods]))
        running: list[tuple[float, float]] = []  # when it ends, what it takes
        while todo or running:
            while todo and len(running) < wish.cores:
                takes = todo.pop()
                heapq.heappush(running, (now + takes, takes))
            ends, _ = running[0]
            if dies < ends:
                todo += [takes for _, takes in running]
                running.clear()
                now = dies + wish.restart
                dies = now + draw.expovariate(1 / (3600 * wish.hours))
            else:
                now = heapq.heappop(running)[0]
        longest = max(longest, now)
    return longest


def files(wish: Wish, whole: float, rate: float, seed: int) -> list[float]:
    """CPU seconds of each file of `whole` bytes of text: sizes are spread log-normally, as crawls' files are."""
    draw, count = random.Random(seed), math.ceil(whole / (wish.files * 1e6))
    sizes = [draw.lognormvariate(0.0, 0.5) for _ in range(count)]
    scale = whole / 1e6 / sum(sizes)
    return [size * scale / rate for size in sizes]


def _bands() -> tuple[int, int]:
    near = NearDuplicates()
    return bands_for(near.threshold, near.permutations, near.recall)


@dataclass(frozen=True)
class Stage:
    """One row of the plan: CPU seconds in all, and wall seconds."""

    name: str
    cpu: float
    wall: float
    where: str


def planned(wish: Wish, rates: Rates) -> list[Stage]:
    """The stages of the whole corpus."""
    bands, _ = _bands()
    whole = wish.text / rates.kept
    documents = whole / wish.document_bytes
    found = list[Stage]()
    for step, size, rate in (
        (FILTER, whole, rates.filter), (OVERLAP, wish.text, rates.overlap), (WRITE, wish.text, rates.write)
    ):  # fmt: skip
        work = files(wish, size, rate, 7)
        walls = sorted(simulated(work, wish, seed) for seed in range(3))
        found.append(Stage(f"pass {step}", sum(work), walls[1], f"{wish.pods} pods of {wish.cores} cores"))
    rows = documents * (1 + bands)
    joins = rows * SPARK_SECONDS
    found.insert(1, Stage("joins: exact and near-duplicates", joins, joins / (wish.pods * wish.cores), "Spark, the same cores"))
    one = documents / COMPARED
    found.insert(2, Stage("pairs compared, decisions", one, one, "the stage's own process"))
    tokens = wish.text / 1e6 / rates.tokens
    found.append(Stage("tokens", tokens, tokens / (wish.cores * 4), "a pod of 64 cores for each source; here one source"))
    return found


def facts(wish: Wish, rates: Rates) -> Iterator[tuple[str, str]]:
    """Counts and sizes of the plan."""
    bands, rows = _bands()
    whole = wish.text / rates.kept
    documents, shard = whole / wish.document_bytes, Shards().tokens
    yield "text that is read", f"{whole / 1e12:.1f} TB, {documents:.2g} documents"
    yield "text that is kept", f"{wish.text / 1e12:.1f} TB ({rates.kept:.0%}, as of the texts measured)"
    yield "input files", f"{math.ceil(whole / wish.files / 1e6):,} of {wish.files / 1000:g} GB of text"
    yield "scratch, shared by the pods", f"{2 * wish.text / 1e12 / rates.unpacked:.1f} TB, 6 files for each input file"
    yield "rows of the joins", f"{documents * (1 + bands):.2g}: a text's key, and {bands} bands of {rows} values, a document"
    yield "shuffled by the joins", f"{documents * (1 + bands) * ROW_BYTES / 1e12:.1f} TB"
    yield "memory of the stage's own process", f"{documents * 24 / 1e9:.0f} GB: 24 bytes a document that passed the filters"
    count = math.ceil(wish.tokens / shard)
    yield "token shards", f"{count:,} of {shard:,} tokens ({shard * 4 / 2**30:.0f} GiB with ids of 32 bits)"
    yield "objects of tokens", f"{3 * count + 2:,}: bodies, hashes and spans, a list, an index of ids"


def report(wish: Wish, rates: Rates) -> str:
    """The page's tables."""
    said = {
        "filter, with signatures": rates.filter, "overlap": rates.overlap, "write": rates.write, "tokens": rates.tokens,
    }  # fmt: skip
    measured_here = ", ".join(f"{name} {value:.2f}" for name, value in said.items())
    stages = planned(wish, rates)
    lines = [
        f"Measured on one core of {processor()}, {date.today()}, in megabytes of text a CPU second: {measured_here}",
        f"(documents of {rates.mean:,.0f} bytes on average).",
        "",
    ]
    lines += ["| stage | CPU hours | wall hours | where | cost |", "|---|---:|---:|---|---:|"]
    for stage in [*stages, Stage("all", sum(s.cpu for s in stages), sum(s.wall for s in stages), "")]:
        cost = f"{stage.cpu / 3600 * wish.price:,.0f}"
        lines.append(f"| {stage.name} | {stage.cpu / 3600:,.0f} | {stage.wall / 3600:,.1f} | {stage.where} | {cost} |")
    return "\n".join([*lines, "", "| | |", "|---|---|", *(f"| {name} | {said} |" for name, said in facts(wish, rates))])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="of text that the rates are measured on")
    parser.add_argument("--pods", type=int, default=Wish.pods)
    parser.add_argument("--no-page", action="store_true", help="print, and do not write docs/scale.md")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rates = measured(asked.characters)
    found = report(replace(Wish(), pods=asked.pods), rates)
    print(found)
    if not asked.no_page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGINS)
        PAGE.write_text(f"{before}{BEGINS}\n{found}\n{ENDS}{rest.partition(ENDS)[2]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
