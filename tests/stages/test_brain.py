"""BRAIn as a step of a recipe: on a user's prompts with a reward model and adapters; and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stages.test_ppo import made, refused, reward_model, run, written
from tests.stages.test_ppo import taught as taught

BRAIN: dict[str, Any] = {
    "kind": "brain", "examples": {"mine": "all", "math": 4}, "optim": {"lr": 1e-3}, "batch_size": 2, "steps": 6,
    "refresh_steps": 3, "samples_per_prompt": 4, "max_new_tokens": 6, "beta": 0.5, "no_eos_reward": -1.0,
    "lora": {"rank": 2},
}  # fmt: skip


def test_it_runs_on_ones_own_prompts_with_a_reward_model(taught: Path, tmp_path: Path) -> None:
    rewards = reward_model(tmp_path / "rm", made(taught / "run", "sft"))
    assert run(written(taught, {**BRAIN, "reward_models": {rewards: 0.5}}), taught / "run") == 0
    tuned = made(taught / "run", "brain")
    assert rewards in {parent.uri for parent in tuned.manifest.parents}
    rows = [json.loads(line) for line in tuned.path("logs/curves.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["posterior_kl"] >= 0 and 1 <= row["policy_samples"] <= 4.001 for row in rows)
    assert rows[0]["policy_samples"] == pytest.approx(4) == rows[3]["policy_samples"]  # a fresh proposal is the policy
    assert "posterior" in (taught / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"refresh_steps": 4}, ("posttraining.brain.refresh_steps=4 do not divide its 6 steps",)),
        ({"samples_per_prompt": 1}, ("posttraining.brain.samples_per_prompt",)),
        ({"beta": 0.0}, ("posttraining.brain.beta",)),
        ({"reward_models": {"nobody": 1.0}}, ("posttraining.brain.reward_models.nobody: 'nobody' is no reward model",)),
        ({"correct_reward": 0.0, "no_eos_reward": None}, ("posttraining.brain: no answer is rewarded more than another",)),
        ({"examples": {}}, ("posttraining.brain: its data must be supplied", "its families or its examples")),
    ],
)
def test_a_wrong_step_is_one_line(
    change: dict[str, Any], said: tuple[str, ...], taught: Path, capsys: Any, tmp_path: Path
) -> None:
    refused(written(taught, {**BRAIN, **change}), tmp_path / "run", capsys, *said)
