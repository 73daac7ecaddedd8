"""What a compression is asked to do: one model, and the variants to make of it."""

import re
from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct

from pileus.config.settings import NAME_PATTERN

GROUPS: Final = (-1, 32, 64, 128)  # weights that share a scale; -1 is a whole row
_MOST_VARIANTS: Final = 32


class Form(StrEnum):
    """What becomes of a model."""

    FP16 = "fp16"  # weights in float16
    INT8 = "int8"  # weights in 8 bits
    INT4 = "int4"  # weights in 4 bits
    FULL_INT8 = "full-int8"  # weights and activations in 8 bits
    PRUNED = "pruned"
    DISTILLED = "distilled"


class Target(StrEnum):
    """Who serves it."""

    NATIVE = "native"
    GGUF = "gguf"
    VLLM = "vllm"


class Weights(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights are rounded."""

    group: int = 64
    symmetric: bool = False
    share: float = 1.0  # of the weights that get 4 bits; those that bear it least keep 8
    tuned: tuple[Literal["awq", "scale", "gptq"], ...] = ()  # by what activations show: which weights matter
    smooth: float = 0.8  # of full-int8: how much of the activations' outliers moves into the weights

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"`group` should be one of {', '.join(map(str, GROUPS))}")
        if {"scale", "gptq"} <= set(self.tuned):
            raise ValueError("`tuned` should have one of scale and gptq: both choose the scales")
        if not (0 <= self.smooth <= 1 and 0 < self.share <= 1):
            raise ValueError("`smooth` should be between 0 and 1, `share` above 0 and at most 1")


class Learning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A short training."""

    steps: int = 0
    batch: int = 8  # sequences
    length: int = 128  # tokens of each
    rate: float = 2e-4  # highest learning rate
    text: str = ""  # a file on the server's machine; else what the calibration is made of
    logits: float = 0.0  # weight of the teacher's probabilities in the loss
    hidden: float = 0.0  # weight of the teacher's hidden states
    truth: float = 1.0  # weight of the text itself
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if (
            min(self.steps, self.logits, self.hidden, self.truth) < 0
            or min(self.batch, self.rate, self.temperature) <= 0
        ):
            raise ValueError("`steps` and the loss' weights should be at least 0, the rest above 0")
        if self.length < 8:
            raise ValueError("`length` should be at least 8")
        if not self.logits + self.hidden + self.truth:
            raise ValueError("one of `logits`, `hidden` and `truth` should be above 0")


class Pruning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes: single weights by their size or, with what they meet, by Wanda; or whole heads or FFN channels."""

    by: Literal["magnitude", "wanda", "heads", "channels"] = "channels"
    amount: float = 0.25  # of the weights; of the heads; of the channels
    recovery: Learning = Learning()

    def __post_init__(self) -> None:
        if not 0 < self.amount < 1:
            raise ValueError("`amount` should be between 0 and 1")


class Distillation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A student, and how it learns."""

    layers: int = 0  # of the student; 0 is half of the teacher's
    channels: float = 1.0  # share of the teacher's FFN channels
    start: Literal["teacher", "random"] = "teacher"
    learning: Learning = Learning(steps=200, logits=1.0, hidden=0.0, truth=0.5)

    def __post_init__(self) -> None:
        if self.layers < 0 or not 0 < self.channels <= 1:
            raise ValueError("`layers` should be at least 0, and `channels` above 0 and at most 1")
        if not self.learning.steps:
            raise ValueError("`learning.steps` should be above 0: a student learns")


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model to make."""

    name: str
    to: Form
    target: Target = Target.NATIVE
    weights: Weights = Weights()
    pruning: Pruning = Pruning()
    distillation: Distillation = Distillation()
    then: Form = Form.FP16  # weights of what was pruned or distilled

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise ValueError(f"`name` {self.name!r} is not a model's name: letters, digits and . _ - : only")
        if self.then not in (Form.FP16, Form.INT8, Form.INT4, Form.FULL_INT8):
            raise ValueError("`then` should be fp16, int8, int4 or full-int8")
        if self.target == Target.VLLM and self.weights_form == Form.INT4 and not self.weights.symmetric:
            raise ValueError("`weights.symmetric` should be true for vllm's 4 bits")
        if self.target == Target.GGUF and self.weights_form not in (Form.FP16, Form.INT8, Form.INT4):
            raise ValueError("`target` gguf takes fp16, int8 and int4")
        if self.target == Target.GGUF and self.weights_form == Form.INT4 and self.weights.group != 32:
            raise ValueError("`weights.group` should be 32 for gguf, whose blocks have that size")

    @property
    def weights_form(self) -> Form:
        """How its weights are written in the end."""
        return self.then if self.to in (Form.PRUNED, Form.DISTILLED) else self.to


class Texts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is calibrated on."""

    file: str = ""  # text on the server's machine; empty is the built-in generator
    sequences: int = 64
    length: int = 128  # tokens of each

    def __post_init__(self) -> None:
        if self.sequences < 1 or self.length < 8:
            raise ValueError("`sequences` should be at least 1, `length` at least 8")


class Checks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the report measures beside the size."""

    text: str = ""  # for the perplexity, on the server's machine; empty is the built-in generator
    tokens: int = 6000  # of it, at most; its last ones
    window: int = 512
    stride: int = 256
    items: int = 200  # of the built-in task
    kv: tuple[Literal["u8", "f16", "bf16", "f32"], ...] = ()  # precisions of the cache to compare on the parent
    speed_rounds: int = 3  # 0 measures no speed
    speed_tokens: int = 64  # of each prompt, and of each answer

    def __post_init__(self) -> None:
        if self.tokens < 2 or not 1 <= self.stride < self.window:
            raise ValueError("`tokens` should be at least 2, and `stride` at least 1 and less than `window`")
        if min(self.items, self.speed_rounds) < 0 or self.speed_tokens < 2:
            raise ValueError("`items` and `speed_rounds` should be at least 0, `speed_tokens` at least 2")


class CompressSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job of the kind `compress`. Paths are paths of the server's machine."""

    model: str
    variants: tuple[Variant, ...]
    weights: str = ""  # a Hugging Face folder to begin from, where the model's own was not kept
    texts: Texts = Texts()
    checks: Checks = Checks()
    report: str = ""  # folder for the report; the data folder's reports/NAME where it is empty
    output: str = ""  # folder for what another engine serves (target vllm)
    seed: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.model):
            raise ValueError(f"`model` {self.model!r} is not a model's name")
        names = [variant.name for variant in self.variants]
        if not 1 <= len(names) <= _MOST_VARIANTS:
            raise ValueError(f"`variants` should be 1 to {_MOST_VARIANTS}")
        if len({*names, self.model}) != len(names) + 1:
            raise ValueError("each variant should have a `name` of its own, other than the model's")
        if any(variant.target == Target.VLLM for variant in self.variants) and not self.output:
            raise ValueError("`output` should name a folder for vLLM's weights")
