"""Who a model is: what it shall say of itself, and what other assistants would say."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from lehr.config.base import Config
from lehr.runtime.text import mentions

LONGEST = 200  # characters of a name or an ability
_OTHERS = {
    "ChatGPT": "OpenAI", "Claude": "Anthropic", "Gemini": "Google", "Llama": "Meta", "Mistral": "Mistral AI", "Qwen": "Alibaba",
}  # fmt: skip


def _checked(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty; write what the model shall say of itself")
    if text != text.strip() or any(ord(c) < 32 for c in text) or len(text) > LONGEST:
        raise ValueError(f"{text[:40]!r} is no name; write {LONGEST} characters at most, in one line, no blanks around them")
    if "<|" in text or "|>" in text:
        raise ValueError(f"{text!r} looks like a special token, which templates break up or read as one; leave <| and |> out")
    return text


Said = Annotated[str, AfterValidator(_checked)]


class About(Config):
    """What a step of self-knowledge teaches. Questions and answers are made from it; wrong answers are those of `others`."""

    name: Said
    makers: list[Said] = Field(min_length=1)
    license: Said
    abilities: list[Said] = Field(min_length=1)  # each as it follows "I can", such as "write JSON"
    others: dict[str, Said] = _OTHERS  # other assistants, each with its maker: who the model is not

    @model_validator(mode="after")
    def _told_apart(self) -> About:
        if not self.others:
            raise ValueError("others: there is none; name at least one other assistant with its maker")
        for other in self.others:
            _checked(other)
        own = [self.name, *self.makers, self.license, *self.abilities]
        for foreign in (*self.others, *self.others.values()):
            for text in own:
                if mentions(text, foreign) or mentions(foreign, text):
                    raise ValueError(
                        f"others: {foreign!r} and its own {text!r} contain one another, so right and wrong answers look alike; "
                        "leave that assistant out of others"
                    )
        return self
