"""A secret in each environment variable that Lehr or its libraries read, and in nothing that a run leaves behind."""

from __future__ import annotations

import ast
import gzip
import json
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import helpers
import pytest

from tests.graph.source import ROOMS, in_rooms, sources

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

# What stands in these can be no secret: a number, a process among others, the name of an object. Another shape is refused.
SHAPED = {
    "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE", "LEHR_TASK_RANKS",
    "LEHR_TASK_SECRET", "LEHR_GPU_RESOURCE", "FLYTE_INTERNAL_EXECUTION_ID",
    "LEHR_METRICS_ADDRESS", "LEHR_METRICS_PORT", "LEHR_METRICS_LAST_SCRAPE_SECONDS",
}  # fmt: skip
WRITTEN = {"LEHR_USER"}  # who opened held-out examples is written down on purpose
PLACES = {
    "LEHR_CACHE",
    "XDG_CACHE_HOME",
    "TMPDIR",
    "LEHR_TERMINATION_LOG",
    "LEHR_TERMINATION_SOCKET",
    "LEHR_PROGRESS_FILE",
}  # they name what is made
READ_BY_LIBRARIES = {
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY",
}  # fmt: skip
SERIALISE = """
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from lehr.tasks.stages import accelerator, cpu, ranked
images = ImageConfig(default_image=Image("default", "lehr", "1"))
settings = SerializationSettings(image_config=images, project="p", domain="d", version="v")
for task in (cpu, accelerator, ranked):
    pod = task.get_k8s_pod(settings)
    print(pod.pod_spec, pod.metadata, task.get_custom(settings), task.get_config(settings))
"""


def read_by_lehr() -> set[str]:
    """Names in `os.environ[NAME]`, `os.environ.get(NAME)`, `NAME in os.environ` and in our readers of numbers."""
    constants = dict(pair for path in in_rooms(*ROOMS) for node in sources()[path].body for pair in _assigned(node))
    found = set[str]()
    for path in in_rooms(*ROOMS):
        for node in ast.walk(sources()[path]):
            found |= {name for key in _keys(node) if (name := _text(key, constants))}
    return found


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names of a module and what is assigned to each."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
                yield from ((name.id, value) for name, value in pairs if isinstance(name, ast.Name))


