"""A Hugging Face folder as a model to serve."""

from __future__ import annotations

from pathlib import Path

from lehr.config.tokenizer import Tokenizer as TokenizerConfig
from lehr.data.tokenizer import Tokenizer
from lehr.interop.hf_weights import load_hf
from lehr.model.generate import LanguageModel
from lehr.runtime.errors import UserError
from lehr.runtime.json_files import read_object

_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


def served_folder(folder: Path) -> LanguageModel:
    """The folder's model and tokenizer; it chats if the folder has a chat template. Raises UserError for what is unsupported or
    damaged."""
    model, tokenizer = load_hf(folder), Tokenizer.given(TokenizerConfig(path=str(folder)))
    rows = model.config.vocab_size
    if tokenizer.vocab_size > rows:
        what = f"its tokenizer's highest id is {tokenizer.vocab_size - 1}, and the embedding has {rows} rows"
        raise UserError(what, where=folder, remedy="give a model with its own tokenizer")
    path = folder / _CONFIG
    told = read_object(path, "fetch the folder again") if path.is_file() else {}
    return LanguageModel(model, tokenizer, chat=bool(told.get("chat_template")) or (folder / _TEMPLATE).is_file())
