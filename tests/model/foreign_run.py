"""What llama.cpp and transformers make of the exports of whole runs; the numbers of docs/limits.md.

    python -m tests.model.foreign_run RUN... [--texts 10000] [--prompts 40] [--new 48] [--cache F32] [--characters]

Files, weights and sums are fp32. Asks about the run's own held-out documents too. One line a run and reader; ends with 1 where
one differs from us.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path

from lehr.artifacts.artifact import Artifact
from lehr.cli.locate import find, whole
from lehr.data.synthetic.conversations import FAMILIES, conversation
from lehr.interop.convert import export_to_gguf, export_to_hf
from lehr.train.checkpointing.checkpoint import Loaded, load_checkpoint
from tests.model.foreign_readers import Agreement, Job, compare, llama_cpp, ours, transformers, why_not
from tests.model.foreign_texts import every_character, texts

PIECE = 400  # characters of a held-out document that are one text


def held_out(run: Path) -> list[str]:
    """The documents that a run held out, in pieces."""
    found = []
    for path in sorted(run.glob("artifacts/documents-*/held_out.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                text = json.loads(line)["text"]
                found += [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    return found


def job_of(run: Path, loaded: Loaded, count: int, prompts: int, new_tokens: int) -> Job:
    """Half of the prompts are chats, half the beginnings of held-out documents."""
    documents, room = held_out(run), loaded.architecture.max_seq_len - new_tokens
    chats = [conversation(FAMILIES[i % len(FAMILIES)], "dev", i, 1).prompt for i in range(prompts // 2)]
    spread = documents[:: max(1, len(documents) // (prompts - len(chats)))][: prompts - len(chats)]
    begun = [loaded.tokenizer.encode(text)[: 8 + 3 * i % (room - 8)] for i, text in enumerate(spread)]
    job = Job(texts(count, documents[: count // 4]), chats, [], new_tokens)
    asked = [ids[-room:] for ids in ours(loaded, job).chats]
    return Job(job.texts, chats, [*asked, *begun], new_tokens)


def measure(run: Path, options: argparse.Namespace, work: Path) -> bool:
    """Print how both readers agree with the run's last checkpoint; False if one does not."""
    checkpoint: Artifact = whole(find(run).expect("checkpoint"))
    export_to_hf(checkpoint, work / "hf")
    export_to_gguf(checkpoint, work / "model.gguf", "f32")
    loaded = load_checkpoint(checkpoint)
    job = job_of(run, loaded, options.texts, options.prompts, options.new)
    mine = ours(loaded, job)
    readers = {"transformers": transformers(work / "hf", loaded, job)}
    readers["llama.cpp"] = llama_cpp(work / "model.gguf", loaded, job, work, options.cache)
    agreements = {name: compare(mine, reading, job) for name, reading in readers.items()}
    if options.characters:
        every = Job(every_character(), [], [], 0)
        theirs = llama_cpp(work / "model.gguf", loaded, every, work)
        agreements["llama.cpp, every character"] = compare(ours(loaded, every), theirs, every)
    for name, found in agreements.items():
        print(f"{run.name} ({loaded.architecture.family}), {name}: {told(found)}", flush=True)
    return not any(found.mismatches for found in agreements.values())


def told(found: Agreement) -> str:
    told = f"{found.texts} texts, {found.chats} chats, {found.tokens} tokens of {found.prompts} answers equal, "
    told += f"{found.near_ties} near ties, logits within {found.logits:.1e}, {len(found.mismatches)} mismatches"
    return "".join((told, *(f"\n    {m[:300]}" for m in found.mismatches[:10])))


def main() -> int:
    parser = argparse.ArgumentParser(description="What llama.cpp and transformers make of the exports of runs.")
    parser.add_argument("runs", nargs="+", type=Path)
    for name, default in (("texts", 10_000), ("prompts", 40), ("new", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--cache", default="F32", help="of llama.cpp's keys and values; its own default is F16")
    parser.add_argument("--characters", action="store_true", help="ask llama.cpp about every character too; minutes")
    options = parser.parse_args()
    if reason := why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 2
    right = True
    for run in options.runs:
        with tempfile.TemporaryDirectory() as work:
            right = measure(run, options, Path(work)) and right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
