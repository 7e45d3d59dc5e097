"""Our own artifacts, damaged or made by somebody hostile."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.bounds import tried
from tests.fuzz.inputs import dumped, mutated_bytes, mutated_value, safetensors_joined, safetensors_split, texts
from tests.fuzz.made import Files, run_folder, vouched, write
from tests.fuzz.watch import place, run

AGAINST_ITSELF = ("RUN", "RUN/artifacts/..", "--stage", "stage1", "--stage", "stage1")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("show", "RUN"), ("show", "RUN", "--verify"), ("show", "RUN/artifacts/stage1-1"), ("list", "RUN"),
    ("list", "RUN", "--json"), ("dropped", "RUN"), ("dropped", "RUN", "--json"), ("explain", "RUN", "stage1"),
    ("explain", "RUN", "stage1", "--against", "RUN/artifacts/shards-1"), ("lookup", "RUN", "--step", "0"),
    ("compare", "RUN", "RUN/artifacts/..", "--json"), ("compare", *AGAINST_ITSELF, "--out", "OUT/page.html"),
    ("lookup", "RUN", "--document", "web:d0", "--json"), ("chat", "RUN", "--max-new-tokens", "2"),
    ("export", "RUN", "--out", "OUT/m.gguf", "--format", "gguf"),
)  # fmt: skip
READS_A_MODEL = COMMANDS[-4:]
STAGE1 = "artifacts/stage1-1"


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """The file after slips, or, where it holds JSON, after changes of what it says."""
    raw = run_folder()[name]
    slips = mutated_bytes(raw)
    if name.endswith(".json"):
        return slips | mutated_value(json.loads(raw)).map(dumped)
    if name.endswith(".jsonl.gz"):
        rows = [json.loads(line) for line in gzip.decompress(raw).splitlines()]
        lines = mutated_value(rows).map(lambda found: "\n".join(map(json.dumps, found if isinstance(found, list) else [found])))
        return slips | lines.map(lambda text: gzip.compress(text.encode()))
    if name.endswith(".safetensors"):
        header, body = safetensors_split(raw)
        return slips | mutated_value(header).map(lambda changed: safetensors_joined(changed, body))
    if name.endswith(".tokens"):
        length = int.from_bytes(raw[8:16], "little")
        headers = mutated_value(json.loads(raw[16 : 16 + length])).map(lambda header: dumped(header).ljust(length))
        return slips | headers.map(lambda text: raw[:8] + len(text).to_bytes(8, "little") + text + raw[16 + length :])
    return slips


def _tried(files: Files, command: tuple[str, ...], stdin: bytes = b"hello") -> None:
    with place() as here:
        write(files, here.given)
        run(here, *(word.replace("RUN", str(here.given)).replace("OUT", str(here.out)) for word in command), stdin=stdin)


@st.composite
def _damaged(draw: st.DrawFn) -> Files:
    """One or two files of the run, of which one may be another's content."""
    files = Files(run_folder())
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2, unique=True)):
        other = draw(st.sampled_from(sorted(files)))
        files[name] = files[other] if draw(st.integers(0, 9)) == 0 else draw(mutated(name))
    return files


@tried(15)
@given(_damaged(), st.sampled_from(COMMANDS))
def test_a_damaged_run_is_shown_or_refused(files: Files, command: tuple[str, ...]) -> None:
    _tried(files, command)


@st.composite
def _hostile(draw: st.DrawFn) -> Files:
    files = Files(run_folder())
    own = [n for n in files if n.startswith(f"{STAGE1}/") and not n.endswith("artifact.json")]
    for name in draw(st.lists(st.sampled_from(own), min_size=1, max_size=2, unique=True)):
        files[name] = draw(mutated(name))
    manifest: dict[str, Any] = json.loads(files[f"{STAGE1}/artifact.json"])
    if draw(st.booleans()):
        changed = draw(mutated_value(manifest["config"]))
        manifest["config"] = changed if isinstance(changed, dict) else {}
    if draw(st.booleans()):
        manifest["stage"] = draw(texts.filter(lambda text: text.isprintable()))
    files[f"{STAGE1}/artifact.json"] = json.dumps(manifest).encode()
    return vouched(files, STAGE1)


@tried(10)
@given(_hostile(), st.sampled_from((*READS_A_MODEL, COMMANDS[1])), st.binary(max_size=40))
def test_a_model_that_its_manifest_vouches_for_is_read_or_refused(files: Files, command: tuple[str, ...], asked: bytes) -> None:
    _tried(files, command, asked)
