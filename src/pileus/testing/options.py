"""What the fake engine can be told to do."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pileus.testing.tokenizer import FIRST_WORD


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Die(_Frozen):
    """The process is gone, as by SIGKILL, once the engine has said so many tokens."""

    kind: Literal["die"]
    after_tokens: NonNegativeInt


class Break(_Frozen):
    """`events` raises, once the engine has said so many tokens."""

    kind: Literal["break"]
    after_tokens: NonNegativeInt


class Hang(_Frozen):
    """A step never ends, once the engine has said so many tokens."""

    kind: Literal["hang"]
    after_tokens: NonNegativeInt


class Refuse(_Frozen):
    """A request whose prompt contains this token ends with an error."""

    kind: Literal["refuse"]
    prompt_token: NonNegativeInt


class Slow(_Frozen):
    """Everything takes `factor` times as long, once the engine has said so many tokens."""

    kind: Literal["slow"]
    factor: PositiveFloat
    after_tokens: NonNegativeInt = 0


Fault = Annotated[Die | Break | Hang | Refuse | Slow, Field(discriminator="kind")]


class FakeOptions(_Frozen):
    """Sizes and speeds of an engine that computes nothing; for tests, and to measure everything around an engine."""

    step_s: NonNegativeFloat = Field(
        default=0.0, description="Per step, whatever the number of sequences; 0 is as fast as it can be."
    )
    prefill_s_per_token: NonNegativeFloat = Field(
        default=0.0, description="Per token of a prompt that is not in the prefix cache."
    )
    slots: PositiveInt = Field(default=64, description="Sequences that run at the same time.")
    kv_blocks: PositiveInt = Field(default=4096, description="KV blocks that it claims to have.")
    block_size: PositiveInt = Field(default=32, description="Tokens of a KV block.")
    max_context: PositiveInt = Field(default=8192, description="Longest prompt and answer together.")
    vocab_size: PositiveInt = Field(default=65_536, description="Tokens that it claims to know.")
    tokens: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = Field(
        default=tuple(range(FIRST_WORD, FIRST_WORD + 1000)),
        description="What it draws its answers from.",
        json_schema_extra={"shown_default": f"[{FIRST_WORD}, ..., {FIRST_WORD + 999}]"},
    )
    text: str | None = Field(default=None, description="Say the UTF-8 bytes of this, as tokens, and stop.")
    answer_tokens: PositiveInt | None = Field(default=None, description="Stop by itself after so many.")
    adapters: NonNegativeInt = Field(
        default=8, description="Adapters that it claims to hold at a time; each says something else. 0 is none."
    )
    faults: tuple[Fault, ...] = Field(
        default=(),
        description="What shall go wrong. Each has a `kind`: `die`, `break` or `hang`, with `after_tokens`; `refuse`, "
        "with `prompt_token`; `slow`, with `factor` and `after_tokens`.",
    )
