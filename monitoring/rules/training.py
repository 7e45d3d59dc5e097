"""Alerts about training itself: it stands still, it goes wrong, it is slower than it could be."""

from __future__ import annotations

from lehr.monitoring.metrics import run as m
from lehr.monitoring.rules.recording import DATA_WAIT, goodput
from lehr.monitoring.rules.rule import RUN, STAGE, Alert, highest, increase, mean, rate
from lehr.monitoring.spikes import SEVERAL

OF = "{{ $labels.stage }} of {{ $labels.run }}"
SILENT_SECONDS, SILENT_STEPS = 300, 20  # no step for so long, and for so many times a step's mean time
HUNG_SECONDS = 7200  # whatever it does between steps
ROSE, ROSE_NATS = 0.2, 0.1
SPIKE_SHARE = 0.05
SLOWEST = 1.1
RESTARTS = 3
GOODPUT = 0.9
WAITING = 0.1
INTERVALS, LEAST_SECONDS = 3, 900  # between two checkpoints
FELL, FELL_LEAST = 0.5, 0.05


def _stalled() -> Alert:
    silent = f"time() - {highest(m.TRAIN_HEARTBEAT)}"
    seconds = m.TRAIN_STEP_SECONDS.name
    step = f"sum by ({STAGE}) ({seconds}_sum) / sum by ({STAGE}) ({seconds}_count)"
    expr = f"""
        ({silent} > {SILENT_SECONDS}) > {SILENT_STEPS} * {step}
        and {highest(m.TRAIN_ACTIVE)} == 1 unless {highest(m.TRAIN_PAUSED)} == 1
        or ({silent} > {HUNG_SECONDS}) and {highest(m.TRAIN_STEP)} < {highest(m.TRAIN_STEPS_PLANNED)}"""
    return Alert(
        "LehrStalled",
        "critical",
        expr,
        f"{OF} takes no steps: find the rank that hangs, then restart the pod",
        f"The last sign of life of {OF} was {{{{ $value | humanizeDuration }}}} ago, and it has steps to take.",
    )


def _diverging() -> Alert:
    now, before = mean(m.TRAIN_LOSS, "[15m]"), mean(m.TRAIN_LOSS, "[15m] offset 1h")
    loss = highest(m.TRAIN_LOSS)
    expr = f"""
        ({now} unless {highest(m.TRAIN_REWARD)} unless {highest(m.TRAIN_MARGIN)})
          - {before} > clamp_min({ROSE} * abs({before}), {ROSE_NATS})
        or {loss} != {loss} or abs({loss}) == Inf"""
    return Alert(
        "LehrDiverging",
        "critical",
        expr,
        f"The loss of {OF} rises or is not finite: stop it, and go on from a save before the rise",
        f"For a quarter of an hour the loss of {OF} was {{{{ $value | humanize }}}} above that of an hour ago, or not finite.",
        lasts="15m",
    )


def _spike_storm() -> Alert:
    skipped = increase(m.TRAIN_STEPS_SKIPPED, "30m", STAGE)
    expr = f"({skipped} > {SEVERAL}) / {increase(m.TRAIN_STEPS, '30m', STAGE)} > {SPIKE_SHARE}"
    return Alert(
        "LehrSpikeStorm",
        "warning",
        expr,
        f"The guard refuses many updates of {OF}: look at the batches and the learning rate",
        f"{{{{ $value | humanizePercentage }}}} of the steps of {OF} in half an hour were skipped as spikes.",
        keeps="15m",
    )


def _straggler() -> Alert:
    return Alert(
        "LehrStraggler",
        "warning",
        f"{mean(m.TRAIN_STRAGGLER, '[10m]')} > {SLOWEST}",
        f"One rank holds up {OF}: find its node with lehr_train_slowest_rank and lehr_pod_info, and report it",
        f"For ten minutes the slowest rank of {OF} has taken {{{{ $value | humanize }}}} times as long as the middle one.",
        lasts="10m",
    )


