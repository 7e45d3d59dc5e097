"""An existing Hugging Face model as the checkpoint from which a run begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lehr.artifacts.artifact import sha256_file
from lehr.config.model import Model
from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec
from lehr.runtime.errors import UserError


class ImportConfig(StageConfig):
    """A Hugging Face folder: config.json, safetensors, tokenizer.json. `model` is the architecture found in it when the recipe
    was resolved."""

    folder: str
    model: Model

    def described(self) -> dict[str, Any]:
        """The files count by content, not by path. Raises UserError if there are none."""
        folder = Path(self.folder)
        # Sorted: a folder lists its files in any order, and the order of a configuration counts in the fingerprint.
        files = sorted(path for kind in ("safetensors", "json", "jinja") for path in folder.glob(f"*.{kind}"))
        if not files:
            raise UserError("no Hugging Face model here", where=folder, remedy="mend base.huggingface, relative to its recipe")
        return {**super().described(), "folder": {path.name: sha256_file(path) for path in files}}


def run(config: ImportConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Convert the model to fp32, with its own tokenizer unless another is given."""
    from lehr.data.tokenizer import Tokenizer
    from lehr.interop.convert import import_checkpoint

    given = inputs.get("tokenizer")
    found = import_checkpoint(Path(config.folder), attempt.out, Tokenizer.load(given.folder) if given else None)
    if found != config.model:
        raise UserError("the model changed since the recipe was resolved", where=config.folder, remedy="run the command again")
    return Outcome({"family": found.family})


SPEC = StageSpec(
    "import_hf",
    ImportConfig,
    {"tokenizer": Role("tokenizer", optional=True)},
    "checkpoint",
    "accelerator",
    "pretraining",
    run,
)
