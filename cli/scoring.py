"""Scores of a model that exists: the evaluation stage, with what it needs found around the model."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from lehr.artifacts.artifact import MANIFEST, Artifact, Kind, write_atomic
from lehr.artifacts.folder_store import LocalStore
from lehr.cli.locate import find, of_run, run_folder, whole
from lehr.cli.opened import remember
from lehr.cli.places import Where
from lehr.cli.say import say
from lehr.cli.tracked_scores import Scored
from lehr.cli.trained_on import address, trained_on
from lehr.config import Recipe, load_recipe
from lehr.config.evaluation import Evaluation, TaskPlan
from lehr.config.model import Model
from lehr.config.parallel import Parallel
from lehr.config.tokenizer import Tokenizer as TokenizerConfig
from lehr.evals.own import identity, name_of
from lehr.evals.scores import SCORES, EvaluateConfig
from lehr.evals.suites import NEEDS_CORPUS, NEEDS_PAIRS, check_splits, check_task, examples, only_split
from lehr.pipeline.attempt import StageContext
from lehr.pipeline.local import run_graph
from lehr.pipeline.node import Node
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object
from lehr.runtime.ports import NullTracker
from lehr.stages.import_hf import ImportConfig
from lehr.tasks.lock import held
from lehr.tasks.run_location import local

_PAIRS = "pairs.jsonl"
LIMIT = 200  # examples of a task that the run has not scored
ALL = 1_000_000  # in effect


@dataclass(frozen=True)
class Asked:
    """The command's options; None is for what the model's run says."""

    tasks: list[str]
    limit: int | None
    splits: list[str]  # none: held_out, and of a task that has one split that one
    max_new_tokens: int | None
    seed: int | None
    processes: int | None
    documents: Where | None
    pairs: Where | None


@dataclass(frozen=True)
class _Target:
    """A model, before anything is read of its weights. `artifact` is None for a Hugging Face folder."""

    label: str
    folder: Path
    artifact: Artifact | None
    run: Path | None

    @property
    def lineage(self) -> list[Artifact]:
        return self.artifact.lineage() if self.artifact else []


class _Progress(NullTracker):
    """Tasks done, on standard error."""

    def progress(self, stage: str, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        say(f"{stage}: task {step} of {total_steps}", err=True)

    def stage_finished(self, stage: str, *, uri: str, reused: bool, seconds: float) -> None:
        say(f"{stage}: {'found again' if reused else f'done in {seconds:.1f} s'}", err=True)

    def note(self, text: str) -> None:
        if not text.startswith("found again"):  # which is said of each stage
            say(text, err=True)


def scored(where: Where, asked: Asked, out: Path | None) -> Scored:
    """The records, what they are of, and the file that they were written to. Raises UserError before any work for what cannot
    be scored."""
    if not asked.tasks:
        raise UserError("no task is named", remedy="give --tasks a list, such as prose,arithmetic, or --suite a name")
    for name in asked.tasks:
        check_task(name, "--tasks")
    names = [name_of(task) for task in asked.tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two tasks are called {twice[0]}", where="--tasks", remedy="give one of them another `name`")
    target = _target(where)
    trained, others = trained_on(target.label, target.lineage)
    config = _config(target, asked).model_copy(update={"not_compared": others})
    inputs = {
        "documents": _given(target, "documents", asked.documents, [t for t in asked.tasks if t in NEEDS_CORPUS]),
        "pairs": _given(target, "preferences", asked.pairs, [t for t in asked.tasks if t in NEEDS_PAIRS]),
    }
    _check_context(target, config, inputs)
    _say_unchecked(target, asked.tasks)
    name = f"scores-{target.label}"
    known = {**{role: (address(artifact),) for role, artifact in inputs.items() if artifact}, **trained}
    place = out or (target.run / "evals" if target.run else Path("evals") / target.label)
    with held(place.absolute()):
        checkpoint = address(target.artifact) if target.artifact else "imported"
        nodes = [] if target.artifact else [_imported(target)]
        nodes.append(Node(name, "evaluate", config, {"checkpoint": (checkpoint,), **known}))
        began = time.monotonic()
        done = run_graph(nodes, StageContext(LocalStore(place), _Progress(), fetch=local))
        seconds = time.monotonic() - began
        made = Path(done.refs[name].uri)
        text = (made / SCORES).read_text(encoding="utf-8")
        write_atomic(place / SCORES, text)
        remember(made, place, target.run, asked.tasks)
    model = target.artifact or Artifact.open(done.refs["imported"].uri, verify=False)
    return Scored(
        Artifact.open(made, verify=False), model, target.label, _architecture(target).family, json.loads(text), place / SCORES,
        seconds, name in done.reused,
    )  # fmt: skip


def _target(where: Where) -> _Target:
    if isinstance(where, Path) and (where / "config.json").is_file() and not (where / MANIFEST).is_file():
        label = re.sub(r"[^a-z0-9]+", "-", where.absolute().name.lower()).strip("-")[:50].strip("-")
        return _Target(label or "model", where, None, None)
    artifact = whole(find(where).expect("checkpoint"), "documents", "preferences")
    run = None if "://" in artifact.uri else run_folder(artifact)
    return _Target(artifact.manifest.stage, artifact.folder, artifact, run)


def _recipe(target: _Target) -> Recipe | None:
    """The recipe of the model's run, where it is there and of this version."""
    try:
        return load_recipe(target.run / "recipe.yaml") if target.run else None
    except UserError:
        return None


