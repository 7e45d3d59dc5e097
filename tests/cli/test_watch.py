"""`lehr watch`: what it is asked for, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lehr.cli.main import main
from lehr.cli.runs_found import newest
from lehr.monitoring.watch import endpoint
from lehr.tasks.lock import held
from tests.cli.conftest import ROOT, Again


def _news(page: Path) -> dict[str, object]:
    text = page.read_text()
    found: dict[str, object] = json.loads(text.partition('id="news">')[2].partition("</script>")[0])
    return found


def test_a_finished_run_as_a_file(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    artifact = next(trained.glob("artifacts/stage1-*"))
    assert main(["watch", str(artifact), "--once", str(page)]) == 0
    assert capsys.readouterr().out == f"page: {page}\n"
    news = _news(page)
    (run,) = news["runs"]  # type: ignore[misc]
    assert run["state"] == "finished" and {stage["state"] for stage in run["stages"]} == {"done"}
    (stage,) = [stage for stage in run["stages"] if stage["name"] == "stage1"]
    steps = sum(1 for line in next(trained.glob("artifacts/stage1-*/logs/curves.jsonl")).open() if '"loss"' in line)
    panels = news["board"]["panels"]  # type: ignore[index]
    loss = next(i for i, panel in enumerate(panels) if panel["title"] == "Loss" and panel["kind"] == "lines")
    (line,) = [line for line in news["lines"] if line["panel"] == loss]  # type: ignore[attr-defined]
    assert line["name"] == "stage1" and max(point[1] for point in line["points"]) == steps
    assert stage["tokens"] == 8192 and run["facts"]["scores"] and run["facts"]["funnel"]


def test_a_run_says_where_its_metrics_are_while_it_works(again: Again, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run of its own documents alone: the file is there when the first stage begins, and gone at the end."""
    seen: list[endpoint.Endpoint | None] = []
    from lehr.monitoring.exporter import PrometheusTracker

    whole = PrometheusTracker.stage_started

    def started(self: PrometheusTracker, stage: str, **more: object) -> None:
        seen.append(endpoint.find(tmp_path / "run"))
        whole(self, stage, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(PrometheusTracker, "stage_started", started)
    monkeypatch.setattr("lehr.cli.local.run_graph", _first_stage)
    assert again(tmp_path / "run") != 0
    assert seen and seen[0] is not None and seen[0].pid == os.getpid() and seen[0].url.startswith("http://127.0.0.1:")
    assert not (tmp_path / "run" / endpoint.FILE).exists()


def _first_stage(nodes: object, context: object, *_: object) -> object:
    context.tracker.stage_started("documents", total_steps=0, params={})  # type: ignore[attr-defined]
    raise KeyboardInterrupt


def test_the_newest_run_is_the_one_at_work(trained: Path, tmp_path: Path) -> None:
    assert newest(tmp_path) is None and newest(tmp_path / "missing") is None
    for age, name in enumerate(("b", "a", "c")):
        (tmp_path / name / "recipes").mkdir(parents=True)
        (tmp_path / name / "recipe.yaml").write_text("name: x\n")
        for path in (tmp_path / name / "recipe.yaml",):
            os.utime(path, (time.time() - 100 * age,) * 2)
    assert newest(tmp_path) == tmp_path / "b"
    with held(tmp_path / "c"):
        assert newest(tmp_path) == tmp_path / "c"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("gs://bucket/run", "addresses are not supported"),
        ("http://", "no address of an exporter"),
        ("http://a b/metrics", "no address of an exporter"),
        ("file", "this is a file"),
    ],
)
def test_places_that_are_none(
    where: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["watch", where, "--once", "page.html"]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_no_run_yet_is_said_in_a_file_and_waited_for_on_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch", "--once", "page.html"]) == 2
    assert "no runs in runs yet" in capsys.readouterr().err
    assert main(["watch", "later", "--once", "page.html"]) == 0
    (run,) = _news(tmp_path / "page.html")["runs"]  # type: ignore[misc]
    assert run["state"] == "not there yet"


def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lehr.cli.main", "watch"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "the newest run in runs: http://127.0.0.1:" in line
        with urllib.request.urlopen(line.split(": ", 1)[1].split()[0], timeout=20) as answer:
            assert b"Lehr watch" in answer.read()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    finally:
        process.kill()
        process.wait()
