"""One text for another: an encoder-decoder, the Transformer of Vaswani et al. 2017 or an LSTM with attention."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from pileus.training.examples import Batch
from pileus.training.prepared import Ragged, tokenizer_of
from pileus.training.recipes.bert import IGNORED
from pileus.training.recipes.lstm import LstmForSeq2Seq, LstmShape
from pileus.training.recipes.recipe import Setting, dropout_of, loaded, padded
from pileus.training.spec import Train
from pileus.training.throughput import flops_per_token

_AT_ONCE = 64


class Translations:
    """Sources and targets; each ends with the end token, and what is written begins with the padding token."""

    def __init__(self, folder: Path, name: str, pad: int, end: int) -> None:
        self._sources = Ragged(folder, f"{name}.source")
        self._targets = Ragged(folder, f"{name}.target")
        self._pad = pad
        self._end = torch.tensor([end])

    def __len__(self) -> int:
        return len(self._sources)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        sources, targets = (
            [torch.cat((torch.from_numpy(side[index]), self._end)) for index in indices]
            for side in (self._sources, self._targets)
        )
        before = [torch.cat((torch.full((1,), self._pad), target[:-1])) for target in targets]
        tensors = {
            "ids": padded(sources, self._pad),
            "mask": padded([torch.ones_like(source) for source in sources], 0),
            "before": padded(before, self._pad),
            "wanted": padded(targets, IGNORED),
        }
        count = sum(map(len, targets))
        return Batch(tensors, count, count + sum(map(len, sources)))


class Seq2Seq:
    """Meets `OpenRecipe`."""

    def __init__(self, setting: Setting) -> None:
        spec, tokenizer = setting.spec, tokenizer_of(setting.data)
        self._spec = spec
        self._pad, self._end = tokenizer.pad_token_id, tokenizer.eos_token_id
        self.train = Translations(setting.data, "train", self._pad, self._end)
        held_out = Translations(setting.data, "validation", self._pad, self._end)
        self.validation = held_out if len(held_out) else None
        torch.manual_seed(spec.seed)
        self.model = _model(spec, tokenizer, setting.base)
        self.flops_per_token = flops_per_token(self.model) / 2  # a token goes through one of its two halves

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        given = batch.tensors
        logits = model(input_ids=given["ids"], attention_mask=given["mask"], decoder_input_ids=given["before"]).logits
        smoothing = self._spec.label_smoothing if model.training else 0.0
        return cross_entropy(
            logits.flatten(0, 1).float(), given["wanted"].flatten(), reduction="sum", label_smoothing=smoothing
        )

    def scores(self, model: nn.Module) -> dict[str, float]:
        """How many of the held-out texts it writes word for word, and how many of their tokens in their places."""
        if self.validation is None:
            return {}
        count = min(len(self.validation), self._spec.decode_most)
        exact = hits = tokens = 0
        for begin in range(0, count, _AT_ONCE):
            batch = self.validation.batch(range(begin, min(begin + _AT_ONCE, count)), 0)
            written = greedy(
                model, batch.tensors["ids"], batch.tensors["mask"], self._pad, self._end, self._spec.context
            )
            for row, wanted in zip(written, batch.tensors["wanted"].tolist(), strict=True):
                right = [token for token in wanted if token not in (IGNORED, self._end)]
                exact += row == right
                hits += sum(a == b for a, b in zip(row, right, strict=False))
                tokens += max(len(row), len(right))
        return {"exact_match": exact / count, "token_match": hits / max(1, tokens)}

    def save(self, model: nn.Module, folder: Path) -> None:
        model.save_pretrained(folder)


def greedy(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor, start: int, end: int, most: int) -> list[list[int]]:
    """The likeliest token after the other, of each row up to its end."""
    written = torch.full((len(ids), 1), start, device=ids.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    while written.shape[1] <= most and not ended.all():
        logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=written).logits[:, -1]
        following = logits.argmax(-1).masked_fill(ended, end)
        written = torch.cat((written, following[:, None]), dim=1)
        ended |= following == end
    rows = written[:, 1:].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def _model(spec: Train, tokenizer: PreTrainedTokenizerFast, base: Path | None) -> nn.Module:
    if spec.architecture == "lstm":
        if base is not None:
            return LstmForSeq2Seq.from_pretrained(base, **dropout_of(spec, "dropout"))
        return LstmForSeq2Seq(_lstm(spec, tokenizer))
    if base is not None:
        return loaded(MarianMTModel, base, dropout_of(spec, "dropout"))
    shape = spec.shape
    return MarianMTModel(
        MarianConfig(
            vocab_size=len(tokenizer),
            d_model=shape.width,
            encoder_layers=shape.layers,
            decoder_layers=shape.layers,
            encoder_attention_heads=shape.heads,
            decoder_attention_heads=shape.heads,
            encoder_ffn_dim=4 * shape.width,
            decoder_ffn_dim=4 * shape.width,
            max_position_embeddings=spec.context,
            dropout=spec.dropout or 0.0,
            scale_embedding=True,
            activation_function="relu",
            use_cache=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=None,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def _lstm(spec: Train, tokenizer: PreTrainedTokenizerFast) -> LstmShape:
    return LstmShape(
        vocab_size=len(tokenizer),
        hidden_size=spec.shape.width,
        num_layers=spec.shape.layers,
        dropout=spec.dropout or 0.0,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
