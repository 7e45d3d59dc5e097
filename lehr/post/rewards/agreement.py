"""Whether a reward reads what the judged model writes."""

from __future__ import annotations

from pathlib import Path

from lehr.data.tokenizer import Tokenizer
from lehr.runtime.errors import UserError


def check_reads(name: str, folder: Path, ours: Tokenizer, where: str) -> None:
    """Raises UserError unless the reward `name`, whose checkpoint is in `folder`, reads the same tokens under the same chat
    template as `ours`, those of the model whose answers it judges."""
    theirs = Tokenizer.load(folder)
    what = "tokenizer" if theirs.hash != ours.hash else "chat template"
    if (theirs.hash, theirs.chat_template) != (ours.hash, ours.chat_template):
        raise UserError(
            f"the reward {name} has another {what} than the model whose answers it judges",
            where=where,
            remedy="train the reward model from a checkpoint with the same tokenizer and chat template",
        )
