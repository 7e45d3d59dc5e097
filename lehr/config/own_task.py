"""A task of one's own: what a YAML file says of its rows, its prompts and how answers are judged (docs/evaluation.md).

`prompt`, `target`, `choices`, `text`, `description`, `alone`, `source` and `domain` are each the name of a row's field, or a
template in Jinja's language, in which a row's fields are variables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lehr.config.base import Config, NonNegative, NonNegativeFloat, Positive
from lehr.config.judged_checks import JUDGED, JudgedCheck, judged_check
from lehr.config.names import Name

TASK_ENDS = (".yaml", ".yml")  # of a task's path; names have no such end
Split = Literal["dev", "held_out"]
# How a prompt and an answer become tokens. `lehr`: after an end-of-text token, which stands before every training document; a
# token across the border counts as the answer's. `lm-eval`: as lm-eval's `hf` model does it, without that token.
Encoding = Literal["lehr", "lm-eval"]
CHECKS = (
    "exact_match", "f1", "last_number", "last_integer", "math_equal", "mentions", "regex", "instructions", "code_tests",
    "json_schema", "json_object", "tool_call", *JUDGED,
)  # fmt: skip  # all but the second and those that models make are verifiers of lehr.post.verifiers
_OF_KIND = {
    "choice": ("prompt", "choices", "target"),
    "continuation": ("prompt", "target"),
    "generation": ("prompt", "metrics"),
    "text": ("text",),
}
_TEXT = ("text", "source", "domain", "window", "stride", "decontaminate")
SINCE_SOURCES = _TEXT[1:]  # keys of a later version: where a task has none of them, its identity is that of before
_GENERATION = ("stop", "max_tokens", "temperature", "samples", "pass_at", "extract", "metrics", "chat")


class Shots(Config):
    """Solved examples before each question, in the order in which they are taken. A row that equals the scored one is never
    among them."""

    number: Positive
    path: str = ""  # their file, relative to the task's; empty: the task's own rows
    rows: list[dict[str, Any]] = []  # or the rows themselves
    split: str = "train"  # of a folder, which files
    order: Literal["first", "drawn"] = "first"  # the first ones for all, or for each question others
    seed: NonNegative = 1234  # of drawn ones
    apart: bool = True  # false: rows of a `path` are not compared with the scored one, as lm-eval draws from another split
    fields: dict[str, Any] = {}  # templates of `prompt`, `target` and `choices` for them, where they differ

    @model_validator(mode="after")
    def _one_source(self) -> Shots:
        if self.path and self.rows:
            raise ValueError("path and rows: give one of the two")
        if not self.apart and not (self.path or self.rows):
            raise ValueError("apart: rows of the task itself are always kept from their own prompt; leave it out")
        if wrong := set(self.fields) - {"prompt", "target", "choices"}:
            raise ValueError(f"fields: there is no {sorted(wrong)[0]!r}; give prompt, target or choices")
        return self


class Step(Config):
    """A step that takes the answer out of a generated text. `regex`: the text of the pattern's first group, or of all of it, of
    its match number `group` (-1: the last one), blanks around it removed; `fallback` where it does not match."""

    do: Literal["regex", "strip", "lower", "upper"]
    pattern: str = ""
    group: int = 0
    fallback: str = "[invalid]"

    @model_validator(mode="after")
    def _has_pattern(self) -> Step:
        if (self.do == "regex") != bool(self.pattern):
            raise ValueError("pattern: a step regex has one, and no other step; correct it")
        return self


class OwnTask(Config):
    """One task. Which keys a `kind` takes: choice: prompt, choices, target (the right one's number from 0, its letter, or its
    text); continuation: prompt, target; generation: prompt, target, metrics; text: text."""

    kind: Literal["choice", "continuation", "generation", "text"]
    name: Name = ""
    data: str  # a file, folder or pattern, relative to this file: JSON lines, also compressed, or Parquet
    data_split: str = "test"  # of a folder, which files
    split: Split = "held_out"
    description: str = ""  # stands before everything
    prompt: str | None = None
    target: str | int | list[str] | None = None  # a list: each is right
    choices: str | list[str] | None = None  # a field with a list, a template that writes one, or a list of templates
    text: str | None = None
    source: str | None = None  # of a text: scores are also given for each source,
    domain: str | None = None  # ... and for each of its domains; a row without this field is of a source without domains
    window: Positive | None = None  # tokens of a text that are read at once; left out: as many as the model was trained on
    stride: Positive | None = None  # tokens by which later windows advance; left out: the window, none of which overlap
    decontaminate: Literal["ngrams", "paragraphs"] = "ngrams"  # paragraphs: a training document counts for a whole one alone
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    shots: Shots | None = None
    formulation: Literal["cloze", "letters"] = "cloze"  # letters: {{ listed }} lists the choices, and A, B, ... are scored
    alone: str | None = None  # a prompt without the question, for mutual information
    judged_by: Literal["acc", "acc_per_char", "acc_per_byte", "acc_per_token", "acc_pmi"] = "acc"  # comes first
    stop: list[Annotated[str, Field(min_length=1)]] | None = None  # none: the delimiter of shots; the end of text always stops
    max_tokens: Positive = 256
    temperature: NonNegativeFloat = 0.0
    samples: NonNegative = 0  # answers drawn for each question; 0: one
    pass_at: list[Positive] = []  # pass@k of `samples` answers by the first metric
    extract: dict[Name, list[Step]] = {}
    metrics: dict[str, dict[str, Any]] | None = None  # a check, and its arguments: fields, templates, or values
    chat: bool = False  # the prompt is a user's turn of the model's chat template
    cluster: str | None = None  # field: rows of one value are one cluster of the standard error
    encoding: Encoding = "lehr"

    @model_validator(mode="after")
    def _fits_its_kind(self) -> OwnTask:
        for key in _OF_KIND[self.kind]:
            if getattr(self, key) is None:
                raise ValueError(f"{key}: a task of kind {self.kind} needs it; add it")
        takes = {"choice": ("choices", "alone", "judged_by", "formulation"), "generation": _GENERATION, "text": _TEXT}
        for kind, keys in takes.items():
            for key in keys if kind != self.kind else ():
                if key in self.model_fields_set:
                    raise ValueError(f"{key}: a task of kind {self.kind} has none; leave it out, or set kind: {kind}")
        if self.kind == "text" and (self.shots or self.prompt is not None or self.target is not None):
            raise ValueError("a task of kind text has no prompt, target and shots; leave them out")
        if self.domain is not None and self.source is None:
            raise ValueError("domain: domains are parts of sources; add source, the field that names them")
        if self.stride and not self.window:
            raise ValueError("stride: windows advance by it; add window, how many tokens one has")
        if self.stride and self.window and self.stride > self.window:
            what = f"stride: windows of {self.window} tokens that advance by {self.stride} leave tokens out"
            raise ValueError(f"{what}; lower it to {self.window} or less")
        for key in ("source", "domain", "cluster"):
            if getattr(self, key) == "":
                raise ValueError(f"{key}: it names a field; leave it out if there is none")
        if self.formulation == "letters" and (self.shots and "choices" in self.shots.fields):
            raise ValueError("shots.fields.choices: letters are given by `formulation`; leave it out")
        if (self.judged_by == "acc_pmi") and self.alone is None:
            raise ValueError("judged_by: acc_pmi needs the prompt without the question; add alone, such as 'Answer:'")
        return self

    @model_validator(mode="after")
    def _is_sampled_right(self) -> OwnTask:
        for name in self.metrics or ():
            if name not in CHECKS:
                raise ValueError(f"metrics: there is no check {name!r}; name one of {', '.join(CHECKS)}")
        if self.metrics == {}:
            raise ValueError(f"metrics: it is empty; name one of {', '.join(CHECKS)}")
        if self.samples and not self.temperature:
            raise ValueError("samples: at temperature 0 all are alike; give it a temperature, such as 0.8")
        if self.pass_at and max(self.pass_at) > self.samples:
            raise ValueError(f"pass_at: pass@{max(self.pass_at)} needs {max(self.pass_at)} samples and more; raise samples")
        if next(iter(self.metrics or ()), "") in self.judged_checks() and self.pass_at:
            raise ValueError("pass_at: the first of metrics says what is right, and a model judges it; put a function's first")
        return self

    def judged_checks(self) -> dict[str, JudgedCheck]:
        """The checks that a model makes, by name."""
        return {name: judged_check(name, said) for name, said in (self.metrics or {}).items() if name in JUDGED}
