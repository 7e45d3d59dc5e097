"""What `lehr submit` refuses before it asks a cluster. tests/cluster has the rest (test_submit.py, test_flyte_submit.py)."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lehr.cli.backends import Given, KubernetesBackend
from lehr.cli.submit import _asked, _refuse_out, submit
from lehr.cli.submitted import cancel, logs, open_, status
from lehr.config import load_recipe
from lehr.infra.pod.pod_request import PodRequest
from lehr.runtime.errors import InfraError, UserError

RECIPE = Path(__file__).resolve().parents[1] / "e2e" / "recipe.yaml"
GIVEN = Given("s3://b/x", "lehr:1", "", "", 8, None, None, "nvidia.com/gpu")


def kubernetes() -> KubernetesBackend:
    made = KubernetesBackend.__new__(KubernetesBackend)  # without a cluster
    made.given, made.namespace = GIVEN, "training"
    return made


def test_the_drivers_name_is_refused_without_flyte() -> None:
    with pytest.raises(UserError, match="named 'driver'"):
        kubernetes().check({"driver": PodRequest()})


def test_gpus_are_those_of_the_recipe() -> None:
    found = _asked(load_recipe(RECIPE, ["compute.ranked={gpus: 2}", "compute.stages={sft: {gpus: 0}}"]))
    assert [found[name].gpus for name in ("stage1", "sft", "documents", "report")] == [2, 0, 0, 0]


@pytest.mark.parametrize("out", ["runs/x", "/mnt/shared", "gs://bucket/x", "file:///mnt/x"])
def test_a_place_that_pods_have_not_is_refused(out: str) -> None:
    with pytest.raises(UserError):
        _refuse_out(out)
    _refuse_out("s3://bucket/x")


@pytest.mark.parametrize("command", [status, logs, cancel, submit])
def test_an_option_of_the_other_backend_is_refused(command: click.Command) -> None:
    more = [str(RECIPE), "--out", "s3://b/x"] if command is submit else ["run"]
    done = CliRunner().invoke(command, [*more, "-n", "training"])
    assert isinstance(done.exception, UserError) and "PROJECT-DOMAIN" in str(done.exception)


def test_a_flyte_that_is_not_named_or_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")
    for name in ("FLYTE_PLATFORM_URL", "FLYTECTL_CONFIG", "FLYTE_PLATFORM_INSECURE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(open_, ["run", "--print"])
    assert isinstance(done.exception, UserError) and "no Flyte is named" in str(done.exception)
    monkeypatch.setenv("FLYTE_PLATFORM_URL", "127.0.0.1:9")
    monkeypatch.setenv("FLYTE_PLATFORM_INSECURE", "true")
    done = CliRunner().invoke(open_, ["run", "--print"])
    assert isinstance(done.exception, InfraError) and "127.0.0.1:9: Flyte does not answer" in str(done.exception)


def test_without_flyte_there_is_nothing_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_BACKEND", "kubernetes")
    done = CliRunner().invoke(open_, ["run", "--print"])
    assert isinstance(done.exception, UserError) and "no console. `lehr status run` shows" in str(done.exception), (
        done.exception
    )


def test_an_executions_name_is_the_runs_and_short() -> None:
    pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")
    from lehr.tasks.flyte_remote import NAME_CHARACTERS, execution_name

    def named(recipe: str, number: int = 1) -> str:
        return execution_name(recipe, "1a2b3c4d5e6f", number)

    assert named("tiny-olmo2") == "tiny-olmo-1a2b3c4d-1" and named("7B") == "r-1a2b3c4d-1"
    assert all(len(named("a" * 40, number)) <= NAME_CHARACTERS for number in (1, 99, 999))
    assert len({named("tiny-olmo2", number) for number in (1, 2, 99)}) == 3


def test_what_is_registered_is_named_by_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is registered once; another image, or a task that was changed, never takes its place."""
    pytest.importorskip("flytekit", reason="flytekit installs on Python 3.12 at most")
    from lehr.tasks.flyte_remote import _settings, _version
    from lehr.workflows.run import run, submitted

    versions = [_version(submitted, _settings(image, "lehr", "development")) for image in ("a/b:1", "a/b:1", "a/b:2")]
    assert versions[0] == versions[1] != versions[2] and _version(run, _settings("a/b:1", "lehr", "development")) != versions[0]
    digest = f"a/b@sha256:{'0' * 64}"
    assert _settings(digest, "p", "d").image_config.default_image.full == digest
    for image in ("a b", "a/b", ""):
        with pytest.raises(UserError, match="is not the name of an image"):
            _settings(image, "p", "d")
