"""An adapter and its base as one model, which a compression begins from as from any other. PyTorch: for the job's
process."""

from pathlib import Path

from pileus.compression.source import copy_text_files, draft_of


def merged(adapter: Path, base: Path, weights: Path, folder: Path) -> Path:
    """A Hugging Face folder in float16: the base's `weights` with the adapter's changes in them, and the text files of
    `base`. Made in `folder`, whole or absent. `adapter` and `base` are artefacts' folders."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if folder.is_dir():
        return folder
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32, local_files_only=True)
    whole = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    draft = draft_of(folder)
    whole.to(torch.float16).save_pretrained(draft)
    copy_text_files(base, draft)
    draft.rename(folder)
    return folder
