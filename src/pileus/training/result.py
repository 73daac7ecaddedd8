"""What a run made becomes a model: a Hugging Face folder that is kept, and an artefact where an engine serves it."""

import hashlib
import math
from pathlib import Path
from typing import Final

import msgspec
import torch

from pileus.config.settings import Settings
from pileus.data.shards import read_manifest
from pileus.jobs.handler import JobFailed
from pileus.models.artefact import MANIFEST, Kind, digest_file
from pileus.models.catalogue import Catalogue
from pileus.models.progress import Progress
from pileus.models.registry import Made, Parent
from pileus.models.store import MODELS_FOLDER, ModelStore
from pileus.training.loop import Outcome
from pileus.training.prepared import packed, tokenizer_of
from pileus.training.recipes.recipe import OpenRecipe
from pileus.training.spec import Train

_CONFIG: Final = "config.json"
_KINDS: Final = {"gpt": Kind.GENERATOR.value, "seq2seq": "seq2seq"}  # the others are encoders
# Recipes whose folders become an artefact that an engine serves; of the others, the master alone is kept.
_SERVED: Final = ("gpt", "bert", "classifier", "encoder")


def base_folder(spec: Train, settings: Settings) -> Path | None:
    """The Hugging Face folder to begin from. Raises `JobFailed` where there is none of that name, or the recipe cannot
    begin from it."""
    if not spec.base:
        return None
    folder: Path | None = Path(spec.base)
    if not (Path(spec.base) / _CONFIG).is_file():
        is_name = Path(spec.base).name == spec.base
        folder = ModelStore(settings.data_dir / MODELS_FOLDER).master(spec.base) if is_name else None
    if folder is None:
        raise JobFailed(f"`base`: there is no model kept as {spec.base!r}, and no folder with a config.json there")
    kind = msgspec.json.decode((folder / _CONFIG).read_bytes()).get("model_type", "")
    if spec.recipe == "seq2seq" or (kind == "bert") == (spec.recipe != "gpt"):
        return folder
    wanted = "a decoder" if spec.recipe == "gpt" else "a BERT"
    raise JobFailed(f"`base`: {spec.base} is a model of the type {kind!r}, and `{spec.recipe}` begins from {wanted}")


def keep(
    recipe: OpenRecipe,
    spec: Train,
    data: Path,
    settings: Settings,
    job_id: str,
    figures: dict[str, float],
    progress: Progress,
) -> Made:
    """Install what was trained under a name of its own, and say what it is. Done again after a kill, it is the same."""
    root = settings.data_dir / MODELS_FOLDER
    name = f"{spec.model}-{job_id.removeprefix('job_')[:12].lower()}"
    with torch.no_grad():
        figures = figures | recipe.scores(recipe.model)
    progress("keeping the model", 0, 0)
    master = _keep_master(ModelStore(root), recipe, data, name, progress)
    sha256, size_bytes = _digest(master)
    if spec.recipe in _SERVED:
        catalogue = Catalogue(root, settings.models)
        artefact = catalogue.installed(name) or catalogue.import_folder(master, name, progress)
        sha256, size_bytes = digest_file(artefact.path / MANIFEST).sha256, artefact.size_bytes
    return Made(
        model=spec.model,
        artefact=name,
        kind=_KINDS.get(spec.recipe, Kind.ENCODER.value),
        sha256=sha256,
        size_bytes=size_bytes,
        parents=_parents(spec),
        figures=figures,
        notes=f"recipe {spec.recipe}, seed {spec.seed}",
    )


def figures_of(outcome: Outcome, spec: Train) -> dict[str, float]:
    """For the model's card."""
    figures = {"loss": outcome.loss, "steps": float(outcome.step), "tokens": float(outcome.tokens)}
    if outcome.validation_loss is not None:
        figures |= {"validation_loss": outcome.validation_loss, "best_step": float(outcome.best_step)}
        if spec.recipe == "gpt":
            figures["perplexity"] = math.exp(min(outcome.validation_loss, 100.0))
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _keep_master(store: ModelStore, recipe: OpenRecipe, data: Path, name: str, progress: Progress) -> Path:
    with store.hold(name, progress):
        if (kept := store.master(name)) is not None:
            return kept
        with store.scratch(name) as scratch:
            folder = scratch / "master"
            folder.mkdir()
            recipe.save(recipe.model, folder)
            tokenizer_of(data).save_pretrained(folder)
            return store.keep_master(folder, name)


def _parents(spec: Train) -> tuple[Parent, ...]:
    dataset = packed(spec.data_files) if spec.reads_text else None
    names = spec.data if dataset is None else (read_manifest(dataset).id,)
    data = tuple(Parent("dataset", name, "trained on") for name in names)
    return (Parent("artefact", spec.base, "trained from"), *data) if spec.base else data


def _digest(folder: Path) -> tuple[str, int]:
    """Of all its files by name, and their size."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    digests = [(file.relative_to(folder).as_posix(), digest_file(file)) for file in files]
    lines = "".join(f"{digest.sha256}  {name}\n" for name, digest in digests)
    return hashlib.sha256(lines.encode()).hexdigest(), sum(digest.size for _, digest in digests)
