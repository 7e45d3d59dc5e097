"""Merging of weights against the formulas of the papers, written down once more in NumPy with float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lehr.post import weight_files
from lehr.post.merge_methods import dare, kth_magnitude, linear, slerp, ties
from lehr.post.weight_files import Method, merge_files
from lehr.runtime.errors import UserError
from lehr.runtime.seeds import derive, keyed_uniform
from tests.peak import most_resident

Array = np.ndarray
State = dict[str, torch.Tensor]
SHAPES = {"b.matrix": (37, 41), "a.vector": (9,), "c.empty": (0, 4), "d.one": (1,)}


def states(count: int, seed: int = 0, spread: float = 0.3) -> list[State]:
    """An ancestor, then `count` models not far from it."""
    generator = torch.Generator().manual_seed(seed)
    base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    models = [{k: t + spread * torch.randn(t.shape, generator=generator) for k, t in base.items()} for _ in range(count)]
    return [base, *models]


def saved(folder: Path, some: Sequence[State]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.safetensors" for number in range(len(some))]
    for path, state in zip(paths, some, strict=True):
        save_file(state, path)
    return paths


def merged(folder: Path, some: Sequence[State], method: Method, base: bool = True) -> State:
    """`some` without the first, merged; the first is the ancestor."""
    first, *others = saved(folder, some)
    merge_files(others, first if base else None, folder / "out", method)
    return {name: tensor.clone() for name, tensor in load_file(folder / "out").items()}  # or the next merge would be seen in it


def arrays(some: Sequence[State], name: str) -> list[Array]:
    return [state[name].double().numpy().ravel() for state in some]


def by_linear(base: Array, models: list[Array], w: list[float]) -> Array:
    return np.asarray(sum(a * m for a, m in zip(w, models, strict=True)) / sum(w))


def by_slerp(base: Array, models: list[Array], w: list[float], t: float = 0.3) -> Array:
    """Shoemake 1985, of two models; straight where they are nearly parallel."""
    a, b = models
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) if a.size and a.any() and b.any() else 1.0
    if abs(cosine) >= 0.9995:
        return np.asarray((1 - t) * a + t * b)
    angle = np.arccos(cosine)
    return np.asarray((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle))


def elected(base: Array, kept: list[Array], w: list[float], scale: float) -> Array:
    """Yadav et al. 2023, Algorithm 1 after trimming: the sign of the greater mass, then the mean of those that have it."""
    out = np.zeros_like(base)
    for i in range(base.size):
        column = [k[i] for k in kept]
        sign = np.sign(sum(a * c for a, c in zip(w, column, strict=True)))
        same = [(a, c) for a, c in zip(w, column, strict=True) if c and np.sign(c) == sign]
        out[i] = sum(a * c for a, c in same) / sum(a for a, _ in same) if same else 0.0
    return base + scale * out


def by_ties(base: Array, models: list[Array], w: list[float], density: float = 0.4, scale: float = 0.7) -> Array:
    kept = []
    for model in models:
        # In fp32, as the differences themselves are: otherwise another element could be the last one kept.
        difference = (model.astype(np.float32) - base.astype(np.float32)).astype(np.float64)
        least = np.sort(np.abs(difference))[-max(1, int(density * difference.size))] if difference.size else 0.0
        kept.append(np.where(np.abs(difference) >= least, difference, 0.0))
    return elected(base, kept, w, scale)


def by_dare(consensus: bool, name: str, base: Array, models: list[Array], w: list[float]) -> Array:
    """Yu et al. 2023: dropped with probability p, the rest over 1 - p. The random numbers are checked by themselves below."""
    kept = [
        np.where(keyed_uniform(0, base.size, derive(key, name)) >= 0.6, model - base, 0.0) / (1 - 0.6)
        for key, model in zip(KEYS, models, strict=True)
    ]
    return elected(base, kept, w, 0.7) if consensus else base + 0.7 * by_linear(base, kept, w)


KEYS = [11, 22, 33]
W = [0.5, 1.5, 1.0]
CASES: dict[str, tuple[int, Method, Callable[[str, Array, list[Array], list[float]], Array]]] = {
    "linear": (3, linear(W), lambda _, *a: by_linear(*a)),
    "slerp": (2, slerp(0.3), lambda _, *a: by_slerp(*a)),
    "ties": (3, ties(W, 0.4, scale=0.7), lambda _, *a: by_ties(*a)),
    "dare_linear": (3, dare(W, 0.6, KEYS, False, scale=0.7), lambda name, *a: by_dare(False, name, *a)),
    "dare_ties": (3, dare(W, 0.6, KEYS, True, scale=0.7), lambda name, *a: by_dare(True, name, *a)),
}


@pytest.mark.parametrize("block", [7, 1 << 18])
@pytest.mark.parametrize("case", CASES)
def test_every_method_is_its_papers_whatever_the_block(
    case: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_files, "BLOCK", block)
    count, method, paper = CASES[case]
    some = states(count, seed=3)
    found = merged(tmp_path, some, method)
    for name in SHAPES:
        base, *models = arrays(some, name)
        expected = paper(name, base, models, W[:count])
        np.testing.assert_allclose(found[name].double().numpy().ravel(), expected, rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_a_method_is_the_same_bits_for_any_block_and_order_of_tensors(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, method, _ = CASES[case]
    some = states(count, seed=4)
    whole = merged(tmp_path, some, method)
    first, *others = saved(tmp_path, some)
    turned = tmp_path / "turned.safetensors"
    _write_in_order(turned, dict(sorted(some[-1].items(), reverse=True)))
    monkeypatch.setattr(weight_files, "BLOCK", 64)
    merge_files([*others[:-1], turned], first, tmp_path / "out", method)
    found = load_file(tmp_path / "out")
    if case != "slerp":  # whose sums over a tensor are of blocks: the same but for their last bits
        assert all(torch.equal(found[name], whole[name]) for name in SHAPES)
    assert all(torch.allclose(found[name], whole[name], atol=1e-6) for name in SHAPES)


def _write_in_order(path: Path, state: State) -> None:
    """safetensors sorts tensors itself; other writers do not."""
    from lehr.artifacts.tensors import stream_tensors

    stream_tensors(path, {k: (t.dtype, tuple(t.shape)) for k, t in state.items()}, (t.reshape(-1) for t in state.values()))


def test_equal_weights_are_the_soup_to_the_bit(tmp_path: Path) -> None:
    some = states(3)
    for weights in ([1.0] * 3, [0.3] * 3):
        found = merged(tmp_path, some, linear(weights), base=False)
        for name in SHAPES:
            assert torch.equal(found[name], (some[1][name] + some[2][name] + some[3][name]) / 3), name


def test_what_has_to_be_a_parent_is_one(tmp_path: Path) -> None:
    base, model = states(1)
    for at in (0.0, 0.5, 1.0):
        alike = merged(tmp_path, [base, model, model], slerp(at), base=False)
        assert all(torch.equal(alike[name], model[name]) for name in SHAPES)
    ends = [merged(tmp_path, [base, base, model], slerp(at), base=False) for at in (0.0, 1.0)]
    for state, end in zip((base, model), ends, strict=True):
        assert all(torch.allclose(end[name], state[name], atol=1e-6) for name in SHAPES)
    for method in (ties([1.0], 1.0), dare([1.0], 0.0, [1], True), linear([2.0])):
        alone = merged(tmp_path, [base, model], method)
        assert all(torch.allclose(alone[name], model[name], atol=1e-6) for name in SHAPES)
    some = states(3, seed=5)
    undropped = merged(tmp_path, some, dare(W, 0.0, KEYS, False))
    plain = merged(tmp_path, some, linear(W), base=False)
    assert all(torch.allclose(undropped[name], plain[name], atol=1e-6) for name in SHAPES)


def test_without_normalising_weights_are_factors(tmp_path: Path) -> None:
    some = states(2)
    base, first, second = arrays(some, "b.matrix")
    twice = merged(tmp_path, some, dare([2.0, 0.5], 0.0, [1, 2], False, normalise=False))["b.matrix"].double().numpy().ravel()
    np.testing.assert_allclose(twice, base + 2 * (first - base) + 0.5 * (second - base), atol=1e-5)
    plain = merged(tmp_path, some, linear([2.0, -0.5], normalise=False))["b.matrix"].double().numpy().ravel()
    np.testing.assert_allclose(plain, 2 * first - 0.5 * second, atol=1e-5)


def test_slerp_of_opposite_and_of_zero_tensors_is_straight(tmp_path: Path) -> None:
    a = {"w": torch.tensor([1.0, 2.0]), "z": torch.zeros(2)}
    b = {"w": -a["w"], "z": torch.ones(2)}
    found = merged(tmp_path, [a, a, b], slerp(0.25), base=False)
    assert torch.allclose(found["w"], 0.5 * a["w"]) and torch.allclose(found["z"], torch.full((2,), 0.25))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_kth_magnitude_is_exact(data: st.DataObject) -> None:
    """Zeros of both signs, subnormal and equal numbers too, however they are cut into blocks."""
    some = st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 3e38])
    numbers = some | st.floats(width=32, allow_nan=False, allow_infinity=False)
    values = data.draw(st.lists(numbers, min_size=1, max_size=40))
    k, block = data.draw(st.integers(1, len(values))), data.draw(st.integers(1, 9))
    tensor = torch.tensor(values, dtype=torch.float32)
    bits = kth_magnitude(lambda: iter(torch.split(tensor, block)), k)
    assert torch.tensor(bits, dtype=torch.int32).view(torch.float32).item() == tensor.abs().sort(descending=True).values[k - 1]


def test_dare_drops_its_share_and_each_parent_its_own() -> None:
    first, second = (keyed_uniform(0, 200_000, derive(key, "w")) for key in (1, 2))
    for u in (first, second):
        assert abs((u >= 0.9).mean() - 0.1) < 4 * np.sqrt(0.09 / 200_000) and u.min() >= 0 and u.max() < 1
        assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.01 and abs(np.histogram(u, 10)[0] / 20_000 - 1).max() < 0.05
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    assert np.array_equal(first[1000:1234], keyed_uniform(1000, 234, derive(1, "w")))


def _half(state: State) -> State:
    return {name: tensor.half() for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {**s, "d.one": torch.full((1,), float("nan"))}, "its weights hold NaN or infinity"),
        (lambda s: {k: t for k, t in s.items() if k != "d.one"}, "its tensors are not the first one's"),
        (lambda s: {**s, "d.one": torch.zeros(1, 1)}, "its tensors are not the first one's"),
        (_half, "its tensors are not the first one's"),
    ],
)
def test_files_that_do_not_fit_are_named(change: Callable[[State], State], says: str, tmp_path: Path) -> None:
    base, first, second = states(2)
    for number, some in ((2, [base, first, change(second)]), (0, [change(base), first, second])):
        with pytest.raises(UserError, match=says) as caught:
            merged(tmp_path, some, ties([1.0, 1.0], 0.5))
        assert caught.value.where == str(tmp_path / f"{number}.safetensors")


def test_a_merge_that_overflows_is_no_checkpoint(tmp_path: Path) -> None:
    large = {"w": torch.full((3,), 60_000.0).half()}
    with pytest.raises(UserError, match="'w': the merged weights overflow F16"):
        merged(tmp_path, [large, large, large], linear([1.0, 1.0], normalise=False), base=False)
    assert torch.equal(merged(tmp_path, [large, large, large], linear([1.0, 1.0]), base=False)["w"], large["w"])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's high-water mark")
def test_memory_is_a_blocks_not_a_models(tmp_path: Path) -> None:
    """Two tensors of 16 MiB in three files: the process grows by less than one tensor of each."""
    base, *paths = saved(tmp_path, [{"w": torch.randn(1 << 22), "v": torch.randn(1 << 22)} for _ in range(3)])
    merged(tmp_path / "warm", states(2), ties([1.0, 1.0], 0.2))
    for method in (ties([1.0, 1.0], 0.2), dare([1.0, 1.0], 0.9, [1, 2], True), slerp(0.5)):
        before = most_resident(begin=True)
        merge_files(paths, base, tmp_path / "out", method)
        assert most_resident() - before < 48 << 20
