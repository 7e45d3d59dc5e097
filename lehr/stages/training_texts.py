"""Texts of sources, for the models that are trained before the documents are filtered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lehr.config.base import NonNegative
from lehr.config.sources import FilesSource, Source, SyntheticSource
from lehr.data.damage import Damage
from lehr.data.document import Document
from lehr.data.readers import documents as supplied
from lehr.pipeline.spec import StageConfig
from lehr.runtime.seeds import uniform_hash
from lehr.stages.documents import described_source


class TextModelConfig(StageConfig):
    """`sources` are those that the model names; `seed` is that of the synthetic ones."""

    name: str  # in `data.models`: two models of one content are still two artifacts, each found by its name
    sources: dict[str, Source]
    seed: NonNegative

    def described(self) -> dict[str, Any]:
        """A file counts by its content. Raises UserError for a missing one, and for a source that must be supplied."""
        sources = {name: described_source(name, source) for name, source in self.sources.items()}
        return {**super().described(), "sources": sources}


def documents(names: Sequence[str], sources: Mapping[str, Source], seed: int, characters: int) -> Iterator[Document]:
    """At most `characters` of the sources `names`, an equal part of each from its beginning, to whole documents."""
    share = characters // len(names)
    for name in names:
        taken = 0
        for document in _read(name, sources[name], seed):
            yield document
            taken += len(document.text)
            if taken >= share:
                break


def _read(name: str, source: Source, seed: int) -> Iterator[Document]:
    from lehr.data.synthetic import documents as synthetic_documents

    if isinstance(source, FilesSource):
        return supplied(name, source, Damage(stops=source.damaged == "stop"))
    assert isinstance(source, SyntheticSource)  # `described` has refused what must be supplied
    return iter(synthetic_documents(source.generator, source, seed))


def held_out(document: Document, share: float) -> bool:
    """By the hash that splits the corpus too, from the same end: with a share of at least the corpus's own, no model is trained
    on a document that is held back for evaluation."""
    return uniform_hash(document.family) < share
