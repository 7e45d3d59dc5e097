"""How cost grows: a training step with sequence length, width and batch, and the loader with the corpus; as table and drawing.

A step's time is compared with its FLOPs in closed form (lehr.model.size): where those grow faster than the axis, because
attention compares every token with those before it and a matrix has width times width entries, so does the time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import corpus
from benchmarks.common import PAGE, Record, compared, in_turns, main
from benchmarks.cost_figure import Panel, Point, drawing
from lehr.config.model import Model
from lehr.config.optim import Optim
from lehr.data.shards import ShardSet
from lehr.data.tokenizer import Tokenizer
from lehr.model.size import flops_per_token
from lehr.model.transformer import Transformer
from lehr.train.losses import cross_entropy
from lehr.train.state import TrainState

FIGURE = PAGE.parent / "cost.svg"
_WIDTH, _LAYERS, _VOCABULARY, _HEAD, _LENGTH, _ROWS = 256, 4, 4096, 64, 256, 4
_INSTANCES = (10**6, 10**7, 10**8, 10**9)
_ABOUT = f"""
![Time of a step against sequence length, width and batch; time of a loader's start against the corpus]({FIGURE.name})

A step's cost is its FLOPs: in batch they grow linearly; in sequence length a little faster, for attention compares each token
with all before it (12 x layers x width FLOPs for each such pair, forward and backward); in width up to its square, for a matrix
has width x width entries (the embedding's and the head's part grows linearly). So the honest claim is that a FLOP costs the
same wherever it stands: picoseconds for each at the far end of an axis against the near end, where small operators cost more
than their FLOPs. A loader's start hardly grows over a thousandfold corpus: nothing is read but what is asked for; what is left
is the kernel's, whose maps are larger.
"""


@dataclass(frozen=True)
class Axis:
    """One thing that is varied; `model` and `rows` and `length` give the step at each value."""

    name: str
    values: tuple[int, ...]
    model: Callable[[int], Model]
    rows: Callable[[int], int]
    length: Callable[[int], int]

    def flops(self, value: int) -> float:
        return flops_per_token(self.model(value), self.length(value)) * self.rows(value) * self.length(value)


def _model(width: int, length: int = _LENGTH) -> Model:
    heads = width // _HEAD
    return Model(
        d_model=width, n_layers=_LAYERS, n_heads=heads, n_kv_heads=heads, mlp_hidden=width * 11 // 4, vocab_size=_VOCABULARY,
        max_seq_len=length, rope_theta=10_000.0,
    )  # fmt: skip


AXES = (
    Axis("sequence length", (128, 256, 512, 1024, 2048), lambda n: _model(_WIDTH, n), lambda n: 2, lambda n: n),
    Axis("width", (128, 192, 256, 384, 512), _model, lambda n: _ROWS, lambda n: _LENGTH),
    Axis("batch, sequences", (1, 2, 4, 8, 16), lambda n: _model(_WIDTH), lambda n: n, lambda n: _LENGTH),
)


class Cost:
    """The area; it keeps what it measured for the drawing."""

    def __init__(self) -> None:
        self.panels: list[Panel] = []

    def run(self) -> Sequence[Record]:
        """Seconds of a training step (bf16, eager, one thread) against sequence length, width and batch, and milliseconds from
        nothing to a batch against the instances of a corpus, a million to a billion, whose files are holes."""
        return [*(self.step(axis) for axis in AXES), self.loader()]

    def step(self, axis: Axis, turns: int = 7) -> Record:
        """Picoseconds for each FLOP at both ends of an axis."""
        found = in_turns({str(v): step_of(axis.model(v), axis.rows(v), axis.length(v)) for v in axis.values}, turns)
        points = [Point(v, 1000 * found[str(v)], axis.flops(v)) for v in axis.values]
        self.panels.append(Panel(f"A step against {axis.name.partition(',')[0]}, ms", axis.name, points))
        first, last = points[0], points[-1]
        grows = f"{axis.name} x {last.x / first.x:g}, FLOPs x {last.flops / first.flops:.1f}, time x {last.ms / first.ms:.1f}"
        near, far = (p.ms * 1e9 / p.flops for p in (first, last))
        case = f"step, {axis.name} {first.x:,} to {last.x:,}"
        return compared("cost", case, far, near, f"at {first.x:,}", "ps a FLOP", less_is_better=True, note=grows)

    def loader(self, turns: int = 7) -> Record:
        """Milliseconds to open a corpus and take a batch from the middle of its epoch."""
        tokenizer = Tokenizer.train((d.text for d in corpus.texts(200_000)), 512)
        with tempfile.TemporaryDirectory() as place:
            names = {n: corpus.sparse(Path(place), n, tokenizer) for n in _INSTANCES}

            def start(n: int) -> None:
                corpus.loader(ShardSet.open(place, names[n], tokenizer.hash)).batch(n // 32, 0, 1, 16)

            found = in_turns({str(n): lambda n=n: start(n) for n in _INSTANCES}, turns)  # type: ignore[misc]
        points = [Point(n, 1000 * found[str(n)], 0.0) for n in _INSTANCES]
        self.panels.append(Panel("A loader, from nothing to a batch, ms", "instances of the corpus", points))
        first, last = points[0].ms, points[-1].ms
        note = f"instances x 1,000, time x {last / first:.2f}"
        case = "loader, 1 M to 1 B instances"
        return compared("cost", case, last, first, "at 1 M", "ms", less_is_better=True, note=note, target=0.1)

    def figure(self) -> str:
        """Draw what was measured beside the page, and say what the page says about it."""
        FIGURE.write_text(drawing(self.panels), encoding="utf-8")
        return _ABOUT


def step_of(config: Model, rows: int, length: int) -> Callable[[], None]:
    """Forward, backward, clip and AdamW of one batch."""
    state = TrainState.fresh(Transformer(config).initialise(0), Optim(lr=1e-3), "bf16")
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(0, config.vocab_size, (rows, length), generator=generator)

    def step() -> None:
        engine = state.optimizer
        engine.zero()
        ce = cross_entropy(state.model, tokens_BT, tokens_BT, with_z=True)
        (ce.nats + 1e-5 * ce.z).backward()  # type: ignore[no-untyped-call]
        state.whole.flat.collect()
        engine.clip(float(ce.tokens), 1.0)
        engine.update(1e-3)

    return step


if __name__ == "__main__":
    cost = Cost()
    sys.exit(main("cost", cost.run, cost.figure))
