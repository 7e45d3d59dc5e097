"""Lines about how far scoring is."""

from __future__ import annotations

import torch

from lehr.evals.pace import Pace
from tests.model.test_score import _model, _requests


def test_a_line_at_most_every_half_minute_with_rate_and_rest() -> None:
    """Ten requests a second of 1,200: lines after 30, 60 and 90 seconds, and none at the end."""
    said, now = list[str](), [0.0]
    pace = Pace(said.append, lambda: now[0])
    pace.begin("quiz, dev")
    for done in range(1, 1201):
        pace(done, 1200)
        now[0] = done * 0.1
    assert len(said) == 3
    assert said[0].startswith("quiz, dev: 301 of 1,200 requests, 10.0 a second, 1.5 minutes left"), said[0]


def test_every_request_is_told_once_whatever_the_threads() -> None:
    lm, asked, before = _model(), _requests(), torch.get_num_threads()
    told = list[tuple[int, int]]()
    lm.watch = lambda done, total: told.append((done, total))
    total = sum(bool(continuation) for _, continuation in asked)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            told.clear()
            lm.logprobs(asked)
            assert told == [(done, total) for done in range(1, total + 1)]
    finally:
        torch.set_num_threads(before)
