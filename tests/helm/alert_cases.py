"""When alerts about training itself fire and when they stay silent. `a` is the sick run, `b` a healthy one beside it."""

from __future__ import annotations

from tests.helm.promtool import Case, Labels, series

A: Labels = {"namespace": "t", "run": "a", "stage": "s"}


def stepping(heartbeat: str, pod: str = "p", run: str = "a", **changed: str) -> dict[str, str]:
    """A stage that takes steps of 10 s, one after the other, and what else the exporter says of it."""
    values = {
        "train_heartbeat_timestamp_seconds": heartbeat,
        "train_active": "1x400",
        "train_paused": "0x400",
        "train_step_seconds_sum": "600x400",
        "train_step_seconds_count": "60x400",
        "train_step": "100x400",
        "train_steps_planned": "1000x400",
        **changed,
    }
    return {series(f"lehr_{name}", run, pod): value for name, value in values.items()}


HEALTHY = stepping("0+60x400", run="b", pod="q")
STALLED = [
    Case(
        "LehrStalled",
        "a run hangs, the other does not",
        stepping("0+60x10 600x200") | HEALTHY,
        {"20m": [], "21m": [A], "60m": [A]},
    ),
    Case(
        "LehrStalled",
        "steps of a minute: twenty of them may pass",
        stepping("0+60x10 600x200", train_step_seconds_sum="3600x400"),
        {"35m": [], "36m": [A]},
    ),
    Case("LehrStalled", "an evaluation of an hour and a half", stepping("0+60x10 600x90", train_paused="1x100"), {"100m": []}),
    Case(
        "LehrStalled",
        "it hangs in an evaluation",
        stepping("0+60x10 600x300", train_paused="1x400"),
        {"135m": [], "136m": [A]},
    ),
    Case(
        "LehrStalled",
        "a stage that is finished and says so for hours",
        stepping("0+60x10 600x300", train_active="1x9 0x300", train_step="1000x400"),
        {"30m": [], "180m": []},
    ),
    Case(
        "LehrStalled",
        "a stage's gauges vanish after its end",
        stepping("0+60x10 stale", train_active="1x10 stale"),
        {"12m": [], "30m": [], "180m": []},
    ),
    Case(
        "LehrStalled",
        "a pod dies and another goes on",
        stepping("0+60x10 stale", train_active="1x10 stale") | stepping("_x14 840+60x100", "p2", train_active="_x14 1x100"),
        {"13m": [], "20m": [], "60m": []},
    ),
]


def loss(values: str, run: str = "a", pod: str = "p") -> dict[str, str]:
    return {series("lehr_train_loss", run, pod): values}


RISES = loss("2x75 2.6x200")
DIVERGING = [
    Case("LehrDiverging", "by a third, the other's falls", RISES | loss("3-0.01x200", "b", "q"), {"100m": [], "101m": [A]}),
    Case("LehrDiverging", "a small loss rises by little", loss("0.2x75 0.35x200"), {"100m": [], "101m": [A]}),
    Case("LehrDiverging", "by less than a fifth", loss("2x75 2.38x200"), {"101m": [], "200m": []}),
    Case("LehrDiverging", "no number at all", loss("2 2 2" + " NaN" * 60), {"17m": [], "18m": [A]}),
    Case("LehrDiverging", "infinite", loss("2 2 2" + " +Inf" * 60), {"17m": [], "18m": [A]}),
    Case("LehrDiverging", "one bad step", loss("2x20 NaN 2x200"), {"21m": [], "30m": [], "36m": []}),
    Case(
        "LehrDiverging",
        "a stage with rewards: its loss goes anywhere",
        RISES | {series("lehr_train_reward"): "0.5x300"},
        {"120m": []},
    ),
    Case(
        "LehrDiverging",
        "a stage with preferences too",
        RISES | {series("lehr_train_preference_margin"): "0.5x300"},
        {"120m": []},
    ),
    Case(
        "LehrDiverging",
        "a restart from a save before",
        loss("2x75 stale") | loss("_x80 2.1-0.001x200", pod="p2"),
        {"85m": [], "150m": []},
    ),
]


def skipping(steps: str, skipped: str, run: str = "a", pod: str = "p") -> dict[str, str]:
    return {
        series("lehr_train_steps_total", run, pod): steps,
        series("lehr_train_steps_skipped_total", run, pod, reason="spike"): skipped,
    }


