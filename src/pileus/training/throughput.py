"""How much of the machine a run uses: tokens per second, and its floating-point operations against the fastest matrix
product that was measured here."""

from time import perf_counter
from typing import Final

import torch
from torch import nn

_WIDTH: Final = {"cpu": 1024, "cuda": 8192}
_MEASURED_S: Final = 0.3


def flops_per_token(model: nn.Module, layers: int = 0, width: int = 0, context: int = 0) -> float:
    """Of a forward and a backward step: six for each weight that multiplies, and those of attention.

    A table that is only looked up multiplies nothing; one that is tied to the output does.
    Source: Chowdhery et al. 2022 (PaLM), appendix B.
    """
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    multiplied = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    idle = looked_up - multiplied
    weights = sum(each.numel() for each in model.parameters() if id(each) not in idle)
    return 6.0 * float(weights) + 12.0 * layers * width * context


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The most that a square matrix product reaches in about a third of a second, per second."""
    width = _WIDTH[device.type]
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    best, begun = 0.0, perf_counter()
    while perf_counter() - begun < _MEASURED_S:
        at = perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2.0 * width**3 / (perf_counter() - at))
    return best
