"""Adapters: low-rank changes to the projections of a generator, as PEFT writes them (LoRA, arXiv:2106.09685).

    y = x W + x A B * scale        A (in, rank), B (rank, out); PEFT keeps both transposed

An artefact holds `adapter_config.json` and `adapter_model.safetensors` as PEFT wrote them, and `adapter.json`: which
base they belong to. What would need more than the two products is refused by name.
"""

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.adapter import Belonging
from pileus.models.artefact import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    MANIFEST,
    Artefact,
    Kind,
    Manifest,
    digest_file,
    load_artefact,
    verify,
    write_record,
)
from pileus.models.convert.safetensors_file import SafeTensor, read_safetensors
from pileus.models.progress import Progress
from pileus.models.store import ModelStore, require_space

TARGETS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_MOST_RANK: Final = 1024
_CONVERTER: Final = "peft"
# Begun otherwise than with B = 0, it is no change to the base but to what is left of it.
_INITS_THAT_CHANGE_THE_BASE: Final = ("pissa", "olora", "loftq", "corda")
_NAME: Final = re.compile(
    r"^(?:base_model\.model\.)?model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.lora_([AB])(?:\.default)?\.weight$"
)

F32 = NDArray[np.float32]
Place = tuple[int, str]  # layer and target


class LowRank(Struct, frozen=True):
    """The change to one projection: x (.., in) becomes x @ a @ b. The scale is in `b`."""

    a: F32  # (in, rank)
    b: F32  # (rank, out)


class AdapterWeights(Struct, frozen=True):
    """All that an adapter changes; `rank` is the largest of its ranks."""

    rank: int
    changes: Mapping[Place, LowRank]


class _Config(Struct, frozen=True):
    """What is read of `adapter_config.json`; PEFT's names and defaults."""

    peft_type: str = ""
    r: int = 8
    lora_alpha: float = 8
    bias: str = "none"
    fan_in_fan_out: bool = False
    use_dora: bool = False
    use_rslora: bool = False
    lora_bias: bool = False
    init_lora_weights: bool | str | None = True
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    layer_replication: list[Any] | None = None
    target_parameters: list[str] | None = None
    trainable_token_indices: Any = None


def read_adapter(folder: Path) -> AdapterWeights:
    """The weights of an installed adapter, every file checked against the manifest. Raises `ModelRefused`."""
    artefact = verify(folder)
    if artefact.manifest.kind != Kind.ADAPTER:
        raise ModelRefused(f"{artefact.name} is not an adapter, but a {artefact.manifest.kind}")
    return read_peft(folder)


def read_peft(folder: Path) -> AdapterWeights:
    """The weights of a folder that PEFT wrote. Raises `ModelRefused`, with what is not supported or not right."""
    config = _read_config(folder)
    tensors = _read_tensors(folder)
    halves: dict[Place, dict[str, F32]] = {}
    for name, tensor in tensors.items():
        place, half = _place(name)
        halves.setdefault(place, {})[half] = _values(name, tensor)
    if not halves:
        raise ModelRefused(f"{ADAPTER_WEIGHTS} has no weights")
    changes = {place: _low_rank(place, found, config) for place, found in sorted(halves.items())}
    return AdapterWeights(max(change.a.shape[1] for change in changes.values()), changes)


def adapter_shapes(folder: Path) -> Mapping[Place, tuple[int, int, int]]:
    """What each change of an installed adapter takes, its rank, and what it gives; from the headers, without reading
    the weights. Raises `ModelRefused`."""
    if load_artefact(folder).manifest.kind != Kind.ADAPTER:
        raise ModelRefused(f"{folder.name} is not an adapter")
    shapes: dict[Place, dict[str, tuple[int, ...]]] = {}
    for name, tensor in _read_tensors(folder).items():
        place, half = _place(name)
        shapes.setdefault(place, {})[half] = _matrix(name, tensor)
    config = _read_config(folder)
    found = {}
    for place, halves in shapes.items():
        _check_rank(place, halves, config)
        found[place] = (halves["A"][1], halves["A"][0], halves["B"][0])
    return found


class PeftReader:
    """Meets `core.ports.AdapterReader`."""

    shapes = staticmethod(adapter_shapes)
    weights = staticmethod(read_adapter)


def install_adapter(
    folder: Path, name: str, base: Belonging, store: ModelStore, *, source: str, licence: str = ""
) -> Artefact:
    """Check a folder that PEFT wrote, and install what serving needs of it; `base` by `belonging_to`. Call while
    holding the name's lock. Raises `ModelRefused` for an adapter that cannot be served."""
    read_peft(folder)
    require_space(store.root, sum((folder / file).stat().st_size for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)))
    with store.scratch(name) as scratch:
        made = scratch / "artefact"
        made.mkdir()
        for file in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            shutil.copyfile(folder / file, made / file)
        write_record(made / ADAPTER, base)
        manifest = Manifest(
            kind=Kind.ADAPTER,
            name=name,
            licence=licence,
            source=source,
            converter=_CONVERTER,
            files={file.name: digest_file(file) for file in sorted(made.iterdir())},
        )
        write_record(made / MANIFEST, manifest)
        return store.install(made, name)


