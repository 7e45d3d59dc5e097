"""The examples of a task of one's own: its rows in its templates, with solved examples before them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from lehr.config.judged_checks import JUDGED
from lehr.config.own_task import OwnTask, Shots, Step
from lehr.data.synthetic.conversations import Message
from lehr.evals.answers import NORMALISED, OWN_CHECKS
from lehr.evals.own_judged import to_be_judged
from lehr.evals.own_rows import Filled, Templates, filled, text_of, value_of
from lehr.evals.task import Asked, Document, Own, Passage, Question
from lehr.post.sets.files import Row
from lehr.post.verifiers import check_args
from lehr.runtime.errors import UserError

_LONGEST = 200  # characters of a source's name
_PROGRAM = ("continues", "tests")  # arguments of code_tests in which a text is a field or a template, never itself
_TAKES_TARGET = ("last_number", "last_integer", "math_equal")  # as their `answer`


def made(task: OwnTask, rows: Sequence[Row], pool: Sequence[Row], known: Mapping[str, str]) -> list[Own]:
    """The examples, in the rows' order; `pool`: the rows of which shots are taken; `known`: the digests of checks that models
    make. Raises UserError, with file and row, for what is wrong in one."""
    if task.kind == "text":
        return list(_passages(task, rows))
    templates = _templates(task)
    taken = _Taken(task, task.shots, pool) if task.shots else None
    found = [_example(task, templates, row, taken(row) if taken else []) for row in rows]
    if not known:
        return found
    return [to_be_judged(task, one, row, known) for one, row in zip(found, rows, strict=True) if isinstance(one, Asked)]


def _templates(task: OwnTask, **other: Any) -> Templates:
    keys = {"prompt": task.prompt or "", "target": task.target, "choices": task.choices, **other}
    of_spans = [said for said in (task.metrics or {}).values() if said.get("normalise") == "drop"]
    joint = next((said["separator"] for said in of_spans if isinstance(said.get("separator"), str)), ", ")
    return Templates(
        **keys,
        letters=task.formulation == "letters",
        literal_lists=task.encoding == "lm-eval",
        spans=joint if of_spans else None,
    )


class _Taken:
    """Takes the solved examples for one row after another: drawn ones from one stream of random numbers, as lm-eval draws them
    (its ContextSampler: one more than needed where the scored row could be among them)."""

    def __init__(self, task: OwnTask, shots: Shots, pool: Sequence[Row]) -> None:
        self._shots, self._pool, self._drawing = shots, list(pool), random.Random(shots.seed)
        templates = _templates(task, **shots.fields)
        self._solved: Callable[[Row], Filled] = lambda row: filled(templates, row.values, row.where)
        self._known: dict[int, Filled] = {}
        self._same: dict[str, set[int]] = {}  # a row's content -> where it stands in the pool
        for number, one in enumerate(self._pool if shots.apart else ()):
            self._same.setdefault(_content(one), set()).add(number)

    def __call__(self, row: Row) -> list[Filled]:
        shots, pool = self._shots, self._pool
        same = self._same.get(_content(row), set()) if shots.apart else set()
        if (left := len(pool) - len(same)) < shots.number:
            what = f"shots: {shots.number} are wanted, and there are {left} rows to take them from"
            raise UserError(what, where=row.where, remedy="lower shots.number, or give more rows")
        if shots.order == "first":
            chosen = list(islice((n for n in range(len(pool)) if n not in same), shots.number))
        elif not shots.apart:
            chosen = self._drawing.sample(range(len(pool)), shots.number)
        else:
            drawn = self._drawing.sample(range(len(pool)), min(shots.number + 1, len(pool)))
            chosen = [n for n in drawn if n not in same][: shots.number]
            if len(chosen) < shots.number:
                chosen = self._drawing.sample([n for n in range(len(pool)) if n not in same], shots.number)
        return [self._filled(n) for n in chosen]

    def _filled(self, number: int) -> Filled:
        if number not in self._known:
            self._known[number] = self._solved(self._pool[number])
        return self._known[number]


def _content(row: Row) -> str:
    """What two equal rows have in common. Values of Parquet that JSON has not are told apart by their words."""
    return json.dumps(row.values, sort_keys=True, default=repr)


def _family(task: OwnTask, row: Row) -> str:
    if task.cluster is None:
        return ""
    if task.cluster not in row.values:
        raise UserError(f"cluster: no field `{task.cluster}` in this row", where=row.where, remedy="mend the row or the key")
    return f"{task.cluster}={row.values[task.cluster]}"


def _passages(task: OwnTask, rows: Sequence[Row]) -> Iterator[Passage]:
    """Raises UserError for a source of which some rows have a domain and others have none: its mean over domains would leave
    those out."""
    divided: dict[str, tuple[bool, str]] = {}  # of each source whether it has domains, and the row that says so
    for row in rows:
        text = text_of("text", task.text or "", row.values, row.where)
        if not text:
            raise UserError("text: it is empty", where=row.where, remedy="remove the row")
        if unwritable(text):
            raise UserError("text: lone surrogates, no valid Unicode", where=row.where, remedy="mend the row")
        if task.source is None and task.window is None:
            yield Passage(text, _family(task, row))
            continue
        source = _named("source", task.source, row) if task.source is not None else ""
        domain = _named("domain", task.domain, row) if task.domain is not None else ""
        has, where = divided.setdefault(source, (bool(domain), row.where))
        if has != bool(domain):
            what = f"domain: of the source {source!r:.60} this row has {'none' if has else 'one'}, unlike {where}"
            raise UserError(what, where=row.where, remedy="give each row of a source a domain, or none")
        yield Document(text, _family(task, row), source, domain, task.window or 0, task.stride or 0)
    if task.domain is not None and not any(has for has, _ in divided.values()):
        what = f"domain: no row has a domain by {task.domain!r:.60}"
        raise UserError(what, where=rows[0].where, remedy="correct the key, or leave it out")


def _named(key: str, said: str, row: Row) -> str:
    """The name of a row's source or domain, empty for a domain that it does not have. Raises UserError for what is no name."""
    absent = said not in row.values and said.isidentifier()  # else a template
    value = None if key == "domain" and absent else value_of(key, said, row.values, row.where)
    if value is None and key == "domain":
        return ""
    name = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(name, str) or (key == "source" and not name.strip()) or len(name) > _LONGEST or unwritable(name):
        what = f"{key}: {value!r:.60} is no name of 1 to {_LONGEST} characters"
        raise UserError(what, where=row.where, remedy="mend the row, or write a template that gives one")
    return name if name.strip() else ""


