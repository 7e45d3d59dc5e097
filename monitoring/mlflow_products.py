"""What a run's stages read and made, for MLflow: data artifacts as datasets and inputs, checkpoints and the export as logged
models, the published model as a version of a registered model. Called only from the tracker's thread.

Only a model to be registered is copied: datasets and logged models refer to the run's artifacts. Each call can be repeated,
as what MLflow already has is found by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import LOGS, MANIFEST
from lehr.evals.suites import NEEDS_CORPUS, NEEDS_PAIRS
from lehr.monitoring.mlflow_errors import EXISTS, LACKS, code_of
from lehr.monitoring.mlflow_keys import PARAM_CHARACTERS, fitted, flatten, key_of, tags_of
from lehr.runtime.json_files import read_object

Manifest = dict[str, Any]  # an artifact's, the content of artifact.json
DATASETS = {"documents": "data", "shards": "training", "preferences": "training"}  # kind: its context in the parent run
MODELS = ("checkpoint", "export")
URI, DIGEST = "artifact.uri", "artifact.digest"
ALIAS = "lehr.alias."  # tag of a version that got that alias
_CONTEXT = "mlflow.data.context"
_VERSIONS = "mlflow.modelVersions"  # the tag in which MLflow's pages look up the versions made of a logged model
_DATASET_DIGEST_CHARACTERS = 36


class Products:
    """The datasets and models of one experiment, over an MlflowClient."""

    def __init__(self, client: Any, experiment_id: str, parent_id: str) -> None:
        self._client, self._experiment, self._parent = client, experiment_id, parent_id
        self._made: dict[str, tuple[str, Manifest]] = {}  # by stage: address and manifest
        self._models: dict[str, str] = {}  # by digest: MLflow's model ID
        self._scored_with: dict[str, tuple[str, str]] = {}  # by kind: name and digest of the data of the last scores

    def made(self, stage: str, uri: str, manifest: Manifest) -> None:
        """Remember a stage's artifact, whether or not it is recorded in MLflow now."""
        if manifest:
            self._made[stage] = uri, manifest
            if manifest.get("kind") == "scores":
                parents = [parent for parent in manifest["parents"] if parent["kind"] in DATASETS]
                self._scored_with = {parent["kind"]: (parent["stage"], _short(parent["digest"])) for parent in parents}

    def link(self, stage: str, run_id: str, folder: Path | None, step: int) -> None:
        """Record in MLflow what the stage read and made. `folder` is this machine's copy of the artifact, with its parents'
        copies beside it; `step` is the last step. Raises MLflow's errors."""
        if stage not in self._made:
            return
        uri, manifest = self._made[stage]
        kind = manifest["kind"]
        context = {"checkpoint": "training", "scores": "evaluation"}.get(kind, "data")
        data = [parent for parent in manifest["parents"] if parent["kind"] in DATASETS]
        self._read(run_id, [(parent, _manifest_of(parent, folder), context) for parent in data])
        own = [({**manifest, "uri": uri}, manifest, DATASETS[kind])] if kind in DATASETS else []
        self._read(self._parent, [*((p, _manifest_of(p, folder), DATASETS[p["kind"]]) for p in data), *own])
        self._started_from(run_id, [parent for parent in manifest["parents"] if parent["kind"] in MODELS])
        if kind in MODELS:
            self._output(run_id, self._model(stage, run_id, step), step)
        if kind == "export":  # the product of the run as a whole
            self._output(self._parent, self._models[manifest["digest"]], 0)

    def model_of(self, stage: str) -> str | None:
        """The ID of the stage's logged model; None if MLflow does not have it, or does not support logged models."""
        digest = self._made[stage][1]["digest"] if stage in self._made else ""
        try:
            return self._find(digest) if digest else None
        except Exception as error:
            if code_of(error) not in LACKS:
                raise
            return None

    def scored_on(self, task: str) -> tuple[str | None, str | None]:
        """Name and digest of the dataset of this task's last scores; None for the library's own tasks."""
        kind = "documents" if task in NEEDS_CORPUS else "preferences" if task in NEEDS_PAIRS else ""
        return self._scored_with.get(kind, (None, None))

    def register(self, name: str, stage: str, run_id: str, folder: Path, alias: str = "") -> None:
        """Make the files in `folder`, the model that `stage` exported, a new version of the registered model `name`, unless a
        version with its digest exists, and give that version the alias. Raises MLflow's errors."""
        digest = self._made[stage][1]["digest"]
        found = self._client.search_model_versions(f"name = '{name}' and tags.`{DIGEST}` = '{digest}'", max_results=1)
        version = found[0] if found else self._make_version(name, stage, run_id, folder)
        self._link_version(self._model(stage, run_id), {"name": name, "version": str(version.version)})
        # Once for each version: an alias that somebody moved since is not moved back by the same run.
        if alias and f"{ALIAS}{alias}" not in version.tags:
            self._client.set_registered_model_alias(name, alias, str(version.version))
            self._client.set_model_version_tag(name, str(version.version), f"{ALIAS}{alias}", "true")

    def _make_version(self, name: str, stage: str, run_id: str, folder: Path) -> Any:
        model_id = self._model(stage, run_id)
        location = self._client.get_logged_model(model_id).artifact_location
        self._client.log_model_artifacts(model_id, str(folder))
        self._make_registered(name)
        tags = tags_of({DIGEST: self._made[stage][1]["digest"], URI: self._made[stage][0]})
        return self._client.create_model_version(name, location, run_id, tags, model_id=model_id)

    def _link_version(self, model_id: str, version: dict[str, str]) -> None:
        known = json.loads(self._client.get_logged_model(model_id).tags.get(_VERSIONS, "[]"))
        # A server adds its own entry, with the version as a number; the store of a file does not.
        if version not in [{key: str(value) for key, value in one.items()} for one in known]:
            self._client.set_logged_model_tags(model_id, {_VERSIONS: json.dumps([*known, version])})

    # -- datasets

    def _read(self, run_id: str, data: Sequence[tuple[Manifest, Manifest, str]]) -> None:
        """`data`: reference (stage, digest, uri), manifest if it is on this machine, and context of each dataset."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(who["stage"], _short(who["digest"]), *_source(who["uri"]), profile=_profile(manifest)),
                [InputTag(_CONTEXT, context)],
            )
            for who, manifest, context in data
        ]
        if inputs:
            self._client.log_inputs(run_id, datasets=inputs)

    # -- models

    def _started_from(self, run_id: str, parents: Sequence[Manifest]) -> None:
        from mlflow.entities import LoggedModelInput

        known = {model.model_id for model in self._client.get_run(run_id).inputs.model_inputs} if parents else set()
        found = [model for parent in parents if (model := self._find(parent["digest"])) and model not in known]
        if found:
            self._client.log_inputs(run_id, models=[LoggedModelInput(model) for model in dict.fromkeys(found)])

    def _output(self, run_id: str, model_id: str, step: int) -> None:
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(run_id).outputs
        if model_id not in {model.model_id for model in (outputs.model_outputs if outputs else ())}:
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step)])

    def _find(self, digest: str) -> str | None:
        """The ID of the logged model with that content, from memory or from MLflow."""
        if digest not in self._models:
            found = self._client.search_logged_models([self._experiment], f"tags.`{DIGEST}` = '{digest}'", max_results=1)
            if not found:
                return None
            self._models[digest] = found[0].model_id
        return self._models[digest]

    def _model(self, stage: str, run_id: str, step: int = 0) -> str:
        """The ID of the stage's logged model, created if it does not exist, and marked as ready."""
        from mlflow.entities import LoggedModelStatus

        uri, manifest = self._made[stage]
        digest, kind = manifest["digest"], manifest["kind"]
        if (known := self._find(digest)) is None:
            tags = tags_of({URI: uri, DIGEST: digest, "lehr.stage": stage, **_ancestry(manifest, step)})
            flat = flatten(manifest["config"]).items()
            params = {key_of(key): fitted(value, PARAM_CHARACTERS) for key, value in flat if value}
            made = self._client.create_logged_model(self._experiment, stage, run_id, tags, params, model_type=kind)
            known = self._models[digest] = str(made.model_id)
        if self._client.get_logged_model(known).status != LoggedModelStatus.READY:
            self._client.finalize_logged_model(known, LoggedModelStatus.READY)
        return known

    def _make_registered(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except Exception as error:
            if code_of(error) not in EXISTS:
                raise


def _ancestry(manifest: Manifest, step: int) -> dict[str, str]:
    """Tags to search models by: what made it, of what, and how long it was trained."""
    meta = manifest["meta"]
    tags = {"lehr.stage_kind": manifest.get("stage_kind", ""), "lehr.step": str(step or "")}
    tags["lehr.tokens"] = str(meta["tokens"]) if isinstance(meta.get("tokens"), int) else ""
    tags["lehr.ingredients"] = " ".join(map(str, meta.get("ingredients", ())))  # of a soup or merge
    for parent in manifest["parents"]:
        if parent["kind"] in MODELS:  # of a merge of several runs two may have one name
            key = f"lehr.parent.{parent['stage']}"
            tags[f"{key}.{parent['digest'][:12]}" if key in tags else key] = parent["digest"]
    return tags


def read_manifest(folder: Path | None) -> Manifest:
    """The artifact's manifest if the artifact is on this machine, otherwise empty."""
    if folder is None or not (folder / MANIFEST).is_file():
        return {}
    return read_object(folder / MANIFEST, "run the same command again: it makes the artifact anew")


def _manifest_of(parent: Manifest, folder: Path | None) -> Manifest:
    """A parent's own manifest: at its address, or beside the child's artifact."""
    uri = str(parent["uri"])
    for place in ([Path(uri)] if "://" not in uri else []) + ([folder.parent / Path(uri).name] if folder else []):
        if (found := read_manifest(place)) and found.get("digest") == parent["digest"]:
            return found
    return {}


def _short(digest: str) -> str:
    return digest[:_DATASET_DIGEST_CHARACTERS]


def _source(uri: str) -> tuple[str, str]:
    """Type and JSON of a dataset's source, in the form that `mlflow.data.get_source` reads."""
    scheme, address, _ = uri.partition("://")
    return (scheme, json.dumps({"uri": uri})) if address else ("local", json.dumps({"uri": Path(uri).absolute().as_uri()}))


def _profile(manifest: Manifest) -> str | None:
    """The artifact's counts (documents, tokens by source, pairs) and size, as JSON."""
    if not manifest:
        return None
    counts = {key: value for key, value in manifest["meta"].items() if isinstance(value, int | float | dict)}
    if isinstance(tokens := counts.get("tokens"), dict):
        counts["tokens_in_all"] = sum(tokens.values())
    size = sum(file["bytes"] for name, file in manifest["files"].items() if not name.startswith(f"{LOGS}/"))
    return json.dumps({**counts, "bytes": size})
