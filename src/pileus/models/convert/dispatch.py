"""Tell what a source is, and make an artefact's files of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import openvino as ov

from pileus.core.errors import ModelRefused
from pileus.models.artefact import (
    CHAT_TEMPLATE,
    ENCODING,
    GENERATION,
    MODEL_BIN,
    MODEL_XML,
    TOKENIZER,
    Generation,
    write_record,
)
from pileus.models.convert import (
    encoder,
    generation,
    gguf_model,
    huggingface,
    llama_graph,
    openvino_ir,
    tokenizer_json,
)
from pileus.models.convert.gguf_file import read_gguf
from pileus.models.convert.huggingface import read_json
from pileus.models.progress import Progress

CONVERTER = f"pileus 1, openvino {ov.get_version().partition('-')[0]}"


def convert(source: Path, folder: Path, progress: Progress) -> None:
    """Fill `folder` with everything of an artefact but its manifest. Raises `ModelRefused` with the reason."""
    if not source.is_dir():
        if huggingface.is_pickle(source):
            raise ModelRefused("a pickle can run code when it is read: save the model as safetensors")
        _convert_gguf(source, folder, progress)
    elif (source / MODEL_XML).exists():
        _adopt_openvino(source, folder, progress)
    elif encoder.is_encoder(source, read_json(source / "config.json")):
        _convert_encoder(source, folder, progress)
    else:
        _convert_huggingface(source, folder, progress)


def _convert_gguf(source: Path, folder: Path, progress: Progress) -> None:
    file = read_gguf(source)
    shape = gguf_model.read_shape(file)
    tokenizer = tokenizer_json.build(file.metadata)
    model = llama_graph.build(shape, gguf_model.GgufWeights(file, shape), progress)
    openvino_ir.write(model, folder, source.stat().st_size, progress)
    template = file.metadata.get("tokenizer.chat_template")
    _write_text_files(folder, tokenizer, template, generation.from_gguf(file.metadata))


def _convert_huggingface(source: Path, folder: Path, progress: Progress) -> None:
    config, tokenizer = _read_configuration(source)
    shape = huggingface.read_shape(config)
    weights = huggingface.FolderWeights(source)
    weights.settle_head(tied=bool(config.get("tie_word_embeddings", False)))
    model = llama_graph.build(shape, weights, progress)
    openvino_ir.write(model, folder, weights.size_bytes, progress)
    _write_text_files(
        folder, tokenizer, huggingface.read_template(source), huggingface.read_generation(source, config, tokenizer)
    )


def _convert_encoder(source: Path, folder: Path, progress: Progress) -> None:
    config, tokenizer = _read_configuration(source)
    convert = encoder.convert_onnx if (source / encoder.ONNX).exists() else encoder.convert_folder
    encoding = convert(source, config, folder, progress)
    _write_tokenizer(folder, tokenizer)
    write_record(folder / ENCODING, encoding)


def _adopt_openvino(source: Path, folder: Path, progress: Progress) -> None:
    config, tokenizer = _read_configuration(source)
    openvino_ir.check(source / MODEL_XML)
    for name in (MODEL_XML, MODEL_BIN):
        progress("copying", 0, 0)
        shutil.copyfile(source / name, folder / name)
    _write_text_files(
        folder, tokenizer, huggingface.read_template(source), huggingface.read_generation(source, config, tokenizer)
    )


def _read_configuration(source: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    needed = [TOKENIZER] if (source / ENCODING).exists() else ["config.json", TOKENIZER]
    for name in needed:
        if not (source / name).exists():
            raise ModelRefused(f"{name} is missing in the folder")
    huggingface.refuse_code(source)
    tokenizer = read_json(source / TOKENIZER)
    tokenizer |= {"truncation": None, "padding": None}  # a prompt is never cut or filled up
    return read_json(source / "config.json"), tokenizer


def _write_text_files(folder: Path, tokenizer: dict[str, Any], template: str | None, generation: Generation) -> None:
    _write_tokenizer(folder, tokenizer)
    write_record(folder / GENERATION, generation)
    if template:
        (folder / CHAT_TEMPLATE).write_text(template)


def _write_tokenizer(folder: Path, tokenizer: dict[str, Any]) -> None:
    (folder / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")))
