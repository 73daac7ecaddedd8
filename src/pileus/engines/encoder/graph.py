"""The model, compiled for each thing that is wanted of it.

Shapes: B texts in a step, L the tokens of the longest, H the hidden size.
"""

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from msgspec import DecodeError
from msgspec.json import decode
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.core.records import Encoding
from pileus.engines.encoder.options import EncoderOptions
from pileus.engines.encoder.quantised import ACTIVATION_GROUP, quantise

SCORES = -2  # in place of a layer
LAST = -1
_MOST_COMPILED = 3  # each keeps the weights that it needs once more
_THREADS = 4  # of a stream, where nobody says how many streams there shall be
_HIDDEN, _LOGITS = "last_hidden_state", "logits"


class Graph:
    """One model, in `streams` that share its weights and divide the threads among them."""

    def __init__(self, folder: Path, options: EncoderOptions) -> None:
        self.encoding = _read_encoding(folder / "encoding.json")
        self._core = ov.Core()
        self._path = folder / "openvino_model.xml"
        threads = options.threads or len(os.sched_getaffinity(0))
        self.streams = min(options.streams or max(2, threads // _THREADS), threads)
        self._properties = _properties(options, threads, self.streams)
        self._int8 = options.weights == "int8"
        self._compiled: OrderedDict[int, list[Any]] = OrderedDict()  # each stream's infer request; the last used last
        self._compiling = threading.Lock()
        self._request(0, LAST if self.encoding.features else SCORES)

    def run(self, stream: int, texts: list[NDArray[np.uint32]], seconds: list[int], layer: int) -> NDArray[np.float32]:
        """Hidden states [B, L, H] of a layer, or logits [B, labels] for `SCORES`. A text's second part, of which
        `seconds` tells the beginning (0 is none), is told apart from its first. Valid until the stream's next call; one
        thread at a time may call for a stream."""
        shape = (len(texts), max(map(len, texts)))
        ids, attended, types = (np.zeros(shape, np.int64) for _ in range(3))
        for row, (text, second) in enumerate(zip(texts, seconds, strict=True)):
            ids[row, : len(text)] = text
            attended[row, : len(text)] = 1
            if second:
                types[row, second : len(text)] = 1
        request = self._request(stream, layer)
        values = {"input_ids": ids, "attention_mask": attended, "token_type_ids": types}
        for port in request.model_inputs:
            request.set_tensor(port, ov.Tensor(values[port.any_name]))
        request.infer()
        found: NDArray[np.float32] = request.get_output_tensor(0).data
        return found

    def _request(self, stream: int, layer: int) -> Any:
        """The stream's infer request for that output; compiled at its first use."""
        with self._compiling:
            if layer not in self._compiled:
                compiled = self._compile(layer)
                self._compiled[layer] = [compiled.create_infer_request() for _ in range(self.streams)]
                if len(self._compiled) > _MOST_COMPILED:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(layer)
            return self._compiled[layer][stream]

    def _compile(self, layer: int) -> Any:
        model = self._core.read_model(self._path)
        name = _LOGITS if layer == SCORES else _HIDDEN if layer == LAST else f"hidden.{layer}"
        wanted = ov.Model([ops.result(_as_float32(_output(model, name)))], model.get_parameters(), "encoder")
        if self._int8:
            quantise(wanted)
        wanted.validate_nodes_and_infer_types()
        try:
            return self._core.compile_model(wanted, "CPU", self._properties)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelRefused(f"OpenVINO cannot run {self._path.parent.name}: {reason}") from error


def _read_encoding(path: Path) -> Encoding:
    try:
        return decode(path.read_bytes(), type=Encoding)
    except (OSError, DecodeError) as error:
        raise ModelRefused(f"{path} cannot be read: the encoder engine needs an encoder ({error})") from error


def _output(model: ov.Model, name: str) -> Any:
    """The place in the graph that carries a tensor's name."""
    for node in model.get_ordered_ops():
        for output in node.outputs():
            if name in output.get_names() and node.get_type_name() != "Result":
                return output
    raise ModelRefused(f"{model.get_friendly_name()} has no tensor {name}")


def _as_float32(output: Any) -> Any:
    return output if output.get_element_type() == ov.Type.f32 else ops.convert(output, "f32")


def _properties(options: EncoderOptions, threads: int, streams: int) -> dict[str, Any]:
    properties: dict[str, Any] = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
    if options.weights == "int8":
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = ACTIVATION_GROUP
    if options.precision != "auto":
        properties["INFERENCE_PRECISION_HINT"] = options.precision
    return properties
