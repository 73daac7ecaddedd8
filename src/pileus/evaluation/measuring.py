"""What the process that measures artefacts is asked, and what it gives back."""

from msgspec import Struct

from pileus.evaluation.attention_records import AttentionSpec
from pileus.evaluation.records import Finding, Foreseen, WindowSpec


class TextMeasure(Struct, frozen=True, kw_only=True):
    """How well an artefact foresees texts."""

    folder: str
    texts: tuple[str, ...]
    windows: WindowSpec
    seed: int = 0


class GateMeasure(Struct, frozen=True, kw_only=True):
    """What is to be found out of a candidate beside its parent."""

    candidate: str  # folders
    parent: str
    texts: tuple[str, ...]
    windows: WindowSpec
    margin: float  # of perplexity
    new_tokenizer: bool = False
    seed: int = 0


class Piece(Struct, frozen=True):
    """A text as token ids, and of which of them a model is asked how likely it finds them."""

    ids: tuple[int, ...]
    answers: tuple[bool, ...]


class Item(Struct, frozen=True):
    """An answer that should be likely; with one that should be less so, a preference."""

    good: Piece
    bad: Piece | None = None


class TunedMeasure(Struct, frozen=True, kw_only=True):
    """What is to be found out of what one fine-tuning made, beside its base."""

    candidates: tuple[str, ...]  # folders
    base: str
    items: tuple[Item, ...]
    held_out: bool  # nothing was learnt from the items
    margin: float  # nats: see `tuned.loss_finding`
    beta: float = 0.0  # of preferences
    seed: int = 0


class AttentionMeasure(Struct, frozen=True, kw_only=True):
    """Where the tokens of a text look."""

    folder: str
    asked: AttentionSpec


class Measurement(Struct, frozen=True, kw_only=True):
    """One of these."""

    texts: TextMeasure | None = None
    gate: GateMeasure | None = None
    tuned: TunedMeasure | None = None
    attention: AttentionMeasure | None = None


class Measured(Struct, frozen=True, kw_only=True):
    """What came of it."""

    perplexities: tuple[Foreseen, ...] = ()
    findings: tuple[Finding, ...] = ()
    tuned: tuple[tuple[Finding, ...], ...] = ()  # of each candidate
