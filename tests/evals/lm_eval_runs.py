"""Run as a script: lm-eval's own evaluation of its YAML files, by its `hf` model or by ours, and what each item gave."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from lehr.evals.lm_eval import model_class


def main(kind: str, folder: str, tasks: str, out: str) -> None:
    model_class()
    args = {"path": folder} if kind == "lehr" else {"pretrained": folder, "dtype": "float32"}
    names = sorted(path.stem for path in Path(tasks).glob("*.yaml"))
    manager = import_module("lm_eval.tasks").TaskManager(include_path=tasks, include_defaults=False)
    found: Any = import_module("lm_eval.evaluator").simple_evaluate(
        kind, args, tasks=names, task_manager=manager, batch_size=4, device="cpu", bootstrap_iters=0, log_samples=True
    )
    samples = {
        name: {
            f"{one['doc_id']}/{one['filter']}": {
                "resps": one["resps"],
                **{metric: value for metric, value in one.items() if metric in one["metrics"]},
            }
            for one in rows
        }
        for name, rows in found["samples"].items()
    }
    Path(out).write_text(json.dumps({"results": found["results"], "samples": samples}, default=float), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
