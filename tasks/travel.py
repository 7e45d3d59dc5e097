"""Files of this machine that a recipe names, for pods that have none of them: small ones go into the store beside the run.

The pinned recipe names them relative to itself, so that whoever brings the run's folder to a machine has them at their place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import sha256_file, sha256_text
from lehr.config import Recipe
from lehr.config.names import is_address
from lehr.config.sources import FilesSource
from lehr.data.readers import Damage, inputs
from lehr.evals import own
from lehr.post.sets.files import files_of
from lehr.runtime.errors import UserError, from_os_error
from lehr.tasks.run_location import RunLocation

INPUTS = "inputs"
MOST_BYTES = 8 << 20  # in all


def packed(recipe: Recipe, in_image: Sequence[str] = ()) -> tuple[Recipe, dict[str, Path]]:
    """`recipe` as pods can read it, and the files to put into the store, by their names below the run's root. What lies under a
    path of `in_image` is in the image too, at the same path.

    Raises UserError for files that are too large in all, and for a model on this machine.
    """
    files: dict[str, Path] = {}
    values = recipe.model_dump(mode="json")
    for section in _named(values):
        if not _there(section["path"], in_image):
            section["path"] = f"../{_add(section, files)}"
    for holder, key in _own_tasks(values):
        if not _there(holder[key], in_image):
            holder[key] = f"../{_add_task(holder[key], files)}"
    _refuse_models(values, in_image)
    _refuse_large(files)
    return (Recipe.model_validate(values) if files else recipe), files


def _named(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The sections that name a file as their `path`."""
    for source in ((values.get("data") or {}).get("sources") or {}).values():
        if source["kind"] in ("files", "jsonl"):
            yield source
    yield from ((values.get("chat") or {}).get("sources") or {}).values()
    if (tokenizer := values.get("tokenizer")) and tokenizer.get("path"):
        yield tokenizer


