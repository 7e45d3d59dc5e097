"""Any text in the environment variables that Lehr reads."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from lehr.artifacts.object_store.cache import folder_of
from lehr.infra.pod import gate
from lehr.infra.pod.probes.bandwidth import floors_of
from lehr.infra.storage import S3Objects
from lehr.runtime.environment import amount, whole
from lehr.runtime.rank_environment import check_world, follows, hosts, launched
from lehr.tasks.requests import RANKS, counts
from tests.fuzz.bounds import tried
from tests.fuzz.inputs import HOSTILE
from tests.fuzz.watch import bounded, place, refused_or_done, run

RECIPE = Path(__file__).resolve().parents[1] / "e2e/recipe.yaml"
numbers = st.sampled_from(("0", "1", "2", "-1", "1.5", "1e9", "1e400", "nan", "inf", "٣", "0x10", "9" * 5000, " 1 ", "1_000"))
plain = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
words = numbers | st.sampled_from([text for text in HOSTILE if "\0" not in text]) | plain
amounts = st.lists(st.tuples(st.sampled_from(("nodes", "ranks", "x")), words), max_size=3).map(
    lambda pairs: ",".join(f"{name}={value}" for name, value in pairs)
)
LAUNCHED = ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "RANK", "GROUP_WORLD_SIZE", "GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
STORE = ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE", "AWS_CA_BUNDLE",
         "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")  # fmt: skip
OF_A_COMMAND = ("LEHR_CACHE", "XDG_CACHE_HOME", "LEHR_COMMAND", "TERM", "COLUMNS", "LINES", "NO_COLOR", "HOME",
                "LEHR_DEBUG_SYNC", "MLFLOW_TRACKING_URI", "CUDA_VISIBLE_DEVICES", "LC_ALL", "LANG", *STORE)  # fmt: skip


def some_of(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(names), words, min_size=1, max_size=4)


@tried(20)
@given(words | amounts, st.integers(1, 8), some_of(LAUNCHED))
def test_any_number_of_ranks_is_taken_or_refused(text: str, processes: int, launcher: dict[str, str]) -> None:
    refused_or_done(lambda: counts(text))
    with patch.dict(os.environ, {RANKS: text, **launcher}):
        for ask in (launched, follows, hosts, lambda: check_world(processes)):
            refused_or_done(ask)


@tried(20)
@given(words)
def test_any_number_is_one_or_refused(text: str) -> None:
    names = ("LEHR_GATE_SECONDS", "LEHR_FLOOR_H2D", "LEHR_EXPECTED_GPUS", "LEHR_VERDICT")
    with patch.dict(os.environ, dict.fromkeys(names, text)):
        refused_or_done(lambda: floors_of("H100"))
        before = signal.getsignal(signal.SIGTERM)
        try:
            assert gate.main() in (0, 2)
        finally:
            signal.signal(signal.SIGTERM, before)  # the gate takes it for itself
        for found in (refused_or_done(lambda: whole(names[0], 3)), refused_or_done(lambda: amount(names[0], 3.0))):
            assert not isinstance(found, int | float) or 0 <= found < 1e15


@tried(8)
@given(some_of(STORE))
def test_any_setting_of_a_store_connects_or_is_refused(settings: dict[str, str]) -> None:
    """Nothing is asked of the store here; whether it answers is another matter."""
    with place() as here, patch.dict(os.environ, {"AWS_EC2_METADATA_DISABLED": "true", **settings}), bounded(here):
        refused_or_done(lambda: S3Objects("s3://bucket/run")._client)


@tried(10)
@given(some_of(OF_A_COMMAND), st.sampled_from((("validate", "RECIPE"), ("list", "OUT"), ("show", "OUT"), ("plan", "RECIPE"))))
def test_no_setting_harms_a_command(settings: dict[str, str], command: tuple[str, ...]) -> None:
    with place() as here:
        run(here, *(w.replace("RECIPE", str(RECIPE)).replace("OUT", str(here.out)) for w in command), environment=settings)


@tried(10)
@given(some_of(("LEHR_CACHE", "XDG_CACHE_HOME", "HOME")))
def test_a_cache_is_found_or_refused(settings: dict[str, str]) -> None:
    with place() as here:
        before = Path.cwd()
        os.chdir(here.out)  # a relative path is one below here
        try:
            with patch.dict(os.environ, {name: value.lstrip("/") for name, value in settings.items()}):
                refused_or_done(lambda: folder_of("s3://b/r"))
        finally:
            os.chdir(before)
