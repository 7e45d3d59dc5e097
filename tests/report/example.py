"""A made-up run with the shape and the awkward corners of a real one: for the tests, and for looking at the page."""

from __future__ import annotations

import hashlib
import math
import random

from lehr.evals.flagged import Contamination, Without
from lehr.report import Environment, PlannedStage, ReportData, Sample, ScoreRecord, Site, SourceFunnel, StageReport, Totals
from lehr.report.judgements import judged

PARENTS = {
    "documents": [],
    "tokenizer": ["documents"],
    "shards": ["documents", "tokenizer"],
    "stage1": ["shards", "tokenizer"],
    "ramp": ["stage1", "shards"],
    "anneal-42": ["ramp", "shards"],
    "anneal-42069": ["ramp", "shards"],
    "anneal-666": ["ramp", "shards"],
    "soup": ["anneal-42", "anneal-42069", "anneal-666"],
    "sft": ["soup", "tokenizer"],
    "preferences": ["sft"],
    "dpo": ["sft", "preferences"],
    "rlvr": ["dpo"],
    "export": ["rlvr", "tokenizer"],
}
KINDS = {
    "documents": "documents",
    "tokenizer": "tokenizer",
    "shards": "shards",
    "preferences": "preferences",
    "export": "export",
}
ROLES = {
    "pretraining": {
        "stage1": "pretrain",
        "ramp": "midtrain",
        "anneal-42": "midtrain",
        "anneal-42069": "midtrain",
        "anneal-666": "midtrain",
    },
    "data": {"documents": "documents", "tokenizer": "tokenizer", "shards": "shards"},
    "soup": {"soup": "soup"},
    "post-training": {"sft": "sft", "preferences": "preferences", "dpo": "dpo", "rlvr": "grpo"},
    "export": {"export": "export"},
}
SECONDS = dict(zip(PARENTS, (14.1, 6.3, 5.2, 96.0, 54.0, 36.2, 35.9, 37.0, 0.4, 41.0, 38.0, 21.0, 62.0, 2.6), strict=True))
STEPS = {
    "stage1": 800,
    "ramp": 450,
    "anneal-42": 300,
    "anneal-42069": 300,
    "anneal-666": 300,
    "sft": 300,
    "dpo": 50,
    "rlvr": 40,
}
# task -> (metric, n, values at stage1, ramp, each anneal, soup, sft, dpo, rlvr); None: not scored there
VALUES: dict[str, tuple[str, int, list[float | None]]] = {
    "prose": ("bits_per_byte", 150, [2.061, 2.104, 2.043, 2.047, 2.045, 2.036, 2.188, 2.191, 2.197]),
    "math_text": ("bits_per_byte", 300, [2.913, 0.902, 0.713, 0.709, 0.716, 0.702, 0.811, 0.815, 0.822]),
    "arithmetic": ("exact_match", 300, [0.007, 0.563, 0.763, 0.777, 0.75, 0.783, 0.627, 0.63, 0.677]),
    "word_problems": ("exact_match", 200, [0.0, 0.395, 0.58, 0.56, 0.595, 0.59, 0.51, 0.505, 0.535]),
    "arithmetic_mcf": ("accuracy", 200, [0.255, 0.245, 0.26, 0.235, 0.27, 0.25, 0.265, 0.26, 0.255]),
    "continuation_cf": ("accuracy", 150, [0.42, 0.433, 0.447, 0.453, 0.44, 0.46, 0.407, 0.4, 0.407]),
    "chat_math": ("exact_match", 300, [None] * 6 + [0.657, 0.663, 0.793]),
    "chat_format": ("strict", 300, [None] * 6 + [0.91, 0.923, 0.947]),
    "preference": ("accuracy", 300, [None] * 6 + [0.5, 0.83, 0.817]),
}
REWARD = {
    "loss": "bradley-terry", "pairs": 627, "accuracy": 0.954, "stderr": 0.0084, "length_correlation": -0.417,
    "domains": {"list": {"pairs": 291, "accuracy": 0.928, "stderr": 0.0152}, "one": {"pairs": 1, "accuracy": 1.0}},
    "calibration": [{"pairs": 42, "expected": 0.55, "observed": 0.5}, {"pairs": 585, "expected": 0.98, "observed": 0.986}],
    "calibration_error": 0.009, "aspects": {"right": {"weight": 0.75, "answers": 12, "error": 0.5, "correlation": 0.62}},
}  # fmt: skip
CURVE = [
    {"n": 1, "prompts": 300, "score": 0.0, "verified": 0.2154, "stderr": 0.0095, "of": 300},
    {"n": 2, "prompts": 300, "score": 0.48, "verified": 0.3529, "stderr": 0.0141, "of": 300},
]
SCORED = ("stage1", "ramp", "anneal-42", "anneal-42069", "anneal-666", "soup", "sft", "dpo", "rlvr")


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def curve(stage: str, rng: random.Random) -> list[dict[str, float | None]]:
    """Points that look like training: `tokens` are those of the step."""
    steps, points = STEPS.get(stage, 0), []
    start, end, peak = {
        "stage1": (6.9, 3.05, 3e-3),
        "ramp": (3.1, 2.35, 2.2e-3),
        "sft": (1.9, 0.42, 1e-3),
        "dpo": (0.75, 0.5, 1e-4),
        "rlvr": (0.02, 0.01, 2e-4),
    }.get(stage, (2.3, 1.92, 2.2e-3))
    for step in range(1, steps + 1):
        share = step / steps
        lr = peak * min(1, step / 40) * (0.75 + 0.25 * math.cos(math.pi * share * 0.4)) if stage == "stage1" else peak
        lr = peak * (1 - share) if stage.startswith("anneal") or stage in ("sft", "dpo") else lr
        skipped = float(stage == "stage1" and step in (233, 234))
        point: dict[str, float | None] = {
            "step": step,
            "tokens": 2048.0,
            "loss": end + (start - end) * math.exp(-5 * share) + rng.gauss(0, 0.05 * start / 7) + 2.2 * skipped,
            "grad_norm": math.exp(rng.gauss(0.1 + math.exp(-30 * share), 0.18)) + 9 * skipped,
            "learning_rate": lr,
            "seconds": 2048 / (17_300 + rng.gauss(0, 420)),
            "skipped": skipped,
        }
        if stage == "dpo":
            point |= {
                "margin_over_reference": 1.6 * (1 - math.exp(-3 * share)) + rng.gauss(0, 0.1),
                "preference_accuracy": min(0.5 + 0.35 * share + rng.gauss(0, 0.03), 1),
            }
        if stage == "rlvr":
            point |= {
                "reward": 0.6 + 0.2 * share + rng.gauss(0, 0.03),
                "kl": 0.012 * share + abs(rng.gauss(0, 0.001)),
                "response_tokens": 14 + rng.gauss(0, 1),
            }
        points.append(point)
    return points