def import_adapter(folder: Path, name: str, base: Belonging, store: ModelStore, progress: Progress) -> Artefact:
    """Install a folder that PEFT wrote under a new name. Raises `OperatorError`."""
    if not folder.is_dir():
        raise OperatorError(f"{folder} is not a folder: an adapter is what PEFT's `save_pretrained` writes")
    with store.hold(name, progress):
        if store.artefact(name):
            raise OperatorError(f"{name} is installed already: remove it first, or choose another name")
        return install_adapter(folder, name, base, store, source="import")


# --- inside ---------------------------------------------------------------------------------------------------------


def _read_config(folder: Path) -> _Config:
    path = folder / ADAPTER_CONFIG
    try:
        config = msgspec.convert(json.loads(path.read_bytes()), _Config)
    except OSError as error:
        raise ModelRefused(f"{path} cannot be read ({error.strerror}): PEFT writes it") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise ModelRefused(f"{path} is malformed ({error})") from error
    for problem in _problems(config):
        raise ModelRefused(f"{ADAPTER_CONFIG}: {problem}")
    return config


def _problems(config: _Config) -> Iterator[str]:
    if config.peft_type != "LORA":
        yield f"its `peft_type` is {config.peft_type!r}, only LORA is supported"
    if not 1 <= config.r <= _MOST_RANK:
        yield f"its rank `r` is {config.r}, not 1 to {_MOST_RANK}"
    flags = {
        "`use_dora`": config.use_dora,
        "`fan_in_fan_out`": config.fan_in_fan_out,
        "`lora_bias`": config.lora_bias,
        f"`bias` {config.bias!r}": config.bias != "none",
        f"`modules_to_save` {config.modules_to_save}": bool(config.modules_to_save),
        "`layer_replication`": bool(config.layer_replication),
        "`target_parameters`": bool(config.target_parameters),
        "`trainable_token_indices`": bool(config.trainable_token_indices),
    }
    yield from (f"it has {what}, which is not supported" for what, given in flags.items() if given)
    init = str(config.init_lora_weights).lower()
    if init.startswith(_INITS_THAT_CHANGE_THE_BASE):
        yield f"`init_lora_weights` {init!r} changed the base: convert the adapter to a plain LoRA with PEFT first"


def _read_tensors(folder: Path) -> dict[str, SafeTensor]:
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise ModelRefused(f"{path} is not there: adapters are read from safetensors only, never from pickles")
    return read_safetensors(path)


def _place(name: str) -> tuple[Place, str]:
    match = _NAME.match(name)
    if match is None or match[2] not in TARGETS:
        raise ModelRefused(f"it changes {name}; what can be changed are {', '.join(TARGETS)} of the layers")
    return (int(match[1]), match[2]), match[3]


def _matrix(name: str, tensor: SafeTensor) -> tuple[int, ...]:
    if len(tensor.shape) != 2 or not min(tensor.shape):
        raise ModelRefused(f"{name} has the shape {list(tensor.shape)}, which is no matrix")
    return tensor.shape


def _values(name: str, tensor: SafeTensor) -> F32:
    if tensor.type == "BF16":
        values = (tensor.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        values = tensor.data.view({"F16": np.float16, "F32": np.float32}[tensor.type]).astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelRefused(f"{name} has values that are not finite: its training went wrong")
    return values.reshape(_matrix(name, tensor))


def _check_rank(place: Place, halves: Mapping[str, tuple[int, ...]], config: _Config) -> tuple[int, float]:
    """Rank and alpha of a change, both of whose halves are there and agree."""
    where = f"layers.{place[0]}.{place[1]}"
    if len(halves) != 2:
        raise ModelRefused(f"{where} has lora_{next(iter(halves))} alone; it takes A and B")
    rank, alpha = _scaling_of(place, config)
    if halves["A"][0] != rank or halves["B"][1] != rank:
        raise ModelRefused(f"{where} has A {halves['A']} and B {halves['B']}, which are not of rank {rank}")
    return rank, alpha


def _low_rank(place: Place, halves: dict[str, F32], config: _Config) -> LowRank:
    rank, alpha = _check_rank(place, {half: values.shape for half, values in halves.items()}, config)
    a, b = halves["A"], halves["B"]  # (rank, in), (out, rank)
    scale = alpha / (math.sqrt(rank) if config.use_rslora else rank)
    return LowRank(np.ascontiguousarray(a.T), np.ascontiguousarray(b.T * np.float32(scale)))


def _scaling_of(place: Place, config: _Config) -> tuple[int, float]:
    """Rank and alpha of a projection: those of the first pattern that its name ends with, as PEFT looks it up."""
    layer, target = place
    block = "self_attn" if target in TARGETS[:4] else "mlp"
    name = f"model.layers.{layer}.{block}.{target}"

    def found(patterns: Mapping[str, Any], default: Any) -> Any:
        keys = (key for key in patterns if re.match(rf"(.*\.)?({key})$", name))
        key = next(keys, None)
        return default if key is None else patterns[key]

    return found(config.rank_pattern, config.r), found(config.alpha_pattern, config.lora_alpha)
