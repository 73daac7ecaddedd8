"""Tokenizers: one that exists, or one trained on the data; byte-level BPE, so that no text is unknown to it."""

from collections.abc import Container, Iterable, Iterator, Sequence
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
# What `pileus data prepare` calls them.
_PACKED: Final = {role: f"<|{token[1:-1].lower()}|>" for role, token in _ENCODER.items()}
_PAIR: Final = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
SPECIAL: Final = {"gpt": _DECODER, "seq2seq": _PAIR} | dict.fromkeys(("bert", "classifier", "encoder"), _ENCODER)
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
    _give_roles(tokenizer, recipe, manifest.special_tokens)
    return tokenizer


def open_given(path: Path, recipe: str) -> PreTrainedTokenizerFast:
    """A folder says what its special tokens are for; of a tokenizer.json by itself, those are it that have the names
    which the recipe knows."""
    tokenizer = open_tokenizer(path)
    if path.is_file():
        _give_roles(tokenizer, recipe, tokenizer.get_vocab())
    return tokenizer


def demand_same(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Raises `JobFailed` where a dataset's tokens are not those of this tokenizer."""
    if tokenizer.get_vocab() != open_tokenizer(folder / "tokenizer.json").get_vocab():
        raise JobFailed(f"{folder} was tokenised with another tokenizer: give its texts instead", code="bad_data")


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
        _surround(tokenizer, special["cls_token"], special["sep_token"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


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


def _give_roles(tokenizer: PreTrainedTokenizerFast, recipe: str, known: Container[str]) -> None:
    for role, token in SPECIAL[recipe].items():
        named = (name for name in (token, _PACKED.get(role)) if name in known)
        if (found := next(named, None)) is not None:
            setattr(tokenizer, role, found)
    if SPECIAL[recipe] is _ENCODER and tokenizer.cls_token and tokenizer.sep_token:
        _surround(tokenizer.backend_tokenizer, tokenizer.cls_token, tokenizer.sep_token)


def _surround(tokenizer: Tokenizer, first: str, last: str) -> None:
    """With special tokens, texts are to stand between these two."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
