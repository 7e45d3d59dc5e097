"""Whether a task's prompts and answers fit a model's context, checked before scoring."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.data.synthetic.conversations import Message
from lehr.data.tokenizer import Tokenizer
from lehr.evals.task import Asked, Choice, Example, Generation, Options, Question
from lehr.post.chat import render
from lehr.runtime.errors import UserError


def check_answers(task: str, examples: Sequence[Example], tokenizer: Tokenizer, context: int, max_new_tokens: int) -> None:
    """Raises UserError if a prompt and an answer of `max_new_tokens` do not fit the `context`: the prompt would lose its
    beginning. A task of one's own has a limit of its own, and its prompts may lose theirs."""
    own = next((example.max_tokens for example in examples if isinstance(example, Asked)), 0)
    if own >= context:
        what = f"task {task}: answers of up to {own} tokens leave no room for a prompt in the model's context of {context}"
        raise UserError(what, remedy="lower the task's max_tokens (lm-eval: generation_kwargs.max_gen_toks)")
    prompts = [_prompt_tokens(example, tokenizer) for example in examples if isinstance(example, Generation)]
    room = context - max(prompts, default=0)
    if prompts and max_new_tokens > room:
        raise UserError(
            f"task {task}: prompts of up to {max(prompts)} tokens and answers of up to {max_new_tokens} are more than the "
            f"model's context of {context}",
            remedy=f"lower the answers to {room} tokens or fewer" if room > 0 else "leave the task out",
        )


def too_long(examples: Sequence[Example], tokenizer: Tokenizer, room: int) -> int:
    """The number of prompts for generation with more than `room` tokens."""
    return sum(_prompt_tokens(example, tokenizer) > room for example in examples if isinstance(example, Generation))


def shortened(examples: Sequence[Example], tokenizer: Tokenizer, context: int) -> int:
    """The number of multiple-choice examples longer than the `context`, and of prompts of tasks of one's own longer than their
    answers leave room for: they are scored without their beginning."""
    asked = sum(_asked_tokens(e, tokenizer) > context - e.max_tokens for e in examples if isinstance(e, Asked))
    return asked + sum(any(len(tokenizer.encode(text)) > context for text in _whole(example)) for example in examples)


def _whole(example: Example) -> list[str]:
    """The texts that a multiple-choice example is scored by."""
    if isinstance(example, Choice | Question):
        return [example.context + end for end in example.continuations]
    if isinstance(example, Options):
        return [context + end for context, end in zip(example.contexts, example.continuations, strict=True)]
    return []


def _asked_tokens(example: Asked, tokenizer: Tokenizer) -> int:
    if example.messages:
        return _chat_tokens(example.messages, tokenizer)
    return (example.encoding == "lehr") + len(tokenizer.encode(example.prompt))


def _prompt_tokens(example: Generation, tokenizer: Tokenizer) -> int:
    if example.messages:
        return _chat_tokens(example.messages, tokenizer)
    return 1 + len(tokenizer.encode(example.prompt))  # end of text stands before a plain prompt (lehr.evals.score)


def _chat_tokens(messages: Sequence[Message], tokenizer: Tokenizer) -> int:
    return len(render(messages, tokenizer, add_generation_prompt=True)[0])
