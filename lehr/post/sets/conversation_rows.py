"""Rows as conversations and prompts. See lehr.post.sets.shapes."""

from __future__ import annotations

from lehr.data.synthetic.conversations import Message
from lehr.post.sets.shapes import BadRow, Ballot, Conversation, Prompt, Values, shape_of
from lehr.post.sets.turns import answer_of, check, decoded, prompt_of, said, text_in, tools_of, turns, with_system
from lehr.post.verifiers import check_args
from lehr.runtime.errors import UserError


def conversation_of(values: Values) -> Conversation:
    """The conversation of a row. Raises BadRow for an unknown shape or role, two system turns, turns without text, and a
    conversation in which no assistant speaks."""
    shape = shape_of("conversations", values)
    if shape == "messages":
        messages = turns(values["messages"], "messages")
    elif shape == "ShareGPT":
        messages = turns(values["conversations"], "conversations")
    elif shape == "prompt and completion":
        messages = [*prompt_of(values["prompt"]), *answer_of(values["completion"], "completion")]
    elif shape == "prompt and completions":
        raise BadRow("several completions of one prompt", "set the source's majority_of, by which some are kept, or give one")
    else:
        messages = _alpaca(values)
    messages = with_system(messages, values.get("system"))
    check(messages)
    if not any(m.role == "assistant" for m in messages):
        raise BadRow("no turn of an assistant: there is nothing to learn", "give each conversation an answer")
    return Conversation(tuple(messages), tuple(tools_of(values.get("tools"))))


def ballot_of(values: Values) -> Ballot:
    """All answers of a row to its prompt. Raises BadRow as `conversation_of` does."""
    if shape_of("conversations", values) != "prompt and completions":
        raise BadRow("no completions to vote on", "give each row a prompt and its completions, or leave majority_of out")
    completions = decoded(values["completions"])
    if not isinstance(completions, list) or not completions:
        raise BadRow(f"completions: {said(completions)} is no list of answers", "write [text, ...]")
    rest = {key: value for key, value in values.items() if key != "completions"}
    return Ballot(tuple(conversation_of({**rest, "completion": each}) for each in completions))


def _alpaca(values: Values) -> list[Message]:
    messages = []
    for number, pair in enumerate(values.get("history") or []):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow(f"history.{number}: not a question with its answer", "write [[question, answer], ...]")
        messages += [Message("user", text_in(pair[0], "history")), Message("assistant", text_in(pair[1], "history"))]
    question, given = text_in(values["instruction"], "instruction"), text_in(values.get("input") or "", "input")
    asked = "\n".join(text for text in (question, given) if text)
    return [*messages, Message("user", asked), Message("assistant", text_in(values["output"], "output"))]


def verified_prompt_of(values: Values, *, needed: bool = True) -> Prompt:
    """The prompt of a row, with its verifier's name and arguments; `needed` says that it must have one. Raises BadRow, for a
    verifier that does not exist or does not take the arguments too."""
    shape_of("prompts", values)
    prompt = with_system(prompt_of(values["prompt"]), values.get("system"))
    check(prompt)
    if prompt[-1].role not in ("user", "tool"):
        raise BadRow("the prompt does not end with a turn of the user", "end it with the question")
    arguments, name = decoded(values.get("arguments") or {}), values.get("verifier", "")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise BadRow(f"verifier {said(name)} with the arguments {said(arguments)}", "give a name, and an object of arguments")
    if name:
        try:
            check_args(name, arguments)
        except UserError as error:
            raise BadRow(error.what, error.remedy) from error
    elif needed:
        raise BadRow("this prompt has no verifier", "name one, or give the step reward_models")
    return Prompt(tuple(prompt), name, arguments)
