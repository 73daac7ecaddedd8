"""The same weights in the forms that the peers read. Each is made once and kept in the cache folder.

The origin is the model's GGUF (4 bit). Dequantising it adds no error, so the bf16 folder and the Q8_0 file hold the
4-bit weights' own values, rounded to their precision; all engines then answer from the same model.
"""

import shutil
import subprocess
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

from benchmarks.peers import Environment, PeerUnavailable, Say

_TO_FOLDER = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
source, name, folder = sys.argv[1:]
AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(folder)
dense = GgufConfig(dequantize=True)
model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.bfloat16, quantization_config=dense)
model.save_pretrained(folder)
"""


def bf16_folder(source: Path, cache: Path, peer: Environment, say: Say) -> Path:
    """A Hugging Face folder in bfloat16, for vLLM, whose environment also holds the converter."""
    folder = cache / "weights" / f"{source.stem}-bf16"
    if folder.exists():
        return folder
    say(f"dequantising {source.name} to bf16")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    made = subprocess.run(
        [peer.python, "-c", _TO_FOLDER, source.parent, source.name, partial],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise PeerUnavailable(f"no bf16 folder could be made: {made.stderr.strip().splitlines()[-1]}")
    return partial.rename(folder)


def q8_file(source: Path, cache: Path, say: Say) -> Path:
    """The model as a Q8_0 GGUF, for llama.cpp: every matrix in 8 bit, vectors as they are."""
    target = cache / "weights" / f"{source.stem}-Q8_0.gguf"
    if target.exists():
        return target
    say(f"requantising {source.name} to Q8_0")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(partial, _architecture(reader))
    _copy_metadata(reader, writer)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim > 1:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.rename(target)


def _architecture(reader: gguf.GGUFReader) -> str:
    field = reader.get_field(gguf.Keys.General.ARCHITECTURE)
    assert field is not None
    return str(field.contents())


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    """Everything but what the writer itself sets, and the file type, which changes."""
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == gguf.Keys.General.ARCHITECTURE:
            continue
        value = field.contents()
        if field.name == gguf.Keys.General.FILE_TYPE:
            value = int(gguf.LlamaFileType.MOSTLY_Q8_0)
        sub_type = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=sub_type)