def stage(name: str, rng: random.Random) -> StageReport:
    trains = name in STEPS
    phase = next(phase for phase, names in ROLES.items() if name in names)
    return StageReport(
        name=name,
        kind=KINDS.get(name, "checkpoint"),
        stage_kind=ROLES[phase][name],
        phase=phase,
        uri=f"runs/tiny-olmo2/artifacts/{name}-{digest(name)[:8]}",
        digest=digest(name),
        parents=[digest(parent) for parent in PARENTS[name]],
        seconds=SECONDS[name],
        tokens=STEPS[name] * 2048 if trains else 0,
        energy_joules=SECONDS[name] * 14.0,
        energy_source="estimated",
        reused=name in ("documents", "tokenizer", "shards"),
        curves=curve(name, rng),
        params={"lr": 3e-3, "batch_size": 16} if trains else {},
    )


def contamination(task: str, value: float, n: int) -> Contamination:
    """Two examples of arithmetic stand in a document that stayed; of preferences nothing is known."""
    if task == "preference":
        return Contamination(compared=[], not_compared=["documents", "sft-rows"])
    said = Contamination(compared=["documents", "sft-rows"], not_compared=["the generated prompts of rlvr"], kept=0, removed=0)
    if task != "arithmetic":
        return said
    left = Without(value=max(0.0, value - 0.01), stderr=0.02, n=n - 2, clusters=n - 2)
    documents = [f"forum/{number}" for number in range(7)]
    return said.model_copy(update={"kept": 2, "removed": 1, "documents": documents, "document_count": 7, "without": left})


def records(split: str) -> list[ScoreRecord]:
    found = []
    for task, (metric, n, values) in VALUES.items():
        for name, value in zip(SCORED, values, strict=True):
            if value is not None and (split == "held_out" or task in ("prose", "arithmetic")):
                error = math.sqrt(max(value * (1 - value), 0.002) / n) if metric != "bits_per_byte" else 0.021
                of = {"stage": name, "task": task, "split": split, "metric": metric, "n": n, "seed": 7}
                found.append(ScoreRecord(**of, value=value, stderr=error, contamination=contamination(task, value, n)))
    return found


