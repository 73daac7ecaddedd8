from typing import Any

import msgspec
import pytest

from pileus.compression.making import describe
from pileus.compression.spec import CompressSpec, Form, Variant

ONE = {"name": "a", "to": "int4"}


def _spec(*variants: dict[str, Any], **more: Any) -> CompressSpec:
    return msgspec.convert({"model": "m", "variants": list(variants)} | more, CompressSpec)


def test_defaults_are_enough() -> None:
    assert _spec(ONE).variants[0].weights.group == 64


@pytest.mark.parametrize(
    ("variant", "field"),
    [
        ({"to": "int3"}, "to"),
        ({"name": "../x"}, "name"),
        ({"weights": {"group": 48}}, "group"),
        ({"weights": {"tuned": ["scale", "gptq"]}}, "tuned"),
        ({"weights": {"smooth": 2.0}}, "smooth"),
        ({"to": "pruned", "pruning": {"amount": 1.0}}, "amount"),
        ({"to": "pruned", "pruning": {"recovery": {"truth": 0.0}}}, "truth"),
        ({"to": "distilled", "distillation": {"learning": {"steps": 0}}}, "steps"),
        ({"to": "full-int8", "target": "gguf"}, "target"),
        ({"to": "int4", "target": "gguf", "weights": {"group": 64}}, "group"),
        ({"then": "pruned"}, "then"),
        ({"to": "int8", "target": "vllm"}, "output"),
        ({"target": "vllm"}, "symmetric"),
        ({"weights": {"share": 0.0}}, "share"),
        ({"group": 32}, "group"),
    ],
)
def test_what_is_wrong_is_named(variant: dict[str, Any], field: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        _spec(ONE | variant)


def test_two_variants_of_one_name_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="name"):
        _spec(ONE, ONE)
    with pytest.raises(msgspec.ValidationError, match="name"):
        _spec(ONE | {"name": "m"})


def test_a_variant_is_described_in_words() -> None:
    variant = msgspec.convert({"name": "a", "to": "int4", "weights": {"group": 32, "tuned": ["awq", "scale"]}}, Variant)
    assert describe(variant) == "weights in 4 bits, groups of 32, asymmetric, awq and scale"
    pruned = msgspec.convert({"name": "a", "to": "pruned", "pruning": {"by": "heads"}, "then": "int8"}, Variant)
    assert describe(pruned) == "without 25% of the heads, weights in 8 bits, by channel, asymmetric"
    assert pruned.weights_form == Form.INT8
