"""The recipe's workflow on Flyte's own engine, with pods as processes and a real S3 server: who pays for what goes wrong.

`test_failures` is the table of docs/fleet.md. All of its runs go on at the same time, so that each test finds its own ended.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")

from lehr.infra.fleet.serialization import encode
from lehr.infra.kube.api import NODES
from tests.cluster.conftest import eventually
from tests.cluster.engine import Paid, package
from tests.cluster.engine_place import Place
from tests.cluster.engine_pods import EnginePod, Fault, evicted, killed, out_of_memory, shut_down
from tests.cluster.kubelet import bad_verdict
from tests.cluster.submitted_runs import local_digests

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("engine.yaml")
WORKFLOW, TASKS = "lehr.workflows.run", "tests.cluster.engine_tasks"
FREE, USER, SYSTEM = Paid(0, 0), Paid(1, 0), Paid(0, 1)
NOBODY = FREE
STARTED = "metrics:"  # what a stage's pod says first
CUT_SECONDS = 5.0


@pytest.fixture(scope="module")
def there(flyte: Place) -> Place:
    return flyte


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("package"), (WORKFLOW, TASKS))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of `lehr run` here."""
    return local_digests(tmp_path_factory.mktemp("local") / "run", RECIPE)


def start(there: Place, archive: Path, execution: str, overrides: Sequence[str] = ()) -> str:
    out = f"s3://runs/{execution}"
    inputs = {"recipe": str(RECIPE), "out": out, "overrides": list(overrides)}
    there.engine.start(execution, archive, f"{WORKFLOW}.run", inputs)
    return out


def paid(there: Place, execution: str) -> dict[str, Paid]:
    return {node: cost for node, cost in there.engine.costs[execution].items() if cost != FREE}


@pytest.mark.long
def test_a_run_has_the_digests_of_a_laptop(there: Place, archive: Path, expected: dict[str, str]) -> None:
    out = start(there, archive, "plain")
    assert there.engine.ended("plain") == "succeeded", there.why("plain")
    assert there.digests(out) == expected
    assert not paid(there, "plain")
    pods = there.pods.of("plain")
    assert len(pods) == len(expected) + 2, "one for each stage, for the graph and for the report"
    keys = [c.get("env", []) for pod in pods for c in pod.pod["spec"].get("initContainers", [])]
    assert keys and not [v["name"] for env in keys for v in env if v["name"].startswith(("AWS_", "FLYTE_AWS_"))]


SHORT = ("anneals=null", "stage1.tokens=8192", "stage1.schedule.horizon_tokens=8192")


@pytest.mark.long
def test_pods_that_share_the_files_make_the_documents_of_one_process(
    there: Place, archive: Path, expected: dict[str, str]
) -> None:
    """Three pods a pass, one of which is killed; what they make for each other is gone from the store at the end."""
    out = start(there, archive, "shared", ["data.pods=3", *SHORT])

    def at_work() -> list[EnginePod]:
        return [pod for pod in there.pods.of("shared") if pod.name.endswith("-n1-0") and STARTED in pod.said()]

    eventually(lambda: at_work() or there.engine.phase("shared"), "the second share of a pass is at work", 300)
    at_work()[0].kill()
    assert there.engine.ended("shared", 600) == "succeeded", there.why("shared")
    assert there.digests(out)["documents"] == expected["documents"]
    said = [pod.said() for pod in there.pods.of("shared")]
    for step in ("filter", "overlap", "write"):
        done = sorted(
            line.partition("documents: ")[2] for log in said for line in log.splitlines() if f": {step}: share" in line
        )
        assert {line.partition(" is done")[0] for line in done} == {f"{step}: share {n} of 3" for n in (1, 2, 3)}, done
    assert [pod.name for pod in there.pods.of("shared") if pod.name.endswith("-n1-1")], "the killed one was followed"
    assert not [cost for cost in paid(there, "shared").values() if cost.user], paid(there, "shared")
    assert not there.keys(out, "parts/")


def test_what_happens_to_pods_machines_and_store_changes_no_result_and_costs_no_retry_of_the_users(
    there: Place, archive: Path, expected: dict[str, str]
) -> None:
    """A pod killed, one deleted in the middle, a machine that fails its preflight, a store that refuses."""
    run, planned = "disturbed", there.pods.faults.planned

    def cut(pod: EnginePod) -> None:
        there.way.cut()
        threading.Timer(CUT_SECONDS, there.way.mend).start()

    planned[run, "tokenizer"] = Fault(act=killed, when=STARTED)
    planned[run, "anneal-1"] = Fault(verdict=encode(bad_verdict()))
    planned[run, "anneal-2"] = Fault(act=cut, when="anneal-2: started")
    out, before = start(there, archive, run), there.way.refused
    eventually(lambda: _saved(there, out) or there.engine.phase(run), "the first training has saved itself", 300)
    there.delete(there.pods.of(run, "stage1")[0])
    assert there.engine.ended(run) == "succeeded", there.why(run)
    assert there.digests(out) == expected
    assert there.way.refused > before
    spent = paid(there, run)
    assert not [cost for cost in spent.values() if cost.user], spent
    assert {"tokenizer", "stage1", "anneal-1"} <= set(spent), spent
    assert "going on at step" in there.pods.of(run, "stage1")[-1].said()
    first, *_, last = there.pods.of(run, "anneal-1")
    assert first.ended["preflight-gate"]["exitCode"] == 143, "held until the controller took the pod away"
    assert there.admin.get(f"{NODES}/{first.machine}")["spec"]["unschedulable"] is True and last.machine != first.machine


TWO_MACHINES = ("parallel.processes=2", "parallel.layout=fsdp", "compute.stages={pretrain: {nodes: 2}}")


