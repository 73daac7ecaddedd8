"""A student: a model with fewer layers or thinner ones, of the teacher's own weights or of none."""

from collections.abc import Sequence
from typing import Any

import torch

from pileus.compression.prune import input_norms, rebuilt, thinner
from pileus.compression.spec import Distillation
from pileus.jobs.handler import JobFailed

Model = Any  # of transformers


def student_of(
    teacher: Model, wish: Distillation, sequences: Sequence[Sequence[int]], seed: int
) -> tuple[Model, list[int]]:
    """The student as it begins, and of which of the teacher's layers each of its layers is."""
    total, unit = teacher.config.num_hidden_layers, 32
    count = wish.layers or (total + 1) // 2
    if count > total:
        raise JobFailed(f"`layers` should be at most {total}: that is what the teacher has", code="bad_student")
    chosen = [round(index) for index in torch.linspace(0, total - 1, count).tolist()] if count > 1 else [0]
    channels = max(unit, round(teacher.config.intermediate_size * wish.channels / unit) * unit)
    student = rebuilt(teacher, _of_layers(teacher, chosen), num_hidden_layers=count, **_layer_types(teacher, chosen))
    if channels < student.config.intermediate_size:
        student = thinner(student, channels, input_norms(student, sequences))
    if wish.start == "random":
        student = _fresh(student, seed)
    return student, chosen


def _of_layers(teacher: Model, chosen: list[int]) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    places = {layer: place for place, layer in enumerate(chosen)}
    for name, value in teacher.state_dict().items():
        if not name.startswith("model.layers."):
            state[name] = value
            continue
        number, _, rest = name.removeprefix("model.layers.").partition(".")
        if int(number) in places:
            state[f"model.layers.{places[int(number)]}.{rest}"] = value
    return state


def _layer_types(teacher: Model, chosen: list[int]) -> dict[str, Any]:
    """Qwen's configuration has a word for each layer."""
    kinds = getattr(teacher.config, "layer_types", None)
    return {"layer_types": [kinds[layer] for layer in chosen]} if kinds else {}


def _fresh(model: Model, seed: int) -> Model:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(model.config).to(model.dtype)
