"""The built-in chat templates, the special tokens that each brings, and which of all is meant.

`tulu` is Tülu 3's and OLMo 2's; `granite` follows Granite 3.0, Tables 3 and 4, with the line end that the released
models have after a turn; `chatml` is Stable LM 2's, `zephyr` that of its Zephyr. All are written as transformers reads them.
"""

from __future__ import annotations

from pathlib import Path

from lehr.config.chat import TEMPLATES, Chat
from lehr.data.template_file import read_template
from lehr.post.jinja import compiled
from lehr.runtime.errors import UserError

HOUSE = "lehr"
_TULU = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{% if not loop.last %}{{ '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% else %}{{ '<|assistant|>\\n' + message['content'] + eos_token }}{% endif %}"
    "{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    "{% endfor %}"
)
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_ZEPHYR = (
    "{% for message in messages %}\n"
    "{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n' + message['content'] + eos_token }}\n"
    "{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)
_TOOLS = "{{- '<|start_of_role|>available_tools<|end_of_role|>' + tools | tojson + eos_token + '\\n' -}}"
_GRANITE = (
    "{%- set roles = ['system', 'user', 'assistant', 'available_tools', 'tool_response'] -%}"
    f"{{%- if tools and messages[0]['role'] != 'system' -%}}{_TOOLS}{{%- endif -%}}"
    "{%- for message in messages -%}"
    "{%- set role = 'tool_response' if message['role'] == 'tool' else message['role'] -%}"
    "{%- if role not in roles -%}{{- raise_exception('roles are ' + roles | join(', ')) -}}{%- endif -%}"
    "{{- '<|start_of_role|>' + role + '<|end_of_role|>' -}}"
    "{%- if role == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] -}}"
    "{%- if message['tool_calls'] -%}{{- '<|tool_call|>[' -}}"
    "{%- for call in message['tool_calls'] -%}"
    "{%- set f = call['function'] -%}"
    "{{- {'name': f['name'], 'arguments': f['arguments']} | tojson -}}{{- '' if loop.last else ', ' -}}"
    "{%- endfor -%}{{- ']' -}}"
    "{%- endif -%}{{- eos_token -}}{%- endgeneration -%}"
    "{%- else -%}{{- message['content'] + eos_token -}}{%- endif -%}"
    "{{- '\\n' -}}"
    f"{{%- if loop.first and role == 'system' and tools -%}}{_TOOLS}{{%- endif -%}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_of_role|>assistant<|end_of_role|>' -}}{%- endif -%}"
)
BUILT_IN = {"tulu": _TULU, "granite": _GRANITE, "chatml": _CHATML, "zephyr": _ZEPHYR}
# Tokens added to a tokenizer that lacks them: Granite 3.0, Table 4, without <|end_of_text|>, which is the end of text itself.
MARKERS = {
    "granite": ("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}
assert set(TEMPLATES) == {HOUSE, *BUILT_IN}


def resolved(chat: Chat) -> str:
    """A recipe's choice as a step records it: empty, a built-in name, or a file's text. Raises UserError if the file is absent
    or no Jinja."""
    if not chat.template or chat.template in TEMPLATES:
        return chat.template
    text = chat.jinja or read_template(Path(chat.template))  # a recipe made in Python may not be resolved
    try:
        compiled(text)
    except UserError as error:
        raise UserError(error.what, where=chat.template, remedy=error.remedy) from None
    return text


def text_of(chosen: str, own: str) -> str:
    """The Jinja template that `resolved` chose, where the tokenizer's is `own`; empty: the house's."""
    return own if not chosen else "" if chosen == HOUSE else BUILT_IN.get(chosen, chosen)


def markers_of(chosen: str) -> tuple[str, ...]:
    """The special tokens that the template chosen by `resolved` brings."""
    return MARKERS.get(chosen, ())