@pytest.mark.long
def test_a_rank_killed_in_a_job_of_two_machines_starts_the_job_again_and_ends_with_the_same_weights(
    there: Place, archive: Path, tmp_path: Path
) -> None:
    """FSDP over two pods that Flyte's Elastic task asks of the training operator. The job's failure is the user's, whatever its
    pods end with; so such a task has more retries (tasks/stages.py)."""
    run, wanted = "job", local_digests(tmp_path / "run", RECIPE, TWO_MACHINES)
    out = start(there, archive, run, TWO_MACHINES)
    eventually(lambda: _saved(there, out) or there.engine.phase(run), "the ranks train", 300)
    workers = there.pods.of(run, "stage1")
    assert len(workers) == 2 and len({pod.machine for pod in workers}) == 2, there.why(run)
    workers[1].kill()
    assert there.engine.ended(run) == "succeeded", there.why(run)
    assert there.digests(out) == wanted
    assert paid(there, run) == {"stage1": USER} and not there.operator.errors
    assert [pod.job for pod in there.pods.of(run, "stage1")] == [f"job-n0-0-stage1-{number}" for number in (0, 0, 1, 1)]


# -- the table


@dataclass(frozen=True)
class Row:
    """`what` is the table's first column. `kind` is what the task does of itself (engine_tasks.py), `fault` what happens to its
    pod. `cost` and `ends` are the run's."""

    what: str
    kind: str = "waits"
    fault: Fault | None = None
    cost: Paid = SYSTEM
    ends: str = "succeeded"
    workflow: str = "one"


FAILURES = (
    Row("a mistake of the user's (`UserError`)", "mistake", cost=NOBODY, ends="failed"),
    Row("a bug: any other exception", "bug", cost=NOBODY, ends="failed"),
    Row("store or network failed (exit 170)", "store"),
    Row("the gate refused and nobody came (171)", fault=Fault(init=(("preflight", 0), ("preflight-gate", 171)))),
    Row("a device failed (172)", "device"),
    Row("training hangs (173)", "hang"),
    Row("the machine is shut down: SIGTERM, saved (247)", fault=Fault(act=shut_down)),
    Row("killed (137)", fault=Fault(act=killed)),
    Row("out of memory (137, `OOMKilled`)", fault=Fault(act=out_of_memory), cost=USER),
    Row("evicted by the kubelet (`Evicted`), saved (247)", fault=Fault(act=evicted)),
    Row("the pod is deleted, drained or preempted"),
    Row("its Node object is deleted", workflow="apart"),
    Row("the preflight itself fails (1)", fault=Fault(init=(("preflight", 1),))),
    Row("exit 0 without outputs", "silent", cost=USER),
    Row("the image cannot be pulled", fault=Fault(waiting="ImagePullBackOff"), cost=USER),
)


def _deleted(there: Place, row: Row) -> Fault | None:
    """Two faults need the API server."""
    if row.what.startswith("the pod is deleted"):
        return Fault(act=there.delete)
    if row.workflow == "apart":
        return Fault(act=there.take_machine)
    return row.fault


@pytest.fixture(scope="module")
def failing(there: Place, archive: Path) -> dict[str, str]:
    """A run for each row, and one that fans out; all have begun."""
    runs = {row.what: f"failure-{number}" for number, row in enumerate(FAILURES)}
    for row in sorted(FAILURES, key=lambda row: row.workflow):  # `apart` takes longest
        fault = _deleted(there, row)
        if fault is not None:
            there.pods.faults.planned[runs[row.what], "*"] = fault
        there.engine.start(runs[row.what], archive, f"{TASKS}.{row.workflow}", {"kind": row.kind})
    there.engine.start("fan-out", archive, f"{TASKS}.many", {"kinds": ["well", "store", "silent", "well"]})
    return runs


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.what)
def test_failures(there: Place, failing: dict[str, str], row: Row) -> None:
    run = failing[row.what]
    assert there.engine.ended(run, 300) == row.ends, there.why(run)
    assert there.engine.costs[run]["n0"] == row.cost, there.why(run)
    pods = there.pods.of(run)
    assert len(pods) == 1 + row.cost.user + row.cost.system, "no pod more than was paid for"
    if row.ends == "failed":
        error = there.engine.error(run)
        assert error["kind"] == "USER" and ("a key is wrong" in error["message"]) == (row.kind == "mistake"), error


def test_a_failure_inside_a_fan_out_costs_its_own_element_alone(there: Place, failing: dict[str, str]) -> None:
    assert there.engine.ended("fan-out", 300) == "succeeded", there.why("fan-out")
    assert paid(there, "fan-out") == {"n0[1]": SYSTEM, "n0[2]": USER}
    pods = sorted(pod.name for pod in there.pods.of("fan-out"))
    assert pods == [f"fan-out-n0-0-{name}" for name in ("n0-0", "n1-0", "n1-1", "n2-0", "n2-1", "n3-0")]


def test_the_table_for_people_says_the_same() -> None:
    """docs/fleet.md, under the heading `Who pays under Flyte`."""
    text = (
        (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8").partition("## Who pays under Flyte")[2].partition("\n## ")[0]
    )
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")][2:]
    said = {cells[0]: cells[1] for cells in found}
    payers = {NOBODY: "nobody", USER: "the user", SYSTEM: "the system"}
    assert said == {row.what: payers[row.cost] for row in FAILURES}


def _saved(there: Place, out: str) -> bool:
    """Whether stage1 has saved itself; what its energy was so far lies beside its saves."""
    return any("/energy/" not in key for key in there.keys(out, "work/stage1-"))
