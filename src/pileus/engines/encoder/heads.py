"""From hidden states or logits to what was asked for, text by text."""

import numpy as np
from numpy.typing import NDArray

from pileus.core.records import EncodeOutput, Pooling

_SHORTEST = np.float32(1e-12)  # length of a vector that is still divided by; as Sentence Transformers has it

Floats = NDArray[np.float32]


def vector(hidden: Floats, length: int, wanted: EncodeOutput) -> Floats:
    """Of one text's hidden states [L, H], of which `length` are its own: [H], or [length, H] for each token."""
    own = hidden[:length]
    found: Floats
    if wanted.pooling is Pooling.MEAN:
        found = own.mean(axis=0, dtype=np.float32)
    elif wanted.pooling is Pooling.CLS:
        found = own[0]
    elif wanted.pooling is Pooling.MAX:
        found = own.max(axis=0)
    else:
        found = own
    if wanted.dimensions:
        found = found[..., : wanted.dimensions]
    if wanted.normalise:
        found = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), _SHORTEST)
    return np.ascontiguousarray(found, np.float32)


def scores(logits: Floats, activation: str) -> Floats:
    """Probabilities or scores of one text's logits [labels]."""
    if activation == "softmax":
        raised: Floats = np.exp(logits - logits.max())
        probabilities: Floats = raised / raised.sum()
        return probabilities
    if activation == "sigmoid":
        found: Floats = (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # of any number, without an overflow
        return found
    return np.ascontiguousarray(logits)
