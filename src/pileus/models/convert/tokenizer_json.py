"""Build tokenizer.json from a GGUF's metadata, equal to the one that Hugging Face publishes for the model; and back.

A GGUF carries the vocabulary, the merges and the kind of each token, and names the way text is split into words
(`tokenizer.ggml.pre`); the patterns themselves are Hugging Face's, below.
"""

from typing import Any

from pileus.core.errors import ModelRefused

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # tokenizer.ggml.token_type

_LETTER_RUNS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHER_RUNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def build(metadata: dict[str, Any]) -> dict[str, Any]:
    """The content of tokenizer.json. Raises `ModelRefused` for a vocabulary that is not byte-level BPE."""
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ModelRefused(f"its tokenizer is of kind {kind!r}; byte-level BPE ('gpt2') is supported")
    pre = metadata.get("tokenizer.ggml.pre", "gpt2")
    if pre not in _SPLITTERS:
        raise ModelRefused(f"its text is split the way of {pre!r}; supported are {', '.join(sorted(_SPLITTERS))}")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    kinds: list[int] = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    added = [index for index, kind in enumerate(kinds) if kind in (_CONTROL, _USER_DEFINED)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(index, tokens[index], special=kinds[index] == _CONTROL) for index in added],
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _SPLITTERS[pre]},
        "post_processor": _post_processor(metadata, tokens),
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre == "llama-bpe",
            "vocab": {token: index for index, token in enumerate(tokens) if kinds[index] != _UNUSED},
            "merges": [merge.split(" ", 1) for merge in metadata["tokenizer.ggml.merges"]],
        },
    }


def take_apart(tokenizer: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """The metadata of a GGUF that `build` makes such a tokenizer.json of; ids that no token has are unused ones.
    Raises `ModelRefused` where it is no byte-level BPE, or splits text in a way that no GGUF has a name for."""
    model = tokenizer["model"]
    if model["type"] != "BPE":
        raise ModelRefused(f"its tokenizer is of kind {model['type']!r}; byte-level BPE is supported")
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    kinds = [_UNUSED] * vocab_size
    for token, index in model["vocab"].items():
        tokens[index], kinds[index] = token, _NORMAL
    for entry in tokenizer["added_tokens"]:
        tokens[entry["id"]] = entry["content"]
        kinds[entry["id"]] = _CONTROL if entry["special"] else _USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _name_of_splitter(tokenizer["pre_tokenizer"]),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": (tokenizer["post_processor"] or {}).get("type") == "TemplateProcessing",
    }


def _name_of_splitter(pre_tokenizer: dict[str, Any] | None) -> str:
    given = pre_tokenizer or {}
    steps = given["pretokenizers"] if given.get("type") == "Sequence" else [given]
    for name, known in _SPLITTERS.items():
        if [_essence(step) for step in steps] == [_essence(step) for step in known]:
            return name
    raise ModelRefused("its text is split in a way that no GGUF has a name for")


def _essence(step: dict[str, Any]) -> dict[str, Any]:
    """What decides how text is split; `trim_offsets` does not."""
    return {key: value for key, value in step.items() if key != "trim_offsets"}


def _added(index: int, content: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": index,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _post_processor(metadata: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """Plain prompts begin with the beginning-of-text token where the model was trained so."""
    if not metadata.get("tokenizer.ggml.add_bos_token", False):
        return _byte_level(use_regex=True)
    index = metadata["tokenizer.ggml.bos_token_id"]
    bos = tokens[index]
    begin, first, second = (
        {"SpecialToken": {"id": bos, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
    )
    return {
        "type": "TemplateProcessing",
        "single": [begin, first],
        "pair": [begin, first, begin, second],
        "special_tokens": {bos: {"id": bos, "ids": [index], "tokens": [bos]}},
    }


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(pattern: str) -> list[dict[str, Any]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, _byte_level(use_regex=False)]


_SPLITTERS: dict[str, list[dict[str, Any]]] = {
    "gpt2": [_byte_level(use_regex=True)],
    "gpt-2": [_byte_level(use_regex=True)],
    "smollm": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
    "qwen2": _split(rf"{_LETTER_RUNS}|\p{{N}}|{_OTHER_RUNS}"),
    "llama-bpe": _split(rf"{_LETTER_RUNS}|\p{{N}}{{1,3}}|{_OTHER_RUNS}"),
}
