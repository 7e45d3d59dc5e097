"""Evaluation while training: the same call as afterwards, on development data only."""

from __future__ import annotations

from pathlib import Path

from lehr.data.tokenizer import Tokenizer
from lehr.evals.score import score
from lehr.evals.suites import examples
from lehr.model.generate import LanguageModel
from lehr.train.parallel import Ranks
from lehr.train.shared_model import SharedModel
from lehr.train.state import TrainState

_DOCUMENTS = 24


class ProseEvaluator:
    """Bits per byte of development prose."""

    def __init__(self, documents: Path, tokenizer: Path, seed: int, window_tokens: int) -> None:
        self.tokenizer, self.seed, self.window_tokens = Tokenizer.load(tokenizer), seed, window_tokens
        self.examples = examples("prose", "dev", _DOCUMENTS, seed, documents)

    def __call__(self, state: TrainState, ranks: Ranks) -> dict[str, float]:
        model = SharedModel(LanguageModel(state.model, self.tokenizer), ranks)
        records = score(model, "in-loop", "prose", "dev", self.examples, self.seed, window_tokens=self.window_tokens)
        return {f"dev_{r.metric}": r.value for r in records}
