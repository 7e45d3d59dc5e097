"""Jinja chat templates, run as transformers runs them: in a sandbox, with its filters and tags, and a bound on their work.

Bounded are steps of loops, calls, and the length of texts, by counts instead of time: a template that is refused is refused on
every machine and rank.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateRuntimeError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from lehr.data.template_file import MOST_CHARACTERS as MOST_TEMPLATE
from lehr.runtime.errors import UserError

MOST_STEPS = 2_000_000  # of loops and calls in one rendering, and a step for each KiB of text that is made
MOST_CHARACTERS = 16 << 20  # of a rendering, and of every text on the way to it
_MOST_BITS = 1 << 16  # of a whole number
_REMEDY = "mend the chat template, or name a built-in one in chat.template"
_STRICT_REMEDY = "mend the template, or the row's fields"


class TooMuchWork(TemplateRuntimeError):
    """A template that exceeds a bound."""


class _State(threading.local):
    """What one rendering has: its steps left, the marks around the assistant's text, and its moment."""

    left = 0
    marks: tuple[str, str] | None = None
    now = datetime.min

    def spend(self, steps: int) -> None:
        """Count `steps`. Raises TooMuchWork after the last."""
        self.left -= steps
        if self.left < 0:
            raise TooMuchWork(f"more than {MOST_STEPS:,} steps")

    def checked(self, value: Any) -> Any:
        """`value`, after its size has been counted. Raises TooMuchWork."""
        size = len(value) if isinstance(value, str | list | tuple) else 0
        if size > MOST_CHARACTERS or (isinstance(value, int) and value.bit_length() > _MOST_BITS):
            raise TooMuchWork(f"a text of more than {MOST_CHARACTERS:,} characters, or a number as long")
        self.spend(1 + (size >> 10))
        return value


class _Generation(Extension):
    """transformers' tag: what stands in it is the assistant's own text."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Macro) -> str:
        marks, text = _STATE.marks, str(caller())
        return text if marks is None else f"{marks[0]}{text}{marks[1]}"


_STATE = _State()


class _Counted(NodeTransformer):
    """Wraps whatever can make much of little: what a loop runs over, filters, and joined texts. Calls and sums are counted by
    the environment itself."""

    def __init__(self, environment: ImmutableSandboxedEnvironment) -> None:
        self.environment = environment

    def _wrap(self, name: str, node: nodes.Expr) -> nodes.Expr:
        call = nodes.Call(nodes.EnvironmentAttribute(name), [node], [], None, None)
        return call.set_lineno(node.lineno).set_environment(self.environment)  # type: ignore[return-value]

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = self._wrap("items", node.iter)  # type: ignore[arg-type]
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self.generic_visit(node)
        return node if node.node is None else self._wrap("checked", node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._wrap("checked", node)

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> nodes.Node:
        node.body = [self.visit(inner) for inner in node.body]  # its filter has to stay one
        return node


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, **options: Any) -> None:
        # Not optimised: constants would be folded, and so computed without a bound, while compiling.
        super().__init__(optimized=False, extensions=[_Generation, loopcontrols], **options)
        self.filters["tojson"] = _to_json
        self.globals |= {"raise_exception": _raise, "strftime_now": lambda form: _STATE.now.strftime(form)}
        self.checked, self.items = _STATE.checked, _items

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Counted(self).visit(super()._parse(source, name, filename))
        return tree

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call, counted. Raises TooMuchWork."""
        _STATE.spend(1)
        if any(isinstance(value, int) and abs(value) > MOST_CHARACTERS for value in (*args, *kwargs.values())):
            raise TooMuchWork("a call with a number as long as no text may be")
        return _STATE.checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """A sum, product or power, whose size is known before it is made. Raises TooMuchWork."""
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            too_much = left.bit_length() * abs(right) > _MOST_BITS
        else:
            counts = sorted((left, right), key=lambda value: isinstance(value, int)) if operator == "*" else ()
            text, times = counts or ("", 0)
            too_much = isinstance(text, str | list | tuple) and isinstance(times, int) and len(text) * times > MOST_CHARACTERS
        if too_much:
            raise TooMuchWork(f"a text of more than {MOST_CHARACTERS:,} characters, or a number as long")
        return _STATE.checked(super().call_binop(context, operator, left, right))


def _items(values: Iterable[Any]) -> list[Any]:
    found = list(values)
    _STATE.spend(len(found))
    return found


def _to_json(
    x: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """transformers' own: Jinja's escapes characters of HTML."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


class ChatTemplate:
    """A compiled template; `strict`: one of a row's fields. Raises UserError if Jinja cannot parse it."""

    def __init__(self, source: str, strict: bool = False) -> None:
        self._called, self._given = ("template", "this row") if strict else ("chat template", "these messages")
        self._remedy = _STRICT_REMEDY if strict else _REMEDY
        if len(source) > MOST_TEMPLATE:
            raise UserError(f"a {self._called} of more than {MOST_TEMPLATE:,} characters", remedy=self._remedy)
        try:
            self._template = (_STRICT if strict else _ENVIRONMENT).from_string(source)
        except TemplateError as error:
            line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise UserError(f"the {self._called} is no Jinja{line}: {_one_line(error)}", remedy=self._remedy) from None
        except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError) as error:
            raise UserError(f"the {self._called} cannot be compiled: {_one_line(error)}", remedy=self._remedy) from None

    def text(self, values: Mapping[str, Any], marks: tuple[str, str] | None = None) -> str:
        """What the template makes of `values`; `marks` are put around what stands in its tag `generation`. Raises UserError for
        whatever the template raises, and for one that exceeds the bounds."""
        _STATE.left, _STATE.marks, _STATE.now = MOST_STEPS, marks, datetime.now()
        parts, size = list[str](), 0
        try:
            for part in self._template.generate(values):
                parts.append(part)
                size += len(part)
                if size > MOST_CHARACTERS:
                    raise TooMuchWork(f"a text of more than {MOST_CHARACTERS:,} characters")
        except Exception as error:  # noqa: BLE001 (a template can raise anything)
            raise UserError(f"the {self._called} refuses {self._given}: {_one_line(error)}", remedy=self._remedy) from None
        finally:
            _STATE.marks = None
        return "".join(parts)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


_ENVIRONMENT = _Environment(trim_blocks=True, lstrip_blocks=True)
# Blanks as they stand, and a name that nothing defines is an error, not an empty text.
_STRICT = _Environment(keep_trailing_newline=True, undefined=StrictUndefined)


@lru_cache(maxsize=64)
def compiled(source: str, strict: bool = False) -> ChatTemplate:
    """The template of this text, compiled once. Raises UserError as ChatTemplate does."""
    return ChatTemplate(source, strict)
