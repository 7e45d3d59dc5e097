"""The life of a stage: found again, resumed, complete or absent; and the soup."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from lehr.stage import Job, Outcome, Surroundings, run_stage
from safetensors.torch import load_file, save_file

from lehr.artifact import Artifact, ArtifactRef
from lehr.code import code_version, reachable
from lehr.data.tokenizer import Tokenizer
from lehr.errors import InfraError, Preempted, UserError
from lehr.soup import average, check_ingredients
from lehr.store import LocalStore


class Work:
    """Writes a file, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, job: Job) -> Outcome:
        self.calls += 1
        (job.out / "file").write_text("content")
        return Outcome("tokenizer", {"n": 1})


def _run(root: Path, work: Work, config: dict[str, object] | None = None, parents: list[Artifact] | None = None) -> ArtifactRef:
    around = Surroundings(LocalStore(root))
    return run_stage("s", work, module="lehr.seeds", config=config or {}, parents=parents or [], around=around)


def test_a_finished_stage_is_found_again_and_a_changed_one_is_not(tmp_path: Path) -> None:
    work = Work()
    first = _run(tmp_path, work)
    assert _run(tmp_path, work) == first
    assert work.calls == 1
    other = _run(tmp_path, work, {"lr": 2})
    assert work.calls == 2
    child = _run(tmp_path, work, parents=[Artifact.open(first.uri)])
    assert work.calls == 3
    assert len({first.uri, other.uri, child.uri}) == 3


def test_an_interrupted_stage_leaves_its_scratch_and_no_artifact(tmp_path: Path) -> None:
    def dies(job: Job) -> Outcome:
        (job.out / "file").write_text("half")
        (job.scratch / "resume").write_text("kept")
        raise InfraError("power")

    around = Surroundings(LocalStore(tmp_path))
    with pytest.raises(InfraError):
        run_stage("s", dies, module="lehr.seeds", config={}, parents=[], around=around)
    assert not (tmp_path / "artifacts").exists()
    seen: list[str] = []

    def goes_on(job: Job) -> Outcome:
        seen.append((job.scratch / "resume").read_text())
        assert not (job.out / "file").exists()
        return Outcome("tokenizer")

    run_stage("s", goes_on, module="lehr.seeds", config={}, parents=[], around=around)
    assert seen == ["kept"]
    assert not list((tmp_path / "work").iterdir())


def test_a_newer_attempt_has_a_folder_of_its_own_and_the_older_one_ends(tmp_path: Path) -> None:
    around = Surroundings(LocalStore(tmp_path))

    def newer(job: Job, older: Job) -> Outcome:
        (job.out / "file").write_text("new")
        with pytest.raises(FileNotFoundError):
            (older.out / "stray").write_text("old")
        return Outcome("tokenizer")

    refs = []

    def overtaken(job: Job) -> Outcome:
        work = lambda newest: newer(newest, job)
        refs.append(run_stage("s", work, module="lehr.seeds", config={}, parents=[], around=around))
        (job.out / "file").write_text("old")
        return Outcome("tokenizer")

    with pytest.raises(Preempted, match="attempt 1 is over, attempt 2 began"):
        run_stage("s", overtaken, module="lehr.seeds", config={}, parents=[], around=around)
    assert (Path(refs[0].uri) / "file").read_text() == "new"
    assert list(Artifact.open(refs[0].uri).manifest.files) == ["file"]


@pytest.mark.parametrize("damage", ["truncate", "alter", "remove"])
def test_a_damaged_artifact_is_named(tmp_path: Path, damage: str) -> None:
    path = Path(_run(tmp_path, Work()).uri) / "file"
    if damage == "remove":
        path.unlink()
    else:
        path.write_text("conten" if damage == "truncate" else "cOntent")
    with pytest.raises(UserError) as caught:
        _run(tmp_path, Work())
    assert str(path) in str(caught.value)
    assert "run the same command again" in str(caught.value)


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "permission denied"), (errno.EROFS, "read-only")]
)
def test_the_disks_troubles_are_the_users_to_mend(tmp_path: Path, number: int, says: str) -> None:
    def fails(job: Job) -> Outcome:
        raise OSError(number, "no", str(job.out / "file"))

    with pytest.raises(UserError, match=says):
        run_stage("s", fails, module="lehr.seeds", config={}, parents=[], around=Surroundings(LocalStore(tmp_path)))