SPIKES = [
    Case(
        "LehrSpikeStorm",
        "six of a hundred, the other four",
        skipping("0+10x90", "0+0.6x90") | skipping("0+10x90", "0+0.42x90", "b", "q"),
        {"60m": [A], "90m": [A]},
    ),
    Case("LehrSpikeStorm", "many of few", skipping("0+1x90", "0+0.19x90"), {"60m": [A]}),
    Case("LehrSpikeStorm", "but not if they are few themselves", skipping("0+1x90", "0+0.15x90"), {"60m": []}),
    Case(
        "LehrSpikeStorm",
        "all at once, the series begins with them; over a while later",
        skipping("0+1x150", "_x40 7x110"),
        {"43m": [], "46m": [A], "84m": [A], "110m": []},
    ),
    Case(
        "LehrSpikeStorm",
        "a pod takes over",
        skipping("0+10x30 stale", "0+0.1x30 stale") | skipping("_x35 1+10x60", "_x40 1x60", pod="p2"),
        {"45m": [], "60m": []},
    ),
]
STRAGGLER = [
    Case(
        "LehrStraggler",
        "15 %, the other 5 %",
        {series("lehr_train_straggler_ratio"): "1.15x60", series("lehr_train_straggler_ratio", "b", "q"): "1.05x60"},
        {"9m": [], "10m": [A], "60m": [A]},
    ),
    Case(
        "LehrStraggler", "three slow minutes", {series("lehr_train_straggler_ratio"): "1x30 1.3x2 1x60"}, {"33m": [], "45m": []}
    ),
]


def pods(number: int, grows: int | None = 0) -> dict[str, str]:
    """One pod after the other, each for three of five minutes; each reaches `grows` more steps, None: none reaches any."""
    made = {}
    for index in range(number):
        wait = f"_x{5 * index} " if index else ""
        made[series("lehr_pod_info", pod=f"p{index}", node="n", first_rank="0")] = f"{wait}1x2 stale"
        if grows is not None:
            made[series("lehr_train_step", pod=f"p{index}")] = f"{wait}{100 + grows * index}x2 stale"
    return made


CRASHES = [
    Case("LehrCrashLoop", "three restarts and no new step", pods(4), {"19m": [], "21m": [A], "30m": [A], "50m": []}),
    Case("LehrCrashLoop", "before the first step", pods(4, None), {"19m": [], "21m": [A]}),
    Case("LehrCrashLoop", "two restarts", pods(3), {"20m": [], "30m": []}),
    Case("LehrCrashLoop", "every one gets further", pods(4, 50), {"20m": [], "22m": []}),
    Case(
        "LehrCrashLoop",
        "a stage that is found again and again",
        pods(4) | {series("lehr_stage_seconds"): "0.5x60"},
        {"25m": []},
    ),
    Case(
        "LehrCrashLoop",
        "one stage on five nodes",
        {series("lehr_pod_info", pod=f"p{rank}", node=f"n{rank}", first_rank=str(8 * rank)): "1x60" for rank in range(5)},
        {"10m": [], "40m": []},
    ),
    Case(
        "LehrCrashLoop",
        "the fourth try works",
        {
            **{series("lehr_pod_info", pod=f"p{i}", node="n", first_rank="0"): f"_x{2 * i} 1x1 stale" for i in (1, 2, 3)},
            series("lehr_pod_info", pod="p4", node="n", first_rank="0"): "_x8 1x60",
            series("lehr_train_step", pod="p4"): "_x9 1+1x60",
        },
        {"14m": [], "18m": [], "30m": []},
    ),
    Case(
        "LehrCrashLoop",
        "the same address again and again, outside pods",
        {
            'lehr_train_steps_total{run="a",stage="s",instance="h:1"}': "0+5x3 0+5x3 0+5x3 0+5x3 20x60",
            'lehr_train_step{run="a",stage="s",instance="h:1"}': "100x80",
            'lehr_train_steps_total{run="b",stage="s",instance="h:2"}': "0+5x3 0+5x3 0+5x60",
            'lehr_train_step{run="b",stage="s",instance="h:2"}': "100x80",
        },
        {"16m": [], "18m": [{"run": "a", "stage": "s"}]},
    ),
]
CASES = [*STALLED, *DIVERGING, *SPIKES, *STRAGGLER, *CRASHES]
