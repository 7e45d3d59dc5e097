"""The final model as a Hugging Face export, compared with ours."""

from __future__ import annotations

from lehr.pipeline.attempt import Attempt
from lehr.pipeline.spec import Inputs, Outcome, Role, StageConfig, StageSpec


class ExportConfig(StageConfig):
    """No settings: format and names follow from the checkpoint."""


def run(config: ExportConfig, inputs: Inputs, attempt: Attempt) -> Outcome:
    """Write the checkpoint and, if transformers is installed, compare logits and greedy text."""
    from lehr.interop.convert import export_checkpoint

    return export_checkpoint(inputs["checkpoint"], inputs.get("shards"), attempt)


SPEC = StageSpec(
    "export",
    ExportConfig,
    {"checkpoint": Role("checkpoint"), "shards": Role("shards", optional=True)},
    "export",
    "accelerator",
    "export",
    run,
)
