"""Held-out examples open for a finished model alone, and that is written down."""

from __future__ import annotations

import ast
import json
import multiprocessing
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.artifact import ArtifactRef
from lehr.config import load_recipe
from lehr.evals.held_out import HeldOut, Ledger, often_opened, openings_of_run, read_openings, unscored, user
from lehr.evals.score import score
from lehr.evals.suites import examples
from lehr.pipeline.graph import graph
from tests.graph.source import ROOT

MODEL = ArtifactRef(uri="runs/a/artifacts/soup-1", digest="d" * 64, kind="checkpoint", stage="soup")
OTHER = MODEL.model_copy(update={"digest": "e" * 64})


def _held(limit: int = 3) -> HeldOut:
    return examples("arithmetic", "held_out", limit, 5)


def test_examples_cannot_be_had_without_an_entry_in_the_ledger(tmp_path: Path) -> None:
    held, file = _held(), tmp_path / "openings.jsonl"
    assert len(held) == 3 and "Generation" not in repr(held)
    with pytest.raises(TypeError):
        list(held)  # type: ignore[call-overload]
    with pytest.raises((TypeError, AttributeError)):
        score(None, "soup", "arithmetic", "held_out", held, 1, frozen=MODEL)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="nowhere"):  # what cannot be written down is not opened
        held.open(MODEL, "soup", Ledger(tmp_path / "nowhere" / "openings.jsonl", "me", "lehr run"))
    found = held.open(MODEL, "soup", Ledger(file, "me", "lehr run"))
    assert found == unscored(held, "lengths") and len(found) == 3
    [row] = [json.loads(line) for line in file.read_text().splitlines()]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", row.pop("when"))
    assert row == {
        "who": "me", "model": "soup", "digest": MODEL.digest, "task": "arithmetic", "examples": held.digest, "n": 3, "limit": 3,
        "command": "lehr run",
    }  # fmt: skip


def _killed(file: Path) -> None:
    _held().open(MODEL, "soup", Ledger(file, "me", "lehr run"))
    os.kill(os.getpid(), signal.SIGKILL)


def test_openings_are_appended_once_over_kills_and_torn_lines(tmp_path: Path) -> None:
    file = tmp_path / "openings.jsonl"
    child = multiprocessing.get_context("spawn").Process(target=_killed, args=(file,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL and len(read_openings(file)) == 1  # written before the examples were given
    first = file.read_bytes()
    ledger = Ledger(file, "somebody", "lehr eval")
    _held().open(MODEL, "soup", ledger)
    assert file.read_bytes() == first  # the attempt that goes on
    file.write_bytes(first + b'{"when": "2026-')  # the disk was full
    _held().open(OTHER, "dpo", ledger)
    _held(4).open(MODEL, "soup", ledger)  # other examples
    assert file.read_bytes().startswith(first)
    assert [(o.model, o.n, o.who) for o in read_openings(file)] == [
        ("soup", 3, "me"),
        ("dpo", 3, "somebody"),
        ("soup", 4, "somebody"),
    ]
    Ledger(None, "me", "").record(read_openings(file)[0])  # ranks other than the first


def test_what_was_opened_for_several_models_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_USER", "ada")
    places = ("artifacts/scores-a-1/logs", "evals/artifacts/scores-b-1/logs", "work/scores-c-1", ".")
    for number, place in enumerate(places):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        ref = MODEL.model_copy(update={"digest": str(number)})
        _held().open(ref, f"m{number}", Ledger(tmp_path / place / "openings.jsonl", user(), ""))
    found = openings_of_run(tmp_path)
    assert len(found) == 4 and {o.who for o in found} == {"ada"}
    told = "held-out examples of arithmetic have been opened 4 times for 4 models of this run: what is chosen by them is no"
    assert [line.startswith(told) for line in often_opened(found)] == [True]
    assert often_opened(found[:1]) == []


# Who may ask for examples of a split that is not written in the code: scoring a finished model, and `unscored`, by purpose.
OPENS, HELD_OUT = {"lehr/evals/run.py"}, "lehr/evals/held_out.py"
UNSCORED = {
    "lehr/evals/contamination.py": "decontamination", "lehr/evals/baselines.py": "baselines",
    "lehr/pipeline/requirements.py": "lengths", "cli/scoring.py": "lengths",
}  # fmt: skip
READERS = {"examples": 1, "prose_texts": 1, "held_back": 1}  # function -> place of the split among its arguments
THEIR_OWN = {"lehr/evals/suites.py", "lehr/evals/corpus.py"}  # make the examples


Call = tuple[str, ast.Call]


def _calls(tree: ast.Module) -> list[Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(getattr(call.func, "id", None) or getattr(call.func, "attr", ""), call) for call in calls]


def _undecided(calls: list[Call]) -> bool:
    """Whether one asks for a split other than dev by its name."""
    asked = [call.args[READERS[name]] for name, call in calls if name in READERS and len(call.args) > READERS[name]]
    return any(not (isinstance(split, ast.Constant) and split.value == "dev") for split in asked)


def test_whatever_chooses_reads_dev_alone() -> None:
    """Merge searches, soups, the training loop, rewards and pairs: only those named above can reach held-out examples."""
    paths = [p for room in ("lehr", "cli", "infra", "monitoring", "tasks", "workflows") for p in (ROOT / room).rglob("*.py")]
    texts = {p.resolve().relative_to(ROOT.resolve()).as_posix(): p.read_text(encoding="utf-8") for p in paths}
    asks = re.compile(rf"\b({'|'.join(READERS)}|unscored|opened|open)\(")
    found = {name: _calls(ast.parse(text)) for name, text in texts.items() if asks.search(text) and "lehr" in text}
    assert {name for name, calls in found.items() if _undecided(calls)} == OPENS | set(UNSCORED) | THEIR_OWN
    opens = {name for name, calls in found.items() if any(of in ("open", "opened") and _opens(c) for of, c in calls)}
    assert opens == OPENS | {HELD_OUT}
    purposes = {
        name: {c.args[1].value for of, c in calls if of == "unscored" and isinstance(c.args[1], ast.Constant)}
        for name, calls in found.items()
        if name != HELD_OUT and any(of == "unscored" for of, _ in calls)
    }
    assert purposes == {name: {purpose} for name, purpose in UNSCORED.items()}


def _opens(call: ast.Call) -> bool:
    """Opens examples, not a file: the ledger is among the arguments."""
    return any(getattr(argument, "id", "") == "ledger" for argument in call.args)


@pytest.mark.parametrize("name", ["tiny/olmo2", "tiny/granite3", "released/olmo2-32b", "released/granite3-8b"])
def test_recipes_choose_by_dev_alone(name: str) -> None:
    """Stages that score models to choose by, other than the evaluation of finished ones, name no held-out split."""
    nodes = graph(load_recipe(ROOT / "recipes" / f"{name}.yaml"))
    choosing = [node for node in nodes if node.kind not in ("evaluate", "baselines")]
    assert len(choosing) > 5
    for node in choosing:
        assert "held_out" not in _splits(node.config.model_dump(mode="json")), node.name


def _splits(value: Any) -> list[str]:
    """The values of all keys `split` and `splits`."""
    if isinstance(value, dict):
        own = [value.get("split", ""), *(value.get("splits") or [])]
        return [*own, *(split for inner in value.values() for split in _splits(inner))]
    return [split for inner in value for split in _splits(inner)] if isinstance(value, list) else []
