"""Recording rules against figures worked out by hand, and a foreign dashboard's queries on Megatron's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lehr.monitoring.metrics import RECORDED
from lehr.report.footprint import ItJoules, carbon_kg, facility_energy, kwh, water_liters
from tests.helm.promtool import RULES, promtool, series

pytestmark = pytest.mark.cluster
JOULES, PUE, CARBON, WATER = 1_800_000.0, 1.2, 0.5, 2.0  # in an hour; kilograms and litres a kWh
FACILITY = facility_energy(ItJoules(JOULES), PUE)
RUN, STAGE = 'namespace="t", run="a"', 'namespace="t", run="a", stage="s"'
SERIES = {
    series("lehr_train_tokens_total"): "0+6000x60",
    series("lehr_train_flops_total"): "0+24e15x60",
    series("lehr_train_flops_peak_per_second"): "1e15x60",
    series("lehr_train_step_seconds_count"): "10x60",
    series("lehr_train_step_seconds_sum"): "7x60",
    series("lehr_train_step_seconds_bucket", le="0.5"): "4x60",
    series("lehr_train_step_seconds_bucket", le="1.0"): "9x60",
    series("lehr_train_step_seconds_bucket", le="+Inf"): "10x60",
    series("lehr_train_loss"): "2.5x60",
    series("lehr_train_steps_skipped_total", reason="spike"): "2x60",
    series("lehr_train_steps_skipped_total", reason="not_finite"): "1x60",
    series("lehr_gpus"): "1x60",
    series("lehr_gpus", pod="p2"): "1x60",
    series("lehr_gpu_memory_size_bytes"): "80e9x60",
    series("lehr_gpu_memory_used_ratio"): "0.5x60",
    series("lehr_gpu_memory_used_ratio", pod="p2"): "0.7625x60",
    series("lehr_energy_joules_total"): f"0+{JOULES / 60:.0f}x60",
    series("lehr_site_pue_ratio"): f"{PUE}x60",
    series("lehr_site_carbon_grams_per_joule"): f"{1000 * CARBON / 3.6e6:.12g}x60",
    series("lehr_site_water_liters_per_joule"): f"{WATER / 3.6e6:.12g}x60",
    series("lehr_node_seconds_total", category="productive"): "0+55x60",
    # A pod's first start-up is in its counter from the first scrape on; a second pod's too.
    series("lehr_node_seconds_total", category="startup"): "_x1 60x59",
    series("lehr_node_seconds_total", pod="p2", category="startup"): "_x30 40x30",
    'lehr_fleet_run_preflight_seconds{instance="c",run="a"}': "_x2 45x27 90x31",
}
MEGATRON = f'{STAGE}, nemo_run_id="a"'
STEP = "megatron_training_step_duration_ms_milliseconds"
EXPECTED = {
    "stage:lehr_train_tokens:rate5m": (STAGE, 100.0),
    "stage:lehr_train_mfu:ratio_rate5m": (STAGE, 0.4),
    "run:lehr_power_watts:rate5m": (RUN, 500.0),
    "run:lehr_facility_energy_kwh:increase1h": (RUN, kwh(FACILITY)),
    "run:lehr_carbon_kilograms:increase1h": (RUN, carbon_kg(FACILITY, CARBON)),
    "run:lehr_water_liters:increase1h": (RUN, water_liters(FACILITY, WATER)),
    "run:lehr_preflight_seconds:increase1h": ('run="a"', 90.0),
    "run:lehr_goodput:ratio_increase1h": (RUN, 3300 / (3300 + 60 + 40 + 90)),
    "megatron_training_loss": (MEGATRON, 2.5),
    "megatron_training_tokens_per_sec": (MEGATRON, 100.0),
    "megatron_training_throughput_tflops": (MEGATRON, 200.0),
    "megatron_training_memory_allocated_gb": ('namespace="t", run="a", nemo_run_id="a"', 61.0),
    "megatron_training_skipped_iters_total": (MEGATRON, 3.0),
    f"{STEP}_count": (MEGATRON, 10.0),
    f"{STEP}_sum": (MEGATRON, 7000.0),
    f'{STEP}_bucket{{le="500"}}': (f'{MEGATRON}, le="500"', 4.0),
    f'{STEP}_bucket{{le="1000"}}': (f'{MEGATRON}, le="1000"', 9.0),
    f'{STEP}_bucket{{le="+Inf"}}': (f'{MEGATRON}, le="+Inf"', 10.0),
}


def _checks() -> list[dict[str, Any]]:
    made = []
    for query, (labels, value) in EXPECTED.items():
        close = f"abs({query} / {value!r} - 1) < bool 1e-9"
        made.append({"expr": close, "eval_time": "60m", "exp_samples": [{"labels": f"{{{labels}}}", "value": 1}]})
    dashboard = '{__name__=~"megatron_training_loss.*", nemo_run_id="a"}'
    sample = {"labels": f"megatron_training_loss{{{MEGATRON}}}", "value": 2.5}
    return [*made, {"expr": dashboard, "eval_time": "60m", "exp_samples": [sample]}]


# dcgm-exporter's metrics of two nodes, in four spellings: its old label of the node and its new one, each with and without
# Prometheus' own labels before those of the pod that uses the GPU.
SPELLINGS = (
    'gpu="0",Hostname="n1",namespace="t",pod="p"',
    'gpu="1",hostname="n1",namespace="t",pod="p"',
    'gpu="0",Hostname="n2",namespace="gpu-operator",pod="dcgm-1",exported_namespace="t",exported_pod="q"',
    'gpu="1",hostname="n2",namespace="gpu-operator",pod="dcgm-1",exported_namespace="t",exported_pod="q"',
    'gpu="2",hostname="n2",namespace="gpu-operator",pod="dcgm-1"',  # nobody's
)
ON_GPUS = {
    'lehr:node_gpu_power_watts{node="n1"}': 'lehr:node_gpu_power_watts{node="n1"} 300',
    'lehr:node_gpu_power_watts{node="n2"}': 'lehr:node_gpu_power_watts{node="n2"} 1200',
    'lehr:run_gpu_power_watts{run="a"}': 'lehr:run_gpu_power_watts{run="a"} 1000',
    'lehr:node_gpu_temperature_celsius{node="n2"}': 'lehr:node_gpu_temperature_celsius{node="n2"} 54',
    "lehr:gpu_xid_code": 'lehr:gpu_xid_code{gpu="1", node="n2"} 79',
    "lehr:gpus_utilization_ratio": "lehr:gpus_utilization_ratio 0.5",
    "lehr:gpus_tensor_active_ratio": "lehr:gpus_tensor_active_ratio 0.25",
}


def test_gpus_are_joined_with_runs_whatever_their_exporter_calls_them(tmp_path: Path) -> None:
    series_of = {series("lehr_pod_info", pod=pod, node="x"): "1x10" for pod in ("p", "q")}
    for number, labels in enumerate(SPELLINGS):
        values = {"DEV_POWER_USAGE": 100 * (number + 1), "DEV_GPU_TEMP": 50 + number, "DEV_GPU_UTIL": 50}
        values |= {"DEV_XID_ERRORS": 79 if number == 3 else 0, "PROF_PIPE_TENSOR_ACTIVE": 0.25}
        series_of |= {f"DCGM_FI_{name}{{{labels}}}": f"{value}x10" for name, value in values.items()}
    checks = []
    for query, sample in ON_GPUS.items():
        labels, value = sample.rsplit(" ", 1)
        checks.append({"expr": query, "eval_time": "5m", "exp_samples": [{"labels": labels, "value": float(value)}]})
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series_of.items()],
        "promql_expr_test": checks,
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES / "gpu.yaml")], "tests": [test]}), encoding="utf-8")
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {metric.name for metric in RECORDED} == {query.partition("{")[0] for query in ON_GPUS}


def test_recorded_series_have_the_values_that_their_formulas_say(tmp_path: Path) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
        "promql_expr_test": _checks(),
    }
    files = [str(RULES / "runs.yaml"), str(RULES / "optional/megatron.yaml")]
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": files, "evaluation_interval": "1m", "tests": [test]}), encoding="utf-8")
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
