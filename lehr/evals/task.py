"""The kinds of examples, and the interface through which a model is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer

from lehr.data.synthetic.conversations import Message
from lehr.evals.flagged import Contamination, Without
from lehr.evals.judged_by import JudgedBy
from lehr.post.chat_tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True)
class Text:
    """A document, for bits per byte. `family` is the id of the document from which it was cut, if any."""

    text: str
    family: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """Pick one of `continuations` of `context` by log-probability; `gold` is the index of the right one."""

    context: str
    continuations: list[str]
    gold: int
    per_character: bool = True  # also score log-probabilities divided by the continuation's characters
    family: str = ""  # of the document from which the context was cut, if any


@dataclass(frozen=True, slots=True)
class Options:
    """Requests as a benchmark's authors rendered them: `continuations[i]` of `contexts[i]`, of which `gold` is right; an only
    one is a right answer, whose bits per byte are scored. `alone`: contexts of the same continuations without the question,
    for pointwise mutual information. `primary`: the metric that the task is judged by; it comes first."""

    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int
    alone: tuple[str, ...] = ()
    primary: str = "acc"


@dataclass(frozen=True, slots=True)
class Generation:
    """Continue `prompt` (plain text up to the end of the line) or answer `messages` (a chat), then verify.

    `checks` maps a metric's name to a verifier of `lehr.post.verifiers` and its arguments, applied to the greedy answer;
    `sampled_checks` are applied to `samples` answers drawn at temperature 1. `family`: examples of one are one cluster of the
    standard error. (It is not in the digest of the examples, which was made before there was one.)
    """

    prompt: str
    messages: list[Message]
    checks: dict[str, tuple[str, dict[str, Any]]]
    sampled_checks: dict[str, tuple[str, dict[str, Any]]]
    samples: int = 0
    family: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one chat; a judge or a verifier prefers `chosen`."""

    prompt: list[Message]
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Question:
    """Of a task of one's own: which of `continuations` of `context` is the most probable, of which `golds` are right; of a
    single one its log-probability. Norms leave out the first `uncounted` characters of a continuation. `alone`: a context
    without the question. `compared`: the text by which training documents are compared with it. `encoding`: see
    lehr.config.own_task."""

    context: str
    continuations: tuple[str, ...]
    golds: tuple[int, ...]
    uncounted: int
    alone: str | None
    primary: str
    encoding: str
    compared: str
    family: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """Of a task of one's own: a text for bits per byte, in windows, the last one filled with what stands before it."""

    text: str
    family: str = ""


@dataclass(frozen=True, slots=True)
class Document(Passage):
    """The same of a source, and of a domain of it where it has any, which also have scores of their own (lehr.evals.parts). In
    windows of `window` tokens (0: as many as the model was trained on) that advance by `stride` (0: by the window)."""

    source: str = ""  # empty: texts that are only read in these windows
    domain: str = ""
    window: int = 0
    stride: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """Of a task of one's own: a prompt (or a chat) whose answer is generated. `checks`: the metrics by name, each a check and
    its arguments, of what each way of `extract` takes out of the answer (lehr.evals.answers)."""

    prompt: str
    messages: tuple[Message, ...]
    checks: tuple[tuple[str, dict[str, Any]], ...]
    extract: tuple[tuple[str, tuple[tuple[str, str, int, str], ...]], ...]
    stop: tuple[str, ...]
    max_tokens: int
    temperature: float
    samples: int
    pass_at: tuple[int, ...]
    encoding: str
    compared: str
    family: str = ""


Own = Question | Passage | Asked
Example = Text | Choice | Options | Generation | Pair | Own

Scored = tuple[float, int, bool]  # sum of log-probabilities in nats, tokens, and whether greedy decoding agrees


class TextTokenizer(ChatTokenizer, Protocol):
    """The part of `lehr.data.tokenizer.Tokenizer` that scoring needs."""

    def decode(self, ids: Sequence[int]) -> str: ...


class TextModel(Protocol):
    """Anything that gives log-probabilities of text: a language model, or a simpler baseline."""

    @property
    def tokenizer(self) -> TextTokenizer: ...

    def logprobs(self, pairs: Sequence[tuple[list[int], list[int]]], /) -> list[Scored]:
        """The score of each (context ids, continuation ids), in order. A context that is too long loses its beginning."""
        ...


class ScoringModel(TextModel, Protocol):
    """The interface of a language model for evaluation. It forms its own batches, of requests of similar length.

    `max_length` is the number of positions that one forward pass accepts.
    """

    @property
    def max_length(self) -> int: ...

    def generate(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop_ids: Sequence[int], temperature: float, seed: int
    ) -> list[list[int]]:
        """New ids for each prompt, in order, up to and including the first stop id. Temperature 0 is greedy."""
        ...


Over = Literal["", "domains", "sources"]


class Mean(BaseModel):
    """A mean of scores, and its standard error; None where one of them has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: FiniteFloat
    stderr: FiniteFloat | None


class Part(BaseModel):
    """A score over the texts of one source, or of one domain of it. `domains` of a source are its number of domains, 0 where it
    is not divided; `mean` is that of its domains' scores, each counting equally (Paloma's macro average). `kept` and `without`
    say of its texts what `Contamination` says of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    domain: str
    value: FiniteFloat
    stderr: FiniteFloat | None
    n: int
    clusters: int
    domains: int = 0
    mean: Mean | None = None
    kept: int | None = None
    without: Without | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """What each example of a score gave, in order: the score is the sum of `values` over that of `weights` (empty: all 1).
    `clusters` numbers the documents or prompts that the examples come from (empty: each its own).

    Of texts of several sources `groups` says of which of `names` (source, domain) each is. The score may then be the mean
    `over` their domains or sources, and the exponential of those ratios (`exp`): lehr.evals.parts."""

    values: list[float]
    weights: list[float]
    clusters: list[int]
    groups: list[int] = field(default_factory=list)
    names: list[tuple[str, str]] = field(default_factory=list)
    exp: bool = False
    over: Over = ""


class Record(BaseModel):
    """One number of `scores.json`. `n` counts examples, and `clusters` the documents or prompts that they come from, over which
    `stderr` is taken: None if there is only one. `items` go into a file of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    task: str
    split: str
    metric: str
    value: FiniteFloat
    stderr: FiniteFloat | None
    n: int
    clusters: int
    seed: int
    parts: list[Part] = []  # of texts that have sources: those of each source, and behind it of its domains
    contamination: Contamination | None = None  # None: of a baseline, or made before there were flags
    # A model that judged the answers; None: a function did. Files had another name of it.
    scored_by: JudgedBy | None = Field(default=None, validation_alias=AliasChoices("scored_by", "judged_by"))
    items: Items | None = Field(default=None, exclude=True, repr=False)

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(handler(self))


def without_empty(said: dict[str, Any]) -> dict[str, Any]:
    """A record as it is written: `parts` stand in those of texts that have sources alone, `scored_by` where a model judged."""
    return {key: value for key, value in said.items() if value or key not in ("parts", "scored_by")}
