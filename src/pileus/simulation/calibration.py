"""How fast one replica is and how much it holds: the model of an engine, and its file.

The file is JSON with the fields of `Calibration`; `pileus calibrate` writes one from a real engine, and
whoever knows another machine's figures can write one by hand. A step takes

    step_s + prefill_token_s * (prompt tokens in it) + decode_sequence_s * (sequences that decode in it)
           + kv_read_s * (tokens of context that those read) + attention_s * (prompt tokens times context before each)
           + prefill_s where it has prompt tokens at all: other kernels than those for decoding alone
           + change_s where it has another number of tokens than the step before: kernels are prepared for their shapes
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from pileus.core.errors import OperatorError

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class BadCalibration(OperatorError):
    """This is not a calibration of an engine."""


class Calibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica. The defaults are roughly those of SmolLM2-135M in 8 bit on two Zen 4 cores."""

    slots: Count = 64  # sequences at the same time
    kv_blocks: Annotated[int, Meta(ge=2)] = 2452
    block_size: Count = 32  # tokens per KV block
    step_tokens: Count = 256  # token budget of one step
    max_context: Annotated[int, Meta(ge=0)] = 0  # prompt and answer together; 0 is what the KV blocks hold
    step_s: Annotated[float, Meta(gt=0)] = 0.011
    prefill_token_s: Seconds = 0.00022
    decode_sequence_s: Seconds = 0.0023
    kv_read_s: Seconds = 0.0
    attention_s: Seconds = 0.0
    prefill_s: Seconds = 0.0
    change_s: Seconds = 0.0
    request_s: Seconds = 0.0  # from a request's arrival to its place in the queue: HTTP, keys, text to ids
    source: str = ""  # for people: which engine and machine, and when

    @property
    def kv_tokens(self) -> int:
        return self.kv_blocks * self.block_size

    @property
    def longest(self) -> int:
        """Prompt and answer together."""
        room = (
            self.kv_blocks - 1
        ) * self.block_size  # a block is lost where a prompt's named blocks do not fill the last
        return min(self.max_context or room, room)


def load(path: Path) -> Calibration:
    """Raises `BadCalibration`, which names the field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except msgspec.MsgspecError as error:
        raise BadCalibration(f"{path}: {error}") from None


def save(calibration: Calibration, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
