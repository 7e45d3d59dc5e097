"""The nodes of the models that are trained for filters of documents."""

from __future__ import annotations

from lehr.config.data import Data
from lehr.config.text_models import ClassifierModel
from lehr.data.filter_models import named
from lehr.pipeline.node import Node
from lehr.pipeline.spec import StageConfig
from lehr.stages.documents import MODEL
from lehr.stages.ngram_model import NgramConfig
from lehr.stages.quality_classifier import ClassifierConfig


def text_models(data: Data, seed: int) -> list[Node]:
    """Those of `data.models` that filters name, in the recipe's order; `seed` is that of the documents. What is held back for
    evaluation is held out of their training too."""
    used, least, nodes = set(named(data.filters).values()), data.dev_share + data.held_out_share, list[Node]()
    for name, given in data.models.items():
        if name not in used:
            continue
        model = given.model_copy(update={"held_out": max(given.held_out, least)})
        sources = {source: data.sources[source] for source in model.sources}
        config: StageConfig
        if isinstance(model, ClassifierModel):
            kind, config = "quality_classifier", ClassifierConfig(model=model, name=name, sources=sources, seed=seed)
        else:
            kind, config = "ngram_model", NgramConfig(model=model, name=name, sources=sources, seed=seed)
        nodes.append(Node(f"{MODEL}{name}", kind, config, {}))
    return nodes
