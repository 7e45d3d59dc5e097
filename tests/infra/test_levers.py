"""What each means against failures is worth: against closed forms, by hand, and that no claim goes beyond what is built."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lehr.cli.main import main
from lehr.infra.simulate.failures import FailureTable
from lehr.infra.simulate.job import simulate
from lehr.infra.simulate.levers import ALL, BUILT, LEVERS, RESTART_ONLY, cases, with_levers
from lehr.infra.simulate.scenario import LOSSES, Regime, Saves, Scenario, closed_form
from lehr.infra.simulate.settings import DEFAULTS, setting
from lehr.infra.simulate.study import check, memoryless, run
from lehr.runtime.errors import UserError

TABLE = FailureTable.load()
LARGE = 16384


def test_with_levers_the_simulator_agrees_with_the_closed_form() -> None:
    found = check(LARGE, TABLE, 50_000, memory_copies=True, restart_in_place=True)
    assert abs(found.simulated - found.exact) < 0.0005
    later = check(LARGE, TABLE, 50_000, upload_seconds=300.0)
    assert abs(later.simulated - later.exact) < 0.0015
    assert later.exact < check(LARGE, TABLE, 40, upload_seconds=0.0).exact - 0.02  # 5 minutes of each 3 hours


def test_lost_work_is_half_an_interval_a_failure_and_the_upload() -> None:
    scenario, table, rate = memoryless(LARGE, TABLE)
    ledger = simulate(replace(scenario, days=500.0), table, 1)
    expected = scenario.checkpoint_interval / 2 + scenario.upload_seconds
    # To first order in rate * interval, which is 0.16 here.
    assert ledger.rework / ledger.crashes == pytest.approx(expected, rel=0.1)
    assert ledger.crashes == pytest.approx(rate * (ledger.seconds - ledger.crashes * scenario.restart), rel=0.05)


def test_the_best_interval_is_youngs() -> None:
    """Young 1974: sqrt(2 * pause / rate). The closed form is what the simulator agrees with; both are asked."""
    scenario, table, rate = memoryless(LARGE, TABLE)
    young = math.sqrt(2 * scenario.checkpoint_seconds / rate)
    exact = {
        f: closed_form(rate, Saves(f * young, scenario.checkpoint_seconds, 0.0), scenario.restart) for f in (0.8, 1.0, 1.25)
    }
    assert exact[1.0] == max(exact.values())
    seen = {
        factor: simulate(
            replace(scenario, days=500.0, checkpoint_interval=factor * young, upload_seconds=0.0), table, 1
        ).effective
        for factor in (0.25, 1.0, 4.0)
    }
    assert seen[1.0] == max(seen.values())


def test_a_rack_that_fails_takes_the_memory_copies_with_it() -> None:
    """Every crash takes a rack: what counts is then what the store has, whatever was copied."""
    all_racks = {k: c.model_copy(update={"rack": 1.0, "node": True}) for k, c in TABLE.memoryless().classes.items()}
    assumed = TABLE.memoryless().assumptions.model_copy(update={"rack_nodes": 1, "rack_outage_seconds": 1.0})
    table = TABLE.model_copy(update={"classes": all_racks, "assumptions": assumed})
    plain = Scenario(LARGE, Regime.RESTART_ONLY, days=54.0, copy_load_seconds=60.0, copy_seconds=0.0, checkpoint_seconds=0.0)
    copied = replace(plain, memory_copies=True, restart_in_place=True)
    copies, none = simulate(copied, table, 1), simulate(plain, table, 1)
    assert none.crashes > 300
    # What the store has was written from a copy, so it is half a copy's interval older.
    assert copies.rework / copies.crashes == pytest.approx(none.rework / none.crashes + plain.copy_interval / 2, rel=0.1)
    held = simulate(copied, TABLE.memoryless(), 1)
    assert held.rework / held.crashes < 0.1 * none.rework / none.crashes
    assert copies.scheduling >= copies.crashes * (plain.vain_seconds + plain.pods_seconds), "waited in vain, then made anew"


def test_memory_copies_go_with_their_pods() -> None:
    """Without restarts in place all pods are made anew: copies cost their pauses and bring nothing."""
    plain, rare = Scenario(LARGE, Regime.RESTART_ONLY, days=54.0), TABLE.memoryless()
    copies, none = simulate(replace(plain, memory_copies=True), rare, 1), simulate(plain, rare, 1)
    assert copies.rework / copies.crashes == pytest.approx(none.rework / none.crashes, rel=0.1)
    assert copies.load / copies.crashes == pytest.approx(plain.load_seconds, rel=0.02)
    assert copies.checkpoint > 4 * none.checkpoint and copies.effective < none.effective


def test_a_node_that_vanishes_is_waited_for_and_then_all_pods_are_made_anew() -> None:
    quiet = {
        k: c.model_copy(update={"quiet": 1.0, "vanishes": k == "faulty GPU", "rack": 0.0}) for k, c in TABLE.classes.items()
    }
    place = Scenario(2048, Regime.FULL, days=20, restart_in_place=True, hot_spares=True, meeting_seconds=0.0)
    gone = simulate(place, TABLE.model_copy(update={"classes": quiet}), 2)
    assert gone.scheduling > place.vain_seconds + 2 * place.pods_seconds
    stay = {k: c.model_copy(update={"vanishes": False}) for k, c in quiet.items()}
    assert simulate(place, TABLE.model_copy(update={"classes": stay}), 2).scheduling == place.pods_seconds


@pytest.mark.parametrize("lever", LEVERS, ids=[lever.name for lever in LEVERS])
def test_every_second_is_accounted_for_with_each_lever(lever: object) -> None:
    chosen = LEVERS if lever is LEVERS[-1] else (lever,)  # the last needs the one before it
    ledger = simulate(with_levers(Scenario(2048, Regime.FULL, days=10), chosen), TABLE, 3)  # type: ignore[arg-type]
    assert ledger.seconds == pytest.approx(10 * 86400, abs=1.0)
    assert ledger.crashes > 0


def test_restart_in_place_starts_no_pods_where_spares_are_hot() -> None:
    stay = {k: c.model_copy(update={"vanishes": False, "rack": 0.0}) for k, c in TABLE.classes.items()}
    table = TABLE.model_copy(update={"classes": stay})
    place = Scenario(2048, Regime.FULL, days=20, restart_in_place=True, meeting_seconds=0.0)
    cold, hot = (simulate(replace(place, hot_spares=spares), table, 2) for spares in (False, True))
    assert hot.scheduling == place.pods_seconds < cold.scheduling  # the job's very first start alone
    whole = replace(place, restart_in_place=False, hot_spares=True)
    anew = simulate(whole, TABLE, 2)
    assert not whole.joins_hot
    assert anew.scheduling >= anew.crashes * place.pods_seconds - place.pods_seconds


@pytest.mark.long
def test_all_levers_reach_97_per_cent_and_saves_alone_do_not() -> None:
    """The goal at 16,384 GPUs, and that it takes all of them."""
    base = Scenario(LARGE, Regime.FULL, days=20)
    assert all(lever.built for lever in LEVERS), "docs/fleet.md says so"
    chosen = dict(cases())
    often, everything = (run(with_levers(base, chosen[name]), TABLE, range(3)) for name in ("save often", ALL))
    assert everything.effective >= 0.97
    assert 0.93 < often.effective < 0.96
    assert sum(everything.loss.values()) == pytest.approx(1.0 - everything.effective, abs=1e-12)


def test_command_shows_levers_and_judges_by_what_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["simulate", "fleet", "--gpus", "512", "--seeds", "2", "--days", "3", "--levers"]
    figure = tmp_path / "levers.svg"
    assert main([*short, "--json", "--goal", "0.5", "--figure", str(figure)]) == 0
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    goals, found = rows[-2:], rows[:-2]
    assert [row["lever"] for row in found] == [RESTART_ONLY, *(name for name, _ in cases())]
    assert all(row["built"] for row in found)
    assert [(g["of"], g["met"]) for g in goals] == [(BUILT, True), (ALL, True)]
    assert all(set(row["loss"]) == set(LOSSES) for row in found)
    words = [e.text or "" for e in ElementTree.fromstring(figure.read_text()).iter() if e.tag.endswith("text")]
    assert "in-place restart" in words and "save often" in words
    assert main([*short, "--goal", "1"]) == 1
    said = capsys.readouterr().out
    assert "Not built" not in said and "goal of 100 %: missed by all that is built" in said


def test_command_judges_the_full_regime_without_levers(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["simulate", "fleet", "--gpus", "512", "--seeds", "2", "--days", "3", "--checkpoint-minutes", "10"]
    assert main([*short, "--goal", "0.5"]) == 0
    assert "goal of 50 %: met by 512 GPUs, every 10 min" in capsys.readouterr().out
    assert main([*short, "--goal", "0.5", "--set", "launch_seconds=1e6"]) == 1


def test_settings_are_numbers_and_switches_of_a_scenario() -> None:
    assert setting("launch_seconds=400") == ("launch_seconds", 400.0)
    assert setting("hot_spares=on") == ("hot_spares", True)
    for lever in LEVERS:
        assert set(lever.settings) <= {*DEFAULTS, "checkpoint_interval"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("launch=4", "not a setting"),
        ("launch_seconds", "not a setting"),
        ("gpus=8", "not a setting"),
        ("launch_seconds=-1", "not a number from 0"),
        ("launch_seconds=nan", "not a number from 0"),
        ("copy_interval=0", "not a number from 1"),
        ("spare_fraction=2", "not a number from 0 to 1"),
        ("hot_spares=1", "neither on nor off"),
    ],
)
def test_a_bad_setting_is_named(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        setting(text)


@pytest.mark.parametrize("also", [["--levers"], ["--goal", "0.9"]])
def test_a_check_has_nothing_to_judge(also: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "fleet", "--check", *also]) == 2
    assert "--check" in capsys.readouterr().err
