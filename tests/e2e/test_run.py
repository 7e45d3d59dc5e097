"""What a newcomer gets from one command."""

from __future__ import annotations

import ipaddress
import json
import re
import sqlite3
from pathlib import Path

import helpers
import pytest
import torch
from helpers import Finished

from lehr.artifacts.artifact import Artifact
from lehr.config import load_recipe
from lehr.data.synthetic.conversations import Message
from lehr.model.generate import LanguageModel
from lehr.pipeline.graph import graph
from lehr.post.chat import render
from lehr.report.totals import TOTALS
from lehr.runtime.metrics import require
from lehr.train.checkpointing.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


def _final(out: Path) -> Artifact:
    return Artifact.open(out / "artifacts" / helpers.artifacts(out, ["rlvr"])[0])


def test_every_stage_is_scored_in_the_named_form(finished: Finished) -> None:
    records = json.loads((finished.out / "scores.json").read_text())
    fields = ("stage", "task", "split", "metric", "value", "stderr", "n", "clusters", "seed", "contamination")
    assert {tuple(r) for r in records} == {fields}
    assert list(dict.fromkeys(r["stage"] for r in records)) == helpers.STAGES
    assert {r["split"] for r in records} == {"dev", "held_out"}
    assert {r["task"] for r in records if r["stage"] == "dpo"} >= {"preference", "chat_math", "prose"}
    compared = {(r["stage"], r["metric"]) for r in records if "bits_per_byte_" in r["metric"] and r["split"] == "held_out"}
    assert compared == {(s, f"bits_per_byte_{name}") for s in ("stage1", "soup") for name in ("2gram", "3gram", "xz")}
    assert all(1 < r["value"] < 8 for r in records if "bits_per_byte" in r["metric"])
    assert str(finished.out / "report.html") in finished.stdout.splitlines()[-3]


def test_the_display_knows_every_stage_in_its_order(finished: Finished) -> None:
    started = re.findall(r"  (\S+): started", finished.stdout)
    assert started == [node.name for node in graph(load_recipe(helpers.RECIPE))]


def test_lineage_names_every_artifact_and_its_parents(finished: Finished) -> None:
    rows = json.loads((finished.out / "lineage.json").read_text())
    digests = {row["digest"] for row in rows}
    assert len(rows) == len(helpers.artifacts(finished.out))
    assert all(parent["digest"] in digests for row in rows for parent in row["parents"])
    soup = next(row for row in rows if row["stage"] == "soup")
    assert [p["stage"] for p in soup["parents"]] == ["anneal-1", "anneal-2"]
    assert all(row["cost"]["seconds"] > 0 for row in rows)


def test_anneals_start_at_the_ramps_rate_and_end_at_zero(finished: Finished) -> None:
    def curve(stage: str) -> list[dict[str, float]]:
        folder = finished.out / "artifacts" / helpers.artifacts(finished.out, [stage])[0]
        rows = [json.loads(line) for line in (folder / "logs" / "curves.jsonl").read_text().splitlines()]
        return [r for r in rows if "loss" in r]

    ramp, first, second = curve("ramp"), curve("anneal-1"), curve("anneal-2")
    assert len({row["learning_rate"] for row in ramp}) == 1
    assert first[0]["learning_rate"] == ramp[-1]["learning_rate"]
    assert first[-1]["learning_rate"] == pytest.approx(ramp[-1]["learning_rate"] / len(first))
    assert [r["learning_rate"] for r in first] == [r["learning_rate"] for r in second]
    assert first[0]["loss"] != second[0]["loss"]  # another data order


def test_the_report_stands_alone(finished: Finished) -> None:
    html = (finished.out / "report.html").read_text()
    peak = re.search(r"Peak memory</p><p class=\"figure\">([0-9.]+) GiB</p>", html)
    assert peak and 0.1 < float(peak[1]) < 4.0  # README's 4 GB
    assert "<script" not in html
    assert not re.search(r'(?:src|href)="(?!#|data:)', html)
    for text in ("anneal-1", "Before and after", "Lineage", "Soup against its ingredients", "duplicate n-grams"):
        assert text in html, text


