"""The small classic: an LSTM reads a text in both directions, another writes one, and looks back by attention.

Sutskever et al. 2014; attention as Luong et al. 2015, section 3.1, with the score "general".
"""

import json
from pathlib import Path

import torch
from msgspec import Struct
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.modeling_outputs import Seq2SeqLMOutput


class LstmShape(Struct, frozen=True, kw_only=True):
    """What config.json says of it."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    dropout: float
    pad_token_id: int
    decoder_start_token_id: int
    eos_token_id: int


class LstmForSeq2Seq(nn.Module):  # type: ignore[misc]  # PyTorch's types are not followed
    """Called as Transformers' encoder-decoders are."""

    def __init__(self, shape: LstmShape) -> None:
        super().__init__()
        self.config = shape
        width, layers = shape.hidden_size, shape.num_layers
        between = shape.dropout if layers > 1 else 0.0
        self.embedding = nn.Embedding(shape.vocab_size, width, padding_idx=shape.pad_token_id)
        self.reader = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True, dropout=between)
        self.writer = nn.LSTM(width, width, layers, batch_first=True, dropout=between)
        self.score = nn.Linear(width, width, bias=False)
        self.combine = nn.Linear(2 * width, width, bias=False)
        self.dropout = nn.Dropout(shape.dropout)
        self.output = nn.Linear(width, shape.vocab_size)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, decoder_input_ids: torch.Tensor
    ) -> Seq2SeqLMOutput:
        """Ids `(rows, source)`, its mask, and `(rows, target)`: logits `(rows, target, vocabulary)`."""
        read, state = self._read(input_ids, attention_mask)
        written, _ = self.writer(self.dropout(self.embedding(decoder_input_ids)), state)
        scores = self.score(written) @ read.transpose(1, 2)
        looks = scores.masked_fill(attention_mask[:, None, :] == 0, float("-inf")).softmax(-1) @ read
        attended = torch.tanh(self.combine(torch.cat((looks, written), dim=-1)))
        return Seq2SeqLMOutput(logits=self.output(self.dropout(attended)))

    def _read(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Every place's vector, and the state in which writing begins: both directions' last ones, side by side."""
        embedded = self.dropout(self.embedding(ids))
        packed = pack_padded_sequence(embedded, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        read, (hidden, cell) = self.reader(packed)
        whole, _ = pad_packed_sequence(read, batch_first=True, total_length=ids.shape[1])
        return whole, (_side_by_side(hidden), _side_by_side(cell))

    def save_pretrained(self, folder: Path) -> None:
        config = {"architectures": [type(self).__name__], "model_type": "lstm_seq2seq"}
        shape = {name: getattr(self.config, name) for name in self.config.__struct_fields__}
        (folder / "config.json").write_text(json.dumps(config | shape, indent=2))
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors"
        )

    @classmethod
    def from_pretrained(cls, folder: Path, **changes: float) -> "LstmForSeq2Seq":
        """With those fields of the shape changed: its dropout."""
        config = json.loads((folder / "config.json").read_text()) | changes
        model = cls(LstmShape(**{name: config[name] for name in LstmShape.__struct_fields__}))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model


def _side_by_side(state: torch.Tensor) -> torch.Tensor:
    """`(2 * layers, rows, half)` to `(layers, rows, 2 * half)`."""
    directions, rows, half = state.shape
    return (
        state.view(directions // 2, 2, rows, half).transpose(1, 2).reshape(directions // 2, rows, 2 * half).contiguous()
    )
