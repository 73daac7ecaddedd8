"""How long an example is, by the base's own tokenizer."""

from pileus.core.ports import Tokenizer
from pileus.training.finetune.check import Measure, Measured
from pileus.training.finetune.encoding import Encoder, pieces
from pileus.training.finetune.examples import Example


def measure_with(tokenizer: Tokenizer, max_length: int) -> Measure:
    """Lengths are those of what is computed, up to `max_length` tokens a piece."""
    encoder = Encoder(tokenizer, max_length)

    def measure(example: Example) -> Measured:
        found = list(pieces(encoder, example))
        return Measured(
            tokens=sum(len(each.ids) for each in found),
            longest=max(len(each.ids) for each in found),
            answers=min(each.answers for each in found),
            cut=max(each.cut for each in found),
        )

    return measure