def _crash_loop() -> Alert:
    """Of several pods of a stage only one holds rank 0. Outside pods a process that serves at the same address again shows as a
    counter that fell."""
    pod = m.POD_INFO.name
    pods = f'count by ({STAGE}) (max by ({STAGE}, pod) (max_over_time({pod}{{first_rank="0"}}[30m]))) - 1'
    again = f"sum by ({STAGE}) (resets({m.TRAIN_STEPS.name}[30m]))"
    step = m.TRAIN_STEP.name
    reached = f"max by ({STAGE}) (max_over_time({step}[10m]))"
    before = f"(max by ({STAGE}) (max_over_time({step}[20m] offset 10m)) or 0 * {reached})"
    expr = f"""
        ({pods} >= {RESTARTS} or {again} >= {RESTARTS})
        unless {reached} > {before} unless max by ({STAGE}) (max_over_time({m.STAGE_SECONDS.name}[30m])) >= 0"""
    return Alert(
        "LehrCrashLoop",
        "critical",
        expr,
        f"{OF} starts again and again and gets no further: read the log of the pod that ended last",
        f"{OF} was restarted {{{{ $value }}}} times in half an hour and has reached no new step in ten minutes.",
    )


def _goodput_low() -> Alert:
    """Not before it has run for three hours, of which a start or a restart is a small part; and only while it runs."""
    runs = f"sum by ({RUN}) ({m.NODE_SECONDS.name})"
    return Alert(
        "LehrGoodputLow",
        "warning",
        f"{goodput('6h')} < {GOODPUT} and {runs} and sum by ({RUN}) ({m.NODE_SECONDS.name} offset 3h)",
        "Little of the time of {{ $labels.run }} goes into steps that count: see which category takes the rest",
        "In six hours {{ $value | humanizePercentage }} of the machines' time of {{ $labels.run }} was productive.",
        lasts="30m",
    )


def _data_stall() -> Alert:
    return Alert(
        "LehrDataStall",
        "warning",
        f"{DATA_WAIT} > {WAITING}",
        f"{OF} waits for its data: look at the store, the disk and the processors of its pods",
        f"{{{{ $value | humanizePercentage }}}} of the step time of {OF} is spent waiting for batches.",
        lasts="15m",
        keeps="10m",
    )


def _checkpoint_old() -> Alert:
    """Against the interval that it has kept so far, at the pace of the last hour, evaluations included."""
    age = f"time() - {highest(m.CHECKPOINT_TIMESTAMP)}"
    interval = f"{highest(m.CHECKPOINT_INTERVAL)} / {rate(m.TRAIN_STEPS, '1h')}"
    return Alert(
        "LehrCheckpointOld",
        "warning",
        f"({age} > {LEAST_SECONDS}) > {INTERVALS} * {interval} and {highest(m.TRAIN_ACTIVE)} == 1",
        f"{OF} has not saved for long: look at the store and the disk before anything restarts it",
        f"The last complete checkpoint of {OF} is {{{{ $value | humanizeDuration }}}} old: over {INTERVALS} of its intervals.",
        lasts="10m",
    )


def _rewards_collapsed() -> Alert:
    """Against the best quarter of an hour of the last six hours, which a collapse that lasts doesn't move."""
    now = mean(m.TRAIN_REWARD, "[15m]")
    best = f"max by ({STAGE}) (max_over_time(avg_over_time({m.TRAIN_REWARD.name}[15m])[6h:5m]))"
    return Alert(
        "LehrRewardsCollapsed",
        "warning",
        f"{best} - {now} > clamp_min({FELL} * abs({best}), {FELL_LEAST})",
        f"The reward of {OF} has fallen: read its samples, then stop it or go back to an earlier save",
        f"The mean reward of {OF} lies {{{{ $value | humanize }}}} below its best quarter of an hour.",
        lasts="15m",
    )


def alerts() -> list[Alert]:
    """All of them."""
    return [
        _stalled(),
        _diverging(),
        _spike_storm(),
        _straggler(),
        _crash_loop(),
        _goodput_low(),
        _data_stall(),
        _checkpoint_old(),
        _rewards_collapsed(),
    ]
