"""The processes that train one model together: each takes its share of every batch.

With DDP each has the whole model, with FSDP a share of its weights and of the optimiser's state. Both take the mean of
the gradients over the processes, so a loss is scaled by their number (`Loop.step`).
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from pileus.training.plan import Parallel

_WHOLE: Final = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Group:
    """One process's place among them. A group of one needs no connection."""

    def __init__(self, rank: int = 0, size: int = 1, parallel: Parallel = "ddp") -> None:
        self.rank = rank
        self.size = size
        self._parallel = parallel
        has_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", rank % torch.cuda.device_count()) if has_gpu else torch.device("cpu")
        if has_gpu:
            torch.cuda.set_device(self.device)

    def join(self, rendezvous: Path) -> None:
        """Meet the others at a file that is new. Raises `torch.distributed.DistError` where they do not come."""
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine
        each_has_a_gpu = self.device.type == "cuda" and torch.cuda.device_count() >= self.size
        backend = "nccl" if each_has_a_gpu else "gloo"
        dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=self.rank, world_size=self.size)

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def shared(self, model: nn.Module) -> nn.Module:
        """The model as this process trains it."""
        model.to(self.device)
        if self.size == 1:
            return model
        if self._parallel == "ddp":
            return DistributedDataParallel(model)
        mesh = init_device_mesh(self.device.type, (self.size,))
        for layer in _layers(model):
            fully_shard(layer, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    def gathering(self, model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Around one part of a batch: gradients go to the others with the last part."""
        if self.size == 1:
            return nullcontext()
        if self._parallel == "ddp":
            return nullcontext() if last else model.no_sync()
        model.set_requires_gradient_sync(last)
        return nullcontext()

    def total(self, *values: float) -> list[float]:
        """The sums over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()  # type: ignore[no-any-return]


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy, whole and on the CPU; with several processes, for the first of them, and all must call it."""
    state = get_model_state_dict(model, options=_WHOLE)  # on a CPU it is no copy, and would follow the model
    return {name: tensor.clone() for name, tensor in state.items()}


def state_of(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """As `weights_of`, with what the optimiser knows."""
    return {"model": weights_of(model), "optimiser": get_optimizer_state_dict(model, optimiser, options=_WHOLE)}


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))


def load_state(model: nn.Module, optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """What `state_of` gave; each process reads the whole."""
    load_weights(model, state["model"])
    options = StateDictOptions(full_state_dict=True)
    set_optimizer_state_dict(model, optimiser, state["optimiser"], options=options)


def _layers(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks, which are gathered one at a time."""
    return [layer for module in model.modules() if isinstance(module, nn.ModuleList) for layer in module]
