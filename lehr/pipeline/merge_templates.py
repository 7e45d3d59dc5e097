"""Models that learned a chat template and models that did not are not merged: they differ in files, or in tokens too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lehr.data.tokenizer import Tokenizer
from lehr.pipeline.node import Node
from lehr.runtime.errors import UserError
from lehr.stages.sft import SftConfig


def check_templates(nodes: Sequence[Node], plain: Tokenizer, taught: Tokenizer) -> None:
    """Of those of this run; of another run's the stage itself sees it. `taught` is the tokenizer `plain` of pretraining with
    the template that SFT gives. Raises UserError for a merge of models with either, and of differences to an ancestor without
    the template's tokens."""
    if taught is plain:
        return
    by_name = {node.name: node for node in nodes}
    for node in nodes:
        parents = {name: _has_template(name, by_name) for name in node.inputs.get("parents", ()) if name in by_name}
        if lacking := [name for name, has in parents.items() if has != any(parents.values())]:
            what = f"{', '.join(lacking)} does not have the chat template that the others learn"
            raise UserError(f"posttraining.{node.name}.parents: {what}", remedy="name models after a step of kind sft")
        bases = [name for name in node.inputs.get("base", ()) if name in by_name]
        without = [name for name in bases if not _has_template(name, by_name)]
        if without and taught.hash != plain.hash and any(parents.values()):
            what = f"{without[0]} lacks the tokens of the chat template that its children learn, and has no rows for them"
            raise UserError(
                f"posttraining.{node.name}.base: {what}",
                remedy="begin the parents with one step of kind sft, or merge by linear",
            )


def _has_template(name: str, nodes: Mapping[str, Node]) -> bool:
    node = nodes[name]
    if isinstance(node.config, SftConfig):
        return bool(node.config.template)  # that of the recipe, which all its SFT has
    above = [name for role in ("parent", "parents") for name in node.inputs.get(role, ()) if name in nodes]
    return any(_has_template(name, nodes) for name in above)