def unwritable(text: str) -> bool:
    """Whether a text has half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _example(task: OwnTask, templates: Templates, row: Row, shots: Sequence[Filled]) -> Own:
    own = filled(templates, row.values, row.where)
    description = text_of("description", task.description, row.values, row.where) if task.description else ""
    if task.kind == "generation":
        return _asked(task, own, row, description, shots)
    solved = "".join(f"{s.prompt}{task.target_delimiter}{s.answer}{task.fewshot_delimiter}" for s in shots)
    # lm-eval puts no delimiter before a continuation; it has one before a choice, and in shots.
    bare = task.kind == "continuation" and task.encoding == "lm-eval"
    before = "" if bare else task.target_delimiter
    texts = own.choices or own.targets[:1]
    alone = None if task.alone is None else text_of("alone", task.alone, row.values, row.where) if task.alone else ""
    return Question(
        f"{description}{solved}{own.prompt}", tuple(before + text for text in texts), own.golds or (0,), len(before), alone,
        task.judged_by if task.kind == "choice" else "answer_bits_per_byte", task.encoding,
        f"{own.prompt}{before}{own.answer}", _family(task, row),
    )  # fmt: skip


def _asked(task: OwnTask, own: Filled, row: Row, description: str, shots: Sequence[Filled]) -> Asked:
    if shots and not shots[0].targets:
        what = "shots: a solved example needs its answer, and the task has no target"
        raise UserError(what, where=row.where, remedy="give target, or shots.fields.target")
    prompt, messages = "", list[Message]()
    if task.chat:
        messages += [Message("system", description)] if description else []
        for s in shots:
            messages += [Message("user", s.prompt), Message("assistant", s.answer)]
        messages.append(Message("user", own.prompt))
    else:
        solved = "".join(f"{s.prompt}{task.target_delimiter}{s.answer}{task.fewshot_delimiter}" for s in shots)
        prompt = f"{description}{solved}{own.prompt}"
    metrics = (task.metrics or {}).items()
    checks = tuple((name, {} if name in JUDGED else _arguments(name, said, own, row)) for name, said in metrics)
    ways = {name: tuple(map(_step, steps)) for name, steps in task.extract.items()}
    stop = task.stop if task.stop is not None else [] if task.chat else [task.fewshot_delimiter]
    return Asked(
        prompt, tuple(messages), checks, tuple((ways or {"": ()}).items()), tuple(stop), task.max_tokens, task.temperature,
        task.samples, tuple(task.pass_at), task.encoding, own.prompt, _family(task, row),
    )  # fmt: skip


def _step(step: Step) -> tuple[str, str, int, str]:
    return step.do, step.pattern, step.group, step.fallback


def _arguments(name: str, said: dict[str, Any], own: Filled, row: Row) -> dict[str, Any]:
    """The arguments of a check for a row. Raises UserError for wrong ones."""
    strict = _PROGRAM if name == "code_tests" else ()
    args = {key: _argument(f"metrics.{name}.{key}", value, row, key in strict) for key, value in said.items()}
    if name in OWN_CHECKS:
        args.setdefault("answers", [list(one) if isinstance(one, tuple) else one for one in own.answers])
        return _checked(name, args, row)
    if name in _TAKES_TARGET and "answer" not in args and own.targets:
        args["answer"] = own.targets[0]
    if name == "code_tests" and isinstance(args.get("tests"), str):
        args["tests"] = [args["tests"]]
    try:
        check_args(name, args)
    except UserError as error:
        raise UserError(f"metrics.{name}: {error.what}", where=row.where, remedy=error.remedy) from None
    return args


def _argument(key: str, value: Any, row: Row, strict: bool) -> Any:
    """What an argument says of a row: a field's value, what a template writes, or itself, which `strict` excludes for texts."""
    if isinstance(value, str) and (value in row.values or "{{" in value or "{%" in value or (strict and value)):
        return value_of(key, value, row.values, row.where)
    return value


