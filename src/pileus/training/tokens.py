"""Tokenizers: one that exists, or one trained on the data; byte-level BPE, so that no text is unknown to it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pileus.data.shards import read_manifest
from pileus.jobs.handler import JobFailed

_DECODER: Final = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
_TURNS: Final = ["<|im_start|>", "<|im_end|>"]  # for those who fine-tune it to chat
_ENCODER: Final = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_PAIR: Final = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
_ENCODERS: Final = ("bert", "classifier", "encoder")
SPECIAL: Final = {"gpt": _DECODER, "seq2seq": _PAIR} | dict.fromkeys(_ENCODERS, _ENCODER)
_AT_ONCE: Final = 1024


def open_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Of a tokenizer.json, or of a folder that has one. Never code that comes with it."""
    if path.is_file():
        return PreTrainedTokenizerFast(tokenizer_file=str(path))
    if not (path / "tokenizer.json").is_file():
        raise JobFailed(f"{path} has no tokenizer.json", code="bad_data")
    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def open_packed(folder: Path, recipe: str) -> PreTrainedTokenizerFast:
    """Of a dataset of packed shards: its end of text, and what else of the recipe's special tokens it has."""
    tokenizer, manifest = open_tokenizer(folder / "tokenizer.json"), read_manifest(folder)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(manifest.end_of_text)
    for role, usual in SPECIAL[recipe].items():
        names = (usual, f"<|{role.removesuffix('_token')}|>")  # the second is a dataset's own way
        if token := next((name for name in names if name in manifest.special_tokens), None):
            setattr(tokenizer, role, token)
    if recipe in _ENCODERS and tokenizer.cls_token and tokenizer.sep_token:
        _put_around(tokenizer.backend_tokenizer, tokenizer.cls_token, tokenizer.sep_token)
    return tokenizer


def train_tokenizer(texts: Iterable[str], size: int, recipe: str) -> PreTrainedTokenizerFast:
    """With the special tokens that the recipe needs; they have the lowest ids."""
    special = SPECIAL[recipe]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*special.values(), *(_TURNS if recipe == "gpt" else ())],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if special is _ENCODER:
        _put_around(tokenizer, special["cls_token"], special["sep_token"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _put_around(tokenizer: Tokenizer, first: str, last: str) -> None:
    """Have each text begin and end with these tokens."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", last, "$B", last],
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )


def encoded(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], *, most: int = 0, special: bool = True
) -> Iterator[list[int]]:
    """The ids of each text, cut to `most` where that is not 0; with what the tokenizer puts around it."""
    waiting = iter(texts)
    while some := list(islice(waiting, _AT_ONCE)):
        cut = {"truncation": True, "max_length": most} if most else {}
        yield from tokenizer(some, add_special_tokens=special, verbose=False, **cut)["input_ids"]


def demand_special(tokenizer: PreTrainedTokenizerFast, recipe: str) -> None:
    """Raises `JobFailed` where it lacks one that the recipe cannot do without."""
    needed: Sequence[str] = {"gpt": ("eos_token",), "bert": ("pad_token", "cls_token", "sep_token", "mask_token")}.get(
        recipe, ("pad_token", "eos_token") if recipe == "seq2seq" else ("pad_token",)
    )
    if missing := next((name for name in needed if getattr(tokenizer, name) is None), None):
        raise JobFailed(f"the tokenizer has no {missing}, which `{recipe}` needs", code="bad_data")
