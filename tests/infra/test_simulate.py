"""The simulator against what can be known without it, and the replay of logs."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

import lehr.infra.fleet.decide
import lehr.infra.fleet.decision_log
import lehr.infra.simulate.fleet
from lehr.cli.main import main
from lehr.cli.simulated import show_rows
from lehr.infra.fleet.decide import decide
from lehr.infra.fleet.decision_log import line, read, replay
from lehr.infra.fleet.policy import Policy
from lehr.infra.fleet.summary import fleet_view
from lehr.infra.fleet.views import NodeView
from lehr.infra.simulate.failures import FailureTable
from lehr.infra.simulate.figure import WORDS
from lehr.infra.simulate.job import simulate
from lehr.infra.simulate.scenario import COUNTS, LOSSES, TIMES, Regime, Scenario
from lehr.infra.simulate.study import Row, check, run, t_quantile
from lehr.runtime.errors import UserError
from tests.infra.world import NOW, POLICY, pod, verdict

TABLE = FailureTable.load()


@pytest.mark.parametrize("gpus", [1024, pytest.param(16384, marks=pytest.mark.long)])
def test_agrees_with_the_closed_form(gpus: int) -> None:
    found = check(gpus, TABLE)
    assert abs(found.simulated - found.exact) < 0.001
    assert found.half_width < 0.0005


@pytest.mark.parametrize("regime", Regime)
def test_every_second_is_accounted_for_and_a_seed_repeats(regime: Regime) -> None:
    scenario = Scenario(2048, regime, days=10)
    ledger = simulate(scenario, TABLE, 3)
    assert ledger.seconds == pytest.approx(10 * 86400, abs=1.0)
    assert ledger == simulate(scenario, TABLE, 3)
    assert ledger != simulate(scenario, TABLE, 4)
    assert ledger.crashes > 0


@pytest.mark.long
def test_full_policy_beats_restarting_by_ten_points_and_reaches_93_per_cent() -> None:
    seeds = range(3)
    often = run(Scenario(16384, Regime.FULL, checkpoint_interval=600), TABLE, seeds)
    full = run(Scenario(16384, Regime.FULL), TABLE, seeds)
    restart = run(Scenario(16384, Regime.RESTART_ONLY), TABLE, seeds)
    assert full.effective - restart.effective >= 0.10
    assert often.effective >= 0.93


def test_simulator_and_replay_use_the_controllers_decision() -> None:
    assert lehr.infra.simulate.fleet.decide is lehr.infra.fleet.decide.decide
    assert lehr.infra.fleet.decision_log.decide is lehr.infra.fleet.decide.decide


def test_policy_changes_the_outcome() -> None:
    scenario = Scenario(4096, Regime.FULL, days=20)
    blind = replace(scenario, policy=Policy(observe_only_checks=("matmul", "trainer", *POLICY.hardware_conditions)))
    seeing, unseeing = (run(s, TABLE, range(3)) for s in (scenario, blind))
    assert unseeing.effective < seeing.effective
    assert unseeing.counts["cordons"] < seeing.counts["cordons"]


def test_check_that_lies_is_stopped_by_the_breaker_and_only_delays() -> None:
    lying = TABLE.model_copy(update={"assumptions": TABLE.assumptions.model_copy(update={"false_failure": 0.05})})
    ledger = simulate(Scenario(2048, Regime.FULL, days=2), lying, 0)
    assert ledger.refused > 0
    assert ledger.cordons < 2 * 24 * 3


def test_t_quantiles() -> None:
    for freedom, exact in ((5, 2.5706), (11, 2.2010), (39, 2.0227)):
        assert t_quantile(0.975, freedom) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source: {days: 1, gpus: 8, interruptions: 3}\nclasses: {a: {count: 2}}", "count 2 interruptions"),
        ("source: {days: 1, gpus: 8, interruptions: 2}\nclasses: {a: {count: 2, persistant: 1}}", "persistant"),
        ("{", "not YAML"),
    ],
)
def test_bad_failure_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        FailureTable.load(path)


def write_log(path: Path, count: int) -> None:
    nodes = [NodeView(f"n{i}", pods=(pod(f"p{i}", verdict()),)) for i in range(count)]
    fleet = fleet_view(nodes, POLICY, NOW)
    path.write_text("".join(line(NOW, n, fleet, decide(n, fleet, POLICY, NOW)) + "\n" for n in nodes))


def test_replay_of_the_same_policy_differs_nowhere_and_of_another_says_where(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path, 4)
    same = replay(read(path), POLICY)
    assert (same.entries, same.differences) == (4, [])
    other = replay(read(path), Policy(observe_only_checks=("matmul",)))
    assert [d.node for d in other.differences] == ["n0", "n1", "n2", "n3"]
    assert {d.recorded for d in other.differences} == {("cordon",)}
    assert other.replayed["cordon"] == 0


def test_replay_forgives_a_cut_last_line_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path, 3)
    whole = path.read_text()
    path.write_text(whole[:-30])
    assert len(list(read(path))) == 2
    path.write_text(whole[:50] + "\n" + whole)
    with pytest.raises(UserError, match=r"log\.jsonl:1"):
        list(read(path))


def test_command_prints_rows_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "f.svg"
    arguments = ["simulate", "fleet", "--gpus", "512", "--seeds", "2", "--days", "3", "--json", "--figure", str(figure)]
    assert main(arguments) == 0
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [r["regime"] for r in rows] == 2 * ["restart-only", "beaker-like", "full"]
    assert all(sum(r["loss"].values()) == pytest.approx(1.0 - r["effective"], abs=1e-12) for r in rows)
    root = ElementTree.fromstring(figure.read_text())
    assert len([e for e in root.iter() if e.tag.endswith("rect")]) == len(LOSSES) * (1 + len(rows))
    texts = [(e.text or "", float(e.get("x", "0"))) for e in root.iter() if e.tag.endswith("text")]
    ticks = [(float(text), x) for text, x in texts if re.fullmatch(r"[\d.]+", text)]
    assert ("time lost, per cent of wall time", 700.0) in texts and ticks[0] == (0.0, 186.0) and len(ticks) > 2
    longest = max(1.0, *(100 * (1 - row["effective"]) for row in rows))  # ends at the drawing's right side
    assert all(x == pytest.approx(186 + 514 * lost / longest, abs=0.5) for lost, x in ticks)


def test_a_figure_that_cannot_be_written_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "fleet", "--figure", "/no/such/x.svg"]) == 2
    assert "/no/such: there is no such folder" in capsys.readouterr().err


def test_a_narrow_terminal_cuts_no_number() -> None:
    row = Row(16384, "restart-only", 30.0, 2, 0.984, 0.01, dict.fromkeys(TIMES, 0.0123), dict.fromkeys(COUNTS, 123.0))
    for width, columns in ((80, 7), (160, 7 + len(WORDS))):
        shown = Console(width=width, file=io.StringIO())
        show_rows(shown, [row])
        text = shown.file.getvalue()  # type: ignore[attr-defined]
        line = next(line for line in text.splitlines() if "restart-only" in line)
        assert len(line.replace(" ± ", "±").split()) == columns and "…" not in text, text


def test_command_replays_and_refuses_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, policy = tmp_path / "log.jsonl", tmp_path / "p.yaml"
    write_log(log, 2)
    policy.write_text("observe_only_checks: [matmul]\n")
    assert main(["simulate", "replay", str(log), "--policy", str(policy)]) == 0
    assert "n1" in capsys.readouterr().out
    policy.write_text("observe_only: [matmul]\n")
    assert main(["simulate", "replay", str(log), "--policy", str(policy)]) == 2
    error = capsys.readouterr().err
    assert "observe_only" in error
    assert "Traceback" not in error
