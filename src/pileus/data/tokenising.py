"""Tokenizers trained on clean texts (Hugging Face `tokenizers`), as one `tokenizer.json`."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from pileus.core.errors import OperatorError
from pileus.data.spec import BPE, TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_UNKNOWN: Final = "<|unk|>"
_USUAL_ENDS: Final = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
_LONGEST: Final = 4096  # characters that are given at once
# Four ideographs at most, so that a clause without blanks is no word of its own to learn.
_IDEOGRAPHS: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}]{1,4}"


def train(texts: Iterable[str], spec: TokenizerSpec) -> "Tokenizer":
    """BPE on bytes, which writes any text; or Unigram on characters (Kudo 2018), for which those that are not in the
    sample are unknown."""
    return _bpe(texts, spec) if spec.algorithm == BPE else _unigram(texts, spec)


def sampled(texts: Iterable[str], most_bytes: int) -> Iterator[str]:
    """The first texts of so many bytes together, in parts that a trainer takes."""
    left = most_bytes
    for text in texts:
        for begin in range(0, len(text), _LONGEST):
            part = text[begin : begin + _LONGEST]
            left -= len(part.encode(errors="replace"))
            if left < 0:
                return
            yield part


def end_of_text(tokenizer: "Tokenizer", name: str) -> int:
    """The token that closes a document. Raises `OperatorError` where the tokenizer has none."""
    for candidate in (name,) if name else _USUAL_ENDS:
        if (number := tokenizer.token_to_id(candidate)) is not None:
            return int(number)
    raise OperatorError(f"the tokenizer has no token {name or ' or '.join(_USUAL_ENDS)}: name it with `end_of_text`")


def special_tokens(tokenizer: "Tokenizer") -> dict[str, int]:
    added = tokenizer.get_added_tokens_decoder()
    return {token.content: number for number, token in added.items() if token.special}


def _bpe(texts: Iterable[str], spec: TokenizerSpec) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_IDEOGRAPHS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary,
        special_tokens=list(spec.special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _unigram(texts: Iterable[str], spec: TokenizerSpec) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    unknown = _UNKNOWN if _UNKNOWN in spec.special_tokens else spec.special_tokens[0]
    trainer = trainers.UnigramTrainer(
        vocab_size=spec.vocabulary, special_tokens=list(spec.special_tokens), unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
