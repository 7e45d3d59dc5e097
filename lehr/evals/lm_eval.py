"""Lehr's models for lm-eval 0.4.13, as the model `lehr`: its tasks and its command, our weights and our computation.

Its command knows the models that were registered before it starts, and looks for no others: `python -m lehr.evals.lm_eval` is
that command with this one registered. lm-eval is no dependency of Lehr; it is imported here alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lehr.evals.own_score import cut, request, stop_ids
from lehr.evals.perplexity import strided
from lehr.runtime.errors import UserError

if TYPE_CHECKING:
    from lehr.model.generate import LanguageModel

NAME, VERSION = "lehr", "0.4.13"
_INSTALL = f"install it: pip install lm-eval=={VERSION}, or put the folder that has it on PYTHONPATH"
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first that is given counts
_LIMIT = 256  # lm-eval's own
_SEED = 1234


def opened(path: str, device: str = "") -> LanguageModel:
    """The model in a checkpoint's folder or a Hugging Face folder. Raises UserError for anything else."""
    import torch

    from lehr.artifacts.artifact import MANIFEST, Artifact
    from lehr.model.generate import LanguageModel
    from lehr.serving.folder import served_folder
    from lehr.train.checkpointing.checkpoint import load_checkpoint

    folder = Path(path).expanduser().absolute()
    if (folder / MANIFEST).is_file():
        loaded = load_checkpoint(Artifact.open(folder).expect("checkpoint"))
        model = LanguageModel(loaded.model, loaded.tokenizer, loaded.chat)
    elif (folder / "config.json").is_file():
        model = served_folder(folder)
    else:
        remedy = "give path=FOLDER: a checkpoint of a run (RUN/model), or a Hugging Face folder"
        raise UserError("there is no model here", where=folder, remedy=remedy)
    if not torch.cuda.is_available():  # lm-eval's command asks for a GPU unless --device says otherwise
        device = "" if device.startswith("cuda") else device
    model.model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))).eval()
    return model


class Answering:
    """What lm-eval asks of a model. Its requests have their arguments in `args`."""

    def __init__(self, model: LanguageModel, seed: int = _SEED) -> None:
        self.own, self.seed = model, seed

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-probability in nats of each (context, continuation), and whether greedy decoding gives it."""
        pairs = [request(self.own, one.args[0], one.args[1], "lm-eval") for one in requests]
        return [(logprob, greedy) for logprob, _, greedy in self.own.logprobs(pairs)]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability in nats of each whole text."""
        tokenizer = self.own.tokenizer
        width = self.own.max_length
        parts = [strided(tokenizer.encode(one.args[0]), tokenizer.eos_id, width, width) for one in requests]
        scores = iter(self.own.logprobs([window for part in parts for window in part]))
        return [sum(next(scores)[0] for _ in part) for part in parts]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each (context, settings), up to the first of its stop strings."""
        groups: dict[str, list[int]] = {}
        for number, one in enumerate(requests):
            groups.setdefault(json.dumps(one.args[1], sort_keys=True), []).append(number)
        found = [""] * len(requests)
        for said, numbers in groups.items():
            texts = self._answers([requests[n].args[0] for n in numbers], json.loads(said))
            for number, text in zip(numbers, texts, strict=True):
                found[number] = text
        return found

    def _answers(self, contexts: Sequence[str], said: dict[str, Any]) -> list[str]:
        until = said.pop("until", None) or []
        stop = [text for text in ([until] if isinstance(until, str) else until) if text]
        limits = [said.pop(key, None) for key in _LIMITS]
        limit = int(next((n for n in limits if n is not None), _LIMIT))
        sampled, heat = said.pop("do_sample", False), float(said.pop("temperature", 0.0) or 0.0)
        if said:
            raise UserError(f"generation setting {next(iter(said))!r} is not one of this model's", remedy="leave it out")
        model, tokenizer = self.own, self.own.tokenizer
        if limit >= model.max_length:
            what = f"answers of up to {limit} tokens leave no room for a prompt in the model's context of {model.max_length}"
            raise UserError(what, remedy="lower max_gen_toks")
        prompts = [tokenizer.encode(context) or [tokenizer.eos_id] for context in contexts]
        ends = sorted({tokenizer.eos_id} | stop_ids(model, stop))
        answers = model.generate(prompts, limit, ends, heat if sampled else 0.0, self.seed)
        return [cut(tokenizer.decode(_before(ids, tokenizer.eos_id)), stop) for ids in answers]


def _before(ids: Sequence[int], end: int) -> list[int]:
    return list(ids[: ids.index(end)] if end in ids else ids)


def model_class() -> type[Any]:
    """The class, registered in lm-eval as `lehr`. Raises UserError where lm-eval is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError("lm-eval is not installed", remedy=_INSTALL)
    import_module("lm_eval.models")  # registers its own models, which it does not do once there is one
    base: Any = import_module("lm_eval.api.model").LM
    registry = import_module("lm_eval.api.registry")

    class Lehr(Answering, base):  # type: ignore[misc]
        """`batch_size` and `max_batch_size` are taken and not needed: the model forms its own batches, and answers do not
        depend on them."""

        def __init__(
            self, path: str, device: str | None = None, seed: int = _SEED, batch_size: Any = None, max_batch_size: Any = None
        ) -> None:
            base.__init__(self)
            Answering.__init__(self, opened(path, device or ""), int(seed))

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            what = "a chat as one text would lose its role tokens, which no text can produce here"
            raise UserError(what, remedy="leave --apply_chat_template out, or score a task of your own with chat: true")

    made: type[Any] = Lehr
    if NAME not in registry.model_registry:
        registry.register_model(NAME)(made)
    return made


def main() -> int:
    """lm-eval's own command, with the model `lehr`."""
    try:
        model_class()
        import_module("lm_eval.__main__").cli_evaluate()
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
