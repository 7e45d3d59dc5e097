"""The tasks in docs/tasks are what docs/evaluation.md shows, and can be scored; what a recipe and a command make of a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from lehr.cli.main import main
from lehr.config import load_recipe
from lehr.evals import own
from lehr.evals.score import score
from lehr.evals.task import Asked, Document, Question
from lehr.pipeline.graph import graph
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel
from tests.evals.given import examples

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "e2e" / "recipe.yaml"
TASKS = sorted((ROOT / "docs" / "tasks").glob("*.yaml"))
ANSWERED = [path for path in TASKS if path.stem != "by_source"]


def test_the_page_shows_the_file() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    for shown in ("gsm8k.yaml", "by_source.yaml"):
        assert (ROOT / "docs" / "tasks" / shown).read_text(encoding="utf-8") in blocks
    for name in re.findall(r"`([a-z0-9]+\.yaml)`", page):
        assert name == "mine.yaml" or (ROOT / "docs" / "tasks" / name) in TASKS


@pytest.mark.parametrize("path", ANSWERED, ids=lambda path: path.stem)
def test_a_model_that_knows_the_answers_solves_it(path: Path) -> None:
    pytest.importorskip("math_verify")
    rows = [json.loads(line) for line in path.with_name(own.loaded(str(path)).files[-1].name).read_text().splitlines()]
    asked = examples(str(path), "held_out", 99, 0)
    dev = own.loaded(str(path)).task.name

    def answer(prompt: str, heat: float) -> str:
        last = prompt.rstrip()
        for row in rows:
            if "problem" in row and last.rpartition("Problem:")[2].find(row["problem"]) > 0:
                return f" {row['solution']}$Problem:" if "$" not in row["solution"] else f" \\boxed{{{row['answer']}}}$"
            if "question" in row and row["question"] in last.rpartition("Question:")[2]:
                return f" {row['answer']}\n\nQuestion: 7"
        return "no rain here$"

    golds = {e.continuations[e.golds[0]] for e in asked if isinstance(e, Question)}

    def probability(ids: list[int], token: int) -> float:
        text = bytes(i - 5 for i in [*ids, token] if i >= 5).decode(errors="replace").rpartition("Answer:")[2]
        return 0.9 if any(gold.startswith(text) for gold in golds) else 0.1

    found = score(TableModel(probability, answer, max_length=4000), "m", dev, "dev", asked, 1)  # type: ignore[arg-type]
    assert all(isinstance(e, Question | Asked) for e in asked)
    assert {r.metric: r.value for r in found if "per_byte" not in r.metric and "nats" not in r.metric} == {
        r.metric: 1.0 for r in found if "per_byte" not in r.metric and "nats" not in r.metric
    }


def test_texts_by_source_can_be_scored() -> None:
    """A byte costs 2 bits, but in the kitchen 4: each source and domain has its own, and the means are theirs."""
    asked = examples(str(ROOT / "docs" / "tasks" / "by_source.yaml"), "held_out", 99, 0)
    cooked = {e.text.encode()[:40] for e in asked if isinstance(e, Document) and e.source == "kitchen"}

    class Cook(TableModel):
        def logprobs(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], /) -> list[tuple[float, int, bool]]:
            found, bits = [], 2
            for context, continuation in pairs:
                if list(context) == [self.tokenizer.eos_id]:
                    bits = 4 if bytes(token - 5 for token in continuation)[:40] in cooked else 2
                found.append((-bits * len(continuation) * math.log(2), len(continuation), False))
            return found

    found = {r.metric: r for r in score(Cook(lambda ids, token: 0.5, max_length=200), "m", "by_source", "dev", asked, 1)}
    parts = {(part.source, part.domain): part.value for part in found["bits_per_byte"].parts}
    assert parts == pytest.approx(
        {("kitchen", ""): 4, ("kitchen", "bread"): 4, ("kitchen", "soup"): 4, ("workshop", ""): 2, ("log", ""): 2,
         ("log", "harbour"): 2, ("log", "lighthouse"): 2}
    )  # fmt: skip
    assert found["bits_per_byte_over_sources"].value == pytest.approx((4 + 2 + 2) / 3)
    assert found["bits_per_byte_over_domains"].value == pytest.approx((4 + 4 + 2 + 2 + 2) / 5)
    assert found["perplexity_over_sources"].value == pytest.approx((16 + 4 + 4) / 3)


def test_a_recipe_takes_a_task_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Relative to the recipe; its mistakes end `lehr validate` with 2, and it is compared with training documents."""
    (tmp_path / "rows.jsonl").write_text('{"q": "1+1=", "a": "2"}\n')
    said = {"kind": "generation", "data": "rows.jsonl", "prompt": "q", "target": "a", "metrics": {"exact_match": {}}}
    (tmp_path / "sums.yaml").write_text(yaml.safe_dump(said))
    mine = {"inherits": str(TINY), "evaluation": {"tasks": [{"task": "sums.yaml"}], "headline": ["sums/exact_match"]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(mine))
    recipe = load_recipe(tmp_path / "recipe.yaml")
    nodes = {node.kind: node for node in graph(recipe)}
    known = own.identity(str(tmp_path / "sums.yaml"))
    assert known in nodes["documents"].config.described()["decontaminate"]
    assert nodes["evaluate"].config.described()["tasks"][0]["task"] == known
    assert main(["validate", str(tmp_path / "recipe.yaml")]) == 0
    (tmp_path / "rows.jsonl").write_text('{"q": "1+1=", "a": "2"}\n{"q": "1+2=", "a": ""}\n')
    capsys.readouterr()
    assert main(["validate", str(tmp_path / "recipe.yaml")]) == 2
    assert "rows.jsonl:2: target: it is empty. Give the right answer, or remove the row." in capsys.readouterr().err
    (tmp_path / "sums.yaml").unlink()
    assert main(["validate", str(tmp_path / "recipe.yaml")]) == 2
    assert f"evaluation.tasks: {tmp_path / 'sums.yaml'}: no such file" in capsys.readouterr().err
    with pytest.raises(UserError, match="there is no evaluation task 'sums'"):
        graph(load_recipe(TINY, ["evaluation.headline=[sums/exact_match]"]))
