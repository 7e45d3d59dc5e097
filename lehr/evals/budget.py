"""Whether a task's prompts and answers fit a model's context, before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence

from lehr.data.synthetic.conversations import Message, conversation, count
from lehr.data.tokenizer import Tokenizer
from lehr.errors import UserError
from lehr.evals.task import Choice, Example, Generation
from lehr.post.chat import render


def check_answers(task: str, examples: Sequence[Example], tokenizer: Tokenizer, context: int, max_new_tokens: int) -> None:
    """Raises UserError where a prompt and an answer of `max_new_tokens` are more than the `context`: the prompt would lose its
    beginning."""
    prompts = [_prompt_tokens(example, tokenizer) for example in examples if isinstance(example, Generation)]
    room = context - max(prompts, default=0)
    if prompts and max_new_tokens > room:
        raise UserError(
            f"task {task}: prompts of up to {max(prompts)} tokens and answers of up to {max_new_tokens} are more than the "
            f"model's context of {context}",
            remedy=f"lower the answers to {room} tokens or fewer" if room > 0 else "leave the task out",
        )


def check_prompts(
    key: str, families: Sequence[str], seed: int, most: int, tokenizer: Tokenizer, context: int, max_new_tokens: int
) -> None:
    """Raises UserError where a training prompt of these chat families, of the first `most` of each, and an answer of
    `max_new_tokens` are more than the `context`."""
    for family in families:
        asked = [conversation(family, "train", i, seed).prompt for i in range(min(most, count(family, "train")))]
        longest = max(_chat_tokens(prompt, tokenizer) for prompt in asked)
        if longest + max_new_tokens > context:
            room = context - longest
            raise UserError(
                f"{key}: prompts of the family {family} have up to {longest} tokens, with max_new_tokens={max_new_tokens} more "
                f"than model.max_seq_len={context}",
                remedy=f"lower its max_new_tokens to {room}" if room > 0 else "leave that family out, or raise max_seq_len",
            )


def too_long(examples: Sequence[Example], tokenizer: Tokenizer, room: int) -> int:
    """How many prompts to be continued have more than `room` tokens."""
    return sum(_prompt_tokens(example, tokenizer) > room for example in examples if isinstance(example, Generation))


def shortened(examples: Sequence[Example], tokenizer: Tokenizer, context: int) -> int:
    """How many multiple-choice examples are longer than the `context`, so that they are scored without their beginning."""
    choices = (example for example in examples if isinstance(example, Choice))
    return sum(max(len(tokenizer.encode(c.context + end)) for end in c.continuations) > context for c in choices)


def _prompt_tokens(example: Generation, tokenizer: Tokenizer) -> int:
    if example.messages:
        return _chat_tokens(example.messages, tokenizer)
    return 1 + len(tokenizer.encode(example.prompt))


def _chat_tokens(messages: Sequence[Message], tokenizer: Tokenizer) -> int:
    return len(render(messages, tokenizer, add_generation_prompt=True)[0])
