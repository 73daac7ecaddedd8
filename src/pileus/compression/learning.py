"""A short training: a pruned model recovers, a student learns. Alone from a text, or after a teacher.

    loss = truth x cross entropy + logits x T^2 KL(teacher || student) + hidden x distance of hidden states

Sources: Hinton et al. 2015 (probabilities), Jiao et al. 2020 (hidden states). What a step learns from is drawn by its
number; so a run that is gone on with ends as one that was never stopped.
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # as everybody calls it

from pileus.compression.prune import Masks
from pileus.compression.spec import Learning
from pileus.jobs.memory import keep_freed_memory
from pileus.store.durable import sync_folder

_SAVE_EVERY: Final = 50  # steps
_WARM_UP: Final = 0.05  # of the steps
_LEAST_RATE: Final = 0.1  # of the highest
_CLIP: Final = 1.0
_DECAY: Final = 0.01
_STEP: Final = "step"
Model = Any  # of transformers
Tell = Callable[[int, float], bool]  # step and loss; whether to stop here, to be gone on with


class Learner:
    """One model that learns; `teacher` with the layers of it that the student's own layers follow."""

    def __init__(
        self,
        model: Model,
        wish: Learning,
        ids: Sequence[int],
        seed: int,
        *,
        teacher: Model | None = None,
        layers: Sequence[int] = (),
        masks: Masks | None = None,
    ) -> None:
        if len(ids) <= wish.length:
            raise ValueError(f"a text of more than {wish.length} tokens is needed")
        if wish.logits + wish.hidden and teacher is None:
            raise ValueError("there is no teacher")
        self._model = model.float().train()
        self._wish = wish
        self._ids = torch.tensor(ids)
        self._seed = seed
        self._teacher = teacher.eval() if teacher is not None else None
        self._layers = layers
        self._masks = masks or {}
        self._parameters = dict(model.named_parameters())
        self._optimiser = torch.optim.AdamW(self._parameters.values(), lr=wish.rate, weight_decay=_DECAY)

    def run(self, saved: Path, tell: Tell) -> bool:
        """To the end, from where `saved` left off. False where `tell` had it stop: then it goes on from there."""
        keep_freed_memory()
        begin = self._load(saved) if saved.exists() else 0
        for step in range(begin, self._wish.steps):
            loss = self._step(step)
            stops = tell(step, loss)
            if stops or (step + 1) % _SAVE_EVERY == 0:
                self._save(saved, step + 1)
            if stops:
                return False
        self._model.eval()
        return True

    def _step(self, step: int) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(step)
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._loss(self._batch(step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), _CLIP)
        self._optimiser.step()
        with torch.no_grad():
            for name, mask in self._masks.items():
                self._parameters[name].mul_(mask)
        return float(loss.detach())

    def _loss(self, batch: Tensor) -> Tensor:
        wish = self._wish
        out = self._model(input_ids=batch, use_cache=False, output_hidden_states=wish.hidden > 0)
        logits = out.logits[:, :-1]
        loss = wish.truth * F.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
        if self._teacher is None or not wish.logits + wish.hidden:
            return loss
        with torch.no_grad():
            said = self._teacher(input_ids=batch, use_cache=False, output_hidden_states=wish.hidden > 0)
        if wish.logits:
            loss = loss + wish.logits * _divergence(logits, said.logits[:, :-1].float(), wish.temperature)
        if wish.hidden:
            loss = loss + wish.hidden * _distance(out.hidden_states, said.hidden_states, self._layers)
        return loss

    def _batch(self, step: int) -> Tensor:
        """(batch, length)"""
        draw = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        begins = torch.randint(len(self._ids) - self._wish.length, (self._wish.batch,), generator=draw)
        return torch.stack([self._ids[begin : begin + self._wish.length] for begin in begins.tolist()])

    def _rate(self, step: int) -> float:
        """Up in a line, then down along a cosine."""
        warm = max(1, round(self._wish.steps * _WARM_UP))
        if step < warm:
            return self._wish.rate * (step + 1) / warm
        done = (step - warm) / max(1, self._wish.steps - warm)
        return self._wish.rate * (_LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))

    def _save(self, path: Path, step: int) -> None:
        """Weights and moments; whole or as it was before, and durable."""
        tensors = {_STEP: torch.tensor(step)}
        for name, parameter in self._parameters.items():
            state = self._optimiser.state[parameter]
            tensors |= {f"weight.{name}": parameter.detach().contiguous()}
            tensors |= {f"{key}.{name}": state[key].contiguous() for key in ("step", "exp_avg", "exp_avg_sq")}
        draft = path.with_suffix(".draft")
        save_file(tensors, draft)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.rename(path)
        sync_folder(path.parent)

    def _load(self, path: Path) -> int:
        tensors = load_file(path)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"weight.{name}"])
                state = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                self._optimiser.state[parameter] = state
        return int(tensors[_STEP])


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) at a temperature, mean over tokens."""
    wanted = F.log_softmax(teacher / temperature, dim=-1).reshape(-1, teacher.shape[-1])
    given = F.log_softmax(student / temperature, dim=-1).reshape(-1, student.shape[-1])
    return temperature**2 * F.kl_div(given, wanted, log_target=True, reduction="batchmean")


def _distance(student: Sequence[Tensor], teacher: Sequence[Tensor], layers: Sequence[int]) -> Tensor:
    """Mean square difference of each layer's output to its teacher's, in units of the teacher's own spread. The last
    one's is the model's, after the norm: it follows the teacher's last."""
    followed = [*(layer + 1 for layer in layers[:-1]), len(teacher) - 1]
    found = [
        (student[place + 1] - teacher[index]).square().mean() / teacher[index].square().mean()
        for place, index in enumerate(followed)
    ]
    return torch.stack(found).mean()
