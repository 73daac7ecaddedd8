"""Options of the encoder engine, as they stand in `[deployment.options]`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class EncoderOptions(BaseModel):
    """How the encoder engine runs one model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threads: int = Field(default=0, ge=0, le=1024, description="Inference threads; 0 takes every core it may use.")
    streams: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Steps that run side by side and divide the threads among them; 0 takes one for 4 threads, and two "
        "at least. 1 has all threads compute one step: a lone text is quicker then, and many are slower.",
    )
    precision: Literal["f32", "bf16", "f16", "auto"] = Field(
        default="f32", description="Precision of arithmetic; auto is the fastest of this CPU."
    )
    weights: Literal["as_is", "int8"] = Field(
        default="as_is",
        description="`int8` makes 8-bit integers of the weights when the model is loaded, and multiplies in them: "
        "measured, more than twice as many texts a second, and vectors that differ by 0.001 to 0.005 in cosine.",
    )
    step_tokens: int = Field(
        default=512, ge=16, le=65_536, description="Tokens per engine step, over all the texts in it."
    )
    max_requests: int = Field(default=64, ge=1, le=1024, description="Requests whose texts share steps.")
    queue_tokens: int = Field(
        default=131_072,
        ge=32,
        description="Tokens that the engine takes on ahead; more waits in the deployment's queue.",
    )
