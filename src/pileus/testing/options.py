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
    """Sizes and speeds of an engine that computes nothing. With `step_s` 0 it is as fast as it can be."""

    step_s: NonNegativeFloat = 0.0  # per step, whatever the number of sequences
    prefill_s_per_token: NonNegativeFloat = 0.0  # of prompt tokens that are not in the prefix cache
    slots: PositiveInt = 64
    kv_blocks: PositiveInt = 4096
    block_size: PositiveInt = 32
    max_context: PositiveInt = 8192
    vocab_size: PositiveInt = 65_536
    tokens: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = tuple(range(FIRST_WORD, FIRST_WORD + 1000))
    text: str | None = None  # say the UTF-8 bytes of this, as tokens, and stop
    answer_tokens: PositiveInt | None = None  # stop by itself after so many
    faults: tuple[Fault, ...] = ()
