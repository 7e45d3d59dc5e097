"""A node that is validated must pass its tests and stay clean for a while: the policy's `revalidation_clean_seconds`."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from lehr.cli.nodes_shown import clock, detail_table
from lehr.infra.controller.node_commands import NodeInfo
from lehr.infra.controller.objects import NodeObject
from lehr.infra.fleet.actions import Release
from lehr.infra.fleet.policy import DAY, HOUR, MINUTE, Policy
from lehr.infra.fleet.views import Condition, NodeView, Outcome
from tests.infra.world import NOW, World, pod, verdict

BAD = verdict()
SOAK = Policy(revalidation_clean_seconds=4 * HOUR)


def revalidate(world: World, outcome: Outcome) -> None:
    world.settle()
    world.wait(2 * MINUTE)
    assert world.finish_jobs(outcome) == 1
    world.settle()


def soaking() -> World:
    """A node that has passed once at `world.now`, of a policy that asks for four clean hours."""
    world = World(NodeView("n1", pods=(pod("p1", BAD),)), policy=SOAK)
    world.settle()
    revalidate(world, Outcome.PASS)
    return world


def test_a_soak_goes_on_being_tested_until_its_clean_hours_are_over() -> None:
    world = soaking()
    began = world.now
    while world.state() != "healthy":
        assert world.now < began + 5 * HOUR
        world.wait(15 * MINUTE)
        revalidate(world, Outcome.PASS)
        record = world.nodes["n1"].record
        assert record is not None and len(record.passes) <= 2, "the annotation stays small"
    assert 4 * HOUR <= world.now - began < 4.5 * HOUR
    assert sum(k == "start-revalidation" for k in world.kinds()) == 16
    release = next(a for _, a in world.log if isinstance(a, Release))
    assert release.reason == "passed 3 revalidations, clean for 4.2 hours"


@pytest.mark.parametrize("broken", ["reboot", "condition", "failure"])
def test_what_happens_in_a_soak_begins_it_anew_and_twice_means_repair(broken: str) -> None:
    world = soaking()
    for _ in range(2):
        world.wait(HOUR)
        if broken == "reboot":
            world.change("n1", ready_since=world.now)
        elif broken == "condition":
            world.change("n1", conditions=(Condition("GpuThrottled", "HwSlowdown", world.now),))
            assert world.settle() != []  # the next Job begins: a condition of this moment is none yet
            world.wait(2 * MINUTE)
        if broken == "failure":
            revalidate(world, Outcome.HARDWARE_FAILURE)
        world.settle()
        record = world.nodes["n1"].record
        assert record is not None and record.passes == ()
        if world.state() != "repair":
            world.wait(15 * MINUTE)
            revalidate(world, Outcome.PASS)
            assert len(world.nodes["n1"].record.passes) == 1  # type: ignore[union-attr]
    assert world.state() == "repair"


def test_a_condition_that_was_there_before_the_soak_is_for_the_tests_to_judge() -> None:
    world = World(NodeView("n1", pods=(pod("p1", BAD),)), policy=Policy(revalidation_clean_seconds=HOUR))
    world.change("n1", conditions=(Condition("GpuThrottled", "HwSlowdown", world.now),))
    world.settle()
    world.wait(3 * MINUTE)
    for _ in range(6):
        revalidate(world, Outcome.PASS)
        if world.state() == "healthy":
            break
        world.wait(15 * MINUTE)
    assert world.state() == "healthy"


def test_a_clock_that_is_behind_does_not_date_a_soak_back() -> None:
    world = World(NodeView("n1", pods=(pod("p1", BAD),)), policy=SOAK)
    world.settle()
    (job,) = world.nodes["n1"].jobs
    world.change("n1", jobs=(replace(job, finished_at=NOW - DAY, verdict=verdict(Outcome.PASS)),))
    world.settle()
    assert world.nodes["n1"].record.passes == (job.created_at,)  # type: ignore[union-attr]


def test_a_person_sees_since_when_a_node_is_clean() -> None:
    world = soaking()
    record, view = world.nodes["n1"].record, world.nodes["n1"]
    there = NodeObject("n1", "u", 1, "n1", {}, {}, (), True, "", True, 0.0, 0.0, view.gpus, (), ("", ""), record)
    shown = Console(width=100, file=io.StringIO())
    shown.print(detail_table(NodeInfo(there, "quarantined", record.cordon if record else None, None), world.now))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "1 passed in a row" in text and f"clean since  {clock(world.now)}" in text
