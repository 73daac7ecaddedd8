"""The weights that a compression begins from: a Hugging Face folder in safetensors, and the graph made of it.

It is the model's master: as it was kept, or made of the GGUF that the model came as, with its weights as float16.
"""

import shutil
from pathlib import Path
from typing import Final

from msgspec import Struct

from pileus.core.errors import OperatorError
from pileus.jobs.handler import JobFailed
from pileus.models.adapter import belonging_to, read_belonging
from pileus.models.artefact import CHAT_TEMPLATE, GENERATION, TOKENIZER, Artefact, Kind
from pileus.models.catalogue import Catalogue
from pileus.models.convert.dispatch import convert
from pileus.models.progress import Progress
from pileus.models.store import ModelStore

_TEXT_FILES: Final = (TOKENIZER, CHAT_TEMPLATE, GENERATION)  # what compression leaves as it is


class Origin(Struct, frozen=True):
    """What is compressed: a generator, or an adapter of it together with it."""

    generator: Artefact
    adapter: Artefact | None = None


def origin_of(store: ModelStore, model: str) -> Origin:
    """Raises `JobFailed` where it is not installed, or it is an adapter whose base is not."""
    artefact = store.artefact(model)
    if artefact is not None and artefact.manifest.kind == Kind.ADAPTER:
        belonging = read_belonging(artefact.path)
        base = store.artefact(belonging.base)
        if base is None or belonging_to(base) != belonging:
            raise JobFailed(
                f"{model} is an adapter of {belonging.base}, which is not installed as it was", code="no_base"
            )
        return Origin(base, artefact)
    if artefact is None or artefact.generation is None:
        raise JobFailed(f"{model} is no installed model that generates text: pull or import it first", code="no_model")
    return Origin(artefact)


def weights_of(catalogue: Catalogue, model: str, given: str, progress: Progress) -> Path:
    """A Hugging Face folder with the model's weights. Raises `JobFailed` where there is none."""
    if given:
        if not (Path(given) / "config.json").is_file():
            raise JobFailed(f"{given} is no Hugging Face folder: it has no config.json", code="no_weights")
        return Path(given)
    try:
        return catalogue.ensure_master(model, progress)
    except OperatorError as error:
        raise JobFailed(f"{error.message}, or say with `weights` where they are", code="no_weights") from None


def graph_of(weights: Path, artefact: Path, folder: Path, progress: Progress) -> Path:
    """The graph of a Hugging Face folder as an artefact's files, with the text files of `artefact`: made in `folder`,
    whole or absent."""
    if folder.is_dir():
        return folder
    draft = draft_of(folder)
    convert(weights, draft, progress)
    copy_text_files(artefact, draft)
    draft.rename(folder)
    return folder


def copy_text_files(artefact: Path, folder: Path) -> None:
    """Tokenizer, chat template and when to stop: those of the parent."""
    for name in _TEXT_FILES:
        if (artefact / name).is_file():
            shutil.copyfile(artefact / name, folder / name)


def draft_of(folder: Path) -> Path:
    """An empty folder beside it, to be renamed to it once it is whole."""
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft
