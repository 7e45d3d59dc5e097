"""Ratings by an instruct model, and comparisons with a reference answer.

What a model wrote stands in the judge's prompt as a JSON string: nothing in it ends the quotation. Ratings are read from the
judge's reply alone. A comparison is asked in both orders, since judges prefer places (Zheng et al. 2023, "Judging
LLM-as-a-judge with MT-Bench and Chatbot Arena")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lehr.artifacts.artifact import canonical, sha256_text
from lehr.config.judged_checks import JUDGE_URL, JudgeCheck
from lehr.evals.judged import Gave, ToJudge, address
from lehr.post.chat_model import ChatModel, KeptRows, quoted
from lehr.post.engine_client import ATTEMPTS, Called, EngineClient
from lehr.post.jinja import compiled
from lehr.runtime.errors import UserError

TOKEN = "LEHR_JUDGE_TOKEN"
_SECONDS = 1.0  # for a pattern on one reply
_VERDICTS = {"A": 1.0, "B": 0.0, "C": 0.5}  # of the first answer


@dataclass(frozen=True)
class Request:
    """One question to the judge, and of what: `answer` counts the answers of a metric, `swapped` ones have the reference
    first, `number` counts the judge's samples."""

    key: str
    answer: int
    swapped: bool
    number: int
    text: str
    prompt: str


def prompt_of(to: ToJudge, answer: str, swapped: bool = False) -> str:
    """What the judge reads. Raises UserError for a template that does not fit the row."""
    check = to.check
    assert isinstance(check, JudgeCheck)
    first, second = (to.against, answer) if swapped else (answer, to.against)
    shown = {"first": first, "second": second} if check.against is not None else {"answer": answer}
    texts = {name: quoted(text) for name, text in {"prompt": to.prompt, "target": to.target, **shown}.items()}
    lowest, highest = (f"{end:g}" for end in check.scale)
    values = {"row": to.fields, **to.fields, **texts, "lowest": lowest, "highest": highest}
    return compiled(check.template, strict=True).text(values)


def rating_in(check: JudgeCheck, reply: str, swapped: bool = False) -> float | None:
    """What a reply says, between 0 and 1: the last match of the pattern. None where there is none, it is beyond the scale, or
    the pattern takes over a second."""
    import regex

    try:
        found = [str(one) for one in regex.compile(check.how).findall(reply, timeout=_SECONDS)]
    except TimeoutError:
        return None
    said = found[-1].strip() if found else ""
    if check.against is not None:
        verdict = _VERDICTS.get(said.upper())
        return verdict if verdict is None or not swapped else 1.0 - verdict
    try:
        value = (float(said) - check.scale[0]) / (check.scale[1] - check.scale[0])
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


class JudgeServer:
    """The judge of a check. `kept` has what it said, with what `about` says of each row."""

    def __init__(self, check: JudgeCheck, kept: KeptRows, attempts: int = ATTEMPTS) -> None:
        """Raises UserError where no address is given."""
        self._check, self._kept = check, kept
        called = Called("the judge", "the task's `metrics.judge`", TOKEN)
        client = EngineClient(url_of(check), check.timeout_seconds, called=called, attempts=attempts)
        self._judge = ChatModel(client, check.model)

    def probe(self) -> None:
        """Ask for a word. Raises as ChatModel.reply does."""
        self._judge.reply('Reply with the word "ready".', 8)

    def values(
        self,
        rows: Sequence[ToJudge],
        texts: Sequence[str],
        about: Mapping[str, Any],
        note: Callable[[str], None] = lambda words: None,
    ) -> tuple[Gave, Gave]:
        """Of each row's answers, equally many in `texts`, the mean rating or share of wins, and the share of unreadable
        replies. Raises as ChatModel.reply does, and UserError where no reply can be read."""
        check, times = self._check, len(texts) // len(rows)
        asked = [r for n, text in enumerate(texts) for r in self._requests(rows[n // times], n, text)]
        replies = self._replies(asked, times, about, note)
        read = [rating_in(check, replies[r.key], r.swapped) for r in asked]
        each = len(asked) // len(texts)
        answers = [self._of_answer(read[n : n + each]) for n in range(0, len(read), each)]
        if all(one is None for one in answers) and check.unreadable == "left_out":
            what = f"no reply of {check.model} holds what metrics.judge.pattern looks for"
            remedy = "read the replies in judged.jsonl of the attempt's folder; correct the pattern or ask another model"
            raise UserError(what, where=self._judge.client.url, remedy=remedy)
        values, weights = [], []
        for n in range(0, len(answers), times):
            good = [0.0 if a is None else a for a in answers[n : n + times] if a is not None or check.unreadable == "lowest"]
            values.append(sum(good) / len(good) if good else 0.0)
            weights.append(float(bool(good)))
        by, per_row = rows[0].scored_by, each * times
        unread = [sum(r is None for r in read[n : n + per_row]) / per_row for n in range(0, len(read), per_row)]
        return Gave(values, [] if all(weights) else weights, by), Gave(unread, [], by)

    def _of_answer(self, read: Sequence[float | None]) -> float | None:
        """The mean over the judge's samples; of a comparison a sample counts if both orders can be read."""
        orders = 2 if self._check.against is not None else 1
        samples = [read[n : n + orders] for n in range(0, len(read), orders)]
        whole = [sum(filter(None, one)) / orders for one in samples if None not in one]
        return sum(whole) / len(whole) if whole else None

    def _requests(self, row: ToJudge, answer: int, text: str) -> list[Request]:
        check, found = self._check, []
        for number in range(check.samples):
            for swapped in (False, True) if check.against is not None else (False,):
                prompt = prompt_of(row, text, swapped)
                key = sha256_text(canonical([check.model, prompt, check.temperature, check.max_tokens, number]))
                found.append(Request(key, answer, swapped, number, text, prompt))
        return found

    def _replies(
        self, asked: Sequence[Request], times: int, about: Mapping[str, Any], note: Callable[[str], None]
    ) -> dict[str, str]:
        """By key; equal requests are one."""
        found = {str(row["key"]): str(row["reply"]) for row in self._kept.read() if row.get("judge") == self._check.model}
        left = list({r.key: r for r in asked if r.key not in found}.values())

        def reply(r: Request) -> str:
            said = self._judge.reply(r.prompt, self._check.max_tokens, self._check.temperature, r.number)
            what = {"example": r.answer // times, "answer": r.answer % times, "swapped": r.swapped, "sample": r.number}
            rating = rating_in(self._check, said, r.swapped)
            row = {**about, **what, "judge": self._check.model, "asked": r.prompt, "reply": said, "rating": rating}
            self._kept.add({**row, "key": r.key})
            return said

        if left:
            before = f", {len(asked) - len(left):,} are known" if len(left) < len(asked) else ""
            note(f"{self._check.model} is asked for {len(left):,} judgements{before}")
            with ThreadPoolExecutor(min(self._check.concurrency, len(left)), "judge") as pool:
                found |= {r.key: said for r, said in zip(left, pool.map(reply, left), strict=True)}
        return found


def url_of(check: JudgeCheck) -> str:
    """The judge's address. Raises UserError where none is given."""
    missing, remedy = "no address of the judge is given", "give judge.url in the task's file"
    return address(check.url, JUDGE_URL, False, missing, remedy).rstrip("/")
