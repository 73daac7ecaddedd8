"""The official `openai` client against a real server and the default model."""

import math
import re
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from acceptance.process import running_server

MODEL = "smollm2-135m"
EXACT = "smollm2-exact"


def said(text: str) -> list[ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": text}]


def test_a_chat_is_answered_and_counted(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=EXACT, messages=said("What is the capital of France?"), temperature=0, max_tokens=24
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.model == EXACT
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 7
    assert 0 < answer.usage.completion_tokens <= 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_chat_is_the_same_text_as_one_that_is_not(openai_client: OpenAI) -> None:
    messages = said("Tell me about clouds.")
    whole = openai_client.chat.completions.create(model=EXACT, messages=messages, temperature=0, max_tokens=48)
    stream = openai_client.chat.completions.create(
        model=EXACT,
        messages=messages,
        temperature=0,
        max_tokens=48,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len(pieces) > 10
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert set(reasons[:-1]) == {None}


def test_a_seed_repeats_a_draw_and_another_seed_does_not(openai_client: OpenAI) -> None:
    def draw(seed: int) -> str | None:
        answer = openai_client.chat.completions.create(
            model=EXACT, messages=said("Invent a word."), temperature=1.0, seed=seed, max_tokens=24
        )
        return answer.choices[0].message.content

    first = draw(11)
    assert draw(11) == first
    assert draw(12) != first


def test_without_a_seed_two_draws_differ(openai_client: OpenAI) -> None:
    texts = {
        openai_client.chat.completions.create(model=EXACT, messages=said("Invent a word."), max_tokens=24)
        .choices[0]
        .message.content
        for _ in range(3)
    }
    assert len(texts) > 1


def test_three_choices_are_three_texts(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=MODEL, messages=said("Invent a name for a cat."), n=3, seed=5, max_tokens=24
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 3 * 24


def test_logprobs_come_with_the_alternatives_that_were_asked_for(openai_client: OpenAI) -> None:
    answer = openai_client.chat.completions.create(
        model=MODEL, messages=said("Count to five."), temperature=0, max_tokens=8, logprobs=True, top_logprobs=4
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(token.token for token in logprobs.content) == answer.choices[0].message.content
    for token in logprobs.content:
        likeliest = token.top_logprobs[0]
        assert len(token.top_logprobs) == 4
        assert (likeliest.token, likeliest.logprob) == (token.token, token.logprob)
        assert [other.logprob for other in token.top_logprobs] == sorted(
            (other.logprob for other in token.top_logprobs), reverse=True
        )
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1.0001
        assert bytes(token.bytes or []).decode(errors="replace") == token.token


def test_a_stop_string_ends_the_answer_and_is_not_in_it(openai_client: OpenAI) -> None:
    ask = {"model": EXACT, "messages": said("Count from one to ten in digits."), "temperature": 0, "max_tokens": 48}
    whole = openai_client.chat.completions.create(**ask).choices[0].message.content or ""  # type: ignore[call-overload]
    stop = whole[len(whole) // 2 :][:6]
    stopped = openai_client.chat.completions.create(**ask, stop=[stop]).choices[0]  # type: ignore[call-overload]
    assert stopped.message.content == whole[: whole.index(stop)]
    assert stopped.finish_reason == "stop"


def test_a_completion_goes_on_from_the_prompt(openai_client: OpenAI) -> None:
    answer = openai_client.completions.create(
        model=MODEL, prompt="The capital of France is", temperature=0, max_tokens=5, logprobs=2
    )
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert "".join(logprobs.tokens) == answer.choices[0].text


def test_a_streamed_completion_is_the_same_text(openai_client: OpenAI) -> None:
    whole = openai_client.completions.create(model=EXACT, prompt="Rain falls", temperature=0, max_tokens=16)
    stream = openai_client.completions.create(
        model=EXACT, prompt="Rain falls", temperature=0, max_tokens=16, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == whole.choices[0].text


def test_without_max_tokens_an_answer_takes_what_the_context_has_left_up_to_the_setting(tmp_path: Path) -> None:
    config = tmp_path / "pileus.toml"
    config.write_text(
        "limits.default_max_tokens = 40\n"
        '[[deployment]]\nname = "wide"\nmodel = "fake"\nengine = "fake"\n'
        '[[deployment]]\nname = "narrow"\nmodel = "fake"\nengine = "fake"\noptions = { max_context = 30 }\n'
    )
    with (
        running_server(tmp_path, "--config", str(config)) as server,
        OpenAI(base_url=f"{server.base_url}/v1", api_key=server.admin_key, max_retries=0) as client,
    ):
        for answer in (
            client.completions.create(model="wide", prompt="Rain"),
            client.completions.create(model="narrow", prompt="Rain"),
            client.chat.completions.create(model="wide", messages=said("Rain")),
        ):
            assert answer.usage is not None
            assert answer.choices[0].finish_reason == "length"
            assert answer.usage.completion_tokens == (26 if answer.model == "narrow" else 40)


def test_models_are_listed_and_found_by_name_and_alias(openai_client: OpenAI) -> None:
    names = [model.id for model in openai_client.models.list()]
    assert {MODEL, EXACT} <= set(names)
    assert openai_client.models.retrieve(MODEL).id == MODEL
    answer = openai_client.chat.completions.create(model="default", messages=said("Hi"), max_tokens=1)
    assert answer.model == MODEL


def test_an_unknown_model_is_not_found(openai_client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.chat.completions.create(model="gpt-9", messages=said("Hi"))
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("gpt-9")


def test_a_wrong_key_is_refused(openai_client: OpenAI) -> None:
    stranger = openai_client.with_options(api_key="sk-pileus-wrong")
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(model=MODEL, messages=said("Hi"))
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(("field", "value"), [("temperature", 9.0), ("n", 0), ("max_tokens", -1), ("top_p", 2.0)])
def test_a_bad_parameter_is_named(openai_client: OpenAI, field: str, value: float) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model=MODEL, messages=said("Hi"), extra_body={field: value})
    assert caught.value.param == field


def test_an_unknown_field_is_named(openai_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model=MODEL, messages=said("Hi"), extra_body={"tempreature": 1})
    assert caught.value.param == "tempreature"


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(openai_client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        openai_client.chat.completions.create(model=MODEL, messages=said("cloud " * 9000))
    assert caught.value.code == "context_length_exceeded"
    assert "8192" in str(caught.value)
    assert re.search(r"\b9\d{3}\b", str(caught.value))  # the prompt, counted


def test_the_tier_that_served_a_request_is_told_to_who_asked_for_one(openai_client: OpenAI) -> None:
    ask = {"model": MODEL, "messages": said("Hi"), "max_tokens": 2}
    flex = openai_client.chat.completions.create(**ask, service_tier="flex")  # type: ignore[call-overload]
    auto = openai_client.chat.completions.create(**ask, service_tier="auto")  # type: ignore[call-overload]
    plain = openai_client.chat.completions.create(**ask)  # type: ignore[call-overload]
    assert (flex.service_tier, auto.service_tier, plain.service_tier) == ("flex", "default", None)
    with pytest.raises(openai.PermissionDeniedError, match="It may use: on_demand"):
        openai_client.chat.completions.create(**ask, service_tier="priority")  # type: ignore[call-overload]
