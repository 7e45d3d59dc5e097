"""Two phases of SFT in the form of recipes/granite3-base.yaml, the second with some of the first's conversations again
(Granite 3.0, section 5.2)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.config.runnable import check_runnable
from lehr.data.tokenizer import Tokenizer
from lehr.post.sets.pool import Pool
from lehr.runtime.errors import UserError
from tests.pipeline.test_begin import recipe, their_folder
from tests.train.pieces import curves

GRANITE = Path(__file__).resolve().parents[3] / "recipes" / "granite3-base.yaml"


def phases() -> list[dict[str, Any]]:
    """The report's two steps with their own keys, at this size: rates and tokens of a batch in its proportions, and sets."""
    steps = [step for step in yaml.safe_load(GRANITE.read_text())["posttraining"] if step["kind"] == "sft"]
    assert [step["name"] for step in steps] == ["sft-1", "sft-2"]
    first, second = ({k: v for k, v in step.items() if k not in ("supply", "reported")} for step in steps)
    first |= {"samples": 40, "batch_tokens": 120, "examples": {"general": "75%", "tools": "25%"}}
    second |= {"samples": 20, "batch_tokens": 60, "examples": {"reasoning": "80%", "general": "20%"}}
    return [first, second]


def written(tmp_path: Path, steps: list[dict[str, Any]]) -> Path:
    their_folder("olmo2", tmp_path / "theirs")
    sources = {}
    for name, count in {"general": 30, "tools": 5, "reasoning": 16}.items():
        rows = [{"prompt": f"{name} {i}", "completion": f"answer {i}"} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources[name] = {"kind": "conversations", "path": f"{name}.jsonl"}
    chat = {"template": "granite", "sources": sources}
    evaluation = {"tasks": [{"task": "chat_math", "limit": 2, "stages": "chat"}], "max_new_tokens": 4, "in_loop_steps": 0}
    return recipe(tmp_path, base={"huggingface": "theirs"}, chat=chat, posttraining=steps, evaluation=evaluation)


@pytest.mark.long
def test_the_second_phase_goes_on_from_the_first_with_some_of_its_rows(tmp_path: Path) -> None:
    path, out = written(tmp_path, phases()), tmp_path / "run"
    assert main(["run", str(path), "--out", str(out), "--no-mlflow"]) == 0

    def made(name: str) -> Artifact:
        return Artifact.open(next((out / "artifacts").glob(f"{name}-????????????")))

    first, second = made("sft-1"), made("sft-2")
    assert first.manifest.digest in {parent.digest for parent in second.manifest.parents}

    def texts(name: str) -> Counter[str]:
        rows = made(f"{name}-rows")
        tokenizer = Tokenizer.load(rows.folder)
        return Counter(tokenizer.decode(row.ids).split("answer")[0].removeprefix("user").strip() for row in Pool(rows.folder))

    before, after = texts("sft-1"), texts("sft-2")
    names = Counter(text.split()[0] for text in before.elements()), Counter(text.split()[0] for text in after.elements())
    assert names == (Counter(general=30, tools=10), Counter(reasoning=16, general=4))
    assert {text for text in after if text.startswith("general")} < set(before)
    # Each phase is one epoch of its samples under a schedule of its own, from its own peak.
    for artifact, step in zip((first, second), phases(), strict=True):
        rates, peak = [row["learning_rate"] for row in curves(artifact)], float(step["optim"]["lr"])
        assert len(rates) >= 6 and 0.8 * peak < max(rates) <= peak and rates[-1] < 0.3 * peak


def test_a_phase_without_a_length_is_still_refused(tmp_path: Path) -> None:
    first, _ = phases()
    path = written(tmp_path, [{**first, "samples": 0, "examples": {"general": "all"}}])
    with pytest.raises(UserError, match="sft-1: its length is not given"):
        check_runnable(load_recipe(path))
