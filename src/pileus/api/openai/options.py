"""The fields that chat and plain completions share."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pileus.api.body import WireForm
from pileus.api.wishes import Tier
from pileus.core.errors import InvalidRequest
from pileus.core.records import GenerationOptions

_TOKEN_ID = re.compile(r"[0-9]{1,9}")

StopString = Annotated[str, Field(min_length=1, max_length=256)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
MaxTokens = Annotated[int, Field(ge=1, le=2**31 - 1)]


class StreamOptions(WireForm):
    """What a stream carries beside the text."""

    include_usage: bool = Field(default=False, description="Send a last chunk with the token counts.")
    continuous_usage_stats: bool = Field(
        default=False, description="With `include_usage`: send the counts so far with every chunk. As vLLM has it."
    )


class SharedOptions(WireForm):
    """How to generate. Defaults are OpenAI's, but for `max_tokens` of plain completions. What follows `service_tier` is
    an extension; the last three are taken because vLLM's router writes them into each request that it passes on."""

    model: Annotated[str, Field(min_length=1, max_length=256, description="A deployment's name or alias.")]
    max_tokens: MaxTokens | None = Field(
        default=None,
        description="Longest answer of one choice; without it, what the context has left, bounded by the server's "
        "setting `limits.default_max_tokens`.",
    )
    n: Annotated[int, Field(ge=1, le=128)] | None = Field(default=None, description="How many choices.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(default=None, description="0 is greedy.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        default=None, max_length=1024, description="Token id (as a string) to what is added to its logit."
    )
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = Field(
        default=None, description="Answer 202 at once, and with what to ask for at `/v1/background/{id}` later."
    )
    service_tier: Tier | None = Field(
        default=None,
        description="How urgent: `default` is the lane `on_demand`, `priority` is `continuous`, `flex` is `batch`; "
        "`auto` leaves it to the key.",
    )
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(default=None, description="0 is off.")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    ignore_eos: bool | None = Field(default=None, description="Go on to `max_tokens`; for measurements.")
    skip_special_tokens: Literal[True] | None = Field(default=None, description="Only `true`.")
    no_stop_trim: Literal[False] | None = Field(default=None, description="Only `false`.")
    return_hidden_states: Literal[False] | None = Field(default=None, description="Only `false`.")

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("`stream_options` is only for `stream: true`")
        return self

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def wants_running_usage(self) -> bool:
        return self.wants_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats

    def options(self, *, max_tokens: int | None, logprobs: int | None) -> GenerationOptions:
        """The record for the pipeline; the two arguments differ between chat and plain completions."""
        return GenerationOptions(
            max_tokens=max_tokens,
            n=1 if self.n is None else self.n,
            temperature=1.0 if self.temperature is None else float(self.temperature),
            top_p=1.0 if self.top_p is None else float(self.top_p),
            top_k=self.top_k or 0,
            min_p=float(self.min_p or 0.0),
            presence_penalty=float(self.presence_penalty or 0.0),
            frequency_penalty=float(self.frequency_penalty or 0.0),
            repetition_penalty=1.0 if self.repetition_penalty is None else float(self.repetition_penalty),
            logit_bias=_by_token(self.logit_bias) if self.logit_bias else {},
            logprobs=logprobs,
            seed=self.seed,
            stop=_strings(self.stop),
            ignore_eos=bool(self.ignore_eos),
        )

    def check_choices(self, max_n: int) -> None:
        """Bound the number of choices by the operator's setting."""
        self.check_number(max_n)

    def check_number(self, max_n: int, prompts: int = 1) -> None:
        """Raises `InvalidRequest` for more than so many choices."""
        if (self.n or 1) * prompts > max_n:
            what = "`n`" if prompts == 1 else "`n` times the number of prompts"
            raise InvalidRequest(f"{what} should be at most {max_n} on this server", param="n")


def _strings(stop: str | list[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _by_token(bias: dict[str, float]) -> dict[int, float]:
    for token in bias:
        if _TOKEN_ID.fullmatch(token) is None:
            raise InvalidRequest("`logit_bias` should have token ids as its keys", param="logit_bias")
    return {int(token): float(value) for token, value in bias.items()}


class TextFormat(WireForm):
    """Plain text: the only format so far."""

    type: Literal["text"]
