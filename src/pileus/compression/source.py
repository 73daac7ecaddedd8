"""The weights that a compression begins from: a Hugging Face folder in safetensors, and the graph made of it.

It is the model's master where one was kept. A model that came as a GGUF is de-quantised: its weights as float16.
"""

import shutil
from pathlib import Path
from typing import Final

from pileus.jobs.handler import JobFailed
from pileus.models.artefact import CHAT_TEMPLATE, GENERATION, TOKENIZER, Artefact
from pileus.models.convert.dispatch import convert
from pileus.models.progress import Progress
from pileus.models.store import ModelStore

_TEXT_FILES: Final = (TOKENIZER, CHAT_TEMPLATE, GENERATION)  # what compression leaves as it is
_GGUF: Final = "model.gguf"


def parent_of(store: ModelStore, model: str) -> Artefact:
    """Raises `JobFailed` where it is not installed."""
    artefact = store.artefact(model)
    if artefact is None or artefact.generation is None:
        raise JobFailed(f"{model} is no installed model that generates text: pull or import it first", code="no_model")
    return artefact


def weights_of(artefact: Artefact, given: str, store: ModelStore, folder: Path) -> Path:
    """A Hugging Face folder with the model's weights; made in `folder` if need be, whole or absent."""
    if given:
        if not (Path(given) / "config.json").is_file():
            raise JobFailed(f"{given} is no Hugging Face folder: it has no config.json", code="no_weights")
        return Path(given)
    if (master := store.master(artefact.name)) is not None:
        return master
    source = artefact.manifest.source
    blob = store.blob(source.removeprefix("sha256:")) if source.startswith("sha256:") else None
    if blob is None:
        raise JobFailed(
            f"the weights that {artefact.name} was made of were not kept: say with `weights` where they are",
            code="no_weights",
        )
    return _dequantised(blob, artefact.path, folder / "weights")


def graph_of(weights: Path, artefact: Path, folder: Path, progress: Progress) -> Path:
    """The graph of a Hugging Face folder as an artefact's files, with the text files of `artefact`: made in `folder`,
    whole or absent."""
    if folder.is_dir():
        return folder
    draft = _draft(folder)
    convert(weights, draft, progress)
    copy_text_files(artefact, draft)
    draft.rename(folder)
    return folder


def copy_text_files(artefact: Path, folder: Path) -> None:
    """Tokenizer, chat template and when to stop: those of the parent."""
    for name in _TEXT_FILES:
        if (artefact / name).is_file():
            shutil.copyfile(artefact / name, folder / name)


def _dequantised(gguf: Path, artefact: Path, folder: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    if folder.is_dir():
        return folder
    draft = _draft(folder)
    (draft / _GGUF).symlink_to(gguf)
    model = AutoModelForCausalLM.from_pretrained(draft, gguf_file=_GGUF, dtype=torch.float32)
    model.hf_quantizer = None  # else it takes itself for a quantised one, which cannot be saved
    del model.config.quantization_config
    model.to(torch.float16).save_pretrained(draft)
    (draft / _GGUF).unlink()
    copy_text_files(artefact, draft)
    draft.rename(folder)
    return folder


def _draft(folder: Path) -> Path:
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft
