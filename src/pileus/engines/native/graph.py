"""The model as a graph over paged KV blocks, prepared once at load and run once per engine step.

OpenVINO's own transformation turns stateful attention into paged attention. What is added here: only the rows that will
be sampled pass through the last matrix product. What is to be known of their logits is the work of `summary`.

Shapes: T tokens in a step, S sequences, R rows to sample.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from numpy.typing import NDArray
from openvino._offline_transformations import paged_attention_transformation

from pileus.core.errors import ModelRefused
from pileus.engines.native.adapted import AdaptedGraph, Bank, add_adapters
from pileus.engines.native.options import NativeOptions
from pileus.engines.native.projections import Place, find_projections, sizes
from pileus.engines.native.summary import Rows, Summary, most_likely

BLOCK_SIZE = 32

_PAGED_INPUTS = {
    "input_ids",
    "position_ids",
    "past_lens",
    "subsequence_begins",
    "block_indices",
    "block_indices_begins",
    "max_context_len",
}


class Graph:
    """One compiled model and its KV memory."""

    def __init__(self, folder: Path, options: NativeOptions) -> None:
        self._core = core = ov.Core()
        self._folder = folder
        self._options = options
        self._compiled = _compile(core, self._read(), options)
        self._request = self._compiled.create_infer_request()
        self.vocab_size: int = self._compiled.output(0).partial_shape[1].get_length()
        self._summary = Summary(core, self.vocab_size, _threads(options))
        self.kv_blocks = 0
        self._caches: list[NDArray[Any]] = []
        self._cache_tensors: dict[str, ov.Tensor] = {}
        self._allocate(options.kv_bytes)
        self._projections: Mapping[Place, tuple[int, int]] | None = None
        self._adapted: AdaptedGraph | None = None

    def _read(self) -> ov.Model:
        return _prepare(self._core.read_model(self._folder / "openvino_model.xml"), self._folder.name)

    def _allocate(self, kv_bytes: int) -> None:
        inputs = [port for port in self._compiled.inputs if "_cache." in port.any_name]
        shapes = [[dimension.get_length() for dimension in list(port.partial_shape)[1:]] for port in inputs]
        block_bytes = sum(int(np.prod(s)) * p.element_type.size for s, p in zip(shapes, inputs, strict=True))
        self.kv_blocks = kv_bytes // block_bytes
        for port, shape in zip(inputs, shapes, strict=True):
            tensor = ov.Tensor(port.element_type, ov.Shape([self.kv_blocks, *shape]))
            self._request.set_tensor(port, tensor)
            self._cache_tensors[port.any_name] = tensor
            self._caches.append(np.frombuffer(tensor.data, dtype=np.uint8).reshape(self.kv_blocks, -1))

    def copy_block(self, source: int, destination: int) -> None:
        """Copy one block's keys and values, in every layer."""
        for cache in self._caches:
            cache[destination] = cache[source]

    def run(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        past: Sequence[int],
        begins: Sequence[int],
        blocks: Sequence[int],
        block_begins: Sequence[int],
        rows: Sequence[int],
        inverse_temperatures: Sequence[float] | None,
        slots: Sequence[int] | None = None,
    ) -> Rows:
        """Compute T tokens of S sequences and look at R of them.

        `ids`, `positions` [T]; `past` [S]; `begins`, `block_begins` [S + 1]; `blocks` all block tables one after the
        other; `rows` [R] indices into the tokens; `inverse_temperatures` [R], or None where of each row only the most
        likely token is wanted; `slots` [T] where any of the tokens has an adapter.
        """
        longest = max(p + end - begin for p, begin, end in zip(past, begins, begins[1:], strict=False))
        request = self._request if slots is None else self._with(slots)
        request.set_tensor("input_ids", ov.Tensor(np.array(ids, np.int64)))
        request.set_tensor("position_ids", ov.Tensor(np.array(positions, np.int64)))
        request.set_tensor("past_lens", ov.Tensor(np.array(past, np.int32)))
        request.set_tensor("subsequence_begins", ov.Tensor(np.array(begins, np.int32)))
        request.set_tensor("block_indices", ov.Tensor(np.array(blocks, np.int32)))
        request.set_tensor("block_indices_begins", ov.Tensor(np.array(block_begins, np.int32)))
        request.set_tensor("max_context_len", ov.Tensor(np.array(longest, np.int32)))
        request.set_tensor("rows", ov.Tensor(np.array(rows, np.int32)))
        request.infer()
        logits = request.get_output_tensor(0)
        return most_likely(logits) if inverse_temperatures is None else self._summary.of(logits, inverse_temperatures)

    def _with(self, slots: Sequence[int]) -> Any:
        assert self._adapted is not None
        self._adapted.set_rows(slots)
        return self._adapted.request

    # --- adapters -------------------------------------------------------------------------------------------------

    def use(self, adapted: AdaptedGraph, bank: Bank) -> None:
        """Run what has adapters on this graph from now on. Between two runs."""
        adapted.bind(bank)
        self._adapted = adapted

    def swap_slots(self, one: int, other: int) -> None:
        """Let two adapters change places. Between two runs, while none is loaded."""
        assert self._adapted is not None
        self._adapted.swap(one, other)

    def projections(self) -> Mapping[Place, tuple[int, int]]:
        """What an adapter can change, and what each takes and gives; from any thread."""
        if self._projections is None:
            found = find_projections(self._read())
            self._projections = {place: sizes(product) for place, product in found.items()}
        return self._projections

    def adapted(self, places: frozenset[Place]) -> AdaptedGraph:
        """A graph in which these projections can be changed; takes as long as the engine's start."""
        model = add_adapters(self._read(), places, self._adapter_type)
        return AdaptedGraph(_compile(self._core, model, self._options), self._cache_tensors, places)

    def bank(self, slots: int, rank: int, places: Collection[Place]) -> Bank:
        there = self.projections()
        return Bank(slots, rank, {place: there[place] for place in places}, self._adapter_type)

    @property
    def _adapter_type(self) -> ov.Type:
        """What this CPU computes in, so that nothing is converted in a step."""
        kind = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        return kind if kind in (ov.Type.bf16, ov.Type.f16) else ov.Type.f32


