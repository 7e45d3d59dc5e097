"""Whether a difference is called significant as often as the minimal detectable effect, the level and Holm's rule say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lehr.analysis.differences import score_rows
from lehr.analysis.runs import ComparedRun, Group
from lehr.evals.differences import Difference
from lehr.evals.items import ItemScores
from lehr.evals.significance import detectable, holm, most_differing, sign_test, t_p_value, t_quantile
from lehr.report.scores import ScoreRecord

PLANTED, DIFFERING = 0.01, 0.03  # better by 1 %, with other answers to 3 %


def _upper(t: float, freedom: int) -> float:
    """Student's probability beyond t, from its density alone."""
    x = np.tan(np.linspace(math.atan(t), math.pi / 2, 400_001)[:-1])  # dx = (1 + x^2) d(angle)
    size = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    density = np.exp(size - (freedom + 1) / 2 * np.log1p(x * x / freedom)) * (1 + x * x)
    return float(np.trapezoid(density, dx=(math.pi / 2 - math.atan(t)) / 400_000))


@pytest.mark.parametrize("freedom", [2, 7, 60, 4000])
def test_students_t_is_the_integral_of_its_density(freedom: int) -> None:
    for t in (0.3, 1.0, 2.8):
        assert t_p_value(t, freedom) == pytest.approx(2 * _upper(t, freedom), rel=1e-4)
        assert t_quantile(1 - _upper(t, freedom), freedom) == pytest.approx(t, rel=1e-4)
    assert detectable(0.5, 10**7) == pytest.approx(0.5 * (1.959964 + 0.841621), rel=1e-5)  # Miller's z


def test_exact_and_adjusted_p_values() -> None:
    # Of 5 that differ all for one side: 2 / 2^5. Of 5, 4 against 1: 2 (1 + 5) / 2^5. Of 4, 2 and 2: 1.
    assert sign_test([0, 1, 1, 1, 1, 1, 0]) == 2 / 32 and sign_test([1, 1, 1, 1, -1]) == 12 / 32
    assert sign_test([1, -1, 1, -1]) == 1 == sign_test([0.0])
    assert most_differing(100) == pytest.approx(0.02951, rel=1e-3) and (1 - most_differing(7)) ** 7 == pytest.approx(0.05)
    # Holm 1979, by hand: 0.005 x 4; 0.01 x 3; 0.03 x 2; 0.04 not below the one before it.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])


def test_the_detectable_effect_has_the_power_it_says_at_few_degrees_of_freedom() -> None:
    rng, freedom, times = np.random.default_rng(1), 9, 400_000
    drawn_N = rng.standard_normal(times) + detectable(1.0, freedom)
    t_N = drawn_N / np.sqrt(rng.chisquare(freedom, times) / freedom)
    assert np.mean(np.abs(t_N) > t_quantile(0.975, freedom)) == pytest.approx(0.8, abs=0.003)


def _run(name: str, answers: list[np.ndarray], clusters: list[int] | None = None) -> Group:
    run = ComparedRun(name, Path(name), {}, [], [], {})
    for number, values_N in enumerate(answers):
        task = f"task {number}"
        said = {"stage": "s", "task": task, "split": "held_out", "metric": "exact_match"}
        n = len(values_N)
        run.scores.append(ScoreRecord.model_validate({**said, "value": values_N.mean(), "n": n}))
        items = {"examples": "x", "values": values_N.tolist(), "weights": [], "clusters": clusters or []}
        run.items["s", task, "exact_match"] = ItemScores.model_validate({**said, **items})
    return Group(name, [run])


def _answers(rng: np.random.Generator, n: int, better: float) -> tuple[np.ndarray, np.ndarray]:
    """Of two models: the second has other answers to DIFFERING of the questions, more right ones by `better`."""
    kind_N = rng.choice(4, n, p=[(DIFFERING - better) / 2, (DIFFERING + better) / 2, 0.5, 0.5 - DIFFERING])
    return np.isin(kind_N, (0, 2)).astype(float), np.isin(kind_N, (1, 2)).astype(float)


