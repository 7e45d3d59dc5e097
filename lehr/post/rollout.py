"""A roll-out: a policy's answers and their rewards, used for one update or several. Shapes: B rows, T columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from lehr.distributed.ranks import Ranks
from lehr.runtime import seeds
from lehr.runtime.errors import UserError
from lehr.train.losses import IGNORE
from lehr.train.state import TrainState
from lehr.train.step_times import SAMPLING, part


@dataclass(frozen=True)
class RollOut:
    """Answers to prompts, one in each row; the answers to one prompt are adjacent, and every prompt has the same number.

    Inputs `tokens_BT` are right-padded, `labels_BT` are shifted and -100 outside the answers. `step` is the step at which it
    was drawn. `reference_BT` and `old_BT` are log-probabilities of the labels under the reference and under the policy that
    answered; `old_BT` is None if that policy is the one being updated, so that each ratio is 1. `sampled_BT` are the labels'
    log-probabilities by the account of whoever answered, None without one: they are compared with the trainer's, and enter no
    loss. A subclass may add tensors whose first axes are B or B, T.
    """

    step: int
    tokens_BT: Tensor
    labels_BT: Tensor
    rewards_B: Tensor
    finished_B: Tensor
    advantages_B: Tensor
    reference_BT: Tensor
    old_BT: Tensor | None = None
    sampled_BT: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens_BT)

    def _own(self) -> dict[str, Tensor]:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, for a save."""
        return {"step": torch.tensor(self.step), **self._own()}

    @classmethod
    def from_tensors(cls: type[R], tensors: dict[str, Tensor]) -> R:
        """The inverse of `tensors`."""
        own = {name: tensor for name, tensor in tensors.items() if name != "step"}
        return cls(step=int(tensors["step"]), **own)

    def to(self: R, device: torch.device) -> R:
        """A copy on `device`."""
        return type(self)(step=self.step, **{name: tensor.to(device) for name, tensor in self._own().items()})

    def take(self: R, rows: Sequence[int]) -> R:
        """The given rows, cut to the longest of them. The tensors are copies, independent of this roll-out's memory, so that
        results do not depend on its alignment: see AdamW.restore."""
        chosen = torch.tensor(rows, dtype=torch.int64)
        labelled = (self.labels_BT[chosen] != IGNORE).any(dim=0).nonzero()
        width = int(labelled.max()) + 1 if len(labelled) else 0
        own = {
            name: tensor[chosen] if tensor.dim() == 1 else tensor[chosen, :width].contiguous()
            for name, tensor in self._own().items()
        }
        return type(self)(step=self.step, **own)

    @classmethod
    def join(cls: type[R], parts: Sequence[R], samples: int) -> R:
        """Interleave the ranks' parts, with `samples` answers to each prompt: rank r has prompts r, r + world, ... (see
        Ranks.split). Narrower parts are padded with token 0, which no labelled position attends to."""
        fill = {"labels_BT": IGNORE}
        own = {name: _woven([part._own()[name] for part in parts], samples, fill.get(name, 0)) for name in parts[0]._own()}
        return cls(step=parts[0].step, **own)


R = TypeVar("R", bound=RollOut)


def _woven(parts: list[Tensor], samples: int, fill: int) -> Tensor:
    widest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    out = parts[0].new_full((sum(map(len, parts)) // samples, samples, *widest), fill)
    for rank, piece in enumerate(parts):
        here = (slice(rank, None, len(parts)), slice(None), *(slice(size) for size in piece.shape[1:]))
        out[here] = piece.reshape(len(piece) // samples, samples, *piece.shape[1:])
    return out.flatten(0, 1)


@dataclass(frozen=True)
class Updates:
    """The updates made with a roll-out of `prompts` prompts, `samples` answers each: `epochs` passes over it, each in
    `mini_batches` batches of whole prompts in a new order (open-instruct's and TRL's `num_epochs` and `num_mini_batches`).
    Raises UserError if the prompts cannot be divided into equal mini-batches."""

    prompts: int
    samples: int
    epochs: int = 1
    mini_batches: int = 1

    def __post_init__(self) -> None:
        if self.prompts % self.mini_batches:
            raise UserError(
                f"{self.prompts} prompts of a roll-out cannot be divided into {self.mini_batches} equal mini-batches",
                where=f"mini_batches={self.mini_batches}",
                remedy="give a divisor of the prompts of a step",
            )

    @property
    def count(self) -> int:
        return self.epochs * self.mini_batches

    def chosen(self, update: int, seed: int) -> list[int]:
        """The prompts of update 0, 1, ... of a roll-out; `seed` decides which."""
        epoch, piece = divmod(update, self.mini_batches)
        size = self.prompts // self.mini_batches
        positions = np.arange(piece * size, (piece + 1) * size)
        prompts = seeds.permute(positions, self.prompts, seeds.derive(seed, "epoch", epoch))
        return sorted(map(int, prompts))

    def rows(self, prompts: Sequence[int]) -> list[int]:
        """The rows of all answers to these prompts."""
        return [prompt * self.samples + sample for prompt in prompts for sample in range(self.samples)]


class RollOuts(Generic[R]):
    """Draws a new roll-out when the previous one is used up, and gives each rank its rows of every update.

    `draw(number, step, ranks)` returns this rank's part of roll-out `number`, for updates from `step` on. A roll-out for a
    single update stays on the rank that drew it. One for several updates is gathered on every rank, so that rank 0's save
    contains it and a different number of ranks can resume from it. It is kept on the host: saves read it there, accelerator
    memory is scarce during a step, and copying one update's rows (about 30 bytes for each token) takes little time compared
    with computing them.
    """

    def __init__(
        self,
        state: TrainState,
        draw: Callable[[int, int, Ranks], R],
        kind: type[R],
        updates: Updates,
        seed: int,
    ) -> None:
        self.state, self.draw, self.kind, self.updates, self.seed = state, draw, kind, updates, seed

    def rows(self, step: int, ranks: Ranks) -> R:
        """This rank's rows of the update at `step`. A collective: every rank calls it."""
        number, update = divmod(step, self.updates.count)
        if self.updates.count == 1:
            with part(SAMPLING):
                return self.draw(number, step, ranks)
        whole = self._held(number)
        if whole is None:  # used up, or a rollback has left out the steps that would have drawn it
            with part(SAMPLING):
                mine = self.draw(number, step, ranks).to(torch.device("cpu")).tensors()
            parts = ranks.gather(mine)
            whole = self.kind.join([self.kind.from_tensors(part) for part in parts], self.updates.samples)
        # Used up, it is in no save: the next update draws a new one.
        self.state.rollout = whole if update + 1 < self.updates.count else None
        prompts = self.updates.chosen(update, seeds.derive(self.seed, "mini-batches", number))
        return whole.take(self.updates.rows(ranks.split(prompts)))  # a prompt's answers stay together

    def _held(self, number: int) -> R | None:
        """The roll-out in the state, if it is number `number`."""
        held = self.state.rollout
        if held is None:
            return None
        whole = held if isinstance(held, self.kind) else self.kind.from_tensors(held.tensors())
        return whole if whole.step // self.updates.count == number else None
