"""Options of the native engine, as they stand in `[deployment.options]`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class NativeOptions(BaseModel):
    """How the native engine runs one model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threads: int = Field(default=0, ge=0, le=1024, description="Inference threads; 0 takes every core it may use.")
    max_sequences: int = Field(default=64, ge=1, le=1024, description="Sequences that run at the same time.")
    step_tokens: int = Field(
        default=256, ge=16, le=8192, description="Tokens per engine step; bounds the inter-token latency."
    )
    kv_bytes: int = Field(default=1 << 30, ge=1 << 20, description="Memory for keys and values, in bytes.")
    kv_precision: Literal["u8", "bf16", "f16", "f32"] = Field(default="u8", description="Precision of keys and values.")
    precision: Literal["auto", "bf16", "f16", "f32"] = Field(
        default="auto", description="Precision of arithmetic; auto is the fastest of this CPU."
    )
    quantization_group: int = Field(
        default=32,
        ge=0,
        description="Group size of dynamic activation quantisation; 0 is off: exacter, and slower with many at once.",
    )
    max_context: int = Field(default=0, ge=0, description="Longest prompt and answer together; 0 is the model's own.")
    prefix_caching: bool = Field(default=True, description="Share the KV blocks of equal prefixes within a tenant.")
    adapters: int = Field(
        default=32,
        ge=0,
        le=1024,
        description="Adapters in memory, and so in one batch; others are on disk. 0: none.",
    )
    adapter_rank: int = Field(default=64, ge=1, le=1024, description="Largest rank of an adapter.")
    deterministic: bool = Field(
        default=False,
        description="float32 throughout: the same text whatever shares the batch. Measured beside the defaults, a step "
        "of 32 sequences takes 1.4 times as long, and a prompt twice as long.",
    )
