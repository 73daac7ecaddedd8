"""Whether a candidate's tokenizer is its parent's, or at least fits the candidate's own weights.

A swapped tokenizer makes a sound model speak nonsense: each id means another piece of text. It shows in three ways: it
is not the parent's; its ids do not fit the embedding; text does not come back as it was. A new tokenizer that is
declared is held to the last two, and to perplexity.
"""

import json
from pathlib import Path
from typing import Any, Final

import openvino as ov

from pileus.core.errors import ModelRefused
from pileus.evaluation.foreseeing import Loader
from pileus.evaluation.records import Finding
from pileus.models.artefact import MODEL_XML, TOKENIZER, Kind, load_artefact

_TEXTS: Final = (
    "The quick brown fox jumps over the lazy dog; 3.14159 is not 22/7.",
    "云在天上，风在路上。今天气温二十三度。",
    'def add(a: int, b: int) -> int:\n    return a + b  # "sum"\n',
    "naïve café — Ünïcödé 🙂 Ελληνικά",
)
_MOST_NAMED: Final = 3


def tokenizer_finding(load: Loader, candidate: Path, parent: Path, *, declared_new: bool) -> Finding:
    """The parent's tokenizer, or a declared other one; and one that fits the candidate's weights."""
    mine, other = _definition(candidate), _definition(parent)
    tokens = _tokens(mine)
    misfit = _misfit(load, candidate, tokens)
    if misfit:
        return _finding(misfit, passed=False, tokens=len(tokens))
    if mine == other:
        return _finding("it is the parent's, and fits the embedding", passed=True, tokens=len(tokens))
    difference = _difference(tokens, _tokens(other))
    if not declared_new:
        says = f"it is not the parent's, and was not declared to be new: {difference}"
        return _finding(says, passed=False, tokens=len(tokens))
    return _finding(f"declared to be new: {difference}", passed=True, tokens=len(tokens))


def _misfit(load: Loader, folder: Path, tokens: dict[int, str]) -> str:
    """Why the tokenizer cannot belong to these weights; empty where it can."""
    rows = embedding_rows(folder)
    if tokens and rows and max(tokens) >= rows:
        return f"it has ids up to {max(tokens)}, and the embedding has {rows} rows"
    if load_artefact(folder).manifest.kind is not Kind.GENERATOR:
        return ""
    try:
        tokenizer = load(folder)
    except ModelRefused as error:
        return error.message
    for text in _TEXTS:
        back = tokenizer.decode(tokenizer.encode(text))
        if back != text and "�" not in back:
            return f"text does not come back as it was: {text[:40]!r} became {back[:40]!r}"
    return ""


def embedding_rows(folder: Path) -> int:
    """Rows of the table that turns ids into vectors; 0 where it is not found."""
    model = ov.Core().read_model(folder / MODEL_XML)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Gather" and _comes_from_ids(node.input_value(1).get_node()):
            shape = node.input_value(0).get_partial_shape()
            if len(shape) == 2 and shape[0].is_static:
                return int(shape[0].get_length())
    return 0


def _comes_from_ids(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Reshape", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Parameter" and "input_ids" in node.output(0).get_names()


def _definition(folder: Path) -> dict[str, Any]:
    definition: dict[str, Any] = json.loads((folder / TOKENIZER).read_bytes())
    return definition


def _tokens(definition: dict[str, Any]) -> dict[int, str]:
    """By id. A Unigram's vocabulary is a list of (token, score)."""
    vocabulary = definition["model"].get("vocab", {})
    if isinstance(vocabulary, list):
        found = {index: str(entry[0]) for index, entry in enumerate(vocabulary)}
    else:
        found = {index: token for token, index in vocabulary.items()}
    return found | {added["id"]: added["content"] for added in definition.get("added_tokens", ())}


def _difference(mine: dict[int, str], other: dict[int, str]) -> str:
    changed = [index for index in sorted(mine.keys() | other.keys()) if mine.get(index) != other.get(index)]
    if not changed:
        return "its ids mean the same, but it cuts text in another way"
    named = ", ".join(f"{index} is {mine.get(index)!r}, was {other.get(index)!r}" for index in changed[:_MOST_NAMED])
    return f"{len(changed)} of {len(mine.keys() | other.keys())} ids mean something else ({named})"


def _finding(says: str, *, passed: bool, tokens: int) -> Finding:
    return Finding(check="tokenizer", passed=passed, says=says, figures={"tokens": float(tokens)})