def _keys(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv", "whole", "amount"):
        yield node.args[0]
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "os.environ":
        yield node.slice
    elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
        yield node.left


def _text(key: ast.expr, constants: dict[str, ast.expr]) -> str:
    while isinstance(key, ast.Name) and key.id in constants:
        key = constants[key.id]
    return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""


def planted(folder: Path) -> dict[str, str]:
    """A secret of its own for each variable. The places are real ones."""
    names = sorted((read_by_lehr() | READ_BY_LIBRARIES) - SHAPED - WRITTEN - {"MLFLOW_TRACKING_URI"})
    secrets = {name: f"planted-{zlib.crc32(name.encode()):08x}-{number}" for number, name in enumerate(names)}
    return {name: str(folder / secret) if name in PLACES else secret for name, secret in secrets.items()}


def _texts(place: Path) -> Iterator[tuple[Path, bytes]]:
    """Name and content of every file below `place`, unpacked where it is packed, a database as its rows as well."""
    for path in sorted(p for p in place.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        yield path, str(path.relative_to(place)).encode() + b"\n" + raw
        if raw[:2] == b"\x1f\x8b":
            yield path, gzip.decompress(raw)
        if raw[:15] == b"SQLite format 3":
            yield path, "\n".join(sqlite3.connect(path).iterdump()).encode()


def leaks(secrets: dict[str, str], said: dict[str, bytes], *places: Path) -> list[str]:
    """Where a secret stands: its variable and the place."""
    everything = [*said.items(), *((str(path), raw) for place in places for path, raw in _texts(place))]
    wanted = {name: Path(value).name.encode() for name, value in secrets.items()}
    return [f"{name} in {where}" for where, raw in everything for name, secret in wanted.items() if secret in raw]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path: sockets of ranks lie in it, whose names have 107 bytes."""
    with TemporaryDirectory(prefix="s-") as place:
        yield Path(place)


@pytest.fixture
def volume() -> Iterator[Path]:
    """A folder beside /tmp: with every variable set, the run believes to be a Flyte pod, which refuses `--out` below /tmp."""
    with TemporaryDirectory(prefix="lehr-", dir="/var/tmp") as place:
        yield Path(place)


def test_a_secret_in_the_environment_is_found_nowhere(tmp_path: Path, temporary: Path, volume: Path) -> None:
    """Under the C locale: a whole run needs no other, and its report is in UTF-8 all the same."""
    out = volume / "run"
    secrets = {**planted(tmp_path / "places"), "TMPDIR": str(temporary)}
    assert {"LEHR_CACHE", "LEHR_DEBUG", "TERM", "AWS_SECRET_ACCESS_KEY", "CUDA_VISIBLE_DEVICES"} <= secrets.keys()
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
    command = helpers.command("run", helpers.RECIPE, "--out", out)
    hidden = {name: secret for name, secret in secrets.items() if name != "TMPDIR"}
    kept = {name: value for name, value in helpers.environment().items() if not name.startswith(("MLFLOW", "LEHR"))}
    # With every variable set it is a pod: its own file MLflow would not get, its metrics are served on all addresses.
    pod = {"MLFLOW_TRACKING_URI": f"sqlite:///{out}/mlflow.db", "LEHR_METRICS_ADDRESS": "127.0.0.1", "LEHR_METRICS_PORT": "0"}
    environment = {**kept, **plain, **secrets, **pod, "LEHR_METRICS_LAST_SCRAPE_SECONDS": "0"}
    first = subprocess.run(command, cwd=helpers.ROOT, env=environment, capture_output=True, check=False)
    assert first.returncode == 0, first.stderr[-3000:]
    assert (out / "mlflow.db").is_file() and "±" in (out / "report.html").read_text(encoding="utf-8")

    address = {"MLFLOW_TRACKING_URI": "http://somebody:planted-in-an-address@127.0.0.1:9"}
    again = subprocess.run(command, cwd=helpers.ROOT, env={**environment, **address}, capture_output=True, check=False)
    assert again.returncode == 0 and b"127.0.0.1:9" in again.stdout + again.stderr, again.stderr[-3000:]
    bad = helpers.command("run", helpers.RECIPE, "--out", out, "--set", "seed=x")
    refused = subprocess.run(bad, cwd=helpers.ROOT, env={**environment, **address}, capture_output=True, check=False)
    assert refused.returncode == 2
    said = {f"{name} {number}": stream for number, done in enumerate((first, again, refused))
            for name, stream in (("stdout", done.stdout), ("stderr", done.stderr))}  # fmt: skip
    hidden["MLFLOW_TRACKING_URI"] = "planted-in-an-address"
    assert not leaks(hidden, said, out, temporary)


@pytest.mark.skipif(find_spec("flytekit") is None, reason="flytekit installs on Python 3.12 at most")
def test_what_is_registered_holds_no_secret(tmp_path: Path) -> None:
    secrets = planted(tmp_path)
    environment = {**helpers.environment(), **secrets}
    command = [sys.executable, "-c", SERIALISE]
    done = subprocess.run(command, cwd=helpers.ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and b"containers" in done.stdout, done.stderr[-3000:]
    assert not leaks(secrets, {"the specification": done.stdout, "stderr": done.stderr})


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """The test's own eyes: in a name, in a packed file, in a database."""
    (tmp_path / "planted-a").write_text("")
    (tmp_path / "b.gz").write_bytes(gzip.compress(json.dumps({"k": "planted-b"}).encode()))
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("create table t (v)")
        database.execute("insert into t values ('planted-c')")
    database.close()
    found = leaks({"A": "planted-a", "B": "planted-b", "C": "planted-c", "D": "planted-d"}, {"stdout": b""}, tmp_path)
    assert {line.split()[0] for line in found} == {"A", "B", "C"}
