"""The metrics of a run: what the exporter of a process that works on it serves.

Label `run` identifies a run: two runs of one recipe in two places have different labels, and so have two recipes in one place.
It is the recipe's name and the beginning of the run's key; `run_info` gives the place.
"""

from __future__ import annotations

from lehr.monitoring.metrics.metric import PREFIX, Kind, Metric

RUN, RUN_STAGE = ("run",), ("run", "stage")
STEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CHECKPOINT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
STORE_BUCKETS = (0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
SCORE = (*RUN_STAGE, "task", "metric", "split")
GPU = "a GPU and its driver"


def _gauge(
    name: str, text: str, labels: tuple[str, ...] = RUN_STAGE, *, lasts: bool = False, needs: str = "", bound: int = 0
) -> Metric:
    return Metric(PREFIX + name, "gauge", text, labels, lasts=lasts, needs=needs, bound=bound)


def _counter(name: str, text: str, labels: tuple[str, ...] = RUN_STAGE, *, counted: str = "", needs: str = "") -> Metric:
    return Metric(PREFIX + name, "counter", text, labels, counted=counted, needs=needs)


def _histogram(name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = RUN_STAGE) -> Metric:
    return Metric(PREFIX + name, "histogram", text, labels, buckets)


def _of(name: str, of: str, text: str, kind: Kind = "gauge") -> Metric:
    """A gauge with the training loop's metric `of` at the last step, or a counter of its sum."""
    return Metric(PREFIX + name, kind, text, RUN_STAGE, of=of)


# -- the run and its pods
RUN_INFO = _gauge(
    "run_info", "1: the recipe's name and the last part of the run's place.", ("run", "name", "place"), lasts=True
)
POD_INFO = _gauge(
    "pod_info",
    "1 for each pod of the run, for joins with what others measure of pods, nodes and GPUs.",
    ("run", "stage", "namespace", "pod", "node", "first_rank"),
    lasts=True,
    needs="a pod",
)
NODE_SECONDS = _counter(
    "node_seconds_total",
    "Time of the run's machines by what it went into; a stage on n nodes spends n seconds in one.",
    (*RUN_STAGE, "category"),
)
ATTEMPTS = _counter("attempts_total", "Attempts at a stage that ended, by how.", (*RUN_STAGE, "ended"), counted="attempts")

# -- stages
STAGE_DONE = _gauge("stage_done", "Units of a stage that are done: steps, tasks, sources, documents.")
STAGE_PLANNED = _gauge("stage_planned", "Units that the stage has in all.")
STAGE_STARTED = _gauge("stage_started_timestamp_seconds", "Unix time when this process began the stage.", lasts=True)
STAGE_SECONDS = _gauge("stage_seconds", "Wall time of a finished stage.", lasts=True)
STAGE_REUSED = _gauge("stage_reused", "1 if the finished stage was found again, 0 if it was made.", lasts=True)
STAGES_FINISHED = _counter("stages_finished_total", "Stages finished by this process.", ("run", "outcome"))

# -- training
TRAIN_INFO = _gauge("train_info", "1 for each stage that trains: what it is, for joins.", (*RUN_STAGE, "model", "recipe"))
TRAIN_ACTIVE = _gauge("train_active", "1 while the stage takes steps, else 0.")
TRAIN_PAUSED = _gauge("train_paused", "1 while it evaluates or writes a checkpoint, when the next step may be late, else 0.")
TRAIN_HEARTBEAT = _gauge("train_heartbeat_timestamp_seconds", "Unix time of the last sign of life.")
TRAIN_RESUMED = _gauge("train_resumed_timestamp_seconds", "Unix time when the stage went on from a save of an earlier attempt.")
TRAIN_STEPS = _counter("train_steps_total", "Optimiser steps taken by this process, skipped ones included.")
TRAIN_STEPS_PLANNED = _gauge("train_steps_planned", "Optimiser steps that the stage has in all.")
TRAIN_STEP = _gauge("train_step", "Step that the stage has reached, over all attempts.")
TRAIN_STEPS_SKIPPED = Metric(
    f"{PREFIX}train_steps_skipped_total", "counter", "Steps whose update was not applied.", (*RUN_STAGE, "reason"), bound=2
)
TRAIN_REWORK = _of("train_steps_rework_total", "rework", "Steps that had been made before a restart or a rollback.", "counter")
TRAIN_ROLLBACKS = _of("train_rollbacks_total", "rolled_back", "Times that training went back to a save.", "counter")
TRAIN_TOKENS = _of("train_tokens_total", "tokens", "Tokens trained on by this process.", "counter")
TRAIN_FLOPS = _of("train_flops_total", "flops", "Floating point operations of the model, forward and backward.", "counter")
TRAIN_FLOPS_PEAK = _gauge(
    "train_flops_peak_per_second",
    "What the recipe's `hardware` can do at most; MFU is the rate of operations over it.",
    needs="a recipe that names its hardware",
)
TRAIN_LOSS = _of("train_loss", "loss", "Loss of the last step, nats per token in pretraining.")
TRAIN_GRAD_NORM = _of("train_grad_norm", "grad_norm", "Global gradient norm before clipping, last step.")
TRAIN_LEARNING_RATE = _of("train_learning_rate", "learning_rate", "Learning rate of the last step.")
TRAIN_REWARD = _of("train_reward", "reward", "Mean reward of the last step's samples.")
TRAIN_KL = _of("train_kl_nats", "kl", "Divergence from the reference model, last step.")
TRAIN_MARGIN = _of(
    "train_preference_margin",
    "margin_over_reference",
    "DPO: gain in log-probability over the reference model, chosen minus rejected answer, nats per token, last step.",
)
TRAIN_RESPONSE = _of("train_response_tokens", "response_tokens", "Mean length of the last step's answers.")
TRAIN_UNFINISHED = _of("train_unfinished_ratio", "unfinished", "Share of the last step's answers without an end.")
TRAIN_SAMPLER_DIFFERENCE = _of(
    "train_sampler_difference_nats",
    "sampler_difference",
    "Mean difference of the sampler's own log-probabilities from the trainer's, of the last roll-out's tokens.",
)
TRAIN_LEAST_LOAD = _of(
    "train_expert_least_load_ratio", "least_load", "Smallest load of an expert: 1 is balanced, 0 an expert without tokens."
)
TRAIN_LOSS_LIMIT = _of("train_guard_loss_limit", "guard_loss_limit", "Loss above which the guard refuses the update.")
TRAIN_NORM_LIMIT = _of("train_guard_grad_norm_limit", "guard_grad_norm_limit", "Gradient norm above which it refuses.")
TRAIN_SPIKES = _gauge(
    "train_spike_score_ratio",
    "Share of this process's steps whose loss or gradient norm lies 7 deviations off the 1,000 before (OLMo 2 section 3.2); "
    "from its 1,000th step or 6th spike on.",
    (*RUN_STAGE, "metric"),
    bound=2,
)
TRAIN_METRIC = _gauge(
    "train_metric", "Any other metric of the last step that the report draws, by name.", (*RUN_STAGE, "metric"), bound=8
)
TRAIN_DEV_METRIC = _gauge(
    "train_dev_metric",
    "Last measurement on development data while training, by name; behind an @ stands the source that it is of.",
    (*RUN_STAGE, "metric"),
)
TRAIN_STEP_SECONDS = _histogram("train_step_seconds", "Wall time of a step.", STEP_BUCKETS)
TRAIN_PARTS = _counter("train_part_seconds_total", "Wall time of steps by what it went into.", (*RUN_STAGE, "part"))
TRAIN_STRAGGLER = _of("train_straggler_ratio", "straggler_ratio", "Time of the slowest rank over the middle one's, last step.")
TRAIN_SLOWEST = _of("train_slowest_rank", "slowest_rank", "The rank that the others waited for, last step.")
CHECKPOINT_SECONDS = _histogram(
    "checkpoint_blocking_seconds", "Time for which writing a checkpoint held up training.", CHECKPOINT_BUCKETS
)
CHECKPOINT_TIMESTAMP = _gauge("checkpoint_timestamp_seconds", "Unix time of the last complete checkpoint.")
CHECKPOINT_INTERVAL = _gauge("checkpoint_interval_steps", "Most optimiser steps from one checkpoint to the next so far.")
CHECKPOINT_BYTES = _gauge("checkpoint_size_bytes", "Size of the last complete checkpoint.")

# -- data and scores
DOCUMENTS = _counter("documents_total", "Documents read, by what became of them.", ("run", "outcome"), counted="documents")
CHARACTERS = _counter(
    "document_characters_total", "Their characters, by what became of them.", ("run", "outcome"), counted="document_characters"
)
PREPARED = _counter(
    "documents_prepared_total",
    "Documents that went through a pass of their preparation: filter, overlap or write.",
    ("run", "pass"),
    counted="documents_prepared",
)
PREPARED_BYTES = _counter(
    "document_file_bytes_total",
    "Bytes of the files that went through a pass, as they lie there, compressed or not.",
    ("run", "pass"),
    counted="document_file_bytes",
)
EVAL_SCORE = Metric(f"{PREFIX}eval_score", "gauge", "Score of a finished stage.", SCORE, lasts=True, bound=48)
EVAL_SCORE_STDERR = Metric(f"{PREFIX}eval_score_stderr", "gauge", "Standard error of the score.", SCORE, lasts=True, bound=48)

# -- machines
ENERGY_JOULES = _counter("energy_joules_total", "IT energy drawn while the stage ran, before PUE.")
ENERGY_SOURCE = _gauge(
    "energy_source_info",
    "1 for the source in use: nvml, nvml_sampled, rapl or estimated; several are joined by +.",
    ("run", "source"),
    lasts=True,
)
SITE_PUE = _gauge("site_pue_ratio", "Facility energy over IT energy, from the recipe's `site`.", RUN, lasts=True)
SITE_CARBON = _gauge("site_carbon_grams_per_joule", "CO2 of facility energy, from the recipe's `site`.", RUN, lasts=True)
SITE_WATER = _gauge(
    "site_water_liters_per_joule", "Water of facility energy, on and off site, from the recipe's `site`.", RUN, lasts=True
)
MEMORY_RESIDENT = _gauge(
    "memory_resident_bytes", "Resident memory of the run's processes on this machine; shared pages in each.", RUN, lasts=True
)
MEMORY_PEAK = _gauge(
    "memory_resident_peak_bytes", "Sum of the largest resident sizes of those processes so far.", RUN, lasts=True
)
# A series a machine, not a GPU: of each GPU, dcgm-exporter knows more.
GPUS = _gauge("gpus", "GPUs of this machine that the run's processes see.", RUN, lasts=True, needs=GPU)
GPU_MEMORY = _gauge(
    "gpu_memory_used_ratio", "Share in use of the memory of a machine's fullest GPU, by whomever.", RUN, lasts=True, needs=GPU
)
GPU_MEMORY_SIZE = _gauge("gpu_memory_size_bytes", "Memory of a GPU of rank 0's machine.", RUN, lasts=True, needs=GPU)


# -- the object store
STORE = "a run in an object store"
STORE_REQUESTS = Metric(
    f"{PREFIX}store_requests_total",
    "counter",
    "Requests to the object store that ended, after retries.",
    ("run", "operation", "outcome"),
    counted="store_requests",
    bound=28,
    needs=STORE,
)
STORE_RETRIES = _counter(
    "store_retries_total", "Requests that were sent again.", ("run", "operation"), counted="store_retries", needs=STORE
)
STORE_BYTES = _counter(
    "store_bytes_total", "Bytes of artifacts and saves.", ("run", "direction"), counted="store_bytes", needs=STORE
)
STORE_SECONDS = Metric(
    f"{PREFIX}store_request_seconds",
    "histogram",
    "Time of a request to the object store, retries included.",
    ("run", "operation"),
    STORE_BUCKETS,
    counted="store_request_seconds",
    needs=STORE,
)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
