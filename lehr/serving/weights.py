"""Other weights for the model that is served, from a folder below one that was named at the start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from lehr.data.tokenizer import FILE, Tokenizer
from lehr.interop.hf_weights import load_hf
from lehr.model.transformer import Transformer
from lehr.runtime.errors import UserError
from lehr.serving.bodies import Refused
from lehr.serving.engine import Engine


class Weights:
    """Loads Hugging Face folders below `root`, if one is given, into the engine's model. `loaded` names the last one."""

    def __init__(self, engine: Engine, root: Path | None) -> None:
        self._engine, self._root, self.loaded = engine, root.resolve() if root else None, ""

    def load(self, path: str) -> None:
        """Take over the weights in `path`, once every answer that was begun is complete; whatever is asked from now on is
        answered by them. Raises Refused where it is not allowed, and for another model than the one that is served."""
        folder = self._inside(path)
        try:
            fresh = load_hf(folder)
            tokenizer = Tokenizer.load(folder).hash if (folder / FILE).is_file() else ""
        except (UserError, OSError) as error:
            raise Refused(str(error), "path") from None
        served = self._engine.model
        if fresh.config.model_copy(update={"family": served.model.config.family}) != served.model.config:
            raise Refused("its architecture is another than that of the model that is served", "path")
        if tokenizer and tokenizer != served.tokenizer.hash:
            raise Refused("its tokenizer is another than that of the model that is served", "path")
        for name, parameter in fresh.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise Refused(f"its tensor {name} holds NaN or infinity", "path")
        self._engine.call(self._taking_over(fresh, path), alone=True)

    def _inside(self, path: str) -> Path:
        if self._root is None:
            raise Refused("this server takes no weights: it was started without --weights", status=403)
        try:
            folder = (self._root / path).resolve()
        except (OSError, ValueError, RuntimeError):
            raise Refused("this is no path", "path") from None
        if folder == self._root or not folder.is_relative_to(self._root):
            raise Refused("weights are loaded from below the folder of --weights alone", "path", status=403)
        if not folder.is_dir():
            raise Refused("there is no such folder below that of --weights", "path", status=404)
        return folder

    def _taking_over(self, fresh: Transformer, path: str) -> Callable[[], None]:
        @torch.no_grad()
        def take_over() -> None:
            for ours, theirs in zip(self._engine.model.model.parameters(), fresh.parameters(), strict=True):
                ours.copy_(theirs)
            self._engine.renew()
            self.loaded = path

        return take_over
