"""Weights of a GGUF to OpenVINO IR."""

import tempfile
from pathlib import Path

from pileus.models.artefact import MODEL_BIN, MODEL_XML
from pileus.models.progress import Progress


def from_gguf(source: Path, folder: Path, progress: Progress) -> str:
    import openvino_genai

    with tempfile.TemporaryDirectory() as scratch:
        gguf = Path(scratch) / "model.gguf"
        gguf.symlink_to(source)
        openvino_genai.LLMPipeline(gguf, "CPU", enable_save_ov_model=True)
        for name in (MODEL_XML, MODEL_BIN):
            (Path(scratch) / name).rename(folder / name)
    return f"openvino-genai {openvino_genai.__version__}"
