"""A stage's code is what its work can reach, as syntax: what changes no result repeats nothing, what may change one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lehr.artifacts.fingerprint import reachable
from lehr.pipeline.registry import STAGES

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = """
import json, sys
from lehr.artifacts import fingerprint, version_cache
from lehr.pipeline.registry import STAGES
sys.dont_write_bytecode = False  # from here on what is worked out is kept, as in use; modules are not, which are edited
for _ in sys.stdin:
    for function in [*vars(fingerprint).values(), *vars(version_cache).values()]:
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    found = {kind: fingerprint.code_version(spec.run) for kind, spec in STAGES.items() if spec.run}
    print(json.dumps(found), flush=True)
"""
NOTHING = """
from lehr.pipeline.spec import StageSpec
from lehr.stages.soup import SoupConfig, run

SPEC = StageSpec("nothing", SoupConfig, {}, "checkpoint", "cpu", "soup", run)
"""


def test_a_stage_reaches_what_it_needs_and_nothing_else() -> None:
    training = reachable(STAGES["pretrain"].run)  # type: ignore[arg-type]
    assert {"lehr.optim.adamw", "lehr.train.loop", "lehr.model.layers", "lehr.data.loader"} <= set(training)
    foreign = {"lehr.config.recipe", "lehr.config.parts", "lehr.config.evaluation", "lehr.post.verifiers", "lehr.post.grpo"}
    foreign |= {"lehr.report.page", "lehr.runtime.errors", "lehr.runtime.metrics", "lehr.pipeline.graph", "lehr.planning.work"}
    foreign |= {"lehr.evals.suites"}
    assert not foreign & set(training)
    for kind, spec in STAGES.items():  # no stage can look at what its configuration does not say
        assert spec.run is None or "lehr.config.recipe" not in reachable(spec.run), kind
    assert "lehr.post.verifiers" in reachable(STAGES["grpo"].run)  # type: ignore[arg-type]
    assert "lehr.post.verifiers" not in reachable(STAGES["sft"].run)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, tuple[str, str]]], set[str]]]:
    """Which kinds of stage have another code version once files of a copy of the library are edited: path -> (old, new)."""
    copy = tmp_path_factory.mktemp("code")
    shutil.copytree(ROOT / "lehr", copy / "lehr", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))

    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}

    def process() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", VERSIONS]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(command, cwd=copy, env=environment, text=True, **pipes)

    def of(asked: subprocess.Popen[str]) -> dict[str, str]:
        assert asked.stdin is not None and asked.stdout is not None
        asked.stdin.write("\n")
        asked.stdin.flush()
        found: dict[str, str] = json.loads(asked.stdout.readline())
        return found

    running = process()  # it reads the files anew each time; what it has loaded is older
    before = of(running)

    def changed(edits: dict[str, tuple[str, str]]) -> set[str]:
        kept = {path: (copy / path).read_text() if (copy / path).exists() else None for path in edits}
        for path, (old, new) in edits.items():
            text = kept[path] or ""
            assert old in text, f"{path} does not say {old!r}"
            (copy / path).write_text(text.replace(old, new, 1) if old else text + new)
        try:
            if "lehr/pipeline/registry.py" in edits:  # which is loaded, not read
                with process() as fresh:
                    after = of(fresh)
            else:
                after = of(running)
        finally:
            for path, text in kept.items():
                (copy / path).unlink() if text is None else (copy / path).write_text(text)
        return {kind for kind in before | after if before.get(kind) != after.get(kind)}

    yield changed
    with running:
        running.stdin.close()  # type: ignore[union-attr]


TRAINING = {"pretrain", "midtrain", "sft", "dpo", "grpo"}


@pytest.mark.parametrize(
    ("edits", "repeated"),
    [
        ({"lehr/optim/adamw.py": ('"""AdamW on flat', '"""Adam on flat')}, set()),  # a docstring
        ({"lehr/optim/adamw.py": ("", "\n# a remark\n")}, set()),
        # how it is planned
        ({"lehr/stages/pretrain.py": ('"""Its tokens and steps are exact, not estimated."""', "print(node)")}, set()),
        ({"lehr/config/parts.py": ('    description: str = ""\n', '    description: str = ""\n    mood: str = ""\n')}, set()),
        ({"lehr/runtime/metrics.py": ("", "\nOTHER = 1\n")}, set()),
        (
            {
                "lehr/stages/nothing.py": ("", NOTHING),
                "lehr/pipeline/registry.py": ("", '\nfrom lehr.stages import nothing\nSTAGES["nothing"] = nothing.SPEC\n'),
            },
            {"nothing"},
        ),
        (
            {"lehr/post/verifiers/texts.py": ("", "\n\ndef _new(args, text):\n    return True\n")},
            {"grpo", "ppo", "brain", "prompts", "best_of_n", "preferences", "evaluate"},
        ),
        ({"lehr/optim/adamw.py": ("self.updates = 0", "self.updates = 1")}, TRAINING),
        ({"lehr/stages/soup.py": ('"weights": "equal"', '"weights": "same"')}, {"soup"}),
        ({"lehr/evals/estimate.py": ("(n - 1)", "n")}, {"pretrain", "midtrain", "evaluate"}),
        ({"lehr/stages/sft.py": ("    steps: NonNegative\n", "    steps: NonNegative = 3\n")}, {"sft"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_only_what_may_change_a_result_counts(
    versions: Callable[[dict[str, tuple[str, str]]], set[str]], edits: dict[str, tuple[str, str]], repeated: set[str]
) -> None:
    found = versions(edits)
    assert found >= repeated and not (found - repeated) & TRAINING, found
    if not repeated:
        assert not found


@pytest.mark.long
def test_versions_are_kept_until_a_module_changes(tmp_path: Path) -> None:
    """Worked out once; and anew where the file is damaged, is of other code, or cannot be written."""
    package = tmp_path / "lehr"
    shutil.copytree(ROOT / "lehr", package, ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import json, time
from lehr.artifacts import fingerprint
from lehr.stages.soup import SPEC
def forbidden(module): raise SystemExit("worked out")
if {forbid}: fingerprint._tree = forbidden
print(fingerprint.code_version(SPEC.run))
"""

    def version(*, forbid: bool = False) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", code.format(forbid=forbid)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    first = version()
    (kept,) = package.glob("__pycache__/versions.*.json")
    assert len(first) == 64 and version(forbid=True) == first and kept.stat().st_mode & 0o022 == 0
    for damaged in (b"\xff{", b"[]", b'{"code": "0", "versions": {}}'):
        kept.write_bytes(damaged)
        assert version(forbid=True) == "worked out" and version() == first and version(forbid=True) == first
    report = package / "report" / "svg.py"  # the soup does not reach it, but who knows that without looking
    report.write_text(report.read_text() + "\nMORE = 1\n")
    assert version(forbid=True) == "worked out" and version() == first
    kept.unlink()
    kept.mkdir()
    assert version() == first == version()
