"""Write a graph as openvino_model.xml and .bin, and look over one that somebody else wrote."""

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import openvino as ov

from pileus.core.errors import ModelRefused, OperatorError
from pileus.models.artefact import MODEL_BIN, MODEL_XML
from pileus.models.progress import Progress

_POLL_S = 0.2
_INPUTS = {"input_ids", "attention_mask", "position_ids", "beam_idx"}


def write(model: ov.Model, folder: Path, expected_bytes: int, progress: Progress) -> None:
    """Serialise in a thread, and tell how far the file has grown."""
    # Lets 16-bit activations of a GPU not overflow; the same value as OpenVINO's own exporters write.
    model.set_rt_info("8.0", ["runtime_options", "ACTIVATIONS_SCALE_FACTOR"])
    weights = folder / MODEL_BIN
    progress("writing", 0, expected_bytes)
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(ov.serialize, model, folder / MODEL_XML, weights)
        while not writing.done():
            written = weights.stat().st_size if weights.exists() else 0
            progress("writing", min(written, expected_bytes), expected_bytes)
            wait([writing], _POLL_S)
        try:
            writing.result()
        except RuntimeError as error:  # OpenVINO does not tell why
            raise OperatorError(f"cannot write {weights}: is the disk full? Free some space and try again") from error


def check(xml: Path) -> None:
    """Raises `ModelRefused` where it is not a language model with its cache as state."""
    try:
        model = ov.Core().read_model(xml)
    except RuntimeError as error:
        raise ModelRefused(f"{xml.name} cannot be read: {str(error).strip().splitlines()[-1]}") from error
    inputs = {name for port in model.inputs for name in port.get_names()}
    if missing := sorted(_INPUTS - inputs):
        raise ModelRefused(f"{xml.name} has no input {', '.join(missing)}: export it with a stateful cache")
    if len(model.outputs) != 1 or not model.get_sinks():
        raise ModelRefused(f"{xml.name} should have the logits as its only output, and its cache as state")