def _own_tasks(values: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Where the paths of tasks of one's own stand: a section or a list, and the key there."""
    found: list[tuple[Any, Any]] = [(plan, "task") for plan in (values.get("evaluation") or {}).get("tasks", [])]
    decontamination = (values.get("data") or {}).get("decontamination") or {}
    for names in (decontamination.get("tasks"), (values.get("chat") or {}).get("decontaminate_tasks")):
        found += [(names, number) for number in range(len(names or ()))]
    return [(holder, key) for holder, key in found if own.is_own(holder[key])]


def _add_task(task: str, files: dict[str, Path]) -> str:
    """The name that a task's file gets; what it is made of keeps its place beside it. Raises UserError for data that it does
    not name relative to itself: it would be looked for where it lies here."""
    made = own.loaded(task)
    inside = [file.resolve() for file in made.files]
    folder = Path(os.path.commonpath([file.parent for file in inside]))
    if folder == Path(folder.anchor) or own.names_elsewhere(task):
        what = "this task names a file by its whole path, which no pod has"
        raise UserError(what, where=task, remedy="name it relative to the task's file, or put both into the image (--in-image)")
    _refuse_large({str(file): file for file in inside})
    names = [file.relative_to(folder).as_posix() for file in inside]
    digest = sha256_text(" ".join(f"{name} {sha256_file(file)}" for name, file in zip(names, inside, strict=True)))[:16]
    files |= {f"{INPUTS}/{digest}/{name}": file for name, file in zip(names, inside, strict=True)}
    return f"{INPUTS}/{digest}/{Path(task).resolve().relative_to(folder).as_posix()}"


def _there(path: str, in_image: Sequence[str]) -> bool:
    return "://" in path or any(Path(path).is_relative_to(Path(folder).resolve()) for folder in in_image)


def _add(section: dict[str, Any], files: dict[str, Path]) -> str:
    """The name below the run's root that the path of `section` gets: its content's, then its own."""
    path = Path(section["path"])
    try:
        if path.is_dir() or has_magic(str(path)):
            folder = _folder_of(path)
            inside = _inside(section, path)
            _refuse_large({str(file): file for file in inside})  # before they are read for their name
            digest = sha256_text(" ".join(f"{file.relative_to(folder)} {sha256_file(file)}" for file in inside))[:16]
            files |= {f"{INPUTS}/{digest}/{file.relative_to(folder).as_posix()}": file for file in inside}
            return "/".join((INPUTS, digest, *path.relative_to(folder).parts))
        _refuse_large({str(path): path})
        name = f"{INPUTS}/{sha256_file(path)[:16]}/{path.name}"
    except OSError as error:
        raise from_os_error(error, path) from error
    files[name] = path
    return name


def _inside(section: dict[str, Any], path: Path) -> list[Path]:
    """The files that are read of a folder or a pattern."""
    if section.get("kind") in ("files", "jsonl"):
        source = FilesSource.model_validate(section)
        found = inputs(source, Damage(stops=source.damaged == "stop"))
        if any(one.repository for one in found):  # which pods cannot tell: .git stays here
            section |= {"format": "code", "text_type": "code"}
        return [one.local() for one in found]
    if "split" in section:
        return [file.local() for file in files_of(section["path"], section["split"])]
    return sorted(file for file in path.iterdir() if file.is_file())


def _folder_of(path: Path) -> Path:
    """The folder below which all files of `path`, a folder or a pattern, lie."""
    while has_magic(str(path)):
        path = path.parent
    return path


def _refuse_large(files: dict[str, Path]) -> None:
    total = sum(path.stat().st_size for path in files.values())
    if total > MOST_BYTES:
        largest = max(files.values(), key=lambda path: path.stat().st_size)
        raise UserError(
            f"its files are on this machine only, {total / 1e6:.0f} MB; up to {MOST_BYTES / 1e6:.0f} MB are sent to pods",
            where=largest,
            remedy="put them into the image at the same path, and say so with --in-image FOLDER",
        )


def _refuse_models(values: dict[str, Any], in_image: Sequence[str]) -> None:
    base = values.get("base") or {}
    ours = "train it with --out s3://BUCKET/PREFIX, and name it by its address there"
    theirs = "put it into the image at the same path, and say so with --in-image FOLDER"
    models = [("base.checkpoint", base.get("checkpoint"), ours), ("base.huggingface", base.get("huggingface"), theirs)]
    for step in values.get("posttraining", []):
        if step["kind"] == "merge":  # its models are steps, or paths
            named = [("parents", name) for name in step["parents"]] + [("base", step["base"])]
        else:
            named = [(key, step.get(key) or "") for key in ("value", "against")]
            named += [("reward_models", name) for name in step.get("reward_models") or ()]
            pairs = step.get("pairs") or {}
            named += [("pairs.pool", name) for name in pairs.get("pool", ())] + [("pairs.weaker", pairs.get("weaker", ""))]
        models += [(f"posttraining.{step['name']}.{key}", name, ours) for key, name in named if is_address(name)]
    for key, place, remedy in models:
        if place and not _there(place, in_image):
            raise UserError("this model is on this machine only", where=f"{key}={place}", remedy=remedy)


def send(files: dict[str, Path], root: str) -> None:
    """Put them into the store at `root`. Raises UserError and InfraError as the store does."""
    place = RunLocation(root)
    for name, path in files.items():
        target = place.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise from_os_error(error, path) from error
    place.share(sorted(files))


def portable(recipe: Recipe, folder: Path) -> Recipe:
    """`recipe` with the files that came with the run in `folder` named as `folder`/recipe.yaml may name them."""
    values = recipe.model_dump(mode="json")
    found = [section for section in _named(values) if Path(section["path"]).is_relative_to(folder / INPUTS)]
    for section in found:
        section["path"] = Path(section["path"]).relative_to(folder).as_posix()
    tasks = [(h, key) for h, key in _own_tasks(values) if Path(h[key]).is_relative_to(folder / INPUTS)]
    for holder, key in tasks:
        holder[key] = Path(holder[key]).relative_to(folder).as_posix()
    return Recipe.model_validate(values) if found or tasks else recipe


def fetch(root: str, recipe: Recipe) -> None:
    """Bring the files that `recipe`, as `opened` reads it, names below its run's folder. A stage says which is
    missing."""
    place = RunLocation(root)
    home = place.folder / INPUTS
    for section in _named(recipe.model_dump(mode="json")):
        path = Path(section["path"])
        if path.is_relative_to(home):
            folder = _folder_of(path)
            names = place.names(folder.relative_to(place.folder).as_posix()) if not path.is_file() else []
            for name in names:
                place.brought(name)
    for holder, key in _own_tasks(recipe.model_dump(mode="json")):
        path = Path(holder[key])
        if path.is_relative_to(home):
            for name in place.names(f"{INPUTS}/{path.relative_to(home).parts[0]}"):
                place.brought(name)
