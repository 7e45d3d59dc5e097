"""What is counted of a store's requests, with a real server: each once, with how it ended, its retries and its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lehr.infra.storage import S3Objects, counting
from lehr.runtime.errors import InfraError, UserError
from lehr.runtime.ports import Conflict
from tests.storage import s3_server

COUNTS = (counting.REQUESTS, counting.RETRIES, counting.SECONDS, counting.BYTES)


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    for count in COUNTS:
        count.clear()


def _requests() -> dict[tuple[str, ...], float]:
    return {key: seen.total for key, seen in counting.REQUESTS.read().items()}


@pytest.mark.long
def test_requests_and_bytes_by_kind(root: str, tmp_path: Path) -> None:
    store = S3Objects(root)
    version = store.put("record", "1", None)
    with pytest.raises(Conflict):
        store.put("record", "2", None)
    store.put("record", "2", version)
    assert store.get("record") is not None and store.get("nothing") is None
    (tmp_path / "weights").write_bytes(b"x" * 5000)
    store.upload({"weights": tmp_path / "weights"})
    store.download({"weights": tmp_path / "again"})
    with pytest.raises(UserError):
        store.download({"gone": tmp_path / "gone"})
    store.keys("")
    store.delete(["weights", "record"])
    found = _requests()
    assert found["put", "ok"] == 3 and found["put", "refused"] == 1
    assert found["get", "ok"] == 2 and found["get", "refused"] == 1
    assert found["list", "ok"] == 1 and found["delete", "ok"] >= 1 and found["head", "refused"] == 1
    assert {key: seen.total for key, seen in counting.BYTES.read().items()} == {("sent",): 5000, ("received",): 5000}
    seconds = counting.SECONDS.read()
    assert seconds["put",].count == 4 and 0 < seconds["put",].total < 60
    assert not counting.RETRIES.read()


def test_a_store_that_fails_is_asked_again_and_each_time_counts(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    with s3_server.careless(failing=True) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(InfraError):
            S3Objects("s3://lehr-tests/x").get("record")
    assert _requests() == {("get", "failed"): 1}
    assert counting.RETRIES.read()["get",].total == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_server.free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(InfraError):
        S3Objects("s3://lehr-tests/x").put("record", "1", None)
    assert _requests()["put", "unreachable"] == 1
