"""Evaluation while training: the same call as afterwards, on development data only."""

from __future__ import annotations

from pathlib import Path

from lehr.data.tokenizer import Tokenizer
from lehr.evals.corpus import prose_texts
from lehr.evals.perplexity import bits_per_byte
from lehr.evals.scores import IN_LOOP_TEXTS
from lehr.model.generate import LanguageModel
from lehr.train.parallel import Ranks
from lehr.train.shared_model import SharedModel
from lehr.train.state import TrainState


class ProseEvaluator:
    """Bits per byte of development prose."""

    def __init__(self, documents: Path, tokenizer: Path, seed: int, window_tokens: int) -> None:
        self.tokenizer, self.window_tokens = Tokenizer.load(tokenizer), window_tokens
        self.texts = [text for text, _ in prose_texts(documents, "dev", seed, IN_LOOP_TEXTS)]

    def __call__(self, state: TrainState, ranks: Ranks) -> dict[str, float]:
        model = SharedModel(LanguageModel(state.model, self.tokenizer), ranks)
        found = bits_per_byte(model, self.texts, self.window_tokens or model.max_length)
        return {f"dev_{metric}": estimate.value for metric, estimate in found.items()}
