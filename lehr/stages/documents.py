"""Sources to kept documents, with a record of every drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import sha256_file
from lehr.config.base import NonNegative
from lehr.config.data import Data
from lehr.config.deduplication import WHERE
from lehr.config.filters import FilterConfig
from lehr.config.filters.own import OwnFilter
from lehr.config.sources import ExternalSource, FilesSource, Source, SyntheticSource
from lehr.config.text_models import names_file
from lehr.data.document import Document
from lehr.data.filter_models import content, with_models
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec
from lehr.runtime.errors import UserError
from lehr.runtime.plugins import resolve

MODEL = "model-"  # before the name of a model in `data.models`: the name of the stage that trains it
# In `data`: no part of the fingerprint, or described apart.
_OTHERS = ("mixes", "sources", "processes", "pods", "models", "shards")
ROLES = {"models": Role("text_model", many=True, optional=True)}


class DocumentsConfig(StageConfig):
    """`decontaminate` names the evaluation tasks whose texts must not occur in training documents."""

    data: Data
    seed: NonNegative  # of the synthetic sources
    decontaminate: list[str]
    evaluation_seed: NonNegative

    def uses(self) -> list[Callable[..., Any]]:
        own = (each for each in self.data.filters.values() if isinstance(each, OwnFilter))
        return [resolve("filter", each.function, {}) for each in own]

    def described(self) -> dict[str, Any]:
        """Files count by their contents and names below the source's path, not by that path; mixes do not count, nor do other
        uses of the sources."""
        from lehr.evals.own import identity

        said = super().described()
        said["decontaminate"] = [identity(task) for task in self.decontaminate]
        data = {key: value for key, value in said["data"].items() if key not in _OTHERS}
        sources = {name: described_source(name, source) for name, source in self.data.sources.items()}
        filters = [_content_of(name, each) for name, each in self.data.filters.items()]  # in their order, which counts
        copies = {**data["deduplication"], "against": [_signatures(folder) for folder in self.data.deduplication.against]}
        copies = {key: value for key, value in copies.items() if key not in WHERE}
        return {**said, "data": {**data, "sources": sources, "filters": filters, "deduplication": copies}}


def described_source(name: str, source: Source) -> dict[str, Any]:
    """A source's part of the fingerprint. Raises UserError for a missing file, and for a source that must be supplied."""
    if isinstance(source, ExternalSource):
        raise UserError(
            f"source {name!r} must be supplied: {source.supply}",
            where=source.uri,
            remedy=f"put its documents on a disk or into a bucket, and set data.sources.{name}.path to that place",
        )
    described = source.model_dump(mode="json")
    if isinstance(source, FilesSource):
        from lehr.data.readers import fingerprint

        described.pop("path")
        described["sha256"] = fingerprint(source)
    if isinstance(source, SyntheticSource) and source.programs and source.programs.path:
        from lehr.data.synthetic.seeds import digest

        described["programs"]["path"] = digest(source.programs.path)
    return described


def _content_of(name: str, config: FilterConfig) -> dict[str, Any]:
    """A filter's part of the fingerprint, with the content of its files in place of their paths. Raises UserError for a missing
    file."""
    described = config.model_dump(mode="json")
    for key in config.files:
        if key == "model":  # of one that this run trains, the artifact counts
            described[key] = content(described[key]) if names_file(described[key]) else described[key]
        elif described[key]:
            path = Path(described[key])
            path = path / "tokenizer.json" if path.is_dir() else path
            if not path.is_file():
                raise UserError("no such file", where=path, remedy=f"correct data.filters.{name}.{key}")
            described[key] = sha256_file(path)
    return {"name": name, **described}


def _signatures(folder: str) -> list[str]:
    """SHA-256 of each file of an earlier corpus' signatures. Raises UserError if there are none."""
    files = sorted(Path(folder).glob("*.sig"))
    if not files:
        remedy = "name the folder `signatures` of an artifact of documents that was made with data.deduplication.save"
        raise UserError("there are no signatures of an earlier corpus", where=folder, remedy=remedy)
    return [sha256_file(file) for file in files]


def run(config: DocumentsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Filter, deduplicate and decontaminate every source. Raises UserError as `prepare_corpus` does."""
    from lehr.data.preparation.corpus import Watch, prepare_corpus

    watch = Watch(attempt.tracker.note, lambda done, total: attempt.tracker.progress(attempt.name, done, total, {}))
    texts = _texts(config)
    synthetic = _generators(config, texts, attempt.tracker.note)
    funnel = prepare_corpus(_data(config, inputs), texts, synthetic, attempt.out, attempt.scratch, watch)
    return Outcome({"read": sum(f.read for f in funnel.values()), "kept": sum(f.kept for f in funnel.values())})


def run_until(step: str, config: DocumentsConfig, inputs: Inputs, scratch: Path, note: Callable[[str], None]) -> None:
    """What comes before a pass over the files (lehr.data.preparation.shares), so that pods can have shares of it. Raises as
    `run`."""
    from lehr.data.preparation.corpus import Watch, prepare_until

    texts = _texts(config)
    prepare_until(step, _data(config, inputs), texts, _generators(config, texts, note), scratch, Watch(note))


def _data(config: DocumentsConfig, inputs: Inputs) -> Data:
    """With the models of this run in its filters."""
    trained = {artifact.manifest.stage.removeprefix(MODEL): artifact.folder for artifact in inputs.many("models")}
    return config.data.model_copy(update={"filters": with_models(config.data.filters, trained)})


def _texts(config: DocumentsConfig) -> Mapping[str, Sequence[str]]:
    from lehr.evals.contamination import evaluation_texts

    return evaluation_texts(config.decontaminate, config.evaluation_seed, ngram_words=config.data.decontamination.ngram)


def _generators(
    config: DocumentsConfig, texts: Mapping[str, Sequence[str]], note: Callable[[str], None]
) -> Callable[[str, SyntheticSource], Iterator[Document]]:
    from lehr.data.synthetic import documents as synthetic_documents
    from lehr.evals.contamination import question_index

    refuse = question_index(texts)

    def documents(name: str, source: SyntheticSource) -> Iterator[Document]:
        for d in synthetic_documents(source.generator, source, config.seed, refuse, note):
            yield Document(d.id, name, d.text, d.parent)  # a generator knows only its own name, not the source's

    return documents


def run_share(
    step: str, share: tuple[int, int], config: DocumentsConfig, inputs: Inputs, scratch: Path, note: Callable[[str], None]
) -> int:
    """Do `share` (number, of how many) of a pass over the files; returns how many they were. Raises what work on one raises."""
    from lehr.data.preparation.compared import Watch
    from lehr.data.preparation.shares import run_share as run_files

    return run_files(step, *share, _data(config, inputs), scratch, Watch(note))


SPEC = StageSpec("documents", DocumentsConfig, ROLES, "documents", "cpu", "data", run)