def _prepare(model: ov.Model, name: str) -> ov.Model:
    """Paged attention, and logits of the wanted rows only. Refuses by name what does not have the shape of a
    decoder-only language model."""
    try:
        paged_attention_transformation(model)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelRefused(f"{name} cannot be served by the native engine: no paged attention ({reason})") from error
    unknown = {p.any_name for p in model.inputs if "_cache." not in p.any_name} - _PAGED_INPUTS
    if unknown:
        raise ModelRefused(f"{name} cannot be served by the native engine: it has the inputs {sorted(unknown)}")
    product = _last_product(model, name)
    rows = ops.parameter([-1], np.int32, name="rows")
    rows.output(0).set_names({"rows"})
    chosen = ops.gather(product.input_value(0), rows, ops.constant(np.int64(0)))
    product.input(0).replace_source_output(chosen.output(0))
    vocabulary = product.output(0).get_partial_shape()[-1].get_length()
    logits = ops.convert(ops.reshape(product, ops.constant(np.array([-1, vocabulary])), False), "f32")
    return ov.Model([ops.result(logits)], [*model.get_parameters(), rows], name)


def _last_product(model: ov.Model, name: str) -> Any:
    """The matrix product that makes the logits."""
    node = model.get_results()[0].input_value(0).get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Squeeze", "Unsqueeze", "Slice"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul":
        kind = node.get_type_name()
        raise ModelRefused(f"{name} cannot be served by the native engine: its logits come from {kind}, not MatMul")
    return node


def _compile(core: ov.Core, model: ov.Model, options: NativeOptions) -> Any:
    try:
        return core.compile_model(model, "CPU", _properties(options))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelRefused(f"OpenVINO cannot run {model.get_friendly_name()} with these options: {reason}") from error


def _threads(options: NativeOptions) -> int:
    return options.threads or len(os.sched_getaffinity(0))


def _properties(options: NativeOptions) -> dict[str, Any]:
    exact = options.deterministic
    precision = "f32" if exact else options.precision
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": _threads(options),
        "KV_CACHE_PRECISION": "f32" if exact else options.kv_precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0 if exact else options.quantization_group,
    }
    if precision != "auto":
        properties["INFERENCE_PRECISION_HINT"] = precision
    return properties
