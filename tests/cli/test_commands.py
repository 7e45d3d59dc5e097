"""The `lehr` command as a user meets it: in a process of its own, by its output and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lehr.cli.locate import find
from lehr.cli.main import main
from lehr.cli.places import RUN
from lehr.config import load_recipe
from tests.cli.conftest import ROOT, lehr

TINY = "recipes/tiny/olmo2.yaml"


def test_help_reads_like_documentation() -> None:
    text = lehr("--help").stdout
    for command in ("init", "run", "list", "show", "explain", "eval", "chat", "validate", "dropped"):
        assert f"\n  {command} " in text
        own = lehr(command, "--help").stdout
        assert "Example" in own and f"lehr {command}" in own
    assert "Exit codes" in text


def test_show_prints_lineage_cost_and_scores(run: Path) -> None:
    done = lehr("show", str(run), "--verify")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("soup  checkpoint")
    tree = [line.strip("│├└─ ").split("  ")[0] for line in lines[1 : lines.index("")]]
    assert tree == ["anneal-1", "stage1", "documents", "anneal-2", "stage1"]
    total = next(line.split() for line in lines if line.startswith("sum"))
    # 5 + 3 x 100 + 1 s; three stages of 1,000 tokens, 2e9 FLOPs and 1,800 J = 0.5 Wh: the shared parent counts once
    assert total == ["sum", "3,000", "6.00e+09", "5", "min", "6", "s", "5.4", "kJ", "(1.5", "Wh)", "estimate"]
    scores = next(line for line in lines if line.startswith("arithmetic"))
    assert scores.split() == [
        "arithmetic",
        "held_out",
        "accuracy,",
        "%",
        "300",
        "80.0",
        "±",
        "2.3",
        "70.0",
        "±",
        "2.6",
        "85.0",
    ]


def test_show_takes_an_artifact_and_says_what_is_damaged(run: Path) -> None:
    assert lehr("show", str(run / "artifacts/stage1-1")).stdout.startswith("stage1  checkpoint")
    (run / "artifacts/stage1-1/w").write_bytes(b"1")
    done = lehr("show", str(run), "--verify")
    assert done.returncode == 2 and "file altered" in done.stderr and done.stdout == ""


def test_dropped_lists_every_document_with_its_reason(run: Path) -> None:
    done = lehr("dropped", str(run))
    assert done.stdout.splitlines() == ["plays\ttoo_short\tplays/7", "bible\tduplicate\tbible/1", "plays\tduplicate\tplays/9"]
    assert "3 documents dropped" in done.stderr and "1 plays: too_short" in done.stderr
    assert lehr("dropped", str(run), "--reason", "duplicate", "--source", "plays").stdout.splitlines() == [
        "plays\tduplicate\tplays/9"
    ]
    for option, known in (("--reason", "duplicate, too_short"), ("--source", "bible, plays")):
        refused = lehr("dropped", str(run), option, "contaminated")
        assert refused.returncode == 2 and refused.stdout == "" and refused.stderr.count("\n") == 1
        assert "'contaminated'" in refused.stderr and known in refused.stderr
    first = lehr("dropped", str(run / "artifacts/documents-1"), "--json").stdout.splitlines()[0]
    assert json.loads(first)["detail"] == "12 words"


def test_validate_prints_a_recipe_that_loads_as_the_same(tmp_path: Path) -> None:
    done = lehr("validate", TINY, "--set", "seed=11")
    assert done.returncode == 0, done.stderr
    (tmp_path / "pinned.yaml").write_text(done.stdout)
    assert load_recipe(tmp_path / "pinned.yaml") == load_recipe(ROOT / TINY, ["seed=11"])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", TINY, "--set", "stage1.tokenz=5"], ["stage1.tokenz: unknown key", "Did you mean 'tokens'?"]),
        (["run", TINY, "--set", "stage1.tokens=-5"], ["stage1.tokens", "(given: -5)"]),
        (["run", "none.yaml"], ["none.yaml: no such recipe file"]),
        (["run"], ["Missing argument 'RECIPE'", "See 'lehr run --help'"]),
        (["run", TINY, "--metrics-port", "70000"], ["--metrics-port", "70000"]),
        (["validate", TINY, "--set", "data.sources.bible.path=nope"], ["data.sources.bible.path=", "/nope: no such file"]),
        (["validate", TINY, "--set", "anneals.mix=zz"], ["anneals.mix: there is no mix 'zz'"]),
        (["show", "nowhere"], ["nowhere: there is no such folder"]),
        (["show", "docs"], ["docs: no finished checkpoint here"]),
        (["chat", "docs"], ["docs: no finished checkpoint here"]),
        (["data", "funnel", TINY], ["this is a recipe, not a run", f"`lehr data try {TINY} FILE`"]),
        (["dropped", "docs"], ["docs: no artifact with a dropped.jsonl.gz here"]),
        (["run", TINY, "--out", "gs://b/run"], ["gs:// addresses are not supported", "Give a folder, or s3://BUCKET/PREFIX"]),
        (["run", TINY, "--out", "file:///d"], ["file:// addresses are not supported", "Write /d"]),
        (["run", TINY, "--out", "S3://b/r"], ["S3:// addresses are not supported", "Write s3://b/r"]),
        (["run", TINY, "--out", "s3a://b/r"], ["s3a:// addresses are not supported", "Write s3://b/r"]),
        (["export", "docs", "--out", "s3://b/model"], ["s3://b/model: this must be a path on this machine"]),
        (["export", "gs://b/run", "--out", "model"], ["gs:// addresses are not supported"]),
        (["lookup", "s3n://b/run", "--step", "1"], ["s3n:// addresses are not supported", "Write s3://b/run"]),
        (["import", "hf://x/y", "--out", "model"], ["error: hf://x/y: hf:// addresses are not supported"]),
        (["plan", TINY, "--plot", "s3://b/x.svg"], ["this must be a path on this machine"]),
        (["fly"], ["No such command 'fly'"]),
        (["show", "--loud", "x"], ["No such option '--loud'", "See 'lehr show --help'"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], parts: list[str]) -> None:
    before = sorted((ROOT / "runs").rglob("*")) if (ROOT / "runs").exists() else None
    beside = sorted(ROOT.iterdir())
    done = lehr(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr
    assert (sorted((ROOT / "runs").rglob("*")) if (ROOT / "runs").exists() else None) == before
    assert sorted(ROOT.iterdir()) == beside


@pytest.mark.parametrize(
    ("given", "root", "name"),
    [
        ("s3://b/a//b", "s3://b/a//b", ""),
        ("s3://b/a//b/artifacts/soup-1", "s3://b/a//b", "soup-1"),
        ("s3://b/run/", "s3://b/run", ""),
        ("s3://b/run/artifacts/soup-1/", "s3://b/run", "soup-1"),
    ],
)
def test_an_address_is_the_stores_own_text(
    given: str, root: str, name: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a key that holds two slashes in a row as well: that is another place than with one."""
    asked = list[str]()

    def manifest_index(root: str, names: tuple[str, ...] = ()) -> Path:
        asked.append(root)
        return run

    monkeypatch.setattr("lehr.cli.locate._manifest_index", manifest_index)
    assert main(["show", given]) == 0
    assert set(asked) == {root} and capsys.readouterr().out.startswith("soup  checkpoint")
    assert find(RUN.convert(given, None, None)).uri == f"{root}/artifacts/{name or 'soup-1'}"


def test_damaged_files_are_named(run: Path) -> None:
    (run / "artifacts/scores-soup-1/scores.json").write_text("[{")
    assert "scores-soup-1/scores.json: not JSON" in lehr("show", str(run)).stderr
    path = run / "artifacts/documents-1/dropped.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-9])
    done = lehr("dropped", str(run))
    assert done.returncode == 2 and "dropped.jsonl.gz:3: damaged file" in done.stderr


def test_a_closed_pipe_is_no_error(run: Path) -> None:
    command = f"{sys.executable} -m lehr.cli.main validate {TINY} | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("name: ") and done.stderr in ("", "tiny-olmo2: 28 stages, no mistake; it can be run\n")
