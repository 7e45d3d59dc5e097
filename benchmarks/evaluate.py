"""Log-probabilities of benchmark answers against lm-eval's `hf` model, on the same weights and the same token ids."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import models
from benchmarks.common import LEHR, Record, compared, in_turns, main
from lehr.config.model import Model
from lehr.data.tokenizer import Tokenizer
from lehr.model.generate import LanguageModel
from lehr.model.transformer import Transformer

Requests = list[tuple[list[int], list[int]]]  # ids of the context and of the continuation
Score = Callable[[Requests], list[float]]
PEER = "lm-eval 0.4.13, hf"
SHOTS = 800  # tokens of the five examples before every question of a subject: MMLU's are 300 to 3,000
FLIPS = 10_000  # questions whose answers are compared
_LETTERS = (40, 41, 42, 43)  # any four tokens


def _model(size: dict[str, int], length: int, std: float) -> Transformer:
    config = Model(n_kv_heads=size["n_heads"], max_seq_len=length, rope_theta=10_000.0, init_std=std, **size)
    return Transformer(config).initialise(0)


def questions(count: int, shots: int, most: int, vocabulary: int, *, letters: bool, seed: int = 0) -> Requests:
    """Four requests for each of `count` questions of one subject, which begin with the same `shots` tokens: four letters after
    a question of up to `most` tokens with its listed answers, or after a shorter one four answers of 2 to 12 tokens."""
    random = Random(seed)

    def some(n: int) -> list[int]:
        return [random.randrange(44, vocabulary) for _ in range(n)]

    prelude, found = [0, *some(shots - 1)], Requests()
    for _ in range(count):
        asked = [*prelude, *some(random.randrange(most // 3, most + 1))]
        found += [(asked, [letter] if letters else some(random.randrange(2, 13))) for letter in _LETTERS]
    return found


def ours(model: Transformer, tokenizer: Tokenizer) -> Score:
    lm = LanguageModel(model, tokenizer)
    return lambda requests: [total for total, _, _ in lm.logprobs(requests)]


def lm_eval(model: Transformer, tokenizer: Tokenizer, batch: int) -> Score:
    """lm-eval's own loop with its cache of logits, which reads one-token answers of one prompt from one pass. It is given ids:
    what texts cost to encode is on neither side."""
    import transformers
    from lm_eval.models.huggingface import HFLM

    with TemporaryDirectory() as folder:
        tokenizer.save(folder)
        fast = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", eos_token="<|endoftext|>")
    theirs = HFLM(
        models.hugging_face(model).eval(), tokenizer=fast, device="cpu", batch_size=batch, max_length=model.config.max_seq_len
    )

    def scored(requests: Requests) -> list[float]:
        # Their cache is keyed by the texts: here the ids as text.
        named: Any = [((repr(context), repr(answer)), context, answer) for context, answer in requests]
        return [float(total) for total, _ in theirs._loglikelihood_tokens(named, disable_tqdm=True)]

    return scored


def best_batch(model: Transformer, tokenizer: Tokenizer, requests: Requests) -> int:
    """The batch size with which lm-eval is fastest here."""
    seconds = {}
    for batch in (1, 4, 16):
        score = lm_eval(model, tokenizer, batch)
        began = time.perf_counter()
        score(requests)
        seconds[batch] = time.perf_counter() - began
    return min(seconds, key=lambda batch: seconds[batch])


def speed(model: Transformer, tokenizer: Tokenizer) -> list[Record]:
    """Requests per second on five-shot questions of one subject."""
    vocabulary, records = model.config.vocab_size, []
    for name, letters, count, most in (("letters", True, 16, 150), ("cloze", False, 5, 100)):
        requests = questions(count, SHOTS, most, vocabulary, letters=letters)
        batch = best_batch(model, tokenizer, requests[:16] if letters else requests[:8])
        both = {LEHR: ours(model, tokenizer), PEER: lm_eval(model, tokenizer, batch)}
        found = in_turns({who: lambda s=score, r=requests: s(r) for who, score in both.items()}, turns=3, warm=0)  # type: ignore[misc]
        rates = {who: len(requests) / seconds for who, seconds in found.items()}
        case = f"{name}, {count} five-shot questions, {sum(p.numel() for p in model.parameters()) / 1e6:.0f}M, fp32"
        note = f"its best batch of 1, 4 and 16: {batch}"
        records.append(compared("evaluate", case, rates[LEHR], rates[PEER], PEER, "requests/s", note=note, target=4.0))
    return records


def by_question(totals: Sequence[float]) -> list[Sequence[float]]:
    """The log-probabilities of each question's four answers."""
    return [totals[at : at + 4] for at in range(0, len(totals), 4)]


def chosen(four: Sequence[float]) -> int:
    return max(range(4), key=four.__getitem__)


def flips(tokenizer: Tokenizer) -> tuple[Record, str]:
    """Answers that differ, and of those the largest gap between the two best: above 1e-4 it is no matter of rounding."""
    size = {"d_model": 96, "n_layers": 2, "n_heads": 4, "mlp_hidden": 256, "vocab_size": 512}
    model, flipped, ties, furthest = _model(size, 256, 0.1), 0, 0, 0.0
    mine, theirs = ours(model, tokenizer), lm_eval(model, tokenizer, 32)
    for subject in range(20):
        requests = questions(FLIPS // 20, 60, 40, 512, letters=subject % 2 == 0, seed=subject)
        a, b = mine(requests), theirs(requests)
        furthest = max(furthest, *(abs(x - y) for x, y in zip(a, b, strict=True)))
        for four, other in zip(by_question(a), by_question(b), strict=True):
            x, y = chosen(four), chosen(other)
            flipped += x != y
            ties += x != y and abs(other[x] - other[y]) < 1e-4
    said = (
        f"\nOf {FLIPS:,} questions of 20 subjects, half of them letters and half cloze, on a small model: {flipped} answers "
        f"differ from lm-eval's ({ties} of them between answers closer than 1e-4 nats); the largest difference of a "
        f"log-probability is {furthest:.1e} nats.\n"
    )
    same = compared("evaluate", f"same answers to {FLIPS:,} questions", FLIPS - flipped, FLIPS, PEER, "answers")
    return same, said


_SAID: list[str] = []


def run() -> Sequence[Record]:
    """Requests per second of five-shot questions with four answers, one thread, fp32; and whether the answers are the same."""
    logging.disable(logging.WARNING)
    tokenizer = Tokenizer.train(["the quick brown fox " * 30], 300)
    size = {"d_model": 512, "n_layers": 8, "n_heads": 8, "mlp_hidden": 1408, "vocab_size": 32_000}
    records = speed(_model(size, 2048, 0.02), tokenizer)
    same, said = flips(tokenizer)
    _SAID.append(said)
    return [*records, same]


if __name__ == "__main__":
    sys.exit(main("evaluate", run, lambda: "".join(_SAID)))
