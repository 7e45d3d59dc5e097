"""Models of others: any configuration, tokenizer and weights."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.bounds import tried
from tests.fuzz.inputs import dumped, mutated_bytes, mutated_value, safetensors_joined, safetensors_split, values
from tests.fuzz.made import Files, hugging_face_folder, write
from tests.fuzz.watch import place, run

MODEL_KEYS = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "head_dim",
    "num_local_experts", "num_experts_per_tok", "use_qkv_bias", "quantization_config", "attention_bias", "hidden_act",
)  # fmt: skip
FAMILIES = ("olmo", "olmo2", "granite", "granitemoe", "stablelm", "llama")
changes = st.dictionaries(st.sampled_from(MODEL_KEYS), values | st.sampled_from(FAMILIES), min_size=1, max_size=3)


def _without_vocabulary(spec: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with a few merges, so that a change meets what matters."""
    return {**spec, "model": {**spec["model"], "merges": spec["model"]["merges"][:3]}}


@st.composite
def _theirs(draw: st.DrawFn) -> Files:
    files = Files(hugging_face_folder())
    config, spec = json.loads(files["config.json"]), json.loads(files["tokenizer.json"])
    header, body = safetensors_split(files["model.safetensors"])
    what = draw(st.sampled_from(("keys", "config", "tokenizer", "beside", "header", "bytes", "index")))
    if what == "keys":
        files["config.json"] = dumped({**config, **draw(changes)})
    elif what == "config":
        files["config.json"] = dumped(draw(mutated_value(config)))
    elif what == "tokenizer":
        vocabulary = spec["model"].pop("vocab")
        changed = draw(mutated_value(_without_vocabulary(spec)))
        if isinstance(changed, dict) and isinstance(changed.get("model"), dict):
            changed["model"].setdefault("vocab", vocabulary)
        files["tokenizer.json"] = dumped(changed)
    elif what == "beside":
        files["tokenizer_config.json"] = dumped(draw(mutated_value(json.loads(files["tokenizer_config.json"]))))
    elif what == "header":
        files["model.safetensors"] = safetensors_joined(draw(mutated_value(header)), body)
    elif what == "bytes":
        name = draw(st.sampled_from(sorted(files)))
        files[name] = draw(mutated_bytes(files[name]))
    else:
        files["a.safetensors"] = files.pop("model.safetensors")
        index = {"weight_map": dict.fromkeys(header, "a.safetensors")}
        files["model.safetensors.index.json"] = dumped(draw(mutated_value(index)))
    return files


@tried(12)
@given(_theirs())
def test_any_folder_is_imported_or_refused(files: Files) -> None:
    with place() as here:
        write(files, here.given)
        ended = run(here, "import", here.given, "--out", here.out / "model")
        assert (here.out / "model/artifact.json").is_file() == (ended.code == 0)
        assert len(list(here.out.iterdir())) == (ended.code == 0)
