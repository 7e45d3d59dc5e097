"""A store that cannot serve is refused with one line that names its owner, before anything is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lehr.artifacts.object_store.capability_probe import require_conditions
from lehr.infra.storage import S3Objects
from lehr.runtime.errors import InfraError, LehrError, UserError
from tests.storage import s3_server

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tests" / "e2e" / "recipe.yaml"


def test_a_store_that_ignores_conditions_is_refused_at_the_start(
    keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path))
    with s3_server.careless() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        command = [sys.executable, "-m", "lehr.cli.main", "run", str(RECIPE), "--out", "s3://lehr-tests/bad"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: s3://lehr-tests/bad: this store writes although If-None-Match forbids it")
    assert not (tmp_path / "stores").exists()


def _failure(where: str = "s3://lehr-tests/x") -> LehrError:
    with pytest.raises(LehrError) as caught:
        require_conditions(S3Objects(where))
    assert "\n" not in str(caught.value)
    assert s3_server.SECRET not in str(caught.value)
    return caught.value


def test_whose_turn_it_is_when_the_store_refuses(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = _failure("s3://no-such-bucket/x")
    assert isinstance(missing, UserError) and "there is no bucket no-such-bucket" in str(missing)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = _failure()
    assert isinstance(refused, UserError) and "refuses these credentials" in str(refused)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    without = _failure()
    assert isinstance(without, UserError) and "no credentials were found" in str(without)


def test_whose_turn_it_is_when_the_store_is_away(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_server.free_port()}")
    away = _failure()
    assert isinstance(away, InfraError) and "cannot be reached" in str(away)
    with s3_server.careless(failing=True) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        failing = _failure()
    assert isinstance(failing, InfraError) and "503" in str(failing)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no address")
    mistaken = _failure()
    assert isinstance(mistaken, UserError) and "AWS_ENDPOINT_URL" in str(mistaken)


@pytest.mark.parametrize("root", ["s3://", "s3:///x"])
def test_an_address_without_a_bucket_is_a_mistake_of_its_writer(root: str) -> None:
    with pytest.raises(UserError, match="has no bucket"):
        S3Objects(root)


def test_a_run_in_a_folder_loads_no_boto3() -> None:
    location = "from lehr.tasks.run_location import RunLocation as P"
    code = f"import sys; {location}; P('x').check(); P('x').store(); print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