def test_the_code_of_a_stage_is_what_it_can_reach() -> None:
    training = reachable("lehr.stages.pretrain")
    assert {"lehr.optim.adamw", "lehr.train.loop", "lehr.model.layers", "lehr.data.loader"} <= set(training)
    assert not {"lehr.report.page", "lehr.stages.publish", "lehr.post.grpo", "lehr.errors"} & set(training)
    assert "lehr.post.grpo" in reachable("lehr.stages.post")
    assert code_version("lehr.stages.pretrain") != code_version("lehr.stages.post")


def _ingredient(root: Path, name: str, value: float, parent: str = "p", width: int = 4, tokenizer: str = "t") -> Artifact:
    folder = root / name
    folder.mkdir()
    save_file({"w": torch.full((3,), value, dtype=torch.bfloat16)}, folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps({"architecture": {"d_model": width}, "tokenizer": tokenizer, "chat": False}))
    from lehr.artifact import Cost

    ref = ArtifactRef(uri="x", digest=parent, kind="checkpoint", stage="ramp")
    return Artifact.seal(
        folder, kind="checkpoint", stage=name, fingerprint="f", parents=[ref], config={}, code="c", meta={}, cost=Cost()
    )


def test_a_soup_is_the_fp32_mean(tmp_path: Path) -> None:
    values = [1.0, 1.0078125, 1.0]  # neighbours in bf16: their sum in bf16 would lose the middle one
    average([_ingredient(tmp_path, f"a{i}", v) for i, v in enumerate(values)], tmp_path / "soup")
    soup = load_file(tmp_path / "soup")
    assert soup["w"].dtype == torch.bfloat16
    assert torch.equal(soup["w"], torch.full((3,), sum(values) / 3).to(torch.bfloat16))


def test_a_soup_in_blocks_equals_one_in_memory(tmp_path: Path) -> None:
    """Tensors longer than a block and of several dtypes; a truncated ingredient and one of other shapes are refused."""
    artifacts, states = [], []
    for i in range(3):
        generator = torch.Generator().manual_seed(i)
        state = {
            "b.long": torch.randn(700, 1000, generator=generator),
            "a.half": torch.randn(999, 333, generator=generator).bfloat16(),
            "c.empty": torch.zeros(0, 4),
            "c.one": torch.randn(1, generator=generator),
        }
        artifacts.append(_ingredient(tmp_path, f"i{i}", 0.0))
        save_file(state, artifacts[-1].path("model.safetensors"))
        states.append(state)
    average(artifacts, tmp_path / "soup")
    soup = load_file(tmp_path / "soup")
    for name, mean in soup.items():
        total = states[0][name].float() + states[1][name].float()
        assert torch.equal(mean, ((total + states[2][name].float()) / 3).to(mean.dtype)), name
    save_file({"b.long": torch.zeros(3)}, artifacts[1].path("model.safetensors"))
    with pytest.raises(UserError, match="not the first"):
        average(artifacts, tmp_path / "soup")
    artifacts[1].path("model.safetensors").write_bytes(artifacts[0].path("model.safetensors").read_bytes()[:-4])
    with pytest.raises(UserError, match="truncated"):
        average(artifacts, tmp_path / "soup")


@pytest.mark.parametrize(
    ("other", "says"), [({"parent": "q"}, "parents"), ({"width": 8}, "architecture"), ({"tokenizer": "u"}, "tokenizer")]
)
def test_ingredients_must_belong_together(tmp_path: Path, other: dict[str, object], says: str) -> None:
    first = _ingredient(tmp_path, "a", 1.0)
    with pytest.raises(UserError, match=says):
        check_ingredients([first, _ingredient(tmp_path, "b", 1.0, **other)])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least two"):
        check_ingredients([first])


def test_tokenizers_hash_is_not_its_path(tmp_path: Path) -> None:
    trained = Tokenizer.train(["a b c"], 300)
    for name in ("x", "y"):
        trained.save(tmp_path / name)
    assert Tokenizer.load(tmp_path / "x").hash == Tokenizer.load(tmp_path / "y").hash
