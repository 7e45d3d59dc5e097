"""The makers' own client against our server: what it sends is understood, and what it gets is what it expects."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
import torch

from tests.serving.served import NAME, TOKENIZER, Server, serving, tiny

TEXT = "the quick brown"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(tiny()) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=20) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == [NAME]


def test_a_completion_is_the_models_own(client: openai.OpenAI, server: Server) -> None:
    answer = client.completions.create(model=NAME, prompt=TEXT, max_tokens=12, temperature=0)
    (ids,) = server.engine.model.generate([TOKENIZER.encode(TEXT)], 12)
    assert answer.choices[0].text == TOKENIZER.decode(ids)
    assert answer.choices[0].finish_reason == ("stop" if ids[-1] == TOKENIZER.eos_id else "length")
    assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        len(TOKENIZER.encode(TEXT)),
        len(ids),
    )
    of_ids = client.completions.create(model=NAME, prompt=TOKENIZER.encode(TEXT), max_tokens=12, temperature=0)
    assert of_ids.choices[0].text == answer.choices[0].text


def test_several_prompts_have_several_answers_each(client: openai.OpenAI) -> None:
    def ask(seed: int) -> list[str]:
        found = client.completions.create(model=NAME, prompt=[TEXT, "fox"], n=3, max_tokens=8, seed=seed)
        assert [choice.index for choice in found.choices] == [*range(6)]
        return [choice.text for choice in found.choices]

    assert ask(1) == ask(1) != ask(2)
    assert len(set(ask(1))) > 3  # and differ from each other


@pytest.mark.parametrize("n", [1, 2])
def test_streams_hold_what_the_whole_answer_holds(client: openai.OpenAI, n: int) -> None:
    asked = {"model": NAME, "prompt": TEXT, "n": n, "max_tokens": 16, "seed": 3}
    whole = client.completions.create(**asked)
    parts = [""] * n
    ends = [""] * n
    usage = None
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            parts[choice.index] += choice.text
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert parts == [choice.text for choice in whole.choices] and ends == [c.finish_reason for c in whole.choices]
    assert usage == whole.usage


def test_chat_and_its_stream(client: openai.OpenAI) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    asked = {"model": NAME, "messages": messages, "temperature": 0, "max_completion_tokens": 10}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    message = whole.choices[0].message
    assert message.role == "assistant" and message.content and whole.object == "chat.completion"
    content = whole.choices[0].logprobs.content
    assert len(content) == whole.usage.completion_tokens
    assert all(one.logprob == one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob for one in content)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant" and {c.object for c in chunks} == {"chat.completion.chunk"}
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_logprobs_are_the_models(client: openai.OpenAI, server: Server) -> None:
    """In fp32, of the logits over the temperature; with `echo` those of the prompt too."""
    prompt = TOKENIZER.encode(TEXT)
    asked = {"model": NAME, "prompt": prompt, "max_tokens": 10, "temperature": 0.7, "seed": 5, "logprobs": 3, "echo": True}
    choice = client.completions.create(**asked, extra_body={"return_token_ids": True}).choices[0]
    ids = [*prompt, *choice.token_ids]
    assert choice.prompt_token_ids == prompt and choice.text.startswith(TEXT)
    model = server.engine.model.model
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([ids]))[0].float() / 0.7, dim=-1)
    own = [float(expected[i, token]) for i, token in enumerate(ids[1:])]
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.token_logprobs[1:] == pytest.approx(own, abs=1e-4)
    best = [max(row.values()) for row in choice.logprobs.top_logprobs[1:]]
    assert best == pytest.approx(expected[:-1].max(dim=-1).values.tolist(), abs=1e-4)
    assert [choice.text[a:b] for a, b in zip(choice.logprobs.text_offset, choice.logprobs.text_offset[1:], strict=False)][
        : len(prompt)
    ] == [TOKENIZER.decode([i]) for i in prompt]


def test_prompt_logprobs_and_scoring_without_an_answer(client: openai.OpenAI) -> None:
    prompt = TOKENIZER.encode(TEXT)
    scored = client.completions.create(model=NAME, prompt=prompt, max_tokens=0, echo=True, logprobs=0)
    assert scored.choices[0].text == TEXT and scored.usage.completion_tokens == 0
    ranked = client.completions.create(model=NAME, prompt=prompt, max_tokens=1, extra_body={"prompt_logprobs": 2})
    entries = ranked.choices[0].prompt_logprobs
    assert entries[0] is None and len(entries) == len(prompt)
    for token, entry, logprob in zip(prompt[1:], entries[1:], scored.choices[0].logprobs.token_logprobs[1:], strict=True):
        assert entry[str(token)]["logprob"] == pytest.approx(logprob, abs=1e-5) and len(entry) in (2, 3)
        assert (entry[str(token)]["rank"] <= 2) == (len(entry) == 2)


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    asked = {"model": NAME, "prompt": TEXT, "max_tokens": 30, "temperature": 0}
    text = client.completions.create(**asked).choices[0].text
    stop = text[5:8]
    found = client.completions.create(**asked, stop=["never this", stop]).choices[0]
    assert found.text == text[: text.index(stop)] and found.finish_reason == "stop"
    streamed = client.completions.create(**asked, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == found.text


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.completions.create(model="gpt-4", prompt="x")
    with pytest.raises(openai.BadRequestError, match="context is 64") as caught:
        client.completions.create(model=NAME, prompt="x", max_tokens=100)
    assert caught.value.param == "max_tokens" and caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="turn"):
        client.chat.completions.create(model=NAME, messages=[{"role": "assistant", "content": "x"}])
    tool = {"type": "function", "function": {"name": "f"}}
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "x"}], tools=[tool])
