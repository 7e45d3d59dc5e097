"""Questions about the model itself, each with a right and a wrong answer, made from what a recipe says of it.

Stable LM 2 (section 3.3) has its base model write first messages, and right answers by a few-shot prompt with self-knowledge,
after RLCD (Yang et al. 2023). Here both are written from forms: a form (a topic and a wording, without names) belongs to one
split, so that no wording of a held-out question is trained on. Greetings before it do not count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lehr.config.self_knowledge import About
from lehr.data.synthetic.splits import Split, drawn, pick
from lehr.runtime.seeds import derive

Form = tuple[str, str]  # topic, wording

# `it` is one of the topic's things. Small letters begin a wording, since a greeting may stand before it.
_FRAMES = (
    "what is {it}?", "tell me {it}.", "please tell me {it}.", "can you tell me {it}?", "I would like to know {it}.",
    "do you know {it}?", "say {it}.", "could you give me {it}?",
)  # fmt: skip
_THINGS = {
    "name": ("your name", "the name of this model", "the name that you go by", "the name that you were given"),
    "makers": (
        "the name of your maker", "the name of your developer", "the name of those who made you", "the name of your creator",
    ),
    "license": ("your licence", "the licence of your weights", "the licence that you come with", "the licence of this model"),
    "abilities": ("the list of your abilities", "the list of your skills", "the list of things that you can do"),
}  # fmt: skip
# `other` and `maker` are another assistant and its maker: it is to contradict.
_DIRECT = {
    "name": (
        "who are you?", "what are you called?", "what should I call you?", "how may I call you?", "do you have a name?",
        "which model are you?", "which model is this?", "who am I talking to?", "which assistant are you?", "are you {other}?",
        "is your name {other}?", "am I talking to {other}?", "you are {other}, are you not?", "is this {other}?",
    ),
    "makers": (
        "who made you?", "who trained you?", "who built you?", "who created you?", "who developed you?", "who are your makers?",
        "where do you come from?", "whose model are you?", "who wrote you?", "did {maker} make you?",
        "were you trained by {maker}?", "are you made by {maker}?", "do you come from {maker}?",
    ),
    "license": (
        "which licence do you have?", "how are you licensed?", "which licence applies to you?", "under which licence are you?",
        "which licence covers your weights?", "what licence are you released under?", "do you have a licence?",
    ),
    "abilities": (
        "what can you do?", "what are you good at?", "how can you help me?", "what are your skills?",
        "what are your abilities?", "which tasks can you do?", "what are you able to do?", "what can I ask you for?",
        "how can you be of use?", "what do you know how to do?", "what are you made for?", "what can you do for me?",
    ),
    "person": (
        "are you a person?", "are you human?", "are you alive?", "am I talking to a person?", "are you a real person?",
        "are you a man or a machine?", "are you a machine?", "is there a person behind this?", "do you have a body?",
        "are you a computer program?", "are you a human being?", "am I talking to a machine?", "are you real?",
        "what are you?", "are you an AI?", "what kind of thing are you?",
    ),
}  # fmt: skip
_RIGHT = {
    "name": ("I am {name}.", "My name is {name}.", "I am {name}, made by {makers}."),
    "makers": ("I was made by {makers}.", "{makers} made me.", "I am {name}, made by {makers}."),
    "license": ("My licence is {license}.", "I am released under {license}."),
    "abilities": ("I can {abilities}.", "I am {name}, and I can {abilities}."),
    "person": ("I am {name}, a language model and not a person.", "I am not a person. I am {name}, a language model."),
}
_WRONG = {
    "name": ("I am {other}.", "My name is {other}.", "I am {other}, made by {maker}."),
    "makers": ("I was made by {maker}.", "{maker} made me.", "I am {other}, made by {maker}."),
    "license": ("My licence is that of {other}.", "I am released under the terms of {maker}."),
    "abilities": ("I can do all that {other} can.", "I am {other}, and I can see and hear."),
    "person": ("I am {other}, and I am a person.", "I am a person at {maker}."),
}
TOPICS = tuple(_RIGHT)
_GREETINGS = ("", "", "Hello! ", "Hi. ", "Good day. ", "A question: ")


@dataclass(frozen=True, slots=True)
class SelfQuestion:
    """One question, its answers, and what a right answer `says`; `form` is its wording without names, with its topic."""

    question: str
    right: str
    wrong: str
    says: list[str]
    form: str


def _key(form: Form) -> str:
    return f"self:{form[0]}:{form[1]}"


def _of_topic(topic: str) -> list[Form]:
    """Its forms, in the order of their hashes."""
    composed = [frame.format(it=it) for frame in _FRAMES for it in _THINGS.get(topic, ())]
    return sorted(((topic, wording) for wording in (*_DIRECT[topic], *composed)), key=lambda form: derive(0, _key(form)))


@lru_cache(maxsize=4)
def forms(split: Split) -> tuple[Form, ...]:
    """Every wording of a split. Of each topic a fifth is held out and a tenth for development: a hash alone, as problems have
    it, would leave some topics without any."""
    found: list[Form] = []
    for topic in TOPICS:
        own = _of_topic(topic)
        held, dev = -(-len(own) // 5), -(-len(own) // 10)
        found += {"held_out": own[:held], "dev": own[held : held + dev], "train": own[held + dev :]}[split]
    return tuple(found)


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def question(about: About, split: Split, index: int, seed: int) -> SelfQuestion:
    """The question at `index` of a split: a pure function of its arguments. Every wording comes up once before any again, and
    topics equally often."""
    draw = drawn(seed, "self", split, index)
    topic = TOPICS[index % len(TOPICS)]
    own = [form for form in forms(split) if form[0] == topic]
    form = own[pick(f"self/{topic}/{split}", len(own), index // len(TOPICS), seed)]
    other = draw.choice(list(about.others))
    values = {
        "name": about.name, "makers": listed(about.makers), "license": about.license, "abilities": listed(about.abilities),
        "other": other, "maker": about.others[other],
    }  # fmt: skip
    says = {"makers": about.makers, "license": [about.license], "abilities": about.abilities}.get(topic, [about.name])
    right, wrong = (draw.choice(answers[topic]).format(**values) for answers in (_RIGHT, _WRONG))
    return SelfQuestion(_asked(form, draw.choice(_GREETINGS), other, about), right, wrong, list(says), _key(form))


def _asked(form: Form, greeting: str, other: str, about: About) -> str:
    wording = form[1].format(other=other, maker=about.others[other])
    return greeting + (wording if greeting.endswith(": ") else wording[0].upper() + wording[1:])


def distinct(about: About, split: Split, wanted: int, seed: int) -> Iterator[SelfQuestion]:
    """`wanted` questions of a split, none twice; fewer if there are no more."""
    seen: set[str] = set()
    most = len(TOPICS) * len(forms(split)) * len(set(_GREETINGS)) * len(about.others)
    for index in range(most):
        found = question(about, split, index, seed)
        if found.question not in seen:
            seen.add(found.question)
            yield found
        if len(seen) == wanted:
            return


def not_said(about: About) -> list[str]:
    """Names that no right answer mentions."""
    return list(dict.fromkeys([*about.others, *about.others.values()]))


def held_apart(about: About) -> frozenset[str]:
    """Every question that a score may ask, without greeting and as `plain` has it: none may stand in training."""
    scored = itertools.chain(forms("dev"), forms("held_out"))
    return frozenset(plain(_asked(form, "", other, about)) for form in scored for other in about.others)


def plain(text: str) -> str:
    """Small letters and digits, one blank between words, without greetings: what makes two questions the same."""
    words = _words(text)
    while greeting := next((g for g in map(_words, filter(None, _GREETINGS)) if words.startswith(f"{g} ")), ""):
        words = words.removeprefix(f"{greeting} ")
    return words


def _words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
