"""Our metrics under the names that Megatron Core's OpenTelemetry metrics have in Prometheus, for dashboards made for those.

Names and units: Megatron Core's developer guide, "Observability: Metrics". Relabelling at the scrape renames, and our own
dashboards and alerts would be empty; these rules add series instead, and only where they are asked for.
"""

from __future__ import annotations

from lehr.monitoring.metrics import Metric
from lehr.monitoring.metrics import run as m
from lehr.monitoring.rules.recording import TOKENS
from lehr.monitoring.rules.rule import RUN, STAGE, Recording, highest, rate

PREFIX = "megatron_training"
HISTOGRAM = f"{PREFIX}_step_duration_ms_milliseconds"
RUN_ID = "nemo_run_id"  # the label by which those dashboards choose a run


def _named(name: str, expr: str, **labels: str) -> Recording:
    return Recording(f"{PREFIX}_{name}", f'label_replace({expr}, "{RUN_ID}", "$1", "run", "(.*)")', labels)


def _total(metric: Metric, suffix: str = "", where: str = "") -> str:
    """A counter as it stands, without what tells its pods apart."""
    return f"sum by ({STAGE}) ({metric.name}{suffix}{where})"


def _steps() -> list[Recording]:
    """A histogram in milliseconds: PromQL cannot reckon with a bucket's bound, so each bucket has a rule of its own."""
    name, step = HISTOGRAM.removeprefix(f"{PREFIX}_"), m.TRAIN_STEP_SECONDS
    made = [_named(f"{name}_count", _total(step, "_count")), _named(f"{name}_sum", f"1000 * {_total(step, '_sum')}")]
    for bound in (*(f"{bound:g}" for bound in step.buckets), "+Inf"):
        milliseconds = bound if bound == "+Inf" else f"{1000 * float(bound):g}"
        pattern = bound.replace("+", "[+]").replace(".", "[.]") + ("" if "." in bound or "Inf" in bound else "([.]0)?")
        made.append(_named(f"{name}_bucket", _total(step, "_bucket", f'{{le=~"{pattern}"}}'), le=milliseconds))
    return made


def recordings() -> list[Recording]:
    """One series a stage for each of Megatron's; throughput is of one GPU, or of the whole where no GPU is seen."""
    gpus = f"sum by ({RUN}) ({m.GPUS.name})"
    flops = f"{rate(m.TRAIN_FLOPS, '5m')} / 1e12"
    memory = f"{highest(m.GPU_MEMORY, RUN)} * {highest(m.GPU_MEMORY_SIZE, RUN)} / 1e9"
    return [
        *_steps(),
        _named("loss", highest(m.TRAIN_LOSS)),
        _named("grad_norm", highest(m.TRAIN_GRAD_NORM)),
        _named("learning_rate", highest(m.TRAIN_LEARNING_RATE)),
        _named("tokens_per_sec", TOKENS),
        _named("throughput_tflops", f"({flops} / on ({RUN}) group_left () {gpus} or {flops})"),
        _named("skipped_iters_total", _total(m.TRAIN_STEPS_SKIPPED)),
        _named("memory_allocated_gb", memory),
    ]
