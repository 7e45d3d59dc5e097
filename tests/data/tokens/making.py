"""A stage of shards in a folder of its own, here or in a process that is killed.

python -m tests.data.tokens.making FOLDER ROOT TOKENS PROCESSES
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lehr.artifacts.artifact import Artifact, Cost, Kind
from lehr.artifacts.folder_store import LocalStore
from lehr.data.document import write_jsonl
from lehr.data.tokenizer import Tokenizer
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.run import run_stage
from lehr.runtime.ports import Store, Tracker
from lehr.stages.shards import SPEC, ShardsConfig

_WORDS = ["sun", "moon", "star", "rose", "12", "naïve", "at", "the", "\n", "x = y;", "中文"]


def texts(seed: int, documents: int, words: int = 120) -> list[str]:
    """Documents of very different lengths; some are empty but for a word."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(_WORDS, k=1 + int(words * draw.random() ** 3 * 3))) for _ in range(documents)]


def given(folder: Path, sources: Mapping[str, Sequence[str]]) -> Path:
    """Artifacts of documents and of a tokenizer, in `folder`."""
    for name, documents in sources.items():
        rows = ({"id": f"{name}/{n}", "source": name, "text": text} for n, text in enumerate(documents))
        write_jsonl(folder / "documents" / "documents" / f"{name}.jsonl.gz", rows)
    if not (folder / "tokenizer").is_dir():
        (folder / "tokenizer").mkdir(parents=True)
        Tokenizer.train([" ".join(texts(0, 40))], 320).save(folder / "tokenizer")
    for kind in ("documents", "tokenizer"):
        _sealed(folder / kind, kind)  # type: ignore[arg-type]
    return folder


def _sealed(folder: Path, kind: Kind) -> None:
    (folder / "artifact.json").unlink(missing_ok=True)
    Artifact.seal(folder, kind=kind, stage=kind, fingerprint="f", parents=[], config={}, code="c", meta={}, cost=Cost())


def sharded(
    folder: Path,
    store: Store,
    sources: Sequence[str],
    tokens: int = 1 << 28,
    processes: int = 1,
    tracker: Tracker | None = None,
) -> Artifact:
    """The stage on what `given` made, found again or run."""
    inputs = SPEC.inputs({kind: [Artifact.open(folder / kind)] for kind in ("documents", "tokenizer")})
    config = ShardsConfig(sources=list(sources), tokens=tokens, processes=processes)
    context = StageContext(store, tracker) if tracker else StageContext(store)
    ref = run_stage(SPEC, "shards", config, inputs, context)
    return Artifact.open(store.fetch(ref.uri), uri=ref.uri)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of an artifact, without its manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "artifact.json")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(folder: str, root: str, tokens: str, processes: str) -> None:
    sources = sorted(path.name.removesuffix(".jsonl.gz") for path in (Path(folder) / "documents/documents").iterdir())
    sharded(Path(folder), LocalStore(root), sources, int(tokens), int(processes))


if __name__ == "__main__":
    main(*sys.argv[1:])
