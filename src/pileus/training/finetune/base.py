"""The model that learns: its base, and what of it changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pileus.jobs.handler import JobFailed
from pileus.training.finetune.records import Adaptation, Plan


class Machine(Struct, frozen=True):
    """What it is computed on. Where products in bfloat16 are quick, they are made so; what learns is in float32."""

    device: torch.device
    is_half: bool

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_half):
            yield


def this_machine() -> Machine:
    if torch.cuda.is_available():
        return Machine(torch.device("cuda"), torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return Machine(torch.device("cpu"), bool(able.get("avx512_bf16") or able.get("amx_bf16")))


def load_base(master: Path, machine: Machine, adaptation: Adaptation) -> Any:
    """From safetensors; never code that comes with it. A base that only helps an adapter to learn may be in half."""
    dtype = torch.bfloat16 if machine.is_half and adaptation == "lora" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        master, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    return model.to(machine.device)


def adapted(model: Any, plan: Plan, adaptation: Adaptation, seed: int) -> Any:
    """A PEFT model whose adapter learns and whose base stays; with full fine-tuning the model itself. Raises
    `JobFailed` for target modules that it does not have."""
    if adaptation == "full":
        return model
    torch.manual_seed(seed)  # an adapter begins at random
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        target_modules=list(plan.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise JobFailed(f"The base cannot be adapted there: {error}", code="invalid_target_modules") from None


def learning(model: Any) -> dict[str, torch.nn.Parameter]:
    """What changes, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}
