"""Documents, tokenizer and shards as stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lehr import seeds
from lehr.artifact import Artifact, ArtifactRef, sha256_file
from lehr.config.data import ExternalSource, JsonlSource, Source, SyntheticSource
from lehr.config.recipe import Recipe
from lehr.data.document import Document, read_jsonl
from lehr.data.prepare import prepare_corpus
from lehr.data.shards import write_shard
from lehr.data.synthetic import documents as synthetic_documents
from lehr.data.tokenizer import Tokenizer
from lehr.errors import UserError
from lehr.evals.contamination import evaluation_texts
from lehr.stage import Job, Outcome, Surroundings, run_stage

DOCUMENTS = "documents"


def documents(recipe: Recipe, around: Surroundings) -> ArtifactRef:
    """Filter, deduplicate and decontaminate every source of the recipe."""

    def work(job: Job) -> Outcome:
        seed = seeds.derive(recipe.seed, "documents")

        def synthetic(name: str, source: SyntheticSource) -> Iterator[Document]:
            for d in synthetic_documents(source.generator, source, seed):
                yield Document(d.id, name, d.text, d.parent)

        tasks = [plan.task for plan in recipe.evaluation.tasks]
        texts = evaluation_texts(tasks, recipe.seed, ngram_words=recipe.data.filters.decontaminate_ngram)
        funnel = prepare_corpus(recipe.data, texts, synthetic, job.out, job.tracker.note)
        read, kept = sum(f.read for f in funnel.values()), sum(f.kept for f in funnel.values())
        return Outcome("documents", {"read": read, "kept": kept})

    config = recipe.data.model_dump(exclude={"mixes", "sources"})
    config |= {"sources": {name: _described(name, source) for name, source in recipe.data.sources.items()}, "seed": recipe.seed}
    config["evaluation"] = [plan.task for plan in recipe.evaluation.tasks]
    return run_stage("documents", work, module=__name__, config=config, parents=[], around=around)


def _described(name: str, source: Source) -> dict[str, Any]:
    """A source for the fingerprint: a file counts by its content, not by where it lies.

    Raises UserError for a file that is not there, and for a source that must be supplied.
    """
    if isinstance(source, ExternalSource):
        raise UserError(
            f"source {name!r} must be supplied: {source.supply}",
            where=source.uri,
            remedy=f"put its documents on a disk as JSON lines, and set data.sources.{name} to "
            "{kind: jsonl, path: ..., license: ...}",
        )
    described = source.model_dump()
    if isinstance(source, JsonlSource):
        path = Path(described.pop("path"))
        if not path.is_file():
            raise UserError("no such data file", where=path, remedy="mend `path` of this source, relative to its recipe")
        described["sha256"] = sha256_file(path)
    return described


def tokenizer(recipe: Recipe, corpus: Artifact, around: Surroundings) -> ArtifactRef:
    """Train the tokenizer on a share of each source's kept documents."""

    def work(job: Job) -> Outcome:
        trained = Tokenizer.train(_sample(recipe, corpus), recipe.tokenizer.vocab_size)
        trained.save(job.out)
        return Outcome("tokenizer", {"vocab_size": trained.vocab_size, "hash": trained.hash})

    config = {**recipe.tokenizer.model_dump(), "sources": list(recipe.data.sources)}
    return run_stage("tokenizer", work, module=__name__, config=config, parents=[corpus], around=around)


def _sample(recipe: Recipe, corpus: Artifact) -> Iterator[str]:
    """Equal shares of characters from every source, from its beginning."""
    share = recipe.tokenizer.training_characters // len(recipe.data.sources)
    for name in recipe.data.sources:
        taken = 0
        for document in kept(corpus, name):
            yield document.text
            taken += len(document.text)
            if taken >= share:
                break


def kept(corpus: Artifact, source: str) -> Iterator[Document]:
    """The kept training documents of a source."""
    return read_jsonl(corpus.expect("documents").path(f"{DOCUMENTS}/{source}.jsonl.gz"), source)


def shards(recipe: Recipe, corpus: Artifact, tokenizer_: Artifact, around: Surroundings) -> ArtifactRef:
    """Tokenize every source that a mix uses."""
    used = sorted({name for mix in recipe.data.mixes.values() for name in mix.weights})

    def work(job: Job) -> Outcome:
        loaded = Tokenizer.load(tokenizer_.folder)
        counts = {}
        for name in used:
            job.tracker.note(f"tokenizing {name}")
            counts[name] = write_shard(kept(corpus, name), name, loaded, job.out)
        return Outcome("shards", {"tokens": counts, "tokenizer": loaded.hash}, sum(counts.values()))

    return run_stage("shards", work, module=__name__, config={"sources": used}, parents=[corpus, tokenizer_], around=around)
