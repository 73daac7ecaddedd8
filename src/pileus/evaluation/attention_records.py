"""What is asked of an explanation of attention, and what it shows."""

from typing import Final

from msgspec import Struct

from pileus.evaluation.worked import Step

MOST_TOKENS: Final = 64  # of a text: a map has as many rows and columns
MOST_CHARACTERS: Final = 2000


class AttentionSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job of the kind `attention`."""

    model: str  # an artefact's name
    text: str
    layers: tuple[int, ...] = ()  # from 0 on; empty is all
    heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("`text` should not be empty")
        if len(self.text) > MOST_CHARACTERS:
            raise ValueError(f"`text` should have at most {MOST_CHARACTERS} characters")
        if min((*self.layers, *self.heads), default=0) < 0:
            raise ValueError("`layers` and `heads` count from 0 on")


class AttentionMap(Struct, frozen=True):
    """One head's weights: row by row, how much each token looks at each (0 to 255 for 0 to 1), in base 64."""

    layer: int
    head: int
    weights: bytes  # tokens x tokens


class AttentionResult(Struct, frozen=True, kw_only=True):
    """What a job of the kind `attention` gives."""

    model: str
    tokens: tuple[str, ...]
    layers: int  # of the model
    heads: int
    maps: tuple[AttentionMap, ...]
    example: tuple[Step, ...] = ()  # attention worked by hand