def _compared(rng: np.random.Generator, n: int, better: float, tasks: int = 1) -> list[Difference]:
    pairs = [_answers(rng, n, better) for _ in range(tasks)]
    first, other = _run("a", [a for a, _ in pairs]), _run("b", [b for _, b in pairs])
    return [d for row in score_rows([first, other], ["s", "s"]) for d in row.differences if d is not None]


def test_a_difference_is_what_numpy_says_with_and_without_clusters() -> None:
    rng = np.random.default_rng(3)
    a_N, b_N = rng.random(300).round(), rng.random(300).round()
    [row] = score_rows([_run("a", [a_N]), _run("b", [b_N])], ["s", "s"])
    [found], apart_N = row.differences, b_N - a_N
    error = apart_N.std(ddof=1) / math.sqrt(300)
    assert found is not None and found.value == pytest.approx(apart_N.mean())
    assert found.p_value == pytest.approx(2 * _upper(abs(apart_N.mean()) / error, 299), rel=1e-4) and found.note == ""
    assert found.detectable == pytest.approx((t_quantile(0.975, 299) + t_quantile(0.8, 299)) * error)
    of_6 = [i // 50 for i in range(300)]
    [clustered] = score_rows([_run("a", [a_N], of_6), _run("b", [b_N], of_6)], ["s", "s"])[0].differences
    means_C = apart_N.reshape(6, 50).mean(1)  # clusters of one size: as of their six means
    assert clustered is not None and clustered.low is not None and "of only 6" in clustered.note
    assert clustered.value - clustered.low == pytest.approx(t_quantile(0.975, 5) * means_C.std(ddof=1) / math.sqrt(6))


def test_what_is_not_known_is_said() -> None:
    same = np.ones(60)
    [none] = score_rows([_run("a", [same]), _run("b", [same])], ["s", "s"])[0].differences
    assert none is not None and (none.low, none.p_value, none.is_clear) == (None, None, False)
    assert none.note == "none of 60 differs: up to 4.9 % could (95 %)"
    four = np.array([0.0] * 4 + [1.0] * 56)  # Student's t would call it significant: p 0.044; McNemar's exact test 2 / 2^4
    [few] = score_rows([_run("a", [four]), _run("b", [same])], ["s", "s"])[0].differences
    assert few is not None and few.p_value == 2 / 16 and not few.is_clear and "only 4 of 60 differ" in few.note


@pytest.mark.long
def test_a_planted_difference_is_found_as_often_as_the_minimal_detectable_effect_says() -> None:
    """600 pairs of answer files each at the size whose minimal detectable effect is 1 %, at a half and at twice of it."""
    rng, times = np.random.default_rng(11), 600
    spread = math.sqrt(DIFFERING - PLANTED**2)
    enough = round((2.8016 * spread / PLANTED) ** 2)
    # Power of a normal test: 1 - Phi(1.96 - effect / error), the other side's being nothing.
    for n in (enough // 2, enough, 2 * enough):
        found = [_compared(rng, n, PLANTED)[0] for _ in range(times)]
        power = 0.5 * math.erfc((1.96 - PLANTED * math.sqrt(n) / spread) / math.sqrt(2))
        share = np.mean([d.is_clear for d in found])
        assert abs(share - power) < 3.3 * math.sqrt(power * (1 - power) / times), (n, share, power)
        assert np.mean([d.detectable or 0.0 for d in found]) == pytest.approx(PLANTED * math.sqrt(enough / n), rel=0.01)


@pytest.mark.long
def test_equal_models_differ_in_a_twentieth_of_comparisons_and_holm_holds_for_all_tasks() -> None:
    rng, times, tasks = np.random.default_rng(5), 300, 8
    families = [_compared(rng, 1000, 0.0, tasks) for _ in range(times)]
    flat = [d.p_value or 0.0 for family in families for d in family]
    assert abs(np.mean(np.array(flat) < 0.05) - 0.05) < 3.3 * math.sqrt(0.05 * 0.95 / len(flat))
    any_of_them = np.mean([min(d.p_value or 0.0 for d in family) < 0.05 for family in families])
    assert any_of_them == pytest.approx(1 - 0.95**tasks, abs=0.09)  # 34 % without a correction
    adjusted = np.mean([any(d.is_clear for d in family) for family in families])
    assert adjusted < 0.05 + 3.3 * math.sqrt(0.05 * 0.95 / times)
