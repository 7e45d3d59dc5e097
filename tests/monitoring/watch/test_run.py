"""A watched run, in every state that it can be in."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from lehr.monitoring.metrics import run as m
from lehr.monitoring.watch import endpoint
from lehr.monitoring.watch.watcher import Watcher
from tests.monitoring.watch import runs


def told(watcher: Watcher) -> dict[str, Any]:
    """The first run, after a look."""
    watcher.look()
    return watcher.news(0)["runs"][0]


def lines(watcher: Watcher, title: str) -> dict[str, list[list[float]]]:
    """A panel's lines by name."""
    news = watcher.news(0)
    number = next(i for i, panel in enumerate(news["board"]["panels"]) if panel["title"] == title and panel["kind"] == "lines")
    return {line["name"]: line["points"] for line in news["lines"] if line["panel"] == number}


def states(run: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in run["stages"]}


def test_a_run_from_before_it_is_there_to_its_end(tmp_path: Path) -> None:
    watcher, folder = Watcher([tmp_path / "run"]), tmp_path / "run"
    assert told(watcher)["state"] == "not there yet"
    runs.begin(folder)
    with runs.locked(folder):
        run = told(watcher)
        assert (run["state"], run["name"]) == ("at work", "run") and set(states(run).values()) == {"waiting"}
        log = runs.work(folder, "stage1", runs.curves(20))
        assert states(told(watcher))["stage1"] == "at work"
        points = lines(watcher, "Loss")["stage1"]
        assert len(points) == 21 and points[0][1:] == [1, pytest.approx(3.98)] and points[-1][1] == 20
        with log.open("a") as file:
            file.write(runs.row(21)[:-9])  # torn
        assert told(watcher)["state"] == "at work" and len(lines(watcher, "Loss")["stage1"]) == 21
    assert told(watcher)["state"] == "stopped"
    shutil.rmtree(folder / "work")
    runs.made(folder, "stage1", log=runs.curves(30))
    runs.made(folder, "scores-stage1", "scores", runs.scores("stage1", 0.75))
    (folder / "report.html").write_text("")
    run = told(watcher)
    assert run["state"] == "finished" and not run["live"]
    stage = next(s for s in run["stages"] if s["name"] == "stage1")
    assert (stage["state"], stage["seconds"], stage["tokens"], stage["joules"]) == ("done", 12.5, 640, 7200)
    assert [point[1] for point in lines(watcher, "Loss")["stage1"]] == [*range(1, 31), 30]  # the copy took the old one's place


def test_scores_answers_and_documents_appear_as_they_are_made_and_are_sent_once(tmp_path: Path) -> None:
    folder = runs.begin(tmp_path / "run")
    watcher = Watcher([folder])
    assert told(watcher)["facts"] == {"scores": [], "samples": [], "funnel": []}
    number, session = watcher.news(0)["number"], watcher.session
    rows = {"bible": {"read": 10, "kept": 8, "dropped": {"too few words": 2}}, "bad": 7}
    runs.made(folder, "documents", "documents", {"funnel.json": rows})
    runs.made(folder, "scores-stage1", "scores", runs.scores("stage1", 0.75, "6"))
    runs.made(folder, "scores-soup", "scores", runs.scores("soup", 1.0))
    watcher.look()
    facts = watcher.news(number, session)["runs"][0]["facts"]
    (table,) = facts["scores"]
    assert table["split"] == "held out" and [r["cells"] for r in table["rows"]] == [["75.0 ± 2.0"], ["100.0 ± 2.0"]]
    assert facts["samples"] == [{"prompt": "2+3?", "expected": "5", "answers": {"stage1": "6", "soup": "5"}}]
    assert facts["funnel"] == [{"source": "bible", "read": 10, "kept": 8, "dropped": {"too few words": 2}}]
    assert "facts" not in watcher.news(watcher.news(0)["number"], session)["runs"][0]


def test_live_values_come_from_the_exporter_that_the_folder_names(tmp_path: Path) -> None:
    folder = runs.begin(tmp_path / "run")
    runs.work(folder, "stage1", runs.curves(10))
    watcher = Watcher([folder])
    with runs.exporter() as (tracker, url), runs.locked(folder):
        endpoint.announce(folder, url)
        tracker.stage_started("stage1", total_steps=40, params={})
        for step in range(1, 11):
            tracker.progress("stage1", step, 40, runs.STEP)
            if step % 5 == 0:
                run = told(watcher)
        assert run["live"] and run["state"] == "at work"
        stage = next(s for s in run["stages"] if s["name"] == "stage1")
        assert (stage["done"], stage["planned"]) == (10, 40) and stage["left"] > 0
        parts = lines(watcher, "Parts of a step")
        assert {name.partition(": ")[2] for name in parts} >= {"forward", "backward"}
        assert parts["stage1: backward"][-1][2] == pytest.approx(0.5, abs=0.01)
        assert set(lines(watcher, "Loss")) == {"stage1", "stage1: guard's limit"}
        assert lines(watcher, "Loss")["stage1"][-1][2] != 2.5  # the log says it, step by step
        endpoint.withdraw(folder)  # it ends: so have its series
        watcher.look()
        assert watcher.runs[0]._by_stage(m.STAGE_PLANNED, time.time()) == {}
        endpoint.announce(folder, url)
    run = told(watcher)  # killed: nobody took the file back
    assert not run["live"] and run["state"] == "stopped"
    assert (folder / endpoint.FILE).is_file()


