"""Evaluation during training: the same function as the evaluation stage calls, on development data only."""

from __future__ import annotations

from pathlib import Path

from lehr.data.tokenizer import Tokenizer
from lehr.distributed.ranks import Ranks
from lehr.distributed.shared_model import SharedModel
from lehr.evals.corpus import IN_LOOP_TEXTS, prose_texts
from lehr.evals.perplexity import bits_per_byte_by, text_bits
from lehr.model.generate import LanguageModel
from lehr.train.state import TrainState


class ProseEvaluator:
    """Bits per byte of held-back prose, in total and by source."""

    def __init__(self, documents: Path, tokenizer: Path, seed: int, window_tokens: int) -> None:
        self.tokenizer, self.window_tokens = Tokenizer.load(tokenizer), window_tokens
        held_back = prose_texts(documents, "dev", seed, IN_LOOP_TEXTS)
        self.texts = [text for text, _ in held_back]
        self.sources = [family.partition("/")[0] for _, family in held_back]

    def __call__(self, state: TrainState, ranks: Ranks) -> dict[str, float]:
        model = SharedModel(LanguageModel(state.model, self.tokenizer), ranks)
        bits = text_bits(model, self.texts, self.window_tokens or model.max_length)
        return {f"dev_{metric}": value for metric, value in bits_per_byte_by(self.sources, self.texts, bits).items()}
