"""What matters least goes: single weights, or whole heads or FFN channels.

    magnitude   in each matrix, the smallest weights
    wanda       in each row, the smallest |weight| x norm of the input that it meets (Sun et al., 2023)
    heads       in each layer, whole groups of heads that share keys and values
    channels    in each layer, FFN channels; both by |weight| x norm, summed over what they give

Single weights leave the model as large and as quick as it was for dense kernels, until a kernel or a file format
makes use of the zeros. Heads and channels make it smaller for every engine.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from pileus.compression.spec import Pruning
from pileus.jobs.handler import JobFailed

Masks = dict[str, Tensor]  # True where a weight stays, by the parameter's name

_CHANNEL_UNIT: Final = 32  # channels stay a multiple of it: what 4-bit groups need
Model = Any  # of transformers


def prune(model: Model, pruning: Pruning, sequences: Sequence[Sequence[int]]) -> tuple[Model, Masks]:
    """The pruned model; where single weights went, also which stay (for a recovery that leaves the others nought)."""
    norms = {} if pruning.by == "magnitude" else input_norms(model, sequences)
    if pruning.by in ("magnitude", "wanda"):
        return model, _zero(model, pruning, norms)
    if pruning.by == "heads":
        return _without_heads(model, pruning.amount, norms), {}
    channels = model.config.intermediate_size
    kept = max(_CHANNEL_UNIT, round(channels * (1 - pruning.amount) / _CHANNEL_UNIT) * _CHANNEL_UNIT)
    if kept >= channels:
        raise JobFailed(f"{channels} channels cannot lose {pruning.amount:.0%} in steps of {_CHANNEL_UNIT}")
    return thinner(model, kept, norms), {}


def input_norms(model: Model, sequences: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Of each linear module in the layers: the L2 norm of each of its inputs over the calibration, (inputs)."""
    squares: dict[str, Tensor] = {}

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float().square().sum(dim=0)
            squares[name] = squares[name] + seen if name in squares else seen

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in _linears(model)]
    try:
        with torch.inference_mode():
            for ids in sequences:
                model(input_ids=torch.tensor([ids]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: square.sqrt().clone() for name, square in squares.items()}


def thinner(model: Model, kept: int, norms: dict[str, Tensor]) -> Model:
    """With so many FFN channels in each layer: those that give most."""
    state = dict(model.state_dict())
    for index in range(model.config.num_hidden_layers):
        mlp = f"model.layers.{index}.mlp"
        gives = state[f"{mlp}.down_proj.weight"].norm(dim=0) * norms[f"{mlp}.down_proj"]
        stays = gives.topk(kept).indices.sort().values
        _keep_rows(state, f"{mlp}.gate_proj", stays)
        _keep_rows(state, f"{mlp}.up_proj", stays)
        state[f"{mlp}.down_proj.weight"] = state[f"{mlp}.down_proj.weight"][:, stays]
    return rebuilt(model, state, intermediate_size=kept)


def rebuilt(model: Model, state: dict[str, Tensor], **changes: Any) -> Model:
    """A model of that configuration, changed, with those weights."""
    from transformers import AutoModelForCausalLM

    config = type(model.config).from_dict(model.config.to_dict() | changes)
    made = AutoModelForCausalLM.from_config(config).to(model.dtype).eval()
    if made.config.tie_word_embeddings:
        state = {name: value for name, value in state.items() if name != "lm_head.weight"}
    problems = made.load_state_dict(state, strict=False)
    if set(problems.missing_keys) - {"lm_head.weight"} or problems.unexpected_keys:
        raise RuntimeError(f"the weights do not fit: {problems}")
    made.tie_weights()
    return made


def _zero(model: Model, pruning: Pruning, norms: dict[str, Tensor]) -> Masks:
    masks: Masks = {}
    with torch.no_grad():
        for name, module in _linears(model):
            weight = module.weight
            score = weight.abs() if pruning.by == "magnitude" else weight.abs() * norms[name]
            rows = score.reshape(1, -1) if pruning.by == "magnitude" else score
            gone = round(pruning.amount * rows.shape[1])
            order = rows.argsort(dim=1)
            mask = torch.ones_like(rows, dtype=torch.bool).scatter_(1, order[:, :gone], value=False)
            masks[f"{name}.weight"] = mask.reshape(weight.shape)
            weight.mul_(masks[f"{name}.weight"])
    return masks


def _without_heads(model: Model, amount: float, norms: dict[str, Tensor]) -> Model:
    config = model.config
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = max(1, round(groups * (1 - amount)))
    if kept == groups:
        raise JobFailed(f"its {groups} groups of heads cannot lose {amount:.0%}: fewer than one would go")
    state = dict(model.state_dict())
    for index in range(config.num_hidden_layers):
        attention = f"model.layers.{index}.self_attn"
        gives = state[f"{attention}.o_proj.weight"].norm(dim=0) * norms[f"{attention}.o_proj"]
        stays = gives.reshape(groups, -1).sum(dim=1).topk(kept).indices.sort().values
        query = _spread(stays, heads // groups * size)
        _keep_rows(state, f"{attention}.q_proj", query)
        for kind in ("k_proj", "v_proj"):
            _keep_rows(state, f"{attention}.{kind}", _spread(stays, size))
        state[f"{attention}.o_proj.weight"] = state[f"{attention}.o_proj.weight"][:, query]
    changes = {"num_attention_heads": kept * heads // groups, "num_key_value_heads": kept, "head_dim": size}
    return rebuilt(model, state, **changes)


def _keep_rows(state: dict[str, Tensor], name: str, rows: Tensor) -> None:
    for kind in ("weight", "bias"):
        if f"{name}.{kind}" in state:
            state[f"{name}.{kind}"] = state[f"{name}.{kind}"][rows]


def _spread(groups: Tensor, size: int) -> Tensor:
    """The rows of these groups of `size` rows each."""
    return (groups[:, None] * size + torch.arange(size)).reshape(-1)


def _linears(model: Model) -> list[tuple[str, nn.Linear]]:
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith("model.layers.")
    ]
