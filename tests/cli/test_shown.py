"""`lehr show`, `lookup` and `dropped`: whole lines in files, verdicts, and arguments checked before torch is loaded."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lehr.artifacts.artifact import Artifact
from lehr.cli.main import main
from tests.cli.conftest import ROOT, Again, lehr


def test_a_file_gets_whole_lines_and_verify_a_verdict(trained: Path) -> None:
    done = lehr("show", str(trained), "--verify", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "…" not in done.stdout and max(map(len, lines)) > 70
    manifests = [json.loads(p.read_text()) for p in trained.glob("artifacts/*/artifact.json")]
    made_of = [m for m in manifests if m["kind"] not in ("scores", "export")]
    files = [f for m in made_of for f in m["files"].values()]
    size = sum(f["bytes"] for f in files)
    assert lines[-1] == f"verified: {len(files)} files of {len(made_of)} artifacts, {size:,} bytes, are as they were sealed"
    total = next(line.split() for line in lines if line.startswith("sum"))
    assert total[1] == "8,192"  # what stage 1 was trained on; the shards' tokens are no training


def test_bits_per_byte_stand_beside_those_of_n_grams(trained: Path) -> None:
    rows = [line for line in lehr("show", str(trained)).stdout.splitlines() if line.startswith("prose")]
    assert len(rows) == 4 and "bits per byte" in rows[0] and "xz on the same tokens" in rows[3]
    assert "token bigram on the same tokens" in rows[1] and "token trigram on the same tokens" in rows[2]


def test_what_is_gone_is_not_called_verified(run: Path) -> None:
    for path in (run / "artifacts/documents-1").iterdir():
        path.unlink()
    said = lehr("show", str(run), "--verify").stdout.splitlines()[-1]
    assert said.startswith("verified: 4 files of 4 artifacts") and said.endswith("not verified, no longer there: documents")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Give either --step or --document"),
        (["--document", "bible"], "--document 'bible' is not SOURCE:ID"),
        (["--stage", "stage9", "--step", "1"], "no finished 'stage9' here"),
    ],
)
def test_lookup_answers_bad_arguments_without_torch(arguments: list[str], says: str, trained: Path) -> None:
    program = "import sys; from lehr.cli.main import main; c = main(sys.argv[1:]); print('torch' in sys.modules); sys.exit(c)"
    done = subprocess.run(
        [sys.executable, "-c", program, "lookup", str(trained), *arguments], cwd=ROOT, env=os.environ | {"COLUMNS": "80"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == "False\n" and says in done.stderr and done.stderr.count("\n") == 1


def test_lookup_goes_both_ways(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lookup", str(trained), "--step", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)[0]["documents"][0]
    assert main(["lookup", str(trained), "--document", f"bible:{document}"]) == 0
    assert f"bible:{document}: seen in" in capsys.readouterr().out


def test_names_of_documents_are_text_and_reasons_are_known(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["dropped", str(run), "--reason", "contaminated"]) == 2
    assert "Reasons are: duplicate, too_short" in capsys.readouterr().err
    assert main(["dropped", str(run), "--source", "play"]) == 2
    path = run / "artifacts/documents-1/dropped.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"id": "\x1b]0;x\x07[/b]\n", "source": "s", "reason": "r"}).encode()))
    assert main(["dropped", str(run)]) == 0
    assert capsys.readouterr().out == "s\tr\t␛]0;x␇[/b]\\n\n"


def test_after_a_b_a_everything_is_of_a_and_b_keeps_its_own_scores(
    trained: Path, again: Again, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's furthest model is the one that was published last, and a model's scores are of its weights, not of its name."""
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    a = json.loads((out / "scores.json").read_text())
    assert again(out, "stage1.optim.lr=3e-2") == 0
    b = json.loads((out / "scores.json").read_text())
    assert again(out) == 0
    assert json.loads((out / "scores.json").read_text()) == a != b

    def shown(place: Path) -> str:
        capsys.readouterr()
        assert main(["show", str(place)]) == 0
        return capsys.readouterr().out

    def prose(records: list[dict[str, Any]]) -> str:
        return next(f"{r['value']:.3f}" for r in records if (r["task"], r["split"]) == ("prose", "held_out"))

    models = [Artifact.open(p.parent, verify=False) for p in out.glob("artifacts/stage1-*/artifact.json")]
    lineage = {row["digest"] for row in json.loads((out / "lineage.json").read_text())}
    [ours], [other] = ([m for m in models if (m.manifest.digest in lineage) is published] for published in (True, False))
    assert prose(a) != prose(b)
    assert prose(a) in shown(out) and prose(a) in shown(ours.folder) and prose(b) not in shown(ours.folder)
    assert prose(b) in shown(other.folder) and prose(a) not in shown(other.folder)
    assert main(["export", str(out), "--out", str(tmp_path / "hf")]) == 0
    assert (tmp_path / "hf/model.safetensors").read_bytes() == (out / "model/model.safetensors").read_bytes()
