"""Weights as vLLM takes them (compressed-tensors), by llm-compressor.

It is no part of the extras; where it is not installed, this says so. Tried with 0.14.1a20261020.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pileus.compression.source import copy_text_files
from pileus.compression.spec import Form, Weights
from pileus.jobs.handler import JobFailed

_SCHEMES: Final = {Form.INT8: "W8A16", Form.INT4: "W4A16", Form.FULL_INT8: "W8A8"}


def write_vllm(
    weights: Path, artefact: Path, folder: Path, to: Form, wish: Weights, sequences: Sequence[Sequence[int]]
) -> None:
    """Fill `folder` from a Hugging Face folder, calibrated on sequences of ids. Raises `JobFailed`."""
    if to not in _SCHEMES:
        raise JobFailed(f"vLLM serves {to} from the Hugging Face folder as it is: ask for int8, int4 or full-int8")
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    if "awq" in wish.tuned and not torch.accelerator.is_available():
        raise JobFailed("llm-compressor's AWQ needs a GPU: ask for gptq", code="not_compressible")
    model = AutoModelForCausalLM.from_pretrained(weights, dtype="auto")
    data = Dataset.from_dict({"input_ids": [list(ids) for ids in sequences]})
    oneshot(
        model=model,
        dataset=data,
        recipe=_recipe(to, wish),
        num_calibration_samples=len(sequences),
        max_seq_length=max(map(len, sequences)),
    )
    model.save_pretrained(folder, save_compressed=True)
    copy_text_files(artefact, folder)


def _recipe(to: Form, wish: Weights) -> list[Any]:
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    asked: dict[str, Any] = {"targets": "Linear", "ignore": ["lm_head"]}
    if to != Form.INT4:
        rounding = QuantizationModifier(scheme=_SCHEMES[to], **asked)
        return [SmoothQuantModifier(smoothing_strength=wish.smooth), rounding] if to == Form.FULL_INT8 else [rounding]
    whole_rows = wish.group == -1
    arguments = {
        "num_bits": 4,
        "type": "int",
        "symmetric": wish.symmetric,
        "strategy": "channel" if whole_rows else "group",
    }
    asked |= {"config_groups": {"group_0": {"targets": ["Linear"], "weights": arguments}}}
    if not whole_rows:
        arguments["group_size"] = wish.group
    del asked["targets"]  # the group says them
    rounding = GPTQModifier(**asked) if "gptq" in wish.tuned else QuantizationModifier(**asked)
    return [AWQModifier(), rounding] if "awq" in wish.tuned else [rounding]
