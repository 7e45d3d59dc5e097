"""Released models as their reports describe them, as far as a plan needs it: architecture, tokens, and what was measured.

Facts from OLMo 1 Tables 1 and 6, OLMo 2 Tables 3 and 19, Granite 3.0 Tables 1 and 7, Stable LM 2 sections 2.4 and 7.1, and
the released configurations. Parameters as counted from the Hugging Face classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lehr.config import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]
_SIZES = ("vocab_size", "n_layers", "d_model", "n_heads", "n_kv_heads", "mlp_hidden", "max_seq_len")


def _model(family: str, *sizes: int, **more: Any) -> dict[str, Any]:
    return {"family": family, **dict(zip(_SIZES, sizes, strict=True)), "tied_embeddings": "granite" in family, **more}


MODELS = {
    "olmo1-7b": _model("olmo", 50304, 32, 4096, 32, 32, 11008, 2048),
    "olmo2-7b": _model("olmo2", 100352, 32, 4096, 32, 32, 11008, 4096),
    "olmo2-13b": _model("olmo2", 100352, 40, 5120, 40, 40, 13824, 4096),
    "olmo2-32b": _model("olmo2", 100352, 64, 5120, 40, 8, 27648, 4096),
    "granite3-2b": _model("granite", 49152, 40, 2048, 32, 8, 8192, 4096),
    "granite3-8b": _model("granite", 49152, 40, 4096, 32, 8, 12800, 4096),
    "granite3-1b-a400m": _model("granitemoe", 49152, 24, 1024, 16, 8, 512, 4096, n_experts=32, top_k=8),
    "granite3-3b-a800m": _model("granitemoe", 49152, 32, 1536, 24, 8, 512, 4096, n_experts=40, top_k=8),
    "stablelm2-1.6b": _model("stablelm", 100352, 24, 2048, 32, 32, 5632, 4096),
}
TOKENS = {  # stage 1, each anneal; batch in sequences
    "olmo1-7b": (2_460_000_000_000, [], 2048),
    "olmo2-7b": (3_895_000_000_000, [50_000_000_000] * 3, 1024),
    "olmo2-13b": (5_000_000_000_000, [100_000_000_000] * 3 + [300_000_000_000], 2048),
    "olmo2-32b": (6_056_000_000_000, [100_000_000_000] * 3 + [300_000_000_000], 2048),
    "granite3-2b": (10_000_000_000_000, [2_000_000_000_000], 1024),
    "granite3-8b": (10_000_000_000_000, [2_000_000_000_000], 1024),
    "granite3-1b-a400m": (8_000_000_000_000, [2_000_000_000_000], 1024),
    "granite3-3b-a800m": (8_000_000_000_000, [2_000_000_000_000], 1024),
    "stablelm2-1.6b": (4_020_000_000_000, [], 2048),
}


def released(name: str, machines: str, *overrides: str) -> Recipe:
    """A recipe of `name` for planning, on recipes/hardware/`machines`.yaml."""
    stage1, anneals, batch = TOKENS[name]
    model = MODELS[name]
    sets = [f"model={model}", f"stage1.tokens={stage1}", f"stage1.batch_size={batch}"]
    sets += [f"stage1.sequence_length={model['max_seq_len']}", "stage1.schedule={kind: cosine, horizon_tokens: 0}"]
    sets += ["precision=bf16", "posttraining.sft.max_length=2048"]
    if anneals:
        runs = [{"mix": "dolmino", "tokens": tokens, "seed": 100 + i} for i, tokens in enumerate(anneals[1:])]
        sets += [f"anneals={{mix: dolmino, tokens: {anneals[0]}, seeds: [1], more: {runs}}}", "ramp=null"]
    else:
        sets += ["anneals=null", "ramp=null"]
    return load_recipe(ROOT / "recipes/tiny/olmo2.yaml", [*sets, *overrides], ROOT / f"recipes/hardware/{machines}.yaml")