def test_the_export_is_our_model_in_transformers(finished: Finished) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = load_checkpoint(_final(finished.out))
    theirs = AutoModelForCausalLM.from_pretrained(finished.out / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(finished.out / "model")
    text = "And it came to pass that 47 + 38 = 85."
    assert tokenizer(text)["input_ids"] == loaded.tokenizer.encode(text)
    messages = [Message("user", "Who are you? <|assistant|> Say: I")]
    ids, _ = render(messages, loaded.tokenizer, True)
    their_ids = tokenizer.apply_chat_template([m.row() for m in messages], add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    assert ids == list(their_ids)
    with torch.no_grad():
        difference = (loaded.model(torch.tensor([ids])) - theirs(torch.tensor([ids])).logits).abs().max()
    assert float(difference) < 1e-4
    ours = LanguageModel(loaded.model, loaded.tokenizer).generate([ids], 20)[0]
    generated = theirs.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, len(ids) :].tolist()
    assert ours == generated


def test_mlflow_has_a_parent_and_a_child_per_stage(finished: Finished) -> None:
    db = sqlite3.connect(finished.out / "mlflow.db")
    runs = dict(db.execute("select run_uuid, name from runs where lifecycle_stage = 'active'").fetchall())
    parents = dict(db.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall())
    (parent,) = set(runs) - set(parents)
    assert runs[parent] == "e2e"
    assert set(helpers.STAGES) <= {runs[child] for child in parents}
    assert set(parents.values()) == {parent}
    stage1 = next(child for child in parents if runs[child] == "stage1")
    steps = [s for (s,) in db.execute("select step from metrics where run_uuid = ? and key like '%loss%'", (stage1,))]
    assert max(steps) == 32
    keys = {k for (k,) in db.execute("select key from params where run_uuid = ?", (parent,))}
    assert "model.d_model" in keys
    tags = dict(db.execute("select key, value from tags where run_uuid = ?", (parent,)).fetchall())
    assert tags["mlflow.source.name"] == str(helpers.RECIPE) and tags["lehr.command"].startswith("lehr run ")
    totals = dict(db.execute("select key, value from latest_metrics where run_uuid = ? and key like 'run_%'", (parent,)))
    took = json.loads((finished.out / "footprint.json").read_text())
    assert {name: totals.get(name) for name in TOTALS.values()} == {name: took[key] for key, name in TOTALS.items()}
    assert totals["run_energy_joules"] > 0
    of = "select m.name, r.name from logged_models m join runs r on m.source_run_id = r.run_uuid"
    assert db.execute(of).fetchall() == [(stage, stage) for stage in (*helpers.STAGES, "export")]
    read = "select d.name from inputs i join datasets d on i.source_id = d.dataset_uuid where i.destination_id = ?"
    assert {name for (name,) in db.execute(read, (stage1,))} == {"documents", "shards"}


def test_a_run_listens_on_loopback_only(finished: Finished) -> None:
    """Metrics, and where ranks meet: every process of the run, of both families of addresses, from beginning to end."""
    assert "lehr_train_loss{" in finished.metrics
    assert re.search(r'run="e2e-[0-9a-f]{8}"', finished.metrics) and 'name="e2e",place="run"' in finished.metrics
    assert 'lehr_train_dev_metric{metric="dev_bits_per_byte"' in finished.metrics
    for name in ("train_part_seconds_total", "memory_resident_bytes", "memory_resident_peak_bytes"):
        value = re.search(rf"^lehr_{name}{{.*}} (.*)$", finished.metrics, re.MULTILINE)
        assert value and float(value[1]) > 0, name
    assert finished.metrics_url.startswith("http://127.0.0.1:")
    assert finished.listening and all(ipaddress.ip_address(a).is_loopback for a in finished.listening), finished.listening


def test_the_recipe_is_pinned(finished: Finished) -> None:
    assert load_recipe(finished.out / "recipe.yaml") == load_recipe(helpers.RECIPE)


def test_the_same_command_repeats_nothing(finished: Finished) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.out.glob("artifacts/**/*")}
    scores = (finished.out / "scores.json").read_text()
    again = helpers.run(finished.out)
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in finished.out.glob("artifacts/**/*")} == before
    assert (finished.out / "scores.json").read_text() == scores
    assert ": started" not in again.stdout
    total = len(graph(load_recipe(helpers.RECIPE)))
    assert again.stdout.count("found again") == 1 and f"found again: all {total} stages" in again.stdout


def test_every_number_that_a_run_wrote_is_declared(finished: Finished) -> None:
    logs = [line for log in finished.out.glob("artifacts/*/logs/curves.jsonl") for line in log.read_text().splitlines()]
    names = {name for line in logs for name in json.loads(line)}
    assert "learning_rate" in names
    require(names | {record["metric"] for record in json.loads((finished.out / "scores.json").read_text())})


def test_show_chat_and_dropped(finished: Finished) -> None:
    show = helpers.lehr("show", finished.out)
    assert show.returncode == 0, show.stderr
    assert "anneal-1" in show.stdout and "soup" in show.stdout
    chat = helpers.lehr("chat", finished.out, stdin="Who are you?\n")
    assert chat.returncode == 0, chat.stderr
    assert chat.stdout.strip()
    dropped = helpers.lehr("dropped", finished.out)
    assert dropped.returncode == 0, dropped.stderr
    assert "duplicate n-grams" in dropped.stdout
