"""The best of several answers to each prompt, as rows of SFT. Shapes: M rewards, P prompts, S answers to each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lehr.data.tokenizer import Tokenizer
from lehr.evals.estimate import mean
from lehr.post.rendered import Rendered
from lehr.post.rewards.ensembles import joined
from lehr.post.sets.asked_prompts import Asked
from lehr.post.sets.pool import PoolWriter
from lehr.runtime.errors import UserError
from lehr.train.fit import RankContext

BEST, LEFT_OUT = "best.jsonl", "left_out.jsonl"


@dataclass(frozen=True)
class Answered:
    """S answers to each prompt, the answers prompt by prompt; `ended_PS` where they ended by themselves. `scores_MPS` are the
    rewards `names` with their `weights`, None without any; `verified_PS` the verifiers' judgements: NaN where there is none."""

    asked: Sequence[Asked]
    prompts: Sequence[Sequence[int]]
    answers: Sequence[list[int]]
    ended_PS: np.ndarray
    names: Sequence[str]
    weights: Sequence[float]
    scores_MPS: np.ndarray | None
    verified_PS: np.ndarray

    def judged(self, how: str) -> np.ndarray:
        """By what the best is chosen, (P, S), higher is better: NaN for an answer that takes no part."""
        if self.scores_MPS is None:
            return np.where(self.ended_PS, self.verified_PS, np.nan)
        return joined(self.scores_MPS, np.array(self.weights), [a.family for a in self.asked], how)


def write_best(context: RankContext, c: Any, tokenizer: Tokenizer, found: Answered) -> dict[str, Any]:
    """Write the rows, each prompt's best with all scores, the prompts without one, and the tokenizer; returns counts by family
    and the curve. Raises UserError if no prompt is left."""
    judged_PS = found.judged(c.ensemble)
    sets: dict[str, dict[str, Any]] = {}
    tokenizer.save(context.out)
    with (
        PoolWriter(context.out) as writer,
        (context.out / BEST).open("w", encoding="utf-8") as file,
        (context.out / LEFT_OUT).open("w", encoding="utf-8") as left_out,
    ):
        for p, asked in enumerate(found.asked):
            counts = sets.setdefault(asked.family, {"rows": 0, "tokens": 0, "trained_tokens": 0, "dropped": {}})
            reason = _refused(judged_PS[p], verifiers=found.scores_MPS is None)
            best = 0 if reason else int(np.nanargmax(judged_PS[p]))
            answer = found.answers[p * c.n + best]
            if not reason and len(found.prompts[p]) + len(answer) > c.max_length:
                reason = "longer than max_length"
            if reason:
                counts["dropped"][reason] = counts["dropped"].get(reason, 0) + 1
                left_out.write(json.dumps({**_asked(asked), "reason": reason}, sort_keys=True) + "\n")
                continue
            writer.add(Rendered([*found.prompts[p], *answer], [False] * len(found.prompts[p]) + [True] * len(answer)))
            file.write(json.dumps(_row(found, judged_PS, p, best, tokenizer.decode(answer)), sort_keys=True) + "\n")
            counts["rows"] += 1
            counts["tokens"] += len(found.prompts[p]) + len(answer)
            counts["trained_tokens"] += len(answer)
        if not len(writer):
            raise _none_left(context, sets)
        writer.finish(range(len(writer)))
    return {"sets": sets, "curve": curve(found, judged_PS)}


def _refused(judged_S: np.ndarray, *, verifiers: bool) -> str:
    """Why a prompt has no best answer; empty if it has one."""
    if np.isnan(judged_S).all():
        return "no answer ended"
    return "no answer was right" if verifiers and np.nanmax(judged_S) <= 0 else ""


def _asked(asked: Asked) -> dict[str, Any]:
    return {"family": asked.family, "prompt": [m.row() for m in asked.prompt]}


def _row(found: Answered, judged_PS: np.ndarray, p: int, best: int, text: str) -> dict[str, Any]:
    """A prompt's best answer, as people read it; `judged` are all answers' scores in the order in which they were sampled."""
    raw = {} if found.scores_MPS is None else dict(zip(found.names, map(_said, found.scores_MPS[:, p, best]), strict=True))
    return {
        **_asked(found.asked[p]), "answer": text, "best": best, "scores": raw,
        "judged": list(map(_said, judged_PS[p])), "verified": _said(found.verified_PS[p, best]),
    }  # fmt: skip


def _said(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _none_left(context: RankContext, sets: dict[str, dict[str, Any]]) -> UserError:
    reasons = ", ".join(f"{family}: {reason} {n:,}" for family, of in sets.items() for reason, n in of["dropped"].items())
    return UserError(f"no prompt has a best answer ({reasons})", where=context.name, remedy="raise n, or max_new_tokens")


def curve(found: Answered, judged_PS: np.ndarray) -> list[dict[str, Any]]:
    """What more answers bring: for 1, 2, 4 ... S answers the mean of the best one's score, and of the verifiers' judgement of
    it, over the prompts that have verifiers. The S answers are divided into as many groups as there are, and a prompt's value
    is the mean over its groups; a group in which no answer ended is wrong, and has no score."""
    total = judged_PS.shape[1]
    sizes = [size for size in (2**k for k in range(total.bit_length())) if size < total]
    checked_P = np.array([bool(a.verifier) for a in found.asked])
    rows = []
    for size in [*sizes, total]:
        groups = [slice(g * size, (g + 1) * size) for g in range(total // size)]
        picked = [_best_in(judged_PS[:, here], found.verified_PS[:, here]) for here in groups]
        scores_PG, right_PG = (np.stack(values, axis=1) for values in zip(*picked, strict=True))
        known_P = ~np.isnan(scores_PG).all(axis=1)
        own = [float(np.nanmean(row)) for row in scores_PG[known_P]]
        right = [float(row.mean()) for row in right_PG[checked_P]]
        row: dict[str, Any] = {"n": size, "prompts": len(own), "score": mean(own).value if own else None}
        if right:
            row |= {"verified": mean(right).value, "stderr": mean(right).stderr, "of": len(right)}
        rows.append(row)
    return rows


def _best_in(judged_PS: np.ndarray, verified_PS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each prompt's best score, NaN without any, and the verifiers' judgement of that answer, 0 without any."""
    none_P = np.isnan(judged_PS).all(axis=1)
    best_P = np.where(np.isnan(judged_PS), -np.inf, judged_PS).argmax(axis=1)
    rows = np.arange(len(judged_PS))
    scores_P = np.where(none_P, np.nan, judged_PS[rows, best_P])
    return scores_P, np.where(none_P, 0.0, np.nan_to_num(verified_PS[rows, best_P]))
