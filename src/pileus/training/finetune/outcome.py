"""What a run leaves in the models folder: an adapter beside its base, or a model of its own. PyTorch: for the job's
process."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from pileus.models.adapter import belonging_to
from pileus.models.artefact import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, Artefact, digest_file
from pileus.models.conversion import convert
from pileus.models.low_rank import install_adapter
from pileus.models.progress import silent
from pileus.models.registry import Made, Parent
from pileus.models.store import ModelStore
from pileus.training.finetune.records import FineTuneSpec

_DEFAULT: Final = "default"  # PEFT's name for the only adapter
_KEPT_OF_MASTER: Final = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")


def keep_adapter(model: Any, name: str, base: Artefact, store: ModelStore, job_id: str) -> Artefact:
    """Install what was learnt beside the base, as PEFT writes it. One of that name, from an earlier try, goes."""
    with store.hold(name, silent), store.scratch(name) as scratch:
        folder = scratch / "adapter"
        folder.mkdir()
        tensors = {each: value.contiguous().cpu() for each, value in get_peft_model_state_dict(model).items()}
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config = model.peft_config[_DEFAULT].to_dict()
        config |= {"base_model_name_or_path": base.name, "inference_mode": True}
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, default=_plain, indent=2, sort_keys=True))
        belonging = belonging_to(base)
        return install_adapter(folder, name, belonging, store, source=f"job:{job_id}", licence=base.licence)


def keep_model(model: Any, name: str, base: Artefact, master: Path, store: ModelStore, job_id: str) -> Artefact:
    """Install a model of its own, with the master that it can be trained from further."""
    with store.hold(name, silent), store.scratch(name) as scratch:
        folder = scratch / "learnt"
        model.save_pretrained(folder, max_shard_size="1000GB")
        for each in _KEPT_OF_MASTER:
            if (master / each).exists():
                shutil.copyfile(master / each, folder / each)
        made = convert(folder, name, store, silent, licence=base.licence, source_id=f"job:{job_id}")
        store.keep_master(folder, name)
        return made


def made_of(
    artefact: Artefact, spec: FineTuneSpec, figures: dict[str, float], licence: str, relation: str = "fine-tuned from"
) -> Made:
    """For the registry."""
    return Made(
        model=spec.output,
        artefact=artefact.name,
        kind=artefact.manifest.kind,
        sha256=digest_file(artefact.path / MANIFEST).sha256,
        size_bytes=artefact.size_bytes,
        licence=licence,
        parents=(Parent("artefact", spec.base, relation), Parent("dataset", spec.training.file_id, "trained on")),
        figures=figures,
    )


def _plain(value: Any) -> Any:
    """PEFT's sets and enumerations as JSON has them."""
    return sorted(value) if isinstance(value, set | frozenset) else str(getattr(value, "value", value))
