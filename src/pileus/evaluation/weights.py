"""Whether an artefact's weights are numbers, and where they are not."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
from msgspec import Struct
from numpy.typing import NDArray

from pileus.evaluation.records import Finding
from pileus.models.artefact import ADAPTER_WEIGHTS, MODEL_XML, Kind, load_artefact
from pileus.models.convert.safetensors_file import read_safetensors

_FLOATS: Final = {"f64": np.float64, "f32": np.float32, "f16": np.float16}
_ATTENTION: Final = "ScaledDotProductAttention"
_MOST_NAMED: Final = 5
_CHUNK: Final = 1 << 22  # values at a time


class Tensor(Struct, frozen=True):
    """One constant of a model."""

    name: str
    kind: str  # of its elements
    shape: tuple[int, ...]
    bad: int  # elements that are no numbers
    place: str = ""  # where in the model it is used


def weights_finding(candidate: Path, parent: Path) -> Finding:
    """Every weight is finite. Where some are not, the finding names the tensors and where in the model they are."""
    if load_artefact(candidate).manifest.kind is Kind.ADAPTER:
        bad, scanned = _scan_adapter(candidate / ADAPTER_WEIGHTS)
    else:
        bad, scanned = _scan_graph(candidate / MODEL_XML)
    if not bad:
        return Finding(
            check="weights",
            passed=True,
            says=f"all {scanned} tensors of floating-point numbers are finite",
            figures={"tensors": float(scanned)},
        )
    named = "; ".join(_told(tensor) for tensor in bad[:_MOST_NAMED])
    rest = f"; and {len(bad) - _MOST_NAMED} more tensors" if len(bad) > _MOST_NAMED else ""
    figures = {"tensors": float(scanned), "bad_tensors": float(len(bad)), "bad": float(sum(t.bad for t in bad))}
    return Finding(check="weights", passed=False, says=f"not finite (NaN or infinite): {named}{rest}", figures=figures)


def _told(tensor: Tensor) -> str:
    size = int(np.prod(tensor.shape))
    place = f", {tensor.place}" if tensor.place else ""
    return f"{tensor.name} ({tensor.kind} {list(tensor.shape)}{place}): {tensor.bad} of {size} values"


def _scan_graph(path: Path) -> tuple[list[Tensor], int]:
    """Tensors with values that are not finite, and how many were looked at."""
    model = ov.Core().read_model(path)
    attentions = [node for node in model.get_ordered_ops() if node.get_type_name() == _ATTENTION]
    order = {node.get_friendly_name(): number for number, node in enumerate(attentions)}
    bad, scanned = [], 0
    for node in model.get_ordered_ops():
        kind = node.get_element_type().get_type_name() if node.get_type_name() == "Constant" else ""
        if kind not in _FLOATS and kind != "bf16":
            continue
        scanned += 1
        if count := _count_bad(node.data, kind):
            shape = tuple(node.get_output_shape(0))
            bad.append(Tensor(node.get_friendly_name(), kind, shape, count, _place(node, order)))
    return bad, scanned


def _scan_adapter(path: Path) -> tuple[list[Tensor], int]:
    kinds = {"F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16"}
    tensors = read_safetensors(path)
    bad = []
    for name, tensor in tensors.items():
        kind = kinds.get(tensor.type, "")
        if kind and (count := _count_bad(_values(tensor, kind), kind)):
            bad.append(Tensor(name, kind, tuple(tensor.shape), count))
    return bad, len(tensors)


def _values(tensor: Any, kind: str) -> NDArray[Any]:
    return np.frombuffer(tensor.data, np.uint16 if kind == "bf16" else _FLOATS[kind])


def _count_bad(values: NDArray[Any], kind: str) -> int:
    """bfloat16 has all bits of its exponent set where it is not finite."""
    return sum(
        int(
            np.count_nonzero((part.view(np.uint16) & 0x7F80) == 0x7F80)
            if kind == "bf16"
            else (~np.isfinite(part)).sum()
        )
        for part in _parts(values.reshape(-1))
    )


def _parts(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for begin in range(0, len(values), _CHUNK):
        yield values[begin : begin + _CHUNK]


def _place(node: Any, order: dict[str, int]) -> str:
    """By the nearest attention that follows it."""
    if not order:
        return ""
    seen, waiting = set(), deque([node])
    while waiting:
        at = waiting.popleft()
        if (name := at.get_friendly_name()) in order:
            return f"before the attention of layer {order[name]}"
        for output in at.outputs():
            for target in output.get_target_inputs():
                consumer = target.get_node()
                if consumer.get_friendly_name() not in seen:
                    seen.add(consumer.get_friendly_name())
                    waiting.append(consumer)
    return "behind the last attention"
