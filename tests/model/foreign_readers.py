"""What llama.cpp and transformers make of our exports, and how far that is from what we make of the checkpoint.

Shapes: N new tokens, V vocabulary.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lehr.data.synthetic.conversations import Message
from lehr.model.generate import LanguageModel
from lehr.post.chat import render
from lehr.train.checkpointing.checkpoint import Loaded

VERSION = "3.22.1"  # of node-llama-cpp, as in the Makefile
SCRIPT = Path(__file__).with_name("llama_cpp.mjs")
# Two programs that sum in another order differ in the last bits (2e-5 on the tests' models), so where our two best logits are
# nearer than this either may be picked. All else is a mismatch.
NEAR_TIE = 1e-4
NO_STOP = -1  # an id that no model gives: answers go on beyond an end of text


@dataclass(frozen=True)
class Job:
    """What a reader is asked: ids of texts and of chats (with the header of the answer), and greedy continuations of ids."""

    texts: Sequence[str]
    chats: Sequence[Sequence[Message]]
    prompts: Sequence[Sequence[int]]
    new_tokens: int


@dataclass(frozen=True)
class Reading:
    """A reader's answers, in the job's order. `logits` are (N, V) for each prompt, those that its tokens were picked from."""

    texts: list[list[int]]
    chats: list[list[int]]
    answers: list[list[int]]
    logits: list[Tensor]
    ends: list[int]  # the ids that end an answer
    not_read_back: list[str] = field(default_factory=list)  # texts that their own ids do not give back
    release: str = ""


@dataclass
class Agreement:
    """A reader against us. Mismatches are told in words; of an answer, what follows a near tie is not compared."""

    texts: int
    chats: int
    prompts: int
    tokens: int = 0  # of answers, compared and equal
    near_ties: int = 0
    logits: float = 0.0  # the largest difference of two logits
    mismatches: list[str] = field(default_factory=list)


def node_folder() -> Path:
    """Where `make llama-cpp` puts its packages."""
    return Path(os.environ.get("LEHR_LLAMA_CPP") or "~/.cache/lehr/llama.cpp").expanduser()


def why_not() -> str:
    """Why llama.cpp cannot be asked here; empty if it can."""
    if shutil.which("node") is None:
        return "no `node` on the path: llama.cpp was not asked"
    package = node_folder() / "node_modules/node-llama-cpp/package.json"
    found = json.loads(package.read_text(encoding="utf-8"))["version"] if package.exists() else "absent"
    missing = f"node-llama-cpp {VERSION} is {found}: `make llama-cpp` installs it; llama.cpp was not asked"
    return "" if found == VERSION else missing


@torch.no_grad()
def ours(loaded: Loaded, job: Job) -> Reading:
    """Our own answers: ids from our tokenizer and chats, tokens from our decoder, logits from a pass over the whole text."""
    tokenizer, model = loaded.tokenizer, loaded.model
    answers = LanguageModel(model, tokenizer).generate(job.prompts, job.new_tokens, stop_ids=[NO_STOP])
    logits = []
    for prompt, answer in zip(job.prompts, answers, strict=True):
        logits.append(model(torch.tensor([[*prompt, *answer[:-1]]]))[0, len(prompt) - 1 :])
    chats = [render(chat, tokenizer, add_generation_prompt=True)[0] for chat in job.chats]
    return Reading([tokenizer.encode(text) for text in job.texts], chats, answers, logits, [tokenizer.eos_id])


def llama_cpp(gguf: Path, loaded: Loaded, job: Job, work: Path, cache: str = "F32") -> Reading:
    """llama.cpp's answers, with keys and values cached as `cache` (F32, or F16, which is its default)."""
    config = loaded.architecture
    asked = {
        "gguf": str(gguf), "texts": job.texts, "chats": _plain(job), "prompts": job.prompts, "new_tokens": job.new_tokens,
        "vocabulary": config.vocab_size, "context": config.max_seq_len, "cache": cache,
    }  # fmt: skip
    files = work / "job.json", work / "answer.json"
    files[0].write_text(json.dumps(asked), encoding="utf-8")
    done = subprocess.run(["node", SCRIPT, node_folder(), *files], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(files[1].read_text(encoding="utf-8"))
    rows = [np.frombuffer(base64.b64decode(a["logits"]), dtype="<f4").reshape(-1, config.vocab_size) for a in said["answers"]]
    logits = [torch.from_numpy(row.copy()) for row in rows]
    answers = [a["tokens"] for a in said["answers"]]
    return Reading(said["texts"], said["chats"], answers, logits, said["ends"], said["not_read_back"], said["release"])


@torch.no_grad()
def transformers(folder: Path, loaded: Loaded, job: Job) -> Reading:
    """transformers' answers, from its own `generate` with its cache."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    ends = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = None
    answers, logits = [], []
    for prompt in job.prompts:
        more = {"max_new_tokens": job.new_tokens, "output_logits": True, "return_dict_in_generate": True}
        out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), **more)
        answers.append(out.sequences[0, len(prompt) :].tolist())
        logits.append(torch.cat(out.logits))
    texts = [_as_typed(tokenizer, text, loaded.tokenizer.special_names) for text in job.texts]
    lost = [text for text, ids in zip(job.texts, texts, strict=True) if tokenizer.decode(ids) != text]
    chats = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) if tokenizer.chat_template else []
        for chat in _plain(job)
    ]
    return Reading(texts, chats, answers, logits, [ends] if isinstance(ends, int) else ends, lost)


def _as_typed(tokenizer: Any, text: str, special_names: Sequence[str]) -> list[int]:
    """transformers parses special tokens in a text unless it is told not to, and is told so here only where it matters."""
    typed = {"split_special_tokens": True} if any(name in text for name in special_names) else {}
    ids: list[int] = tokenizer(text, add_special_tokens=False, **typed).input_ids
    return ids


def _plain(job: Job) -> list[list[dict[str, str]]]:
    return [[{"role": m.role, "content": m.content} for m in chat] for chat in job.chats]


def compare(mine: Reading, theirs: Reading, job: Job, near: float = NEAR_TIE) -> Agreement:
    """How far `theirs` is from `mine`."""
    found = Agreement(len(job.texts), len(job.chats), len(job.prompts))
    for text, a, b in zip(job.texts, mine.texts, theirs.texts, strict=True):
        if a != b:
            found.mismatches.append(f"ids of {text!r}: {a} here, {b} there")
    for chat, a, b in zip(job.chats, mine.chats, theirs.chats, strict=True):
        if a != b:
            found.mismatches.append(f"ids of the chat {chat!r}: {a} here, {b} there")
    found.mismatches += [f"{text!r} is not what its ids give back there" for text in theirs.not_read_back]
    if mine.ends != theirs.ends:
        found.mismatches.append(f"an answer ends at {mine.ends} here, at {theirs.ends} there")
    for n in range(len(job.prompts)):
        _compare_answer(n, mine, theirs, found, near)
    return found


def _compare_answer(n: int, mine: Reading, theirs: Reading, found: Agreement, near: float) -> None:
    """Step by step while both have seen the same; `found` takes what is seen."""
    for step, (a, b) in enumerate(zip(mine.answers[n], theirs.answers[n], strict=True)):
        logits_V = mine.logits[n][step]
        found.logits = max(found.logits, float((logits_V - theirs.logits[n][step]).abs().max()))
        if a != b:
            margin = float(logits_V[a] - logits_V[b])
            if margin < near:
                found.near_ties += 1
            else:
                found.mismatches.append(f"prompt {n}, token {step}: {a} here, {b} there, and our logits are {margin:.1e} apart")
            return
        found.tokens += 1
