"""Sources to kept documents, with a record of every drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lehr.config.base import NonNegative
from lehr.config.data import Data
from lehr.config.sources import ExternalSource, FilesSource, Source, SyntheticSource
from lehr.data.document import Document
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, StageConfig, StageSpec
from lehr.runtime.errors import UserError
from lehr.runtime.plugins import resolve


class DocumentsConfig(StageConfig):
    """`decontaminate` names the evaluation tasks whose texts must not occur in training documents."""

    data: Data
    seed: NonNegative  # of the synthetic sources
    decontaminate: list[str]
    evaluation_seed: NonNegative

    def uses(self) -> list[Callable[..., Any]]:
        return [resolve("filter", name, {}) for name in self.data.filters.more]

    def described(self) -> dict[str, Any]:
        """Files count by their contents and names below the source's path, not by that path; mixes do not count, nor do other
        uses of the sources."""
        said = super().described()
        data = {key: value for key, value in said["data"].items() if key not in ("mixes", "sources")}
        sources = {name: _described(name, source) for name, source in self.data.sources.items()}
        return {**said, "data": {**data, "sources": sources}}


def _described(name: str, source: Source) -> dict[str, Any]:
    """A source's part of the fingerprint. Raises UserError for a missing file, and for a source that must be supplied."""
    if isinstance(source, ExternalSource):
        raise UserError(
            f"source {name!r} must be supplied: {source.supply}",
            where=source.uri,
            remedy=f"put its documents on a disk or into a bucket, and set data.sources.{name} to "
            "{kind: files, path: ..., license: ...}",
        )
    described = source.model_dump(mode="json")
    if isinstance(source, FilesSource):
        from lehr.data.readers import fingerprint

        described.pop("path")
        described["sha256"] = fingerprint(source)
    return described


def run(config: DocumentsConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Filter, deduplicate and decontaminate every source. Raises UserError as `prepare_corpus` does."""
    from lehr.data.prepare import prepare_corpus
    from lehr.data.synthetic import documents as synthetic_documents
    from lehr.evals.contamination import evaluation_texts

    def synthetic(name: str, source: SyntheticSource) -> Iterator[Document]:
        for d in synthetic_documents(source.generator, source, config.seed):
            yield Document(d.id, name, d.text, d.parent)  # a generator knows only its own name, not the source's

    texts = evaluation_texts(config.decontaminate, config.evaluation_seed, ngram_words=config.data.filters.decontaminate_ngram)
    steps = _steps(config)
    funnel = prepare_corpus(
        config.data, texts, synthetic, attempt.out, attempt.tracker.note,
        lambda sources: attempt.tracker.progress(attempt.name, sources, steps, {}),
    )  # fmt: skip
    attempt.tracker.progress(attempt.name, steps, steps, {})
    return Outcome({"read": sum(f.read for f in funnel.values()), "kept": sum(f.kept for f in funnel.values())})


def _steps(config: DocumentsConfig) -> int:
    """Steps for the display: each source is read, then all are compared and written."""
    return len(config.data.sources) + 1


SPEC = StageSpec(
    "documents", DocumentsConfig, {}, "documents", "cpu", "data", run, total_steps=lambda config, inputs: _steps(config)
)