def test_an_exporter_alone_that_goes_and_comes_back(tmp_path: Path) -> None:
    with runs.exporter() as (tracker, url):
        watcher = Watcher([url])
        tracker.stage_started("stage1", total_steps=40, params={})
        tracker.progress("stage1", 7, 40, runs.STEP)
        run = told(watcher)
        assert (run["state"], run["name"], states(run)) == ("at work", "tiny", {"stage1": "at work"})
        assert [point[1:] for point in lines(watcher, "Loss")["stage1"]] == [[7, 2.5]]
        port = int(url.split(":")[2].split("/")[0])
    run = told(watcher)
    assert run["state"] == "gone" and "does not answer" in run["note"] and lines(watcher, "Loss")["stage1"]
    tracker.exposition.fresh_seconds = 0.0
    again = tracker.start(port)
    try:
        assert again == url and told(watcher)["state"] == "at work"
    finally:
        tracker.close(failed=True)
    assert told(Watcher(["http://127.0.0.1:9/metrics"]))["state"] == "not there yet"


def test_a_resume_takes_back_what_is_made_again(tmp_path: Path) -> None:
    folder = runs.begin(tmp_path / "run")
    log = runs.work(folder, "stage1", runs.curves(20))
    watcher = Watcher([folder])
    watcher.look()
    number, session = watcher.news(0)["number"], watcher.session
    log.with_name("copy").write_text("".join(runs.row(step) for step in range(1, 13)))
    log.with_name("copy").replace(log)
    watcher.look()
    news = watcher.news(number, session)
    again = [line for line in news["lines"] if line["name"] == "stage1" and line["anew"] and line["points"]]
    assert again and all(line["points"][-1][1] == 12 for line in again)


def test_names_and_texts_of_others_stay_texts(tmp_path: Path) -> None:
    folder = runs.begin(tmp_path / "a<b>&\u202e")
    runs.made(folder, "scores-x", "scores", runs.scores(runs.HOSTILE, 0.5, runs.HOSTILE))
    runs.work(folder, "<script>", json.dumps({"step": 1, "seconds": 1, runs.HOSTILE: 2}) + "\n")
    (folder / "recipe.yaml").write_text("name: [/b]\n")
    watcher = Watcher([folder])
    run = told(watcher)
    whole = json.dumps(watcher.news(0), ensure_ascii=False)
    assert "\u202e" not in whole and "\\u001b" not in whole and "</script>" in whole  # as text of JSON
    assert run["state"] == "stopped" and "recipe.yaml" in run["note"]
    assert "<script>" in states(run)


def test_one_damaged_run_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken, whole = runs.begin(tmp_path / "broken"), runs.begin(tmp_path / "whole")
    runs.work(whole, "stage1", runs.curves(5))
    watcher = Watcher([broken, whole])
    watcher.runs[0].look = lambda *_: 1 / 0  # type: ignore[assignment, method-assign]
    watcher.look()
    watcher.look()
    assert len(lines(watcher, "Loss")["stage1"]) == 6 and caplog.text.count("ZeroDivisionError") == 1


def test_the_newest_run_is_followed(tmp_path: Path) -> None:
    found: list[Path] = []
    now = [1000.0]
    watcher = Watcher([], lambda: found[-1] if found else None, lambda: now[0])
    watcher.look()
    assert watcher.news(0)["runs"] == []
    old, new = runs.begin(tmp_path / "old"), runs.begin(tmp_path / "new")
    runs.work(old, "stage1", runs.curves(5))
    found.append(old)
    now[0] += 10
    assert told(watcher)["name"] == "old" and lines(watcher, "Loss")
    number, session = watcher.news(0)["number"], watcher.session
    found.append(new)
    now[0] += 10
    with runs.locked(old):
        assert told(watcher)["name"] == "old"  # it is at work: nobody takes it away
    now[0] += 10
    assert told(watcher)["name"] == "new" and not lines(watcher, "Loss")
    assert any(line["anew"] and not line["points"] for line in watcher.news(number, session)["lines"])


def test_hours_of_watching_cost_no_more_memory_than_one(tmp_path: Path) -> None:
    now = [time.time()]
    with runs.exporter() as (tracker, url):
        watcher = Watcher([url], now=lambda: now[0])
        tracker.stage_started("stage1", total_steps=10**6, params={})
        sizes = []
        for look in range(1, 41):  # of an hour twelve are kept, or thirteen
            now[0] += 300
            tracker.progress("stage1", look, 10**6, runs.STEP)
            watcher.look()
            history = watcher.runs[0].scraper.history
            sizes.append(sum(len(points) for of in history._series.values() for points in of.values()))
        assert sizes[5] < sizes[11] and 12 * max(sizes[20:]) <= 13 * sizes[11]
