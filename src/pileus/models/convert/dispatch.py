"""Tell what a source is, and convert it."""

import json
from pathlib import Path

from pileus.core.errors import ModelRefused
from pileus.models.artefact import CHAT_TEMPLATE, GENERATION, TOKENIZER, write_record
from pileus.models.convert import generation, openvino_ir, tokenizer_json
from pileus.models.convert.gguf_file import read_gguf
from pileus.models.progress import Progress


def convert(source: Path, folder: Path, progress: Progress) -> str:
    """Fill `folder` with everything of an artefact but its manifest. Returns what converted it."""
    if source.is_dir():
        raise ModelRefused("folders are not supported yet")
    return _convert_gguf(source, folder, progress)


def _convert_gguf(source: Path, folder: Path, progress: Progress) -> str:
    metadata = read_gguf(source).metadata
    tokenizer = tokenizer_json.build(metadata)
    (folder / TOKENIZER).write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")))
    if template := metadata.get("tokenizer.chat_template"):
        (folder / CHAT_TEMPLATE).write_text(template)
    write_record(folder / GENERATION, generation.from_gguf(metadata))
    return openvino_ir.from_gguf(source, folder, progress)
