"""The model that learns: its base, and what of it changes."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pileus.jobs.handler import JobFailed
from pileus.training.finetune.records import Adaptation, Plan


def load_base(master: Path, device: torch.device) -> Any:
    """In float32, from safetensors; never code that comes with it."""
    model = AutoModelForCausalLM.from_pretrained(
        master, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    return model.to(device)


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
