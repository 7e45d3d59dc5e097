"""`lehr plan`: what it counts, what it says does not fit, its JSON and its drawing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lehr.config import load_recipe
from lehr.pipeline.graph import graph
from lehr.planning.curves import schedule_lines
from lehr.planning.plan import plan_run
from lehr.planning.works import works
from lehr.report.schedules import schedules_html, schedules_svg
from lehr.runtime.errors import UserError
from tests.plan.released import MODELS, ROOT, released

TINY = ROOT / "recipes/tiny/olmo2.yaml"
CLUSTERS = sorted((ROOT / "recipes/hardware").glob("*.yaml"))


def lehr(*arguments: str, columns: int = 160) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lehr.cli.main", "plan", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=120, env=os.environ | {"COLUMNS": str(columns)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters", "active"),
    [
        ("olmo1-7b", 6_888_095_744, None),
        ("olmo2-7b", 7_298_617_344, None),
        ("olmo2-13b", 13_716_198_400, None),
        ("olmo2-32b", 32_234_279_936, None),
        ("granite3-2b", 2_533_525_504, None),
        ("granite3-8b", 8_170_835_968, None),
        ("granite3-1b-a400m", 1_334_625_280, (428_655_616, 378_323_968)),
        ("granite3-3b-a800m", 3_298_788_864, (882_869_760, 807_372_288)),
        ("stablelm2-1.6b", 1_644_515_328, None),
    ],
)
def test_parameters_of_released_models(name: str, parameters: int, active: tuple[int, int] | None) -> None:
    """As counted from the Hugging Face classes; active ones with and without the embedding."""
    model = plan_run(released(name, "jupiter")).json()["model"]
    assert model["parameters"] == parameters
    assert active is None or (model["active_parameters"], model["active_parameters_without_embedding"]) == active
    assert active is not None or model["active_parameters"] == parameters


def test_json_holds_what_is_promised_and_its_sums() -> None:
    done = lehr("recipes/tiny/olmo2.yaml", "--on", "recipes/hardware/jupiter.yaml", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    recipe = load_recipe(TINY)
    assert set(plan["model"]) >= {"parameters", "active_parameters", "flops_per_token"}
    keys = {"name", "tokens", "steps", "gpu_hours", "kwh", "co2_kg", "water_l", "cost"}
    assert all(set(stage) >= keys for stage in plan["stages"])
    trained = ["stage1", "ramp", "anneal-42", "anneal-42069", "anneal-666", "sft", "dpo", "ppo"]
    assert [stage["name"] for stage in plan["stages"]] == trained
    assert set(trained) < {node.name for node in graph(recipe)}
    for key in keys - {"name"}:
        assert plan["total"][key] == pytest.approx(sum(stage[key] for stage in plan["stages"]))
        assert plan["total"][key] > 0
    first = plan["stages"][0]
    assert (first["tokens"], first["steps"]) == (recipe.stage1.steps * 8 * 128, recipe.stage1.steps)
    assert first["gpu_hours"] == pytest.approx(first["tokens"] * plan["model"]["flops_per_token"] / (989e12 * 0.4 * 3600))
    assert first["kwh"] == pytest.approx(first["gpu_hours"] * 0.7 * 1.2)
    assert (first["co2_kg"], first["water_l"]) == pytest.approx((first["kwh"] * 0.332, first["kwh"] * 1.29))
    assert plan["checkpoint"]["bytes"] == 12 * plan["model"]["parameters"]


def test_what_does_not_fit_is_said_with_what_would_help() -> None:
    def problems(*overrides: str, name: str = "olmo2-32b") -> str:
        plan = plan_run(released(name, "jupiter", *overrides))
        assert plan.json()["fits"] == (not plan.problems)
        return " ".join(plan.problems)

    alone = "hardware.count=1", "hardware.parallelism.data=ddp"
    assert re.match(r"does not fit: stage1 needs [\d.]+ GiB on each NVIDIA H100 80GB, which has 79.1 GiB", problems(*alone))
    assert "shard it over more" in problems(*alone)
    assert "it would with activation checkpointing" in problems("hardware.micro_batch=2")
    assert problems("hardware.micro_batch=2", "hardware.activation_checkpointing=true") == ""
    assert "n_heads=40 is no multiple of tensor=16" in problems("hardware.parallelism.tensor=16")
    wide = "hardware.count=1280", "hardware.parallelism.pipeline=128"
    assert "64 layers over pipeline=128" in problems(*wide)


def test_notes_name_batches_that_ranks_cannot_share() -> None:
    """Granite 3.0 8B: 768 GPUs, tensor 4, pipeline 4 are 48 data ranks, and 1,024 sequences are 21.3 for each."""
    cut = "hardware.parallelism={data: zero1, tensor: 4, pipeline: 4}", "hardware.count=768"
    notes = plan_run(released("granite3-8b", "blue-vela", *cut, "posttraining=[]")).notes
    assert notes == ["stage1: 1,024 sequences over 48 data ranks with micro-batches of 1 leave 3 % of each step idle"]


def test_table_on_a_terminal() -> None:
    done = lehr(str(TINY), "--on", "recipes/hardware/mosaicml.yaml", "--set", "hardware.micro_batch=1")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "1,067,136 parameters" in text and "216 x NVIDIA A100 40GB" in text and "It fits." in text
    assert "stage1, ramp" in text and "batches begin too small for 216 data ranks" in text


@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda p: p.stem)
def test_clusters_say_where_their_numbers_come_from(cluster: Path) -> None:
    recipe = load_recipe(TINY, [], cluster)
    assert recipe.hardware is not None and recipe.hardware.citation != "estimate" and recipe.site.citation != "estimate"
    assert plan_run(recipe).total["kwh"] > 0


def test_other_machines_take_what_was_reported_with_them(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        f"inherits: [{TINY}, {ROOT}/recipes/hardware/jupiter.yaml]\n"
        "hardware: {mfu: 0.3, reported: {it_kwh: 5.0, citation: measured}}\n"
    )
    assert plan_run(load_recipe(own)).stages[0].reported == ("it_kwh",)
    elsewhere = load_recipe(own, ["hardware.mfu=0.2"], ROOT / "recipes/hardware/lumi.yaml")
    assert elsewhere.hardware is not None and elsewhere.hardware.reported is None
    assert (elsewhere.hardware.mfu, elsewhere.site.pue, elsewhere.hardware.accelerator) == (0.2, 1.1, "AMD MI250X 128GB")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["hardware.count=7", "hardware.parallelism.tensor=2"], ["count=7", "parallelism.tensor", "Change one"]),
        (["hardware.parallelism.replicas=2"], ["replicas=2 with data=fsdp", "Set data to hsdp"]),
        (["hardware.parallelism={data: hsdp, replicas: 3}"], ["replicas=3 does not divide 1024 data ranks"]),
        (["hardware.reported={citation: x}"], ["neither gpu_hours nor it_kwh"]),
        (["hardware.mfu=1.5"], ["hardware.mfu", "1.5"]),
        (
            ["hardware.reported={gpu_hours: 1.0, stages: [stage9], citation: x}"],
            ["no stage 'stage9'", "Stages are: stage1, ramp"],
        ),
        (["site.water_liters_per_kwh=5.0"], ["water_liters_per_kwh=5.0 is not the sum 1.29", "Leave it out"]),
    ],
)
def test_refusals(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        plan_run(load_recipe(TINY, overrides, ROOT / "recipes/hardware/jupiter.yaml"))
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize(
    ("accelerator", "hours"),
    [
        ("x86 core with bf16 units", "core-hours"),
        ("two CPUs", "core-hours"),
        ("NVIDIA H100 Tensor Core GPU", "GPU-hours"),
        ("AMD MI250X 128GB", "GPU-hours"),
    ],
)
def test_an_hour_of_a_core_is_no_gpu_hour(accelerator: str, hours: str) -> None:
    hardware = load_recipe(TINY).hardware
    assert hardware is not None and hardware.model_copy(update={"accelerator": accelerator}).hours == hours


def test_a_file_gets_whole_tables() -> None:
    done = lehr(str(TINY), columns=30)
    assert done.returncode == 0, done.stderr
    assert "core-hours" in done.stdout and "GPU-hours" not in done.stdout and "…" not in done.stdout
    assert any(line.split()[:1] == ["stage1"] and len(line) > 50 for line in done.stdout.splitlines())


def test_bad_arguments_end_in_one_line(tmp_path: Path) -> None:
    for arguments, part in (
        (["none.yaml"], "no such recipe file"),
        ([str(TINY), "--plot", "x.png"], "Name it .svg or .html"),
        ([str(TINY), "--on", "none.yaml"], "none.yaml"),
        ([str(TINY), "--plot", str(tmp_path / "file" / "x.svg")], "file"),
    ):
        (tmp_path / "file").write_text("")
        done = lehr(*arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and part in done.stderr, done.stderr


def test_schedules_are_drawn_on_one_axis() -> None:
    """Anneals begin together where the ramp ends, at its rate, and end at zero; post-training follows them."""
    lines = {line.name: line for line in schedule_lines(works(load_recipe(TINY))[0])}
    ramp_end = lines["ramp"].rates[-1]
    for seed in (42, 42069, 666):
        rates = lines[f"anneal-{seed}"].rates
        assert rates[0] == pytest.approx(ramp_end) and rates[-1][1] == 0.0
        assert rates[-1][0] == lines["sft"].rates[0][0]
    assert max(rate for _, rate in lines["stage1"].rates) == pytest.approx(6e-3)
    assert lines["stage1"].batches == [(0, 1024), (lines["ramp"].rates[0][0], 1024)]


def test_drawings_need_nothing_else(tmp_path: Path) -> None:
    recipe = load_recipe(TINY, ["name=a-b", "stage1.batch_ramp={start: 4, double_every_tokens: 200000}"])
    lines = schedule_lines(works(recipe)[0])
    svg = schedules_svg("a<b", lines)
    root = ElementTree.fromstring(svg)
    texts = [t.text for t in root.iter() if t.tag.endswith("text")]
    assert "a<b" in texts and "anneal-666" in texts and "Batch size, tokens (linear)" in texts
    page = schedules_html("a<b", lines)
    for drawing in (svg.replace("http://www.w3.org/2000/svg", ""), page):
        assert not re.search(r"https?:|<script|url\(|@import", drawing)
        paths = re.findall(r'<path d="([^"]*)"', drawing)
        after = sum(line.phase == "post-training" for line in lines)  # in two panels of its own, no sliver in the others
        assert after == 3 and len(paths) == 4 * (len(lines) - after) + 2 * after
        assert not any("nan" in p or "inf" in p for p in paths) and "tokens since pretraining" in drawing
    sizes = [size for _, size in next(line for line in lines if line.name == "stage1").batches]
    assert sizes == [512, 512, 1024, 1024]
    out: dict[str, Any] = {}
    for suffix in ("svg", "html"):
        target = tmp_path / f"x.{suffix}"
        assert lehr(str(TINY), "--json", "--plot", str(target)).returncode == 0
        out[suffix] = target.read_text()
    assert out["svg"].startswith("<svg") and out["html"].startswith("<!doctype html>")


def test_described_post_training_is_bounded_or_left_out() -> None:
    """939,104 prompts, 2 epochs, batches of 128 of at most 4,096 tokens; a pair is two sequences; no length, no plan."""
    warm = "epochs: 2.0, samples: 939104, max_length: 4096, schedule: {warmup_ratio: 0.03}"
    plans = [
        f"{{kind: sft, name: tulu-sft, optim: {{lr: 2e-5}}, batch_size: 128, {warm}}}",
        "{kind: dpo, name: tulu-dpo, optim: {lr: 1e-6}, batch_size: 128, epochs: 1.0, samples: 366949, max_length: 2048}",
        "{kind: merge}",
    ]
    plan = plan_run(released("olmo2-7b", "jupiter", f"posttraining=[{', '.join(plans)}]"))
    sft, dpo = plan.stages[-2:]
    assert (sft.work.steps, sft.work.tokens, sft.work.how) == (14_674, 14_674 * 128 * 4096, "at most")
    assert (dpo.work.steps, dpo.work.tokens) == (2867, 2867 * 128 * 2 * 2048)
    assert sft.work.rate(0) == 0.0 and sft.work.rate(0.03 * sft.work.tokens) == pytest.approx(2e-5, rel=1e-2)
    assert "not planned, since steps, batch or length are not given: merge" in plan.notes
    assert MODELS["olmo2-7b"]["max_seq_len"] == sft.work.sequence_length
