"""What ranks of one machine open and share: sockets on loopback, plain values, memory wherever there is some."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from lehr.distributed.ranks import Ranks, run_ranks
from lehr.distributed.serialization import decoded, encoded
from lehr.runtime.errors import Bug, UserError
from tests.train.listeners import listeners_on_rank


def test_ranks_of_one_machine_listen_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever interface the environment names for other jobs."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    found = run_ranks(2, 1, listeners_on_rank)
    assert found, "a store that nobody listens for is no store"
    assert not [address for address in found if address != "127.0.0.1"]


def said(ranks: Ranks, name: str) -> list[str | None]:
    return ranks.gather(os.environ.get(name))


def test_ranks_have_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that of when the server which starts them began: credentials may be set between two stages."""
    monkeypatch.setenv("AWS_PROFILE", "first")
    assert run_ranks(2, 1, said, "AWS_PROFILE") == ["first", "first"]
    monkeypatch.setenv("AWS_PROFILE", "second")
    assert run_ranks(2, 1, said, "AWS_PROFILE") == ["second", "second"]
    monkeypatch.delenv("AWS_PROFILE")
    assert run_ranks(2, 1, said, "AWS_PROFILE") == [None, None]


class Code:
    """What unpickling would run."""


def gathers_code(ranks: Ranks) -> str:
    try:
        ranks.gather(Code())
    except Bug as error:
        return str(error)
    return "sent"


def test_what_ranks_gather_is_data_and_never_code() -> None:
    assert "cannot be sent between ranks" in run_ranks(2, 1, gathers_code)


def test_plain_values_arrive_as_they_were() -> None:
    values: Any = [None, True, 3, -0.0, float("inf"), "é\n", (1, [2]), {"tuple": 1, "x": {}}, []]
    assert decoded(encoded(values)) == values
    tensors = [torch.tensor(7), torch.empty(0, 3), torch.randn(2, 3).T, torch.randn(3).bfloat16(), torch.tensor([True])]
    for found, given in zip(decoded(encoded(tensors)), tensors, strict=True):
        assert found.dtype == given.dtype and found.shape == given.shape and torch.equal(found, given)


def sums_where(ranks: Ranks, scarce: str) -> float:
    """A large sum on a machine where `scarce` has no space, or memory without a name does not exist."""
    if ranks.rank == 0:
        fill, made = os.posix_fallocate, os.memfd_create

        def filled(number: int, at: int, size: int) -> None:
            where = os.readlink(f"/proc/self/fd/{number}")
            if scarce == "everything" or where.startswith(scarce):
                raise OSError(errno.ENOSPC, "No space left on device", where)
            fill(number, at, size)

        def refused(*_: Any) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        os.posix_fallocate = filled
        os.memfd_create = made if scarce == "/dev/shm" else refused
        try:
            return _summed(ranks)
        finally:
            os.posix_fallocate, os.memfd_create = fill, made
    return _summed(ranks)


def _summed(ranks: Ranks) -> float:
    x = torch.full((70_000,), float(ranks.rank + 1))
    ranks.sum_(x)
    assert bool((x == x[0]).all())
    return float(x[0])


@pytest.mark.parametrize("scarce", ["/dev/shm", "nothing"])
def test_sums_need_no_space_in_dev_shm(scarce: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(Path("/dev/shm").iterdir())
    assert run_ranks(2, 1, sums_where, scarce) == 3.0
    assert set(Path("/dev/shm").iterdir()) <= before and not list(tmp_path.glob("lehr-sum*"))


def test_memory_that_cannot_be_had_at_all_is_named_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match=r"could not allocate .* MiB of shared memory \(.*No space left.*set TMPDIR"):
        run_ranks(2, 1, sums_where, "everything")
    assert not list(tmp_path.glob("lehr-sum*"))
