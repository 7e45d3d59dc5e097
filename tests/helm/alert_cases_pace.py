"""When alerts about how a run gets on fire, and when they stay silent. `a` is the sick run, `b` a healthy one beside it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.helm.promtool import Case, Labels, series

A: Labels = {"namespace": "t", "run": "a", "stage": "s"}
A_RUN: Labels = {"namespace": "t", "run": "a"}
Values = Mapping[str, str]


def spent(run: str = "a", pod: str = "p", **categories: str) -> dict[str, str]:
    return {series("lehr_node_seconds_total", run, pod, category=name): values for name, values in categories.items()}


def goodput(title: str, values: Values, fires: Mapping[str, list[Labels]]) -> Case:
    return Case("LehrGoodputLow", title, values, fires, every="5m", evaluated="5m")


GOODPUT = [
    goodput(
        "88 %, the other 92 %",
        spent(productive="0+264x130", idle="0+36x130") | spent("b", "q", productive="0+276x130", idle="0+24x130"),
        {"3h25m": [], "4h": [A_RUN], "10h": [A_RUN]},
    ),
    goodput(
        "evaluations are wanted",
        spent(productive="0+180x130", evaluation="0+105x130", startup="0+15x130"),
        {"4h": [], "10h": []},
    ),
    goodput(
        "preflights count",
        spent(productive="0+276x130", idle="0+24x130")
        | {'lehr_fleet_run_preflight_seconds{run="a",instance="c:1"}': "0+15x130"},
        {"4h": [A_RUN]},
    ),
    goodput("nothing productive at all", spent(startup="0+300x130"), {"4h": [A_RUN]}),
    goodput("a run of two hours", spent(productive="0+150x24 stale", idle="0+150x24 stale"), {"2h": [], "3h": [], "5h": []}),
    goodput(
        "a restart that costs ten minutes",
        spent(productive="0+288x60 stale", startup="12x60 stale")
        | spent(pod="p2", productive="_x62 0+288x60", rework="_x62 300x60", startup="_x62 300x60"),
        {"5h": [], "6h": [], "9h": []},
    ),
    goodput("an hour after its end", spent(productive="0+150x60 stale", idle="0+150x60 stale"), {"5h": [A_RUN], "6h": []}),
]


def parts(data: str, rest: str, run: str = "a", pod: str = "p") -> dict[str, str]:
    return {
        series("lehr_train_part_seconds_total", run, pod, part=name): values
        for name, values in (("data", data), ("forward", rest))
    }


DATA = [
    Case(
        "LehrDataStall",
        "12 %, the other 8 %",
        parts("0+7.2x60", "0+52.8x60") | parts("0+4.8x60", "0+55.2x60", "b", "q"),
        {"15m": [], "16m": [A], "60m": [A]},
    ),
    Case("LehrDataStall", "five minutes of waiting", parts("0x30 60+60x4 300x60", "0+60x30 1800x4 1860+60x60"), {"55m": []}),
]


def saving(stamp: str, interval: int, active: str = "1x200", steps: str = "0+6x200", run: str = "a") -> dict[str, str]:
    values = {
        "checkpoint_timestamp_seconds": stamp,
        "checkpoint_interval_steps": f"{interval}x200",
        "train_steps_total": steps,
        "train_active": active,
    }
    return {series(f"lehr_{name}", run, f"p{run}"): value for name, value in values.items()}


CHECKPOINTS = [
    Case(
        "LehrCheckpointOld",
        "three intervals of ten minutes, the other saves",
        saving("0+60x70 4200x120", 60) | saving("0+60x200", 60, run="b"),
        {"110m": [], "111m": [A]},
    ),
    Case("LehrCheckpointOld", "short intervals: a quarter of an hour", saving("0+60x70 4200x120", 6), {"95m": [], "96m": [A]}),
    Case("LehrCheckpointOld", "it has ended", saving("0+60x70 4200x120", 60, active="1x70 0x120"), {"111m": [], "180m": []}),
    Case(
        "LehrCheckpointOld",
        "a new pod has not saved yet",
        saving("0+60x70 stale", 60, active="1x70 stale")
        | {series("lehr_train_active", pod="p2"): "_x75 1x100", series("lehr_train_steps_total", pod="p2"): "_x75 0+6x100"},
        {"111m": [], "170m": []},
    ),
]


def reward(values: str, run: str = "a", pod: str = "p") -> dict[str, str]:
    return {series("lehr_train_reward", run, pod): values}


REWARDS = [
    Case(
        "LehrRewardsCollapsed",
        "by more than half, the other's by less",
        reward("0.8x60 0.3x300") | reward("0.8x60 0.5x300", "b", "q"),
        {"87m": [], "88m": [A], "4h": [A]},
    ),
    Case("LehrRewardsCollapsed", "a small reward", reward("0.06x60 0x300"), {"88m": [], "89m": [A]}),
    Case("LehrRewardsCollapsed", "noise around nothing", reward("0.04x60 -0.005x300"), {"89m": [], "3h": []}),
    Case("LehrRewardsCollapsed", "it grows from below zero", reward("-2+0.01x200"), {"60m": [], "3h": []}),
    Case(
        "LehrRewardsCollapsed", "a restart", reward("0.8x60 stale") | reward("_x64 0.75x100", pod="p2"), {"70m": [], "120m": []}
    ),
]
CASES = [*GOODPUT, *DATA, *CHECKPOINTS, *REWARDS]
