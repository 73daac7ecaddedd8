"""How well a model foresees a text: the losses of its tokens, from the very graph that is served.

The text goes through the model in sliding windows: each is computed anew, its first tokens are context only, and its
last `stride` ones count. So every token but the first counts once, and (after the first window) has at least
`length - stride` tokens before it. A window passes in chunks, with keys and values as the graph's state: that bounds
memory, and lets the cache's precision show in the losses as it does when the model is served.
Reference: transformers' documentation, "Perplexity of fixed-length models".
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
from msgspec import Struct
from numpy.typing import NDArray

from pileus.core.errors import ModelRefused
from pileus.models.artefact import MODEL_XML
from pileus.models.progress import Progress, silent

Losses = NDArray[np.float64]  # nats, one for each token that counts, in the text's order

_CHUNK: Final = 256  # tokens: what the engine computes in a step, and what bounds the logits in memory
# As the native engine serves by default, and as exact as can be.
SERVED: Final[Mapping[str, Any]] = {"KV_CACHE_PRECISION": "u8", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32}
EXACT: Final[Mapping[str, Any]] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


class Windows(Struct, frozen=True):
    """How a text is cut. Raises `ValueError` for a stride that leaves gaps."""

    length: int = 512  # tokens that are in one window
    stride: int = 256  # of these, the last ones that count

    def __post_init__(self) -> None:
        if not 1 <= self.stride < self.length:
            raise ValueError("`stride` should be at least 1 and less than `length`")

    def within(self, context_length: int) -> "Windows":
        """These, or such as a model of that context can read; 0 is any."""
        if not context_length or self.length <= context_length:
            return self
        length = max(context_length, 2)
        return Windows(length, min(self.stride, length // 2))

    def over(self, tokens: int) -> Iterator[tuple[int, int, int]]:
        """(begin, first that counts, end) of each window over a text of so many tokens."""
        counted = 1  # the first token has nothing before it
        while counted < tokens:
            end = min(self.length if counted == 1 else counted + self.stride, tokens)
            yield max(end - self.length, 0), counted, end
            counted = end


class Foreseer:
    """One artefact's stateful graph, compiled for this machine's CPU. For one thread."""

    def __init__(self, folder: Path, properties: Mapping[str, Any] = SERVED) -> None:
        try:
            model = ov.Core().read_model(folder / MODEL_XML)
            compiled = ov.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **properties})
        except RuntimeError as error:
            raise ModelRefused(f"{folder.name} cannot be computed: {str(error).strip().splitlines()[-1]}") from error
        self._request = compiled.create_infer_request()

    def losses(
        self, ids: Sequence[int] | NDArray[np.int64], windows: Windows | None = None, progress: Progress = silent
    ) -> Losses:
        """Of every token of a text but the first. A model that is out of order gives losses that are not finite.
        Raises `ValueError` where there are fewer than two tokens."""
        text = np.asarray(ids, np.int64)
        if len(text) < 2:
            raise ValueError("a text of at least two tokens is needed")
        found = []
        for begin, first, end in (windows or Windows()).over(len(text)):
            progress("perplexity", first, len(text))
            found.append(self._window(text[begin:end], first - begin))
        return np.concatenate(found)

    def _window(self, ids: NDArray[np.int64], first: int) -> Losses:
        """Of its tokens from `first` on."""
        self._request.reset_state()
        found = []
        for begin in range(0, len(ids) - 1, _CHUNK):
            end = min(begin + _CHUNK, len(ids) - 1)  # nothing comes after the last token
            logits = self._logits(ids[begin:end], begin)
            skipped = max(first - 1 - begin, 0)
            if skipped < end - begin:
                found.append(_losses(logits[skipped:], ids[begin + 1 + skipped : end + 1]))
        return np.concatenate(found)

    def _logits(self, ids: NDArray[np.int64], past: int) -> NDArray[np.float32]:
        """(tokens, vocabulary); a view of the runtime's memory, good until the next call."""
        total = past + len(ids)
        request = self._request
        request.set_tensor("input_ids", ov.Tensor(np.ascontiguousarray(ids[None])))
        request.set_tensor("attention_mask", ov.Tensor(np.ones((1, total), np.int64)))
        request.set_tensor("position_ids", ov.Tensor(np.arange(past, total, dtype=np.int64)[None]))
        request.set_tensor("beam_idx", ov.Tensor(np.zeros(1, np.int32)))
        request.infer()
        logits: NDArray[np.float32] = request.get_output_tensor(0).data[0]
        return logits


def perplexity(losses: Losses) -> float:
    return float(np.exp(losses.mean()))


class Interval(Struct, frozen=True):
    """A figure, and between what it lies with 95% confidence."""

    value: float
    low: float
    high: float


def perplexity_interval(losses: Losses, *, block: int = 256, draws: int = 2000, seed: int = 0) -> Interval:
    """By a bootstrap over stretches of `block` tokens, since neighbours in a text are alike."""
    return _interval(losses, block, draws, seed)


def ratio_interval(losses: Losses, parent: Losses, *, block: int = 256, draws: int = 2000, seed: int = 0) -> Interval:
    """Perplexity over the parent's on the same tokens, paired stretch by stretch. Raises `ValueError` where they are
    not the same tokens."""
    if len(losses) != len(parent):
        raise ValueError("the losses are not of the same tokens")
    return _interval(losses - parent, block, draws, seed)


def _interval(values: Losses, block: int, draws: int, seed: int) -> Interval:
    """Of exp(mean), by resampling whole blocks. A text of one block has no interval: it is the value alone."""
    begins = np.arange(0, len(values), block)
    sums = np.add.reduceat(values, begins)
    counts = np.diff(np.append(begins, len(values)))
    chosen = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    means = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(np.exp(values.mean())), float(np.exp(low)), float(np.exp(high)))


def _losses(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Losses:
    """-log softmax of each row at its target."""
    largest = logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits - largest).sum(axis=-1, dtype=np.float64)) + largest[:, 0]
    losses: Losses = total - np.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return losses