def _config(target: _Target, asked: Asked) -> EvaluateConfig:
    recipe = _recipe(target)
    default = recipe.evaluation.max_new_tokens if recipe else Evaluation.model_fields["max_new_tokens"].default
    lengths = [a.manifest.config["sequence_length"] for a in target.lineage if "sequence_length" in a.manifest.config]
    window = recipe.window_tokens if recipe else next(iter(lengths), 0)
    splits = cast(list[Literal["dev", "held_out"]], list(dict.fromkeys(asked.splits)))

    def splits_of(task: str) -> list[Literal["dev", "held_out"]]:
        only = only_split(task)
        if only and splits:
            check_splits(task, splits, "--split")
        return [only] if only else splits or ["held_out"]

    own = {plan.task: plan.limit for plan in recipe.evaluation.tasks} if recipe else {}
    limits = {name: asked.limit or own.get(name, LIMIT) for name in asked.tasks}
    plans = [TaskPlan(task=name, limit=limit, splits=splits_of(name)) for name, limit in limits.items()]
    seed = asked.seed if asked.seed is not None else recipe.seed if recipe else 0
    return EvaluateConfig(
        model=target.label, tasks=plans, max_new_tokens=asked.max_new_tokens or default, window_tokens=window,
        sample_families=[], seed=seed, parallel=_parallel(recipe, asked.processes),
    )  # fmt: skip


def _parallel(recipe: Recipe | None, processes: int | None) -> Parallel:
    """The run's ranks, so that sampled answers are the run's, where this machine can hold them."""
    cores = os.cpu_count() or 1
    if processes is None and recipe and recipe.parallel.processes <= cores:
        return recipe.parallel
    count = processes or 1
    return Parallel(processes=count, threads=max(1, cores // count))


def _given(target: _Target, kind: Kind, place: Where | None, tasks: list[str]) -> Artifact | None:
    """What these tasks read: of the place that was named, else of the model's ancestors, else of its run."""
    if not tasks:
        return None
    if place:
        return whole(find(place, kind).expect(kind))
    made = [a for a in target.lineage if a.manifest.kind == kind]
    if not made and target.run and any(a.manifest.kind == kind for a in of_run(target.run)):
        return find(target.run, kind)
    if not made:
        option = "--documents" if kind == "documents" else "--pairs"
        what = f"task {tasks[0]} needs {kind}, and nothing that {target.folder} was made from has any"
        raise UserError(what, remedy=f"name a run that has them with {option}, or leave the task out")
    return made[-1]


def _check_context(target: _Target, config: EvaluateConfig, inputs: Mapping[str, Artifact | None]) -> None:
    """Raises UserError for a task without examples, and where an answer leaves too little of the context to its prompt."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.evals.budget import check_answers, shortened
    from lehr.evals.hard_requests import check_choices, check_windows, remarkable
    from lehr.evals.held_out import unscored

    context = _architecture(target).max_seq_len
    own = TokenizerConfig(path=str(target.folder))
    tokenizer = Tokenizer.load(target.folder) if target.artifact else Tokenizer.given(own)
    corpus = inputs["documents"].folder if inputs["documents"] else None
    pairs = inputs["pairs"].path(_PAIRS) if inputs["pairs"] else None
    for plan in config.tasks:
        for split in plan.splits:
            found = unscored(examples(plan.task, split, plan.limit, config.seed, corpus, pairs), "lengths")
            check_choices(name_of(plan.task), found)
            check_windows(name_of(plan.task), found, context)
            check_answers(plan.task, found, tokenizer, context, config.max_new_tokens)
            if cut := shortened(found, tokenizer, context):
                what = f"{cut} of {len(found)} {split} questions lose their beginning: the context is {context} tokens"
                say(f"{name_of(plan.task)}: {what}", err=True)
            for what in remarkable(found):
                say(f"{name_of(plan.task)}, {split}: {what}", err=True)


def _architecture(target: _Target) -> Model:
    if target.artifact:
        from lehr.train.checkpointing.checkpoint import load_architecture

        return load_architecture(target.artifact)
    from lehr.interop.hf_config import model_from_hf

    path = target.folder / "config.json"
    try:
        return model_from_hf(read_object(path, "fetch the model again"))
    except UserError as error:
        raise UserError(error.what, where=error.where or path, remedy=error.remedy) from None


def _imported(target: _Target) -> Node:
    config = ImportConfig(folder=str(target.folder.absolute()), model=_architecture(target))
    return Node("imported", "import_hf", config, {})


def _say_unchecked(target: _Target, tasks: list[str]) -> None:
    """A word where training documents were never compared with a task's texts: its scores may be of what was seen."""
    lists = [a.manifest.config.get("decontaminate") for a in target.lineage if a.manifest.kind == "documents"]
    known = {identity(task): name_of(task) for task in tasks}
    unchecked = [known[of] for of in known if any(checked is not None and of not in checked for checked in lists)]
    if unchecked:
        say(f"the training documents were not compared with the texts of: {', '.join(unchecked)}", err=True)
