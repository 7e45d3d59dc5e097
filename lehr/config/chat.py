"""How conversations become text: the chat template of a run's chat models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import field_validator

from lehr.config.base import Config
from lehr.data.template_file import read_template

TEMPLATES = ("lehr", "tulu", "granite", "chatml", "zephyr")  # built-in ones: lehr.post.templates
FILE_END = ".jinja"


class Chat(Config):
    """The template that the first step of SFT gives its model; all models after it inherit that."""

    template: str = ""  # lehr, tulu, granite, chatml, zephyr, or a .jinja file; empty: the tokenizer's own, else lehr
    jinja: str = ""  # the file's text, filled in when the recipe is resolved

    @field_validator("template")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and value not in TEMPLATES and not value.endswith(FILE_END):
            raise ValueError(f"there is no chat template {value!r}; give one of {', '.join(TEMPLATES)}, or a {FILE_END} file")
        return value


def resolve_template(values: dict[str, Any]) -> None:
    """Fill in `chat.jinja` of a recipe's `values` from the file that `chat.template` names: what a run stores needs no other
    file. A recipe that has it is already resolved. Raises UserError if the file is absent or no text."""
    chat = values.get("chat")
    path = chat.get("template") if isinstance(chat, dict) else None
    if isinstance(chat, dict) and isinstance(path, str) and path.endswith(FILE_END) and not chat.get("jinja"):
        chat["jinja"] = read_template(Path(path))