def _checked(name: str, args: dict[str, Any], row: Row) -> dict[str, Any]:
    for key in args:
        if key not in (*OWN_CHECKS[name], "answers"):
            takes = ", ".join(OWN_CHECKS[name])
            raise UserError(f"metrics.{name}.{key}: there is no such argument", where=row.where, remedy=f"it takes {takes}")
    how = args.get("normalise", NORMALISED[name][1 if name == "exact_match" else 0])
    if how not in NORMALISED[name]:
        raise UserError(
            f"metrics.{name}.normalise: {how!r} is none", where=row.where, remedy=f"write {', '.join(NORMALISED[name])}"
        )
    for key in ("ignore_case", "ignore_punctuation", "ignore_numbers"):
        if not isinstance(args.get(key, False), bool):
            raise UserError(f"metrics.{name}.{key}: it is true or false", where=row.where, remedy="mend the key")
    if isinstance(args["answers"], str):  # a field with one right answer
        args["answers"] = [args["answers"]]
    if not isinstance(args["answers"], list):
        what = f"metrics.{name}.answers: {args['answers']!r:.60} is no list of right answers"
        raise UserError(what, where=row.where, remedy="name a field with texts")
    if not args["answers"]:
        raise UserError(f"metrics.{name}: there is no right answer", where=row.where, remedy="give the task its target")
    _check_spans(name, args, row)
    return args


def _check_spans(name: str, args: dict[str, Any], row: Row) -> None:
    """Raises UserError for arguments that the answer's spans do not have, or right answers that do not fit them."""
    of_spans, separator = args.get("normalise") == "drop", args.get("separator", ", ")
    if not isinstance(separator, str) or not separator or ("separator" in args and not of_spans):
        what = f"metrics.{name}.separator: it is the text between an answer's spans, which `normalise: drop` has alone"
        raise UserError(what, where=row.where, remedy="write it as in ', ', or leave it out")
    if of_spans and (flags := [key for key in args if key.startswith("ignore_") or key == "remove"]):
        what = f"metrics.{name}.{flags[0]}: `normalise: drop` has rules of its own"
        raise UserError(what, where=row.where, remedy="leave it out")
    for one in args["answers"]:
        spans = one if of_spans and isinstance(one, list) and one else [one]
        if not all(isinstance(span, str) for span in spans):
            what = f"metrics.{name}.answers: {one!r:.60} is no right answer"
            raise UserError(what, where=row.where, remedy="give texts; lists of texts with `normalise: drop`")