def funnel() -> dict[str, SourceFunnel]:
    rows = {
        "factbook": (
            268,
            251,
            "public domain",
            "CIA World Factbook",
            {"exact_duplicate": 9, "top_bigram": 6, "mean_word_length": 2},
        ),
        "bible": (1189, 1123, "public domain", "King James Version", {"min_words": 31, "exact_duplicate": 4, "language": 31}),
        "plays": (
            1042,
            904,
            "public domain",
            "Shakespeare and Milton",
            {"min_words": 88, "duplicate_lines": 37, "stop_words": 13},
        ),
        "novel": (410, 402, "public domain", "Moby Dick", {"language": 8}),
        "speeches": (713, 711, "public domain", "State of the Union addresses", {"exact_duplicate": 2}),
        "code": (
            640,
            411,
            "PSF-2.0",
            "Python standard library",
            {"max_line_characters": 61, "alphabetic": 84, "repetition": 84},
        ),
        "arithmetic": (24_000, 22_913, "CC0-1.0", "", {"decontaminated": 1012, "exact_duplicate": 75}),
        "word_problems": (8_000, 7_788, "CC0-1.0", "", {"decontaminated": 212}),
    }
    return {
        name: SourceFunnel(
            read=read, kept=kept, characters=kept * 640, tokens=kept * 210, dropped=dropped, license=licence, origin=origin
        )
        for name, (read, kept, licence, origin, dropped) in rows.items()
    }


SAMPLES = [
    Sample(
        prompt="What is 47 + 38? Give the answer after ####.",
        expected="85",
        answers={
            "soup": "\nA: 47 + 38 = 85.\nQ: What is 12 + 9?\nA: 21.",
            "sft": "47 + 38 = 75\n#### 75",
            "dpo": "47 + 38 = 85\n#### 85",
            "rlvr": "40 + 30 = 70, 7 + 8 = 15, 70 + 15 = 85\n#### 85",
        },
    ),
    Sample(
        prompt="List three colours as JSON.",
        answers={
            "soup": " of the United States is a member of the United States",
            "sft": '{"colours": ["red", "green", "red"]}',
            "dpo": '{"colours": ["red", "green", "blue"]}',
            "rlvr": '{"colours": ["red", "green", "blue"]}',
        },
    ),
    Sample(
        prompt="Who are you? <script>alert(1)</script>",
        answers={
            "soup": "",
            "sft": "I am a small language model trained by Lehr.",
            "dpo": "I am a small language model trained by Lehr.",
            "rlvr": "I am\x1b[31m a small\u202e language model & I say <b>so</b>.",
        },
    ),
]
MIX = """dolmino  921,600 tokens
├── factbook        20.0 %  184,320 tokens  3.5 epochs
├── speeches        15.0 %  138,240 tokens  0.9 epochs
├── novel            5.0 %   46,080 tokens  0.5 epochs
├── arithmetic      40.0 %  368,640 tokens  0.8 epochs
└── word_problems   20.0 %  184,320 tokens  1.1 epochs"""


def example() -> ReportData:
    """The whole report's data; the same on every call."""
    rng = random.Random(7)
    return ReportData(
        run="tiny-olmo2",
        description="OLMo 2's pipeline at a millionth of its size, for two CPU cores",
        created="2026-11-23 10:05 UTC",
        recipe="name: tiny-olmo2\nseed: 7\nmodel:\n  family: olmo2\n  vocab_size: 1024\n",
        seed=7,
        funnel=funnel(),
        mixes={"web": MIX.replace("dolmino", "web"), "dolmino": MIX},
        **judged({"rm": {"reward": REWARD}, "best-rows": {"best_of_n": {"n": 2, "curve": CURVE}}}),
        stages=[stage(name, rng) for name in PARENTS],
        scores=records("held_out") + records("dev"),
        samples=SAMPLES,
        environment=Environment.model_validate(
            {
                "command": "lehr run recipes/tiny/olmo2.yaml",
                "python": "3.11.7",
                "torch": "2.13.0",
                "cpu": "AMD EPYC 9B14",
                "cores": 2,
                "git_sha": "7fe6b510112ee221",
                "lehr_version": "0.1.0",
                "code_fingerprint": digest("code"),
                "platform": "Linux-6.1-x86_64",
            }
        ),
        site=Site(pue=1.1, carbon_kg_per_kwh=0.35, citation="estimate"),
        plan=[PlannedStage(name="stage1", tokens=1_433_600, steps=700, seconds=80.0, flops=8.6e12, energy_joules=1040.0)],
        plan_basis="2 x x86 core",
        totals=Totals(wall_seconds=512.0, peak_memory_bytes=1_430_000_000, parameters=1_070_000),
    )
